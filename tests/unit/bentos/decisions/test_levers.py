"""The file of levers: what it may say, and what it means for one customer."""

from __future__ import annotations

import re

import pytest

from bentos.decisions.feature_words import spoken
from bentos.decisions.levers import PATH, LeversError, Span, changeable, contradictions, load_levers, parse_levers
from bentos.decisions.reason_codes import load_reason_codes as load_reasons
from configs.errors import ChurnError
from feature_repo.contract import ADD_ONS, AUDIT_SERVICE, BEHAVIOR_SERVICE, CORE_SERVICE, SERVICES_OF, features_of
from tests.support.customers import NEWCOMER, NO_INTERNET

REASONS = load_reasons(CORE_SERVICE)
LEVERS = load_levers(CORE_SERVICE, REASONS)
NAMES = SERVICES_OF[CORE_SERVICE]
WITHOUT_INTERNET = NO_INTERNET | {"phone_service": True, "multiple_lines": "No"}

GOOD = """
[actionable]
contract_type = "any"
online_security = "any"
monthly_charges_usd = { minimum = 18, maximum = 120, step = 0.05 }

[levers.ONE_YEAR]
code = "CONTRACT"
text = "Offer a one-year contract"
when = { contract_type = ["Month-to-month"], paperless_billing = [true] }
changes = { contract_type = "One year" }
accept_share = 0.5
"""


def values(**changes):
    return tuple((NEWCOMER | changes)[name] for name in NAMES)


def names(levers):
    return [lever.name for lever in levers]


def test_the_shipped_file_fits_both_services():
    behavior = load_levers(BEHAVIOR_SERVICE, load_reasons(BEHAVIOR_SERVICE))
    assert names(behavior.levers) == names(LEVERS.levers)
    assert list(behavior.choices) == list(LEVERS.choices)
    assert behavior.features == features_of(BEHAVIOR_SERVICE)


def test_nothing_protected_and_nothing_that_a_customer_is_can_be_changed():
    offered = {name for lever in LEVERS.levers for name in (*lever.changes, *lever.when)}
    touched = offered | set(LEVERS.choices)
    assert not touched & {"gender", "senior_citizen", "partner", "dependents", "tenure_months", "total_charges_usd"}
    assert not touched & set(SERVICES_OF[AUDIT_SERVICE])
    assert "gender" not in PATH.read_text("utf-8").lower()


def test_every_lever_answers_an_actionable_code():
    for lever in LEVERS.levers:
        assert REASONS.codes[lever.code].actionable
        assert set(lever.changes) <= set(REASONS.codes[lever.code].features)


@pytest.mark.parametrize(
    ("customer", "offered"),
    [
        (
            {},
            [
                "TWO_YEAR_CONTRACT",
                "ONE_YEAR_CONTRACT",
                "AUTOMATIC_BANK_TRANSFER",
                "AUTOMATIC_CARD_PAYMENT",
                "TECHNICAL_SUPPORT",
                "ONLINE_SECURITY",
                "DEVICE_PROTECTION",
            ],
        ),
        (
            {"contract_type": "One year", "payment_method": "Credit card (automatic)"} | WITHOUT_INTERNET,
            ["TWO_YEAR_CONTRACT"],
        ),
        ({"contract_type": "Two year", "payment_method": "Credit card (automatic)"} | WITHOUT_INTERNET, []),
    ],
    ids=["monthly", "one year without internet", "nothing left"],
)
def test_what_can_be_offered_to_whom(customer, offered):
    assert names(LEVERS.options(values(**customer))) == offered


def test_what_can_be_changed_for_one_customer():
    found = {each.feature: each for each in LEVERS.actionable(values())}
    assert list(found) == list(LEVERS.choices)
    contract = found["contract_type"]
    assert (contract.column, contract.value) == ("Contract", "Month-to-month")
    assert contract.allowed == ("Month-to-month", "One year", "Two year")
    assert found["paperless_billing"].allowed == (False, True)
    # With internet, an add-on is had or not; no internet at all is no choice of one add-on.
    assert found["online_security"].allowed == ("No", "Yes")
    assert found["internet_service"].allowed == ("DSL", "Fiber optic")
    price = found["monthly_charges_usd"]
    assert (price.allowed, price.minimum, price.maximum, price.step) == (None, 18.0, 120.0, 0.05)
    assert (contract.minimum, contract.maximum, contract.step) == (None, None, None)


