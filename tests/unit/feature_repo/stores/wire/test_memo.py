"""What was computed once is not computed again, and never grows without end."""

from __future__ import annotations

from feature_repo.stores.wire.memo import BoundedCache


def counting():
    asked = []
    return asked, BoundedCache(lambda argument: asked.append(argument) or argument, max_bytes=200)


def test_an_argument_is_computed_once():
    asked, memo = counting()
    assert [memo[each] for each in (b"a", None, b"a", None, "x", 7, 7)] == [b"a", None, b"a", None, "x", 7, 7]
    assert asked == [b"a", None, "x", 7]


def test_when_it_is_full_it_starts_anew():
    _, memo = counting()
    for number in range(100):
        assert memo[b"%d" % number] == b"%d" % number
        assert len(memo) <= 6  # 32 bytes are counted for an entry, and its argument
    assert memo[b"99"] == b"99"


def test_an_argument_beyond_the_limit_is_answered_too():
    _, memo = counting()
    assert memo[b"x" * 1000] == b"x" * 1000
