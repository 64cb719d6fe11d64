import os
import unicodedata

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from configs.errors import EXIT_GATE
from feature_repo.contract import CSV_KEY, CSV_LABEL, CUSTOMER, LABEL, STORED
from feature_repo.raw.snapshots.telco_csv import CSV_COLUMNS, CsvError, check_size, normalise

HEADER = ",".join(CSV_COLUMNS).encode()


def test_the_columns_are_the_contract_s():
    assert set(CSV_COLUMNS) == {CSV_KEY, CSV_LABEL} | {feature.column for feature in STORED}
    assert len(CSV_COLUMNS) == 21


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
    "UTF-16 with its mark (little-endian)": lambda plain, frame: plain.decode().encode("utf-16"),
    "UTF-16 with its mark (big-endian)": lambda plain, frame: b"\xfe\xff" + plain.decode().encode("utf-16-be"),
    "two byte-order marks": lambda plain, frame: b"\xef\xbb\xbf" * 2 + plain,
    "Excel's first line": lambda plain, frame: (
        b"\xef\xbb\xbfsep=;\r\n" + plain.replace(b",", b";").replace(b"\n", b"\r\n")
    ),
    "tabs that the first line names": lambda plain, frame: b"sep=\t\n" + plain.replace(b",", b"\t"),
    "empty rows of a spreadsheet at the end": lambda plain, frame: plain + b"," * 20 + b"\n" + b"," * 20 + b"\n",
    "pandas' index": lambda plain, frame: frame.to_csv().encode(),
    "pandas' index of a filtered frame": lambda plain, frame: (
        frame.set_axis([9, 2, 30, 4, 5, 7, 8, 1]).to_csv().encode()
    ),
    "pandas' index, written and read again": lambda plain, frame: frame.rename_axis("Unnamed: 0").to_csv().encode(),
    "pandas' index of floats, after a merge": lambda plain, frame: (
        frame.set_axis([float(row) for row in range(8)]).to_csv().encode()
    ),
    "marks behind Excel's first line": lambda plain, frame: b"\xef\xbb\xbfsep=,\n" + b"\xef\xbb\xbf" * 2 + plain,
    "pandas' reset index": lambda plain, frame: frame.reset_index().to_csv(index=False).encode(),
    "a separator at each line's end": lambda plain, frame: plain.replace(b"\n", b",\n"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_ways_to_write_the_file_read_the_same(read, plain, eight_rows, variant):
    assert_frame_equal(read(VARIANTS[variant](plain, eight_rows)), eight_rows)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_letters_are_composed(read, eight_rows, form):
    named = eight_rows.assign(customerID=[unicodedata.normalize(form, f"{row}-MÜLÉÑ") for row in range(8)])
    assert read(named.to_csv(index=False).encode())["customerID"][0] == unicodedata.normalize("NFC", "0-MÜLÉÑ")


def test_unicodes_line_separators_end_no_row(read, eight_rows):
    odd = eight_rows.assign(gender=["a\u2028b\u2029c\x85d", *eight_rows["gender"][1:]])
    assert_frame_equal(read(odd.to_csv(index=False).encode()), odd)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
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
    assert list(raw) == [*CSV_COLUMNS, "Region"]


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
    "names in upper case": (
        lambda p: p.split(b"\n", 1)[0].upper() + b"\n" + p.split(b"\n", 1)[1],
        "unknown column 1 ('customerID' in another spelling?)",
    ),
    "other separator": (lambda p: p.replace(b",", b"\t"), "line 1: no Telco header"),
    "missing column": (lambda p: p.replace(b"tenure", b"seniority", 1), "missing column 'tenure'"),
    "extra column": (
        lambda p: b"\n".join(line + b",x" for line in p.strip().split(b"\n")),
        "unknown column 22",
    ),
    "renamed column": (
        lambda p: p.replace(b"tenure", b"Tenure", 1),
        "unknown column 6 ('tenure' in another spelling?)",
    ),
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
    "UTF-16, cut in a character": (lambda p: p.decode().encode("utf-16")[:-1], "begins as UTF-16 text and is none"),
    "a cut last cell in UTF-16": (lambda p: p[:-2].decode().encode("utf-16"), "line 9: the last line is cut off"),
    "a copy that was not finished": (lambda p: p + b"\0" * 4096, "ends with 4096 NUL bytes, so its copy was not"),
    "1,001 columns": (lambda p: HEADER + b",x" * 980 + b"\n", "line 1: more than 1000 columns"),
    "a customer where a column's name belongs": (
        lambda p: p.replace(b"gender", p.split(b"\n")[1].split(b",")[0], 1),
        "missing column 'gender'; unknown column 2",
    ),
    "no name for a column of words": (lambda p: p.replace(b"gender", b"", 1), "missing column 'gender'"),
    "a column of ids without a name": (
        lambda p: (
            b"\n".join(
                line.split(b",")[0] + b"," + line if at else b"," + line
                for at, line in enumerate(p.strip().split(b"\n"))
            )
            + b"\n"
        ),
        "column 1 has no name, and holds more than row numbers",
    ),
    "a column of words called index": (
        lambda p: b"index," + HEADER + b"\n" + b"\n".join(b"a," + line for line in p.split(b"\n")[1:-1]) + b"\n",
        "column 1 is called like an index, and holds more than row numbers",
    ),
    "row numbers behind a named column": (
        lambda p: HEADER + b",Unnamed: 21\n" + b"\n".join(line + b",1" for line in p.split(b"\n")[1:-1]) + b"\n",
        "column 22 is called like an index, and stands behind others",
    ),
    "UTF-16 without BOM": (lambda p: p.decode().encode("utf-16-le"), "line 1: holds a NUL byte"),
    "Excel": (lambda p: b"PK\x03\x04" + p, "this is an Excel workbook"),
    "gzip": (lambda p: b"\x1f\x8b\x08" + p, "is packed (gzip)"),
    "xz": (lambda p: b"\xfd7zXZ\x00" + p, "is packed (xz)"),
    "Zstandard": (lambda p: b"\x28\xb5\x2f\xfd" + p, "is packed (Zstandard)"),
    "bzip2": (lambda p: b"BZh9" + p, "is packed (bzip2)"),
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
    with pytest.raises(CsvError) as refused:
        read(spoil(plain), file_size_max_mb=20)
    assert fragment in refused.value.message
    assert refused.value.message.startswith("extract.csv")
    assert (refused.value.error, refused.value.exit_code) == ("csv_invalid", EXIT_GATE)
    assert refused.value.hint
    assert not any(customer in refused.value.message for customer in eight_rows["customerID"])


def test_what_is_no_regular_file_is_refused_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path, fault in (
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "pipe.csv", "pipe.csv cannot be read: it is a FIFO, no file"),
    ):
        with pytest.raises(CsvError, match=fault):
            check_size(path, file_size_max_mb=1)


