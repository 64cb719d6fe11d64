"""Which spellings of a number are read, and what is said of a cell that is not."""

from decimal import Context, Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from feature_repo.raw.snapshots import normalization
from feature_repo.raw.snapshots.normalization import Respelling, id_fault, likely_cause, respell
from feature_repo.raw.snapshots.telco_csv import DECIMAL


@pytest.mark.parametrize(
    ("column", "written", "plain", "spelling"),
    [
        ("tenure", "1.0", "1", "integer with decimals (1.0)"),
        ("tenure", "72.000", "72", "integer with decimals (1.0)"),
        ("tenure", "0.0", "0", "integer with decimals (1.0)"),
        ("SeniorCitizen", "1.0", "1", "integer with decimals (1.0)"),
        ("SeniorCitizen", "0.0", "0", "integer with decimals (1.0)"),
        ("TotalCharges", "1936.3000000000002", "1936.3", "float noise"),
        ("TotalCharges", "1903.4999999999998", "1903.5", "float noise"),
        ("MonthlyCharges", "29.850000381469727", "29.85", "float noise"),
        ("MonthlyCharges", "29.8500000", "29.85", "float noise"),
        ("MonthlyCharges", "1.10000002384185791015625", "1.1", "float noise"),
        ("MonthlyCharges", "1.1000000238418579101562500000000000000000", "1.1", "float noise"),
        ("TotalCharges", "1.9363e+03", "1936.3", "exponent"),
        ("TotalCharges", "1E3", "1000", "exponent"),
        ("TotalCharges", "1,936.30", "1936.3", "thousands separators"),
        ("TotalCharges", "1,234,936.3", "1234936.3", "thousands separators"),
        ("TotalCharges", "1'936.30", "1936.3", "thousands separators"),
        ("TotalCharges", "1\u2019936", "1936", "thousands separators"),
        ("TotalCharges", "1 936.30", "1936.3", "thousands separators"),
        ("TotalCharges", "1\u00a0936.30", "1936.3", "thousands separators"),
        ("TotalCharges", "1\u202f936.3000000000002", "1936.3", "thousands separators"),
        ("MonthlyCharges", ".5", "0.5", "no digit next to the point (.5)"),
        ("MonthlyCharges", "29.", "29", "no digit next to the point (.5)"),
    ],
)
def test_a_spelling_with_one_meaning_is_written_plainly(eight_rows, column, written, plain, spelling):
    raw = eight_rows.copy()
    raw.loc[3, column] = written
    read, told = respell(raw)
    assert told == [Respelling(column, spelling, 1)]
    expected = eight_rows.copy()
    expected.loc[3, column] = plain
    pd.testing.assert_frame_equal(read, expected)


@pytest.mark.parametrize(
    ("column", "written"),
    [
        ("tenure", "1.5"),
        ("tenure", "1,000"),
        ("tenure", "1e1"),
        ("SeniorCitizen", "2.0"),
        ("SeniorCitizen", "True"),
        ("MonthlyCharges", "29,85"),
        ("MonthlyCharges", "29.8500001"),
        ("MonthlyCharges", "33.333333333333336"),
        ("MonthlyCharges", "-29.8500000000001"),
        ("MonthlyCharges", "٢٩.٨٥٠٠٠٠٠٠"),
        ("TotalCharges", "1.1234567890123456789012345678901"),
        ("TotalCharges", "1.936,30"),
        ("TotalCharges", "19,36.30"),
        ("TotalCharges", "1 93"),
        ("TotalCharges", "1 936'000"),
        ("TotalCharges", "9e99"),
        ("TotalCharges", "nan"),
        ("Contract", "1.0"),
    ],
)
def test_what_may_mean_two_things_is_left_as_it_is(eight_rows, column, written):
    raw = eight_rows.copy()
    raw.loc[3, column] = written
    read, told = respell(raw)
    assert told == []
    pd.testing.assert_frame_equal(read, raw)


