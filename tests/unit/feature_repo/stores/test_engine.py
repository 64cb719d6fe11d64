"""Which work the engine takes, and what it leaves to Feast's local engine."""

from datetime import timedelta

import pyarrow as pa
import pytest
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.types import Array, Float32
from pydantic import ValidationError

from feature_repo.stores.engine import ColumnarComputeEngine, ColumnarComputeEngineConfig, _knows_view, _read_of
from feature_repo.stores.point_in_time.parquet_source import OfflineTableEmptyError
from tests.support.materialisation_store import ENGINE, NOON, World, sqlite

DAY = timedelta(days=1)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, sqlite(tmp_path))


def engine_of(world):
    return world.store._get_provider().batch_engine


def task(world, name="numbers", start=NOON - DAY, end=NOON):
    return MaterializationTask("world", world.store.get_feature_view(name), start, end)


def test_the_knobs_come_from_the_configuration(world):
    assert engine_of(world)._knobs == ColumnarComputeEngineConfig()
    world.store = world.open({"type": ENGINE, "batch_rows": 7, "overwrite_newer": True})
    assert engine_of(world)._knobs == ColumnarComputeEngineConfig(batch_rows=7, overwrite_newer=True)
    world.store = world.open(ENGINE)
    assert isinstance(engine_of(world), ColumnarComputeEngine)
    with pytest.raises(ValidationError):
        ColumnarComputeEngineConfig(batch_rows=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attribute", "value"),
    [("online", False), ("offline", True), ("enable_validation", True), ("batch_source", None), ("source_views", [1])],
)
def test_a_view_that_is_more_than_rows_is_left_to_feast(world, attribute, value):
    view = world.store.get_feature_view("numbers")
    assert _knows_view(view)
    setattr(view, attribute, value)
    assert not _knows_view(view)


def test_a_vector_index_and_a_view_of_nobody_are_left_to_feast(world):
    view = world.store.get_feature_view("numbers")
    view.entities = ["__dummy"]
    assert not _knows_view(view)
    view = world.store.get_feature_view("numbers")
    view.features[0].dtype, view.features[0].vector_index = Array(Float32), True
    assert not _knows_view(view)


def test_a_store_with_other_columns_is_left_to_feast(world):
    engine = engine_of(world)
    assert engine._knows_store()
    world.store.config.online_store.vector_enabled = True
    assert not engine._knows_store()
    world.store.config.online_store.vector_enabled = False
    world.store.config.entity_key_serialization_version = 2
    assert not engine._knows_store()


def test_what_is_left_to_feast_is_written_by_feast(world):
    world.add({"id": "a", "number": 1})
    world.store.config.online_store.vector_enabled = True
    (job,) = engine_of(world).materialize(world.store.registry, task(world))
    assert job.status() is MaterializationJobStatus.SUCCEEDED
    assert world.numbers("a") == [1]


def test_the_window_is_the_time_to_live_and_never_less_than_asked(world):
    assert _read_of(task(world)).start == NOON - 30 * DAY
    assert _read_of(task(world, start=NOON - 99 * DAY)).start == NOON - 99 * DAY
    endless = task(world)
    endless.feature_view.ttl = timedelta(0)
    assert _read_of(endless).start.year == 1970


def test_a_run_behind_the_watermark_corrects_nothing(world):
    world.add({"id": "a", "number": 1})
    assert _read_of(task(world)).corrects
    world.materialize()
    assert _read_of(task(world)).corrects
    assert not _read_of(task(world, end=NOON - DAY)).corrects


def test_an_empty_table_alone_is_an_error(world):
    (job,) = engine_of(world).materialize(world.store.registry, task(world))
    assert job.status() is MaterializationJobStatus.ERROR
    assert isinstance(job.error(), OfflineTableEmptyError)
    with pytest.raises(OfflineTableEmptyError):
        world.materialize()
    assert world.watermarks() == {None}


def test_an_empty_table_beside_a_full_one_is_none(world, caplog):
    world.add({"id": "a", "number": 1})
    empty = task(world, "lists")
    empty.feature_view.batch_source.file_options.uri = "offline/nothing/*.parquet"
    jobs = engine_of(world).materialize(world.store.registry, [empty, task(world)])
    assert {job.status() for job in jobs} == {MaterializationJobStatus.SUCCEEDED}
    assert "lists" in caplog.text
    assert world.numbers("a") == [1]


def test_a_table_without_the_columns_stops_its_views(world):
    world.add_table(pa.Table.from_pylist([{"id": "a", "number": 1, "event": NOON, "created": NOON}]))
    jobs = engine_of(world).materialize(world.store.registry, [task(world), task(world, "lists")])
    assert [job.status() for job in jobs] == [MaterializationJobStatus.ERROR] * 2
    assert jobs[0].job_id().startswith("numbers-")
