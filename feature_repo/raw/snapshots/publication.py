"""Atomic storage of raw extracts and publication of snapshot versions.

A version is a folder that is written under a temporary name, synced, and renamed into place; it becomes live when one
small file, the date's ``manifest.json``, is replaced. Readers start at that file and follow its path, so they see the
old version or the new one, never a mixture; a killed run leaves only folders that no reader uses. See
docs/decisions/0014-snapshots-over-time.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

from configs.errors import ChurnError
from feature_repo.contract import LABEL
from feature_repo.files.atomic_writes import (
    TEMPORARY,
    copy_file,
    file_sha256,
    remove,
    storage_errors,
    sync_folder,
    temporary_file,
    write_file,
    write_folder,
)
from feature_repo.files.locks import PublishLock, publish_lock
from feature_repo.files.regular_files import read_regular
from feature_repo.files.stable_reads import unchanged
from feature_repo.raw.snapshots.acceptance import Acceptance
from feature_repo.raw.snapshots.origin import Origin, home_origin, refuse_mixture

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION: Final = 1
"""Version of the snapshot's columns and types; increment it when the contract's stored features change."""

_VERSION: Final = re.compile(r"([0-9]+)-[0-9a-f]{12}")
_SHORT: Final = 12


class SnapshotExistsError(ChurnError):
    """The date has a live snapshot with other content."""

    error = "snapshot_exists"
    http_status = 409


class SnapshotTooEarlyError(ChurnError):
    """The date is before the first snapshot, whose time is declared."""

    error = "snapshot_too_early"
    http_status = 409


class SnapshotDamagedError(ChurnError):
    """A published file is missing or no longer matches its manifest, or the manifest is unreadable."""

    error = "snapshot_damaged"


@dataclass(frozen=True)
class RawFile:
    """A stored raw file.

    Parameters
    ----------
    path
        Its immutable copy.
    sha256, bytes
        Hex digest and size in bytes.
    source_name
        The source file's name.
    """

    path: Path
    sha256: str
    bytes: int
    source_name: str


@dataclass(frozen=True)
class SnapshotManifest:
    """Identity and origin of one version of a snapshot.

    ``version`` counts from 1 within a date, ``sequence`` from 1 over all publications of the home, in their order.
    ``late``: a later date was published before this version arrived, so that ``created_at`` is its real arrival.
    ``digest`` is the sha256 (hex) of the snapshot's Parquet bytes; ``replaces`` the digest of the version before, if
    any; ``path`` is the snapshot's path relative to the home. Instants are tz-aware UTC; ``churn_rate`` is the share of
    rows with ``churned`` (0..1).
    """

    snapshot_date: date
    version: int
    sequence: int
    time: Literal["declared", "observed"]
    event_at: datetime
    created_at: datetime
    late: bool
    source_name: str
    source_sha256: str
    rows: int
    quarantined_rows: int
    churn_rate: float
    schema_version: int
    digest: str
    ingested_at: datetime
    replaces: str | None
    path: str
    origin: Origin | None = None
    vanished_accepted: Acceptance | None = None

    def to_json(self) -> str:
        """Return the manifest as JSON with sorted keys and ISO 8601 dates and instants."""
        return json.dumps(asdict(self), default=lambda value: value.isoformat(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError or KeyError for anything else."""
        values: dict[str, Any] = json.loads(text)
        # An earlier version wrote no origin and no acceptance.
        values = {
            each.name: values[each.name] for each in fields(cls) if each.name in values or each.default is MISSING
        }
        if values.get("origin") not in {None, *get_args(Origin)}:
            raise ValueError("the origin is neither simulated nor real")
        if accepted := values.get("vanished_accepted"):
            values["vanished_accepted"] = Acceptance.of(accepted)
        values["snapshot_date"] = date.fromisoformat(values["snapshot_date"])
        for name in ("event_at", "created_at", "ingested_at"):
            values[name] = datetime.fromisoformat(values[name])
        return cls(**values)


@dataclass(frozen=True)
class Publication:
    """The live version after a publication.

    Parameters
    ----------
    manifest
        Its manifest.
    fresh
        False if it was live before.
    """

    manifest: SnapshotManifest
    fresh: bool


