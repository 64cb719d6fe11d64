"""Find where a request ends in the bytes of a connection, so that one at a time is parsed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_END: Final = b"\r\n\r\n"
"""Ends every head and every chunked body: the parser rejects a bare line feed. Within chunks it has no meaning."""
_OVERLAP: Final = len(_END) - 1


class RequestBoundaries:
    """Splits the bytes of one connection into parts, none of which spans two requests.

    A part is a head or less, a body of known length or less, or a piece of a chunked body.
    """

    __slots__ = ("_left", "_tail")

    def __init__(self) -> None:
        self._left = 0
        self._tail = b""
        """The last bytes of an incomplete part: its end may begin in them."""

    def begin_body(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Begin the body of a complete head, whose headers the parser has checked.

        Return whether the body is plain or chunked: the parser passes other transfer codings on undecoded.
        """
        for name, value in headers:
            if name == b"content-length":
                self._left = int(value)
            elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
                return False
        return True

    def end(self, data: bytes, at: int) -> int:
        """Return the end of the part that begins at ``at`` in ``data``, at most ``len(data)``; consumes it."""
        if self._left:
            end = min(len(data), at + self._left)
            self._left -= end - at
            return end
        if self._tail:
            found = (self._tail + data[at : at + _OVERLAP]).find(_END)
            if found >= 0:
                end = at + found + len(_END) - len(self._tail)
                self._tail = b""
                return end
        found = data.find(_END, at)
        if found >= 0:
            self._tail = b""
            return found + len(_END)
        self._tail = (self._tail + data[max(at, len(data) - _OVERLAP) :])[-_OVERLAP:]
        return len(data)
