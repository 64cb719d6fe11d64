"""Score all active customers with the champion, chunk by chunk, atomically and resumably.

A run is identified by date, champion and state of the offline tables. Its plan is written first and fixes the instant
and the customers of each chunk; then the scores of each chunk, then the parts, which add the rank among all customers,
each atomically and never changed; then the manifest, then the pointer to the newest run. If a run is killed, the next
one reads the plan and writes what is missing; the result is identical byte by byte. See
docs/decisions/0022-whole-base-runs.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bentos.batch.chunks import read_chunk
from bentos.batch.scores_table import PROFIT, BatchModel, ranks, score_chunk, with_ranks
from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import ACTIVITY_SOURCE, SOURCE, reads_activity
from feature_repo.files.atomic_writes import TEMPORARY, file_sha256, remove, storage_errors, write_file
from feature_repo.files.locks import lease
from feature_repo.files.regular_files import read_regular
from feature_repo.files.table_paths import table_pattern
from feature_repo.stores.customers import active_customers, count_inactive, event_times
from feature_repo.stores.errors import translate_store_errors
from feature_repo.stores.feature_store import open_feature_store

FORMAT: Final = 2
FOLDER: Final = "scores"
LATEST: Final = "latest.json"
PLAN: Final = "plan.json"
MANIFEST: Final = "manifest.json"
PARTS: Final = "parts"
UNRANKED_PARTS: Final = "unranked"
"""Folder of the parts without ranks, which are known only when all customers are scored; removed at the end."""
_SHORT: Final = 12
_COUNTS, _OF_PLAN = b"churn.counts", b"churn.plan"

log = logging.getLogger(__name__)


class BaseMovedError(ChurnError):
    """The offline tables gained rows during scoring: the result would mix two states."""

    error = "base_moved"
    http_status = 409
    transient = True


@dataclass(frozen=True)
class ScoreRun:
    """Summary of a run.

    ``path`` is that of its folder, relative to the home. ``customers`` are those present at ``observed_at`` (ISO 8601,
    UTC): ``scored``, of them ``churn`` with that label, and ``refused`` by reason. ``withdrawn`` are known but no
    longer customers; the values of ``expired`` are too old. ``unexplained`` have a score without reasons; the data of
    ``partial`` and ``stale`` customers have gaps or are old. ``expected_profit_usd`` is the sum over the label churn,
    by ``economics`` (the costs and gains of configs/economics.toml); ``threshold`` is the model's. ``fresh`` is whether
    anything was computed by this call.
    """

    path: str
    observed_at: str
    champion: str
    model_version: str
    customers: int
    scored: int
    churn: int
    refused: dict[str, int]
    withdrawn: int
    expired: int
    unexplained: int
    partial: int
    stale: int
    threshold: float
    expected_profit_usd: float
    economics: dict[str, float]
    parts: int
    fresh: bool


@dataclass(frozen=True)
class Plan:
    """The inputs of a run, fixed before its first part is written.

    ``chunks``: the sha256 (hex) of each chunk's sorted ids. ``expired`` and ``withdrawn`` count customers in no chunk.
    """

    observed_at: str
    champion: str
    model_version: str
    inputs: str
    chunk_customers: int
    chunks: tuple[str, ...]
    expired: int
    withdrawn: int
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the plan as JSON with sorted keys; it holds no customer id."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        told: dict[str, Any] = json.loads(text)
        return cls(**{**told, "chunks": tuple(told["chunks"])})


def score_base(settings: Settings, now: datetime) -> ScoreRun:
    """Score all customers that are active at ``now`` (tz-aware UTC) as far as is known then.

    A finished run of the same date, champion and data is left as it is; one that was killed is completed, as of the
    instant of its plan. One chunk (``batch.chunk_customers``) is in memory at a time.

    Raises
    ------
    NoChampionError, BundleError, ReasonDictionaryError, LeversError, EconomicsError, FreshnessError
        If there is no champion, it is damaged, or a file in configs/ does not fit it.
    LeaseHeldError
        If another process is scoring the base.
    BaseMovedError
        If the offline tables changed meanwhile; the next run uses their new state.
    NothingToMaterializeError, NothingRegisteredError, StorageError
        If there are no features, or a write to disk fails.
    """
    model = BatchModel.load(settings)
    digest = model.bundle.digest
    with lease(settings.home, "score-base", f"a scoring as of {now.isoformat()}"), translate_store_errors(settings):
        inputs = _inputs(settings, model)
        run = settings.home / FOLDER / now.date().isoformat() / f"{digest[:_SHORT]}-{inputs[:_SHORT]}"
        # The folder of all runs holds that of the pointer.
        for leftover in (*run.rglob(f"{TEMPORARY}*"), *run.parents[1].glob(f"{TEMPORARY}*")):
            remove(leftover)
        plan = _plan(settings, run, model, inputs, now)
        fresh = _write_parts(settings, run, plan, model)
        done = _finish(settings, run, plan, model, fresh=fresh)
        _sweep(settings.home)
    return done


def _inputs(settings: Settings, model: BatchModel) -> str:
    """Return the sha256 of everything that the result depends on except the instant.

    Parts of the offline tables never change, so their names and sizes identify their content.
    """
    tables = [SOURCE, *([ACTIVITY_SOURCE] if reads_activity(model.bundle.manifest.service) else [])]
    paths = sorted(path for table in tables for path in settings.home.glob(table_pattern(table)))
    parts = [[path.relative_to(settings.home).as_posix(), path.stat().st_size] for path in paths]
    told = [FORMAT, model.inputs(), parts]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _plan(settings: Settings, run: Path, model: BatchModel, inputs: str, now: datetime) -> Plan:
    """Return the run's plan: the stored one if it has the same inputs, else a new one."""
    if (kept := _kept_plan(run)) is not None and kept.inputs == inputs:
        return kept
    with storage_errors():
        remove(run)
    rows = settings.batch.chunk_customers
    chunks = tuple(_ids_sha256(ids) for ids in active_customers(settings, now, rows))
    gone = count_inactive(settings, now)
    _refuse_moved(settings, model, inputs)
    manifest = model.bundle.manifest
    plan = Plan(
        observed_at=now.astimezone(UTC).isoformat(),
        champion=model.bundle.digest,
        model_version=manifest.model_version,
        inputs=inputs,
        chunk_customers=rows,
        chunks=chunks,
        expired=gone.expired,
        withdrawn=gone.withdrawn,
    )
    with storage_errors():
        write_file(run / PLAN, plan.to_json().encode())
    return plan


