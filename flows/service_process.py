"""Start of the HTTP service: in this process for `churn serve`, as a child for the demo and the tests."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from pydantic import BaseModel, SecretStr

from bentos.churn.server.parent_process import PARENT_PID_VARIABLE, mark_as_parent
from configs.errors import ChurnError
from configs.settings import PROJECT_ROOT, VARIABLE_PREFIX, Settings, load_settings
from configs.telemetry import switch_off
from feature_repo.files.atomic_writes import remove, storage_errors
from feature_repo.files.regular_files import open_lock
from flows.listen_address import PortTakenError, refuse_taken_port, resolve_host

SERVICE: Final = "bentos.churn.service:ChurnService"
STOP_S: Final = 15
"""Seconds in which a stopped service may complete accepted requests before it is killed."""
_POLL_S: Final = 0.1
_LOG_LINES: Final = 15


class ServeError(ChurnError):
    """The service process ended, or did not become ready in time."""

    error = "serve_failed"


def command(settings: Settings, target: str = SERVICE) -> list[str]:
    """Return the command line that serves ``target``: the service's import path, or the folder of a bento."""
    where = ["--host", settings.serving.host, "--port", str(settings.serving.port)]
    folder = target if Path(target).is_dir() else str(PROJECT_ROOT)
    return [sys.executable, "-P", "-m", "flows.bento_process", "serve", target, *where, "--working-dir", folder]


def service_environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment with the variables that make the child read the same settings.

    Only values that differ from what the child would read anyway are added, so that secrets from elsewhere are not
    copied without need. BentoML's own files go below the home, one folder per port: BentoML empties its metrics folder
    at each start, even another service's.
    """
    child = dict(os.environ)
    child[f"{VARIABLE_PREFIX}HOME"] = str(settings.home)
    child[f"{VARIABLE_PREFIX}PROFILE"] = settings.profile
    ours = _flat(settings)
    theirs = _flat(load_settings(home=settings.home, profile=settings.profile))
    child |= {name: value for name, value in ours.items() if theirs.get(name) != value}
    child["BENTOML_HOME"] = str(_folder(settings))
    child["TMPDIR"] = str(_folder(settings) / "tmp")
    child.pop(PARENT_PID_VARIABLE, None)
    child["OMP_NUM_THREADS"] = "1"
    switch_off(child)
    return child


def run_service(settings: Settings) -> NoReturn:
    """Replace this process by the service, so that no signal can end one and leave the other.

    Raises
    ------
    KeysNeededError, KeyFileError
        If no caller would be accepted: see bentos/churn/auth/authenticator.py.
    PortTakenError, AddressError, StorageError
        If the port can't be bound, or the home not written. Nothing has changed then.
    """
    settings = _resolved(settings)
    lock = _prepared(settings)
    # The lock is inherited and held until the last process of the service has ended.
    os.set_inheritable(lock.fileno(), True)  # noqa: FBT003 - the name says it
    sys.stdout.flush()
    os.execve(sys.executable, command(settings), service_environment(settings))  # noqa: S606 - our own command


class ServiceProcess:
    """A child process with the service: a context manager that stops it at the end.

    Parameters
    ----------
    settings
        ``serving.host`` and ``serving.port`` are the listen address; everything else is the service's own.
    target
        What to serve: the service's import path, or the folder of a bento.
    """

    def __init__(self, settings: Settings, target: str = SERVICE) -> None:
        settings = _resolved(settings)
        self.base_url = f"http://{settings.serving.host}:{settings.serving.port}"
        self.log = settings.home / "logs" / f"serve-{settings.serving.port}.log"
        self._lock = _lock_path(settings)
        with _prepared(settings) as held, storage_errors():
            self.log.parent.mkdir(parents=True, exist_ok=True)
            output = self.log.open("wb")
            child = service_environment(settings)
            mark_as_parent(child)
            # A session of its own, so that the processes that BentoML starts per worker are ended with it.
            with output:
                self.process = subprocess.Popen(  # noqa: S603 - our own command
                    command(settings, target),
                    env=child,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    pass_fds=[held.fileno()],
                )

    def wait(self, path: str, timeout_s: float) -> Self:
        """Wait until ``path`` answers 200, at most ``timeout_s`` seconds.

        Raises
        ------
        ServeError
            If the process ends before, or on timeout; with the service's error, and the last lines of its log.
        """
        ends_at = time.monotonic() + timeout_s
        answered: dict[str, Any] = {}
        while time.monotonic() < ends_at:
            if self.process.poll() is not None:
                raise ServeError(f"the service ended with code {self.process.returncode}", self._last_lines())
            status, answered = request_json(
                f"{self.base_url}{path}", timeout_s=max(ends_at - time.monotonic(), _POLL_S)
            )
            if status == 200:  # noqa: PLR2004
                return self
            time.sleep(_POLL_S)
        why = answered.get("message", "it does not answer")
        hint = answered.get("hint") or self._last_lines()
        raise ServeError(f"the service was not ready within {timeout_s:.0f} s: {why}", hint)

    def join(self) -> None:
        """Wait for the end of the process; SIGINT interrupts it."""
        while self.process.poll() is None:
            # A handler of a library may make the kernel resume a wait without end: no SIGINT would be noticed.
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End the process and its workers: by SIGTERM, then, after STOP_S seconds, by SIGKILL."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        # After a SIGKILL of the process its workers may still run. The lock is free when the last one has ended.
        kill_group(self.process.pid)
        self.process.wait()
        ends_at = time.monotonic() + STOP_S
        if not self._lock.exists():  # the home was moved away under it
            return
        with open_lock(self._lock) as lock:
            while not _locks(lock) and time.monotonic() < ends_at:
                time.sleep(_POLL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _last_lines(self) -> str:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        return f"see {self.log}: " + " | ".join(lines[-_LOG_LINES:])


@contextlib.contextmanager
def start_service(settings: Settings, port: int, timeout_s: float = 90) -> Iterator[str]:
    """Serve on ``port`` for the duration of the block; yields the base URL once ``/readyz`` answers 200."""
    serving = settings.serving.model_copy(update={"port": port})
    with ServiceProcess(settings.model_copy(update={"serving": serving})) as running:
        yield running.wait("/readyz", timeout_s).base_url


def request_json(
    url: str, body: dict[str, Any] | None = None, *, key: str | None = None, timeout_s: float = 30
) -> tuple[int, dict[str, Any]]:
    """GET, or POST ``body`` as JSON; return (status, JSON answer), or (0, {}) without a connection.

    ``key`` is sent as a bearer token if it is not None. Raises ValueError for an answer that is no HTTP or no JSON.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own service
    try:
        try:
            answer = urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            return answer.status, json.load(answer)
    except OSError:
        return 0, {}
    except http.client.HTTPException as broken:
        raise ValueError(f"the answer of {url} is no HTTP: {type(broken).__name__}") from broken


