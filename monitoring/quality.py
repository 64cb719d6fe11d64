"""The data-quality gate: Great Expectations suites, stored as JSON, run on one snapshot's rows.

Two suites (:mod:`monitoring.gate_suites`): ``telco_raw`` on the file's strings, ``telco_snapshot`` on the remaining
rows, in the contract's types and with the columns of :mod:`monitoring.gate_rules`. This module is the only one that
imports Great Expectations, and only when the gate runs: it takes seconds to load. See
docs/decisions/0011-gate-suites.md.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pandas as pd

from configs.errors import SettingsError
from configs.privacy import pseudonym
from feature_repo.contract import CSV_KEY
from feature_repo.raw.snapshots.normalization import Respelling, id_fault, likely_cause
from feature_repo.raw.snapshots.telco_csv import CSV_COLUMNS, normalise
from monitoring.gate_rules import blank_totals, rule_columns
from monitoring.gate_suites import RAW_SUITE, SNAPSHOT_SUITE, load_suite
from monitoring.quality_report import QUARANTINE_RULE, CheckResult, GateResult, QuarantinedRow

_SAMPLE_ROWS: Final = 5
_LOOKED_AT_ROWS: Final = 1000
_SHOWN_CHARS: Final = 40
_FORMULA_STARTS: Final = ("=", "+", "-", "@")
_LOOKS_LIKE_AN_ID: Final = re.compile(r"[0-9]{4}-[A-Za-z]{5}")


@dataclass(frozen=True)
class _Outcome:
    """A check and the index labels of the failing rows (empty if it passed or is on the whole table)."""

    check: CheckResult
    rows: frozenset[int]


def run_gate(
    raw: pd.DataFrame,
    *,
    parameters: Mapping[str, float | None],
    pseudonym_key: str,
    respellings: Sequence[Respelling] = (),
) -> GateResult:
    """Run both suites.

    Parameters
    ----------
    raw
        ``(customers, 21 or more)`` strings as :func:`feature_repo.raw.snapshots.telco_csv.read_raw` gives them.
    parameters
        ``rows_min``, ``rows_max`` (rows of the file, quarantined ones among them; None: no bound),
        ``churn_rate_min``, ``churn_rate_max`` and ``quarantine_share_max`` (0..1); any other name that a suite refers
        to by ``{"$PARAMETER": name}``.
    pseudonym_key
        Hides customer ids in the samples.
    respellings
        Other spellings of numbers that were read, from :func:`feature_repo.raw.snapshots.normalization.respell`:
        reported as checks of severity ``info``.

    Returns
    -------
    GateResult
        A rule with ``quarantine`` sets its failing rows aside; the second suite sees the rows that broke no rule
        of the first. Too large a share set aside, or any other critical failure, refuses the file.

    Raises
    ------
    SettingsError
        If a suite is invalid.
    """
    shown = _Shown(raw, pseudonym_key)
    outcomes = _run(load_suite(RAW_SUITE), raw, parameters, shown)
    broken = frozenset[int]().union(*(outcome.rows for outcome in outcomes if not outcome.check.passed))
    remaining = raw.drop(index=list(broken))
    if len(remaining) and set(CSV_COLUMNS) <= set(raw.columns):
        snapshot = normalise(remaining)
        typed = pd.concat([snapshot, rule_columns(snapshot)], axis=1)
        outcomes += _run(load_suite(SNAPSHOT_SUITE), typed, parameters, shown)
    reasons: dict[int, list[str]] = {}
    for outcome in outcomes:
        if outcome.check.quarantine and not outcome.check.passed:
            for row in outcome.rows:
                reasons.setdefault(row, []).append(outcome.check.rule)
    quarantined = tuple(QuarantinedRow(row, tuple(reasons[row])) for row in sorted(reasons))
    checks = (
        *(outcome.check for outcome in outcomes),
        *(_respelling(each, len(raw)) for each in respellings),
        _quarantine_share(len(quarantined), len(raw), parameters["quarantine_share_max"] or 0.0),
    )
    return GateResult(
        passed=not any(check.stops for check in checks),
        rows=len(raw),
        blank_totals=blank_totals(raw),
        quarantined=quarantined,
        checks=checks,
    )


class _Shown:
    """Render the rows of a file for a report: the customer's pseudonym, and values without customer ids."""

    def __init__(self, raw: pd.DataFrame, key: str) -> None:
        self._ids = raw[CSV_KEY].astype(str) if CSV_KEY in raw else pd.Series("", index=raw.index)
        self._key = key

    def row(self, row: int, frame: pd.DataFrame, columns: Collection[str]) -> tuple[str, str]:
        values = {column: str(frame.loc[row, column]) for column in columns if column != CSV_KEY}
        text = ", ".join(f"{name}={self._value(value)}" for name, value in values.items())
        if len(values) == 1:
            text = self._value(next(iter(values.values())))
        elif not values and CSV_KEY in columns:
            text = id_fault(self._ids.loc[row])
        return pseudonym(self._ids.loc[row], self._key), text

    def rows(self, rows: Sequence[int], frame: pd.DataFrame, columns: Collection[str]) -> tuple[tuple[str, str], ...]:
        """Return up to five rows, preferring rows whose values differ."""
        shown = [self.row(row, frame, columns) for row in rows[:_LOOKED_AT_ROWS]]
        first = {text: place for place, (_, text) in reversed(list(enumerate(shown)))}
        places = [*sorted(first.values()), *(set(range(len(shown))) - set(first.values()))]
        return tuple(shown[place] for place in sorted(places[:_SAMPLE_ROWS]))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self._ids.str.strip())

    @cached_property
    def _shapes(self) -> frozenset[str]:
        """Letter and digit patterns of this file's ids, without those that words share (no digit)."""
        return frozenset(shape for shape in map(_shape, self._known) if "9" in shape)

    def _value(self, value: str) -> str:
        # Shifted columns put ids where a category belongs.
        text = value.strip()
        if text and (text in self._known or _LOOKS_LIKE_AN_ID.search(text) or _shape(text) in self._shapes):
            return "(a customer id)"
        cut = value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}… ({len(value)} characters)"
        cut = "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in cut)
        return f"'{cut}" if cut.lstrip().startswith(_FORMULA_STARTS) else cut or "(blank)"


