"""SIGINT handling of this process after imports that change it. Standard library only."""

from __future__ import annotations

import signal
import threading


def reinstate_interrupts() -> None:
    """Install Python's current SIGINT handler again, so that SIGINT wakes a blocking call of the main thread.

    polars, which MLflow imports, replaces the handler in C by one with SA_RESTART: the kernel then resumes a wait for
    a lock or a child process, and Python's handler never runs. Python does not see the replacement. Call it after such
    an import; in another thread than the main one, where no handler can be installed, it does nothing.
    """
    current = signal.getsignal(signal.SIGINT)
    if current is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, current)
