"""Rights of API keys, and the right that each path needs. Pure.

Standard library only: `churn --help` reads it.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Right = Literal["predict", "receipts", "metrics"]
RIGHTS: Final[tuple[Right, ...]] = get_args(Right)

OPEN_PATHS: Final = frozenset({"/health", "/livez", "/readyz"})
"""Paths without a key: process managers and load balancers have none."""
PAGE: Final = "/ui"
"""The page for people."""
BROWSED: Final = frozenset({"/", PAGE})
"""Paths for a browser, which asks for the key as for a password; the first leads to the second."""
SCORING: Final = frozenset[Right]({"predict", "receipts"})
"""Rights to expensive routes: these requests are rate-limited."""


def right_of(path: str) -> Right | None:
    """Return the right that ``path`` needs; None: any valid key, also if there is no such route."""
    if path.startswith("/predict"):
        if path == "/predict" or path.startswith("/predict/"):
            return "predict"
        if path.startswith("/predictions/"):
            return "receipts"
    return "metrics" if path == "/metrics" else None


def template(path: str, routes: frozenset[str]) -> str:
    """Return a path's route template, "other" if there is none: few names, and no text of a caller."""
    if path in routes:
        return path
    parent = f"{path.rpartition('/')[0]}/{{"
    return next((route for route in routes if route.startswith(parent)), "other")