def _kept_plan(run: Path) -> Plan | None:
    """Return the stored plan; None if missing or damaged: then nothing in the run's folder is usable."""
    try:
        return Plan.from_json(read_regular(run / PLAN).decode())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        log.warning("the plan of %s is damaged: the run starts anew", run.name)
        return None


def _write_parts(settings: Settings, run: Path, plan: Plan, model: BatchModel) -> bool:
    """Write the parts that are missing or damaged; return whether there were any."""
    missing = {number for number in range(len(plan.chunks)) if not _is_whole(run, number)}
    if not missing:
        return False
    _write_unranked(settings, run, plan, model, missing)
    sources = [_unranked(run, each) if each in missing else _part(run, each) for each in range(len(plan.chunks))]
    profits = [pq.read_table(source, columns=[PROFIT]).column(0).to_numpy() for source in sources]
    found = ranks(np.concatenate(profits))
    starts = np.cumsum([0, *map(len, profits)]).tolist()
    for number in sorted(missing):
        _write(
            _part(run, number), with_ranks(pq.read_table(sources[number]), found[starts[number] : starts[number + 1]])
        )
    return True


def _write_unranked(settings: Settings, run: Path, plan: Plan, model: BatchModel, wanted: set[int]) -> None:
    """Write the scores of these chunks, as far as a killed run has not done so."""
    missing = {number for number in wanted if not _is_of_plan(run, _unranked(run, number))}
    if not missing:
        return
    store, observed_at = open_feature_store(settings), datetime.fromisoformat(plan.observed_at)
    times = event_times(
        settings, observed_at, plan.chunk_customers, activity=reads_activity(model.bundle.manifest.service)
    )
    for number, (ids, snapshots, activities) in enumerate(times):
        if number not in missing:
            continue
        chunk = read_chunk(store, model.bundle, ids, observed_at)
        here = chunk.present.tolist()
        scored = score_chunk(model, chunk, [*compress(snapshots, here)], [*compress(activities, here)], observed_at)
        # Checked after the join has read them: parts are only ever added, atomically.
        if _ids_sha256(ids) != plan.chunks[number]:
            raise _moved()
        _refuse_moved(settings, model, plan.inputs)
        told = {_COUNTS: json.dumps(scored.counts, sort_keys=True).encode(), _OF_PLAN: _plan_sha256(run).encode()}
        _write(_unranked(run, number), scored.rows.replace_schema_metadata(told))