def _shape(text: str) -> str:
    return "".join("9" if sign.isdigit() else "A" if sign.isalpha() else sign for sign in text)


def _respelling(read: Respelling, rows: int) -> CheckResult:
    return CheckResult(
        rule="plain_spelling",
        column=read.column,
        expectation="a number as the Telco file writes it",
        passed=False,
        failed_rows=read.cells,
        failed_share=read.cells / rows if rows else 0.0,
        severity="info",
        quarantine=False,
        sample=(),
        detail=f"{read.spelling}: read all the same",
        why="Each such spelling means one number only; docs/extracts.md lists them.",
    )


def _quarantine_share(rows: int, of: int, share_max: float) -> CheckResult:
    share = rows / of if of else 0.0
    return CheckResult(
        rule=QUARANTINE_RULE,
        column="",
        expectation="rows set aside / rows",
        passed=share <= share_max,
        failed_rows=rows,
        failed_share=share,
        severity="critical",
        quarantine=False,
        sample=(),
        detail=f"{share:.2%} of the rows are quarantined, at most {share_max:.2%} may be",
        why="A few odd rows are noise; many are a change in the source that must not pass without a message "
        "(CHURN_DATA__QUARANTINE_SHARE_MAX).",
    )


def _run(
    suite: Mapping[str, Any], frame: pd.DataFrame, parameters: Mapping[str, float | None], shown: _Shown
) -> list[_Outcome]:
    """Run one suite; outcomes in the suite's order."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # This logger sets its own level and reports folders for pages that are never built.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)  # noqa: FBT003 - the library's signature
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("gate").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    results = batch.validate(
        _built(gx, suite), result_format={"result_format": "COMPLETE"}, expectation_parameters=dict(parameters)
    )
    by_rule = {result.expectation_config.meta["rule"]: result for result in results.results}
    return [_outcome(asked, by_rule[asked["meta"]["rule"]], frame, shown) for asked in suite["expectations"]]


def _built(gx: Any, suite: Mapping[str, Any]) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    try:
        # One by one: a suite made from a list logs the expectations that it does not know and runs without them.
        asked = [ExpectationConfiguration(**dict(told)).to_domain_obj() for told in suite["expectations"]]
        return gx.ExpectationSuite(name=suite["name"], expectations=asked)
    except Exception as broken:
        # Great Expectations raises several classes for an unknown type or keyword, all due to an error in the suite.
        raise SettingsError(
            f"the suite {suite['name']} is invalid: {' '.join(str(broken).split())}",
            f"correct configs/expectations/{suite['name']}.json; types are listed at greatexpectations.io/expectations",
        ) from broken


def _outcome(asked: Mapping[str, Any], result: Any, frame: pd.DataFrame, shown: _Shown) -> _Outcome:
    kwargs, meta, found = result.expectation_config.kwargs, asked["meta"], result.result
    rows = sorted({int(row) for row in found.get("unexpected_index_list") or ()})
    column = kwargs.get("column")
    # A computed column is not in the file: such a rule names the columns that it compares.
    columns = meta["shows"] or ((column,) if column else ())
    trouble = f"missing column {column}" if column and column not in frame else _exception_text(result.exception_info)
    check = CheckResult(
        rule=meta["rule"],
        column=meta["column"] or column or "",
        expectation=asked["type"],
        passed=bool(result.success),
        failed_rows=len(rows),
        failed_share=len(rows) / len(frame) if len(frame) else 0.0,
        severity=asked["severity"],
        # A rule that could not be run names no rows to set aside: it must stop the snapshot, not let it pass.
        quarantine=meta["quarantine"] and not trouble,
        sample=shown.rows(rows, frame, columns),
        detail=trouble or _detail(kwargs, found, meta["why"]),
        why=meta["why"],
        cause=_cause(frame, rows, column) if rows and column in CSV_COLUMNS else "",
    )
    return _Outcome(check, frozenset(rows))


def _cause(frame: pd.DataFrame, rows: Sequence[int], column: str) -> str:
    """Return the most frequent likely cause among a column's failing cells, empty where none is known."""
    found = Counter(likely_cause(column, str(cell)) for cell in frame.loc[list(rows[:_LOOKED_AT_ROWS]), column])
    del found[""]
    return found.most_common(1)[0][0] if found else ""


