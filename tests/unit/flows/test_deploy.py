"""What deploying needs no registry for; the rest is in tests/integration/test_retraining.py."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from bentos.bundle.rollout import TrialEndedError, promote, rollout, start_trial, stop_trial
from bentos.comparison import LiveComparison, live_folder, live_name
from configs.settings import load_settings
from flows import deploy as deploying
from flows.compare import Compared
from flows.deploy import deploy, sync_aliases
from flows.pipeline import deploy as flow
from flows.train import Trained
from tests.small_model import saved
from training.promotion import Verdict

AS_OF = datetime(2025, 1, 31, 6, tzinfo=UTC)
KNOWN = {"who": "Ann", "why": "a test"}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A home with a champion; MLflow is asked in tests/integration/test_retraining.py."""
    monkeypatch.setattr(deploying, "mirror", lambda _settings: None)
    promote(tmp_path, saved(tmp_path, model_version="a")[0].digest, now=AS_OF, **KNOWN)
    return load_settings(home=tmp_path)


@pytest.fixture
def trained(settings):
    """A challenger."""
    return Trained("f" * 64, saved(settings.home, model_version="b")[0].digest, "b", "2", "run", 0)


def verdict_of(settings, trained):
    return Compared(Verdict(promote=True, rules=(), figures={}), trained.digest, rollout(settings.home).champion, "")


def test_the_ledger_says_when_it_was_and_as_of_when(settings, trained):
    before = datetime.now(UTC)
    east = AS_OF.astimezone(datetime.fromisoformat("2025-01-31T06:00:00+05:00").tzinfo)
    entry = deploy(settings, trained, verdict_of(settings, trained), now=east, **KNOWN)
    assert before <= datetime.fromisoformat(entry.at) <= datetime.now(UTC)
    assert entry.details["as_of"] == AS_OF.isoformat()


def test_what_was_aborted_while_somebody_was_asked_is_not_promoted(settings, trained):
    now = datetime.now(UTC)
    told = {"mode": "canary", "share": 0.1, "now": now, "ends_at": now + timedelta(hours=1), **KNOWN}
    trial = start_trial(settings.home, trained.digest, **told)
    compared = verdict_of(settings, trained)
    stop_trial(settings.home, who="service", why="9 of 9 failed", now=now, action="abort")
    with pytest.raises(TrialEndedError) as refused:
        deploy(settings, trained, compared, now=AS_OF, trial=trial.sequence, **KNOWN)
    assert refused.value.message == "the canary was ended by service: 9 of 9 failed"
    trial = start_trial(settings.home, trained.digest, **told)
    assert deploy(settings, trained, compared, now=AS_OF, trial=trial.sequence, **KNOWN).action == "promote"


@pytest.mark.parametrize(
    ("begin", "compared"),
    [
        ({"mode": "shadow", "share": 0}, 40),
        ({"mode": "canary", "share": 0.1}, 0),
        (None, 0),
    ],
)
def test_only_the_shadow_that_is_running_is_live_evidence(settings, trained, begin, compared):
    folder = live_folder(settings.home, trained.digest)
    folder.mkdir(parents=True)
    for trial, count in ((2, 500), (4, 40)):
        text = json.dumps(LiveComparison(compared=count, agreeing=count).to_json())
        (folder / live_name(trial, "one")).write_text(text)
    start_trial(settings.home, trained.digest, mode="shadow", share=0, now=AS_OF, **KNOWN)
    stop_trial(settings.home, now=AS_OF, **KNOWN)
    if begin:
        start_trial(settings.home, trained.digest, now=AS_OF, **begin, **KNOWN)
    assert deploying._live(settings, trained, rollout(settings.home)).compared == compared


def test_another_challenger_s_shadow_is_no_evidence(settings, trained):
    other = saved(settings.home, model_version="c")[0].digest
    start_trial(settings.home, other, mode="shadow", share=0, now=AS_OF, **KNOWN)
    assert deploying._live(settings, trained, rollout(settings.home)).compared == 0


def test_what_asks_mlflow_is_tried_again_where_that_can_help():
    for step in (flow.look_up, flow.compare, flow.promote):
        assert (step.retries, step.result_serializer) == (3, "json")
        assert step.retry_condition_fn is not None


def test_without_a_champion_mlflow_is_not_asked(tmp_path):
    assert sync_aliases(load_settings(home=tmp_path)) == {}
    assert list(tmp_path.iterdir()) == []
