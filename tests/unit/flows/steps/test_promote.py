"""What deploying needs no registry for; the rest is in tests/integration/test_retraining.py."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from bentos.rollout.live_comparison import LiveComparison, live_folder, live_name
from bentos.rollout.rollout import TrialEndedError, promote, read_rollout, start_trial, stop_trial
from configs.errors import EXIT_USAGE
from configs.settings import load_settings
from flows.pipeline import deploy as flow
from flows.steps import promote as deploying
from flows.steps.compare import ComparisonResult
from flows.steps.promote import UnknownNameError, end_trial, is_named, promote_challenger, sync_aliases
from tests.support.small_model import saved
from training.promotion import Verdict
from training.registry import RegisteredChallenger

AS_OF = datetime(2025, 1, 31, 6, tzinfo=UTC)
KNOWN = {"who": "Ann", "why": "a test"}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A home with a champion; MLflow is asked in tests/integration/test_retraining.py."""
    monkeypatch.setattr(deploying, "try_sync_aliases", lambda _settings: None)
    promote(tmp_path, saved(tmp_path, model_version="a")[0].digest, now=AS_OF, **KNOWN)
    return load_settings(home=tmp_path)


@pytest.fixture
def trained(settings):
    """A challenger."""
    return RegisteredChallenger("f" * 64, saved(settings.home, model_version="b")[0].digest, "b", "2", "run", 0)


def verdict_of(settings, trained):
    return ComparisonResult(
        Verdict(promote=True, rules=(), figures={}), trained.digest, read_rollout(settings.home).champion, ""
    )


def test_the_ledger_says_when_it_was_and_as_of_when(settings, trained):
    before = datetime.now(UTC)
    east = AS_OF.astimezone(datetime.fromisoformat("2025-01-31T06:00:00+05:00").tzinfo)
    entry = promote_challenger(settings, trained, verdict_of(settings, trained), now=east, **KNOWN)
    assert before <= datetime.fromisoformat(entry.at) <= datetime.now(UTC)
    assert entry.details["as_of"] == AS_OF.isoformat()


def test_what_was_aborted_while_somebody_was_asked_is_not_promoted(settings, trained):
    now = datetime.now(UTC)
    told = {"mode": "canary", "share": 0.1, "now": now, "ends_at": now + timedelta(hours=1), **KNOWN}
    trial = start_trial(settings.home, trained.digest, **told)
    compared = verdict_of(settings, trained)
    stop_trial(settings.home, who="service", why="9 of 9 failed", now=now, action="abort")
    with pytest.raises(TrialEndedError) as refused:
        promote_challenger(settings, trained, compared, now=AS_OF, trial=trial.sequence, **KNOWN)
    assert refused.value.message == "the canary was ended by service: 9 of 9 failed"
    trial = start_trial(settings.home, trained.digest, **told)
    assert promote_challenger(settings, trained, compared, now=AS_OF, trial=trial.sequence, **KNOWN).action == "promote"


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
    assert deploying._live(settings, trained, read_rollout(settings.home)).compared == compared


def test_another_challenger_s_shadow_is_no_evidence(settings, trained):
    other = saved(settings.home, model_version="c")[0].digest
    start_trial(settings.home, other, mode="shadow", share=0, now=AS_OF, **KNOWN)
    assert deploying._live(settings, trained, read_rollout(settings.home)).compared == 0


def test_what_asks_mlflow_is_tried_again_where_that_can_help():
    for step in (flow.look_up, flow.compare, flow.promote):
        assert (step.retries, step.result_serializer) == (3, "json")
        assert step.retry_condition_fn is not None


def test_a_version_that_nothing_knows_is_an_error_and_one_that_does_not_serve_is_none(settings, trained):
    home = settings.home
    champion = read_rollout(home).champion
    promote(home, trained.digest, now=AS_OF, details={"version": "2"}, **KNOWN)
    for named in ("2", "b", trained.digest, trained.digest[:8]):
        assert is_named(home, trained.digest, named)
        assert not is_named(home, champion, named)
        assert not is_named(home, None, named)
    waiting = saved(home, model_version="c")[0].digest
    assert not is_named(home, trained.digest, waiting[:8]), "it never served, and lies in the home"
    # What was removed from the home is known by the ledger.
    shutil.rmtree(home / "bundles" / champion)
    assert not is_named(home, trained.digest, champion[:8])
    assert not is_named(home, trained.digest, "a")
    for wrong in ("999", "", "None", "0" * 64, trained.digest[:7]):
        for digest in (trained.digest, None):
            with pytest.raises(UnknownNameError) as refused:
                is_named(home, digest, wrong)
            assert refused.value.exit_code == EXIT_USAGE
            assert f"{trained.digest[:12]} (model b) serves" in refused.value.hint


def test_the_trial_of_a_version_that_nothing_knows_is_an_error(settings, trained):
    with pytest.raises(UnknownNameError):
        end_trial(settings, "999", now=AS_OF, **KNOWN)
    start_trial(settings.home, trained.digest, mode="shadow", share=0, now=AS_OF, details={"version": "2"}, **KNOWN)
    with pytest.raises(UnknownNameError):
        end_trial(settings, "999", now=AS_OF, **KNOWN)
    assert end_trial(settings, "a", now=AS_OF, **KNOWN) is None
    assert end_trial(settings, "2", now=AS_OF, **KNOWN).action == "stop"
    assert end_trial(settings, "2", now=AS_OF, **KNOWN) is None


def test_without_a_champion_mlflow_is_not_asked(tmp_path):
    assert sync_aliases(load_settings(home=tmp_path)) == {}
    assert list(tmp_path.iterdir()) == []
