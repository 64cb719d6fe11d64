"""A second version of the core service, as if the contract listed it: for the length of one test."""

from __future__ import annotations

from pathlib import Path

import pytest

from bentos.bundle import Bundle
from feature_repo.contract import CORE_SERVICE, SERVICES_OF
from feature_repo.definition_hash import contract_hash
from tests.support.serving_home import another

NEXT = "churn_core_v99"


@pytest.fixture
def next_version(monkeypatch):
    """The core's features in reversed order: whoever mixes the two up reads other columns."""
    from training.model.feature_columns import DESIGNS

    monkeypatch.setitem(SERVICES_OF, NEXT, SERVICES_OF[CORE_SERVICE][::-1])
    monkeypatch.setitem(DESIGNS, NEXT, DESIGNS[CORE_SERVICE])
    return NEXT


def as_next(bundle: Bundle, home: Path, version: str, shift: float, **changes: object) -> Bundle:
    """A saved bundle that reads the next version and gives every customer ``shift`` more log-odds than ``bundle``."""
    changes |= {"service": NEXT, "features": SERVICES_OF[NEXT], "contract_hash": contract_hash(NEXT)}
    return another(bundle, home, version, shift, **changes)
