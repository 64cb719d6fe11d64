"""Counts of a live comparison: they add up in any order, travel as JSON, and say figures that a person can check."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.psi import psi
from bentos.rollout.live_comparison import (
    EDGES_MS,
    Arm,
    LiveComparison,
    LiveCountsError,
    breach,
    live_folder,
    live_name,
    read_live,
)
from configs.settings import load_settings

DIGEST = "a" * 64
RULES = load_settings().rollout.model_copy(
    update={"canary_requests_min": 200, "error_rate_margin": 0.01, "latency_ratio_max": 2.0}
)
probabilities = st.floats(0, 1)
pairs = st.lists(st.tuples(probabilities, probabilities, st.booleans()), max_size=8)


def counted(asked, *, failed=0, dropped=0, times=()):
    counts = LiveComparison(dropped=dropped)
    for champion, challenger, agree in asked:
        counts.add_pair(champion, challenger, agree=agree)
    if failed:
        counts.challenger.add_request(len(asked) + failed, failed)
    for ours, theirs in times:
        counts.challenger.add_seconds(ours)
        counts.champion.add_seconds(theirs)
        counts.add_seconds(ours, theirs)
    return counts


def test_the_figures_are_those_of_the_pairs():
    asked = [(0.11, 0.31, True), (0.51, 0.41, True), (0.21, 0.71, False), (0.96, 1.0, True)]
    figures = counted(asked, failed=1, dropped=3).figures()
    champion, challenger = (np.histogram([each[side] for each in asked], 20, (0, 1))[0] for side in (0, 1))
    assert (figures.compared, figures.agreement, figures.dropped) == (4, 0.75, 3)
    assert figures.mean_difference == pytest.approx(0.84 / 4, abs=1e-9)
    assert figures.score_psi == psi(champion, challenger)
    assert (figures.error_rate, figures.champion_error_rate) == (0.2, 0)


def test_where_nothing_was_counted_nothing_is_said():
    figures = LiveComparison().figures()
    assert (figures.compared, figures.dropped) == (0, 0)
    for name in (
        "agreement",
        "mean_difference",
        "score_psi",
        "latency_ratio",
        "error_rate",
        "champion_error_rate",
    ):
        assert math.isnan(getattr(figures, name))


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.9, 2.1, 10.0])
def test_medians_and_their_ratio_are_right_within_a_tenth(factor):
    generator = np.random.default_rng(7)
    theirs = generator.lognormal(np.log(0.005), 0.4, 501)
    ours = factor * generator.lognormal(np.log(0.005), 0.4, 501)
    counts = counted([], times=zip(ours, theirs, strict=True))
    assert counts.champion.p50_ms() == pytest.approx(1000 * np.median(theirs), rel=0.1)
    assert counts.challenger.p50_ms() == pytest.approx(1000 * np.median(ours), rel=0.1)
    assert counts.figures().latency_ratio == pytest.approx(np.median(ours) / np.median(theirs), rel=0.1)


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e-4, 0.005, 104.0, 1e6])
def test_any_time_falls_into_a_bin(seconds):
    counts = counted([], times=[(seconds, seconds)])
    assert counts.challenger.timed_requests == 1
    assert 0 < counts.challenger.p50_ms() <= EDGES_MS[-1]
    assert counts.figures().latency_ratio == 1


@pytest.mark.slow
@given(pairs, pairs, pairs)
def test_counts_add_up_in_any_order_and_grouping(one, two, three):
    together = counted(one + two + three)
    first, second, third = (counted(each) for each in (one, two, three))
    assert first.merge(second).merge(third) == together
    assert third.merge(first.merge(second)) == together
    assert first == counted(one)


@given(pairs, st.integers(0, 5), st.integers(0, 5))
def test_counts_travel_as_json(asked, failed, dropped):
    counts = counted(asked, failed=failed, dropped=dropped)
    assert LiveComparison.from_json(json.loads(json.dumps(counts.to_json()))) == counts


@pytest.mark.parametrize(
    "change",
    [
        {"compared": -1},
        {"compared": 1.5},
        {"compared": True},
        {"compared": None},
        {"more": 1},
        {"ratios": [0]},
        {"champion": None},
        {"champion": {"answered": 0, "failed": 0, "latency": [0], "score": [0]}},
        {"champion": {"more": 0}},
        {"champion": asdict(Arm(requests=1, lost=10**9 + 1))},
        {"champion": asdict(Arm(lost=1))},
    ],
)
def test_what_are_no_counts_is_refused(change):
    with pytest.raises((ValueError, TypeError, KeyError)):
        LiveComparison.from_json(LiveComparison().to_json() | change)


def test_all_workers_count_together_and_an_older_trial_can_be_left_out(tmp_path):
    folder = live_folder(tmp_path, DIGEST)
    assert read_live(tmp_path, DIGEST) == LiveComparison()
    folder.mkdir(parents=True)
    for trial, worker, dropped in ((3, "one", 1), (12, "one", 2), (12, "two", 4)):
        text = json.dumps(LiveComparison(dropped=dropped).to_json())
        (folder / live_name(trial, worker)).write_text(text)
    (folder / ".tmp-x").write_text("{")
    assert read_live(tmp_path, DIGEST).dropped == 7
    assert read_live(tmp_path, DIGEST, since=12).dropped == 6
    assert read_live(tmp_path, "b" * 64).dropped == 0
    (folder / live_name(12, "three")).write_text("{")
    with pytest.raises(LiveCountsError, match="three"):
        read_live(tmp_path, DIGEST)


@pytest.mark.parametrize(
    ("challenger", "champion", "ends"),
    [
        ((0, 0), (0, 0), False),
        ((1000, 0), (1000, 0), False),
        ((0, 1), (1, 0), False),
        ((0, 9), (9, 0), True),
        ((0, 3), (900, 0), True),
        ((9, 1), (90, 0), False),
        ((97, 3), (900, 0), False),
        ((90, 10), (900, 0), True),
        ((199, 1), (900, 0), False),
        ((9700, 300), (9000, 0), True),
        # The store is down for both: neither model's failure.
        ((0, 50), (0, 450), False),
        ((0, 500), (0, 4500), False),
        ((900, 100), (900, 100), False),
    ],
)
def test_failures_end_it_beyond_chance_or_margin(challenger, champion, ends):
    counts = LiveComparison()
    for arm, (answered, failed) in ((counts.challenger, challenger), (counts.champion, champion)):
        arm.answered = answered
        for number in range(answered + failed):
            arm.add_request(1, number < failed)
    why = breach(counts, RULES)
    assert (why is not None) == ends
    if why:
        assert f"failed for {challenger[1]} of {sum(challenger)} customers" in why


@pytest.mark.parametrize(
    ("factor", "pairs", "ends"),
    [(5, 8, False), (5, 13, True), (2.3, 13, True), (2.0, 300, False), (1.8, 300, False), (0.1, 300, False)],
)
def test_a_slow_challenger_ends_it_once_enough_was_timed(factor, pairs, ends):
    counts = LiveComparison()
    for _ in range(pairs):
        counts.add_seconds(0.01 * factor, 0.01)
    why = breach(counts, RULES)
    assert (why is not None) == ends
    if why:
        assert f"times the champion's CPU time in {pairs} of {pairs} pairs" in why


def test_counts_of_a_version_without_pairs_are_read():
    told = LiveComparison(compared=1).to_json()
    del told["ratios"]
    assert LiveComparison.from_json(told) == LiveComparison(compared=1)


def test_failures_of_a_version_without_requests_speak_against_the_challenger():
    told = LiveComparison().to_json()
    for name, answered, failed in (("champion", 450, 0), ("challenger", 0, 50)):
        told[name] |= {"answered": answered, "failed": failed}
        del told[name]["requests"], told[name]["lost"]
    counts = LiveComparison.from_json(told)
    assert (counts.challenger.requests, counts.challenger.lost_rate(), counts.champion.lost_rate()) == (50, 1, 0)
    assert "failed for 50 of 50 customers" in breach(counts, RULES)