def _write(path: Path, rows: pa.Table) -> None:
    content = io.BytesIO()
    pq.write_table(rows, content, compression="zstd")
    with storage_errors():
        write_file(path, content.getvalue())


def _finish(settings: Settings, run: Path, plan: Plan, model: BatchModel, *, fresh: bool) -> ScoreRun:
    """Write the manifest over all parts, and move the pointer to the newest run."""
    parts = [_part(run, number) for number in range(len(plan.chunks))]
    total: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    profit = 0.0
    for part in parts:
        counts = _counts(part)
        refused += Counter(counts.pop("refused"))
        profit += counts.pop("expected_profit_usd")
        total.update(counts)
    done = ScoreRun(
        path=run.relative_to(settings.home).as_posix(),
        observed_at=plan.observed_at,
        champion=plan.champion,
        model_version=plan.model_version,
        customers=total["customers"],
        scored=total["scored"],
        churn=total["churn"],
        refused=dict(sorted(refused.items())),
        withdrawn=total["withdrawn"] + plan.withdrawn,
        expired=plan.expired,
        unexplained=total["unexplained"],
        partial=total["partial"],
        stale=total["stale"],
        threshold=model.bundle.manifest.threshold,
        expected_profit_usd=profit,
        economics=asdict(model.economics),
        parts=len(parts),
        fresh=fresh or not (run / MANIFEST).is_file(),
    )
    told = {name: value for name, value in asdict(done).items() if name != "fresh"}
    files = {part.relative_to(run).as_posix(): file_sha256(part) for part in parts}
    manifest = _json({**told, "format": FORMAT, "inputs": plan.inputs, "files": files})
    pointer = settings.home / FOLDER / LATEST
    with storage_errors():
        if not _holds(run / MANIFEST, manifest):
            write_file(run / MANIFEST, manifest)
        # A run that was completed late does not replace a newer one.
        if _read(pointer).get("observed_at", "") <= plan.observed_at:
            shown = _json(
                {
                    "path": done.path,
                    "observed_at": plan.observed_at,
                    "champion": plan.champion,
                    "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
                }
            )
            if not _holds(pointer, shown):
                write_file(pointer, shown)
        remove(run / UNRANKED_PARTS)
    return done


def _is_whole(run: Path, number: int) -> bool:
    """Return whether a part exists and matches the run's plan, and the manifest if there is one already."""
    part = _part(run, number)
    if not part.is_file():
        return False
    if files := _read(run / MANIFEST).get("files"):
        if files.get(part.relative_to(run).as_posix()) == file_sha256(part):
            return True
        log.warning("%s of %s is damaged and written again", part.name, run.name)
        return False
    return _is_of_plan(run, part)


def _is_of_plan(run: Path, part: Path) -> bool:
    """Return whether a part, with ranks or without, can be read and belongs to the run's plan."""
    try:
        metadata = pq.read_schema(part).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return bool(metadata.get(_OF_PLAN) == _plan_sha256(run).encode())


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty if it is missing or unreadable: derived files are written again."""
    try:
        told = json.loads(read_regular(path))
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _counts(part: Path) -> dict[str, Any]:
    counts: dict[str, Any] = json.loads(pq.read_schema(part).metadata[_COUNTS])
    return counts


def _plan_sha256(run: Path) -> str:
    return file_sha256(run / PLAN)


def _part(run: Path, number: int) -> Path:
    return run / PARTS / f"part-{number:05}.parquet"


def _unranked(run: Path, number: int) -> Path:
    return run / UNRANKED_PARTS / f"part-{number:05}.parquet"


def _ids_sha256(ids: Sequence[str]) -> str:
    # JSON distinguishes ["a", "bc"] from ["ab", "c"].
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def _refuse_moved(settings: Settings, model: BatchModel, inputs: str) -> None:
    if _inputs(settings, model) != inputs:
        raise _moved()


def _moved() -> BaseMovedError:
    return BaseMovedError(
        "the offline tables got rows while the base was being scored", "run it again: it starts on what is there then"
    )


def _sweep(home: Path) -> None:
    """Remove unfinished runs: they belong to another date, champion or state of the tables."""
    with storage_errors():
        for run in (home / FOLDER).glob("*/*"):
            if run.is_dir() and not (run / MANIFEST).is_file():
                remove(run)


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
