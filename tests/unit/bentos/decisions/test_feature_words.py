"""Features in the words of a person: the page writes them by the same rule."""

import json
import re

import pytest

from bentos.churn.ui.page import render_page
from bentos.decisions.feature_words import NAMES, WORDS, quoted, spoken


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("contract_type", "contract type"),
        ("monthly_charges_usd", "monthly charges (USD)"),
        ("streaming_tv", "streaming TV"),
        ("usage_data_mb_30d", "usage data (MB) 30d"),
        ("customer_billing", "billing"),
        ("protection_count", "the number of protective add-ons"),
    ],
)
def test_names(name, words):
    assert spoken(name) == words


@pytest.mark.parametrize(("value", "words"), [(True, '"Yes"'), (False, '"No"'), ("One year", '"One year"')])
def test_values_are_quoted_as_a_request_may_hold_them(value, words):
    assert quoted(value) == words


def test_the_page_has_the_same_words():
    tables = dict(re.findall(r"const (SPELT|NAMES) = (\{.*\});", render_page()[0].decode()))
    assert {name: json.loads(table) for name, table in tables.items()} == {"SPELT": WORDS, "NAMES": NAMES}
