"""The receipt of a prediction, and its canonical encoding, which is signed. Pure."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Final, Literal

from pydantic_core import to_json

Value = bool | int | float | str | None
ViewStatus = Literal["fresh", "stale", "expired", "unknown"]

FORMAT: Final = 1
_VALUES: Final = frozenset({bool, int, float, str, type(None)})


@dataclass(frozen=True, slots=True)
class Receipt:
    """One prediction, with everything that it was made from.

    ``answered_at`` UTC; windows over events end here. ``kind`` what-if: the values are those after the changes.
    ``bundle_digest`` names the model, ``contract_hash`` the meaning of ``values``: those of ``feature_service`` in
    contract order, None where null. ``views`` are (view, event timestamp in UTC or None, status). ``probability``,
    ``label``, ``threshold``, ``expected_profit_usd`` and ``lever`` (its name, None without one) as answered.
    ``reasons`` are (code, contribution in log-odds) in the order of the answer, None where the explanation failed.
    Every number is finite.
    """

    prediction_id: str
    answered_at: datetime
    kind: Literal["predict", "what_if"]
    customer_id: str
    bundle_digest: str
    model_version: str
    feature_service: str
    contract_hash: str
    values: tuple[Value, ...]
    views: tuple[tuple[str, datetime | None, ViewStatus], ...]
    probability: float
    label: Literal["churn", "stay"]
    threshold: float
    expected_profit_usd: float
    lever: str | None
    reasons: tuple[tuple[str, float], ...] | None
    quality: Literal["full", "partial", "stale"]


def format_instant(instant: datetime) -> str:
    """Return an instant as ISO 8601 in UTC with microseconds. Raises ValueError for one without a time zone."""
    if instant.tzinfo is None:
        raise ValueError("an instant without a time zone: instants are UTC")
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


parse_instant = functools.lru_cache(maxsize=512)(format_instant)
"""Cache size: most customers share their event timestamps, and those answered together their instant."""


def to_content(receipt: Receipt) -> str:
    """Return the receipt as JSON with sorted keys, in ASCII; floats keep every bit.

    Raises
    ------
    ValueError, TypeError
        For a number that is not finite, an instant without a time zone, or a value of another type than
        :class:`Receipt` names.
    """
    if not _VALUES.issuperset(map(type, receipt.values)):
        raise TypeError("a value of a type that receipts don't hold")
    # In Rust, and a third of the time that json takes: this is most of what a receipt costs.
    content = to_json(
        # Sorted by hand: the encoder does not sort them.
        {
            "answered_at": parse_instant(receipt.answered_at),
            "bundle_digest": receipt.bundle_digest,
            "contract_hash": receipt.contract_hash,
            "customer_id": receipt.customer_id,
            "expected_profit_usd": receipt.expected_profit_usd,
            "feature_service": receipt.feature_service,
            "format": FORMAT,
            "kind": receipt.kind,
            "label": receipt.label,
            "lever": receipt.lever,
            "model_version": receipt.model_version,
            "prediction_id": receipt.prediction_id,
            "probability": receipt.probability,
            "quality": receipt.quality,
            "reasons": receipt.reasons,
            "threshold": receipt.threshold,
            "values": receipt.values,
            "views": [(view, at and parse_instant(at), status) for view, at, status in receipt.views],
        },
        ensure_ascii=True,
    )
    # Searching for the two words is faster than checking each number. They may occur in a text too.
    if b"NaN" in content or b"Infinity" in content:
        _refuse_infinite(receipt)
    return content.decode("ascii")


def _refuse_infinite(receipt: Receipt) -> None:
    numbers = [receipt.probability, receipt.threshold, receipt.expected_profit_usd]
    numbers += [value for value in receipt.values if isinstance(value, float)]
    numbers += [contribution for _, contribution in receipt.reasons or ()]
    if not all(map(isfinite, numbers)):
        raise ValueError("a number that is not finite")


def from_content(content: str) -> Receipt:
    """Read what :func:`to_content` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    known = json.loads(content)
    if known.pop("format") != FORMAT:
        raise ValueError("another format")
    reasons = known["reasons"]
    known |= {
        "answered_at": datetime.fromisoformat(known["answered_at"]),
        "values": tuple(known["values"]),
        "views": tuple(
            (view, None if at is None else datetime.fromisoformat(at), status) for view, at, status in known["views"]
        ),
        "reasons": None if reasons is None else tuple((code, contribution) for code, contribution in reasons),
    }
    return Receipt(**known)
