"""A command in a pseudo-terminal: what it prints, Ctrl-C as a person presses it, and what it leaves running."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping
from contextlib import contextmanager

import psutil

from tests.support.patience import PATIENCE_S, until

CTRL_C = b"\x03"


class Terminal:
    """A process whose terminal is ours, and everything below it."""

    def __init__(self, process: subprocess.Popen[bytes], side: int):
        self.process, self._side, self._said = process, side, bytearray()
        self._below: dict[int, psutil.Process] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        return bytes(self._said).decode("utf-8", "replace").replace("\r\n", "\n")

    def wait_for(self, pattern: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until the program has printed something."""
        until(lambda: re.search(pattern, self.said) or self.process.poll() is not None, patience_s=patience_s)
        assert re.search(pattern, self.said), self.said

    def interrupt(self) -> None:
        """Press Ctrl-C; the processes that run by now are remembered."""
        for each in psutil.Process(self.process.pid).children(recursive=True):
            self._below[each.pid] = each
        os.write(self._side, CTRL_C)

    def end(self) -> int:
        """Wait for the end of the process and of all that it had started; return its code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        for each in self._below.values():
            until(lambda one=each: not one.is_running() or one.status() == psutil.STATUS_ZOMBIE)
        return code

    def _read(self) -> None:
        while True:
            try:
                found = os.read(self._side, 65536)
            except OSError:  # the last process at the terminal has ended
                return
            if not found:
                return
            self._said += found


@contextmanager
def terminal(words: list[str], env: Mapping[str, str], cwd: os.PathLike[str], columns: int = 80):
    """Start a command as the leader of a session with a terminal of its own; kill it at the end of the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        words, env=env, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - the only way to make it the controlling one
    )  # fmt: skip
    os.close(theirs)
    found = Terminal(process, ours)
    try:
        yield found
    finally:
        process.kill()
        process.wait()
        found._reader.join(PATIENCE_S)
        os.close(ours)


def _take_terminal() -> None:
    # A shell without job control starts background commands with SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
