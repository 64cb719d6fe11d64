"""A contract's hash covers what its features mean: declaration, computation, and what both read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from feature_repo import contract, definition_hash
from feature_repo.contract import BEHAVIOR_SERVICE, CORE_SERVICE, SAME_CONTRACTS, SERVICES_OF
from feature_repo.definition_hash import (
    CONTRACT_FILE,
    TRANSFORMS_FILE,
    canonical,
    changed_features,
    contract_hash,
    feature_hashes,
    same_contract,
)

TRANSFORMS = Path(definition_hash.__file__).with_name("transforms.py").read_text()
EARLIER = {
    CORE_SERVICE: "13460bdb6b6e8485e51869a22e3acee47a45f930244cec6c05806ce76133a951",
    BEHAVIOR_SERVICE: "c454a0744a27071af15dcedeff12b77b5d1168f2d3be84400996b7e357ba61df",
}
"""What bundles hold that were made before transforms were part of the hash."""
SUPPORT = ("tickets_30d", "tickets_90d", "tickets_open", "resolution_hours_90d")


@pytest.fixture(autouse=True)
def fresh():
    yield
    forget()


def forget():
    definition_hash.feature_hash.cache_clear()
    definition_hash._computation.cache_clear()


def hashes_of(monkeypatch, source):
    monkeypatch.setattr(definition_hash, "_transforms", lambda: source)
    forget()
    return feature_hashes(BEHAVIOR_SERVICE)


def test_the_versions_that_bundles_were_trained_on_mean_what_they_meant():
    """Fails after a change of a transform or of the contract under a name that bundles have.

    Where values differ: give the feature a new name, in a new version. Where none does: list the hash before under the
    new one in SAME_CONTRACTS.
    """
    assert {name: canonical(known) for name, known in EARLIER.items()} == {
        name: contract_hash(name) for name in EARLIER
    }
    assert set(SAME_CONTRACTS) == {contract_hash(name) for name in EARLIER}


def test_an_earlier_hash_is_that_of_its_own_service_only():
    assert same_contract(CORE_SERVICE, EARLIER[CORE_SERVICE])
    assert same_contract(CORE_SERVICE, contract_hash(CORE_SERVICE))
    assert not same_contract(CORE_SERVICE, EARLIER[BEHAVIOR_SERVICE])
    assert not same_contract("churn_core_v9", EARLIER[CORE_SERVICE])
    assert not same_contract(CORE_SERVICE, "")


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        # Layout, comments, docstrings, annotations.
        ("def _count(answers: Sequence[Any]) -> int | None:", 'def _count(answers):\n    """Words."""', ()),
        ("    # Every spelling of a missing value (None, NaN, NA) is no string, so that one rule follows.\n", "", ()),
        # A function that one feature calls, and an entry.
        ('method.endswith("(automatic)")', 'method.startswith("Bank")', ("automatic_payment",)),
        ('"tickets_30d": _total(tickets_on, ticket_counts, today, 30)', '"tickets_30d": 0', ("tickets_30d",)),
        # What an entry reads.
        ("month, quarter = (", "month, quarter = sorted(", ("usage_data_mb_30d", "usage_data_mb_90d", "usage_trend")),
        ('{"One year": 12, "Two year": 24}', '{"One year": 12}', ("months_since_anniversary", "months_to_renewal")),
        # A tile under a window, and what sums it.
        ('"resolution_hours": "resolution_hours"', '"resolution_hours": "0"', ("resolution_hours_90d",)),
        # A new entry next to the others changes none of them.
        ('"tickets_90d": _total(', '"tickets_7d": _total(tickets_on, [], today, 7), "tickets_90d": _total(', ()),
        ("for name in PROTECTION), strict", "for name in ADD_ONS), strict", ("protection_count",)),
    ],
)  # fmt: skip
def test_the_hash_follows_the_computation(monkeypatch, old, new, changed):
    before = feature_hashes(BEHAVIOR_SERVICE)
    assert old in TRANSFORMS
    after = hashes_of(monkeypatch, TRANSFORMS.replace(old, new))
    assert tuple(sorted(name for name in before if before[name] != after[name])) == changed
    assert changed_features(BEHAVIOR_SERVICE, before) == dict.fromkeys(changed, TRANSFORMS_FILE)


def test_the_rule_of_all_windows_is_part_of_each(monkeypatch):
    before = feature_hashes(BEHAVIOR_SERVICE)
    after = hashes_of(monkeypatch, TRANSFORMS.replace("bisect_right(on, today - days)", "bisect_right(on, today)"))
    changed = {name for name in before if before[name] != after[name]}
    assert changed >= {*SUPPORT[:2], "logins_30d", "price_change_usd_90d"}
    assert not changed & set(SERVICES_OF[CORE_SERVICE])


def test_a_constant_of_the_contract_is_part_of_what_reads_it(monkeypatch):
    before = feature_hashes(BEHAVIOR_SERVICE)
    monkeypatch.setattr(contract, "PROTECTION", contract.PROTECTION[:3])
    forget()
    assert changed_features(BEHAVIOR_SERVICE, before) == {"protection_count": TRANSFORMS_FILE}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"description": "other words"}, True),
        ({"unit": "years"}, False),
        ({"column": "tenure_days"}, False),
        ({"dtype": "float64"}, False),
        ({"nullable": True}, False),
    ],
)
def test_the_hash_follows_the_declaration_and_not_its_words(monkeypatch, change, same):
    before, now = feature_hashes(BEHAVIOR_SERVICE), contract_hash(CORE_SERVICE)
    monkeypatch.setitem(contract.BY_NAME, "tenure_months", replace(contract.BY_NAME["tenure_months"], **change))
    forget()
    assert (contract_hash(CORE_SERVICE) == now) is same
    # What is computed from it differs with it.
    after = {"tenure_months": CONTRACT_FILE, "months_since_anniversary": TRANSFORMS_FILE}
    assert changed_features(BEHAVIOR_SERVICE, before) == (
        {} if same else after | {"months_to_renewal": TRANSFORMS_FILE}
    )


def test_the_hash_follows_the_order_and_the_name(monkeypatch):
    monkeypatch.setitem(SERVICES_OF, "churn_core_v2", SERVICES_OF[CORE_SERVICE])
    monkeypatch.setitem(SERVICES_OF, "churn_core_v3", SERVICES_OF[CORE_SERVICE][::-1])
    assert len({contract_hash(name) for name in (CORE_SERVICE, "churn_core_v2", "churn_core_v3")}) == 3
    assert changed_features("churn_core_v2", feature_hashes(CORE_SERVICE)) == {}


def test_a_feature_that_one_side_lacks_differs_in_the_contract(monkeypatch):
    monkeypatch.setitem(SERVICES_OF, "churn_core_v2", (*SERVICES_OF[CORE_SERVICE][1:], "tickets_30d"))
    assert changed_features("churn_core_v2", feature_hashes(CORE_SERVICE)) == {
        "partner": CONTRACT_FILE,
        "tickets_30d": CONTRACT_FILE,
    }
