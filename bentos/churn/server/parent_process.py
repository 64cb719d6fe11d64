"""Ends a process of the service when the one that started it is gone, however that ended."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import MutableMapping
from typing import Final

VARIABLE: Final = "SERVICE_PARENT_PID"
"""In the environment of a process of the service: the process that started it and that it must not outlive."""
_PATIENCE_S: Final = 15.0
"""How long what was accepted may be finished before the process is killed."""
_LOOK_S: Final = 0.5
"""How often the parent is looked for where the system does not tell of its end."""


def follow(environ: MutableMapping[str, str]) -> None:
    """End this process (SIGTERM, then SIGKILL) once the parent that ``environ`` names is gone; it may be already."""
    if told := environ.get(VARIABLE):
        threading.Thread(target=_end_after, args=(int(told),), name="churn-parent", daemon=True).start()


def lead(environ: MutableMapping[str, str]) -> None:
    """Have the processes that are started with ``environ`` follow this one."""
    environ[VARIABLE] = str(os.getpid())


def hang_up() -> None:
    """Make a terminal that hangs up end the service, unless it was started to survive that (nohup).

    BentoML's supervisor would take SIGHUP for the wish to start its workers anew. Only in the supervisor.
    """
    from circus.sighandler import SysHandler  # type: ignore[import-untyped]  # none are published

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
