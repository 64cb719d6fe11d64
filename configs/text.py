"""Text as other programs write it: UTF-8 with or without a byte-order mark, UTF-16 and UTF-32 with one."""

from __future__ import annotations

import codecs
from typing import Final

MARK: Final = "\ufeff"
"""The byte-order mark as a character: of no meaning at the beginning of a text, however often it stands there."""
_MARKS: Final = (
    # UTF-32's little-endian mark begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(head: bytes) -> str:
    """Return the encoding that the first four bytes of a text announce; ``utf-8`` where they announce none."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")


def decoded(content: bytes) -> str:
    """Return a text without its byte-order marks. Raises UnicodeDecodeError for what is no text."""
    return content.decode(encoding_of(content[:4])).lstrip(MARK)
