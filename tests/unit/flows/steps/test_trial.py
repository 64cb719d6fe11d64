"""What a trial before a promotion comes to: the counts of real files, a real pointer and ledger, no Prefect."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from bentos.rollout.ledger import ledger_path, read_ledger
from bentos.rollout.live_comparison import LiveComparison, live_folder, live_name
from bentos.rollout.rollout import promote, read_rollout, start_trial, stop_trial
from configs.settings import load_settings
from flows.steps.trial import run_trial, withdraw_trial, withdrawn_on_error
from tests.support.small_model import saved

AS_OF = datetime(2025, 1, 31, 6, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
DAY = timedelta(hours=24)
TOLD = {"who": "flow deploy", "as_of": AS_OF}
RULES = {
    "shadow_requests_min": 200,
    "canary_share": 0.5,
    "canary_requests_min": 200,
    "error_rate_margin": 0.01,
    "latency_ratio_max": 2.0,
    "trial_timeout_h": 24.0,
}


@pytest.fixture
def settings(tmp_path):
    """A home with a champion; its settings ask for 200 customers in either trial."""
    promote(tmp_path, saved(tmp_path, model_version="a")[0].digest, who="Ann", why="the first", now=NOW)
    found = load_settings(home=tmp_path)
    return found.model_copy(update={"rollout": found.rollout.model_copy(update=RULES)})


@pytest.fixture
def digest(settings):
    """The challenger's."""
    return saved(settings.home, model_version="b")[0].digest


def count(settings, digest, *, answered=0, failed=0, compared=0, slower=1.0, trial=2):
    """What a worker has counted of the trial that entry ``trial`` begins."""
    counts = LiveComparison(compared=compared, agreeing=compared)
    counts.challenger.answered, counts.champion.answered = answered, 900
    for arm, asked, lost in ((counts.challenger, answered + failed, failed), (counts.champion, 900, 0)):
        for number in range(asked):
            arm.add_request(1, number < lost)
    for _ in range(30):
        counts.champion.add_seconds(0.01)
        counts.challenger.add_seconds(0.01 * slower)
        counts.add_seconds(0.01 * slower, 0.01)
    folder = live_folder(settings.home, digest)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / live_name(trial, "one")).write_text(json.dumps(counts.to_json()))


@pytest.mark.parametrize(
    ("mode", "counted", "late", "ends", "last"),
    [
        ("canary", {"answered": 200}, False, None, "canary"),
        ("canary", {"answered": 198, "failed": 2}, False, None, "canary"),
        ("canary", {"answered": 0, "failed": 200}, False, "failed for 200 of 200", "abort"),
        ("canary", {"answered": 180, "failed": 20}, False, "failed for 20 of 200", "abort"),
        ("canary", {"answered": 0, "failed": 9}, False, "failed for 9 of 9", "abort"),
        ("canary", {"answered": 200, "slower": 5}, False, "times the champion's", "abort"),
        ("canary", {"answered": 199}, True, "the canary saw 199 of 200 customers within 24 h", "stop"),
        ("canary", {"answered": 180, "failed": 19}, True, "failed for 19 of 199", "abort"),
        ("canary", {"answered": 194, "failed": 6}, True, "3.0% of a request failed, on average of 200; 1.0%", "stop"),
        ("canary", {"answered": 200}, True, None, "canary"),
        ("shadow", {"compared": 200, "failed": 50, "slower": 5}, False, None, "shadow"),  # the verdict's rules judge it
        ("shadow", {"compared": 7}, True, "the shadow saw 7 of 200 customers within 24 h", "stop"),
    ],
)
def test_what_was_counted_decides(settings, digest, mode, counted, late, ends, last):
    count(settings, digest, **counted)
    instants = iter([NOW])
    met = run_trial(settings, digest, mode, clock=lambda: next(instants, NOW + DAY * late), poll_s=0, **TOLD)
    assert (met.sequence, met.live.challenger.failed) == (2, counted.get("failed", 0))
    if ends is None:
        assert met.ended is None
        assert read_rollout(settings.home).challenger == digest
    else:
        assert ends in met.ended
        assert read_rollout(settings.home).challenger is None
        assert read_ledger(settings.home)[-1].why == met.ended
    entry = read_ledger(settings.home)[-1]
    assert (entry.action, entry.who, entry.details["as_of"]) == (last, "flow deploy", AS_OF.isoformat())
    assert entry.at >= NOW.isoformat()


