"""Nothing of ours imports a pickle module, and no module acts when imported."""

from __future__ import annotations

import ast
import functools

import pytest

from configs.settings import PROJECT_ROOT

PACKAGES = ("configs", "feature_repo", "training", "bentos", "flows", "monitoring")
FORBIDDEN = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
PIPELINE = {f"flows/pipeline/{path.name}" for path in (PROJECT_ROOT / "flows" / "pipeline").glob("[a-z]*.py")}
FILES = sorted(path for package in PACKAGES for path in (PROJECT_ROOT / package).rglob("*.py"))


@functools.cache
def imported(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_no_pickle(path):
    assert not {name.split(".")[0] for name in imported(path)} & FORBIDDEN


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        (
            "mlflow",
            {
                "training/registry.py",
                "training/registry_errors.py",
                "training/mlflow_database.py",
                "training/mlflow_model.py",
            },
        ),
        ("great_expectations", {"monitoring/quality.py"}),
        (
            "prefect",
            {"flows/demo/demo.py", "flows/demo/prefect_server.py"}
            | (PIPELINE - {"flows/pipeline/heartbeat.py", "flows/pipeline/refusal_logs.py"}),
        ),
        ("optuna", {"training/model/tuning.py", "training/model/trial_journal.py"}),
    ],
)
def test_a_heavy_library_has_one_import_site(library, allowed):
    sites = {
        str(path.relative_to(PROJECT_ROOT))
        for path in FILES
        if any(name.split(".")[0] == library for name in imported(path))
    }
    assert sites == allowed


def test_only_the_settings_read_the_environment():
    readers = {
        str(path.relative_to(PROJECT_ROOT))
        for path in FILES
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    # These hand an environment on to a child process or a library, and read nothing from it.
    commands = (
        "cli/entry_point",
        "cli/feast_command",
        "demo/prefect_environment",
        "demo/prefect_server",
        "pipeline/policy",
    )
    names = (*commands, "orphan_processes", "service_process")
    handed_on = {f"flows/{name}.py" for name in names}
    assert readers - handed_on <= {"configs/settings.py", "bentos/churn/service.py"}
