"""Receipts to write, lose, change and replay."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from hypothesis import strategies as st
from pydantic import SecretStr

from bentos.receipts import Receipt
from configs.settings import Settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, features_of
from feature_repo.definition_hash import contract_hash

if TYPE_CHECKING:
    from bentos.bundle import Bundle

NOW = datetime(2026, 11, 30, 10, 15, 0, 123456, tzinfo=UTC)
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_INSTANTS = st.datetimes(timezones=st.just(UTC)).map(lambda instant: instant.replace(fold=0))
_WORDS = st.text(max_size=20)
_VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), _FINITE, _WORDS)

RECEIPTS = st.builds(
    Receipt,
    prediction_id=st.uuids().map(str),
    answered_at=_INSTANTS,
    kind=st.sampled_from(["predict", "what_if"]),
    customer_id=st.text(st.characters(categories=("L", "Nd"), include_characters="_-."), min_size=1, max_size=64),
    bundle_digest=st.binary(min_size=32, max_size=32).map(bytes.hex),
    model_version=_WORDS,
    feature_service=_WORDS,
    contract_hash=_WORDS,
    values=st.lists(_VALUES, max_size=40).map(tuple),
    views=st.lists(
        st.tuples(_WORDS, st.none() | _INSTANTS, st.sampled_from(["fresh", "stale", "expired", "unknown"])), max_size=6
    ).map(tuple),
    probability=st.floats(0, 1),
    label=st.sampled_from(["churn", "stay"]),
    threshold=st.floats(0, 1),
    expected_profit_usd=_FINITE,
    lever=st.none() | _WORDS,
    reasons=st.none() | st.lists(st.tuples(_WORDS, _FINITE), max_size=5).map(tuple),
    quality=st.sampled_from(["full", "partial", "stale"]),
)
"""Any receipt: odd texts, tiny and huge numbers, both zeros."""


def a_receipt(**changes: object) -> Receipt:
    """A plausible receipt with an id of its own."""
    sample = {"bool": True, "int64": 12, "float64": 70.35, "string": None}
    features = features_of(CORE_SERVICE)
    made = Receipt(
        prediction_id=str(uuid4()),
        answered_at=NOW,
        kind="predict",
        customer_id="7590-VHVEG",
        bundle_digest="5d" * 32,
        model_version="20261122T191714",
        feature_service=CORE_SERVICE,
        contract_hash=contract_hash(CORE_SERVICE),
        values=tuple(each.categories[0] if each.categories else sample[each.dtype] for each in features),
        views=(("customer_contract", NOW - timedelta(days=3), "fresh"), ("customer_usage", None, "unknown")),
        probability=0.7337686043046286,
        label="churn",
        threshold=0.16417910447761194,
        expected_profit_usd=12.5,
        lever="one_year_contract",
        reasons=(("CONTRACT", 1.4969483792644975), ("TENURE", -0.25)),
        quality="full",
    )
    return replace(made, **changes)


def keeping(settings: Settings, **changes: object) -> Settings:
    """The settings with other values in section receipts."""
    known = {name: SecretStr(str(value)) for name, value in changes.items() if name in {"database_url", "signing_key"}}
    return settings.model_copy(update={"receipts": settings.receipts.model_copy(update=changes | known)})


@functools.cache
def replayable(home: Path) -> Bundle:
    """A small bundle with the real reason dictionary, saved below the home."""
    from bentos.decisions.reason_codes import PATH as REASON_CODES
    from tests.support.small_model import small_bundle

    return replace(small_bundle(), reason_codes=REASON_CODES.read_text("utf-8")).save(home)


def receipts_of(bundle: Bundle, customers: int, *, at_once: int = 64) -> list[Receipt]:
    """What the service would keep of answers to so many simulated customers, scored in blocks."""
    from bentos.decisions.reason_codes import parse_reason_codes
    from feature_repo.stores.casting import to_python_values
    from tests.support.small_model import features_of_snapshot, simulated

    dictionary = parse_reason_codes(bundle.reason_codes, bundle.manifest.service)
    snapshot = simulated(customers, seed=11)
    frame, names = features_of_snapshot(snapshot), features_of(CORE_SERVICE)
    made = []
    for start in range(0, customers, at_once):
        block = frame.iloc[start : start + at_once]
        columns = [to_python_values(feature, block[feature.name].tolist()) for feature in names]
        explained = bundle.explain(block)
        for place, values in enumerate(zip(*columns, strict=True)):
            leaves = bool(explained.score[place] >= bundle.manifest.threshold)
            reasons = dictionary.reasons(explained.contributions[place], values, leaves=leaves, most=3)
            made.append(
                a_receipt(
                    customer_id=str(snapshot[CUSTOMER].iloc[start + place]),
                    bundle_digest=bundle.digest,
                    model_version=bundle.manifest.model_version,
                    values=values,
                    probability=float(explained.score[place]),
                    label="churn" if leaves else "stay",
                    threshold=bundle.manifest.threshold,
                    reasons=tuple((reason.code, reason.contribution) for reason in reasons),
                )
            )
    return made
