import json

import pytest

from configs.errors import SettingsError
from configs.privacy import pseudonym
from feature_repo.contract import CSV_KEY, CSV_LABEL, CUSTOMER_PATTERN, STORED
from feature_repo.raw.snapshots.telco_csv import (
    CSV_COLUMNS,
    DECIMAL,
    DECIMAL_OR_BLANK,
    INTEGER,
    YES_NO,
    domain,
    normalise,
)
from monitoring import quality
from monitoring.gate_rules import rule_columns
from monitoring.gate_suites import load_suite
from monitoring.quality import run_gate
from monitoring.quality_report import GateFailedError, gate_to_json, render_html
from tests.support.single_extract import simulate_snapshot

PARAMETERS = {
    "rows_min": 100,
    "rows_max": 10_000,
    "churn_rate_min": 0.001,
    "churn_rate_max": 0.6,
    "quarantine_share_max": 0.01,
}
KEY = "a key"


@pytest.fixture(scope="module")
def rows():
    return simulate_snapshot(1000, seed=11)


@pytest.fixture
def gate(rows):
    """Spoil a copy of the rows, then validate it."""

    def run(spoil=lambda raw: None, **parameters):
        raw = rows.copy()
        spoilt = spoil(raw)
        return run_gate(raw if spoilt is None else spoilt, parameters=PARAMETERS | parameters, pseudonym_key=KEY)

    return run


def put(column, value, *places):
    def spoil(raw):
        raw.loc[list(places), column] = value

    return spoil


def failed(result):
    return {check.rule for check in result.checks if check.stops}


def found(result, rule):
    return next(check for check in result.checks if check.rule == rule)


# --- the suites cannot drift from the contract -------------------------------------------------------------------


def _raw_rules():
    return {asked["meta"]["rule"]: asked for asked in load_suite("telco_raw")["expectations"]}


@pytest.mark.parametrize("feature", [f for f in STORED if domain(f)], ids=lambda f: f.name)
def test_the_suite_s_domains_are_the_contract_s(feature):
    asked = _raw_rules()[f"{feature.column}_domain"]
    assert set(asked["kwargs"]["value_set"]) == set(domain(feature))
    assert asked["kwargs"]["column"] == feature.column
    assert asked["meta"]["quarantine"]


@pytest.mark.parametrize("feature", [f for f in STORED if not domain(f)], ids=lambda f: f.name)
def test_the_suite_s_numbers_are_those_that_can_be_read(feature):
    pattern = INTEGER if feature.dtype == "int64" else DECIMAL_OR_BLANK if feature.nullable else DECIMAL
    asked = _raw_rules()[f"{feature.column}_number"]
    assert (asked["kwargs"]["regex"], asked["meta"]["quarantine"]) == (pattern, True)


def test_columns_key_and_label_are_the_contract_s():
    rules = _raw_rules()
    assert tuple(rules["columns_present"]["kwargs"]["column_set"]) == CSV_COLUMNS
    assert tuple(rules["columns_no_more"]["kwargs"]["column_set"]) == CSV_COLUMNS
    assert rules["customer_id_unique"]["kwargs"]["column"] == CSV_KEY
    assert (rules["label_domain"]["kwargs"]["column"], set(rules["label_domain"]["kwargs"]["value_set"])) == (
        CSV_LABEL,
        set(YES_NO),
    )


def test_the_gate_lets_in_the_ids_that_the_service_can_be_asked_for():
    asked = {each["meta"]["rule"]: each for each in load_suite("telco_raw")["expectations"]}
    # Python's $ also matches before a last line end, the service's does not: hence \\Z here.
    assert asked["customer_id_pattern"]["kwargs"]["regex"] == CUSTOMER_PATTERN.removesuffix("$") + r"\Z"


def test_every_rule_says_why():
    for name in ("telco_raw", "telco_snapshot"):
        assert all(len(asked["meta"]["why"]) > 20 for asked in load_suite(name)["expectations"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "is invalid"),
        ('{"name": "s", "description": "", "expectations": [{"type": "t"}]}', "expectations.0.kwargs: Field required"),
        ('{"name": "s", "description": "", "expectations": [], "expectation": []}', "expectation: Extra inputs"),
        (
            json.dumps(
                {
                    "name": "s",
                    "description": "",
                    "expectations": [{"type": "t", "kwargs": {}, "severity": "info", "meta": {"rule": "r", "why": ""}}]
                    * 2,
                }
            ),
            "rule r occurs twice",
        ),
    ],
)
def test_a_wrongly_edited_suite_is_refused_by_place(tmp_path, text, message):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_suite("s", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "expect_miracles"}, "expect_miracles not found"),
        ({"kwargs": {"column_sets": ["a"]}}, "column_sets"),
    ],
)
def test_an_expectation_that_the_library_does_not_know_is_refused_not_passed_over(rows, change, message):
    suite = load_suite("telco_raw")
    suite["expectations"][0].update(change)
    with pytest.raises(SettingsError, match=rf"telco_raw is invalid.*{message}"):
        quality._run(suite, rows, PARAMETERS, quality._Shown(rows, KEY))