def land_raw(home: Path, path: Path, as_of: date, admit: Callable[[str], None] | None = None) -> RawFile:
    r"""Copy a file unchanged to ``raw/<date>/``, named by its sha256, along with a JSON note.

    The same content again changes nothing.

    Parameters
    ----------
    home
        The home.
    path
        The file; it is copied, never changed.
    as_of
        The snapshot date.
    admit
        Called with the copied bytes' sha256 (hex) before they get their name; where it raises, no copy is stored.

    Raises
    ------
    StorageError
        If the copy can't be written.
    SourceChangingError
        If the file changes meanwhile. In both cases nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import date
    >>> from pathlib import Path
    >>> from feature_repo.raw.snapshots.publication import land_raw
    >>> home = Path(tempfile.mkdtemp())
    >>> _ = (home / "extract.csv").write_text("customerID\n")
    >>> raw = land_raw(home, home / "extract.csv", date(2026, 1, 1))
    >>> raw.bytes, raw.path.parent.relative_to(home).as_posix()
    (11, 'raw/2026-01-01')
    """
    folder = home / "raw" / as_of.isoformat()
    with publish_lock(home), storage_errors():
        _sweep(home)
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_file(folder) as temporary:
            with unchanged(path):
                sha256, size = copy_file(path, temporary)
            if admit is not None:
                admit(sha256)
            landed = folder / f"{sha256[:_SHORT]}.csv"
            # A stored copy that was damaged on disk is replaced when the same file is ingested again.
            if not landed.is_file() or file_sha256(landed) != sha256:
                temporary.replace(landed)
        note = landed.with_suffix(".json")
        if not note.is_file():
            told = {"snapshot_date": as_of.isoformat(), "sha256": sha256, "bytes": size, "source_name": path.name}
            write_file(note, json.dumps(told, indent=2, sort_keys=True).encode() + b"\n")
        sync_folder(folder)
    return RawFile(landed, sha256, size, path.name)


def check_admissible(home: Path, as_of: date, sha256: str, *, replace: bool) -> SnapshotManifest | None:
    """Check whether a source may be published for a date.

    Returns
    -------
    SnapshotManifest or None
        The live version if it has the same source (nothing to do), else None: publish.

    Raises
    ------
    SnapshotExistsError
        If the date has other content and ``replace`` is not set.
    SnapshotTooEarlyError
        If the date is before the first snapshot: that one's time is declared, and models trained on it assume that
        nothing is earlier.
    """
    manifests = published_snapshots(home)
    if manifests and as_of < manifests[0].snapshot_date:
        raise SnapshotTooEarlyError(
            f"{as_of} is before the first snapshot, {manifests[0].snapshot_date}",
            "ingest the oldest extract first, into an empty home (CHURN_HOME)",
        )
    live = next((manifest for manifest in manifests if manifest.snapshot_date == as_of), None)
    if live is None or live.source_sha256 == sha256:
        return live
    if not replace:
        raise SnapshotExistsError(
            f"a snapshot of {as_of} with other content is live (version {live.version}, {live.source_name})",
            "add --replace to publish this one in its place; the old one is kept",
        )
    return None


def publish_snapshot(  # noqa: PLR0913 - one row of the manifest each
    home: Path,
    as_of: date,
    snapshot: pd.DataFrame,
    quarantine: pd.DataFrame,
    *,
    raw: RawFile,
    time: Literal["declared", "observed"],
    event_at: datetime,
    created_at: datetime,
    ingested_at: datetime,
    replace: bool,
    extra_files: Mapping[str, bytes],
    late: bool = False,
    origin: Origin = "real",
    vanished_accepted: Acceptance | None = None,
    held: PublishLock | None = None,
) -> Publication:
    """Publish a snapshot's rows as the live version of a date.

    Parameters
    ----------
    home
        The folder that holds everything the platform writes.
    as_of
        The snapshot date.
    snapshot
        ``(customers, …)`` as :func:`feature_repo.raw.snapshots.telco_csv.normalise` returns it.
    quarantine
        The excluded rows, as raw strings with their reasons.
    raw
        The stored file that the rows were read from.
    time, event_at, created_at, late, ingested_at, origin, vanished_accepted
        See :class:`SnapshotManifest`.
    replace
        Whether other content may replace a live version; the old version is kept.
    extra_files
        File name -> content, stored in the version's folder.
    held
        The home's lock if the caller holds it (it determined the times under it); None: it is taken here.

    Returns
    -------
    Publication
        The live version, and whether it is new.

    Raises
    ------
    SnapshotExistsError, SnapshotTooEarlyError
        See :func:`check_admissible`.
    MixedHomeError
        If the home's first snapshot has another origin.
    StorageError
        If a write fails: the old version stays live and nothing is left behind.
    """
    with nullcontext() if held else publish_lock(home), storage_errors():
        if (live := check_admissible(home, as_of, raw.sha256, replace=replace)) is not None:
            return Publication(live, fresh=False)
        check_origin(home, origin, raw.source_name)
        _sweep(home)
        old = live_version(home, as_of)
        content = _parquet(snapshot)
        digest = hashlib.sha256(content).hexdigest()
        version = old.version + 1 if old else 1
        day = home / "processed" / as_of.isoformat()
        final = day / "versions" / f"{version}-{digest[:_SHORT]}"
        manifest = SnapshotManifest(
            snapshot_date=as_of,
            version=version,
            sequence=1 + sum(manifest.version for manifest in published_snapshots(home)),
            time=time,
            event_at=event_at,
            created_at=created_at,
            late=late,
            source_name=raw.source_name,
            source_sha256=raw.sha256,
            rows=len(snapshot),
            quarantined_rows=len(quarantine),
            churn_rate=float(snapshot[LABEL].mean()),
            schema_version=SCHEMA_VERSION,
            digest=digest,
            ingested_at=ingested_at,
            replaces=old.digest if old else None,
            path=(final / "snapshot.parquet").relative_to(home).as_posix(),
            origin=origin,
            vanished_accepted=vanished_accepted,
        )
        note = manifest.to_json().encode()
        files = {"snapshot.parquet": content, "quarantine.parquet": _parquet(quarantine), "manifest.json": note}
        write_folder(final, {**extra_files, **files})
        write_file(day / "manifest.json", note)
    return Publication(manifest, fresh=True)


