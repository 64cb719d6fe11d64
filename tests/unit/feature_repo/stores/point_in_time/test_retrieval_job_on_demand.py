"""On-demand views get their own columns only, and make what they make in Feast."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from feature_repo.stores.point_in_time.retrieval_job import (
    AsofRetrievalJob,
    DeclaredColumnsView,
    declared_columns,
    one_table,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*is an experimental feature:RuntimeWarning")

CUSTOMER = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
SOURCE = FileSource(path="x", timestamp_field="t")
FIELDS = [Field(name="customer_id", dtype=String), Field(name="n", dtype=Int64), Field(name="x", dtype=Float64)]
USAGE = FeatureView(name="usage", entities=[CUSTOMER], schema=FIELDS, source=SOURCE, ttl=timedelta(days=1))
ASKED_AT = RequestSource(name="asked", schema=[Field(name="factor", dtype=Int64)])
GIVEN: list[list[str]] = []


@on_demand_feature_view(sources=[USAGE[["n"]], ASKED_AT], schema=[Field(name="scaled", dtype=Int64)], mode="python")
def scaled(inputs):
    return {"scaled": [None if n is None else n * f for n, f in zip(inputs["n"], inputs["factor"], strict=True)]}


@on_demand_feature_view(sources=[USAGE], schema=[Field(name="half", dtype=Float64)], mode="pandas")
def half(inputs):
    return inputs[["x"]].rename(columns={"x": "half"}) / 2


@on_demand_feature_view(sources=[USAGE[["n"]]], schema=[Field(name="undeclared", dtype=Int64)], mode="python")
def undeclared(inputs):
    return {"undeclared": [weight + 1 for weight in inputs["weight"]]}


VIEWS = [scaled, half, undeclared]
TABLE = {"customer_id": ["a", "b", "c"], "factor": [2, 3, 4], "weight": [1, 2, 3]}


def job(full):
    prefix = "usage__" if full else ""
    table = pa.table({**TABLE, prefix + "n": [1, None, 3], prefix + "x": [0.5, 1.5, None]})
    asked = ["usage:n", "usage:x", "scaled:scaled", "half:half", "undeclared:undeclared"]
    metadata = RetrievalMetadata(asked, ["customer_id"])
    return AsofRetrievalJob(None, lambda: table.schema, one_table(lambda: table), metadata, VIEWS, full)


class FeastsOwn(AsofRetrievalJob):
    """The same, each view given the whole table."""

    on_demand_feature_views = VIEWS


@pytest.mark.parametrize("full", [True, False])
def test_the_answer_is_feasts_own(full):
    ours, theirs = job(full), job(full)
    theirs.__class__ = FeastsOwn
    assert isinstance(theirs, RetrievalJob)
    assert theirs.on_demand_feature_views == VIEWS
    expected = theirs.to_arrow()
    assert ours.to_arrow().equals(expected)
    prefix = (lambda name: f"{name}__{name}") if full else (lambda name: name)
    assert expected[prefix("scaled")].to_pylist() == [2, None, 12]
    assert expected[prefix("half")].to_pylist() == [0.25, 0.75, None]
    assert expected[prefix("undeclared")].to_pylist() == [2, 3, 4]


def test_a_view_is_given_what_it_declares():
    class Looked:
        source_feature_view_projections = scaled.source_feature_view_projections
        get_request_data_schema = scaled.get_request_data_schema

        def transform_arrow(self, table, full):
            GIVEN.append(table.column_names)
            return table

    DeclaredColumnsView(Looked()).transform_arrow(pa.table({**TABLE, "n": [1, 2, 3], "x": [1, 2, 3]}))
    assert GIVEN == [["factor", "n"]]
    assert declared_columns(scaled) == {"factor", "n", "usage__n"}
    assert DeclaredColumnsView(scaled).name == "scaled"
