"""A test that needs the public file, or root, does not run without it, and the last line says so; in CI it fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from configs.settings import PROJECT_ROOT

TESTS = """
import os

def test_of_the_file(public_csv):
    assert public_csv.read_text() == "rows"

def test_of_the_file_too(public_csv):
    assert public_csv.name == "telco.csv"

def test_of_root(as_root):
    assert os.geteuid() == 0

def test_of_whatever_rows_there_are(telco_csv):
    assert telco_csv.stat().st_size
"""


def run(folder, *options, **environment):
    """Run the tests above with the fixtures and hooks of tests/conftest.py."""
    (folder / "test_waiting.py").write_text(TESTS)
    inherited = {name: value for name, value in os.environ.items() if name != "CI" and "PYTEST" not in name}
    words = ["-c", PROJECT_ROOT / "pyproject.toml", "-p", "tests.conftest", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "test_waiting.py"],
        cwd=folder,
        env=inherited | {"CHURN_TELCO_CSV": str(folder / "telco.csv")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, {int(count) for count in re.findall(r"(\d+) passed", done.stdout.splitlines()[-1])}


@pytest.fixture
def who():
    """Whether this very run may do what only root may: tests passed besides, lines about it."""
    return (1, []) if os.geteuid() == 0 else (0, ["1 test needs root: run poe full as root"])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_without_the_file_one_line_says_how_many_wait_and_the_rest_runs(tmp_path, who, workers):
    by_root, lines = who
    done, passed = run(tmp_path, "-n", workers)
    assert (done.returncode, passed) == (0, {1 + by_root}), done.stdout
    told = [line for line in done.stdout.splitlines() if "need" in line]
    assert told == ["2 tests need the public file: set CHURN_TELCO_CSV", *lines]
    assert "skipped" not in done.stdout


def test_with_the_file_all_run(tmp_path, who):
    by_root, lines = who
    (tmp_path / "telco.csv").write_text("rows")
    done, passed = run(tmp_path)
    assert (done.returncode, passed) == (0, {3 + by_root}), done.stdout
    assert [line for line in done.stdout.splitlines() if "need" in line] == lines


def test_in_ci_the_file_must_be_there(tmp_path):
    done, _ = run(tmp_path, "-k", "file or rows", CI="true")
    assert done.returncode == 1
    missing = tmp_path / "telco.csv"
    assert f"CI must run on the public file, which is not at {missing}: set CHURN_TELCO_CSV" in done.stdout
    assert re.search(r"\b3 errors in ", done.stdout.splitlines()[-1])