def test_what_would_take_too_much_memory_is_refused_before_it_is_read(read, plain):
    assert len(read(plain, memory_max_mb=1)) == 8
    # Not one line of it could be read as an extract: the lines are counted only.
    for content in (b"a\n" * 600_000, b"a\r" * 600_000, b"x" * 205_000_000):
        with pytest.raises(
            CsvError, match=r"extract\.csv: .* would take about 10\d\d MB of memory, more than the 1000 MB"
        ):
            read(content, file_size_max_mb=500, memory_max_mb=1000)


@pytest.mark.slow
@pytest.mark.parametrize("quote", [b"", b'"'])
def test_a_header_of_two_million_columns_is_refused_by_their_number_alone(read, quote):
    wide = HEADER + b"".join(b"," + quote + b"%d" % number + quote for number in range(2_000_000)) + b"\n"
    with pytest.raises(CsvError, match=r"line 1: .*more than 1000 columns"):
        read(wide, file_size_max_mb=100)


@pytest.mark.slow
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
        except CsvError:
            continue
        assert_frame_equal(found, four.head(len(found)))
        shorter.add(len(found))
    # A cut at a line end leaves a whole file; the gate's volume rule is what sees that one.
    assert shorter >= {1, 2, 3}


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), spoilt=st.binary(max_size=2))
def test_any_spoilt_byte_is_read_or_refused_never_a_crash(read, plain, place, spoilt):
    at = place % len(plain)
    try:
        raw = read(plain[:at] + spoilt + plain[at + 1 :])
    except CsvError:
        return
    assert list(raw) == list(CSV_COLUMNS)
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
    with pytest.raises(CsvError, match=rf"column {column}: 1 unknown values, the first in data row 4"):
        normalise(raw)


def test_normalise_keeps_the_index_so_that_rows_are_found_again(eight_rows):
    assert normalise(eight_rows.drop(index=[0, 5])).index.equals(pd.Index([1, 2, 3, 4, 6, 7]))
