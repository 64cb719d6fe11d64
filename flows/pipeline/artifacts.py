"""Prefect artifacts of the flows: Markdown, escaped, without customer ids."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from prefect.artifacts import MarkdownArtifact
from prefect.runtime import flow_run

from configs.errors import ChurnError
from configs.printable import printable
from configs.settings import Settings
from training.mlflow_database import server_uri, tracking_uri

if TYPE_CHECKING:
    from monitoring.quality_report import CheckResult, GateResult

_SPECIAL: Final = re.compile(r"([\\`*_\[\]<>|])")
ROWS_MAX: Final = 60


def publish(key: str, title: str, parts: Iterable[str], description: str = "") -> None:
    """Create an artifact ``key`` (lowercase and dashes) of some Markdown parts under a title.

    It belongs to the outermost flow run, which is the one that a deployment started and that is listed on Prefect's
    page, not to the run of a flow called by it; and to the task that creates it.
    """
    text = "\n\n".join([f"# {escaped(title)}", *parts])
    outermost = flow_run.get_root_flow_run_id()
    MarkdownArtifact(
        key=key,
        markdown=text + "\n",
        description=description or title,
        flow_run_id=UUID(outermost) if outermost else None,
    ).create(_sync=True)


def escaped(value: object) -> str:
    """Return a value as one line of escaped Markdown: text of files and people is no markup.

    Numbers with a fraction have four digits.
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    return _SPECIAL.sub(r"\\\1", printable(" ".join(str(value).split())))


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; beyond ROWS_MAX rows it states the number of omitted rows."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows[:ROWS_MAX]]
    if len(rows) > ROWS_MAX:
        lines += ["", f"… and {len(rows) - ROWS_MAX} more"]
    return "\n".join(lines)


def facts(told: Mapping[str, object]) -> str:
    """Return a Markdown list of names and values."""
    return "\n".join(f"- **{escaped(name)}**: {escaped(value)}" for name, value in told.items())


def bullets(lines: Iterable[str]) -> str:
    """Return a Markdown list of sentences."""
    return "\n".join(f"- {escaped(line)}" for line in lines)


def gate_parts(gate: GateResult, report: Path) -> list[str]:
    """Return the gate's result: the broken rules first, each with its reason."""

    def row(check: CheckResult) -> list[object]:
        outcome = "passed" if check.passed else ("quarantined" if check.quarantine else check.severity)
        return [check.rule, check.column, outcome, check.failed_rows, check.expectation, check.why or check.detail]

    ordered = sorted(gate.checks, key=lambda check: check.passed)
    heads = ["rule", "column", "outcome", "rows", "expected", "why"]
    return [
        facts({"rows": gate.rows, "checks": len(gate.checks), "report": report}),
        table(heads, [row(check) for check in ordered]),
    ]


def refusal_parts(refused: ChurnError) -> list[str]:
    """Return the message of an error and its fix."""
    return [f"**{escaped(refused.message)}**", f"What to do: {escaped(refused.hint)}" if refused.hint else ""]


def mlflow_place(settings: Settings, run_id: str | None = None) -> str:
    """Return where a run is displayed: a page of the MLflow server, or the command for the embedded one.

    A user and password in the server's address are omitted.
    """
    address = server_uri(settings)
    if not address:
        return f"`uv run mlflow ui --backend-store-uri {shlex.quote(tracking_uri(settings))}`"
    shown = re.sub(r"//[^/@]*@", "//", address).rstrip("/")
    return f"<{shown}/#/experiments>" if run_id is None else f"<{shown}/#/runs/{run_id}>"
