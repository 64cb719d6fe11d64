"""What a start costs: commands and flows beside bare imports, and where Feast's goes: `uv run poe bench-start`.

Each is a process of its own, measured by the CPU time (user and system) that the kernel counted for it; the rounds take
turns, and the first, which writes bytecode, does not count. CPU time hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

from configs.settings import PROJECT_ROOT
from tests.bench.record import options, report

ROUNDS = 5
CLICK, PREFECT, FEAST = "import click", "import prefect", "import feature_repo, feast"
LIBRARIES = "import pandas, pyarrow.parquet"
COMMANDS = ("--help", "train --help", "keys create --help", "history", "rollout", "keys list", "keys audit")
FLOWS = ("sweep", "freshness", "build_features", "deploy", "train")
SERVERS = f"{LIBRARIES}, sqlalchemy, fastapi, uvicorn"
TABLES = {
    "### Commands\n\nOn an empty home. The base is `import click`, the library of the command line.": (
        CLICK,
        {
            "`python -c pass`": "pass",
            "`import click`": CLICK,
            "`import typer`": "import typer",
            **{f"`churn {words}`": f"from flows.cli import main; main({words.split()!r})" for words in COMMANDS},
            "completion of `churn pro`": "import os; os.environ |= {'_CHURN_COMPLETE': 'bash_complete', "
            "'COMP_WORDS': 'churn pro', 'COMP_CWORD': '1'}; from flows.cli import main; main([])",
        },
    ),
    "### Flows\n\nWhat loading a flow costs; what it does may load more.": (
        PREFECT,
        {"`import prefect`": PREFECT, **{f"flow `{name}`": f"import flows.pipeline.{name}" for name in FLOWS}},
    ),
    "### Feast": (
        FEAST,
        {
            "Feast as it comes": "import feast",
            "Feast without its run-time type checks, as here": FEAST,
            "of it pandas and PyArrow": LIBRARIES,
            "these, SQLAlchemy, FastAPI and uvicorn": SERVERS,
        },
    ),
}


def cpu_s(code):
    """Return the CPU seconds of a process that runs ``code`` on an empty home. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as home:
        words = [sys.executable, "-c", code]
        environ = {**os.environ, "CHURN_HOME": home, "PREFECT_HOME": home}
        with subprocess.Popen(
            words, cwd=PROJECT_ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return used.ru_utime + used.ru_stime


def section(rounds, record):
    """Return the tables."""
    lines = ["## Starts", "", f"`uv run poe bench-start`: CPU time of a process, median of {rounds} rounds.", ""]
    for title, (base, codes) in TABLES.items():
        found = {name: [] for name in codes}
        for number in range(rounds + 1):
            for name, code in codes.items():
                used = record.attempt(name, f"round {number}", cpu_s, code, ours="churn" in name or "flow" in name)
                if number and used is not None:
                    found[name].append(used)
        medians = {name: statistics.median(used) for name, used in found.items() if used}
        over = next(medians.get(name) for name, code in codes.items() if code == base)
        lines += [title, "", "| what | CPU s | x the base |", "|---|---|---|"]
        for name in codes:
            figures = (
                f"{medians[name]:.2f} | {medians[name] / over:.1f}" if name in medians and over else "**failed** | "
            )
            lines.append(f"| {name} | {figures} |")
        lines.append("")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="one round")
    options(parser)
    given = parser.parse_args()
    sys.exit(report("bench-start", given, lambda record: section(1 if given.quick else given.rounds, record)))


if __name__ == "__main__":
    main()
