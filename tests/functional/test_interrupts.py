"""Ctrl-C in a terminal: one word, code 130, and no process left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from flows.service_process import free_port
from tests.support.terminal import terminal

CHURN = str(Path(sys.executable).with_name("churn"))
DEMO = ("demo", "--customers", "500", "--months", "3")
DRAINS = "interrupted: answering the accepted requests; Ctrl-C again ends it at once"


def environment(tmp_path, **more):
    return {**os.environ, "CHURN_HOME": str(tmp_path / "home"), "CHURN_TRAINING__TRIALS": "4", **more}


@pytest.mark.slow
def test_serve_drains_at_the_first_interrupt(tmp_path):
    words = [CHURN, "serve", "--port", str(free_port())]
    with terminal(words, environment(tmp_path), tmp_path) as serve:
        serve.wait_for("not ready: no_champion")
        serve.interrupt()
        assert serve.end() == 130
    assert DRAINS in serve.said
    assert "Traceback" not in serve.said


@pytest.mark.slow
@pytest.mark.parametrize(
    "printed",
    [
        "start Prefect",
        pytest.param("simulate a world .* s", marks=pytest.mark.full),
    ],
)
def test_the_demo_ends_with_one_word(tmp_path, printed):
    with terminal([CHURN, *DEMO], environment(tmp_path), tmp_path) as demo:
        demo.wait_for(printed)
        demo.interrupt()
        assert demo.end() == 130
    assert demo.said.rstrip().endswith("interrupted")
    assert "Traceback" not in demo.said
    assert "Crash" not in demo.said


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_demo_that_serves_ends_with_its_service(tmp_path):
    words = [CHURN, *DEMO, "--serve", "--port", str(free_port())]
    with terminal(words, environment(tmp_path), tmp_path) as demo:
        demo.wait_for("Ctrl-C stops it", 500)
        demo.interrupt()
        assert demo.end() == 130
    assert demo.said.rstrip().endswith("interrupted")
    assert "Traceback" not in demo.said
