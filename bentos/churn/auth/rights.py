"""What a key may be given, and which of it each path needs. Pure; standard library only: `churn --help` reads it."""

from __future__ import annotations

from typing import Final, Literal, get_args

Right = Literal["predict", "receipts", "metrics"]
RIGHTS: Final[tuple[Right, ...]] = get_args(Right)

OPEN_PATHS: Final = frozenset({"/health", "/livez", "/readyz"})
"""Whoever starts, stops or balances the service has no key."""
PAGE: Final = "/ui"
"""What a person opens: a browser is asked for the key as for a password."""
SCORING: Final = frozenset[Right]({"predict", "receipts"})
"""Rights to what costs work: these requests are limited in number."""


def right_of(path: str) -> Right | None:
    """Return the right that ``path`` needs; None: any valid key will do, also where there is no such route."""
    if path.startswith("/predict"):
        if path == "/predict" or path.startswith("/predict/"):
            return "predict"
        if path.startswith("/predictions/"):
            return "receipts"
    return "metrics" if path == "/metrics" else None


def template(path: str, routes: frozenset[str]) -> str:
    """Return the route's template for a path, "other" for what is none: few names, and nothing that a caller typed."""
    if path in routes:
        return path
    parent = f"{path.rpartition('/')[0]}/{{"
    return next((route for route in routes if route.startswith(parent)), "other")
