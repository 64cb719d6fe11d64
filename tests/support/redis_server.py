"""A Redis of a test's own, to be stopped, killed, starved and started again."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

from flows.service_process import free_port
from tests.programs import program
from tests.support.patience import until


class RedisProcess:
    """Runs on a free loopback port, keeps nothing on disk, and ends with its block; ``options`` are the server's."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._words = [
            program("redis-server"),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(folder),
            "--save",
            "",
        ]
        self._words += options
        self.start()

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        self.process = subprocess.Popen(self._words, stdout=subprocess.DEVNULL)
        until(lambda: self._open() or self.process.poll() is not None)
        assert self.process.poll() is None, "redis-server ended at its start"

    def kill(self) -> None:
        """Kill -9; a second time changes nothing."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
