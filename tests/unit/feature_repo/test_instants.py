"""Which spellings of an instant are read, and what is said of the others."""

from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest

from feature_repo.instants import INSTANT, instant, instants

TEN = datetime(2024, 5, 1, 10, tzinfo=UTC)
PLAINLY_UTC = [
    "2024-05-01T10:00:00Z",
    "2024-05-01T10:00:00+00:00",
    "2024-05-01T10:00:00+0000",
    "2024-05-01T10:00:00+00",
    "2024-05-01T10:00:00-00:00",
    "2024-05-01 10:00:00Z",
    "2024-05-01 10:00:00+00:00",
    "2024-05-01 10:00:00 UTC",
    "2024-05-01 10:00:00 +0000",
    "2024-05-01t10:00:00z",
    *(f"2024-05-01T10:00:00.{'0' * digits}Z" for digits in range(1, 10)),
    *(f"2024-05-01 10:00:00.{'0' * digits}+00:00" for digits in range(1, 10)),
]
OTHERWISE = [
    "2024-05-01T12:00:00+02:00",
    "2024-05-01T04:30:00-0530",
    "2024-05-01T10:00Z",
    "2024-05-01T10Z",
    "20240501T100000Z",
    "20240501T120000.000+0200",
    "2024-05-01T10:00:00,000Z",
    1714557600,
    1714557600000,
    1714557600000.0,
    1714557600000000,
    1714557600000000000,
]


@pytest.mark.parametrize("written", [*PLAINLY_UTC, *OTHERWISE], ids=str)
def test_an_instant_is_read_however_it_is_written(written):
    assert instant(written) == TEN
    assert instant(written).tzinfo is UTC


def test_whole_columns_read_the_same_as_value_by_value():
    read = instants(pa.chunked_array([PLAINLY_UTC, [None]]))
    assert read.type == INSTANT
    assert read.to_pylist() == [*(instant(each) for each in PLAINLY_UTC), None]
    for each in ("2024-05-01T12:00:00+02:00", "2024-02-30T10:00:00Z", "2024-05-01T10:00:00", "2024-05-01T10:00:00Z\n"):
        assert instants(pa.chunked_array([[*PLAINLY_UTC, each]])) is None


@pytest.mark.parametrize("digits", range(1, 10))
def test_a_fraction_is_cut_to_microseconds_never_rounded(digits):
    text = f"2024-05-01T10:00:00.{'9' * digits}Z"
    expected = TEN.replace(microsecond=int(("9" * digits)[:6].ljust(6, "0")))
    assert instant(text) == expected
    assert instants(pa.chunked_array([[text]])).to_pylist() == [expected]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("form", ["epoch", "iso"])
def test_what_pandas_writes_is_read(unit, form):
    import json

    moment = pd.Timestamp("2024-05-01T10:00:00.123456789Z").floor(unit)
    text = pd.DataFrame({"at": [moment]}).to_json(orient="records", lines=True, date_format=form, date_unit=unit)
    assert instant(json.loads(text)["at"]) == moment.floor("us").to_pydatetime()
    assert instant(str(moment)) == moment.floor("us").to_pydatetime()


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("2024-05-01", "a date without a time: write 2024-05-01T10:00:00Z"),
        ("2024-05-01T10:00:00", "no time zone: write"),
        ("2024-05-01 10:00:00.123", "no time zone"),
        ("2024-05-01T10:00:00+25:00", "no such day, hour or offset"),
        ("2024-02-30T10:00:00Z", "no such day, hour or offset"),
        ("2024-05-01T24:00:00Z", "no instant"),
        ("2024-05-01T10:00:60Z", "no such day, hour or offset"),
        ("2024-05-01T10:00:00.1234567890Z", "no instant"),
        ("01/05/2024 10:00", "no instant"),
        ("٢٠٢٤-05-01T10:00:00Z", "no instant"),
        ("", "no instant"),
        (0, "a number that is no time since 1970 between 2000 and 2100"),
        (-1714557600, "a number that is no time"),
        (946684799, "a number that is no time"),
        (4102444800, "a number that is no time"),
        (2**70, "a number that is no time"),
        (1714557600.5, "neither text nor a whole number"),
        (True, "neither text nor a whole number"),
        (["2024-05-01T10:00:00Z"], "neither text nor a whole number"),
    ],
)
def test_what_is_no_instant_is_told_without_its_value(value, fault):
    with pytest.raises(ValueError, match=fault) as refused:
        instant(value)
    assert "2024-05-01T10:00:00Z" in str(refused.value)
    if len(str(value)) > 1:
        assert str(value) not in str(refused.value).replace("2024-05-01T10:00:00Z", "")
