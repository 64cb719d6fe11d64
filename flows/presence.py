"""Which runs are alive: each holds a lock on a file of its own, which the kernel frees when the process dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from feature_repo.raw.atomic import storage

FOLDER: Final = "runs"
_HELD: Final[list[IO[str]]] = []


@dataclass(frozen=True)
class Dead:
    """A run whose process ended without saying so."""

    run_id: str
    host: str
    pid: int
    path: Path

    def forget(self) -> None:
        """Remove its trace: it has been marked."""
        self.path.unlink(missing_ok=True)


def announce(home: Path, run_id: str) -> None:
    """Say that the run ``run_id`` (a UUID) is alive for as long as this process lives.

    The lock is kept to the end of the process, not of the run: a run whose function has returned may still die before
    its state is reported.
    """
    path = home / FOLDER / f"{run_id}.json"
    with storage():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    # Locked before it has content: nobody may take an empty file for that of a dead run.
    fcntl.flock(file, fcntl.LOCK_EX)
    file.truncate(0)
    file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    file.flush()
    _HELD.append(file)


def dead(home: Path) -> list[Dead]:
    """Return the runs whose process has died. The home must be on a file system with locks, as for everything else."""
    found = []
    folder = home / FOLDER
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            file = path.open("r")
        except FileNotFoundError:  # it ended well, just now
            continue
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            text = file.read()
            if text and path.exists():
                told = json.loads(text)
                found.append(Dead(path.stem, str(told["host"]), int(told["pid"]), path))
    return found