def _exception_text(info: Mapping[str, Any] | None) -> str:
    """Return why a rule could not be run, empty if it could; the info may be nested by metric."""
    for told in (info, *info.values()) if info else ():
        if isinstance(told, Mapping) and told.get("raised_exception"):
            return f"could not be run: {' '.join(str(told['exception_message']).split())[:200]}"
    return ""


def _detail(kwargs: Mapping[str, Any], found: Mapping[str, Any], why: str) -> str:
    """Return what was expected and, for a rule on the whole table, the observed value."""
    if "column_set" in kwargs:
        differ = found.get("details", {}).get("mismatched", {})
        told = [f"{what} {', '.join(names)}" for what, names in sorted(differ.items()) if names]
        return "; ".join(told) or "all columns are there"
    if kwargs.get("value_set") == [True]:
        return why
    if "value_set" in kwargs:
        expected = f"expected {' or '.join(map(str, kwargs['value_set']))}"
    elif "regex" in kwargs:
        expected = f"expected the pattern {kwargs['regex']}"
    elif "min_value" in kwargs or "max_value" in kwargs:
        low, high = kwargs.get("min_value"), kwargs.get("max_value")
        expected = f"expected {_figure(low)} or more" if high is None else f"expected {_figure(low)} to {_figure(high)}"
    else:
        expected = ""
    if "mostly" in kwargs and kwargs["mostly"] < 1:
        expected += f" in at least {kwargs['mostly']:.1%} of rows"
    seen = found.get("observed_value")
    return f"found {_figure(seen)}, {expected}" if seen is not None else expected


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and value % 1 else str(value)
