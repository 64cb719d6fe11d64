"""The inbox: the folder of files to ingest. File names define what each file is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Literal

from configs.errors import EXIT_USAGE, ChurnError
from configs.printable import printable
from feature_repo.files.atomic_writes import file_sha256, storage_errors, sync_folder
from feature_repo.files.stable_reads import Content, read_stable
from feature_repo.raw.events.event_files import SUFFIXES, parts_of
from feature_repo.raw.events.parquet_events import EventFileError
from feature_repo.raw.snapshots.acceptance import Acceptance, write_acceptance
from feature_repo.raw.snapshots.origin import WORLD_FILE

FOLDER: Final = "inbox"
LANDED: Final = "landed"
_EXTRACT: Final = re.compile(r"telco_(\d{4}-\d{2}-\d{2})(?:\.v(\d+))?\.csv")
SUCCESS: Final = "_SUCCESS"
"""The empty file that Spark writes into a folder when it is complete."""
_EVENTS: Final = re.compile(rf"events_[\w.-]+(?i:{'|'.join(map(re.escape, SUFFIXES))})")


class InboxNameError(ChurnError):
    """A file's name does not define its kind or date."""

    error = "inbox_name"


class InboxFileError(ChurnError):
    """The inbox has no such extract."""

    error = "inbox_file_unknown"
    exit_code = EXIT_USAGE


@dataclass(frozen=True, order=True)
class WaitingFile:
    """One file to ingest. Sort order: by day, an extract before its corrections, extracts before events.

    Parameters
    ----------
    as_of
        The snapshot date of an extract; ``date.max`` for events, which follow all extracts.
    revision
        Above 0 for a correction of an extract.
    path
        The file or folder.
    kind
        *extract* or *events*.
    """

    as_of: date
    revision: int
    path: Path
    kind: Literal["extract", "events"]


@dataclass(frozen=True)
class LeftFile:
    """One entry of the inbox that is not ingested.

    Parameters
    ----------
    name
        Its printable name.
    why
        The reason.
    """

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


def waiting(home: Path) -> tuple[list[WaitingFile], list[LeftFile]]:
    """Return the files to ingest, in order, and all other entries of the inbox, which stay there.

    ``telco_2026-11-01.csv`` is the extract of that day, ``telco_2026-11-01.v2.csv`` a correction of it,
    ``events_….parquet``, ``.jsonl`` or ``.ndjson`` a file of events; the former may be a folder, which is complete once
    it contains :data:`SUCCESS`. A ``world.json`` states which files are simulated and is not ingested. Copy a large
    file under a name that begins with a dot, and rename it when it is complete.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from flows.steps.inbox import waiting
    >>> home = Path(tempfile.mkdtemp())
    >>> (home / "inbox").mkdir()
    >>> for name in ("telco_2026-12-01.csv", "telco_2026-11-01.v2.csv", "notes.txt"):
    ...     _ = (home / "inbox" / name).write_text("rows")
    >>> files, left = waiting(home)
    >>> [(each.as_of.isoformat(), each.revision) for each in files], [each.name for each in left]
    ([('2026-11-01', 1), ('2026-12-01', 0)], ['notes.txt'])
    """
    files, left = [], []
    for path in _lying(home):
        why = _why_not(path)
        found = None if why else read_name(path)
        if found is None:
            left.append(left_behind(path, why or "its name does not say what it is"))
        else:
            files.append(found)
    return sorted(files), left


def left_behind(path: Path, why: str) -> LeftFile:
    """Return the entry of a path that is not ingested, its name made printable."""
    return LeftFile("".join(sign if sign.isprintable() else "?" for sign in path.name), why)


def oldest(home: Path) -> datetime | None:
    """Return the arrival instant (UTC) of the oldest entry of the inbox; None if it is empty.

    Measured by ctime: a move keeps the mtime of the content.
    """
    times = [path.lstat().st_ctime for path in _lying(home)]
    return datetime.fromtimestamp(min(times), UTC) if times else None


def _lying(home: Path) -> Iterator[Path]:
    folder = home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in {LANDED, WORLD_FILE}:
            yield path


def _why_not(path: Path) -> str:
    """Return why an entry is not ingested, whatever its name; "" if it may be."""
    if path.name.startswith("."):
        return "hidden: a copy that is not finished"
    if path.is_symlink():
        return "a link: move the file itself here"
    if path.is_dir():
        return _why_no_folder(path)
    if not path.is_file():
        return "no regular file"
    return "" if os.access(path, os.R_OK, effective_ids=True) else "no right to read it"


