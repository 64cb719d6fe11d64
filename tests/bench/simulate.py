"""How fast a world is simulated, and in how much memory: `uv run poe bench-simulate [CUSTOMERS [MONTHS]]`.

Each run is a process of its own on one thread. The rate counts extract rows; the months of warm-up are paid for but
not counted. CPU time is what one core needs; the elapsed time also waits for the disk and for other programs. Each run
is printed and kept as it comes; one that fails is a row that says so, and an error at the end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.record import options, report

CUSTOMERS = (20_000, 80_000)
MONTHS = 12
CHILD = """
import resource, sys, time
from datetime import date
from pathlib import Path
from feature_repo.raw.simulator.simulate import simulate
elapsed, cpu = time.perf_counter(), time.process_time()
simulate(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), 7, date(2025, 1, 31), jsonl=sys.argv[4] == "yes")
print(time.perf_counter() - elapsed, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measured(customers, months, jsonl):
    """Return elapsed seconds, CPU seconds, peak kilobytes and bytes written."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "world"
        arguments = [sys.executable, "-c", CHILD, str(out), str(customers), str(months), jsonl]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
        elapsed, cpu, peak_kb = map(float, done.stdout.split())
        return elapsed, cpu, peak_kb, sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def section(sizes, months, record):
    """Return the table."""
    headings = ("customers", "JSON lines", "elapsed s", "CPU s", "million customer-months a CPU minute", "peak MB")
    lines = [f"Simulated months: {months}, one thread.", "", f"| {' | '.join(headings)} | written MB |"]
    lines.append("|---" * (len(headings) + 1) + "|")
    for customers in sizes:
        for jsonl in ("no", "yes"):
            what = f"{customers:,} customers, JSON lines: {jsonl}"
            found = record.attempt("the simulator", what, measured, customers, months, jsonl, ours=True)
            figures = ["**failed**", *[""] * 4]
            if found:
                elapsed, cpu, peak_kb, size = found
                rate = customers * months / cpu * 60 / 1e6
                figures = [f"{elapsed:.1f}", f"{cpu:.1f}", f"{rate:.2f}", f"{peak_kb / 1e3:.0f}", f"{size / 1e6:.0f}"]
            lines.append(f"| {customers:,} | {jsonl} | {' | '.join(figures)} |")
    return [*lines, ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("customers", type=int, nargs="?")
    parser.add_argument("months", type=int, nargs="?", default=MONTHS)
    options(parser)
    given = parser.parse_args()
    sizes = [given.customers] if given.customers else CUSTOMERS
    sys.exit(report("bench-simulate", given, lambda record: section(sizes, given.months, record)))


if __name__ == "__main__":
    main()
