"""Rows 1 to 9 and 12 of the fault catalogue: a spoilt extract is refused by name, and the old snapshot stays live."""

import re
from datetime import UTC, date, datetime
from html import escape

import pandas as pd
import pytest

from configs.errors import EXIT_GATE
from configs.privacy import pseudonym
from configs.settings import load_settings
from feature_repo.raw.snapshots.publication import published_snapshots, read_snapshot
from feature_repo.raw.snapshots.telco_csv import CsvError
from flows.steps.ingest_snapshot import ingest_snapshot
from monitoring.quality_report import GateFailedError, gate_from_json
from tests.support.single_extract import simulate_snapshot, write_csv

MARCH, APRIL, MAY = date(2024, 3, 1), date(2024, 4, 1), date(2024, 5, 1)
NOW = datetime(2024, 4, 1, 7, tzinfo=UTC)
CUSTOMERS = 500


@pytest.fixture(scope="module")
def rows():
    return simulate_snapshot(CUSTOMERS, seed=21)


@pytest.fixture
def settings(tmp_path, rows):
    """Settings of a home where March is live."""
    settings = load_settings(home=tmp_path / "home")
    write_csv(rows, tmp_path / "march.csv")
    ingest_snapshot(settings, tmp_path / "march.csv", MARCH, ingested_at=NOW)
    return settings


@pytest.fixture
def april(tmp_path, settings):
    """Ingest April from a frame or from bytes."""

    def run(extract):
        path = tmp_path / "april.csv"
        if isinstance(extract, bytes):
            path.write_bytes(extract)
        else:
            write_csv(extract, path)
        return ingest_snapshot(settings, path, APRIL, ingested_at=NOW)

    return run


@pytest.fixture
def refused(settings, april, rows):
    """Ingest, expect a refusal that publishes nothing; gives the error and the report's HTML."""

    def run(extract, error):
        before = published_snapshots(settings.home)
        with pytest.raises(error) as caught:
            april(extract)
        assert caught.value.exit_code == EXIT_GATE != 0
        assert published_snapshots(settings.home) == before
        assert len(read_snapshot(settings.home, before[0])) == CUSTOMERS
        assert not list(settings.home.rglob(".tmp-*"))
        (page,) = (settings.home / "reports" / "gate").glob("2024-04-01-*.html")
        assert not gate_from_json(page.with_suffix(".json").read_text()).passed
        html = page.read_text()
        shown = html + str(caught.value) + caught.value.hint
        assert not [customer for customer in rows["customerID"] if customer in shown]
        return caught.value, html

    return run


def test_fault_01_missing_column(refused, rows):
    error, html = refused(rows.drop(columns="tenure"), CsvError)
    assert error.message == "april.csv, line 1: missing column 'tenure'"
    assert "missing column" in html


def test_fault_02_extra_or_renamed_column(refused, rows):
    error, _ = refused(rows.assign(Region="north"), CsvError)
    assert "unknown column 22" in error.message
    assert "extra_columns_allowed in configs/expectations/telco_raw.json" in error.hint


def test_fault_02_renamed_column(refused, rows):
    error, _ = refused(rows.rename(columns={"tenure": "Tenure"}), CsvError)
    assert "missing column 'tenure'; unknown column 6 ('tenure' in another spelling?)" in error.message


def test_fault_03_blank_total_charges(april, settings, rows):
    extract = rows.copy()
    extract.loc[[3, 4, 5], ["tenure", "TotalCharges", "Churn"]] = ["0", " ", "No"]
    landing = april(extract)
    expected = int((extract["TotalCharges"] == " ").sum())
    assert landing.gate.blank_totals == expected >= 3
    assert f"{expected} blank TotalCharges" in landing.report_html.read_text()
    snapshot = read_snapshot(settings.home, landing.manifest)
    assert snapshot["total_charges_usd"].isna().sum() == expected


def test_fault_04_duplicate_ids(refused, settings, rows):
    extract = rows.copy()
    extract.loc[9, "customerID"] = extract.loc[5, "customerID"]
    error, html = refused(extract, GateFailedError)
    hidden = pseudonym(rows["customerID"][5], settings.privacy.pseudonym_key.get_secret_value())
    assert f"customerID: rule customer_id_unique, 2 rows (0.40%), e.g. {hidden}" in error.message
    assert error.message.count(hidden) == 1
    assert hidden in html


def test_fault_05_unknown_category(april, refused, settings, rows):
    few = rows.copy()
    few.loc[:4, "Contract"] = "Three year"
    landing = april(few)
    assert (landing.manifest.rows, landing.manifest.quarantined_rows) == (CUSTOMERS - 5, 5)
    aside = pd.read_parquet((settings.home / landing.manifest.path).with_name("quarantine.parquet"))
    assert aside["row"].tolist() == [0, 1, 2, 3, 4]
    assert set(aside["reasons"]) == {"Contract_domain"}
    assert set(aside["Contract"]) == {"Three year"}


