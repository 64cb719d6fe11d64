"""A fingerprint changes with everything that a model is made of, and with nothing else."""

from __future__ import annotations

import shutil
from datetime import date

import pytest

from configs.settings import PROJECT_ROOT, load_settings
from feature_repo.contract import BEHAVIOR_SERVICE, CORE_SERVICE
from tests.support.small_model import publish_month
from training.model import fingerprint as module
from training.model.fingerprint import CODE, code_version, fingerprint

DAY, NEXT = date(2026, 1, 31), date(2026, 3, 2)
BASE = {f"c{number}": "No" for number in range(5)}


@pytest.fixture
def settings(tmp_path):
    home = tmp_path / "home"
    publish_month(home, DAY, BASE)
    return load_settings(home=home)


def changed(settings, section, **values):
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


@pytest.mark.parametrize(
    ("section", "values", "matters"),
    [
        ("training", {"seed": 8}, True),
        ("training", {"trials": 3}, True),
        ("training", {"test_share": 0.3}, True),
        ("data", {"label_window_days": 60}, True),
        ("data", {"label_window_tolerance_days": 1}, True),
        ("data", {"delivery_lag_hours": 1.0}, True),
        ("data", {"rows_min": 5}, False),
        ("promotion", {"significance": 0.01}, False),
        ("serving", {"port": 3001}, False),
        ("feast", {"redis_timeout_ms": 7}, False),
    ],
)
def test_settings(settings, section, values, matters):
    other = changed(settings, section, **values)
    assert (fingerprint(other, CORE_SERVICE) != fingerprint(settings, CORE_SERVICE)) is matters


def test_data(settings):
    seen = {fingerprint(settings, CORE_SERVICE)}
    for day, churn, replacing in (
        (NEXT, BASE, False),
        (NEXT, BASE | {"c5": "Yes"}, True),  # a corrected month
    ):
        publish_month(settings.home, day, churn, replace=replacing)
        seen.add(fingerprint(settings, CORE_SERVICE))
    part = settings.home / "offline" / "customer_snapshot" / "2026-01-31.v1.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"rows")  # what the join reads was built by now
    seen.add(fingerprint(settings, CORE_SERVICE))
    assert len(seen) == 4
    # The same content lands once more, and is no other.
    publish_month(settings.home, NEXT, BASE | {"c5": "Yes"}, replace=True)
    assert fingerprint(settings, CORE_SERVICE) in seen


def test_the_service(settings):
    assert fingerprint(settings, CORE_SERVICE) != fingerprint(settings, BEHAVIOR_SERVICE)


@pytest.mark.parametrize("name", ["ECONOMICS_FILE", "REASON_CODES_FILE"])
def test_the_files_of_the_business(settings, monkeypatch, tmp_path, name):
    before = fingerprint(settings, CORE_SERVICE)
    copy = tmp_path / "edited.toml"
    copy.write_text(getattr(module, name).read_text("utf-8"))
    monkeypatch.setattr(module, name, copy)
    assert fingerprint(settings, CORE_SERVICE) == before
    copy.write_text(copy.read_text() + "# a word more\n")
    assert fingerprint(settings, CORE_SERVICE) != before


def test_it_does_not_depend_on_where_the_home_lies(settings, tmp_path):
    shutil.copytree(settings.home, tmp_path / "elsewhere")
    assert fingerprint(load_settings(home=tmp_path / "elsewhere"), CORE_SERVICE) == fingerprint(settings, CORE_SERVICE)


def test_every_pattern_of_code_finds_files():
    assert [pattern for pattern in CODE if not any(PROJECT_ROOT.glob(pattern))] == []


def test_code_counts_by_its_bytes_and_its_names(tmp_path):
    for path in (path for pattern in CODE for path in PROJECT_ROOT.glob(pattern)):
        copy = tmp_path / path.relative_to(PROJECT_ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    there = code_version.__wrapped__
    same = there(tmp_path)
    assert same == there()
    (tmp_path / "README.md").write_text("documents make no other model")
    (tmp_path / "training" / "notes.txt").write_text("nor do notes")
    assert there(tmp_path) == same
    edited = tmp_path / "training" / "data" / "split.py"
    edited.write_text(edited.read_text() + "\n")
    assert (other := there(tmp_path)) != same
    edited.rename(tmp_path / "training" / "parting.py")
    assert there(tmp_path) not in {same, other}


def test_code_that_is_edited_while_we_run_is_not_the_code_that_runs(tmp_path):
    (tmp_path / "training").mkdir()
    source = tmp_path / "training" / "split.py"
    source.write_text("x = 1")
    before = code_version(tmp_path)
    source.write_text("x = 2")
    assert code_version(tmp_path) == before != code_version.__wrapped__(tmp_path)
