"""Reasons: every contribution under one code, nothing lost, nothing protected, texts that fit the value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.decisions.reason_codes import PATH, ReasonDictionaryError, load_reason_codes, parse_reason_codes
from feature_repo.contract import AUDIT_SERVICE, BEHAVIOR_SERVICE, CORE_SERVICE, FEATURES, SERVICES_OF, features_of
from feature_repo.stores.casting import to_python_values
from tests.support.customers import NEWCOMER
from tests.support.small_model import features_of_snapshot, simulated

DICTIONARY = load_reason_codes(CORE_SERVICE)
NAMES = DICTIONARY.features
GOOD = PATH.read_text("utf-8")
VALUES = [NEWCOMER[name] for name in NAMES]


def contributions(**known):
    return [known.get(name, 0.0) for name in NAMES]


def reasons(leaves=True, most=99, values=VALUES, **known):
    return DICTIONARY.reasons(contributions(**known), values, leaves=leaves, most=most)


def test_each_feature_of_the_service_stands_under_exactly_one_code():
    named = [name for code in DICTIONARY.codes.values() for name in code.features]
    assert sorted(named) == sorted(SERVICES_OF[CORE_SERVICE])


def test_no_protected_attribute_is_ever_a_reason():
    protected = {feature.name for feature in FEATURES if feature.protected}
    assert protected
    assert not protected & {name for code in DICTIONARY.codes.values() for name in code.features}
    text = PATH.read_text("utf-8").lower()
    assert "gender" not in text
    assert "senior" not in text


@given(st.lists(st.floats(-20, 20), min_size=len(NAMES), max_size=len(NAMES)), st.floats(-5, 5))
def test_the_groups_and_the_base_add_up_to_the_margin(each, base):
    margin = base + sum(each)
    assert base + sum(DICTIONARY.grouped(each).values()) == pytest.approx(margin, abs=1e-9)


@given(st.lists(st.floats(-3, 3), min_size=len(NAMES), max_size=len(NAMES)), st.booleans(), st.integers(1, 20))
def test_reasons_for_the_label_come_first_and_each_half_is_ordered(each, leaves, most):
    found = DICTIONARY.reasons(each, VALUES, leaves=leaves, most=most)
    grouped = DICTIONARY.grouped(each)
    worth = [name for name, value in grouped.items() if abs(value) >= DICTIONARY.contribution_min]
    assert len(found) == min(most, len(worth))
    assert len({reason.code for reason in found}) == len(found)
    keys = [((reason.contribution > 0) != leaves, -abs(reason.contribution)) for reason in found]
    assert keys == sorted(keys)
    for reason in found:
        assert reason.contribution == grouped[reason.code]
        assert reason.direction == ("raises" if reason.contribution > 0 else "lowers")
        assert reason.text
        assert "{" not in reason.text


def test_a_churner_hears_first_what_drives_him_away_though_a_tie_is_stronger():
    found = reasons(most=2, contract_type=0.5, tech_support=0.2, tenure_months=-2.0)
    assert [(reason.code, reason.direction) for reason in found] == [("CONTRACT", "raises"), ("PROTECTION", "raises")]


def test_room_that_is_left_goes_to_what_speaks_against_the_label():
    found = reasons(leaves=False, most=3, contract_type=0.5, tenure_months=-2.0)
    assert [reason.code for reason in found] == ["TENURE", "CONTRACT"]


def test_features_that_move_together_are_one_reason():
    (reason,) = reasons(tenure_months=0.75, total_charges_usd=-0.25)
    assert (reason.code, reason.contribution, reason.value) == ("TENURE", 0.5, 1)


def test_a_cause_too_small_to_matter_is_left_out():
    assert reasons(contract_type=0.009) == ()


@pytest.mark.parametrize(
    ("changed", "contribution", "text"),
    [
        ({}, {"contract_type": 1}, "Monthly contract: can leave at any time"),
        (
            {"contract_type": "Two year"},
            {"contract_type": -1},
            "Two-year contract: customers with a fixed term tend to stay",
        ),
        ({}, {"tenure_months": 1}, "Customer for one month: the first months are the riskiest"),
        (
            {"tenure_months": 0},
            {"tenure_months": 1},
            "New customer, no bill yet: the first months are the riskiest",
        ),
        (
            {"tenure_months": 40},
            {"tenure_months": -1},
            "Customer for 40 months: customers like this tend to stay",
        ),
        (
            {},
            {"monthly_charges_usd": -1},
            (
                "DSL internet without television and without films, 29.85 USD per month: "
                "customers with such a plan tend to stay"
            ),
        ),
        (
            {},
            {"payment_method": 1},
            "Pays by electronic check, each bill by hand: customers who do so leave more often",
        ),
        ({}, {"paperless_billing": 1}, "Gets the bill electronically: customers who do so leave more often"),
        ({}, {"phone_service": 1}, "Has no telephone line with us: customers like this leave more often"),
        ({}, {"partner": -1}, "Lives with a partner and without dependents: customers like this tend to stay"),
    ],
)
def test_texts(changed, contribution, text):
    values = [(NEWCOMER | changed)[name] for name in NAMES]
    (reason,) = reasons(values=values, **contribution)
    assert reason.text == text


@pytest.mark.parametrize(
    ("code", "value", "others", "text"),
    [
        (
            "USAGE",
            0.615,
            {"usage_data_mb_30d": 2345},
            "Used 2,345 MB in the last 30 days, 62% of a usual month: customers with such use leave more often",
        ),
        ("USAGE", None, {}, "No traffic known of the last 90 days: customers like this leave more often"),
        (
            "SUPPORT",
            1,
            {"tickets_open": 1},
            (
                "Contacted support once in the last 90 days (still open: 1; hours until solved: none yet): "
                "customers like this leave more often"
            ),
        ),
        (
            "PRICE",
            2.5,
            {},
            "Monthly price changed by +2.50 USD in the last 90 days: customers like this leave more often",
        ),
        ("RENEWAL", None, {}, "The contract has no fixed end: customers like this leave more often"),
    ],
)
def test_texts_of_what_a_customer_does(code, value, others, text):
    entry = load_reason_codes(BEHAVIOR_SERVICE).codes[code]
    assert entry.text("raises", dict.fromkeys(entry.features) | others | {entry.value_feature: value}) == text


def test_a_dictionary_of_an_older_bundle_keeps_its_words():
    older = GOOD.replace("{partner:with a partner|without a partner}", "with a partner ({partner})")
    code = parse_reason_codes(older, CORE_SERVICE).codes["HOUSEHOLD"]
    assert code.text("lowers", NEWCOMER).startswith("Lives with a partner (yes) and without dependents")


def test_every_text_can_be_filled_in_for_every_value():
    for code in DICTIONARY.codes.values():
        for feature in features_of(CORE_SERVICE):
            if feature.name != code.value_feature:
                continue
            possible = feature.categories or ((True, False) if feature.dtype == "bool" else (0, 1, 12))
            for value in (*possible, *((None,) if feature.nullable else ())):
                for direction in ("raises", "lowers"):
                    assert code.text(direction, NEWCOMER | {feature.name: value})


def test_a_wrong_number_of_contributions_is_refused():
    with pytest.raises(ValueError, match="contributions for"):
        DICTIONARY.grouped([0.1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace('["contract_type"]', '["contract_type", "gender"]'), "gender is no feature of the service"),
        (GOOD.replace('["contract_type"]', '["contract_type", "tech_support"]'), "tech_support stands under 2 codes"),
        (GOOD.replace('["partner", "dependents"]', '["dependents"]'), "partner stands under 0 codes"),
        (GOOD.replace('value_feature = "dependents"', 'value_feature = "tenure_months"'), "not among its features"),
        (GOOD.replace("{value} contract: for", "{valeu} contract: for"), "can't be filled in (KeyError 'valeu')"),
        (GOOD.replace("{value} contract: for", "{value:a|b} contract: for"), "can't be filled in (ValueError"),
        (GOOD.replace(":with|without}", ":with|without|maybe}", 1), "can't be filled in (ValueError"),
        (
            GOOD.replace('"Two', '"Two').replace('{ "Month-to-month" = "Monthly contract: can', '{ "Monthly" = "M'),
            "contract_type is never 'Monthly'",
        ),
        (GOOD.replace("actionable = true", 'actionable = "yes"', 1), "actionable"),
        (GOOD.replace("raises =", "rises =", 1), "rises"),
        (GOOD.replace("contribution_min_log_odds", "minimum"), "contribution_min_log_odds"),
        ("codes = 3", "can't be read"),
        ("[[[", "can't be read"),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused(text, says):
    assert text != GOOD
    with pytest.raises(ReasonDictionaryError) as refused:
        parse_reason_codes(text, CORE_SERVICE)
    assert says in refused.value.message
    assert refused.value.body()["error"] == "reason_dictionary_invalid"
    assert "configs/reason_codes.toml" in refused.value.hint


def test_a_service_of_protected_attributes_gets_no_dictionary():
    with pytest.raises(ReasonDictionaryError, match="gender stands under 0 codes"):
        load_reason_codes(AUDIT_SERVICE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ReasonDictionaryError, match=r"gone\.toml can't be read"):
        load_reason_codes(CORE_SERVICE, tmp_path / "gone.toml")


@pytest.mark.parametrize("most", [0, 1, 3, 50])
def test_the_reasons_of_many_are_those_of_each_alone(most):
    dictionary = load_reason_codes(CORE_SERVICE)
    chance = np.random.default_rng(3)
    contributions = chance.normal(0, 0.3, (300, len(dictionary.features)))
    # Ties, nothing at all, and what lies at the least contribution that counts.
    contributions[:3] = [[0.0], [0.1], [dictionary.contribution_min]]
    leaves = chance.random(300) < 0.5
    frame = features_of_snapshot(simulated(300))
    values = list(zip(*[to_python_values(f, frame[f.name].tolist()) for f in features_of(CORE_SERVICE)], strict=True))
    one_by_one = [
        dictionary.reasons(each, row, leaves=bool(left), most=most)
        for each, row, left in zip(contributions, values, leaves, strict=True)
    ]
    codes = [[reason.code for reason in reasons] for reasons in one_by_one]
    assert dictionary.ranked(contributions, leaves, most=most) == codes
    sums = dictionary.sums(contributions)
    assert dictionary.reasons_of(sums, values, leaves.tolist(), most=most) == one_by_one


def test_a_dictionary_serves_each_version_of_a_service(monkeypatch):
    """A code with the feature of before and of now; a bundle's own one names features that no code has any more."""
    monkeypatch.setitem(SERVICES_OF, "churn_core_v99", SERVICES_OF[CORE_SERVICE][:-1])
    text = PATH.read_text("utf-8")
    for service in (CORE_SERVICE, "churn_core_v99", BEHAVIOR_SERVICE):
        assert set(parse_reason_codes(text, service).features) == set(SERVICES_OF[service])
    gone = text.replace('"automatic_payment"', '"automatic_payment_before"')
    assert parse_reason_codes(gone, "churn_core_v99", stored=True).features == SERVICES_OF["churn_core_v99"]
    with pytest.raises(ReasonDictionaryError, match="automatic_payment_before is no feature of the service"):
        parse_reason_codes(gone, "churn_core_v99")
    with pytest.raises(ReasonDictionaryError, match="gender is no feature of the service"):
        parse_reason_codes(text.replace('"automatic_payment"', '"gender"'), "churn_core_v99", stored=True)
