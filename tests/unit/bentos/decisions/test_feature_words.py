"""Features in the words of a person: the page writes them by the same rule."""

import re

import pytest

from bentos.churn.ui.page import PATH
from bentos.decisions.feature_words import quoted, spoken


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("contract_type", "contract type"),
        ("monthly_charges_usd", "monthly charges (USD)"),
        ("streaming_tv", "streaming TV"),
        ("usage_data_mb_30d", "usage data (MB) 30d"),
        ("customer_billing", "billing"),
    ],
)
def test_names(name, words):
    assert spoken(name) == words


@pytest.mark.parametrize(("value", "words"), [(True, '"Yes"'), (False, '"No"'), ("One year", '"One year"')])
def test_values_are_quoted_as_a_request_may_hold_them(value, words):
    assert quoted(value) == words


def test_the_page_has_the_same_words():
    (spelt,) = re.findall(r"const SPELT = \{ (.*) \};", PATH.read_text("utf-8"))
    assert dict(re.findall(r'(\w+): "(.*?)"', spelt)) == {name: spoken(name) for name in ("usd", "mb", "tv")}
