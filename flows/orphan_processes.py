"""Cleanup of orphaned processes: ends a command's child processes when the command itself has ended.

A watcher process waits for the end of the command, even by SIGKILL. Then every process that has the command's mark in
its environment is terminated, and killed if it does not end. Needed for libraries that start processes of their own
(Prefect its server, Feast's server its workers) and don't watch their parent.
See docs/decisions/0035-processes-and-files.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import MutableMapping
from typing import Final
from uuid import uuid4

from bentos.churn.server.parent_process import wait_for

VARIABLE: Final = "STARTED_BY_COMMAND"
_PATIENCE_S: Final = 15.0


def kill_orphans(environ: MutableMapping[str, str]) -> subprocess.Popen[bytes]:
    """Mark ``environ``, so that no process started with it outlives this one; return the watcher process.

    This process may replace itself by another program.
    """
    mark = uuid4().hex
    # In a session of its own: a signal from the terminal must not end the watcher first. Without a mark: the watcher of
    # the command that started this one would end it before it has ended any process.
    watch = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-P", "-m", "flows.orphan_processes", str(os.getpid()), mark],
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if name != VARIABLE},
        start_new_session=True,
    )
    environ[VARIABLE] = mark
    return watch


def end_marked(mark: str) -> None:
    """End every process of this user that was started with ``mark``; returns when none is left."""
    import psutil  # type: ignore[import-untyped]  # none are installed

    marked = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) == mark:
                process.terminate()
                marked.append(process)
        except psutil.Error:  # it has ended, or is not ours
            continue
    _, left = psutil.wait_procs(marked, _PATIENCE_S)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    wait_for(int(sys.argv[1]))
    end_marked(sys.argv[2])
