"""End a process of the service when the process that started it is gone, however that ended."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import MutableMapping
from typing import Any, Final

import psutil  # type: ignore[import-untyped]  # none are installed

PARENT_PID_VARIABLE: Final = "SERVICE_PARENT_PID"
"""Environment variable with the pid of the process that started this one and that it must not outlive."""
_INTERRUPTED: Final = 128 + signal.SIGINT
"""Exit code of a process that SIGINT ended, as a shell reports it."""
_PATIENCE_S: Final = 15.0
"""Seconds to finish accepted requests before the process is killed."""
_LOOK_S: Final = 0.5
"""Seconds between two checks of the parent where the system does not report its end."""


def exit_with_parent(environ: MutableMapping[str, str]) -> None:
    """End this process (SIGTERM, then SIGKILL) once the parent named in ``environ`` is gone, or if it is."""
    if told := environ.get(PARENT_PID_VARIABLE):
        threading.Thread(target=_end_after, args=(int(told),), name="churn-parent", daemon=True).start()


def mark_as_parent(environ: MutableMapping[str, str]) -> None:
    """Make the processes that are started with ``environ`` follow this one."""
    environ[PARENT_PID_VARIABLE] = str(os.getpid())


def handle_interrupts() -> None:
    """Make the first SIGINT drain the service as SIGTERM does, and a second one end it at once; both with code 130.

    BentoML's supervisor runs its workers in sessions of their own: Ctrl-C reaches the supervisor alone. Call it only
    in the supervisor, before it installs its signal handlers.
    """
    from circus.sighandler import SysHandler  # type: ignore[import-untyped]  # none are published

    def interrupted(supervisor: Any) -> None:
        if not drains:
            drains.append(True)
            _write("interrupted: answering the accepted requests; Ctrl-C again ends it at once\n")
            # Registered last, so it runs first: BentoML's command would end with code 0.
            atexit.register(_exit_interrupted)
            supervisor.quit()
            return
        _write("interrupted again: ended at once\n")
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        os._exit(_INTERRUPTED)

    drains: list[bool] = []
    SysHandler.handle_int = interrupted


def _exit_interrupted() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_INTERRUPTED)


def _write(line: str) -> None:
    # No buffered writer: a signal handler may have interrupted one.
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line.encode())


def hang_up() -> None:
    """Make SIGHUP of a closed terminal end the service, unless it was started to survive that (nohup).

    BentoML's supervisor would restart its workers on SIGHUP. Only in the supervisor.
    """
    from circus.sighandler import SysHandler

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    SysHandler.handle_hup = SysHandler.handle_winch if ignored else SysHandler.quit


def _end_after(parent: int) -> None:
    wait_for(parent)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(parent: int) -> None:
    """Return when ``parent`` is not, or no longer, the parent of this process."""
    try:
        handle = os.pidfd_open(parent)
    except (AttributeError, OSError):  # macOS, an old kernel; or it is gone
        handle = -1
    if handle >= 0 and os.getppid() == parent:
        select.select([handle], [], [])
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
