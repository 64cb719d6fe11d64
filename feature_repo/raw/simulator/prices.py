"""Price list in USD, for world.json."""

from __future__ import annotations

from feature_repo.raw.simulator.profile import (
    ADD_ON_CENTS,
    ADD_ON_KINDS,
    INTERNET_CENTS,
    INTERNETS,
    LINE_CENTS,
    SECOND_LINE_CENTS,
)


def price_list_usd() -> dict[str, float]:
    """Return the monthly price of each service in USD.

    A customer's charge lies within a few dollars of their sum.
    """
    prices = {"line": LINE_CENTS, "second line": SECOND_LINE_CENTS}
    prices |= {net: cents for net, cents in zip(INTERNETS, INTERNET_CENTS, strict=True) if cents}
    prices |= dict(zip(ADD_ON_KINDS, ADD_ON_CENTS, strict=True))
    return {name: cents / 100 for name, cents in prices.items()}
