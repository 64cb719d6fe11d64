"""Files that wait to be landed: a folder whose names say what each file is, and what else lies there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Literal

from configs.errors import ChurnError
from feature_repo.files.atomic_writes import storage, sync_folder
from feature_repo.files.stable_reads import Content, content
from feature_repo.raw.events.event_files import SUFFIXES, parts_of
from feature_repo.raw.events.parquet_events import BadEvents

FOLDER: Final = "inbox"
LANDED: Final = "landed"
_EXTRACT: Final = re.compile(r"telco_(\d{4}-\d{2}-\d{2})(?:\.v(\d+))?\.csv")
SUCCESS: Final = "_SUCCESS"
"""The empty file that Spark writes into a folder when it is whole."""
_EVENTS: Final = re.compile(rf"events_[\w.-]+(?i:{'|'.join(map(re.escape, SUFFIXES))})")


class InboxNameError(ChurnError):
    """A file's name does not say what it is."""

    error = "inbox_name"


@dataclass(frozen=True, order=True)
class Waiting:
    """One file to land. In order: by day, an extract before its corrections, extracts before events.

    ``as_of`` is the snapshot date of an extract (``date.max`` for events, which wait for all extracts); ``revision``
    is above 0 for a correction of it.
    """

    as_of: date
    revision: int
    path: Path
    kind: Literal["extract", "events"]


@dataclass(frozen=True)
class Left:
    """One thing that lies in the inbox and is not landed: its name, fit to be shown on one line, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


def waiting(home: Path) -> tuple[list[Waiting], list[Left]]:
    """Return the files to land, in order, and everything else that lies in the inbox; that stays where it is.

    ``telco_2026-11-01.csv`` is the extract of that day, ``telco_2026-11-01.v2.csv`` a correction of it,
    ``events_….parquet``, ``.jsonl`` or ``.ndjson`` a file of events; the former may be a folder, which is whole once
    :data:`SUCCESS` lies in it. Copy a large file under a name that begins with a dot, and rename it when it is whole.
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


def left_behind(path: Path, why: str) -> Left:
    """Return what to say of a thing that is not landed."""
    return Left("".join(sign if sign.isprintable() else "?" for sign in path.name), why)


def oldest(home: Path) -> datetime | None:
    """Return since when (UTC) the thing lies in the inbox that came first, of those still there; None: it is empty.

    By the change of its inode: moving a file keeps the time of its content.
    """
    times = [path.lstat().st_ctime for path in _lying(home)]
    return datetime.fromtimestamp(min(times), UTC) if times else None


def _lying(home: Path) -> Iterator[Path]:
    folder = home / FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name != LANDED:
            yield path


def _why_not(path: Path) -> str:
    """Return why a thing is not landed, whatever its name; empty where it may be."""
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
    except BadEvents as refused:
        return refused.message.removeprefix(f"{path.name} ")
    except OSError as refused:
        return f"cannot be read: {refused.strerror}"
    return (
        ""
        if (path / SUCCESS).is_file()
        else f"no {SUCCESS} in it: put an empty file of that name there once it is whole"
    )


def read_name(path: Path) -> Waiting | None:
    """Return what a file's name says it is, None if nothing."""
    if extract := _EXTRACT.fullmatch(path.name):
        try:
            as_of = date.fromisoformat(extract[1])
        except ValueError:
            return None
        return Waiting(as_of, int(extract[2] or 1) - 1, path, "extract")
    return Waiting(date.max, 0, path, "events") if _EVENTS.fullmatch(path.name) else None


def settle(home: Path, path: Path, landed: Content) -> Path | None:
    """Move a file that was landed to ``inbox/landed`` and return where it is now.

    ``landed`` is its content as of before it was read; where that has changed since, the file is left in the inbox for
    the next run, and None returned.

    Where a file of the same name lies there already it gets a number: nothing is overwritten. A file that was refused
    stays in the inbox and is refused each time, until somebody mends it or takes it away: a gate that says no once and
    then lets everything behind it pass would be none.
    """
    target = home / FOLDER / LANDED / path.name
    number = 1
    with storage():
        if content(path) != landed:
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            number += 1
            target = target.with_name(f"{path.stem}.{number}{path.suffix}")
        path.rename(target)
        sync_folder(target.parent)
    return target


def named(path: Path, as_of: date | None) -> Waiting:
    """Return a file that was given by hand; ``as_of`` is the day of an extract, where its name does not say it.

    Raises
    ------
    InboxNameError
        If neither its name nor ``as_of`` says what it is.
    """
    found = read_name(path)
    if as_of is not None:
        return Waiting(as_of, found.revision if found else 0, path, "extract")
    if found is None and path.suffix.lower() in SUFFIXES:
        return Waiting(date.max, 0, path, "events")
    if found is None:
        raise InboxNameError(
            f"the name of {path.name} does not say what it is",
            "call it telco_YYYY-MM-DD.csv or events_….parquet, or give as_of for an extract",
        )
    return found