def test_an_end_by_the_service_is_told_with_its_reason(settings, digest):
    def clock():
        stop_trial(settings.home, who="service", why="9 of 9 failed", now=NOW, action="abort")
        return NOW

    met = run_trial(settings, digest, "canary", clock=clock, poll_s=0, **TOLD)
    assert met.ended == "the canary was ended by service: 9 of 9 failed"


@pytest.mark.parametrize(
    ("mode", "approval", "hours"), [("shadow", True, 24), ("canary", False, 24), ("canary", True, 24 + 72)]
)
def test_a_trial_has_an_end_and_a_canary_s_leaves_time_to_ask(settings, digest, mode, approval, hours):
    promotion = settings.promotion.model_copy(update={"approval_required": approval, "approval_timeout_h": 72.0})
    count(settings, digest, answered=200, compared=200)
    run_trial(settings.model_copy(update={"promotion": promotion}), digest, mode, clock=lambda: NOW, **TOLD)
    assert read_rollout(settings.home).ends_at == (NOW + timedelta(hours=hours)).isoformat()


def test_after_a_kill_the_trial_goes_on_with_its_end_and_its_time(settings, digest):
    count(settings, digest, answered=200)
    first = run_trial(settings, digest, "canary", clock=lambda: NOW, **TOLD)
    end = read_rollout(settings.home).ends_at
    assert run_trial(settings, digest, "canary", clock=lambda: NOW + DAY / 2, **TOLD) == first
    assert read_rollout(settings.home).ends_at == end
    count(settings, digest, answered=5)
    instants = iter([NOW + DAY / 2])
    late = run_trial(settings, digest, "canary", clock=lambda: next(instants, NOW + DAY), **TOLD)
    assert "saw 5 of 200" in late.ended


@pytest.mark.parametrize("first", [ValueError("x"), KeyboardInterrupt(), SystemExit(143)])
def test_whatever_ends_the_wait_ends_the_trial_and_is_told(settings, digest, first):
    count(settings, digest, answered=200)

    @withdrawn_on_error(settings.home, digest, clock=lambda: NOW, **TOLD)
    def work():
        run_trial(settings, digest, "canary", clock=lambda: NOW, **TOLD)
        raise first

    with pytest.raises(type(first)) as raised:
        work()
    assert raised.value is first
    entry = read_ledger(settings.home)[-1]
    assert (entry.action, entry.who, entry.why) == ("stop", "flow deploy", f"it failed: {type(first).__name__}")
    assert read_rollout(settings.home).mode == "none"


def test_an_error_is_not_hidden_by_a_trial_that_can_not_be_stopped(settings, digest, caplog):
    @withdrawn_on_error(settings.home, digest, clock=lambda: NOW, **TOLD)
    def work():
        start_trial(settings.home, digest, mode="shadow", share=0, who="x", why="", now=NOW)
        ledger_path(settings.home).write_text("{}\n")
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        work()
    assert "could not be stopped: LedgerBrokenError" in caplog.text


def test_another_challenger_s_trial_is_left_alone(settings, digest):
    start_trial(settings.home, digest, mode="shadow", share=0, who="x", why="", now=NOW)
    withdraw_trial(settings.home, "0" * 64, why="refused", now=NOW, **TOLD)
    assert read_rollout(settings.home).challenger == digest
    withdraw_trial(settings.home, digest, why="refused", now=NOW, **TOLD)
    assert read_rollout(settings.home).challenger is None
