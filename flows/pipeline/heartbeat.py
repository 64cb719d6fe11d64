"""Liveness of runs: each holds a lock on its own file, which the kernel frees when its process ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final

from feature_repo.files.atomic_writes import TEMPORARY, storage_errors
from feature_repo.files.regular_files import open_regular

FOLDER: Final = "runs"
_HELD: Final[list[IO[str]]] = []


@dataclass(frozen=True)
class DeadRun:
    """A run whose process ended without reporting its state."""

    run_id: str
    host: str
    pid: int
    path: Path

    def remove(self) -> None:
        """Remove the file of a run that has been marked."""
        self.path.unlink(missing_ok=True)


def register_run(home: Path, run_id: str) -> None:
    """Mark the run ``run_id`` (a UUID) as alive for the lifetime of this process.

    The lock is held to the end of the process, not of the run: a run whose function has returned may still die before
    its state is reported.
    """
    path = home / FOLDER / f"{run_id}.json"
    aside = path.with_name(f"{TEMPORARY}{path.name}")
    with storage_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = aside.open("w")
        # Locked and complete before it is visible: a starting run must never be taken for a dead one.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        file.flush()
        aside.replace(path)
    _HELD.append(file)


def find_dead_runs(home: Path) -> list[DeadRun]:
    """Return the runs whose process has ended. The home's file system must support locks."""
    found = []
    for path in _files(home):
        with open_regular(path) as file:
            if _held(file):
                continue
            told = json.loads(file.read())
            found.append(DeadRun(path.stem, str(told["host"]), int(told["pid"]), path))
    return found


def find_live_runs(home: Path) -> set[str]:
    """Return the ids of the runs whose process is alive."""
    found = set()
    for path in _files(home):
        with open_regular(path) as file:
            if _held(file):
                found.add(path.stem)
    return found


def _files(home: Path) -> list[Path]:
    folder = home / FOLDER
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith(".")) if folder.is_dir() else []


def _held(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
