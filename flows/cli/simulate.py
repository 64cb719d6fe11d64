"""`churn simulate`: write a simulated Telco world into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from feature_repo.raw.simulator.drift import SCENARIOS
from feature_repo.raw.simulator.manifest import World


@dataclass(frozen=True)
class Simulated:
    """A simulated world on disk and the lines that describe it."""

    world: World
    lines: tuple[str, ...]


def simulate_world(  # noqa: PLR0913 - an option each
    out: Path,
    *,
    customers: int,
    months: int,
    seed: int,
    start: date,
    drift: str,
    drift_month: int | None,
    jsonl: bool,
    monthly_churn: float | None = None,
) -> Simulated:
    """Simulate into ``out`` and summarise it in lines; see :func:`simulate` for parameters and errors."""
    from feature_repo.raw.simulator.simulate import simulate

    world = simulate(out, customers, months, seed, start, drift, drift_month, jsonl=jsonl, monthly_churn=monthly_churn)
    lines = [
        f"simulated {months} months of about {customers} customers in {out} (seed {seed}); none of them is real",
        f"extracts: {world.snapshots[0]} to {world.snapshots[-1]}, {len(world.corrections)} corrected later",
        f"files: {len(world.files)}, each with its sha256 in {out / 'world.json'}",
    ]
    if monthly_churn is not None:
        lines.append(f"churn: about {monthly_churn:.1%} of an extract's rows left in its 30 days")
    if drift != "none":
        lines.append(f"drift from month {world.drift_month} on: {SCENARIOS[drift]}")
    return Simulated(world, tuple(lines))
