"""Text of people in one line of output."""

from __future__ import annotations

import sys

import pytest

from configs.printable import printable, unprintable


@pytest.mark.parametrize("text", ["", "Zoë Šimić, 北京", "a\u00a0b", "C:\\new", "e\u0301", "\u200d"])
def test_what_can_be_read_stays(text):
    assert printable(text) == text
    assert unprintable(text) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", r"a\nb"), ("\x1b[31m", r"\x1b[31m"), ("\x9b2J", r"\x9b2J"), ("\u2028", r"\u2028"), ("\udc80", r"\udc80")],
)
def test_what_moves_the_terminal_is_shown_as_text(text, shown):
    assert printable(text) == shown


@pytest.mark.slow
def test_whatever_is_written_is_one_line():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = printable(everything)
    assert len(shown.splitlines()) == 1
    assert printable(shown) == shown
    shown.encode()
