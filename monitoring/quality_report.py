"""Results of the data-quality gate, as values, as JSON and as a self-contained HTML page.

Built by :mod:`monitoring.quality`. Never holds a customer id: customers are pseudonyms; values are truncated, escaped,
and marked so that a spreadsheet does not run them as formulas.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Final

from configs.errors import EXIT_GATE, ChurnError
from feature_repo.contract import STORED

QUARANTINE_RULE: Final = "quarantine_share"
VANISHED_RULE: Final = "customers_vanished"

_NAMED: Final = 3
_NULLABLE: Final = " and ".join(feature.column for feature in STORED if feature.nullable)
_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--bad:#b3261e;--good:#1b6e3c;--warn:#8a5a00}
@media(prefers-color-scheme:dark){:root{--bad:#ff8a80;--good:#7ddba0;--warn:#ffcf70}}
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}h1{font-size:1.4rem}
.table{overflow-x:auto}table{border-collapse:collapse;width:100%;min-width:62rem;table-layout:fixed;font-size:.8rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .5rem;border-bottom:1px solid var(--line)}
td{overflow-wrap:anywhere}th.n{text-align:right}
td.n{text-align:right;font-variant-numeric:tabular-nums}code{overflow-wrap:anywhere}
.failed{color:var(--bad);font-weight:600}.ok{color:var(--good)}.warning,.quarantined{color:var(--warn);font-weight:600}
"""
_WIDTHS: Final = "".join(f'<col style="width:{share}%">' for share in (17, 12, 7, 5, 6, 15, 15, 23))


@dataclass(frozen=True)
class CheckResult:
    """One rule's outcome.

    ``failed_rows`` is 0 for a rule on the whole table; ``failed_share`` is of the rows checked (0..1). ``sample``
    holds up to five (pseudonym, value shown). A failing rule with ``quarantine`` sets rows aside instead of
    stopping the snapshot; one with severity ``warning`` or ``info`` is only reported.
    """

    rule: str
    column: str
    expectation: str
    passed: bool
    failed_rows: int
    failed_share: float
    severity: str
    quarantine: bool
    sample: tuple[tuple[str, str], ...]
    detail: str
    why: str
    cause: str = ""
    """Likely cause of most failing cells, in a few words; empty where unknown."""

    @property
    def stops(self) -> bool:
        """Whether this outcome stops the snapshot."""
        return not self.passed and self.severity == "critical" and not self.quarantine

    @property
    def state(self) -> str:
        """State of the rule in one word: ok, failed, quarantined, warning or info."""
        if self.passed:
            return "ok"
        if self.stops:
            return "failed"
        return "quarantined" if self.quarantine else self.severity


@dataclass(frozen=True)
class QuarantinedRow:
    """Index of a quarantined data row (from 0, without the header) and the rules that it broke."""

    row: int
    rules: tuple[str, ...]


@dataclass(frozen=True)
class GateResult:
    """The gate's verdict on one file.

    ``rows`` counts the file's data rows, quarantined ones among them; ``blank_totals`` those whose TotalCharges is
    blank, which is null by rule.
    """

    passed: bool
    rows: int
    blank_totals: int
    quarantined: tuple[QuarantinedRow, ...]
    checks: tuple[CheckResult, ...]

    def joined(self, check: CheckResult) -> GateResult:
        """Return this verdict with one more rule, which may break it."""
        return replace(self, passed=self.passed and not check.stops, checks=(*self.checks, check))


_SETTINGS: Final = {
    "volume": "the bounds come from the snapshot before and data.volume_share_min and _max "
    "(CHURN_DATA__VOLUME_SHARE_MIN, _MAX)",
    "churn_rate": "the bounds come from the churn rates of the last snapshots and data.churn_rate_factor_max "
    "(CHURN_DATA__CHURN_RATE_FACTOR_MAX); without any, from data.churn_rate_min and _max",
    VANISHED_RULE: "accept it with churn ingest … --accept-vanished --why TEXT, in the inbox with churn inbox accept "
    "FILE --why TEXT; the bound is data.vanished_share_limit (CHURN_DATA__VANISHED_SHARE_LIMIT)",
}
"""Rules whose bounds are not in a suite -> the settings to change if the file is right."""


