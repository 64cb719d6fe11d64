"""Escaping of unprintable characters in text from users and files. Pure.

Used where such text is shown in one line of a terminal or of a log, and to check command-line parameters.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters (line ends, escape sequences), lone surrogates, separators of lines and paragraphs."""
_DIRECTIONS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that change the direction of writing: they show a text in another order than it is stored."""


def unprintable(text: str) -> str:
    """Return the first character of ``text`` that is not allowed in one line of output, "" if none is."""
    return next((each for each in text if each in _DIRECTIONS or unicodedata.category(each) in _CATEGORIES), "")


def printable(text: str) -> str:
    r"""Return ``text`` in one line, unprintable characters escaped as in Python: a line end as ``\n``."""
    if not unprintable(text):
        return text
    return "".join(ascii(each)[1:-1] if unprintable(each) else each for each in text)
