from __future__ import annotations

import json
import math
import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import settings as trying

from bentos.receipts.receipt import from_content, to_content
from tests.support.receipts import NOW, RECEIPTS, a_receipt

FEW = trying(max_examples=50, deadline=None)


@FEW
@given(RECEIPTS)
def test_every_bit_survives(receipt):
    # repr tells -0.0 from 0.0, 1 from 1.0 and True from 1.
    assert repr(from_content(to_content(receipt))) == repr(receipt)


@FEW
@given(RECEIPTS)
def test_one_receipt_has_one_spelling_sorted_and_in_ascii(receipt):
    content = to_content(receipt)
    assert content.isascii()
    assert list(json.loads(content)) == sorted(json.loads(content))
    assert ": " not in re.sub(r'"[^"]*"', "", content)
    assert content == to_content(from_content(content))


def test_an_instant_is_spelt_in_utc_with_microseconds_wherever_it_was_read():
    east = NOW.astimezone(timezone(timedelta(hours=5)))
    content = to_content(a_receipt(answered_at=east, views=(("v", east, "fresh"),)))
    assert content.count('"2026-11-30T10:15:00.123456+00:00"') == 2
    assert '"2026-11-30T10:15:00.000000+00:00"' in to_content(a_receipt(answered_at=NOW.replace(microsecond=0)))


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": math.nan},
        {"values": (math.inf,)},
        {"values": (-math.inf,)},
        {"threshold": math.nan},
        {"expected_profit_usd": math.inf},
        {"reasons": (("CONTRACT", math.nan),)},
        {"answered_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - the fault
        {"views": (("v", datetime(2026, 1, 1), "fresh"),)},  # noqa: DTZ001
        {"values": (object(),)},
    ],
)
def test_what_has_no_spelling_is_refused(changes):
    with pytest.raises((ValueError, TypeError)):
        to_content(a_receipt(**changes))


def test_words_that_look_like_no_numbers_are_words():
    receipt = a_receipt(values=("NaN", "Infinity", 1.5))
    assert from_content(to_content(receipt)) == receipt


@pytest.mark.parametrize("wrong", ["", "[]", "{}", '{"format": 2}', '{"format": 1}', "null"])
def test_other_content_is_refused(wrong):
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        from_content(wrong)


def test_a_field_too_many_is_refused():
    content = json.loads(to_content(a_receipt())) | {"more": 1}
    with pytest.raises(TypeError):
        from_content(json.dumps(content))