def _why_no_folder(path: Path) -> str:
    if not (_EVENTS.fullmatch(path.name) and path.suffix == ".parquet"):
        return "a folder: events_….parquet alone may be one"
    try:
        parts_of(path)
    except EventFileError as refused:
        return refused.message.removeprefix(f"{path.name} ")
    except OSError as refused:
        return f"cannot be read: {refused.strerror}"
    return (
        ""
        if (path / SUCCESS).is_file()
        else f"no {SUCCESS} in it: put an empty file of that name there once it is whole"
    )


def read_name(path: Path) -> WaitingFile | None:
    """Return the file with the kind and date that its name defines, None if it defines none.

    Examples
    --------
    >>> from pathlib import Path
    >>> from flows.steps.inbox import read_name
    >>> found = read_name(Path("inbox/telco_2026-11-01.v2.csv"))
    >>> found.kind, found.as_of.isoformat(), found.revision
    ('extract', '2026-11-01', 1)
    >>> print(read_name(Path("inbox/customers.csv")))
    None
    """
    if extract := _EXTRACT.fullmatch(path.name):
        try:
            as_of = date.fromisoformat(extract[1])
        except ValueError:
            return None
        return WaitingFile(as_of, int(extract[2] or 1) - 1, path, "extract")
    return WaitingFile(date.max, 0, path, "events") if _EVENTS.fullmatch(path.name) else None


def move_to_ingested(home: Path, path: Path, landed: Content) -> Path | None:
    """Move an ingested file to ``inbox/landed``.

    If a file of the same name exists there it gets a number: nothing is overwritten. A refused file stays in the inbox
    and is refused by each run until it is fixed or removed: skipping it would let later files bypass the gate.

    Parameters
    ----------
    home, path
        The home, and the file in its inbox.
    landed
        The file's content from before it was read.

    Returns
    -------
    Path or None
        The new path; None if the content has changed since: the file then stays in the inbox for the next run.
    """
    target = home / FOLDER / LANDED / path.name
    number = 1
    with storage_errors():
        if read_stable(path) != landed:
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            number += 1
            target = target.with_name(f"{path.stem}.{number}{path.suffix}")
        path.rename(target)
        sync_folder(target.parent)
    return target


def accept(home: Path, name: str, *, who: str, why: str, now: datetime) -> Acceptance:
    """Accept that more customers vanished in an extract of the inbox than the gate allows.

    The next run ingests it, if it holds every other rule and its content has not changed since.

    Parameters
    ----------
    home
        The home whose inbox it lies in.
    name
        Its name in the inbox, or its path.
    who, why
        The operator and the reason, for the snapshot's manifest: no secret, no customer.
    now
        The present instant, tz-aware UTC.

    Raises
    ------
    InboxFileError
        If the inbox has no extract of that name.
    StorageError
        If the acceptance can't be written.
    """
    path = home / FOLDER / Path(name).name
    outside = Path(name).name != name and Path(name).absolute() != path
    found = None if outside or _why_not(path) else read_name(path)
    if found is None or found.kind != "extract":
        extracts = ", ".join(each.path.name for each in waiting(home)[0] if each.kind == "extract")
        raise InboxFileError(
            f"{printable(name)} is no extract that waits in {home / FOLDER}; there: {extracts or 'none'}",
            "name one of them; for a file elsewhere: churn ingest … --accept-vanished --why TEXT",
        )
    accepted = Acceptance(file_sha256(path), found.as_of, who, why, now)
    write_acceptance(home, accepted)
    return accepted


def named(path: Path, as_of: date | None) -> WaitingFile:
    """Return a file passed explicitly; ``as_of`` makes it the extract of that day.

    Raises
    ------
    InboxNameError
        If neither its name nor ``as_of`` defines what it is.
    """
    found = read_name(path)
    if as_of is not None:
        return WaitingFile(as_of, found.revision if found else 0, path, "extract")
    if found is None and path.suffix.lower() in SUFFIXES:
        return WaitingFile(date.max, 0, path, "events")
    if found is None:
        raise InboxNameError(
            f"the name of {path.name} does not say what it is",
            "call it telco_YYYY-MM-DD.csv or events_….parquet, or give as_of for an extract",
        )
    return found
