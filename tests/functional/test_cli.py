"""The command line: exit codes, one-line refusals, and the journey step by step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from configs.errors import EXIT_GATE
from tests.support.single_extract import simulate_snapshot, write_csv

CHURN = str(Path(sys.executable).with_name("churn"))


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("csv") / "extract.csv"
    write_csv(simulate_snapshot(800, seed=3), path)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("cli") / "home"


def churn(home, *arguments, **variables):
    environment = {**os.environ, "CHURN_HOME": str(home), "CHURN_TRAINING__TRIALS": "3", "COLUMNS": "160", **variables}
    return subprocess.run([CHURN, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_the_journey_step_by_step(home, csv):
    today = datetime.now(UTC).date().isoformat()
    for arguments, told in (
        (("ingest", "--csv", str(csv), "--as-of", today), "published"),
        (("ingest", "--csv", str(csv), "--as-of", today), "was published before, nothing to do"),
        (("build-features",), f"newest {today}.v1"),
        (("apply",), "churn_core_v1"),
        (("train",), "promoted to champion"),
        (("materialize",), "800 customers in 3 views written to sqlite"),
        (("catalog",), "features.yaml"),
    ):
        done = churn(home, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert told in done.stdout


def test_what_is_written_is_for_its_owner_alone(home):
    written = [path for path in home.rglob("*") if path.is_file()]
    assert len(written) > 10
    # The model script that MLflow copies is code, readable as it was.
    assert [path for path in written if path.stat().st_mode & 0o077 and path.suffix != ".py"] == []


def test_evaluate_prints_both_models_and_publishes_nothing(tmp_path, csv):
    done = churn(tmp_path, "evaluate", "--csv", str(csv), "--repeats", "1", CHURN_TRAINING__FOLDS="3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "logistic regression" in done.stdout
    assert not (tmp_path / "processed").exists()
    assert list(tmp_path.glob("reports/evaluation/*/report.html"))


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "told"),
    [
        (("nonsense",), {}, 2, "No such command"),
        (("ingest", "--csv", "missing.csv", "--as-of", "2026-01-01"), {}, 2, "missing.csv"),
        (("ingest", "--csv", __file__, "--as-of", "yesterday"), {}, 2, "no date of the form"),
        (("ingest", "--csv", __file__, "--as-of", "2026-01-01"), {}, 3, "test_cli.py"),
        (("train",), {}, 1, "no labels"),
        (("build-features",), {}, 1, "churn ingest"),
        (("catalog",), {}, 1, "churn apply"),
        (("ingest", "--csv", __file__, "--as-of", "2999-01-01"), {}, 1, "has not come yet"),
        (("materialize",), {}, 1, "churn apply"),
        (("apply",), {"CHURN_TYPO": "1"}, 2, "CHURN_TYPO"),
    ],
)
def test_a_refusal_is_one_clear_line_and_its_exit_code(tmp_path, arguments, variables, code, told):
    done = churn(tmp_path / "empty", *arguments, **variables)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fifo_is_no_extract(tmp_path):
    os.mkfifo(tmp_path / "fifo.csv")
    for command in (("demo",), ("ingest", "--as-of", "2026-01-01")):
        done = churn(tmp_path / "empty", *command, "--csv", str(tmp_path / "fifo.csv"))
        assert done.returncode == EXIT_GATE, done.stderr
        told = done.stderr.splitlines()
        assert told[0] == "error: fifo.csv cannot be read: it is a FIFO, no file"
        assert told[1:] == [f"hint: check the file and its rights: {tmp_path / 'fifo.csv'}"]


def test_version_and_help():
    assert "churn, version" in churn(Path.cwd(), "--version").stdout
    assert "demo" in churn(Path.cwd(), "-h").stdout


def test_a_torn_journal_ends_no_training_in_a_traceback(home):
    """A disk that was full while it tuned left half a line; a journal of an earlier version, with more behind it."""
    journal = home / "optuna" / "journal.log"
    with journal.open("a") as file:
        file.write('{"op_code": 4, "wor' + journal.read_text())
    done = churn(home, "train", CHURN_TRAINING__SEED="11")
    assert "Traceback" not in done.stderr
    assert (done.returncode, "journal.log: cut off" in done.stderr) == (0, True), done.stderr


def test_what_nothing_expects_is_one_line_and_debug_shows_all(home, tmp_path):
    """A folder where a file belongs, at a place that no check looks at."""
    (tmp_path / "home" / "optuna" / "journal.log").mkdir(parents=True)
    shutil.copytree(home, tmp_path / "home", dirs_exist_ok=True, ignore=shutil.ignore_patterns("optuna"))
    done = churn(tmp_path / "home", "train", CHURN_TRAINING__SEED="12")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines() if not line.startswith(" ")][-2:] == [
        "error",
        "hint",
    ]
    assert "Traceback" not in done.stderr