def test_fault_05_too_many_unknown_categories(refused, rows):
    many = rows.copy()
    many.loc[:5, "Contract"] = "Three year"
    error, html = refused(many, GateFailedError)
    assert "rule quarantine_share, 6 rows, 1.20% of the rows are quarantined, at most 1.00% may be" in error.message
    assert "Three year" in html


SPOILT = {
    "decimal comma": ("MonthlyCharges", "29,85", "MonthlyCharges_number", "29,85", "decimal comma?"),
    "points between thousands": (
        "TotalCharges",
        "1.936,30",
        "TotalCharges_number",
        "1.936,30",
        "decimal comma, with points between the thousands?",
    ),
    "a comma that may be either": (
        "TotalCharges",
        "1,936",
        "TotalCharges_number",
        "1,936",
        "thousands separators or a decimal comma?",
    ),
    "words for 1 and 0": ("SeniorCitizen", "Yes", "SeniorCitizen_domain", "Yes", "another spelling of 1 or 0"),
    "pandas' booleans": ("Partner", "True", "Partner_domain", "True", "another spelling of Yes or No"),
    "lower case": ("PaymentMethod", "mailed check", "PaymentMethod_domain", "mailed check", "other letter case"),
    "blanks around a word": ("Contract", " One year", "Contract_domain", " One year", "blanks around it"),
    "a gap": ("tenure", "nan", "tenure_number", "nan", "a missing value, written as a word"),
    "currency": ("MonthlyCharges", "$29.85", "MonthlyCharges_number", "$29.85", "currency sign?"),
    "an average": (
        "TotalCharges",
        "33.333333333333336",
        "TotalCharges_number",
        "33.333333333333336",
        "more than six decimals that are no rounding noise",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_the_refusal_says_column_rule_count_share_sample_and_likely_cause(refused, rows, case):
    column, written, rule, shown, cause = SPOILT[case]
    extract = rows.copy()
    extract.loc[:9, column] = written
    if case == "a comma that may be either":
        extract.loc[10:, column] = extract["TotalCharges"][10:].str.replace(r"\..*", "", regex=True)
    error, html = refused(extract, GateFailedError)
    told = error.message[error.message.index(f"{column}: rule {rule}, 10 rows (2.00%), ") :]
    assert shown in told
    assert f"likely cause: {cause}" in told
    assert f"likely cause: {escape(cause)}" in html


def test_the_three_worst_rules_are_told_the_worst_first_and_how_many_more(refused, rows):
    extract = rows.copy()
    for count, column in enumerate(["gender", "Partner", "Contract", "tenure"], 4):
        extract.loc[: count - 1, column] = "other"
    error, _ = refused(extract, GateFailedError)
    told = error.message
    assert [told.index(f"{name}: rule") for name in ("tenure", "Contract", "Partner")] == sorted(
        told.index(f"{name}: rule") for name in ("tenure", "Contract", "Partner")
    )
    assert "gender" not in told
    assert told.endswith("; 1 more rules set rows aside")


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [(" {} ", "blanks around it"), ("", "empty"), ("a b", "a blank inside"), ("={}", "begins with neither a letter")],
)
def test_how_an_id_is_malformed_is_told_without_the_id(refused, rows, spoil, fault):
    extract = rows.copy()
    extract.loc[3, "customerID"] = spoil.format(rows["customerID"][3])
    error, _ = refused(extract, GateFailedError)
    assert re.search(
        rf"customerID: rule customer_id_pattern, 1 row \(0\.20%\), .*e\.g\. c_[0-9a-f]{{16}} {fault}", error.message
    )


def test_an_id_of_a_shifted_row_is_not_shown_whatever_its_spelling(refused, rows):
    ids = [f"K{number:06d}" for number in range(CUSTOMERS)]
    extract = rows.assign(customerID=ids)
    extract.loc[:9, "gender"] = [f"K9{number:05d}" for number in range(10)]
    error, html = refused(extract, GateFailedError)
    assert "K9" not in error.message + html
    assert "(a customer id)" in error.message


def test_spellings_with_one_meaning_are_read_and_told(april, settings, rows):
    plain = april(rows)
    totals = pd.to_numeric(rows["TotalCharges"], errors="coerce")
    assert (totals > 1000).sum() > 100
    spelt = rows.assign(
        TotalCharges=[
            f"{each:,.2f}" if each > 1000 else text for each, text in zip(totals, rows["TotalCharges"], strict=True)
        ],
        MonthlyCharges=[f"{float(text) + 3e-14:.17g}" for text in rows["MonthlyCharges"]],
        tenure=rows["tenure"] + ".0",
        SeniorCitizen=rows["SeniorCitizen"] + ".0",
    )
    write_csv(spelt, settings.home.parent / "may.csv")
    landing = ingest_snapshot(settings, settings.home.parent / "may.csv", MAY, ingested_at=NOW.replace(month=5))
    assert landing.manifest.digest == plain.manifest.digest
    told = {
        check.column: (check.state, check.failed_rows, check.detail)
        for check in landing.gate.checks
        if check.rule == "plain_spelling"
    }
    assert told["tenure"] == ("info", CUSTOMERS, "integer with decimals (1.0): read all the same")
    assert told["SeniorCitizen"][:2] == ("info", CUSTOMERS)
    assert told["TotalCharges"] == ("info", int((totals > 1000).sum()), "thousands separators: read all the same")
    assert told["MonthlyCharges"][2] == "float noise: read all the same"


def test_the_price_times_months_of_pandas_is_read(april, rows):
    product = rows["MonthlyCharges"].astype(float) * rows["tenure"].astype(int)
    extract = rows.assign(TotalCharges=product).assign(
        TotalCharges=lambda f: f["TotalCharges"].where(rows["tenure"] != "0")
    )
    assert extract["TotalCharges"].map(repr).str.fullmatch(r".*\.\d{7,}").sum() > 50
    landing = april(extract.to_csv().encode())
    assert landing.manifest.quarantined_rows == 0


def test_fault_06_label_outside_yes_no(refused, rows):
    extract = rows.copy()
    extract.loc[7, "Churn"] = "Perhaps"
    error, _ = refused(extract, GateFailedError)
    assert "Churn: rule label_domain, 1 row (0.20%), expected Yes or No, e.g. c_" in error.message
    assert error.message.endswith("Perhaps")


@pytest.mark.parametrize(
    ("encoding", "change"),
    [
        ("utf-8-sig", ()),
        ("latin-1", ()),
        ("utf-8", ("\n", "\r\n")),
        ("utf-8", (",", ";")),
        ("utf-16", ("\n", "\r\n")),
    ],
)
def test_fault_07_bom_utf_16_latin_1_crlf_semicolons_are_read_right(april, settings, rows, encoding, change):
    text = rows.to_csv(index=False, lineterminator="\n")
    landing = april((text.replace(*change) if change else text).encode(encoding))
    march = published_snapshots(settings.home)[0]
    assert landing.manifest.digest == march.digest


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.encode("utf-16-le"), "or UTF-16 without its byte-order mark"),
        (lambda text: text.replace(",", "\t").encode(), "no Telco header"),
        (lambda text: text.replace("Male", "M\u00e4nn", 1).encode() + b"\xff", "neither UTF-8 nor Latin-1"),
    ],
)
def test_fault_07_or_refused_clearly(refused, rows, spoil, message):
    error, _ = refused(spoil(rows.to_csv(index=False, lineterminator="\n")), CsvError)
    assert message in error.message + error.hint