def test_a_rule_that_cannot_be_run_stops_the_snapshot_even_if_it_would_quarantine(rows):
    suite = load_suite("telco_raw")
    odd = next(asked for asked in suite["expectations"] if asked["meta"]["rule"] == "tenure_number")
    odd["kwargs"]["regex"] = "(unclosed"
    outcomes = quality._run(suite, rows, PARAMETERS, quality._Shown(rows, KEY))
    broken = [outcome.check for outcome in outcomes if outcome.check.stops]
    assert [check.rule for check in broken] == ["tenure_number"]
    assert broken[0].detail.startswith("could not be run: ")


# --- verdicts ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_good_rows_pass(gate):
    result = gate()
    assert result.passed
    assert (result.rows, result.quarantined) == (1000, ())
    assert all(check.passed for check in result.checks)


def _double(raw):
    raw.loc[7, "customerID"] = raw.loc[3, "customerID"]


def _shift_totals(raw):
    raw["TotalCharges"] = raw["TotalCharges"].shift(1, fill_value="100")
    raw.loc[raw["tenure"] == "0", "TotalCharges"] = " "
    raw.loc[(raw["tenure"] != "0") & (raw["TotalCharges"] == " "), "TotalCharges"] = "100"


REFUSED = {
    "missing column": (lambda raw: raw.drop(columns="tenure"), {}, {"columns_present", "tenure_number"}),
    "duplicate id": (_double, {}, {"customer_id_unique"}),
    "empty id": (put("customerID", "", 5), {}, {"customer_id_pattern"}),
    "null id": (put("customerID", None, 5), {}, {"customer_id_present"}),
    "formula id": (put("customerID", "=cmd()", 5), {}, {"customer_id_pattern"}),
    "id with a line end": (put("customerID", "1234-ABCDE\n", 5), {}, {"customer_id_pattern"}),
    "label maybe": (put("Churn", "Maybe", 5), {}, {"label_domain"}),
    "label empty": (put("Churn", "", *range(10)), {}, {"label_domain"}),
    "everybody leaves": (put("Churn", "Yes", *range(1000)), {}, {"churn_rate"}),
    "nobody leaves": (put("Churn", "No", *range(1000)), {}, {"churn_rate"}),
    "too many unknown words": (put("gender", "unknown", *range(11)), {}, {"quarantine_share"}),
    "decimal commas": (put("MonthlyCharges", "29,85", *range(1000)), {}, {"quarantine_share"}),
    "too few rows": (lambda raw: None, {"rows_min": 1001}, {"volume"}),
    "too many rows": (lambda raw: None, {"rows_max": 999}, {"volume"}),
    "no rows": (lambda raw: raw.head(0), {}, {"volume"}),
    "blank total but tenure": (put("TotalCharges", " ", 0), {}, {"blank_total_tenure_zero"}),
    "tenure 0 but a total": (put("tenure", "0", 0), {}, {"blank_total_tenure_zero"}),
    "tenure of a century": (put("tenure", "1200", 0), {}, {"tenure_range"}),
    "no charge": (put("MonthlyCharges", "0", 0), {}, {"monthly_charges_range"}),
    "charge of a million": (put("MonthlyCharges", "1000000", 0), {}, {"monthly_charges_range"}),
    "total of a million": (put("TotalCharges", "1000000", 0), {}, {"total_charges_range"}),
    "totals of other customers": (_shift_totals, {}, {"total_near_tenure_x_monthly"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_and_by_which_rule(gate, case):
    spoil, parameters, rules = REFUSED[case]
    result = gate(spoil, **parameters)
    assert failed(result) == rules
    assert not result.passed


CONTRADICTIONS = [
    ("OnlineBackup", "Yes", ("InternetService", "No"), "no_internet_no_addons"),
    ("OnlineBackup", "No internet service", ("InternetService", "DSL"), "no_internet_no_addons"),
    ("InternetService", "No", ("InternetService", "Fiber optic"), "no_internet_no_addons"),
    ("PhoneService", "No", ("PhoneService", "Yes"), "no_phone_no_lines"),
    ("MultipleLines", "No phone service", ("PhoneService", "Yes"), "no_phone_no_lines"),
    ("MultipleLines", "Yes", ("PhoneService", "No"), "no_phone_no_lines"),
]


@pytest.mark.slow
def test_columns_that_contradict_each_other_are_refused(gate, rows):
    """One customer each whose service is (column, word), with one cell overwritten."""
    broken = {}

    def spoil(raw):
        for column, value, (service, word), rule in CONTRADICTIONS:
            row = next(row for row in raw.index[rows[service] == word] if row not in broken)
            raw.loc[row, column] = value
            broken[row] = rule

    result = gate(spoil)
    assert failed(result) == set(broken.values())
    for rule in failed(result):
        who = {pseudonym(rows["customerID"][row], KEY) for row, its in broken.items() if its == rule}
        assert {customer for customer, _ in found(result, rule).sample} == who
        assert found(result, rule).failed_rows == 3


ODD = {
    1: ("gender", "unknown", "gender_domain"),
    2: ("SeniorCitizen", "Yes", "SeniorCitizen_domain"),
    3: ("Contract", "", "Contract_domain"),
    4: ("tenure", "1.5", "tenure_number"),
    5: ("tenure", "-1", "tenure_number"),
    6: ("tenure", "5\n", "tenure_number"),
    7: ("MonthlyCharges", "NaN", "MonthlyCharges_number"),
    8: ("TotalCharges", "n/a", "TotalCharges_number"),
}


def test_a_few_odd_feature_cells_set_their_rows_aside(gate, rows):
    def spoil(raw):
        for row, (column, value, _) in ODD.items():
            raw.loc[row, column] = value

    result = gate(spoil)
    assert result.passed
    assert [(row.row, row.rules) for row in result.quarantined] == [(row, (odd[2],)) for row, odd in ODD.items()]
    assert found(result, "tenure_number").state == "quarantined"
    assert (found(result, "tenure_number").failed_rows, found(result, "tenure_number").failed_share) == (3, 0.003)
    assert len(normalise(rows.drop(index=[row.row for row in result.quarantined]))) == 992


@pytest.mark.slow
def test_blank_totals_are_counted(gate):
    def spoil(raw):
        raw.loc[[1, 2], ["tenure", "TotalCharges"]] = ["0", " "]

    before = gate().blank_totals
    assert gate(spoil).blank_totals == before + 2


@pytest.mark.slow
def test_an_unexpected_column_is_told_of_but_does_not_stop(gate):
    result = gate(lambda raw: raw.assign(Region="north"))
    assert result.passed
    assert (found(result, "columns_no_more").state, found(result, "columns_no_more").detail) == (
        "warning",
        "unexpected Region",
    )


# --- what a report may show --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("unknown", "unknown"),
        ("", "(blank)"),
        ("=cmd()|' /C calc'!A0", "'=cmd()|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("a\x1b[31mb\n", "a\\x1b[31mb\\x0a"),
        ("x" * 5000, "x" * 40 + "… (5000 characters)"),
        ("7590-VHVEG", "(a customer id)"),
        ("of 7590-VHVEG", "(a customer id)"),
    ],
)
def test_values_are_shown_harmlessly(rows, value, shown):
    raw = rows.head(5).assign(gender=value)
    assert quality._Shown(raw, KEY).row(2, raw, ["gender"]) == (pseudonym(raw["customerID"][2], KEY), shown)


def test_of_the_id_column_only_the_pseudonym_is_shown_and_of_several_columns_their_names(rows):
    shown = quality._Shown(rows, KEY)
    assert shown.row(2, rows, ["customerID"]) == (pseudonym(rows["customerID"][2], KEY), "")
    assert shown.row(2, rows, ["Churn", "tenure"])[1] == f"Churn={rows['Churn'][2]}, tenure={rows['tenure'][2]}"


def test_no_customer_id_reaches_result_or_message(gate, rows):
    def spoil(raw):
        raw["gender"] = raw["customerID"]
        raw.loc[7, "customerID"] = raw.loc[3, "customerID"]

    result = gate(spoil)
    told = gate_to_json(result) + render_html(result, "t") + str(GateFailedError(result))
    assert not [customer for customer in rows["customerID"] if customer in told]
    assert pseudonym(rows["customerID"][3], KEY) in told


def test_the_rule_columns_of_three_customers(rows):
    snapshot = normalise(rows.head(3))
    snapshot["tenure_months"] = [0, 10, 10]
    snapshot["monthly_charges_usd"] = [20.0, 20.0, 20.0]
    snapshot["total_charges_usd"] = [float("nan"), 250.0, float("nan")]
    computed = rule_columns(snapshot)
    assert computed["rule_blank_total"].tolist() == [True, True, False]
    assert computed["rule_total_gap_share"].tolist() == pytest.approx([float("nan"), 0.25, float("nan")], nan_ok=True)


@pytest.mark.slow
def test_a_churn_rate_unlike_the_last_snapshots_names_the_settings_and_readable_bounds(gate):
    refused = GateFailedError(gate(lambda raw: None, churn_rate_min=0.0012345678, churn_rate_max=0.0234567891))
    assert "rule churn_rate, found 0." in refused.message
    assert "expected 0.001235 to 0.02346" in refused.message
    assert "CHURN_DATA__CHURN_RATE_FACTOR_MAX" in refused.hint
    assert "configs/expectations" not in refused.hint
