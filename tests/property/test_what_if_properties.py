"""What holds of every customer that the contract allows, whatever would be different."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bentos.decisions.counterfactuals import WhatIfRefusedError, _planner, apply_changes, check_changes, differences
from bentos.decisions.levers import Levers, by_name, contradictions, load_levers
from bentos.decisions.reason_codes import load_reason_codes as load_reasons
from feature_repo.contract import (
    ADD_ONS,
    BEHAVIOR_SERVICE,
    CORE_SERVICE,
    SERVICES_OF,
    STORED,
    Feature,
    features_of,
)
from feature_repo.raw.snapshots.telco_csv import normalise, read_raw
from feature_repo.transforms import derive, milestones
from tests.support.customers import recommended, vectors_of

LEVERS = {service: load_levers(service, load_reasons(service)) for service in (CORE_SERVICE, BEHAVIOR_SERVICE)}
COMPUTED = tuple(derive({name: [None] for name in (*ADD_ONS, "payment_method")})) + tuple(
    milestones({"tenure_months": [None], "contract_type": [None]})
)
CASES = settings(max_examples=50, deadline=None)

services = st.sampled_from(sorted(LEVERS))


def whole(service: str, values: dict[str, object]) -> tuple[object, ...]:
    """The values with their derived features from scratch, in the contract's order."""
    columns = {name: [value] for name, value in values.items()}
    found = values | {name: column[0] for name, column in (derive(columns) | milestones(columns)).items()}
    return tuple(found[name] for name in SERVICES_OF[service])


def domain(feature: Feature) -> st.SearchStrategy[object]:
    if feature.dtype == "bool":
        return st.booleans()
    if feature.categories:
        return st.sampled_from(feature.categories)
    # Prices in cents, as bills have them; counts and months.
    values = st.integers(0, 12_000).map(lambda cents: cents / 100) if feature.dtype == "float64" else st.integers(0, 90)
    return values | st.none() if feature.nullable else values


@st.composite
def customers(draw: st.DrawFn, service: str) -> tuple[object, ...]:
    """Any customer that the contract and the quality gate allow."""
    values = {feature.name: draw(domain(feature)) for feature in features_of(service)}
    for name in ADD_ONS:
        lacks = values["internet_service"] == "No"
        values[name] = "No internet service" if lacks else draw(st.sampled_from(["No", "Yes"]))
    values["multiple_lines"] = draw(st.sampled_from(["No", "Yes"])) if values["phone_service"] else "No phone service"
    return whole(service, values)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Levers, tuple[object, ...], dict[str, object]]:
    """A customer and a what-if that is allowed and changes something."""
    levers = LEVERS[draw(services)]
    values = draw(customers(levers.service))
    choices = draw(
        st.lists(st.sampled_from(levers.actionable(values)), min_size=1, unique_by=lambda each: each.feature)
    )
    steps = st.integers(0, 2040).map(lambda step: 18 + step / 20)
    asked = {
        draw(st.sampled_from([each.feature, each.column])): draw(
            st.sampled_from(each.allowed) if each.allowed else steps
        )
        for each in choices
    }
    own = by_name(levers.features, values)
    assume(any(own[each.feature] != value for each, value in zip(choices, asked.values(), strict=True)))
    return levers, values, asked


@CASES
@given(services.flatmap(lambda service: st.tuples(st.just(service), customers(service))), st.data())
def test_a_customers_own_values_are_no_what_if(case, data):
    service, values = case
    levers = LEVERS[service]
    own = {
        each.feature: each.value for each in levers.actionable(values) if levers.choices[each.feature].takes(each.value)
    }
    asked = data.draw(
        st.dictionaries(st.sampled_from(sorted(own)), st.none()).map(lambda some: {n: own[n] for n in some})
    )
    with pytest.raises(WhatIfRefusedError, match="nothing changes"):
        check_changes(levers, values, asked)


@CASES
@given(questions())
def test_derived_features_are_those_of_the_changed_customer_from_scratch(question):
    levers, values, asked = question
    changes = check_changes(levers, values, asked)
    assert changes
    after = apply_changes(levers.service, values, changes)
    assert after == whole(levers.service, by_name(levers.features, values) | changes)
    # Windows over events, and all that nobody asked to change, are what they were.
    kept = set(SERVICES_OF[levers.service]) - set(changes) - set(COMPUTED)
    differ = differences(levers.service, values, after)
    assert not kept & {each.feature for each in differ}
    assert {each.feature for each in differ if not each.derived} == set(changes)


