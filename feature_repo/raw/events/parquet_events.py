"""Reader of Parquet event files through a child process with bounded memory.

Used by :mod:`feature_repo.raw.events.event_files`; never decodes Parquet in its own process.
See docs/decisions/0038-parquet-in-a-child.md.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, cast

import pyarrow as pa

from configs.errors import EXIT_GATE, ChurnError
from configs.settings import PROJECT_ROOT

CHILD: Final = "feature_repo.raw.events.parquet_child"
_TOLD_BYTES: Final = 1 << 16


class EventFileError(ChurnError):
    """The file is not a valid event file. The message names the file and the fault, never a customer id."""

    error = "events_invalid"
    exit_code = EXIT_GATE
    http_status = 422


def read_parquet(path: Path, shown_as: str, memory_max_mb: int, rows_before: int = 0) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file as tables.

    Columns: those of EVENT_SCHEMA, ``refusal`` and ``fault`` (strings, null where the row is valid).

    Raises
    ------
    EventFileError
        If the file is damaged, has other columns than an event, or would take more than ``memory_max_mb`` (10^6 bytes),
        or if its rows would, together with the ``rows_before`` read before from the same folder.
    """
    with tempfile.TemporaryFile() as said, _child(path, memory_max_mb, rows_before, said) as child:
        try:
            # A child that refused the file, or crashed, leaves no stream or a truncated one.
            with suppress(pa.ArrowInvalid, OSError), pa.ipc.open_stream(child.stdout) as stream:
                for batch in stream:
                    yield pa.Table.from_batches([batch])
        finally:
            # If the caller stops early, the child ends at its next write to the closed pipe.
            cast("IO[bytes]", child.stdout).close()
        code = child.wait()
        said.seek(0)
        if code:
            raise _refusal(code, said.read(_TOLD_BYTES), shown_as, memory_max_mb)


def _child(path: Path, memory_max_mb: int, rows_before: int, said: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", CHILD, str(path.absolute()), str(memory_max_mb), str(rows_before)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=said,
    )


def _refusal(code: int, said: bytes, shown_as: str, memory_max_mb: int) -> EventFileError:
    lines = said.decode(errors="replace").splitlines()
    try:
        told = json.loads(lines[-1]) if code == EXIT_GATE and lines else {"message": "", "hint": ""}
    except ValueError:
        told = {"message": "", "hint": ""}
    if told["message"]:
        return EventFileError(f"{shown_as} {told['message']}", told["hint"])
    ended = "" if code > 0 else f" (its reader ended by {signal.Signals(-code).name})"
    return EventFileError(
        f"{shown_as} cannot be read as Parquet within {memory_max_mb} MB of memory{ended}",
        "write it with smaller row groups, or raise CHURN_DATA__MEMORY_MAX_MB; it may also be damaged",
    )
