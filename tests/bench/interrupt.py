"""Seconds from Ctrl-C to the end of a command and of all processes that it started: `uv run poe bench-interrupt`.

Each command runs in a pseudo-terminal and a home of its own, and is interrupted once it has printed what is named.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from flows.service_process import free_port
from tests.support.terminal import terminal

CHURN = str(Path(sys.executable).with_name("churn"))
DEMO = ("demo", "--customers", "500", "--months", "3")
START_S = 500.0
COMMANDS = (
    (("serve",), "not ready: no_champion"),
    (DEMO, "start Prefect"),
    (DEMO, "simulate a world .* s"),
    ((*DEMO, "--serve"), "Ctrl-C stops it"),
)


def seconds_to_end(words: tuple[str, ...], printed: str) -> tuple[int, float]:
    """Return the exit code and the seconds from Ctrl-C to the end. Raises AssertionError if it never prints that."""
    port = ("--port", str(free_port())) if "serve" in words or "--serve" in words else ()
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "CHURN_HOME": str(Path(folder) / "home"), "CHURN_TRAINING__TRIALS": "4"}
        with terminal([CHURN, *words, *port], env, folder) as command:
            command.wait_for(printed, START_S)
            began = time.perf_counter()
            command.interrupt()
            return command.end(), time.perf_counter() - began


def main() -> None:
    """Measure every command once and print a Markdown table."""
    print("| command | interrupted after it printed | exit code | seconds |\n|---|---|---:|---:|")
    for words, printed in COMMANDS:
        code, seconds = seconds_to_end(words, printed)
        print(f"| `churn {' '.join(words)}` | `{printed}` | {code} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
