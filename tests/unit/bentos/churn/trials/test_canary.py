"""Whom a canary answers for."""

from __future__ import annotations

import math

import pytest

from bentos.churn.trials.canary import CanaryShare

DIGEST = "a" * 64
IDS = [f"{number:04d}-ABCDE" for number in range(20_000)]


def chosen(share, digest=DIGEST):
    return {each for each in IDS if CanaryShare(digest, share).takes(each)}


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
    assert [each for each in IDS[:40] if CanaryShare(DIGEST, 0.2).takes(each)] == EXPECTED


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
