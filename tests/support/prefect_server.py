"""A real Prefect server and a real process worker, for tests of what is deployed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from configs.settings import PROJECT_ROOT
from flows.service_process import free_port, kill_group, request_json

PATIENCE_S = 480.0
"""What a flow run or a server is waited for: far more than on a busy machine, so that a fault ends with its log."""
POOL = "churn"
FILE = "flows/prefect.yaml"


@dataclass(frozen=True)
class Prefect:
    """A server of our own, and the environment of everything that talks to it."""

    url: str
    env: Mapping[str, str]
    folder: Path

    def command(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `prefect …` from the root of the checkout, without a terminal."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", *words],
            cwd=PROJECT_ROOT,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        with temporary_settings({PREFECT_API_URL: self.url}), get_client(sync_client=True) as client:
            yield client

    def start(self, deployment: str, **parameters: Any) -> FlowRun:
        """Ask for a run, as the button on Prefect's page does."""
        with self.client() as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, parameters=parameters)

    def state(self, run: FlowRun) -> FlowRun:
        with self.client() as client:
            return client.read_flow_run(run.id)

    def wait(self, run: FlowRun, timeout_s: float = PATIENCE_S, until: tuple[str, ...] = ()) -> FlowRun:
        """Wait for the end of a run, or for one of the states ``until``."""
        ends_at = time.monotonic() + timeout_s
        while time.monotonic() < ends_at:
            now = self.state(run)
            if now.state.is_final() or now.state.type.value in until:
                return now
            time.sleep(0.2)
        pytest.fail(f"{run.name} is {now.state} after {timeout_s} s; {self.worker_log()[-3000:]}")

    def until(self, true: Callable[[], bool], run: FlowRun, timeout_s: float = PATIENCE_S) -> None:
        """Wait until something is true while a run is under way."""
        ends_at = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < ends_at, self.worker_log()[-3000:]
            now = self.state(run)
            assert true() or not now.state.is_final(), f"{now.state.message}; {self.worker_log()[-3000:]}"
            time.sleep(0.2)

    def run(self, deployment: str, timeout_s: float = PATIENCE_S, **parameters: Any) -> FlowRun:
        """Run a deployment to its end."""
        return self.wait(self.start(deployment, **parameters), timeout_s)

    def children(self, run: FlowRun) -> dict[str, FlowRun]:
        """The runs of the flows that a run called, by name."""
        with self.client() as client:
            parent = FlowRunFilterParentFlowRunId(any_=[run.id])
            found = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))
            return {each.name: each for each in found}

    def runs(self, flow: str) -> list[FlowRun]:
        """All runs of a flow, oldest first."""
        from prefect.client.schemas.filters import FlowFilter, FlowFilterName

        with self.client() as client:
            found = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))
        return sorted(found, key=lambda each: each.created)

    def artifact(self, key: str) -> str:
        """The newest artifact of a key, "" if there is none."""
        with self.client() as client:
            found = client.read_artifacts(
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
                sort=ArtifactSort.CREATED_DESC,
                limit=1,
            )
        return str(found[0].data) if found else ""

    def artifacts(self, run: FlowRun) -> dict[str, str]:
        """The artifacts on the page of a run, by key; results of flows have none."""
        with self.client() as client:
            of = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
            return {each.key: str(each.data) for each in client.read_artifacts(flow_run_filter=of) if each.key}

    def deploy(self) -> None:
        """Create the pool and deploy everything, as the documentation says."""
        made = self.command("work-pool", "create", POOL, "--type", "process")
        assert made.returncode == 0, made.stdout + made.stderr
        done = self.command("--no-prompt", "deploy", "--all", "--prefect-file", FILE)
        assert done.returncode == 0, done.stdout + done.stderr

    def scheduled(self, wanted: int, timeout_s: float = PATIENCE_S) -> set[str]:
        """The deployments that the server itself has planned runs of, once there are ``wanted``."""
        ends_at = time.monotonic() + timeout_s
        while True:
            with self.client() as client:
                names = {each.id: each.name for each in client.read_deployments()}
                state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
                runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state))
            found = {names[run.deployment_id] for run in runs if run.auto_scheduled}
            if len(found) >= wanted or time.monotonic() > ends_at:
                return found
            time.sleep(1)

    def pause_schedules(self) -> None:
        """Tests say when: nothing may start because it happens to be half past three."""
        with self.client() as client:
            for found in client.read_deployments():
                for schedule in found.schedules:
                    client.update_deployment_schedule(found.id, schedule.id, active=False)

    def worker_log(self) -> str:
        path = self.folder / "worker.log"
        return path.read_text("utf-8", errors="replace") if path.is_file() else ""

    @contextmanager
    def worker(self, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process worker; its flow runs are processes of the same group, and end with it."""
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", "tested"],
                cwd=self.folder,
                env={**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            kill_all(process)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill -9 a worker and every process below it, wherever their sessions are."""
    import psutil

    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    kill_group(process.pid)
    for each in below:
        try:
            each.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(below, timeout=PATIENCE_S)


@contextmanager
def prefect_server(folder: Path, settings: Mapping[str, str]) -> Iterator[Prefect]:
    """Start a server whose files lie in ``folder``; ``settings`` are CHURN_… variables of all that runs."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CHURN_"))}
    env |= {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_WORKER_PREFETCH_SECONDS": "1",
        "PREFECT_CLI_COLORS": "false",
        **settings,
    }
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ends_at = time.monotonic() + PATIENCE_S
        while server.poll() is None and request_json(f"{url}/health", timeout_s=10)[0] != 200:
            if time.monotonic() > ends_at:
                server.kill()
                server.wait()
            time.sleep(0.2)
        if server.poll() is not None:
            pytest.fail(f"the Prefect server did not start: {(folder / 'server.log').read_text('utf-8')[-3000:]}")
        yield Prefect(url, env, folder)
    finally:
        kill_all(server)
