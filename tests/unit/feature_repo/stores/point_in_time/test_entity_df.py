"""Entity rows: the instant's column, instants in microseconds, and keys of the source's kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.files.duckdb_session import Limits
from feature_repo.stores.point_in_time.entity_df import EntityFrame, EntityRowsError, sql_type
from tests.support.feast_repository import at, entities

LIMITS = Limits(Path(), 128, 1)


@pytest.mark.parametrize("kind", ["s", "ms", "us", "ns"])
def test_instants_are_microseconds_whatever_their_unit(kind):
    rows = EntityFrame.from_any(pa.table({"when": pa.array([at(1)], pa.timestamp(kind, "UTC"))}), LIMITS)
    assert rows.observed_at == "when"
    assert rows.observed_us().tolist() == [int(at(1).timestamp()) * 1_000_000]


def test_probes_are_numbered_and_typed_as_the_source():
    rows = EntityFrame.from_any(entities(("a", at(0)), (None, at(1))).astype({"customer_id": "category"}), LIMITS)
    probes, kinds = rows.probes([("customer_id", pa.large_string())], rows.observed_us())
    assert probes.column_names == ["i", "k0", "o"]
    assert (probes["k0"].to_pylist(), probes["i"].to_pylist(), kinds) == (["a", None], [0, 1], ("VARCHAR",))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_meet_integers_where_each_is_a_whole_number(kind):
    rows = EntityFrame.from_any(pa.table({"when": [at(0)] * 3, "id": np.array([7, np.nan, 2048], kind)}), LIMITS)
    probes, kinds = rows.probes([("id", pa.int32())], rows.observed_us())
    assert (probes["k0"].to_pylist(), kinds) == ([7, None, 2048], ("BIGINT",))
    # No whole number, and one so large that its float may have lost digits.
    for unfit in (0.5, 2.0 ** (np.finfo(kind).nmant + 1) * 2):
        rows = EntityFrame.from_any(pa.table({"when": [at(0)], "id": np.array([unfit], kind)}), LIMITS)
        with pytest.raises(EntityRowsError, match="whole number"):
            rows.probes([("id", pa.int32())], rows.observed_us())


def test_a_view_without_keys_has_one_for_all():
    rows = EntityFrame.from_any(entities(("a", at(0)), ("b", at(1))), LIMITS)
    probes, kinds = rows.probes([], rows.observed_us())
    assert (probes["k0"].to_pylist(), kinds) == ([0, 0], ())


def test_two_columns_of_one_name_are_refused():
    doubled = pa.table([pa.array([at(0)]), pa.array([1]), pa.array([2])], names=["event_timestamp", "x", "x"])
    with pytest.raises(EntityRowsError, match="called x"):
        EntityFrame.from_any(doubled, LIMITS)


@pytest.mark.parametrize(
    ("stored", "kind"),
    [(pa.int8(), "BIGINT"), (pa.string(), "VARCHAR"), (pa.bool_(), "BOOLEAN"), (pa.date32(), "DATE")],
)
def test_kinds_of_keys(stored, kind):
    assert sql_type(stored) == kind
    with pytest.raises(EntityRowsError):
        sql_type(pa.list_(stored))