def free_port() -> int:
    """Return a loopback port that is currently free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill_group(leader: int) -> None:
    """Kill the process group of ``leader``, if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _resolved(settings: Settings) -> Settings:
    """Return the settings with the host's IP address: BentoML takes no name. Raises AddressError."""
    host = resolve_host(settings.serving.host)
    return settings.model_copy(update={"serving": settings.serving.model_copy(update={"host": host})})


def _prepared(settings: Settings) -> BufferedRandom:
    """Check the conditions of a start, with named errors; create the service's folders.

    Returns the held lock of this home and port. BentoML empties its folder before it binds: without the lock a second
    start that fails would delete the metrics of the first one.
    """
    from bentos.churn.auth.authenticator import describe_access

    describe_access(settings, datetime.now(UTC))
    host, port = settings.serving.host, settings.serving.port
    refuse_taken_port(host, port)
    with storage_errors():
        _folder(settings).mkdir(parents=True, exist_ok=True)
        lock = open_lock(_lock_path(settings))
        if not _locks(lock):
            lock.close()
            # The folder of BentoML's files depends on the port, not on the host.
            raise PortTakenError(f"port {port} is taken: another service of this home has it, at this or another host")
        # Left by a killed service.
        remove(_folder(settings) / "tmp")
        (_folder(settings) / "tmp").mkdir()
    return lock


def _locks(lock: BufferedRandom) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder(settings: Settings) -> Path:
    """Return the folder of BentoML's files of one service, temporary ones included."""
    return settings.home / "bentoml" / str(settings.serving.port)


def _lock_path(settings: Settings) -> Path:
    return settings.home / "bentoml" / f"{settings.serving.port}.lock"


def _flat(settings: Settings) -> dict[str, str]:
    """Return the settings as environment variables. Holds secrets: never log it."""
    found = {}
    for section in Settings.model_fields:
        values = getattr(settings, section)
        if isinstance(values, BaseModel):
            for key, value in values:
                plain = value.get_secret_value() if isinstance(value, SecretStr) else value
                found[f"{VARIABLE_PREFIX}{section}__{key}".upper()] = str(plain)
    return found
