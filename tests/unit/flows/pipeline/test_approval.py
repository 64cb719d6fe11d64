"""Which waiting deployment an answer is for, and what is said where a run does not tell what it asks about."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest

from configs.settings import load_settings
from flows.pipeline import approval
from flows.pipeline.approval import NothingWaitsError, WaitingApproval, approve, name_challenger

UNKNOWN = WaitingApproval("id-1", "deploy 7")
OTHER = WaitingApproval("id-2", "deploy 8", version="8", digest="b" * 64)


@pytest.mark.slow
def test_a_challenger_that_can_not_be_written_on_the_run_is_logged_and_no_error(port, caplog):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}),
        caplog.at_level(logging.WARNING, logger=approval.__name__),
    ):
        name_challenger(str(uuid4()), "7", "a" * 64)
    assert "the run does not say which challenger it asks about: " in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("run_id", [None, UNKNOWN.run_id])
def test_a_run_that_does_not_say_what_it_asks_about_may_be_the_one_that_is_meant(tmp_path, monkeypatch, run_id):
    monkeypatch.setattr(approval, "waiting_approvals", lambda _home: [UNKNOWN, OTHER])
    with pytest.raises(NothingWaitsError) as refused:
        approve(load_settings(home=tmp_path), run_id, "7", yes=True, who="Ann", why="")
    assert "deploy 7, run id-1, version unknown (unknown)" in refused.value.message
    assert "deploy 8" not in refused.value.message
    assert "churn approve --run" in refused.value.hint