def published_snapshots(home: Path) -> list[SnapshotManifest]:
    """Return the live version of every date, oldest first.

    Raises
    ------
    SnapshotDamagedError
        If a manifest is unreadable.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.raw.snapshots.publication import published_snapshots
    >>> published_snapshots(Path(tempfile.mkdtemp()))
    []
    """
    return sorted(
        (_manifest(path) for path in (home / "processed").glob("*/manifest.json")),
        key=lambda manifest: manifest.snapshot_date,
    )


def live_version(home: Path, as_of: date) -> SnapshotManifest | None:
    """Return the live version of a date, None if there is none."""
    path = home / "processed" / as_of.isoformat() / "manifest.json"
    return _manifest(path) if path.is_file() else None


def snapshot_versions(home: Path, as_of: date) -> list[SnapshotManifest]:
    """Return all versions of a date that are or were live, oldest first."""
    live = live_version(home, as_of)
    if live is None:
        return []
    folders = (home / "processed" / as_of.isoformat() / "versions").glob("*/manifest.json")
    # A killed run may have left a finished folder that never became live: it is newer than the live one.
    known = [_manifest(path) for path in folders if not path.parent.name.startswith(TEMPORARY)]
    return sorted((m for m in known if m.version <= live.version), key=lambda manifest: manifest.version)


def snapshot_history(home: Path) -> list[SnapshotManifest]:
    """Return all versions of all dates that are or were live, in the order of publication."""
    known = [manifest for live in published_snapshots(home) for manifest in snapshot_versions(home, live.snapshot_date)]
    return sorted(known, key=lambda manifest: manifest.sequence)


def origin_of(home: Path, path: Path | None = None) -> Origin | None:
    """Return the origin of a home by its first snapshot, None before it.

    ``path``: a file whose worlds count too, see :func:`feature_repo.raw.snapshots.origin.home_origin`.
    """
    every = snapshot_history(home)
    return home_origin(home, every[0].origin, every[0].source_sha256, path) if every else None


def check_origin(home: Path, origin: Origin, name: str, path: Path | None = None) -> None:
    """Raise MixedHomeError if the home's first snapshot has another origin than the file ``name``.

    ``path``: where the file lies, as in :func:`origin_of`.
    """
    for first in snapshot_history(home)[:1]:
        of_home = home_origin(home, first.origin, first.source_sha256, path)
        refuse_mixture(home, of_home, origin, name=name, first=f"{first.source_name} of {first.snapshot_date}")


def read_snapshot(home: Path, manifest: SnapshotManifest, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the rows of one version as published; all columns, or only ``columns``.

    Raises
    ------
    SnapshotDamagedError
        If the file is missing, or its bytes no longer have the manifest's digest.
    """
    import pandas as pd  # only here: manifests are read without it

    path = home / manifest.path
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != manifest.digest:
        raise SnapshotDamagedError(
            f"{manifest.path} is missing or changed since it was published",
            f"restore it from a backup, or ingest raw/{manifest.snapshot_date}/{manifest.source_sha256[:_SHORT]}.csv "
            "into a new home",
        )
    return pd.read_parquet(io.BytesIO(content), columns=None if columns is None else list(columns))


def _manifest(path: Path) -> SnapshotManifest:
    try:
        return SnapshotManifest.from_json(read_regular(path).decode())
    except KeyError as lacking:
        raise SnapshotDamagedError(
            f"{path} lacks {lacking}: it is damaged, or of an older version of this platform",
            "restore it from a backup; or ingest the files of raw/ into a new home, oldest first",
        ) from lacking
    except (ValueError, TypeError) as broken:
        raise SnapshotDamagedError(
            f"{path} is no manifest ({type(broken).__name__})",
            "restore it: each folder in versions/ next to it holds a copy of its own",
        ) from broken


def _parquet(frame: pd.DataFrame) -> bytes:
    return frame.reset_index(drop=True).to_parquet(index=False)


def _sweep(home: Path) -> None:
    """Remove leftovers of killed runs: temporary files, and version folders newer than the live one."""
    for leftover in (
        *home.glob(f"raw/*/{TEMPORARY}*"),
        *home.glob(f"processed/*/{TEMPORARY}*"),
        *home.glob(f"processed/*/versions/{TEMPORARY}*"),
        *home.glob(f"reports/gate/{TEMPORARY}*"),
    ):
        remove(leftover)
    for day in home.glob("processed/*"):
        live = _manifest(day / "manifest.json").version if (day / "manifest.json").is_file() else 0
        for folder in day.glob("versions/*"):
            number = _VERSION.fullmatch(folder.name)
            if number and int(number[1]) > live:
                remove(folder)
