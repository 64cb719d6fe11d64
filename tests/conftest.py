"""What every tier shares: the public file or simulated rows, a free port, real servers, and what a machine lacks."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

# Before Feast, which switches Prometheus to values that all of a process share, and before a folder for them that a
# worker inherits of the process that loaded Feast: a test's counters are its own.
os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
import prometheus_client.values  # noqa: F401
import pytest

from configs.settings import PROJECT_ROOT, load_settings
from configs.telemetry import switch_off
from flows.service_process import free_port
from tests.support.redis_server import RedisProcess

switch_off(os.environ)
UMASK = os.umask(0o022)
os.umask(UMASK)


def _telco_csv() -> Path:
    named = os.environ.get("CHURN_TELCO_CSV")
    return Path(named) if named else PROJECT_ROOT.parent / "shared" / "data" / "telco" / "Telco-Customer-Churn.csv"


NEEDS = {
    "public_csv": ("need the public file: set CHURN_TELCO_CSV", lambda: _telco_csv().is_file()),
    "as_root": ("need root: run poe full as root", lambda: os.geteuid() == 0),
}
"""Fixtures that a machine may be unable to give: what to say of their tests, and whether it can give them."""
WAITING = pytest.StashKey[dict[str, int]]()
"""How many tests each need kept from running; of a run with workers, as one of them counted."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Take out what this machine cannot show; in CI it stays, and its fixture fails. The longest files come first."""
    waiting = config.stash.setdefault(WAITING, {})
    for need, (_, given) in NEEDS.items():
        without = [item for item in items if need in item.fixturenames]
        if without and not given() and not os.environ.get("CI"):
            waiting[need] = len(without)
            config.hook.pytest_deselected(items=without)
            items[:] = [item for item in items if item not in without]
    # Two workers end together if neither begins with a long file when the other has nothing left to do. What takes
    # long says so by the time-out of its own.
    longest: Counter[Path] = Counter()
    for item in items:
        longest[item.path] = max([longest[item.path], *(mark.args[0] for mark in item.iter_markers("timeout"))])
    items.sort(key=lambda item: -longest[item.path])


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["waiting"] = session.config.stash.get(WAITING, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    node.config.stash.setdefault(WAITING, {}).update(getattr(node, "workeroutput", {}).get("waiting", {}))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    for need, count in config.stash.get(WAITING, {}).items():
        text = (
            f"{count} tests {NEEDS[need][0]}" if count > 1 else f"1 test {NEEDS[need][0].replace('need', 'needs', 1)}"
        )
        terminalreporter.write_line(text, yellow=True)


@pytest.fixture(scope="session")
def public_csv():
    """The public file, for what it alone can show. Without it a test that asks for it does not run; in CI it fails."""
    path = _telco_csv()
    if not path.is_file():
        pytest.fail(f"CI must run on the public file, which is not at {path}: set CHURN_TELCO_CSV")
    return path


@pytest.fixture(scope="session")
def as_root():
    """For what only root may do. Without it a test that asks for it does not run; in CI it fails."""
    if os.geteuid() != 0:
        pytest.fail("CI must run as root")


@pytest.fixture(scope="session")
def telco_csv(request, tmp_path_factory):
    """The public file; on a clone without it, simulated rows (in CI the public one must be there)."""
    if os.environ.get("CI") or _telco_csv().is_file():
        return request.getfixturevalue("public_csv")
    from tests.support.single_extract import simulate_snapshot, write_csv

    simulated = tmp_path_factory.mktemp("telco") / "simulated.csv"
    write_csv(simulate_snapshot(7043, seed=7), simulated)
    return simulated


@pytest.fixture(autouse=True)
def umask_kept():
    """The command line makes its files private; called in this process, it does so to the tests that follow."""
    yield
    os.umask(UMASK)


@pytest.fixture
def settings(tmp_path):
    return load_settings(home=tmp_path / "home")


@pytest.fixture
def port():
    return free_port()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A real Redis on a free loopback port; yields its port."""
    with RedisProcess(tmp_path_factory.mktemp("redis")) as server:
        yield server.port