@CASES
@given(questions())
def test_a_change_and_its_reverse_restore_every_value(question):
    levers, values, asked = question
    changes = check_changes(levers, values, asked)
    own = by_name(levers.features, values)
    after = apply_changes(levers.service, values, changes)
    assert apply_changes(levers.service, after, {name: own[name] for name in changes}) == values


@CASES
@given(questions())
def test_what_is_allowed_makes_a_customer_that_may_be(question):
    levers, values, asked = question
    after = by_name(levers.features, apply_changes(levers.service, values, check_changes(levers, values, asked)))
    assert possible(levers, after)


def possible(levers: Levers, values: dict[str, object]) -> bool:
    words = all(
        type(values[f.name]) is bool if f.dtype == "bool" else not f.categories or values[f.name] in f.categories
        for f in levers.features
    )
    return words and not contradictions(values, values)


def weighing(seed: int, features: int):
    """A score by random weights, coarse enough that there are ties."""
    weights = np.random.default_rng(seed).integers(-2, 3, features)

    def score(vectors: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.nan_to_num(vectors, nan=-1) @ weights / 50))

    return score


def brute_force(levers: Levers, values: tuple[object, ...], score) -> tuple[str, float] | None:
    def alone(row: tuple[object, ...]) -> float:
        return float(score(vectors_of(levers, [row]))[0])

    own = by_name(levers.features, values)
    found = [
        (lever.name, alone(whole(levers.service, own | dict(lever.changes))), lever.accept_share)
        for lever in levers.levers
        if all(own[name] in allowed for name, allowed in lever.when.items())
    ]
    name, after, share = max(found, key=lambda each: each[2] * (alone(values) - each[1]), default=("", 0.0, 0.0))
    return (name, after) if share * (alone(values) - after) > 0 else None


@pytest.mark.slow
@CASES
@given(
    services.flatmap(lambda service: st.tuples(st.just(service), st.lists(customers(service), min_size=1, max_size=5))),
    st.integers(0, 1000),
)
def test_the_recommended_lever_is_that_of_trying_them_all(case, seed):
    service, rows = case
    levers = LEVERS[service]
    score = weighing(seed, len(levers.features))
    found = recommended(levers, rows, lambda vectors: np.array([score(each[None])[0] for each in vectors]))
    assert [each and (each.lever.name, each.score) for each in found] == [
        brute_force(levers, values, score) for values in rows
    ]


def test_every_shipped_lever_makes_a_possible_customer_of_everybody_in_the_file(telco_csv):
    snapshot = normalise(read_raw(telco_csv, file_size_max_mb=64, cell_length_max_chars=1000))
    columns = {feature.name: snapshot[feature.name].tolist() for feature in STORED if not feature.protected}
    kinds = set(zip(*(columns[name] for name in _read()), strict=True))
    tried = {lever.name: 0 for lever in LEVERS[CORE_SERVICE].levers}
    template = {name: column[0] for name, column in columns.items()}
    for kind in kinds:
        values = template | dict(zip(_read(), kind, strict=True))
        row = whole(CORE_SERVICE, values)
        assert possible(LEVERS[CORE_SERVICE], by_name(features_of(CORE_SERVICE), row))
        for lever in LEVERS[CORE_SERVICE].options(row):
            after = apply_changes(CORE_SERVICE, row, lever.changes)
            assert after != row
            assert possible(LEVERS[CORE_SERVICE], by_name(features_of(CORE_SERVICE), after))
            tried[lever.name] += 1
    assert all(tried.values()), tried


def _read() -> tuple[str, ...]:
    """All words and yes or no of a customer: what a lever, a rule or a derived feature can depend on."""
    return tuple(f.name for f in STORED if not f.protected and (f.categories or f.dtype == "bool"))


def test_a_new_set_of_levers_has_plans_of_its_own():
    first, second = (dataclasses.replace(LEVERS[CORE_SERVICE]) for _ in range(2))
    assert _planner(first) is _planner(first)
    assert _planner(first) is not _planner(second)
