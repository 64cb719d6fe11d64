"""Economics of a retention campaign: costs, gains, profit threshold and expected profit.

The profit of contacting one customer follows Verbraken, Verbeke and Baesens (2013), "A novel profit maximizing
metric for measuring classification performance of customer churn prediction models", IEEE TKDE 25(5), 961-973:

* a churner accepts the offer with probability gamma and stays: gamma * (clv - incentive) - contact;
* a stayer takes the incentive anyway: -(incentive + contact);
* a customer who is not contacted costs and earns nothing.

See docs/decisions/0028-levers.md.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from configs.errors import EXIT_USAGE, ChurnError
from configs.settings import CONFIG_DIR
from configs.text import decoded
from feature_repo.files.regular_files import read_regular

ECONOMICS_FILE: Final = CONFIG_DIR / "economics.toml"


class EconomicsError(ChurnError):
    """The costs and gains of a campaign contradict each other or are unreadable."""

    error = "economics_invalid"
    exit_code = EXIT_USAGE
    http_status = 503


@dataclass(frozen=True)
class Economics:
    """Costs and gains of a retention campaign.

    Parameters
    ----------
    clv_usd
        Lifetime value of a customer who stays, above ``incentive_usd``.
    incentive_usd
        Cost of the offer when accepted, at least 0 (``d`` of the paper).
    contact_usd
        Cost of one contact, at least 0 (``f`` of the paper).
    accept_alpha, accept_beta
        A churner accepts with probability gamma ~ Beta(accept_alpha, accept_beta), both above 0.

    Raises
    ------
    EconomicsError
        If a value is not a finite number, has the wrong sign, or contacting a churner would pay no more than not
        contacting one: no campaign could then be worth its cost, and the threshold would lie at or above 1.

    Examples
    --------
    >>> from bentos.decisions.economics import Economics, expected_profit_usd, profit_threshold
    >>> economics = Economics(clv_usd=200.0, incentive_usd=10.0, contact_usd=1.0)
    >>> round(profit_threshold(economics), 3)
    0.164
    >>> round(expected_profit_usd(0.5, economics), 2), round(expected_profit_usd(0.1, economics), 2)
    (22.5, -4.3)
    """

    clv_usd: float = 200.0
    incentive_usd: float = 10.0
    contact_usd: float = 1.0
    accept_alpha: float = 6.0
    accept_beta: float = 14.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise EconomicsError(f"{field.name} is {value!r}, not a finite number", "see configs/economics.toml")
        for name in ("incentive_usd", "contact_usd"):
            if getattr(self, name) < 0:
                raise EconomicsError(f"{name} is {getattr(self, name):g}: a cost below 0", "write costs as positive")
        for name in ("accept_alpha", "accept_beta"):
            if getattr(self, name) <= 0:
                raise EconomicsError(f"{name} is {getattr(self, name):g}", "a Beta distribution needs it above 0")
        if self.clv_usd <= self.incentive_usd:
            raise EconomicsError(
                f"clv_usd {self.clv_usd:g} is not above incentive_usd {self.incentive_usd:g}",
                "a customer who stays must be worth more than the offer that keeps them",
            )
        if self.gain_usd <= 0:
            raise EconomicsError(
                f"missing a churner pays as much as catching one or more: the expected gain is {self.gain_usd:.2f} USD",
                "raise clv_usd or the accept rate, or lower contact_usd",
            )

    @property
    def accept_mean(self) -> float:
        """Expected share of contacted churners who accept, in (0, 1)."""
        return self.accept_alpha / (self.accept_alpha + self.accept_beta)

    @property
    def gain_usd(self) -> float:
        """Expected profit of contacting one churner, in USD; missing one is 0."""
        return self.accept_mean * (self.clv_usd - self.incentive_usd) - self.contact_usd

    @property
    def waste_usd(self) -> float:
        """Cost of contacting one stayer, in USD, at least 0."""
        return self.incentive_usd + self.contact_usd


def load_economics(path: Path = ECONOMICS_FILE) -> Economics:
    """Read a campaign's costs and gains from TOML; a missing key keeps the paper's value.

    Raises
    ------
    EconomicsError
        If the file is missing or not TOML, holds an unknown key, or :class:`Economics` refuses its values.
    """
    try:
        values: dict[str, Any] = tomllib.loads(decoded(read_regular(path)))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as broken:
        # The service shows this error too: only the file's name, not its folder.
        detail = broken.strerror if isinstance(broken, OSError) else broken
        raise EconomicsError(
            f"cannot read {path.name}: {detail}", "see configs/economics.toml for the form"
        ) from broken
    known = {field.name for field in fields(Economics)}
    if unknown := sorted(values.keys() - known):
        raise EconomicsError(
            f"unknown key {', '.join(unknown)} in {path.name}", f"known keys: {', '.join(sorted(known))}"
        )
    return Economics(**values)


def profit_threshold(economics: Economics) -> float:
    """Return the score above which contacting pays, for calibrated scores: a number in [0, 1).

    A customer with probability p of leaving brings ``p * gain - (1 - p) * waste`` in expectation over gamma (the
    profit is linear in gamma, so that its mean alone matters). This is above 0 exactly if

        p > waste / (gain + waste) = (incentive + contact) / (E[gamma] * (clv - incentive) + incentive).

    The paper's values give 11 / 67 = 0.164. It depends on no sample, hence is the threshold to serve with, as
    long as the scores are calibrated; ``training.metrics.profit.best_targeting`` shows what the sample itself would
    choose.
    """
    return economics.waste_usd / (economics.gain_usd + economics.waste_usd)


@overload
def expected_profit_usd(probability: float, economics: Economics) -> float: ...
@overload
def expected_profit_usd(probability: NDArray[np.float64], economics: Economics) -> NDArray[np.float64]: ...
def expected_profit_usd(probability: float | NDArray[np.float64], economics: Economics) -> float | NDArray[np.float64]:
    """Return the mean profit of contacting a customer, in USD, compared with not contacting them (0).

    Parameters
    ----------
    probability
        Calibrated probability of leaving, in [0, 1]: one, or (n,) float64; NaN gives NaN.
    economics
        The campaign.

    The paper's profit of one customer in expectation over gamma: ``p * gain - (1 - p) * waste``. It is 0 at
    :func:`profit_threshold`, below 0 under it, and at most ``gain_usd``.
    """
    return probability * economics.gain_usd - (1 - probability) * economics.waste_usd
