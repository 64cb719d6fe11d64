"""The receipt of a prediction, and its canonical encoding, which is signed. Pure."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Final, Literal, NamedTuple

from pydantic_core import to_json

FeatureValue = bool | int | float | str | None
ViewStatus = Literal["fresh", "stale", "expired", "unknown"]

FORMAT: Final = 1
_VALUES: Final = frozenset({bool, int, float, str, type(None)})


@dataclass(frozen=True, slots=True)
class Receipt:
    """One prediction, with everything that it was made from. Every number is finite.

    Parameters
    ----------
    prediction_id
        UUID version 7.
    answered_at
        UTC; windows over events end here.
    kind
        *what_if*: the values are those after the changes.
    customer_id
        The customer.
    bundle_digest, model_version
        The model.
    feature_service, contract_hash
        The meaning of ``values``.
    values
        Those of ``feature_service`` in contract order, None where null.
    views
        (view, event timestamp in UTC or None, status).
    probability, label, threshold, expected_profit_usd, lever
        As answered; ``lever`` is its name, None without one.
    reasons
        (code, contribution in log-odds) in the order of the answer, None where the explanation failed.
    quality
        Quality of the data that were scored.
    """

    prediction_id: str
    answered_at: datetime
    kind: Literal["predict", "what_if"]
    customer_id: str
    bundle_digest: str
    model_version: str
    feature_service: str
    contract_hash: str
    values: tuple[FeatureValue, ...]
    views: tuple[tuple[str, datetime | None, ViewStatus], ...]
    probability: float
    label: Literal["churn", "stay"]
    threshold: float
    expected_profit_usd: float
    lever: str | None
    reasons: tuple[tuple[str, float], ...] | None
    quality: Literal["full", "partial", "stale"]


def format_instant(instant: datetime) -> str:
    """Return an instant as ISO 8601 in UTC with microseconds.

    Raises
    ------
    ValueError
        For one without a time zone.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from bentos.receipts.receipt import format_instant
    >>> format_instant(datetime(2026, 1, 31, tzinfo=UTC))
    '2026-01-31T00:00:00.000000+00:00'
    """
    if instant.tzinfo is None:
        raise ValueError("an instant without a time zone: instants are UTC")
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


parse_instant = functools.lru_cache(maxsize=512)(format_instant)
"""Cache size: most customers share their event timestamps, and those answered together their instant."""


class Shared:
    """What the receipts of many customers have in common, encoded once.

    Parameters
    ----------
    kind, bundle_digest, model_version, feature_service, contract_hash, threshold, views
        As of :class:`Receipt`.

    Raises
    ------
    ValueError
        For an instant without a time zone, or a threshold that is not finite.
    """

    __slots__ = ("bundle_digest", "head", "named", "scored", "tail", "valued")

    def __init__(
        self,
        kind: str,
        bundle_digest: str,
        model_version: str,
        feature_service: str,
        contract_hash: str,
        threshold: float,
        views: tuple[tuple[str, datetime | None, ViewStatus], ...],
    ) -> None:
        self.bundle_digest = bundle_digest
        # In the order of the sorted keys, with the parts of one customer between them.
        self.head = f'","bundle_digest":{_json(bundle_digest)},"contract_hash":{_json(contract_hash)},"customer_id":'
        self.named = f',"feature_service":{_json(feature_service)},"format":{FORMAT},"kind":{_json(kind)},"label":'
        self.scored = f',"model_version":{_json(model_version)},"prediction_id":'
        self.valued = f',"threshold":{_json(_finite(threshold))},"values":'
        self.tail = f',"views":{_json([(view, at and parse_instant(at), status) for view, at, status in views])}}}'


class Draft(NamedTuple):
    """A receipt that is about to be encoded: what is the customer's own, and what is shared; as of :class:`Receipt`."""

    shared: Shared
    prediction_id: str
    answered_at: str
    """As :func:`format_instant` returns it."""
    customer_id: str
    values: tuple[FeatureValue, ...]
    probability: float
    label: str
    expected_profit_usd: float
    lever: str | None
    reasons: tuple[tuple[str, float], ...] | None
    quality: str

    def content(self) -> str:
        """Return what :func:`to_content` does."""
        shared = self.shared
        if not _VALUES.issuperset(map(type, self.values)):
            raise TypeError("a value of a type that receipts don't hold")
        # One dictionary of all would be built only to be taken apart, and what is shared encoded again.
        values, reasons = _json(self.values), _json(self.reasons)
        score, profit = _json(self.probability), _json(self.expected_profit_usd)
        # Searching for the two words is faster than checking each number. They may occur in a text too.
        for each in (values, reasons, score, profit):
            if "NaN" in each or "Infinity" in each:
                self._refuse_infinite()
        return (
            f'{{"answered_at":"{self.answered_at}{shared.head}{_json(self.customer_id)},"expected_profit_usd":{profit}{shared.named}'
            f'{_word(self.label)},"lever":{_word(self.lever)}{shared.scored}{_json(self.prediction_id)}'
            f',"probability":{score},"quality":{_word(self.quality)},"reasons":{reasons}'
            f"{shared.valued}{values}{shared.tail}"
        )

    def _refuse_infinite(self) -> None:
        numbers = [self.probability, self.expected_profit_usd]
        numbers += [value for value in self.values if isinstance(value, float)]
        numbers += [contribution for _, contribution in self.reasons or ()]
        for each in numbers:
            _finite(each)


