"""What a verdict is made of, measured on bundles and frames alone."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from bentos.rollout.ledger import LedgerBrokenError
from bentos.rollout.rollout import promote, rollback, start_trial, stop_trial
from configs.settings import load_settings
from feature_repo.contract import LABEL
from flows.steps.compare import (
    ComparisonResult,
    explained,
    gather_evidence,
    latency_p50_ms,
    rolled_back,
    serving,
    withdrawal,
)
from tests.support.small_model import features_of_snapshot, saved, simulated, small_bundle, training_set
from training.data.heldout import HeldOutMissingError, save_heldout
from training.model.fit import REASON_CODES_FILE
from training.promotion import Rule, Verdict
from training.registry import RegisteredChallenger

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
FRAME = features_of_snapshot(simulated(200))
THRESHOLDS = (0.3, 0.4)
CODES = REASON_CODES_FILE.read_text("utf-8")


def bundle_with(codes):
    bundle = small_bundle()
    return type(bundle)(bundle.manifest, bundle.linear, bundle.trees, codes)


@pytest.mark.parametrize(
    ("codes", "share"),
    [
        (CODES, 1.0),
        ("", 0.0),
        (CODES.replace('"tenure_months"', '"monthly_charges_usd"'), 0.0),  # one feature under no code, one under two
    ],
)
def test_all_reasons_add_up_or_none_is_complete(codes, share):
    bundle = bundle_with(codes)
    score, found = explained(bundle, FRAME)
    assert found == share
    assert score == pytest.approx(bundle.score(FRAME), abs=1e-12)


def test_latency_is_that_of_one_customer():
    assert 0 < latency_p50_ms(bundle_with(CODES), FRAME) < 1000
    assert latency_p50_ms(bundle_with(CODES), FRAME.head(1)) > 0
    assert math.isnan(latency_p50_ms(bundle_with(CODES), FRAME.head(0)))


@pytest.fixture
def two(tmp_path):
    """A home with two models, the first of them the champion."""
    digests = [saved(tmp_path, threshold=threshold)[0].digest for threshold in THRESHOLDS]
    promote(tmp_path, digests[0], who="ann", why="the first", now=NOW)
    return tmp_path, *digests


def test_what_was_rolled_back_or_failed_as_a_canary_is_withdrawn_until_somebody_lets_it_serve(two):
    home, first, second = two
    told = {"who": "bob", "now": NOW}
    assert withdrawal(home, first) == withdrawal(home, second) == ""
    start_trial(home, second, mode="canary", share=0.1, why="", **told)
    stop_trial(home, why="enough", **told)
    assert withdrawal(home, second) == "", "a trial that ended is no failure"
    start_trial(home, second, mode="canary", share=0.1, why="", **told)
    stop_trial(home, action="abort", why="9 of 100 failed", **told)
    assert withdrawal(home, second) == "abort by bob: 9 of 100 failed"
    promote(home, second, why="mended", **told)
    assert withdrawal(home, first) == withdrawal(home, second) == "", "whom another one succeeds is not withdrawn"
    rollback(home, why="too many calls", **told)
    assert withdrawal(home, second) == "rollback by bob: too many calls"
    assert withdrawal(home, first) == ""
    assert rollback(home, why="it was the weather", **told) is None
    promote(home, second, why="it was the weather", **told)
    assert withdrawal(home, second) == ""
    promote(home, first, why="cheaper", **told)
    rollback(home, why="too few calls", leaving=first, **told)
    assert (withdrawal(home, first), withdrawal(home, second)) == ("rollback by bob: too few calls", "")


def test_a_withdrawn_model_is_known_again_in_a_bundle_of_another_day(two):
    home, first, second = two
    again = saved(home, threshold=THRESHOLDS[1], model_version="20270101T000000", snapshots=("2027-01-01.v1",))[
        0
    ].digest
    assert again != second
    promote(home, second, who="ann", why="", now=NOW)
    rollback(home, who="bob", why="too many calls", now=NOW)
    assert withdrawal(home, again) == withdrawal(home, second) == "rollback by bob: too many calls"
    # What can't be read any more is known by its digest alone.
    manifest = home / "bundles" / second / "manifest.json"
    said = manifest.read_text()
    manifest.write_text("{")
    assert (withdrawal(home, again), withdrawal(home, second)) == ("", "rollback by bob: too many calls")
    manifest.write_text(said)
    start_trial(home, again, mode="canary", share=0.1, who="ann", why="", now=NOW)
    stop_trial(home, action="abort", who="service", why="slow", now=NOW)
    assert withdrawal(home, second) == "abort by service: slow"
    promote(home, again, who="ann", why="a person's yes", now=NOW)
    assert withdrawal(home, again) == withdrawal(home, second) == ""
    assert withdrawal(home, first) == ""


def test_after_a_rollback_the_next_promotion_is_a_persons(two):
    home, first, second = two
    told = {"who": "bob", "now": NOW}
    assert rolled_back(home) == ""
    promote(home, second, why="", **told)
    assert rolled_back(home) == ""
    rollback(home, why="too many calls", **told)
    start_trial(home, second, mode="shadow", share=0, why="", **told)
    stop_trial(home, why="", **told)
    assert rolled_back(home) == "rollback by bob: too many calls", "a trial releases nothing"
    promote(home, first, why="it serves already", **told)
    assert rolled_back(home) != "", "nothing was promoted"
    promote(home, second, why="it was the weather", **told)
    assert rolled_back(home) == ""


def test_a_changed_ledger_lets_nobody_pass(two):
    home, first, _ = two
    path = home / "ledger" / "ledger.jsonl"
    path.write_text(path.read_text().replace("the first", "the 1st  "))
    with pytest.raises(LedgerBrokenError):
        withdrawal(home, first)


def test_what_serves_is_known_from_the_ledger_where_the_pointer_is_lost_or_damaged(two, tmp_path_factory):
    home, first, _ = two
    assert serving(home).champion == first
    (home / "bundles" / "champion.json").write_text("{")
    assert serving(home).champion == first
    (home / "bundles" / "champion.json").unlink()
    assert serving(home).champion == first, "services go on with it"
    assert serving(tmp_path_factory.mktemp("empty")) is None


def test_a_challenger_that_can_not_be_read_has_no_score_and_says_why(two):
    home, _, second = two
    rows = training_set(simulated(50))
    save_heldout(home, second, rows.keys)
    (home / "bundles" / second / "trees.ubj").write_bytes(b"")
    trained = RegisteredChallenger("f", second, "v", "1", "r", seen_rows=0)
    evidence = gather_evidence(load_settings(home=home), trained, serving(home), None)
    assert np.isnan(evidence.challenger).all()
    assert "trees.ubj" in evidence.schema
    assert evidence.churned.tolist() == rows.keys[LABEL].tolist()


def test_without_its_held_out_rows_nothing_is_compared(two):
    home, _, second = two
    trained = RegisteredChallenger("f", second, "v", "1", "r", seen_rows=0)
    with pytest.raises(HeldOutMissingError):
        gather_evidence(load_settings(home=home), trained, serving(home), None)


def test_it_travels_as_json():
    verdict = Verdict(promote=False, rules=(Rule("calibration", held=False, figures="0.2 <= 0.1"),), figures={"x": 0.5})
    told = ComparisonResult(verdict, "d1", None, (NOW + timedelta(hours=1)).isoformat())
    assert ComparisonResult.from_json(json.loads(json.dumps(told.to_json()))) == told
