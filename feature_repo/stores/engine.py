"""Feast compute engine that materialises whole columns.

Configured as ``batch_engine: {type: …engine.ColumnarComputeEngine}``. See docs/decisions/0013-materialisation.md and
docs/decisions/0036-instants-online.md.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol, TypeVar

import pyarrow as pa
from feast import FeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_NAME
from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.online_stores.redis import RedisOnlineStore, RedisType
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from pydantic import PositiveFloat, PositiveInt

from feature_repo.clocks import in_future
from feature_repo.stores.online_redis import PlannedRedisOnlineStore
from feature_repo.stores.online_sqlite import PlannedSqliteOnlineStore
from feature_repo.stores.online_write.latest_rows import LatestRows
from feature_repo.stores.online_write.push_rows import tell_kept
from feature_repo.stores.online_write.redis_writer import RedisWriter, connection_of, refuse_unwritable
from feature_repo.stores.online_write.row_schema import OnlineRowSchema
from feature_repo.stores.online_write.sqlite_writer import SqliteWriter
from feature_repo.stores.point_in_time.parquet_source import OfflineTableEmptyError

_log = logging.getLogger(__name__)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KEY_VERSION: Final = 3
_Prepared = TypeVar("_Prepared")


class _Writer(Protocol[_Prepared]):
    overlaps: bool
    kept: Counter[str]

    def prepare(self, rows: pa.RecordBatch) -> _Prepared: ...
    def write(self, prepared: _Prepared) -> None: ...
    def finish(self) -> None: ...


class ColumnarComputeEngineConfig(FeastConfigBaseModel):
    """Configuration, section ``batch_engine`` of feature_store.yaml; all of it is optional.

    Parameters
    ----------
    batch_rows
        Rows encoded and sent at once; memory grows with it and not with the table.
    send_kib
        Size of one write to the socket, KiB.
    sqlite_timeout_s
        How long to wait for a reader, seconds.
    overwrite_newer
        Write without comparing with the stored rows; faster, for the first load of an empty store.

    Examples
    --------
    >>> from feature_repo.stores.engine import ColumnarComputeEngineConfig
    >>> ColumnarComputeEngineConfig(batch_rows=50_000).overwrite_newer
    False
    """

    type: Literal["feature_repo.stores.engine.ColumnarComputeEngine"] = (
        "feature_repo.stores.engine.ColumnarComputeEngine"
    )
    batch_rows: PositiveInt = 10_000
    send_kib: PositiveInt = 256
    sqlite_timeout_s: PositiveFloat = 30.0
    overwrite_newer: bool = False


@dataclass(frozen=True)
class _Read:
    """Key of a read of the offline store: views with equal keys share it."""

    source: bytes
    entities: tuple[str, ...]
    start: datetime
    end: datetime
    corrects: bool


class ColumnarComputeEngine(LocalComputeEngine):
    """Materialise whole columns into the bytes that Feast's own writers would store.

    The rule, the same for `feast materialize`, `materialize-incremental` and the API:

    - For each key the latest row (by event, then created timestamp) of the view's whole TTL window up to ``end`` is
      read, not only rows newer than the watermark: so late rows are included. Rows created after ``end`` count as
      unknown.
    - It is written if its event timestamp is that of the online row or later. So a correction of the same instant is
      written, and a value that a stream wrote since is never replaced by an older one. A run whose ``end`` is before
      the watermark knows less than the previous run: it corrects nothing and only adds later rows.
    - The watermark moves after the last reply was read, and not at all if one of them was an error. A run that failed
      or was killed can be run again.
    - An ``end`` after this machine's clock counts as now, and a watermark after it, which a version before this rule
      may have left, is moved back to ``end``.
    - The log counts the rows that are not written because the online rows are later, and those left out because they
      were created after ``end``; ``kept`` holds the former, per view, of the last call.

    Views of one source are read once and written to Redis together. Views and stores that this engine does not support
    (another online store, a Redis cluster, transformations, vector indexes, …) are left to Feast's local engine.
    Feast's rules then decide which rows are read and where the watermark moves; a store of this project still writes
    none of those rows over a later one.

    Examples
    --------
    Feast makes the engine from its configuration; :func:`feature_repo.stores.materialize.materialize` runs it.

    >>> from configs.settings import load_settings
    >>> from feature_repo.stores.feature_store import repo_config
    >>> repo_config(load_settings(), overwrite_newer=True)["batch_engine"]
    {'type': 'feature_repo.stores.engine.ColumnarComputeEngine', 'overwrite_newer': True}
    """

    def __init__(self, **kwargs: Any) -> None:
        knobs = {name: kwargs.pop(name) for name in ColumnarComputeEngineConfig.model_fields if name in kwargs}
        super().__init__(**kwargs)
        self._knobs = ColumnarComputeEngineConfig(**knobs)
        self.kept: Counter[str] = Counter()

    @property
    def supports_batch(self) -> bool:
        """Whether all views are passed at once: yes, so that those of one source share its rows."""
        return True

    @property
    def applies_materialization(self) -> bool:
        """Whether the engine moves the watermarks itself: yes, Feast would move them into the future."""
        return True

    def materialize(
        self,
        registry: BaseRegistry,
        tasks: MaterializationTask | list[MaterializationTask],
        **kwargs: Any,
    ) -> list[LocalMaterializationJob]:
        """Run all tasks.

        Parameters
        ----------
        registry
            The registry that holds the watermarks.
        tasks
            One task per view.
        kwargs
            Not used; part of Feast's signature.

        Returns
        -------
        list of LocalMaterializationJob
            One job per task, in their order, with its status; a failed job holds its error.
        """
        tasks = [_up_to_now(task) for task in ([tasks] if isinstance(tasks, MaterializationTask) else tasks)]
        self.kept = Counter()
        together: dict[_Read, list[int]] = {}
        jobs: dict[int, LocalMaterializationJob] = {}
        for place, task in enumerate(tasks):
            if self._knows_store() and _knows_view(task.feature_view):
                together.setdefault(_read_of(task), []).append(place)
            else:
                jobs[place] = self._materialize_one(registry, task, **kwargs)
        errors = {
            read: self._together(registry, read, [tasks[at] for at in places]) for read, places in together.items()
        }
        fed = any(error is None for error in errors.values())
        for read, places in together.items():
            error = errors[read]
            if fed and isinstance(error, OfflineTableEmptyError):
                # Where other tables have rows, one without a file is no error: there is nothing to write.
                _log.warning("%s: %s", ", ".join(tasks[at].feature_view.name for at in places), error.message)
                error = None
            jobs |= {at: _job(tasks[at], error) for at in places}
        for place, task in enumerate(tasks):
            if jobs[place].status() is MaterializationJobStatus.SUCCEEDED:
                _move_watermark(registry, task)
        return [jobs[place] for place in range(len(tasks))]

    def _together(self, registry: BaseRegistry, read: _Read, tasks: Sequence[MaterializationTask]) -> Exception | None:
        """Materialise views that share a read; return the error that stopped it, as Feast's engines do."""
        try:
            views = [task.feature_view for task in tasks]
            names = [name for name in read.entities if name != DUMMY_ENTITY_NAME]
            entities = [registry.get_entity(name, tasks[0].project) for name in names]
            versioned = self.repo_config.registry.enable_online_feature_view_versioning
            shape = OnlineRowSchema.of(views, entities, versioned=versioned)
            rows = LatestRows(
                config=self.repo_config,
                store=self.offline_store,
                source=views[0].batch_source,
                shape=shape,
                start=read.start,
                end=read.end,
                batch_rows=self._knobs.batch_rows,
            )
            with self._writer(shape, tasks[0].project, corrects=read.corrects) as writer:
                count = _Counted(rows.batches())
                if writer.overlaps:
                    _overlap(count, writer)
                else:
                    for batch in count:
                        writer.write(writer.prepare(batch))
                writer.finish()
            for view in shape.views:
                tell_kept(view, writer.kept[view], count.rows)
            self.kept += writer.kept
        except Exception as stopped:  # noqa: BLE001 - handed to Feast, which raises it again
            return stopped
        return None

    @contextmanager
    def _writer(self, shape: OnlineRowSchema, project: str, *, corrects: bool) -> Iterator[_Writer[Any]]:
        store, config, knobs = self.online_store, self.repo_config.online_store, self._knobs
        if isinstance(store, SqliteOnlineStore):
            path = store._get_db_path(self.repo_config)  # noqa: SLF001 - Feast has no other way to ask
            writer = SqliteWriter(
                path,
                project=project,
                shape=shape,
                timeout_s=knobs.sqlite_timeout_s,
                overwrite_newer=knobs.overwrite_newer,
                local=not isinstance(store, PlannedSqliteOnlineStore),
                whole_seconds=config.text_search_enabled,
                settles=corrects,
            )
            with closing(writer):
                yield writer
            return
        with connection_of(store._get_client(config)) as connection:  # noqa: SLF001
            refuse_unwritable(connection, project)  # before any row is read
            yield RedisWriter(
                connection,
                project=project,
                shape=shape,
                send_bytes=knobs.send_kib * 1024,
                expire_s=config.key_ttl_seconds,
                corrects=corrects,
                overwrite_newer=knobs.overwrite_newer,
            )

    def _knows_store(self) -> bool:
        store, config = self.online_store, self.repo_config.online_store
        if self.repo_config.entity_key_serialization_version != _KEY_VERSION:
            return False
        writes = type(store).online_write_batch
        if writes in {SqliteOnlineStore.online_write_batch, PlannedSqliteOnlineStore.online_write_batch}:
            return not (config.vector_enabled or config.enable_openai_compatible_store)
        if writes in {RedisOnlineStore.online_write_batch, PlannedRedisOnlineStore.online_write_batch}:
            return bool(config.redis_type != RedisType.redis_cluster)
        return False


