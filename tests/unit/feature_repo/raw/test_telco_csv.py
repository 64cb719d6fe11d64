import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from configs.errors import EXIT_GATE
from feature_repo.contract import CSV_KEY, CSV_LABEL, CUSTOMER, LABEL, STORED
from feature_repo.raw.telco_csv import COLUMNS, BadCsv, normalise

HEADER = ",".join(COLUMNS).encode()


def test_the_columns_are_the_contract_s():
    assert set(COLUMNS) == {CSV_KEY, CSV_LABEL} | {feature.column for feature in STORED}
    assert len(COLUMNS) == 21


# --- the same customers, written in other ways ------------------------------------------------------------------

VARIANTS = {
    "UTF-8 with BOM": lambda plain, frame: b"\xef\xbb\xbf" + plain,
    "CRLF": lambda plain, frame: plain.replace(b"\n", b"\r\n"),
    "CR alone": lambda plain, frame: plain.replace(b"\n", b"\r"),
    "semicolons": lambda plain, frame: plain.replace(b",", b";"),
    "semicolons, CRLF and BOM (Excel)": lambda plain, frame: (
        b"\xef\xbb\xbf" + plain.replace(b",", b";").replace(b"\n", b"\r\n")
    ),
    "every cell quoted": lambda plain, frame: frame.to_csv(index=False, quoting=1).encode(),
    "no line end at the end": lambda plain, frame: plain.rstrip(b"\n"),
    "blank lines at the end": lambda plain, frame: plain + b"\n\n",
    "columns in another order": lambda plain, frame: frame[sorted(frame)].to_csv(index=False).encode(),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_ways_to_write_the_file_read_the_same(read, plain, eight_rows, variant):
    assert_frame_equal(read(VARIANTS[variant](plain, eight_rows)), eight_rows)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_letters_beyond_ascii_read_the_same_in_every_encoding(read, eight_rows, encoding):
    named = eight_rows.assign(customerID=[f"{row}-MÜLÉÑ" for row in range(8)])
    assert_frame_equal(read(named.to_csv(index=False).encode(encoding)), named)


def test_quoted_separators_quotes_and_line_ends_are_kept(read, eight_rows):
    odd = eight_rows.assign(gender=['a,"b"\nc', *eight_rows["gender"][1:]])
    assert_frame_equal(read(odd.to_csv(index=False, lineterminator="\n").encode()), odd)


def test_allowed_extra_columns_come_behind(read, eight_rows):
    wide = eight_rows.copy()
    wide.insert(0, "Region", "north")
    raw = read(wide.to_csv(index=False).encode(), extra_allowed=["Region"])
    assert list(raw) == [*COLUMNS, "Region"]


# --- refused ----------------------------------------------------------------------------------------------------


def _line(plain, number, change):
    lines = plain.split(b"\n")
    lines[number - 1] = change(lines[number - 1])
    return b"\n".join(lines)


BAD = {
    "empty": (lambda p: b"", "extract.csv: the file is empty"),
    "blank": (lambda p: b"\n  \n", "the file is empty"),
    "BOM alone": (lambda p: b"\xef\xbb\xbf", "the file is empty"),
    "header only": (lambda p: HEADER + b"\n", "holds a header and no rows"),
    "no header": (lambda p: p.split(b"\n", 1)[1], "line 1: no Telco header"),
    "other separator": (lambda p: p.replace(b",", b"\t"), "line 1: no Telco header"),
    "missing column": (lambda p: p.replace(b"tenure", b"seniority", 1), "missing column 'tenure'"),
    "extra column": (
        lambda p: b"\n".join(line + b",x" for line in p.strip().split(b"\n")),
        "unknown column 'x'",
    ),
    "renamed column": (lambda p: p.replace(b"tenure", b"Tenure", 1), "unknown column 'Tenure'"),
    "many missing": (
        lambda p: b"customerID,gender\na,b\n",
        "missing column 'SeniorCitizen', 'Partner', 'Dependents', 'tenure', 'PhoneService' and 14 more",
    ),
    "duplicate column": (lambda p: p.replace(b"tenure", b"gender", 1), "duplicate column 'gender'"),
    "too few cells": (lambda p: _line(p, 4, lambda line: line.rsplit(b",", 1)[0]), "line 4: 20 cells where"),
    "too many cells": (lambda p: _line(p, 5, lambda line: line + b",Yes"), "line 5: 22 cells where"),
    "blank line inside": (lambda p: _line(p, 3, lambda line: b""), "line 3: the line is blank"),
    "open quote": (lambda p: _line(p, 6, lambda line: b'"' + line), "broken quoting"),
    "text after a quote": (lambda p: _line(p, 6, lambda line: b'"a"b' + line), "line 6: broken quoting"),
    "last cell cut": (lambda p: p[:-2], "line 9: the last line is cut off"),
    "cut where no label ends the line": (
        lambda p: b"\n".join(line.split(b",", 1)[1] + b"," + line.split(b",", 1)[0] for line in p.split(b"\n")[:-1]),
        "the last line is cut off",
    ),
    "NUL byte": (lambda p: _line(p, 2, lambda line: line.replace(b"e", b"\0", 1)), "line 2: holds a NUL byte"),
    "control byte": (lambda p: _line(p, 2, lambda line: b"\x1b[31m" + line), "line 2: holds the control byte 0x1b"),
    "long cell": (
        lambda p: _line(p, 7, lambda line: b"x" * 1001 + line),
        "line 7: a cell is longer than 1000 characters",
    ),
    "10 MB cell": (
        lambda p: _line(p, 7, lambda line: b"x" * 10_000_000 + line),
        "line 7: a cell is longer than 1000 characters",
    ),
    "UTF-16": (lambda p: p.decode().encode("utf-16"), "this is UTF-16 text, not a CSV"),
    "UTF-16 without BOM": (lambda p: p.decode().encode("utf-16-le"), "line 1: holds a NUL byte"),
    "Excel": (lambda p: b"PK\x03\x04" + p, "this is an Excel workbook"),
    "gzip": (lambda p: b"\x1f\x8b\x08" + p, "this is a gzip archive"),
    "damaged UTF-8": (
        lambda p: _line(p, 3, lambda line: "É".encode() + b"\xff" + line),
        "line 3: neither UTF-8 nor Latin-1",
    ),
    "Windows-1252": (lambda p: _line(p, 3, lambda line: b"\x93" + line), "line 3: neither UTF-8 nor Latin-1"),
    "too large": (lambda p: p + b"\n" * 21_000_000, "is over the limit of 20 MB"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_by_name_and_line(read, plain, eight_rows, case):
    spoil, fragment = BAD[case]
    with pytest.raises(BadCsv) as refused:
        read(spoil(plain), file_size_max_mb=20)
    assert fragment in refused.value.message
    assert refused.value.message.startswith("extract.csv")
    assert (refused.value.error, refused.value.exit_code) == ("csv_invalid", EXIT_GATE)
    assert refused.value.hint
    assert not any(customer in refused.value.message for customer in eight_rows["customerID"])


def test_a_missing_file_and_a_folder_are_refused(read, tmp_path):
    from feature_repo.raw.telco_csv import check_size

    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(BadCsv, match="no such file"):
            check_size(path, file_size_max_mb=1)


@pytest.mark.parametrize(
    "variant", ["plain", "UTF-8 with BOM", "CRLF", "every cell quoted", "columns in another order"]
)
def test_cut_at_any_byte_it_is_refused_or_a_whole_shorter_file(read, eight_rows, variant):
    four = eight_rows.head(4)
    written = four.to_csv(index=False, lineterminator="\n").encode()
    content = written if variant == "plain" else VARIANTS[variant](written, four)
    shorter = set()
    for cut in range(len(content)):
        try:
            found = read(content[:cut])
        except BadCsv:
            continue
        assert_frame_equal(found, four.head(len(found)))
        shorter.add(len(found))
    # A cut at a line end leaves a whole file; the gate's volume rule is what sees that one.
    assert shorter >= {1, 2, 3}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), spoilt=st.binary(max_size=2))
def test_any_spoilt_byte_is_read_or_refused_never_a_crash(read, plain, place, spoilt):
    at = place % len(plain)
    try:
        raw = read(plain[:at] + spoilt + plain[at + 1 :])
    except BadCsv:
        return
    assert list(raw) == list(COLUMNS)
    assert all(isinstance(cell, str) for cell in raw.to_numpy().ravel())


# --- words to types ---------------------------------------------------------------------------------------------


def test_normalise_gives_the_contract_s_columns_and_types(eight_rows):
    snapshot = normalise(eight_rows)
    assert list(snapshot) == [CUSTOMER, *(feature.name for feature in STORED), LABEL]
    kinds = {"bool": "bool", "int64": "int64", "float64": "float64", "string": "object"}
    assert [str(kind) for kind in snapshot.dtypes[1:-1]] == [kinds[feature.dtype] for feature in STORED]
    assert snapshot[LABEL].dtype == bool
    assert (snapshot[LABEL] == (eight_rows["Churn"] == "Yes")).all()
    assert (snapshot["senior_citizen"] == (eight_rows["SeniorCitizen"] == "1")).all()


@pytest.mark.parametrize(
    ("column", "written", "name", "meant"),
    [
        ("TotalCharges", " ", "total_charges_usd", float("nan")),
        ("TotalCharges", "", "total_charges_usd", float("nan")),
        ("TotalCharges", "1889.5", "total_charges_usd", 1889.5),
        ("MonthlyCharges", "29.85", "monthly_charges_usd", 29.85),
        ("MonthlyCharges", "20", "monthly_charges_usd", 20.0),
        ("tenure", "0", "tenure_months", 0),
        ("SeniorCitizen", "1", "senior_citizen", True),
        ("Partner", "No", "partner", False),
        ("InternetService", "No", "internet_service", "No"),
        ("OnlineBackup", "No internet service", "online_backup", "No internet service"),
    ],
)
def test_words_mean(eight_rows, column, written, name, meant):
    snapshot = normalise(eight_rows.head(1).assign(**{column: written}))
    assert snapshot[name].tolist() == pytest.approx([meant], nan_ok=True)


@pytest.mark.parametrize(
    ("column", "written"),
    [
        ("TotalCharges", "n/a"),
        ("TotalCharges", "1,5"),
        ("MonthlyCharges", ""),
        ("MonthlyCharges", "nan"),
        ("MonthlyCharges", "inf"),
        ("MonthlyCharges", "-1"),
        ("MonthlyCharges", "1e3"),
        ("MonthlyCharges", "٣"),
        ("tenure", "1.0"),
        ("tenure", "5\n"),
        ("tenure", "99999999999999999999"),
        ("SeniorCitizen", "Yes"),
        ("Partner", "yes"),
        ("Contract", " One year"),
        ("Churn", ""),
    ],
)
def test_what_has_no_meaning_is_refused(eight_rows, column, written):
    raw = eight_rows.copy()
    raw.loc[3, column] = written
    with pytest.raises(BadCsv, match=rf"column {column}: 1 unknown values, the first in data row 4"):
        normalise(raw)


def test_normalise_keeps_the_index_so_that_rows_are_found_again(eight_rows):
    assert normalise(eight_rows.drop(index=[0, 5])).index.equals(pd.Index([1, 2, 3, 4, 6, 7]))
