"""One entry is taken out of each file that declares features: the finding names the feature, the file and the fix."""

from __future__ import annotations

import json

import pytest

from configs.settings import PROJECT_ROOT
from feature_repo import transforms
from feature_repo.contract import BY_NAME, PROTECTION
from training import feature_check
from training.feature_check import (
    FRESHNESS_FILE,
    LEVERS_FILE,
    RAW_SUITE_FILE,
    REASONS_FILE,
    SNAPSHOT_SUITE_FILE,
    TEXT_FILES,
    TRANSFORMS_FILE,
    contract_findings,
    findings,
)


@pytest.fixture
def texts():
    return {name: (PROJECT_ROOT / name).read_text() for name in TEXT_FILES}


def test_the_files_of_the_project_agree(texts):
    assert (contract_findings(), findings(texts)) == ([], [])


@pytest.mark.parametrize(
    ("file", "line", "instead", "feature", "fix"),
    [
        (REASONS_FILE, '"partner", "dependents"', '"dependents"', "partner", "under no reason code"),
        (REASONS_FILE, '["paperless_billing"]', '["paperless_billing", "partner"]', "partner", "BILLING, HOUSEHOLD"),
        (REASONS_FILE, '["paperless_billing"]', '["paperless_billing", "gender"]', "gender", "it is protected"),
        (REASONS_FILE, '["paperless_billing"]', '["paperless_billing", "colour"]', "colour", "no feature service"),
        (REASONS_FILE, "{partner:with", "{gender:with", "churn_core_v1", "can't be filled in"),
        (REASONS_FILE, "[codes.CONTRACT]", "[codes.CONTRACT", "churn_core_v1", "can't be read"),
        (LEVERS_FILE, 'payment_method = "any"\n', "", "churn_core_v1", "do not fit"),
        (LEVERS_FILE, 'paperless_billing = "any"\n', "", "paperless_billing", "add it to [actionable]"),
        (FRESHNESS_FILE, "[views.customer_billing]", "[views.customer_bills]", "customer_billing", "payment_method"),
        (FRESHNESS_FILE, '"total_charges_usd", ', '"total_charges", ', "freshness", "total_charges is no feature"),
    ],
)
def test_an_entry_missing_in_a_toml_file(texts, file, line, instead, feature, fix):
    assert line in texts[file]
    texts[file] = texts[file].replace(line, instead, 1)
    (found,) = findings(texts)
    assert (found.feature, found.file) == (feature, file)
    assert fix in found.message


def test_a_column_missing_in_the_suites_of_the_gate(texts):
    suite = json.loads(texts[RAW_SUITE_FILE])
    suite["expectations"][0]["kwargs"]["column_set"].remove("Partner")
    suite["expectations"] = [each for each in suite["expectations"] if each["kwargs"].get("column") != "Dependents"]
    contract = next(each["kwargs"] for each in suite["expectations"] if each["kwargs"].get("column") == "Contract")
    contract["value_set"].remove("One year")
    texts[RAW_SUITE_FILE] = json.dumps(suite)
    texts[SNAPSHOT_SUITE_FILE] = texts[SNAPSHOT_SUITE_FILE].replace('"tenure_months"', '"tenure"')
    assert [(found.feature, found.file, found.message.split(";")[0]) for found in findings(texts)] == [
        ("partner", RAW_SUITE_FILE, "1 of 2 column sets lack its column Partner"),
        ("dependents", RAW_SUITE_FILE, "no rule checks its column Dependents"),
        (
            "contract_type",
            RAW_SUITE_FILE,
            "value_set and the categories of feature_repo/contract.py differ: 'One year'",
        ),
        ("tenure_months", SNAPSHOT_SUITE_FILE, "no rule bounds it"),
    ]


def test_an_unreadable_suite_is_one_finding(texts):
    texts[RAW_SUITE_FILE] = "{"
    (found,) = findings(texts)
    assert (found.feature, found.file) == ("gate", RAW_SUITE_FILE)


def test_a_window_and_a_milestone_that_nothing_computes(texts, monkeypatch):
    support = transforms._OF_VIEW["customer_support"]
    less = {"customer_support": lambda *given: {**support(*given), "tickets_open": None}}
    monkeypatch.setattr(transforms, "_OF_VIEW", {**transforms._OF_VIEW, **less})
    found = findings(texts)
    assert [(each.feature, each.file) for each in found] == [("tickets_open", TRANSFORMS_FILE)]
    assert "windows() does not compute it" in found[0].message


def test_a_transform_that_reads_what_the_contract_lacks(texts, monkeypatch):
    monkeypatch.setattr(transforms, "PROTECTION", (*PROTECTION, "insurance"))
    (found,) = findings(texts)
    assert (found.feature, found.file) == ("insurance", TRANSFORMS_FILE)
    assert "derive() reads it, and the contract has no such feature" in found.message


def test_a_service_reads_a_feature_that_the_contract_lacks(monkeypatch):
    monkeypatch.setattr(
        feature_check, "BY_NAME", {name: feature for name, feature in BY_NAME.items() if name != "partner"}
    )
    assert {found.feature for found in contract_findings()} == {"partner"}