def _knows_view(view: FeatureView) -> bool:
    """Return whether a view consists of rows of its batch source only, without any computation."""
    without = set(view.entities) <= {DUMMY_ENTITY_NAME}
    keys = {field.name for field in view.entity_columns} - {DUMMY_ENTITY_ID}
    computed = ("source_views", "feature_transformation", "aggregations", "filter", "enable_validation", "offline")
    return bool(
        view.online
        and view.batch_source is not None
        and not any(getattr(view, name, None) for name in computed)
        and without != bool(keys)
        and not any(field.vector_index for field in view.features)
    )


class _Counted:
    """Iterator over batches for a writer that counts their ``rows`` so far."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches, self.rows = batches, 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += len(batch)
            yield batch


def _up_to_now(task: MaterializationTask) -> MaterializationTask:
    """Return the task; a window that ends in the future ends now instead."""
    end = task.end_time
    if _in_future(end):
        end = datetime.now(UTC)
        _log.warning(
            "%s: the end %s is in the future, now is used instead",
            task.feature_view.name,
            task.end_time,
        )
    # The start may be a watermark that is in the future itself.
    start = task.start_time if task.start_time <= end else _window(task.feature_view, end)
    return replace(task, start_time=start, end_time=end)


def _window(view: FeatureView, end: datetime) -> datetime:
    return end - view.ttl if view.ttl else _EPOCH


def _move_watermark(registry: BaseRegistry, task: MaterializationTask) -> None:
    """Record the materialised window in the registry, in place of Feast; reset a future watermark first."""
    stored = registry.get_any_feature_view(task.feature_view.name, task.project)
    if _in_future(stored.most_recent_end_time):
        stored.materialization_intervals = [
            (min(start, task.end_time), min(end, task.end_time)) for start, end in stored.materialization_intervals
        ]
        registry.apply_feature_view(stored, task.project)
        _log.warning("%s: its watermark lay in the future and is %s now", stored.name, task.end_time)
    registry.apply_materialization(task.feature_view, task.project, task.start_time, task.end_time)


def _in_future(instant: datetime | None) -> bool:
    return instant is not None and in_future(instant, datetime.now(UTC))


def _read_of(task: MaterializationTask) -> _Read:
    view = task.feature_view
    window = _window(view, task.end_time)
    watermark = view.most_recent_end_time
    return _Read(
        source=view.batch_source.to_proto().SerializeToString(deterministic=True),
        entities=tuple(view.entities),
        start=min(task.start_time, window),
        end=task.end_time,
        corrects=watermark is None or task.end_time >= watermark or _in_future(watermark),
    )


def _overlap(batches: Iterable[pa.RecordBatch], writer: _Writer[Any]) -> None:
    """Read and encode a batch while a thread writes the previous one: few batches are in memory at a time."""
    with ThreadPoolExecutor(1, "materialize") as sender:
        writing: Future[None] | None = None
        for rows in batches:
            prepared = writer.prepare(rows)
            if writing:
                writing.result()
            writing = sender.submit(writer.write, prepared)
        if writing:
            writing.result()


def _job(task: MaterializationTask, error: Exception | None) -> LocalMaterializationJob:
    status = MaterializationJobStatus.ERROR if error else MaterializationJobStatus.SUCCEEDED
    return LocalMaterializationJob(f"{task.feature_view.name}-{task.start_time}-{task.end_time}", status, error)
