"""Fixtures that every tier shares: the real file, a free port, real servers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

# Before Feast, which switches Prometheus to values that all of a process share: a test's counters are its own.
import prometheus_client.values  # noqa: F401
import pytest

from configs.settings import PROJECT_ROOT, load_settings
from configs.telemetry import switch_off
from flows.serve import free_port

switch_off(os.environ)


def _telco_csv() -> Path:
    named = os.environ.get("CHURN_TELCO_CSV")
    return Path(named) if named else PROJECT_ROOT.parent / "shared" / "data" / "telco" / "Telco-Customer-Churn.csv"


@pytest.fixture(scope="session")
def telco_csv(tmp_path_factory):
    """The real file; on a clone without it, simulated rows (in CI the real one must be there)."""
    path = _telco_csv()
    if path.is_file():
        return path
    if os.environ.get("CI"):
        pytest.fail(f"CI must run on the real file, which is not at {path}")
    print(f"\nthe real Telco file is not at {path} (set CHURN_TELCO_CSV): this run uses simulated rows")
    from feature_repo.raw.simulator import simulate_snapshot, write_csv

    simulated = tmp_path_factory.mktemp("telco") / "simulated.csv"
    write_csv(simulate_snapshot(7043, seed=7), simulated)
    return simulated


@pytest.fixture(scope="session")
def real_file():
    """Whether the real file is here: its own figures are only asserted on it."""
    return _telco_csv().is_file()


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path / "home")


@pytest.fixture
def port():
    return free_port()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A real Redis on a free loopback port; yields its port."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.fail("redis-server is not installed: apt-get install redis-server (CI does)")
    chosen = free_port()
    folder = tmp_path_factory.mktemp("redis")
    process = subprocess.Popen(
        [binary, "--port", str(chosen), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", chosen)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.fail("redis-server did not open its port within 5 s")
        yield chosen
    finally:
        process.terminate()
        process.wait(10)