class GateFailedError(ChurnError):
    """The gate refused the file: nothing was published."""

    error = "gate_failed"
    exit_code = EXIT_GATE
    http_status = 422

    def __init__(self, result: GateResult, report: str = "") -> None:
        failed = [check for check in result.checks if check.stops]
        aside = [check for check in result.checks if check.quarantine and not check.passed]
        worst = sorted(aside, key=lambda check: -check.failed_rows)[:_NAMED]
        findings = [f"{check.column or 'the file'}: rule {check.rule}, {_count(check)}" for check in failed[:_NAMED]]
        if len(failed) > _NAMED:
            findings.append(f"{len(failed) - _NAMED} more rules")
        if any(check.rule == QUARANTINE_RULE for check in failed):
            findings += [f"{check.column}: rule {check.rule}, {_count(check)}" for check in worst]
            if len(aside) > _NAMED:
                findings.append(f"{len(aside) - _NAMED} more rules set rows aside")
        hint = "correct the extract, or the rule in configs/expectations/ if the world has changed"
        if settings := [_SETTINGS[check.rule] for check in failed if check.rule in _SETTINGS]:
            hint = f"correct the extract; if it is right: {'; '.join(settings)}"
        super().__init__(
            f"the gate refused the file: {'; '.join(findings)}", f"{hint}; report: {report}" if report else hint
        )
        self.result = result
        self.report = report


def gate_to_json(result: GateResult) -> str:
    """Return the result as JSON, ASCII only; :func:`gate_from_json` reads it back."""
    return json.dumps(asdict(result), indent=2) + "\n"


def gate_from_json(text: str) -> GateResult:
    """Read what :func:`gate_to_json` wrote. Raises KeyError or ValueError for anything else."""
    fields = json.loads(text)
    checks = [{**check, "sample": tuple(map(tuple, check["sample"]))} for check in fields["checks"]]
    return GateResult(
        passed=fields["passed"],
        rows=fields["rows"],
        blank_totals=fields["blank_totals"],
        quarantined=tuple(QuarantinedRow(row["row"], tuple(row["rules"])) for row in fields["quarantined"]),
        checks=tuple(CheckResult(**check) for check in checks),
    )


def render_html(result: GateResult, title: str) -> str:
    """Return a self-contained HTML page: the verdict, then one row per rule, failures first."""
    verdict = "passed" if result.passed else "refused"
    order = {"failed": 0, "warning": 1, "quarantined": 2, "info": 3, "ok": 4}
    checks = sorted(result.checks, key=lambda check: order[check.state])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p><strong class="{"ok" if result.passed else "failed"}">The gate {verdict} the file.</strong>
{result.rows:,} rows, {len(result.quarantined):,} quarantined, {result.blank_totals:,} blank {_NULLABLE}
(null by rule: before the first bill), {sum(check.stops for check in checks)} of {len(checks)} rules failed.</p>
<p>Customers are shown as pseudonyms. A leading ' prevents a spreadsheet from executing a cell as a formula.</p>
<div class="table"><table>{_WIDTHS}
<thead><tr><th>Rule</th><th>Column</th><th>State</th><th class="n">Rows</th><th class="n">Share</th>
<th>What was found</th><th>Sample</th><th>Why the rule is there</th></tr></thead><tbody>
{"".join(map(_row, checks))}</tbody></table></div></body></html>
"""


def _row(check: CheckResult) -> str:
    found = escape(check.detail) + (f"<br>likely cause: {escape(check.cause)}" if check.cause else "")
    return (
        f"<tr><td>{escape(check.rule)}</td><td>{escape(check.column)}</td>"
        f'<td class="{escape(check.state)}">{escape(check.state)}</td>'
        f'<td class="n">{check.failed_rows:,}</td><td class="n">{check.failed_share:.2%}</td>'
        f"<td>{found}</td><td>{_sample_html(check.sample)}</td><td>{escape(check.why)}</td></tr>\n"
    )


def _sample_html(sample: Sequence[tuple[str, str]]) -> str:
    return "<br>".join(f"{escape(who)} <code>{escape(value)}</code>" for who, value in sample)


def _count(check: CheckResult) -> str:
    rows = f"{check.failed_rows} row{'s'[: check.failed_rows > 1]}" if check.failed_rows else ""
    # The detail of the rule on quarantined rows is their share.
    if rows and check.rule != QUARANTINE_RULE:
        rows += f" ({check.failed_share:.2%})"
    customers: dict[str, list[str]] = {}
    for who, value in check.sample[:_NAMED]:
        customers.setdefault(value, []).append(who)
    sample = "; ".join(f"{', '.join(dict.fromkeys(each))} {value}".strip() for value, each in customers.items())
    # The sample of a malformed id shows its fault already.
    cause = f"likely cause: {check.cause}" if check.cause and check.cause not in customers else ""
    return ", ".join(part for part in (rows, check.detail, f"e.g. {sample}" if sample else "", cause) if part)
