"""`churn features check` and `churn apply` in a copy of the project of which one line is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from configs.settings import PROJECT_ROOT

pytestmark = pytest.mark.slow

RUN = "from flows.cli.entry_point import main; main()"
ROOMS = ("configs", "feature_repo", "training", "bentos", "flows", "monitoring")
BREAKS = [
    # File, a text of it, the text instead.
    ("feature_repo/transforms.py", '        "protection_count": [_count(row)', '        "count": [_count(row)'),
    ("training/model/feature_columns.py", '    _number("protection_count"),\n', ""),
    ("feature_repo/raw/snapshots/telco_csv.py", '    "Partner",\n', ""),
]
NAMED = [
    [
        ("protection_count", "feature_repo/transforms.py", "derive() does not compute it"),
        ("count", "feature_repo/contract.py", "no feature of the view customer_derived has this name"),
    ],
    [("protection_count", "training/model/feature_columns.py", "add one to LINEAR")],
    [("partner", "feature_repo/raw/snapshots/telco_csv.py", "Partner is not in CSV_COLUMNS")],
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    root = tmp_path_factory.mktemp("clone")
    for room in ROOMS:
        shutil.copytree(PROJECT_ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT_ROOT / "pyproject.toml", root)
    return root


@pytest.fixture
def broken(clone):
    """A function that replaces one text in a file of the clone, until the test ends."""
    before = {}

    def replace(file, line, instead):
        path = clone / file
        before[path] = path.read_text()
        assert line in before[path]
        path.write_text(before[path].replace(line, instead, 1))

    yield replace
    for path, text in before.items():
        path.write_text(text)


def churn(clone, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(clone), "CHURN_HOME": str(clone / "home")}
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("change", "named"), list(zip(BREAKS, NAMED, strict=True)), ids=[file for file, _, _ in BREAKS]
)
def test_a_line_missing_in_a_module_is_named(clone, broken, change, named):
    broken(*change)
    run = churn(clone, "features", "check", "--json")
    assert (run.returncode, run.stderr) == (1, "")
    found = json.loads(run.stdout)
    assert [(each["feature"], each["file"]) for each in found] == [(feature, file) for feature, file, _ in named]
    assert all(words in each["message"] for each, (_, _, words) in zip(found, named, strict=True))


def test_apply_refuses_a_feature_without_all_its_entries_and_writes_nothing(clone, broken):
    line = '    Feature("automatic_payment", "bool", DERIVED.name'
    broken(
        "feature_repo/contract.py",
        line,
        '    Feature("bills_by_hand", "bool", DERIVED.name, "Pays each bill by hand"),\n' + line,
    )
    run = churn(clone, "apply")
    assert (run.returncode, run.stdout) == (1, "")
    error, hint = run.stderr.splitlines()
    assert error.startswith("error: the files that declare features do not agree, nothing was registered: ")
    assert "bills_by_hand: feature_repo/" in error
    assert "churn features check" in hint
    assert not (clone / "home" / "feast").exists()


def test_a_feature_that_left_the_contract_alone_is_named_wherever_it_is_used(clone, broken):
    line = '    Feature("partner", "bool", CONTRACT.name, "Lives with a partner", "Partner"),\n'
    broken("feature_repo/contract.py", line, "")
    run = churn(clone, "features", "check")
    assert (run.returncode, run.stderr) == (1, "")
    assert all(line.lower().startswith("partner: ") for line in run.stdout.splitlines())
