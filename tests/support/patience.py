"""Waiting for what must come true: how long that takes says nothing, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

Answer = TypeVar("Answer")
PATIENCE_S = 240.0
"""After so long it will never come true. No test asserts a time; this one is below pytest's own, so that it is told."""


def until(
    ask: Callable[[], Answer], wanted: Callable[[Answer], object] = bool, *, patience_s: float = PATIENCE_S
) -> Answer:
    """Ask again and again until the answer is as wanted, and return it."""
    ends_at = time.monotonic() + patience_s
    while not wanted(found := ask()):
        assert time.monotonic() < ends_at, f"it never came true: {found}"
        time.sleep(0.01)
    return found


def reached(url: str) -> httpx.Response | None:
    """Return what a server answers, None while it takes no connection."""
    try:
        return httpx.get(url, timeout=PATIENCE_S)
    except httpx.TransportError:
        return None
