"""Keys as numbers: the same key, the same number; unknown keys and nulls have none."""

from __future__ import annotations

import pyarrow as pa
import pytest

from feature_repo.stores.point_in_time.key_codes import KeyCodes


def chunks(*values):
    return pa.chunked_array([pa.array(values)])


@pytest.mark.parametrize(
    ("known", "asked", "codes"),
    [
        ([chunks("b", "a", "b", None)], [chunks("a", "b", "c", None)], [1, 0, -1, -1]),
        ([chunks(7, -1)], [chunks(-1, 7, 8)], [1, 0, -1]),
        # Of two columns the pair counts: ("a", 2) is not there though "a" and 2 are.
        ([chunks("a", "b", "a"), chunks(1, 2, 1)], [chunks("a", "b", "a", "b"), chunks(1, 2, 2, None)], [0, 1, -1, -1]),
        ([pa.chunked_array([[None]], pa.string()), chunks(1)], [chunks("a"), chunks(1)], [-1]),
    ],
    ids=["text", "integers", "two columns", "only nulls"],
)
def test_each_distinct_key_has_its_number(known, asked, codes):
    found = KeyCodes.of(known)
    assert found.code(asked).tolist() == codes
    assert len(found) == len({code for code in codes if code >= 0})
