"""`churn demo` as a new user runs it: in a process of its own, twice, without a network."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.churn.auth.key_admin import create_key
from bentos.churn.auth.key_store import keys_path, read_keys
from configs.settings import load_settings
from flows.demo.demo import NoAnswerError, _ask
from flows.service_process import request_json
from tests.support.keyed_service import with_access
from tests.support.patience import PATIENCE_S, until
from tests.support.serving_home import build
from tests.support.single_extract import simulate_snapshot, write_csv

LONG_S = 900
"""A demo is minutes of work on a busy machine."""
pytestmark = pytest.mark.timeout(LONG_S)
CHURN = str(Path(sys.executable).with_name("churn"))
OURS = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", socket.gethostname()}  # noqa: S104 - addresses to allow
WORLD = ("--customers", "700", "--months", "4")


def environment(home, notes):
    return {
        **os.environ,
        "CHURN_HOME": str(home),
        "CHURN_TRAINING__TRIALS": "4",
        "COLUMNS": "160",
        "PYTHONPATH": str(Path(__file__).with_name("quiet")),
        "NETWORK_NOTES": str(notes),
    }


def demo(home, notes, *arguments):
    return subprocess.run(
        [CHURN, "demo", *WORLD, *arguments],
        env=environment(home, notes),
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("demo") / "home"
    notes = home.parent / "network.txt"
    return home, notes, demo(home, notes)


def test_it_ends_well_and_says_what_it_did(run):
    _, _, done = run
    assert done.returncode == 0, done.stdout + done.stderr
    for told in (
        "rows",
        "gate",
        "ROC-AUC",
        "PR-AUC",
        "Brier",
        "lift@10 %",
        "champion",
        "version 1",
        "all steps",
        "best reachable",
    ):
        assert told in done.stdout
    assert "every figure above is of simulated customers" in done.stdout
    assert len(re.findall(r"customer \S+: +[\d.]+% -> (churn|stay)", done.stdout)) == 3
    assert "4 extracts" in done.stdout
    assert "5 deliveries of events" in done.stdout
    assert "features of churn_behavior_v1" in done.stdout
    assert "online equals the point-in-time join" in done.stdout
    assert done.stdout.count("✓") == 11


def test_it_prints_no_noise(run):
    _, _, done = run
    assert not re.search(r"Warning|WARNING|INFO|Traceback|Materializing", done.stdout + done.stderr)


def test_the_reports_are_there_and_need_no_network(run):
    _, _, done = run
    pages = re.findall(r"(?:evaluation|gate) report +(\S+\.html)", done.stdout)
    assert len(pages) == 2
    for page in map(Path, pages):
        text = page.read_text()
        assert "</html>" in text
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)


def test_no_library_called_anybody(run):
    _, notes, _ = run
    called = set(notes.read_text().split())
    assert called & {"127.0.0.1", "localhost"}, "the notes must have seen our own service being asked"
    assert called - OURS == set()


def test_everything_lies_below_the_home(run):
    home, notes, _ = run
    assert {path.name for path in home.parent.iterdir()} == {home.name, notes.name}


def test_a_second_run_works_in_the_same_home_and_stays_up_until_it_is_told_to_stop(run, port, tmp_path):
    home, notes, _ = run
    # It has keys by now: the demo asks with one of its own.
    settings = load_settings(home=home)
    create_key(settings, "crm", ["predict"], now=datetime.now(UTC), who="tests")
    said = tmp_path / "said.txt"
    with said.open("wb") as output:
        again = subprocess.Popen(
            [CHURN, "demo", *WORLD, "--serve"],
            env={**environment(home, notes), "CHURN_SERVING__PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: b"Ctrl-C stops it" in said.read_bytes() or again.poll() is not None, patience_s=LONG_S)
        assert again.poll() is None, said.read_text()
        # The command that it prints is one that works.
        (command,) = re.findall(r"^ *(curl .*)$", said.read_text(), re.MULTILINE)
        asked = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        assert json.loads(asked.stdout)["customer_id"] in command
        assert request_json(f"http://127.0.0.1:{port}/predict", {"customer_id": "nobody"})[0] == 401
    finally:
        again.terminate()
        assert again.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert request_json(f"http://127.0.0.1:{port}/livez")[0] == 0, "the service outlived the demo"
    assert "3 answers over HTTP, with an API key of its own (churn-demo), revoked again" in said.read_text()
    keys = read_keys(keys_path(settings)).keys
    assert [(each.name, each.state(datetime.now(UTC))) for each in keys] == [
        ("crm", "valid"),
        ("churn-demo", "revoked"),
        ("churn-demo", "revoked"),
    ]
    # The same content again is a no-op: four months, one of them corrected once.
    assert len(list((home / "processed").glob("*/versions/*"))) == 5
    assert len(list((home / "events" / "deliveries").iterdir())) == 5
    pointer = json.loads((home / "bundles" / "champion.json").read_text())
    assert (home / "bundles" / pointer["digest"]).is_dir()


def test_another_file_is_refused_in_a_home_in_use(run, tmp_path):
    home, notes, _ = run
    other = tmp_path / "other.csv"
    write_csv(simulate_snapshot(600, seed=99), other)
    refused = demo(home, notes, "--csv", str(other))
    assert refused.returncode == 1
    assert "holds snapshots of another file" in refused.stderr
    assert "CHURN_HOME=" in refused.stderr


@pytest.mark.parametrize("asked", ["of ours", "nobody"])
def test_where_keys_are_needed_it_asks_with_one_that_opens_nothing_afterwards(
    tmp_path, tmp_path_factory, telco_csv, asked
):
    world = build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)
    # A file of its own: in the home it would close other services of the same world.
    settings = with_access(world.settings, keys_file=str(tmp_path / "keys.json"), required=True)
    if asked == "nobody":
        with pytest.raises(NoAnswerError, match="/predict answered 404"):
            _ask(settings, ["nobody"])
    else:
        assert [each["customer_id"] for each in _ask(settings, list(world.ids[:3]))] == list(world.ids[:3])
    (key,) = read_keys(keys_path(settings)).keys
    assert (key.name, key.state(datetime.now(UTC))) == ("churn-demo", "revoked")