@pytest.mark.parametrize(
    ("others", "read"),
    [
        (["500.5", "12"], "1936"),  # the point is decimal, so the comma is not
        (["500", "12"], "1,936"),
        (["500", "12,5"], "1,936"),
        (["500.5", "12,5"], "1,936"),
        (["1.936", "2.500"], "1,936"),
    ],
)
def test_a_comma_separates_thousands_where_the_column_shows_a_decimal_point(eight_rows, others, read):
    raw = eight_rows.head(3).assign(TotalCharges=["1,936", *others])
    assert respell(raw)[0]["TotalCharges"].tolist() == [read, *others]


@pytest.mark.parametrize(
    ("column", "written", "cause"),
    [
        ("MonthlyCharges", "29,85", "decimal comma?"),
        ("MonthlyCharges", "", "empty"),
        ("MonthlyCharges", "NULL", "a missing value, written as a word"),
        ("MonthlyCharges", " 5", "blanks around it"),
        ("MonthlyCharges", "-5.20", "negative number"),
        ("MonthlyCharges", "\u22125.20", "negative number"),
        ("MonthlyCharges", "(5.20)", "negative number"),
        ("MonthlyCharges", "+5.20", "a plus sign"),
        ("MonthlyCharges", "'5.20", "quotes of a spreadsheet around the number?"),
        ("MonthlyCharges", '="5.20"', "quotes of a spreadsheet around the number?"),
        ("MonthlyCharges", "5.20%", "per cent?"),
        ("TotalCharges", "1_936.30", "underscores between the thousands?"),
        ("MonthlyCharges", "29.85 €", "currency sign?"),
        ("MonthlyCharges", "USD 29.85", "currency sign?"),
        ("tenure", "12 months", "a unit behind the number?"),
        ("tenure", "1.5", "not a whole number"),
        ("tenure", "9999999999", "more than nine digits"),
        ("SeniorCitizen", "Yes", "another spelling of 1 or 0"),
        ("Partner", "1", "another spelling of Yes or No"),
        ("Churn", "TRUE", "another spelling of Yes or No"),
        ("Churn", "yes", "other letter case"),
        ("Contract", "monthly", ""),
        ("Contract", "Yes", ""),
    ],
)
def test_the_likely_cause_of_a_refused_cell(column, written, cause):
    assert likely_cause(column, written) == cause


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("7590-VHVEG", ""),
        ("7590-VHVEG\n", "blanks around it"),
        ("\u00a07590-VHVEG", "blanks around it"),
        ("7590 VHVEG", "a blank inside"),
        ("-7590", "begins with neither a letter nor a digit"),
        ("7590/VHVEG", "a character that is no letter, digit, hyphen, point or underscore"),
        ("7" * 65, "longer than 64 characters"),
        ("  ", "empty"),
    ],
)
def test_how_an_id_is_malformed(written, fault):
    assert likely_cause("customerID", written) == id_fault(written) == fault


_LANGUAGE = st.one_of(
    *(
        st.from_regex(pattern, fullmatch=True)
        for pattern in (
            normalization._FRACTION,
            normalization._GROUPED,
            normalization._COMMA_GROUPED,
            normalization._WHOLE,
        )
    )
)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=_LANGUAGE)
@example("9.9999999999999999999999999999999999999999e-99")
@example("0." + "0" * 39 + "1")
def test_every_number_that_a_pattern_admits_is_read_right_or_left(eight_rows, written):
    raw = eight_rows.assign(TotalCharges=["500.5", written, *eight_rows["TotalCharges"][2:]])
    cell = respell(raw)[0]["TotalCharges"][1]
    if cell == written:
        return
    pd.testing.assert_series_equal(pd.Series([cell]).str.fullmatch(DECIMAL), pd.Series([True]))
    exact = Context(prec=200)
    plain, value = Decimal(cell), Decimal("".join(sign for sign in written if sign in "0123456789.eE+-"))
    near = exact.abs(exact.subtract(value, plain)) <= Decimal("1e-12") * max(value, Decimal(1))
    assert near or np.float32(cell) == np.float32(str(value))