def test_what_has_no_other_value_left_is_not_actionable():
    found = {each.feature for each in LEVERS.actionable(values(**WITHOUT_INTERNET))}
    assert found == {"contract_type", "payment_method", "paperless_billing", "monthly_charges_usd"}


def test_values_that_are_not_one_a_feature_are_refused():
    with pytest.raises(ValueError, match="zip"):
        LEVERS.options(values()[1:])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[actionable]", "[actionable", "the levers can't be read"),
        ("[actionable]", "[other]", "other: Extra inputs are not permitted"),
        ('text = "Offer a one-year contract"', 'text = ""', "levers.ONE_YEAR.text"),
        ('text = "Offer a one-year contract"', "", "levers.ONE_YEAR.text: Field required"),
        ('["Month-to-month"]', "[]", "levers.ONE_YEAR.when.contract_type"),
        ('{ contract_type = "One year" }', "{}", "levers.ONE_YEAR.changes"),
        ('contract_type = "any"', 'gender = "any"', "gender is no stored feature of the service"),
        ('contract_type = "any"', 'senior_citizen = "any"', "senior_citizen is no stored feature"),
        ('contract_type = "any"', 'automatic_payment = "any"', "automatic_payment is no stored feature"),
        ('contract_type = "any"', 'contract = "any"', "contract is no stored feature"),
        (
            'contract_type = "any"',
            "tenure_months = { minimum = 1, maximum = 9, step = 1 }",
            "tenure_months speaks for TENURE, which is not actionable",
        ),
        ('contract_type = "any"', 'partner = "any"', "partner speaks for HOUSEHOLD, which is not actionable"),
        ('contract_type = "any"', 'contract_type = ["One yaer"]', "contract_type is never 'One yaer'"),
        ('contract_type = "any"', 'paperless_billing = ["Yes"]', "paperless_billing is never 'Yes'"),
        ('contract_type = "any"', "paperless_billing = [1]", "paperless_billing is never 1"),
        (
            'contract_type = "any"',
            "contract_type = { minimum = 1, maximum = 2, step = 1 }",
            'contract_type needs a list of values, or "any"',
        ),
        (
            "{ minimum = 18, maximum = 120, step = 0.05 }",
            '"any"',
            "monthly_charges_usd needs a minimum, a maximum and a step",
        ),
        ("maximum = 120", "maximum = 18", "monthly_charges_usd: the minimum is not below the maximum"),
        ("step = 0.05", "step = 0", "greater than 0"),
        ("maximum = 120", "maximum = inf", "finite number"),
        ('code = "CONTRACT"', 'code = "CONTRAKT"', "ONE_YEAR: CONTRAKT is no actionable reason code"),
        ('code = "CONTRACT"', 'code = "TENURE"', "ONE_YEAR: TENURE is no actionable reason code"),
        ('code = "CONTRACT"', 'code = "SUPPORT"', "ONE_YEAR: SUPPORT is no actionable reason code"),
        ('code = "CONTRACT"', 'code = "PAYMENT"', "ONE_YEAR: PAYMENT is not about contract_type"),
        ('"One year" }', '"One yaer" }', "contract_type = 'One yaer' is not under [actionable]"),
        ('"One year" }', '"Month-to-month" }', "when must say from which other values of contract_type"),
        ('when = { contract_type = ["Month-to-month"], ', "when = { ", "when must say from which other values"),
        ('["Month-to-month"]', '["monthly"]', "ONE_YEAR: contract_type is never 'monthly'"),
        ("paperless_billing = [true]", 'gender = ["Male"]', "ONE_YEAR: when can't ask for gender"),
        ("paperless_billing = [true]", "tenure_months = [1]", "ONE_YEAR: when can't ask for tenure_months"),
        (
            'contract_type = "One year" }',
            "partner = true }",
            "ONE_YEAR: partner = True is not under [actionable]",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(old, new, says):
    assert old in GOOD
    with pytest.raises(LeversError, match=re.escape(says)) as refused:
        parse_levers(GOOD.replace(old, new), CORE_SERVICE, REASONS)
    assert isinstance(refused.value, ChurnError)
    assert (refused.value.error, refused.value.http_status) == ("levers_invalid", 503)
    assert refused.value.hint


def test_a_lever_that_makes_an_impossible_customer_is_refused():
    add_on = GOOD.replace("paperless_billing = [true]", 'online_security = ["No", "No internet service"]').replace(
        'contract_type = "One year" }', 'contract_type = "One year", online_security = "Yes" }'
    )
    rule = "ONE_YEAR breaks a rule: online_security is 'No internet service' exactly where internet_service is 'No'"
    with pytest.raises(LeversError, match=re.escape(rule)):
        parse_levers(add_on, CORE_SERVICE, REASONS)
    # Those without internet left out, nobody is impossible.
    assert parse_levers(add_on.replace(', "No internet service"', ""), CORE_SERVICE, REASONS).levers


def test_every_fault_of_a_file_is_told_at_once():
    text = GOOD.replace('contract_type = "any"', 'gender = "any"').replace('online_security = "any"', 'partner = "any"')
    with pytest.raises(LeversError, match="gender is no stored feature of the service; partner speaks for HOUSEHOLD"):
        parse_levers(text, CORE_SERVICE, REASONS)


def test_a_file_without_levers_offers_nothing():
    levers = parse_levers(GOOD.split("[levers", maxsplit=1)[0], CORE_SERVICE, REASONS)
    assert levers.options(values()) == ()
    assert list(levers.choices) == ["contract_type", "online_security", "monthly_charges_usd"]


def test_a_lever_may_ask_for_more_than_it_changes():
    levers = parse_levers(GOOD, CORE_SERVICE, REASONS)
    assert names(levers.options(values())) == ["ONE_YEAR"]
    assert levers.options(values(paperless_billing=False)) == ()


def test_what_may_be_changed_is_known_without_a_model():
    assert changeable().keys() == LEVERS.choices.keys()
    assert [each.feature for each in changeable().values()] == [each.feature for each in LEVERS.choices.values()]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GOOD, ["contract_type", "online_security", "monthly_charges_usd"]),
        (GOOD.replace('contract_type = "any"', 'gender = "any"'), []),
        ("[actionable", []),
    ],
)
def test_a_file_that_fits_no_service_lets_nobody_know_what_may_be_changed(tmp_path, text, found):
    path = tmp_path / "levers.toml"
    path.write_text(text, "utf-8")
    assert list(changeable(path)) == found