@pytest.mark.parametrize("share", [0, 0.00001, 0.001, 0.02, 0.123, 0.4321, 0.75, 0.98765, 0.99999])
def test_fault_08_truncated_or_empty(refused, rows, share):
    """Cut inside a line: not read at all. That every single byte is safe is shown in the unit tests of telco_csv."""
    content = rows.to_csv(index=False, lineterminator="\n").encode()
    cut = content[: int(len(content) * share)].rstrip(b"\n")
    refused(cut[:-1], CsvError)


def test_fault_08_truncated_at_a_line_end_is_seen_by_its_volume(refused, rows):
    refused(rows.head(CUSTOMERS // 2 - 1), GateFailedError)


def test_fault_09_formula_cell(april, rows):
    extract = rows.copy()
    extract.loc[3, "gender"] = "=cmd()|' /C calc'!<script>"
    html = april(extract).report_html.read_text()
    assert "&#x27;=cmd()|&#x27; /C calc&#x27;!&lt;script&gt;" in html
    assert "<script" not in html


def test_fault_09_ten_megabyte_cell_and_nul_byte(refused, rows):
    content = rows.to_csv(index=False, lineterminator="\n").encode()
    error, html = refused(content.replace(b"Male", b"M" * 10_000_000, 1), CsvError)
    assert "a cell is longer than 10000 characters" in error.message
    assert len(html) < 10_000


def test_fault_09_nul_byte(refused, rows):
    content = rows.to_csv(index=False, lineterminator="\n").encode()
    error, _ = refused(content.replace(b"Male", b"Ma\0e", 1), CsvError)
    assert "holds a NUL byte" in error.message


def test_fault_12_ninety_percent_fewer_rows(refused, rows):
    error, _ = refused(rows.head(CUSTOMERS // 10), GateFailedError)
    assert "rule volume, found 50, expected 250 to 1000" in error.message
