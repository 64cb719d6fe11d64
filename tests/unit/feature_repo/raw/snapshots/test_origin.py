"""The origin of a file: a world.json above it names its content, or it is real."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from feature_repo.raw.snapshots.origin import file_origin, keep_world

CONTENT = b"customerID\n1\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "world" / "months" / "2026-01-31" / "telco.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return path


def world(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    told = {"simulated": True, "files": {"months/2026-01-31/telco.csv": SHA256}} | changes
    (folder / "world.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("changes", "origin"),
    [
        ({}, "simulated"),
        ({"files": {"telco.csv": "0" * 64}}, "real"),
        ({"files": [SHA256]}, "real"),
        ({"files": {"telco.csv": 1}}, "real"),
        ({"simulated": False}, "real"),
    ],
)
def test_the_content_decides_and_not_the_place(tmp_path, file, changes, origin):
    world(tmp_path / "world", **changes)
    assert file_origin(tmp_path / "home", file, SHA256) == origin


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\0", "[" * 100_000])
def test_another_programs_file_of_that_name_says_nothing(tmp_path, file, text):
    (tmp_path / "world.json").write_text(text)
    assert file_origin(tmp_path / "home", file, SHA256) == "real"
    world(tmp_path / "world")
    assert file_origin(tmp_path / "home", file, SHA256) == "simulated"


def test_a_fifo_of_that_name_does_not_block(tmp_path, file):
    os.mkfifo(tmp_path / "world.json")
    assert file_origin(tmp_path / "home", file, SHA256) == "real"


def test_a_link_leads_to_its_world_and_a_copy_to_none(tmp_path, file):
    world(tmp_path / "world")
    link, copy = tmp_path / "links" / "a.csv", tmp_path / "copies" / "a.csv"
    for path in (link, copy):
        path.parent.mkdir()
    link.symlink_to(file)
    copy.write_bytes(CONTENT)
    home = tmp_path / "home"
    assert (file_origin(home, link, SHA256), file_origin(home, copy, SHA256)) == ("simulated", "real")
    keep_world(home, file, SHA256)
    keep_world(home, file, SHA256)
    assert len(list((home / "raw" / "worlds").iterdir())) == 1
    assert file_origin(home, copy, SHA256) == "simulated"


def test_the_worlds_of_the_demo_count_without_a_copy(tmp_path, file):
    home = tmp_path / "home"
    world(home / "simulated" / "world-500x3-seed7")
    assert file_origin(home, file, SHA256) == "simulated"
