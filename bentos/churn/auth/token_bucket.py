"""Token bucket for rate limits."""

from __future__ import annotations


class TokenBucket:
    """A token bucket: at most ``burst`` requests at once, ``per_s`` per second on average (Turner 1986).

    Times are seconds of one monotonic clock.
    """

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = max(burst, 1.0)
        self._tokens = self._burst
        self._at = 0.0

    def take(self, now: float) -> float:
        """Take a token and return 0, or take none and return the seconds until one is available."""
        tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if tokens >= 1:
            self._tokens = tokens - 1
            return 0.0
        self._tokens = tokens
        return (1 - tokens) / self._per_s
