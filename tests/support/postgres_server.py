"""A real PostgreSQL on a free loopback port, for tests: it can be down, come up, hang and go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from flows.service_process import free_port
from tests.programs import program
from tests.support.patience import until

PASSWORD = "pa55-w0rd"  # noqa: S105 - of a server that lives for a minute
USER = "feast"


class PostgresServer:
    """A cluster of its own in a temporary folder. Made stopped; ``url`` is the same before and after a start."""

    def __init__(self) -> None:
        # Debian's PATH leads to links of some of its programs: the folder is that of the program itself.
        self._binaries = Path(program("initdb")).resolve().parent
        # It refuses to run as root, and must be able to enter its own folder.
        self._folder = Path(tempfile.mkdtemp(prefix="churn-postgres-"))
        self._as_user: dict[str, Any] = {"cwd": self._folder, "stdout": subprocess.DEVNULL}
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            self._as_user |= {"user": "postgres", "group": "postgres", "extra_groups": []}
            for each in (self._folder, secret):
                shutil.chown(each, "postgres", "postgres")
        self._data = self._folder / "data"
        options = ["-A", "scram-sha-256", "-U", USER, f"--pwfile={secret}", "--no-sync"]
        subprocess.run([self._binaries / "initdb", "-D", self._data, *options], check=True, **self._as_user)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its SQLAlchemy URL."""
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [self._binaries / "postgres", "-D", self._data, "-p", str(self.port)]
        self._process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-k", self._folder], stderr=subprocess.DEVNULL, **self._as_user
        )
        ready = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        until(lambda: subprocess.run(ready, check=False).returncode == 0 or self._process.poll() is not None)
        assert self._process.poll() is None, "PostgreSQL ended at its start"

    def stop(self) -> None:
        """Stop it and cut its connections; a second time changes nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop every process of it in its tracks: it takes connections and bytes, and answers nothing."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        family = [parent, *parent.children(recursive=True)]
        for each in family:
            # Helpers of its own come and go.
            with suppress(psutil.NoSuchProcess):
                each.suspend()
        try:
            yield
        finally:
            for each in family:
                with suppress(psutil.NoSuchProcess):
                    each.resume()

    def remove(self) -> None:
        """Stop it and leave nothing behind."""
        self.stop()
        shutil.rmtree(self._folder)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Give a server that runs; it is gone afterwards."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()
