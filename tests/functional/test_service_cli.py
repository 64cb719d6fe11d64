"""`churn serve`, as an operator starts and stops it; and the shell that BentoML loads."""

import os
import signal
import subprocess
import sys

import pytest

from configs.settings import PROJECT_ROOT
from flows.service_process import free_port, request_json
from tests.support.patience import PATIENCE_S, until

SERVES = """
import sys
from configs.settings import load_settings
from flows.service_process import run_service
sys.exit(run_service(load_settings()))
"""


def test_it_serves_in_the_foreground_until_it_is_told_to_end(tmp_path):
    port = free_port()
    environment = {**os.environ, "CHURN_HOME": str(tmp_path), "CHURN_SERVING__PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVES], cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        status, answer = until(
            lambda: request_json(f"http://127.0.0.1:{port}/readyz", timeout_s=30),
            lambda found: found[0] or process.poll(),
        )
        assert (status, answer["error"]) == (503, "no_champion")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "not ready: no_champion" in output
    assert request_json(f"http://127.0.0.1:{port}/livez", timeout_s=1) == (0, {})


def test_the_shell_imports_no_model_library_and_binds_to_loopback(tmp_path):
    shows = (
        "import sys; from bentos.churn.service import ChurnService as s; "
        "print(s.name, s.config['http']['host'], s.config['workers'], "
        "sorted({'feast', 'xgboost', 'pandas', 'sklearn', 'mlflow', 'prefect'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", shows],
        cwd=PROJECT_ROOT,
        env={**os.environ, "CHURN_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "churn 127.0.0.1 1 []", done.stderr


@pytest.mark.parametrize("variable", ["CHURN_SERVING__PROT", "CHURN_SERVING__PORT"])
def test_a_wrong_setting_ends_the_start_by_name(tmp_path, variable):
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "bentos.churn.service:ChurnService"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "CHURN_HOME": str(tmp_path), "BENTOML_HOME": str(tmp_path), variable: "nonsense"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode != 0
    assert variable.removeprefix("CHURN_SERVING__").lower() in (done.stdout + done.stderr).lower()
