"""The service's child process: what it is called with, and how settings travel."""

import sys

import pytest
from pydantic import SecretStr

from configs.settings import load_settings
from flows.service_process import ServeError, ServiceProcess, command, request_json, service_environment
from tests.support.patience import PATIENCE_S


def changed(settings, section, **values):
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def test_the_command_binds_where_the_settings_say(settings):
    words = command(changed(settings, "serving", host="127.0.0.1", port=4321))
    assert words[:6] == [
        sys.executable,
        "-P",
        "-m",
        "flows.bento_process",
        "serve",
        "bentos.churn.service:ChurnService",
    ]
    assert words[6:10] == ["--host", "127.0.0.1", "--port", "4321"]


def test_a_bento_is_served_from_its_own_folder(settings, tmp_path):
    assert command(settings, str(tmp_path))[-2:] == ["--working-dir", str(tmp_path)]


def test_the_child_reads_the_same_settings(settings, monkeypatch):
    ours = changed(settings, "serving", port=4321, retry_after_s=9)
    ours = changed(ours, "feast", online_store="redis", redis_url=SecretStr("redis://:secret@127.0.0.1:7777/0"))
    for name, value in service_environment(ours).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == ours


def test_only_what_differs_travels(settings):
    child = service_environment(changed(settings, "serving", port=4321))
    assert {name for name in child if name.startswith("CHURN_")} - {"CHURN_TELCO_CSV"} == {
        "CHURN_HOME",
        "CHURN_PROFILE",
        "CHURN_SERVING__PORT",
    }
    assert child["OMP_NUM_THREADS"] == "1"
    assert child["BENTOML_DO_NOT_TRACK"] == "True"
    assert child["BENTOML_HOME"].startswith(str(settings.home))


def test_nobody_listens(port):
    assert request_json(f"http://127.0.0.1:{port}/livez", timeout_s=1) == (0, {})


@pytest.mark.slow
def test_a_process_that_ends_is_reported_with_its_last_lines(settings, port, tmp_path):
    # A folder that holds no bento: bentoml itself says so and ends.
    with (
        ServiceProcess(changed(settings, "serving", port=port), target=str(tmp_path)) as running,
        pytest.raises(ServeError, match="the service ended with code") as refused,
    ):
        running.wait("/livez", PATIENCE_S)
    assert str(running.log) in refused.value.hint
