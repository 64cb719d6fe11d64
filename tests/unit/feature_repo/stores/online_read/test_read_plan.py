"""Which requests a plan understands, and how computed values come back."""

from __future__ import annotations

import math
from collections import UserString
from datetime import datetime

import numpy as np
import pytest
from feast.value_type import ValueType

from feature_repo.stores.online_read.read_plan import ReadPlan, ViewRead, as_answered

VIEW = ViewRead("billing", None, ("a", "b"), 3)


def plan(key_type=str, request_data=()):
    return ReadPlan("id", key_type, str.encode, frozenset(request_data), (VIEW,), (), (), ())


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([{"id": "x", "at": 1}, {"at": 2, "id": "x"}], {"id": ["x", "x"], "at": [1, 2]}),
        ({"id": ["x"], "at": ("now",)}, {"id": ["x"], "at": ["now"]}),
        ([], None),
        ({"id": [], "at": []}, None),
        ([{"id": "x"}], None),
        ([{"id": "x", "at": 1}, {"id": "x"}], None),
        ([{"id": "x", "at": 1, "more": 1}], None),
        ([{"id": "x", "to": 1}], None),
        ([{"id": 7, "at": 1}], None),
        ([{"id": "x", "at": 1}, {"id": None, "at": 1}], None),
        ([{"id": UserString("x"), "at": 1}], None),
        ([{"id": "x", "at": 1.5}], None),
        ([{"id": "x", "at": True}], None),
        ([{"id": "x", "at": 2**63}], None),
        ([{"id": "x", "at": 1}, {"id": "x", "at": "1"}], None),
        ({"id": ["x"], "at": [1, 2]}, None),
        ({"id": ["x"], "at": np.array([1])}, None),
        ({"id": ["x"]}, None),
        ("x", None),
    ],
    ids=str,
)
def test_a_request_is_taken_as_it_is_or_left_to_feast(rows, found):
    assert plan(request_data=("at",)).parse_entity_rows(rows) == found


def test_integer_keys_must_fit():
    assert plan(int).parse_entity_rows([{"id": 5}]) == {"id": [5]}
    assert plan(int).parse_entity_rows([{"id": 2**63}]) is None
    assert plan(int).parse_entity_rows([{"id": True}]) is None


def test_a_views_timestamp_stands_after_its_features():
    assert (VIEW.stamp, plan().width) == (5, 6)


@pytest.mark.parametrize(
    ("values", "value_type", "expected"),
    [
        ([1, None], ValueType.INT64, [1, None]),
        ([True, None], ValueType.BOOL, [True, None]),
        ([1.5, math.nan], ValueType.DOUBLE, [1.5, None]),
        ([1, 2], ValueType.DOUBLE, [1.0, 2.0]),
        (["a", None], ValueType.STRING, ["a", None]),
        ([[1, 2]], ValueType.INT64_LIST, [[1, 2]]),
        ([None], ValueType.UNKNOWN, [None]),
    ],
)
def test_a_computed_value_comes_back_as_its_declared_type(values, value_type, expected):
    assert repr(as_answered(values, value_type)) == repr(expected)


def test_times_are_datetimes_again():
    found = as_answered([datetime(2026, 1, 1)], ValueType.UNIX_TIMESTAMP)  # noqa: DTZ001 - what a function may give
    assert found[0].year == 2026
