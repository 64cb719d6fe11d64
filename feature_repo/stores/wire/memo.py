"""Bounded cache of a pure function's results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_MAX_BYTES: Final = 1 << 20
_ENTRY_BYTES: Final = 32


class BoundedCache(dict[Any, Any]):
    """Cache of a pure function's results by argument: ``memo[argument]``.

    Arguments are bytes, text, numbers or None. When their sizes add up to ``max_bytes``, the cache is cleared. Threads
    may share one: the worst that a race does is to compute a value twice.
    """

    def __init__(self, compute: Callable[[Any], Any], max_bytes: int = _MAX_BYTES) -> None:
        super().__init__()
        self._compute = compute
        self._max_bytes = max_bytes
        self._bytes = 0

    def __missing__(self, argument: Any) -> Any:
        found = self._compute(argument)
        self._bytes += _ENTRY_BYTES + (len(argument) if isinstance(argument, (bytes, str)) else 0)
        if self._bytes > self._max_bytes:
            self.clear()
            self._bytes = 0
        self[argument] = found
        return found