@pytest.mark.parametrize("content", [None, b"\xff\xff"], ids=["missing", "no UTF-8"])
def test_an_unreadable_file_is_refused_by_its_name_alone(tmp_path, content):
    path = tmp_path / "levers.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LeversError, match=r"levers\.toml can't be read") as refused:
        load_levers(CORE_SERVICE, REASONS, path)
    assert str(tmp_path) not in refused.value.message


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (18, True),
        (18.05, True),
        (29.85, True),
        (120.0, True),
        (18.01, False),
        (17.95, False),
        (120.05, False),
        (10**400, False),
        (float("nan"), False),
        (float("inf"), False),
        (-float("inf"), False),
    ],
)
def test_a_span_holds_its_steps(value, held):
    assert Span(minimum=18.0, maximum=120.0, step=0.05).holds(value) is held


@pytest.mark.parametrize(
    ("customer", "touched", "broken"),
    [
        ({}, NAMES, []),
        (WITHOUT_INTERNET, NAMES, []),
        ({"online_security": "No internet service"}, {"online_security"}, ["online_security"]),
        ({"online_security": "No internet service"}, {"contract_type"}, []),
        ({"internet_service": "No"}, {"internet_service"}, list(ADD_ONS)),
        ({"phone_service": True}, {"phone_service"}, ["multiple_lines"]),
        ({"multiple_lines": "Yes"}, {"multiple_lines"}, ["multiple_lines"]),
    ],
)
def test_values_that_go_only_together(customer, touched, broken):
    found = contradictions(NEWCOMER | customer, touched)
    assert [rule.split(" is ")[0] for rule in found] == list(map(spoken, broken))
    assert all(rule.endswith(" service, and only for them") for rule in found)


def test_an_older_version_has_the_choices_and_levers_that_fit_it(monkeypatch):
    older = tuple(name for name in SERVICES_OF[CORE_SERVICE] if name != "tech_support")
    monkeypatch.setitem(SERVICES_OF, "churn_core_v0", older)
    with pytest.raises(LeversError, match="tech_support is no stored feature of the service"):
        load_levers("churn_core_v0", REASONS)
    found = load_levers("churn_core_v0", REASONS, partial=True)
    assert set(found.choices) == set(LEVERS.choices) - {"tech_support"}
    fit = [each for each in LEVERS.levers if "tech_support" not in {*each.when, *each.changes}]
    assert [each.name for each in found.levers] == [each.name for each in fit] != [each.name for each in LEVERS.levers]
