"""`churn ingest-events` as its user sees it."""

import os
import subprocess
import sys

import pytest

from configs.settings import PROJECT_ROOT
from tests.support.event_rows import event, publish_customers, write_lines, write_parquet


@pytest.fixture
def churn(tmp_path):
    home = tmp_path / "home"
    publish_customers(home, "A-1", "B-2")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)],
            cwd=PROJECT_ROOT,
            env={**os.environ, "CHURN_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_events_are_ingested_and_built(churn, tmp_path):
    path = write_parquet(tmp_path / "may.parquet", *(event() for _ in range(30)), event(kind="birthday"))
    done = churn("ingest-events", "--file", path)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("published delivery 1: 31 events, 30 admitted, 1 quarantined")
    assert second == "  unknown_type 1: There is no such type of event."
    assert "nothing to do" in churn("ingest-events", "--file", path).stdout
    built = churn("build-features")
    assert built.returncode == 0
    assert "activity table: 1 part, newest 000001-" in built.stdout


def test_too_many_bad_events_are_exit_3_with_the_counts(churn, tmp_path):
    path = write_lines(tmp_path / "may.jsonl", event(), event(kind="birthday", customer_id="SECRET-7"), b"{\n")
    done = churn("ingest-events", "--file", path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "may.jsonl was refused, nothing of it was published: 2 of 3 events are bad" in done.stderr
    assert "malformed_json 1, unknown_type 1" in done.stderr
    assert "hint:" in done.stderr
    assert "SECRET-7" not in done.stderr


def test_what_is_no_file_of_events_is_said(churn, tmp_path):
    (tmp_path / "a.csv").write_text("customer_id\n")
    done = churn("ingest-events", "--file", tmp_path / "a.csv")
    assert done.returncode == 3
    assert "neither Parquet nor named as JSON lines" in done.stderr
