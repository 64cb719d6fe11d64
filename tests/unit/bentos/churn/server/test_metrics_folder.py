"""The folder of a service's metrics: one for each process of each host, and what others left is removed with care."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from bentos.churn.server import metrics_folder

ENDED = 99_999_999
"""No process has this number."""


@pytest.fixture
def bentoml_folder():
    """BentoML's setting of the folder; afterwards its own again, and nothing is held."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    yield BentoMLContainer.prometheus_multiproc_dir
    BentoMLContainer.prometheus_multiproc_dir.reset()
    while metrics_folder._HELD:
        os.close(metrics_folder._HELD.pop())


@pytest.fixture
def host(monkeypatch):
    """Give this process the name of a host."""

    def named(name):
        monkeypatch.setattr(metrics_folder, "gethostname", lambda: name)

    named("here")
    return named


def test_the_same_process_number_on_two_hosts_has_two_folders(tmp_path, bentoml_folder, host):
    found = []
    for name in ("one", "two", "a/b"):
        bentoml_folder.set(str(tmp_path))
        host(name)
        metrics_folder.use_own_folder()
        metrics_folder.use_own_folder()
        found.append(bentoml_folder.get())
    assert found == [str(tmp_path / f"{name}-{os.getpid()}") for name in ("one", "two", "a_b")]


@pytest.mark.usefixtures("host")
def test_a_folder_that_is_not_set_apart_is_left_and_so_is_what_lies_beside_it(tmp_path, bentoml_folder):
    bentoml_folder.set(str(tmp_path / "prometheus_multiproc_dir"))
    beside = [tmp_path / "prometheus_multiproc_dir", tmp_path / str(ENDED), tmp_path / f"here-{ENDED}"]
    for each in beside:
        each.mkdir()
    metrics_folder.lock_own_folder()
    assert sorted(tmp_path.iterdir()) == sorted(beside)


@pytest.mark.usefixtures("host")
def test_only_what_ended_processes_left_is_removed(tmp_path, bentoml_folder):
    bentoml_folder.set(str(tmp_path))
    metrics_folder.use_own_folder()
    own = Path(bentoml_folder.get())
    alive, ended = tmp_path / f"here-{os.getppid()}", tmp_path / f"here-{ENDED}"
    new, old, held = (tmp_path / f"{name}-{ENDED}" for name in ("new", "old", "held"))
    others = [tmp_path / name for name in (str(ENDED), "here-" + "9" * 30, "here-x", "-7", "here-\u0667")]
    for each in (own, alive, ended, new, old, held, *others):
        each.mkdir()
    for each in (old, held, *others):
        os.utime(each, (0, 0))
    handle = os.open(held, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        metrics_folder.lock_own_folder()
    finally:
        os.close(handle)
    assert sorted(tmp_path.iterdir()) == sorted([own, alive, new, held, *others])
