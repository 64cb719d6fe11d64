"""A refusal in Prefect's logs is its message; what nobody expects keeps its traceback."""

import logging

import pytest

from configs.errors import ChurnError
from flows.pipeline.refusal_logs import ENGINE_LOGGERS, RefusalFilter, log_refusals_as_lines


@pytest.fixture
def refusals(monkeypatch):
    # Prefect's own handlers, there once it is imported, send to a server.
    for name in ("prefect", *ENGINE_LOGGERS):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)

    def use(*, shown=True):
        log_refusals_as_lines(shown=shown)
        log_refusals_as_lines(shown=shown)

    yield use
    for name in ENGINE_LOGGERS:
        logger = logging.getLogger(name)
        found = [each for each in logger.filters if isinstance(each, RefusalFilter)]
        assert len(found) == 1
        logger.removeFilter(found[0])


def log_of(error, caplog, name):
    try:
        raise error
    except type(error):
        logging.getLogger(name).exception("Encountered exception during execution: %r", error)
    return caplog.text


@pytest.mark.parametrize("name", ENGINE_LOGGERS)
def test_a_refusal_is_a_line(refusals, caplog, name):
    refusals()
    told = log_of(ChurnError("the gate refused it", "fix the file"), caplog, name)
    assert "refused (failed): the gate refused it; fix the file" in told
    assert "Traceback" not in told
    assert "Traceback" in log_of(ValueError("x"), caplog, name)


def test_a_command_that_prints_the_error_gets_no_second_one(refusals, caplog):
    refusals(shown=False)
    assert log_of(ChurnError("the gate refused it"), caplog, "prefect.flow_runs") == ""
    logging.getLogger("prefect.flow_runs").error("Finished in state Failed('…')")
    assert caplog.text == ""
    assert "Traceback" in log_of(ValueError("x"), caplog, "prefect.flow_runs")