def draft_of(receipt: Receipt) -> Draft:
    """Return the draft of one receipt. Raises as :class:`Shared` does."""
    return Draft(
        Shared(
            receipt.kind,
            receipt.bundle_digest,
            receipt.model_version,
            receipt.feature_service,
            receipt.contract_hash,
            receipt.threshold,
            receipt.views,
        ),
        receipt.prediction_id,
        parse_instant(receipt.answered_at),
        receipt.customer_id,
        receipt.values,
        receipt.probability,
        receipt.label,
        receipt.expected_profit_usd,
        receipt.lever,
        receipt.reasons,
        receipt.quality,
    )


def to_content(receipt: Receipt) -> str:
    """Return the receipt as JSON with sorted keys, in ASCII; floats keep every bit.

    Raises
    ------
    ValueError, TypeError
        For a number that is not finite, an instant without a time zone, or a value of another type than
        :class:`Receipt` names.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from bentos.receipts.receipt import Receipt, from_content, to_content
    >>> receipt = Receipt(
    ...     prediction_id="01a2", answered_at=datetime(2026, 1, 31, tzinfo=UTC), kind="predict", customer_id="C-1",
    ...     bundle_digest="ab" * 32, model_version="example", feature_service="churn_core_v1", contract_hash="cd" * 32,
    ...     values=(1, "DSL", None), views=(("customer_billing", None, "unknown"),), probability=0.62, label="churn",
    ...     threshold=0.164, expected_profit_usd=30.0, lever=None, reasons=(("CONTRACT", 1.2),), quality="full",
    ... )
    >>> from_content(to_content(receipt)) == receipt
    True
    """
    return draft_of(receipt).content()


def _json(value: object) -> str:
    content = to_json(value)
    # Asked for ASCII at once, the encoder takes twice as long.
    return (content if content.isascii() else to_json(value, ensure_ascii=True)).decode("ascii")


_word = functools.lru_cache(maxsize=512)(_json)
"""Cache size: labels, levers and qualities are few."""


def _finite(number: float) -> float:
    if not isfinite(number):
        raise ValueError("a number that is not finite")
    return number


def from_content(content: str) -> Receipt:
    """Read what :func:`to_content` wrote.

    Raises
    ------
    ValueError, KeyError, TypeError
        For anything else.
    """
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
