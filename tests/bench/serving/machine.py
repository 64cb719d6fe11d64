"""The machine's cores, and a Redis of our own on some of them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.service_process import free_port


def cores() -> list[int]:
    """Return the cores that we may use; none where the system can't say: then nothing is pinned."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def on(chosen: list[int]) -> Iterator[None]:
    """Processes that are started in the block run on the ``chosen`` cores alone; on any, if there are none."""
    before = cores()
    if before and chosen:
        os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        if before and chosen:
            os.sched_setaffinity(0, before)


@contextmanager
def redis_server(folder: Path, chosen: list[int]) -> Iterator[int]:
    """Yield the loopback port of a Redis that keeps nothing on disk and ends with the block."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("redis-server is not installed: apt-get install redis-server")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    words = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with on(chosen):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)
