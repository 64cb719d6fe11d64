"""What loads what: the contracts on the import graph, and what the light doors may not drag in."""

from __future__ import annotations

import subprocess
import sys

import pytest

from configs.settings import PROJECT_ROOT


def loaded(statement):
    code = f"{statement}\nimport sys; print('\\n'.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    return set(run.stdout.split())


def test_the_import_contracts_hold():
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT_ROOT,
    )
    assert run.returncode == 0, run.stdout


def test_the_contract_is_standard_library_only():
    assert not loaded("import feature_repo.contract") & {"feast", "pandas", "numpy", "pydantic"}


@pytest.mark.slow
@pytest.mark.parametrize("module", ["bentos.churn.service", "feature_repo.definitions"])
def test_the_service_loads_no_pipeline_library(module):
    heavy = {"optuna", "mlflow", "prefect", "great_expectations", "sklearn", "shap", "matplotlib", "vl_convert"}
    assert not loaded(f"import {module}") & heavy
