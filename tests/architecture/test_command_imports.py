"""What each command and each flow may load: a command that needs no Feast, MLflow or XGBoost does not wait for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import click
import pytest

from bentos.rollout.rollout import promote
from configs.settings import PROJECT_ROOT
from flows.cli.commands import cli
from tests.support.small_model import saved

HEAVY = {
    "bentoml",
    "duckdb",
    "feast",
    "great_expectations",
    "mlflow",
    "numpy",
    "optuna",
    "pandas",
    "prefect",
    "pyarrow",
    "pydantic",
    "rich",
    "sklearn",
    "sqlalchemy",
    "vl_convert",
    "xgboost",
}
SETTINGS = {"pydantic"}
FRAMES = SETTINGS | {"numpy", "pandas", "pyarrow"}
TABLES = FRAMES | {"duckdb"}
FEAST = TABLES | {"feast", "rich", "sqlalchemy"}

# Command, its exit code on a home with a champion and no data, and which of the heavy libraries it may load.
COMMANDS = [
    ("status", 0, FRAMES - {"pandas"}),
    ("inbox accept none.csv --why test", 2, FRAMES - {"pandas"}),
    ("history", 0, SETTINGS),
    ("history --json", 0, SETTINGS),
    ("rollout", 0, SETTINGS),
    ("keys create --name app --right predict", 0, SETTINGS),
    ("keys list", 0, SETTINGS),
    ("keys audit --json", 0, SETTINGS),
    ("keys revoke none", 1, SETTINGS),
    ("replay none", 1, SETTINGS),
    ("promote --from none", 2, FRAMES),
    ("rollback --from none --why test", 2, FRAMES),
    ("rollout --stop", 0, FRAMES),
    ("simulate --out {home}/world --customers 100 --months 1", 0, FRAMES - SETTINGS),
    ("ingest --csv {home}/no_extract.csv --as-of 2026-01-31", 3, FRAMES),
    ("ingest-events --file {home}/events.jsonl", 3, TABLES),
    ("build-features", 1, TABLES),
    ("apply", 0, FEAST),
    ("catalog", 0, FEAST),
    ("doctor --parity", 1, FEAST),
    ("materialize", 1, FEAST),
]

# Flows in this order, imported one after the other: what they and those before them may load.
FLOWS = [
    (("sweep",), SETTINGS | {"prefect", "rich"}),
    (("build_features", "materialize", "freshness", "land", "refresh"), TABLES | {"prefect", "rich"}),
    (("monitor", "score_base", "evaluate", "deploy"), TABLES | {"prefect", "rich"}),
]

_COMMANDS_RUN = """
import json, os, shlex, sys
from flows.cli import main
for line in json.loads(sys.argv[1]):
    back, there = os.pipe()
    child = os.fork()  # a process with no more than the command line loaded, for each command
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        code = 0
        try:
            main(shlex.split(line))
        except SystemExit as ended:
            code = ended.code
        os.write(there, json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]).encode())
        os._exit(0)
    os.close(there)
    with open(back) as told:
        print(told.read(), flush=True)
    os.waitpid(child, 0)
"""
_FLOWS_IMPORTED = """
import importlib, json, sys
for names in json.loads(sys.argv[1]):
    for name in names:
        importlib.import_module(f"flows.pipeline.{name}")
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def told(code, argument, environ):
    """What a process of its own prints, a JSON value a line."""
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(argument)],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT_ROOT,
        env=os.environ | environ,
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def helps(command, words=()):
    """Every command's --help."""
    yield " ".join([*words, "--help"])
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            if each.context_settings.get("help_option_names") != []:  # `churn feast --help` is Feast's
                yield from helps(each, [*words, name])


def test_no_help_loads_anything_heavy(tmp_path):
    lines = list(helps(cli))
    assert {"--help", "train --help", "keys audit --help"} < set(lines)
    for line, (code, loaded) in zip(lines, told(_COMMANDS_RUN, lines, {"CHURN_HOME": str(tmp_path)}), strict=True):
        assert (line, code, HEAVY & set(loaded)) == (line, 0, set())


@pytest.mark.parametrize(
    ("instruction", "words", "completed"),
    [("bash_source", "", ""), ("bash_complete", "churn pro", "plain,promote"), ("bash_complete", "churn keys ", "")],
)
def test_no_completion_loads_anything_heavy(instruction, words, completed):
    asked = {"_CHURN_COMPLETE": instruction, "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = (
        f"import atexit, json, sys\natexit.register(lambda: print(sorted(set({sorted(HEAVY)!r}) & set(sys.modules))))"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nfrom flows.cli import main\nmain([])"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PROJECT_ROOT,
        env=os.environ | asked,
    )
    *lines, loaded = run.stdout.splitlines()
    assert loaded == "[]"
    assert completed in "\n".join(lines)
    assert lines


@pytest.mark.slow
def test_a_command_loads_what_it_uses(tmp_path):
    home = tmp_path / "home"
    promote(home, saved(home)[0].digest, who="ann", why="the first", now=datetime(2026, 6, 1, tzinfo=UTC))
    (home / "no_extract.csv").write_text("a,b\n1,2\n")
    (home / "events.jsonl").write_text("{}\n")
    lines = [line.format(home=home) for line, _, _ in COMMANDS]
    ran = told(_COMMANDS_RUN, lines, {"CHURN_HOME": str(home)})
    for (line, exit_code, may), (code, loaded) in zip(COMMANDS, ran, strict=True):
        assert (line, code, HEAVY & set(loaded) - may) == (line, exit_code, set())


@pytest.mark.slow
def test_a_flow_loads_what_it_uses(tmp_path):
    loaded = told(_FLOWS_IMPORTED, [names for names, _ in FLOWS], {"PREFECT_HOME": str(tmp_path)})
    for (names, may), found in zip(FLOWS, loaded, strict=True):
        assert (names, HEAVY & set(found) - may) == (names, set())
