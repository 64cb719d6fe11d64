"""Decoding of text by its byte-order mark, and normalization to NFC. Pure.

Used for configuration files, extracts and event files.
"""

from __future__ import annotations

import codecs
import itertools
import re
import unicodedata
from typing import Final

MARK: Final = "\ufeff"
"""The byte-order mark as a character: meaningless at the beginning of a text, even if repeated."""
_MARKS: Final = (
    # UTF-32's little-endian mark begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Shorter runs are left to unicodedata.normalize, whatever they hold: its cost is bounded there.
_LONG: Final = re.compile(r"[^\x00-\x7f]{256,}")


def encoding_of(head: bytes) -> str:
    """Return the encoding by the byte-order mark in a text's first four bytes; ``utf-8`` without a mark."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")


def decoded(content: bytes) -> str:
    """Return the text of ``content`` without leading byte-order marks.

    Raises UnicodeDecodeError for invalid text.
    """
    return content.decode(encoding_of(content[:4])).lstrip(MARK)


def composed(text: str) -> str:
    """Return ``text`` in NFC (composed letters), in time linear in its length.

    ``unicodedata.normalize`` sorts the combining marks after a letter by insertion: a million of them, which fit into
    one line, would take it an hour.
    """
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", _LONG.sub(lambda found: _decomposed(found[0]), text))


def _decomposed(text: str) -> str:
    """Return the NFD of ``text``, the marks between letters sorted by their combining classes."""
    characters = itertools.chain.from_iterable(unicodedata.normalize("NFD", each) for each in text)
    runs = itertools.groupby(characters, key=lambda each: unicodedata.combining(each) > 0)
    return "".join("".join(sorted(run, key=unicodedata.combining) if marks else run) for marks, run in runs)
