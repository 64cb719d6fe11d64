"""How fast a world is simulated, and in how much memory: `uv run poe bench-simulate [CUSTOMERS [MONTHS]]`.

Each run is a process of its own on one thread. The rate counts extract rows; the months of warm-up are paid for but
not counted. CPU time is what one core needs; the elapsed time also waits for the disk and for other programs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

CUSTOMERS = (20_000, 80_000)
MONTHS = 12
CHILD = """
import resource, sys, time
from datetime import date
from pathlib import Path
from feature_repo.raw.world.simulate import simulate
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


def main(sizes, months):
    """Print the table."""
    table = Table(title=f"simulated months: {months}, one thread")
    headings = (
        "customers",
        "JSON lines",
        "elapsed s",
        "CPU s",
        "million customer-months a CPU minute",
        "peak MB",
        "written MB",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for customers in sizes:
        for jsonl in ("no", "yes"):
            elapsed, cpu, peak_kb, size = measured(customers, months, jsonl)
            rate = customers * months / cpu * 60 / 1e6
            figures = (f"{elapsed:.1f}", f"{cpu:.1f}", f"{rate:.2f}", f"{peak_kb / 1e3:.0f}", f"{size / 1e6:.0f}")
            table.add_row(f"{customers:,}", jsonl, *figures)
    Console().print(table)


if __name__ == "__main__":
    main([int(sys.argv[1])] if len(sys.argv) > 1 else CUSTOMERS, int(sys.argv[2]) if len(sys.argv) > 2 else MONTHS)
