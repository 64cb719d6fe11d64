"""The rules that end a canary, on CPU times recorded by tests/bench/cpu_times.py on a loaded machine."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from bentos.rollout.likelihood_ratios import above, above_other
from bentos.rollout.live_comparison import FALSE_END, LiveComparison, breach, open_question
from bentos.rollout.paired_times import RATIO_EDGES, Pairing, first_above, ratio_bin
from configs.settings import load_settings

RECORDED = [
    ("champion" if model == "h" else "challenger", int(microseconds) / 1e6)
    for model, _, microseconds in (
        line.partition(",") for line in Path(__file__).with_name("cpu_times.csv").read_text("ascii").splitlines()
    )
]
RULES = load_settings().rollout
CANARIES = 1000
FALSE_ENDS_MAX = int(binom.ppf(0.999, CANARIES, FALSE_END))
ANSWERS = 400


def ended_after(seed, *, limit=RULES.latency_ratio_max, slower=1.0, share=None, answers=ANSWERS):
    """After how many of the challenger's answers a canary is ended, None if it is not; looked at after each pair.

    It begins anywhere in the recording. ``share`` draws the customers of the challenger anew, so that both models take
    the same times; None leaves each time to the model that it was recorded of.
    """
    rules = RULES.model_copy(update={"latency_ratio_max": limit})
    chance = random.Random(seed)
    at, answered, pairing, counts = chance.randrange(len(RECORDED)), 0, Pairing(), LiveComparison()
    while answered < answers:
        arm, seconds = RECORDED[at % len(RECORDED)]
        at += 1
        if share is not None:
            arm = "challenger" if chance.random() < share else "champion"
        if arm == "challenger":
            answered += 1
            seconds *= slower
        pair = pairing.add(arm, seconds)
        if pair is None:
            continue
        counts.add_seconds(*pair)
        # Evidence grows with slower pairs alone.
        if ratio_bin(*pair) >= first_above(limit) and breach(counts, rules):
            return answered
    return None


def test_the_recording_is_of_a_loaded_machine():
    times = sorted(seconds for _, seconds in RECORDED)
    assert len(times) > 3000
    assert times[-1] > 10 * times[len(times) // 2]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_equal_models_at_the_very_limit_are_ended_at_the_nominal_rate(share):
    ended = [ended_after(seed, limit=1.0, share=share, answers=ANSWERS * share) for seed in range(CANARIES)]
    assert sum(each is not None for each in ended) <= FALSE_ENDS_MAX


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, None])
def test_equal_models_are_not_ended_by_the_default_limit(share):
    ended = [ended_after(seed, share=share, answers=ANSWERS / 2) for seed in range(CANARIES)]
    assert sum(each is not None for each in ended) <= FALSE_ENDS_MAX


@pytest.mark.parametrize(("slower", "within"), [(2, 600), (2.5, 250), (4, 60), (8, 40)])
def test_a_slow_challenger_is_ended_within_so_many_answers(slower, within):
    """The table of docs/decisions/0032-live-rules.md: 19 of 20 canaries."""
    ended = [ended_after(seed, slower=slower, answers=within) for seed in range(100)]
    assert sum(each is not None for each in ended) >= 95


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_equal_failures_end_no_more_canaries_than_the_nominal_rate(rate, share):
    ended = 0
    for seed in range(CANARIES // 5):
        chance, counts = random.Random(seed), LiveComparison()
        for _ in range(400):
            arm = counts.challenger if chance.random() < share else counts.champion
            failed = chance.random() < rate
            arm.answered += not failed
            arm.add_request(1, failed)
            if arm is counts.challenger and failed:
                counts.champion.add_request(1, 0)
                if breach(counts, RULES):
                    ended += 1
                    break
    assert ended <= binom.ppf(0.999, CANARIES // 5, FALSE_END)


def one_by_one(chance, asked):
    """Each customer fails by itself."""
    return [int(chance.binomial(customers, 0.03)) for customers in asked]


def as_a_whole(chance, asked):
    """All customers of a request that one model is asked for fail together."""
    return [customers * int(chance.random() < 0.03) for customers in asked]


def for_both(chance, asked):
    """Two of three failures are of both models: the request as a whole fails."""
    both = chance.random() < 0.02
    return [customers * int(both or chance.random() < 0.01) for customers in asked]


@pytest.mark.slow
@pytest.mark.parametrize("failures", [as_a_whole, one_by_one, for_both])
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_equal_models_asked_for_batches_are_ended_at_the_nominal_rate(share, failures):
    """A/A: requests for one customer and for up to a hundred; each model fails at the rate that the other does."""
    ended = 0
    for seed in range(CANARIES // 10):
        chance, counts = np.random.default_rng(seed), LiveComparison()
        for number, customers in enumerate(chance.choice([1, 1, 1, 20, 100], 300).tolist(), 1):
            ours = int(chance.binomial(customers, share))
            asked = (ours, customers - ours)
            for arm, each, failed in zip(
                (counts.challenger, counts.champion), asked, failures(chance, asked), strict=True
            ):
                arm.add_request(each, failed)
            if number % 20 == 0 and breach(counts, RULES):
                ended += 1
                break
    assert ended <= binom.ppf(0.999, CANARIES // 10, FALSE_END)


def test_a_batch_that_fails_as_a_whole_is_one_failure():
    counts = LiveComparison()
    for number in range(200):
        counts.champion.add_request(100, 0)
        if number < 20:
            counts.challenger.add_request(100, 0)
    counts.challenger.add_request(100, 100)
    assert breach(counts, RULES) is None
    assert counts.challenger.failed == 100
    assert open_question(counts, RULES) == "4.8% of a request failed, on average of 21; 1.0% are allowed"
    for _ in range(9):
        counts.challenger.add_request(100, 100)
    assert "failed for 1000 of 1000 customers (33.3% of a request, on average of 30)" in breach(counts, RULES)


def test_a_batch_that_failed_as_a_whole_leaves_no_question_open_among_enough_requests():
    counts = LiveComparison()
    counts.challenger.add_request(100, 100)
    for _ in range(99):
        counts.challenger.answered += 1
        counts.challenger.add_request(1, 0)
        counts.champion.add_request(1, 0)
    assert counts.challenger.error_rate() > 0.5
    assert open_question(counts, RULES) is None


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "within"), [(1.0, 5), (0.5, 30), (0.1, 200), (0.05, 600)])
def test_a_failing_challenger_is_ended_within_so_many_answers(rate, within):
    ended = 0
    for seed in range(100):
        chance, counts = random.Random(seed), LiveComparison()
        for _ in range(within):
            fails = chance.random() < rate
            counts.challenger.add_request(1, fails)
            for _ in range(2 + fails):
                counts.champion.add_request(1, 0)
            if fails and breach(counts, RULES):
                ended += 1
                break
    assert ended >= 95


def test_a_figure_beyond_its_limit_that_chance_explains_is_an_open_question():
    counts = LiveComparison()
    for number in range(100):
        counts.challenger.add_request(1, number < 3)
        counts.champion.add_request(9, 0)
    assert breach(counts, RULES) is None
    assert open_question(counts, RULES) == "3.0% of a request failed, on average of 100; 1.0% are allowed"
    for _ in range(200):
        counts.challenger.add_request(1, 0)
    assert open_question(counts, RULES) is None
    for _ in range(5):
        counts.challenger.add_seconds(0.03)
        counts.champion.add_seconds(0.01)
        counts.add_seconds(0.03, 0.01)
    assert breach(counts, RULES) is None
    assert open_question(counts, RULES) == "the median CPU time is 2.8 times the champion's"


def test_pairs_are_of_neighbours_and_each_model_is_the_earlier_one_in_turn():
    pairing = Pairing()
    told = [("champion", 1), ("champion", 2), ("challenger", 3), ("champion", 4), ("challenger", 5), ("champion", 6)]
    told += [("challenger", 7), ("champion", 8), ("challenger", 9)]
    assert [pairing.add(*each) for each in told] == [None, None, (3, 2), None, None, (5, 6), None, None, (9, 8)]


@pytest.mark.parametrize("limit", [1.0, 1.3, 2.0, 100.0, 1000.0])
def test_only_ratios_above_the_limit_are_slower(limit):
    first = first_above(limit)
    assert ratio_bin(limit, 1.0) < first
    assert ratio_bin(limit * 1.2, 1.0) >= first or limit > RATIO_EDGES[-1]
    assert ratio_bin(1e9, 0.0) < len(RATIO_EDGES) + 1


def test_evidence_is_1_on_average_where_the_hypothesis_holds():

    for rate in (0.01, 0.5):
        expected = sum(binom.pmf(found, 50, rate) * math.exp(above(found, 50, rate)) for found in range(51))
        assert expected == pytest.approx(1)
    assert above(0, 0, 0.5) == pytest.approx(0)
    assert above_other(5, 5, 0, 0, 0.01) < 0.1
