"""What would be different: which changes are taken, what follows from them, and which lever lowers the score most."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace

import numpy as np
import pytest

from bentos.decisions.counterfactuals import (
    PLANS_MAX,
    WHAT_IF_NOTE,
    ChangedValue,
    Recommendation,
    WhatIfRefusedError,
    _planner,
    apply_changes,
    check_changes,
    differences,
    lever_candidates,
)
from bentos.decisions.feature_words import spoken
from bentos.decisions.levers import load_levers, parse_levers
from bentos.decisions.reason_codes import load_reason_codes as load_reasons
from configs.errors import ChurnError
from feature_repo.contract import ADD_ONS, BEHAVIOR_SERVICE, CORE_SERVICE, SERVICES_OF
from tests.support.customers import NO_INTERNET, recommended, vectors_of

REASONS = load_reasons(CORE_SERVICE)
LEVERS = load_levers(CORE_SERVICE, REASONS)
ALIKE = replace(LEVERS, levers=tuple(replace(lever, accept_share=0.5) for lever in LEVERS.levers))
"""The shipped levers, each one taken by as many as any other."""
BEHAVIOR = load_levers(BEHAVIOR_SERVICE, load_reasons(BEHAVIOR_SERVICE))
CUSTOMER = {
    "partner": True,
    "dependents": False,
    "tenure_months": 14,
    "contract_type": "Month-to-month",
    "phone_service": True,
    "multiple_lines": "No",
    "internet_service": "Fiber optic",
    "online_security": "No",
    "online_backup": "Yes",
    "device_protection": "No",
    "tech_support": "No",
    "streaming_tv": "Yes",
    "streaming_movies": "No",
    "paperless_billing": True,
    "payment_method": "Electronic check",
    "monthly_charges_usd": 84.85,
    "total_charges_usd": 1187.9,
    "protection_count": 1,
    "automatic_payment": False,
    "usage_data_mb_30d": 512,
    "tickets_90d": 2,
    "activity_known": True,
    "months_since_anniversary": 2,
}
BOUND = {"contract_type": "Two year", "payment_method": "Credit card (automatic)", "automatic_payment": True}


def values(service=CORE_SERVICE, **changes):
    return tuple((CUSTOMER | changes).get(name) for name in SERVICES_OF[service])


def refused(asked, **customer):
    with pytest.raises(WhatIfRefusedError) as found:
        check_changes(LEVERS, values(**customer), asked)
    return found.value


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        ({"Contract": "One year"}, {"contract_type": "One year"}),
        ({"contract_type": "One year"}, {"contract_type": "One year"}),
        ({"PaperlessBilling": "No"}, {"paperless_billing": False}),
        ({"PaperlessBilling": False}, {"paperless_billing": False}),
        ({"MonthlyCharges": 60}, {"monthly_charges_usd": 60.0}),
        ({"monthly_charges_usd": 60.05}, {"monthly_charges_usd": 60.05}),
        # What is asked for and so already is no change; the rest is.
        ({"Contract": "Month-to-month", "TechSupport": "Yes"}, {"tech_support": "Yes"}),
        # In the contract's order, whatever the caller's.
        (
            {"MonthlyCharges": 60.0, "InternetService": "DSL", "Contract": "Two year"},
            {"contract_type": "Two year", "internet_service": "DSL", "monthly_charges_usd": 60.0},
        ),
    ],
)
def test_what_is_taken(asked, changes):
    found = check_changes(LEVERS, values(), asked)
    assert found == changes
    assert list(found) == list(changes)
    assert [type(each) for each in found.values()] == [type(each) for each in changes.values()]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "nothing changes"),
        ({"Contract": "Month-to-month", "PaperlessBilling": "Yes"}, "nothing changes"),
        ({"Kontract": "One year"}, "a name is neither a feature of the model nor a column of the extract"),
        ({"contract": "One year"}, "a name is neither"),
        ({"gender": "Male"}, "a name is neither"),
        ({"SeniorCitizen": 1}, "a name is neither"),
        ({"Churn": "No"}, "a name is neither"),
        ({"": "No"}, "a name is neither"),
        ({"tenure": 60}, "tenure months can't be changed"),
        ({"partner": False}, "partner can't be changed"),
        ({"TotalCharges": 1.0}, "total charges (USD) can't be changed"),
        ({"automatic_payment": True}, "automatic payment can't be changed"),
        ({"Contract": "one year"}, 'contract type must be "Month-to-month", "One year" or "Two year"'),
        ({"Contract": True}, "contract type must be"),
        ({"Contract": 1}, "contract type must be"),
        ({"Contract": None}, "contract type must be"),
        ({"Contract": ["One year"]}, "contract type must be"),
        ({"paperless_billing": "no"}, 'paperless billing must be "No" or "Yes"'),
        ({"paperless_billing": 0}, 'paperless billing must be "No" or "Yes"'),
        ({"MonthlyCharges": "60"}, "monthly charges (USD) must be a number from 18 to 120 in steps of 0.05"),
        ({"MonthlyCharges": True}, "monthly charges (USD) must be a number"),
        ({"MonthlyCharges": float("nan")}, "monthly charges (USD) must be a number"),
        ({"MonthlyCharges": float("inf")}, "monthly charges (USD) must be a number"),
        ({"MonthlyCharges": 10**400}, "monthly charges (USD) must be a number"),
        ({"MonthlyCharges": 17.0}, "monthly charges (USD) must be a number"),
        ({"MonthlyCharges": 60.01}, "monthly charges (USD) must be a number"),
        (
            {"Contract": "One year", "contract_type": "One year"},
            "contract type is given twice: Contract and contract_type",
        ),
        (
            {"contract_type": "never", "Contract": "One year"},
            "contract type is given twice: Contract and contract_type are the same",
        ),
        ({"InternetService": "No"}, 'internet service must be "DSL" or "Fiber optic"'),
        (
            {"OnlineSecurity": "No internet service"},
            'online security is "No internet service" for customers without internet service, and only for them',
        ),
    ],
)
def test_what_is_refused(asked, says):
    found = refused(asked)
    assert says in found.message
    assert isinstance(found, ChurnError)
    assert (found.error, found.http_status) == ("what_if_refused", 422)
    assert found.hint == f"what may be changed: {', '.join(LEVERS.choices)}"


def test_every_broken_rule_is_told_and_no_value():
    asked = {"7590-VHVEG": "secret", "tenure": 3, "Contract": "secret", "StreamingTV": "No internet service"}
    message = refused(asked).message
    assert message.split("; ") == [
        "a name is neither a feature of the model nor a column of the extract",
        "tenure months can't be changed",
        'contract type must be "Month-to-month", "One year" or "Two year"',
        'streaming TV is "No internet service" for customers without internet service, and only for them',
    ]


def test_what_goes_only_together_is_refused_apart_and_never_completed():
    alone = refused({"InternetService": "DSL"}, **NO_INTERNET).message
    assert [rule.split(" is ")[0] for rule in alone.split("; ")] == list(map(spoken, ADD_ONS))
    assert "online security" in refused({"OnlineSecurity": "Yes"}, **NO_INTERNET).message
    together = {"internet_service": "DSL"} | dict.fromkeys(ADD_ONS, "No")
    assert check_changes(LEVERS, values(**NO_INTERNET), together) == together


def test_what_was_contradictory_before_is_not_the_changes_fault():
    broken = {"multiple_lines": "No phone service"}
    assert check_changes(LEVERS, values(**broken), {"Contract": "One year"}) == {"contract_type": "One year"}


@pytest.mark.parametrize(
    ("changes", "follows"),
    [
        ({"contract_type": "One year"}, {"months_to_renewal": 10}),
        ({"contract_type": "Two year"}, {"months_to_renewal": 10}),
        ({"payment_method": "Credit card (automatic)"}, {"automatic_payment": True}),
        ({"payment_method": "Mailed check"}, {}),
        ({"tech_support": "Yes"}, {"protection_count": 2}),
        ({"tech_support": "Yes", "online_backup": "No"}, {}),
        ({"monthly_charges_usd": 60.0}, {}),
    ],
)
def test_what_follows_from_a_change(changes, follows):
    before = values(BEHAVIOR_SERVICE)
    after = apply_changes(BEHAVIOR_SERVICE, before, changes)
    found = differences(BEHAVIOR_SERVICE, before, after)
    assert {each.feature: each.after for each in found} == changes | follows
    assert {each.feature for each in found if each.derived} == set(follows)
    assert after == values(BEHAVIOR_SERVICE, **changes, **follows)


def test_a_contract_that_ends_has_no_renewal():
    before = values(BEHAVIOR_SERVICE, contract_type="One year", months_to_renewal=10)
    after = apply_changes(BEHAVIOR_SERVICE, before, {"contract_type": "Month-to-month"})
    assert differences(BEHAVIOR_SERVICE, before, after) == (
        ChangedValue("contract_type", "One year", "Month-to-month", derived=False),
        ChangedValue("months_to_renewal", 10, None, derived=True),
    )


def test_a_change_of_no_feature_is_a_defect():
    with pytest.raises(KeyError, match="months_to_renewal"):
        apply_changes(CORE_SERVICE, values(), {"months_to_renewal": 3})


def score(vectors):
    """Falls with each protective add-on, with the length of the contract and with automatic payment."""
    names = SERVICES_OF[CORE_SERVICE]
    add = vectors[:, names.index("protection_count")] + 3 * vectors[:, names.index("contract_type")]
    return 1 / (2 + add + 0.5 * vectors[:, names.index("automatic_payment")])


def rates(by):
    """A score that reads one column."""
    return lambda vectors: vectors[:, SERVICES_OF[CORE_SERVICE].index(by)] / 10


def named(found):
    return None if found is None else found.lever.name


@pytest.mark.parametrize(
    ("customer", "lever", "after"),
    [
        ({}, "TWO_YEAR_CONTRACT", 1 / 9),
        ({"contract_type": "Two year"}, "TECHNICAL_SUPPORT", 1 / 10),
        (BOUND | {"tech_support": "Yes", "protection_count": 2}, "ONLINE_SECURITY", 1 / 11.5),
        (BOUND | NO_INTERNET, None, None),
    ],
    ids=["monthly", "bound", "bound and supported", "nothing to offer"],
)
def test_the_lever_with_the_lowest_score_where_all_are_taken_alike(customer, lever, after):
    (found,) = recommended(ALIKE, [values(**customer)], score)
    assert named(found) == lever
    if found is not None:
        assert found.score == pytest.approx(after)


def test_a_lever_that_few_take_is_worth_little():
    shares = {"TWO_YEAR_CONTRACT": 0.01, "TECHNICAL_SUPPORT": 0.9}
    levers = replace(
        LEVERS,
        levers=tuple(replace(lever, accept_share=shares.get(lever.name, 0.001)) for lever in LEVERS.levers),
    )
    (found,) = recommended(levers, [values()], score)
    assert named(found) == "TECHNICAL_SUPPORT"


def test_of_equal_levers_the_first_of_the_file_is_recommended():
    # Both automatic ways lower it alike, and so does each add-on another score.
    (found,) = recommended(ALIKE, [values()], lambda rows: 1 - rates("automatic_payment")(rows))
    assert named(found) == "AUTOMATIC_BANK_TRANSFER"
    (found,) = recommended(ALIKE, [values()], lambda rows: 1 - rates("protection_count")(rows))
    assert named(found) == "TECHNICAL_SUPPORT"


def test_nothing_is_recommended_where_nothing_lowers_the_score():
    customers = [values(), values(**NO_INTERNET)]
    for useless in (rates("monthly_charges_usd"), rates("contract_type"), lambda rows: np.full(len(rows), np.nan)):
        assert recommended(LEVERS, customers, useless) == [None, None]


def test_many_customers_are_tried_at_once_and_keep_their_order():
    customers = [
        values(),
        values(**BOUND, **NO_INTERNET),
        values(contract_type="Two year"),
        values(**NO_INTERNET),
        values(),
    ]
    tried = lever_candidates(ALIKE, customers, vectors_of(ALIKE, customers))
    assert tried.vectors.shape == (7 + 0 + 5 + 4 + 7, 19)
    found = recommended(ALIKE, customers, score)
    assert [named(each) for each in found] == [
        "TWO_YEAR_CONTRACT",
        None,
        "TECHNICAL_SUPPORT",
        "TWO_YEAR_CONTRACT",
        "TWO_YEAR_CONTRACT",
    ]
    assert found == [recommended(ALIKE, [each], score)[0] for each in customers]


def test_given_vectors_are_left_as_they_are():
    customers = [values(), values(**NO_INTERNET)]
    vectors = vectors_of(LEVERS, customers)
    before = vectors.copy()
    lever_candidates(LEVERS, customers, vectors)
    assert (vectors.view(np.int64) == before.view(np.int64)).all()


def test_the_best_of_what_was_tried_goes_by_the_scores_that_are_given():
    customers = [values(), values(**BOUND, **NO_INTERNET)]
    tried = lever_candidates(ALIKE, customers, vectors_of(ALIKE, customers))
    assert [[lever.name for lever in each] for each in tried.options] == [
        [lever.name for lever in ALIKE.options(values())],
        [],
    ]
    found = tried.best(np.array([0.5, 0.5]), np.array([0.6, 0.2, 0.2, 0.9, 0.9, 0.9, 0.9]))
    assert found == [Recommendation(tried.options[0][1], 0.2), None]


def test_offers_are_ranked_by_what_they_bring_on_average_and_not_by_the_lowest_score():
    customers = [values(), values(**BOUND, **NO_INTERNET)]
    tried = lever_candidates(LEVERS, customers, vectors_of(LEVERS, customers))
    scores = np.array([0.1, 0.2, 0.5, 0.5, np.nan, 0.3, 0.6])
    one, none = tried.ranked(np.array([0.5, 0.5]), scores)
    assert none == []
    assert [(each.lever.name, round(each.worth(0.5), 3)) for each in one] == [
        ("ONLINE_SECURITY", 0.06),
        ("ONE_YEAR_CONTRACT", 0.015),
        ("TWO_YEAR_CONTRACT", 0.008),
        ("AUTOMATIC_BANK_TRANSFER", 0.0),
        ("AUTOMATIC_CARD_PAYMENT", 0.0),
        ("DEVICE_PROTECTION", -0.03),
    ]
    assert tried.best(np.array([0.5, 0.5]), scores) == [one[0], None]


def test_what_the_key_does_not_hold_is_computed_again_for_everybody():
    # A lever back to a monthly contract: the renewal becomes null, whatever it was.
    text = """
    actionable = { contract_type = "any" }
    [levers.MONTHLY]
    code = "CONTRACT"
    text = "Offer to be free at any time"
    when = { contract_type = ["One year"] }
    changes = { contract_type = "Month-to-month" }
    accept_share = 1
    """
    levers = parse_levers(text, BEHAVIOR_SERVICE, load_reasons(BEHAVIOR_SERVICE))
    column = SERVICES_OF[BEHAVIOR_SERVICE].index("months_to_renewal")
    customer = values(BEHAVIOR_SERVICE, contract_type="One year", months_to_renewal=10)
    vectors = vectors_of(levers, [customer])
    assert vectors[0, column] == 10
    assert np.isnan(lever_candidates(levers, [customer], vectors).vectors[0, column])


def test_kinds_of_customers_are_remembered_within_bounds():
    levers = dataclasses.replace(BEHAVIOR)
    planner = _planner(levers)
    for tenure in range(PLANS_MAX + 50):
        planner.of(values(BEHAVIOR_SERVICE, **BOUND, **NO_INTERNET, tenure_months=tenure))
    assert len(planner._plans) == 50
    # A model without milestones does not ask how long somebody has been a customer.
    core = _planner(dataclasses.replace(LEVERS))
    for tenure in range(50):
        core.of(values(tenure_months=tenure, monthly_charges_usd=20.0 + tenure))
    assert len(core._plans) == 1


def test_it_is_said_to_be_advice():
    assert re.search("not a statement about causes", WHAT_IF_NOTE)
    assert "controlled test" in WHAT_IF_NOTE
