"""What the terminal says of promotions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from bentos.rollout.ledger import read_ledger
from bentos.rollout.rollout import promote, rollback, start_trial, stop_trial
from flows.cli.promotion_text import ledger_line, outcome_json, outcome_lines, rollout_lines
from flows.steps.compare import ComparisonResult
from flows.steps.promote import PromotionOutcome
from tests.support.small_model import saved
from training.promotion import Rule, Verdict
from training.registry import RegisteredChallenger

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
METRICS = {"roc_auc": 0.84, "brier": 0.1, "rows": 400}


def test_every_change_is_a_line_and_the_state_is_told(tmp_path):
    one, two = (saved(tmp_path, model_version=f"v{number}")[0].digest for number in (1, 2))
    assert list(rollout_lines(tmp_path)) == ["no model serves yet"]
    promote(tmp_path, one, who="ann", why="the first", now=NOW)
    assert list(rollout_lines(tmp_path)) == [f"champion {one[:12]} (model v1)"]
    start_trial(tmp_path, two, mode="canary", share=0.25, who="bob", why="", now=NOW)
    assert list(rollout_lines(tmp_path)) == [
        f"champion {one[:12]} (model v1)",
        f"canary for 25% of the customers: challenger {two[:12]}",
        "  0 scores compared, 0 answered and 0 failed by the challenger, 0 left out",
    ]
    stop_trial(tmp_path, who="service", why="slow", now=NOW, action="abort")
    promote(tmp_path, two, who="ann", why="second", now=NOW)
    rollback(tmp_path, who="bob", why="calls", now=NOW)
    assert list(rollout_lines(tmp_path)) == [f"champion {one[:12]} (model v1), before it {two[:12]}"]
    assert [ledger_line(entry) for entry in read_ledger(tmp_path)] == [
        f"   1 2026-06-01T12:00:00 promote  {one[:12]} by ann: the first",
        f"   2 2026-06-01T12:00:00 canary   {two[:12]} by bob",
        f"   3 2026-06-01T12:00:00 abort    {two[:12]} by service: slow",
        f"   4 2026-06-01T12:00:00 promote  {two[:12]} by ann: second",
        f"   5 2026-06-01T12:00:00 rollback {one[:12]} by bob: calls",
    ]


def test_a_text_in_the_ledger_makes_no_line_and_no_command_of_the_terminal(tmp_path):
    one = saved(tmp_path, model_version="v1")[0].digest
    promote(tmp_path, one, who="ann\x1b]0;x\x07", why="first\n   2 2026-06-01T12:00:00 promote  \u202e", now=NOW)
    (entry,) = read_ledger(tmp_path)
    assert ledger_line(entry) == (
        f"   1 2026-06-01T12:00:00 promote  {one[:12]} by ann\\x1b]0;x\\x07: "
        "first\\n   2 2026-06-01T12:00:00 promote  \\u202e"
    )


def test_an_outcome_names_the_model_its_rules_and_what_became_of_it(tmp_path):
    digest = saved(tmp_path, metrics=METRICS)[0].digest
    entry = promote(tmp_path, digest, who="ann", why="", now=NOW)
    trained = RegisteredChallenger("f", digest, "v1", "4", "run", seen_rows=0, fresh=True)
    rules = (Rule("calibration", held=False, figures="0.2 <= 0.1"), Rule("no leak", held=True, figures="0.8 <= 0.98"))

    def last(champion, *, promoted, given):
        outcome = PromotionOutcome(
            trained, ComparisonResult(Verdict(promoted, rules), digest, champion, NOW.isoformat()), given
        )
        return list(outcome_lines(tmp_path, outcome))

    assert last("c1", promoted=False, given=None) == [
        f"version 4 ({digest[:12]}): ROC-AUC 0.8400, Brier 0.1000 on 400 held-out rows, features of churn_core_v1",
        "  FAILED: calibration (0.2 <= 0.1)",
        "  held: no leak (0.8 <= 0.98)",
        "refused: the champion stays",
    ]
    assert last(None, promoted=False, given=None)[-1] == "refused: there is no champion yet"
    assert last("c1", promoted=True, given=entry)[-1] == "promoted to champion"
    assert last("c1", promoted=False, given=entry)[-1] == "promoted to champion, against the verdict"
    assert list(outcome_lines(tmp_path, PromotionOutcome(trained, None, None)))[-1] == "it is the champion already"
    again = PromotionOutcome(
        replace(trained, fresh=False), ComparisonResult(Verdict(False, rules), digest, "c1", NOW.isoformat()), None
    )
    assert list(outcome_lines(tmp_path, again))[-1] == "refused: the champion stays"
    assert list(outcome_lines(tmp_path, again, training=True))[-1] == "nothing new was trained: the champion stays"


def test_a_program_reads_from_the_outcome_whether_it_promoted(tmp_path):
    digest = saved(tmp_path, metrics=METRICS)[0].digest
    trained = RegisteredChallenger("f", digest, "v1", "4", "run", seen_rows=0, fresh=True)
    refused = ComparisonResult(
        Verdict(False, (Rule("no leak", held=False, figures="1"),)), digest, "c1", NOW.isoformat()
    )
    forced = promote(tmp_path, digest, who="ann", why="x", now=NOW, details={"overruled": "failed: no leak"})
    told = [
        json.loads(outcome_json(outcome, training=True))
        for outcome in (
            PromotionOutcome(trained, refused, None),
            PromotionOutcome(replace(trained, fresh=False), refused, None),
            PromotionOutcome(replace(trained, fresh=False), None, None),
            PromotionOutcome(trained, refused, forced),
        )
    ]
    assert [(each["outcome"], each["promoted"], each["serves"], each["forced"]) for each in told] == [
        ("refused", False, False, False),
        ("nothing new", False, False, False),
        ("serves already", False, True, False),
        ("promoted", True, True, True),
    ]
    assert told[0]["verdict"]["rules"] == [["no leak", False, "1"]]
    assert ledger_line(forced).endswith(f"promote  {digest[:12]} by ann [forced]: x")
