"""Whom a canary answers for, and what ends it."""

from __future__ import annotations

import math

import pytest

from bentos.churn.canary import Share, _at_least, breach
from bentos.comparison import LiveComparison
from configs.settings import load_settings

DIGEST = "a" * 64
RULES = load_settings().rollout.model_copy(
    update={"canary_requests_min": 200, "error_rate_margin": 0.01, "latency_ratio_max": 2.0}
)
IDS = [f"{number:04d}-ABCDE" for number in range(20_000)]


def chosen(share, digest=DIGEST):
    return {each for each in IDS if Share(digest, share).takes(each)}


@pytest.mark.parametrize("share", [0.001, 0.05, 0.1, 0.5, 0.9])
def test_it_takes_its_share_of_the_customers(share):
    spread = math.sqrt(share * (1 - share) * len(IDS))
    assert abs(len(chosen(share)) - share * len(IDS)) < 4 * spread


def test_no_share_is_nobody_and_the_whole_is_everyone():
    assert chosen(0) == set()
    assert chosen(1) == set(IDS)


def test_a_greater_share_keeps_the_customers_and_another_bundle_has_others():
    assert chosen(0.1) < chosen(0.2) < chosen(0.5)
    both = len(chosen(0.1) & chosen(0.1, "b" * 64))
    assert abs(both - 0.01 * len(IDS)) < 60


def test_the_customers_are_the_same_in_every_process_and_release():
    """Written down: a changed hash would swap everyone's model in the middle of a canary."""
    assert [each for each in IDS[:40] if Share(DIGEST, 0.2).takes(each)] == EXPECTED


EXPECTED = [
    "0003-ABCDE",
    "0004-ABCDE",
    "0009-ABCDE",
    "0013-ABCDE",
    "0019-ABCDE",
    "0025-ABCDE",
    "0027-ABCDE",
    "0033-ABCDE",
    "0034-ABCDE",
    "0037-ABCDE",
]


@pytest.mark.parametrize(
    ("challenger", "champion", "ends"),
    [
        ((0, 0), (0, 0), False),
        ((1000, 0), (1000, 0), False),
        ((0, 1), (0, 0), False),
        ((0, 2), (0, 0), True),
        ((9, 1), (90, 0), False),
        ((97, 3), (900, 0), False),
        ((94, 6), (900, 0), True),
        ((199, 1), (900, 0), False),
        ((197, 3), (900, 0), True),
        # The store is down for both: nobody's failure.
        ((0, 50), (0, 450), False),
        ((0, 500), (0, 4500), False),
        ((900, 100), (900, 100), False),
    ],
)
def test_failures_end_it_beyond_chance_or_margin(challenger, champion, ends):
    counts = LiveComparison()
    counts.challenger.answered, counts.challenger.failed = challenger
    counts.champion.answered, counts.champion.failed = champion
    why = breach(counts, RULES)
    assert (why is not None) == ends
    if why:
        assert f"failed for {challenger[1]} of {sum(challenger)} customers" in why


@pytest.mark.parametrize(
    ("factor", "requests", "ends"),
    [(5, 29, False), (5, 30, True), (2.3, 30, True), (1.8, 300, False), (0.1, 300, False)],
)
def test_a_slow_challenger_ends_it_once_enough_was_timed(factor, requests, ends):
    counts = LiveComparison()
    for _ in range(requests):
        counts.champion.took(0.01)
        counts.challenger.took(0.01 * factor)
    why = breach(counts, RULES)
    assert (why is not None) == ends
    if why:
        assert "times the champion's" in why


@pytest.mark.parametrize(
    ("failed", "asked", "rate", "expected"),
    [(0, 5, 0.3, 1.0), (5, 5, 0.5, 1 / 32), (1, 10, 0.1, 1 - 0.9**10), (2, 2, 0.01, 1e-4), (1, 5, 0.0, 0.0)],
)
def test_the_chance_of_so_many_failures(failed, asked, rate, expected):
    assert _at_least(failed, asked, rate) == pytest.approx(expected, rel=1e-9)
