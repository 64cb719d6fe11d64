"""A Feast repository in a folder, its commands and its servers, as processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from configs.settings import PROJECT_ROOT
from tests.support.feast_shop import configuration

FEAST = str(Path(sys.executable).with_name("feast"))
DEFINITIONS = """
from tests.support.feast_shop import objects

globals().update({f"object_{number}": each for number, each in enumerate(objects())})
"""


@dataclass(frozen=True)
class Repository:
    """The folder with feature_store.yaml and definitions.py, and the home that it names."""

    folder: Path
    home: Path
    kind: str

    @staticmethod
    def of(home: Path, kind: str, redis_port: int | None) -> Repository:
        """Write a repository beside the home, with this project's stores."""
        folder = home.parent / "repository"
        folder.mkdir(exist_ok=True)
        (folder / "feature_store.yaml").write_text(yaml.safe_dump(configuration(home, kind, redis_port)))
        (folder / "definitions.py").write_text(DEFINITIONS)
        return Repository(folder, home, kind)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [FEAST, *arguments], cwd=self.folder, env=_environment(), capture_output=True, text=True, check=False
        )

    def feast(self, *arguments: str) -> str:
        """Run a command that must succeed, and return what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def serving(self, *arguments: str, ports: list[int], program: str = FEAST) -> Iterator[Path]:
        """Run a server until the end of the block, which begins when all its ports take connections; gives its log."""
        log = self.folder / f"{arguments[0]}.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                [program, *arguments],
                cwd=self.folder,
                env=_environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            for port in ports:
                while not _open(port):
                    try:
                        server.wait(0.1)
                    except subprocess.TimeoutExpired:
                        continue
                    raise AssertionError(log.read_text())
            yield log
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}


def _open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
