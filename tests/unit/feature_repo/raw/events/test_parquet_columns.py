"""Which Parquet types say what an event's columns say, and which of their values do not."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from feature_repo.events import EVENT_SCHEMA, RejectionReason
from feature_repo.raw.events.parquet_columns import TEXT_CHARS_MAX, read_columns, refused_columns
from tests.support.event_rows import event, table

TEN = datetime(2024, 5, 1, 10, tzinfo=UTC)
TEN_S = 1714557600


def one(name, column):
    """Give three events with one column as it came."""
    rows = table(*(event("usage_day", event_id=f"e{row}") for row in range(3)))
    return rows.set_column(EVENT_SCHEMA.names.index(name), name, column)


def read(name, column):
    found = read_columns(one(name, column))
    assert found.schema.names == [*EVENT_SCHEMA.names, "refusal", "fault"]
    assert [found.schema.field(each.name).type for each in EVENT_SCHEMA] == [each.type for each in EVENT_SCHEMA]
    return found[name].to_pylist(), found["fault"].to_pylist()


NUMBERS = {
    "int8": pa.array([1, 2, None], pa.int8()),
    "int32": pa.array([1, 2, None], pa.int32()),
    "uint8": pa.array([1, 2, None], pa.uint8()),
    "uint64": pa.array([1, 2, None], pa.uint64()),
    "half": pa.array([1.0, 2.0, None], pa.float16()),
    "float": pa.array([1.0, 2.0, float("nan")], pa.float32()),
    "double": pa.array([1.0, 2.0, float("nan")], pa.float64()),
    "decimal32": pa.array([Decimal("1.00"), Decimal("2.00"), None], pa.decimal32(9, 2)),
    "decimal128": pa.array([Decimal("1.00"), Decimal(2), None], pa.decimal128(38, 2)),
    "decimal256": pa.array([Decimal(1), Decimal(2), None], pa.decimal256(76, 0)),
    "dictionary": pa.array([1, 2, None], pa.int32()).dictionary_encode(),
    "chunks": pa.chunked_array([pa.array([1], pa.uint16()), pa.array([2, None], pa.uint16())]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_whole_numbers_of_any_type_are_read(kind):
    assert refused_columns(one("data_mb", NUMBERS[kind]).schema) == ""
    assert read("data_mb", NUMBERS[kind]) == ([1, 2, None], [None] * 3)


TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]


@pytest.mark.parametrize("kind", [*TEXTS, *(pa.dictionary(pa.int32(), each) for each in TEXTS[:5:2])], ids=str)
def test_text_of_any_type_is_read_in_its_composed_form(kind):
    written = pa.array(["a-1", "Mu\u0308-1".encode(), None], pa.binary()).cast(pa.string())
    column = written.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else written.cast(kind)
    assert refused_columns(one("customer_id", column).schema) == ""
    assert read("customer_id", column) == (["a-1", "M\u00fc-1", None], [None] * 3)


INSTANTS = {
    **{
        f"{unit}, {zone}": pa.array([TEN, TEN, None], pa.timestamp(unit, zone))
        for unit in ("s", "ms", "us", "ns")
        for zone in ("UTC", "Europe/Berlin", "+02:00")
    },
    "text": pa.array(["2024-05-01T10:00:00Z", "2024-05-01 10:00:00.0+00:00", None]),
    "text with other offsets": pa.array(["2024-05-01T10:00:00Z", "2024-05-01T12:00:00+02:00", None]),
    "dictionary of text": pa.array(["2024-05-01T10:00:00Z"] * 2 + [None]).dictionary_encode(),
    **{
        f"counts of {unit}": pa.array([TEN_S * unit, TEN_S * unit, None], pa.int64())
        for unit in (1, 10**3, 10**6, 10**9)
    },
    **{
        f"doubles of {unit}": pa.array([float(TEN_S * unit), float(TEN_S * unit), float("nan")])
        for unit in (1, 10**3, 10**6, 10**9)
    },
    "unsigned counts": pa.array([TEN_S * 1000, TEN_S * 1000, None], pa.uint64()),
}


@pytest.mark.parametrize("kind", INSTANTS)
def test_instants_of_any_type_that_says_the_zone_are_read(kind):
    assert refused_columns(one("occurred_at", INSTANTS[kind]).schema) == ""
    assert read("occurred_at", INSTANTS[kind]) == ([TEN, TEN, None], [None] * 3)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8()], ids=str)
def test_a_byte_of_0_or_1_is_true_or_false(kind):
    column = pa.array([0, 1, None], kind)
    assert refused_columns(one("retracted", column).schema) == ""
    assert read("retracted", column) == ([False, True, None], [None] * 3)


def test_extension_types_are_read_as_what_they_store():
    for name, column, expected in (
        ("event_id", pa.array(["a", "b", None], pa.json_()), ["a", "b", None]),
        ("event_id", pa.array([b"ab", b"bc", None], pa.binary(2)), ["ab", "bc", None]),
        ("retracted", pa.array([0, 1, None], pa.int8()).cast(pa.bool8()), [False, True, None]),
    ):
        assert refused_columns(one(name, column).schema) == ""
        assert read(name, column) == (expected, [None] * 3)


def test_nanoseconds_are_cut_to_the_microsecond_whatever_they_are():
    column = pa.array([TEN_S * 10**9 + 1, TEN_S * 10**9 + 123_456_999, None], pa.timestamp("ns", "UTC"))
    assert read("occurred_at", column)[0] == [TEN, TEN.replace(microsecond=123_456), None]


def test_a_column_without_values_has_any_type():
    for field in EVENT_SCHEMA:
        assert read(field.name, pa.nulls(3)) == ([None] * 3, [None] * 3)


@pytest.mark.parametrize(
    ("name", "column", "fault"),
    [
        ("data_mb", pa.array([1, 2**63, 2**64 - 1], pa.uint64()), "data_mb: a number beyond int64"),
        ("data_mb", pa.array([1, 1.5, float("inf")]), "data_mb: a number with a fraction, or too large to be exact"),
        ("data_mb", pa.array([1, 2.0**53 + 2, -1e300]), "data_mb: a number with a fraction, or too large to be exact"),
        (
            "data_mb",
            pa.array([Decimal("1.0"), Decimal("1.5"), Decimal(10) ** 30], pa.decimal128(38, 1)),
            "data_mb: a number with a fraction, or beyond int64",
        ),
        ("customer_id", pa.array([b"a", b"\xff7590-VHVEG", b"\xc3"], pa.binary()), "customer_id: no UTF-8"),
        (
            "customer_id",
            pa.array([b"a", b"\xff7590-VHVEG", b"\xc3"], pa.binary()).view(pa.string()),
            "customer_id: no UTF-8",
        ),
        (
            "occurred_at",
            pa.array([TEN_S, 2**62, -(2**62)], pa.timestamp("s", "UTC")),
            "occurred_at: no instant of the years 1 to 9999",
        ),
        (
            "occurred_at",
            pa.array([TEN_S, 7, 2**62], pa.int64()),
            "occurred_at: a number that is no time since 1970 between 2000 and 2100: write 2024-05-01T10:00:00Z",
        ),
        (
            "occurred_at",
            pa.array([float(TEN_S), TEN_S + 0.5, float("inf")]),
            "occurred_at: a number that is no time since 1970 between 2000 and 2100: write 2024-05-01T10:00:00Z",
        ),
        ("retracted", pa.array([1, 2, -1], pa.int8()), "retracted: a number that is neither 0 nor 1"),
        (
            "occurred_at",
            pa.array(["2024-05-01T10:00:00Z", "2024-05-01T10:00:00", "2024-05-01 10:00"]),
            "occurred_at: no time zone: write 2024-05-01T10:00:00Z",
        ),
    ],
)
def test_a_value_that_cannot_be_told_refuses_its_row_alone(name, column, fault):
    rows = one(name, column)
    assert refused_columns(rows.schema) == ""
    found = read_columns(rows)
    assert found["refusal"].to_pylist() == [None, RejectionReason.WRONG_TYPE, RejectionReason.WRONG_TYPE]
    assert found["fault"].to_pylist() == [None, fault, fault]
    assert found[name].null_count == 2
    assert found["event_id"].to_pylist() == ["e0", "e1", "e2"]


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_long_text_is_cut_where_it_is_too_long_for_each_rule(kind):
    column = pa.array(["x" * 10_000, "ü" * 10_000, "y" * 64]).cast(kind)
    assert read("event_id", column)[0] == ["x" * TEXT_CHARS_MAX, "ü" * TEXT_CHARS_MAX, "y" * 64]


@pytest.mark.parametrize(
    ("name", "column", "fault"),
    [
        ("data_mb", pa.array(["1", "2", "3"]), "data_mb is string, not a whole number"),
        ("data_mb", pa.array([True] * 3), "data_mb is bool, not a whole number"),
        ("retracted", pa.array([0, 1, 0]), "retracted is int64, not true or false"),
        ("customer_id", pa.array([1, 2, 3]), "customer_id is int64, not text"),
        ("customer_id", pa.array([b"1" * 16] * 3, pa.uuid()), "customer_id is a UUID, not text"),
        ("data_mb", pa.array(["1"] * 3, pa.json_()), "data_mb is string, not a whole number"),
        ("retracted", pa.array([b"1"] * 3, pa.binary(1)), "retracted is fixed_size_binary[1], not true or false"),
        ("customer_id", pa.array([TEN] * 3), "customer_id is an instant with a time zone, not text"),
        ("occurred_at", pa.array([TEN.replace(tzinfo=None)] * 3), "occurred_at is an instant without a time zone"),
        ("occurred_at", pa.array([date(2024, 5, 1)] * 3), "occurred_at is a date without a time, not an instant"),
        ("occurred_at", pa.array([1714557600.0] * 3, pa.float32()), "occurred_at is float, not an instant in UTC"),
        ("occurred_at", pa.array([{"7590-VHVEG": 1}] * 3), "occurred_at is a nested type, not an instant in UTC"),
        ("type", pa.array([["login"]] * 3), "type is a nested type, not text"),
    ],
)
def test_a_type_of_another_meaning_is_named(name, column, fault):
    told = refused_columns(one(name, column).schema)
    assert told.startswith("has wrong types: ")
    assert fault in told
    assert "VHVEG" not in told


def test_sparks_instants_without_a_zone_are_utc_where_the_file_says_so():
    rows = one("occurred_at", pa.array([TEN.replace(tzinfo=None)] * 3, pa.timestamp("us")))
    assert refused_columns(rows.schema, {"occurred_at"}) == ""
    assert read_columns(rows)["occurred_at"].to_pylist() == [TEN] * 3


def test_unknown_columns_are_told_by_their_places_never_by_their_names():
    wide = table(event())
    for name in ("7590-VHVEG", "x", "y", "z", "7590-VHVEG", "v", "w", "u"):
        wide = wide.append_column(name, pa.array([1]))
    told = refused_columns(wide.schema)
    assert told == "has unknown columns: the 16th, 17th, 18th, 19th, 21st and 2 more of its 23"


@pytest.mark.parametrize(
    ("name", "told", "fault"),
    [
        ("__index_level_0__", {"index_columns": ["__index_level_0__"]}, ""),
        ("__index_level_0__", {"index_columns": []}, "has an unknown column: the 16th of its 16"),
        ("__index_level_0__", None, "has an unknown column: the 16th of its 16"),
        ("7590-VHVEG", {"index_columns": ["7590-VHVEG"]}, "has an unknown column: the 16th of its 16"),
        ("x", {"index_columns": [{"kind": "range"}, 7]}, "has an unknown column: the 16th of its 16"),
        ("x", {"index_columns": 7}, "has an unknown column: the 16th of its 16"),
        ("x", [], "has an unknown column: the 16th of its 16"),
        ("x", "{", "has an unknown column: the 16th of its 16"),
        ("x", "[" * 100_000, "has an unknown column: the 16th of its 16"),
    ],
)
def test_the_index_that_pandas_added_is_no_unknown_column(name, told, fault):
    rows = table(event()).append_column(name, pa.array([7]))
    content = told if isinstance(told, str) else json.dumps(told)
    schema = rows.schema if told is None else rows.schema.with_metadata({"pandas": content})
    assert refused_columns(schema) == fault
