"""The evaluation report: one self-contained HTML file, without network access or scripts.

:func:`render` is pure; :func:`write_report` writes its result atomically.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bentos.decisions.economics import Economics, profit_threshold
from configs.errors import ChurnError
from training.evaluation import charts
from training.evaluation.chart_theme import Chart, standalone
from training.evaluation.charts import ShapChart
from training.metrics.profit import FloatArray, Targeting, check_scores, profit_curve, targeting_at, usd
from training.metrics.scores import (
    LIFT_SHARE,
    BoolArray,
    CalibrationBins,
    Difference,
    Estimate,
    Metrics,
    Slice,
    lift_at,
    paired_difference,
    summarise,
)

TEMPLATES: Final = Path(__file__).resolve().parent / "templates"
STYLE: Final = TEMPLATES / "report.css"
SUSPECT_ROC_AUC: Final = 0.86
"""A ROC-AUC above this on the public file suggests a leak: the best result known is 0.851."""
CALIBRATED_ECE: Final = 0.03
"""The report describes a score as a probability up to this expected calibration error."""
SLICE_GAP_MARKED: Final = 0.05
"""The table marks a slice whose calibration gap is larger than this."""
BASELINE: Final = "logistic regression"

PROVENANCE: Final[dict[str, str]] = {
    "data_source": "Data source",
    "sha256": "SHA-256 of the data",
    "rows": "Rows",
    "time": "Time",
    "feature_service": "Feature service",
    "contract_hash": "Contract hash",
    "model_version": "Model version",
    "git_commit": "Git commit",
    "seeds": "Seeds",
    "evaluated_at": "Evaluated at",
}
"""Facts listed in every report, "not recorded" where missing; others follow under their own name."""
TIME_MEANS: Final[dict[str, str]] = {
    "declared": "declared: the file has no dates of its own, the operator named its day",
    "observed": "observed: labels come from a later snapshot than the features",
}


class ReportError(ChurnError):
    """The parts of an evaluation are inconsistent: repeats don't pair, or the threshold is invalid."""

    error = "report_invalid"


@dataclass(frozen=True)
class Figure:
    """A metric of the headline table: its name, format and explanation."""

    key: str
    name: str
    digits: int
    means: str


HEADLINE_FIGURES: Final = (
    Figure("roc_auc", "ROC-AUC", 4, "chance that a customer who leaves scores above one who stays"),
    Figure("pr_auc", "PR-AUC", 4, "mean share of leavers among those contacted (average precision)"),
    Figure("lift_10", "Lift at 10 %", 2, "churn among the top tenth, in multiples of the average"),
    Figure("empc_usd", "EMPC, USD", 2, "expected maximum profit of a campaign, per customer of the base"),
    Figure("brier", "Brier", 4, "squared error of the probability; lower is better"),
    Figure("log_loss", "Log loss", 4, "surprise at the outcome; lower is better"),
    Figure("ece", "ECE", 4, "mean gap between score and outcome; lower is better"),
)


@dataclass(frozen=True)
class ShapSummary:
    """Contributions to the model's margin.

    Parameters
    ----------
    names
        k feature names.
    contributions
        (n, k) float64, log-odds, without the base; n need not be the number of evaluated rows.
    values
        (n, k) the features' values: numbers, booleans or text, nulls allowed.
    """

    names: Sequence[str]
    contributions: FloatArray
    values: NDArray[Any]

    def __post_init__(self) -> None:
        shape = (len(self.contributions), len(self.names))
        if self.contributions.shape != shape or self.values.shape != shape or not all(shape):
            raise ReportError(
                f"{len(self.names)} names, contributions {self.contributions.shape}, values {self.values.shape}",
                "give (n, k) contributions and values for k names",
            )
        if not np.isfinite(self.contributions).all():
            raise ReportError("a SHAP contribution is not finite", "check the model's input for infinities")


@dataclass(frozen=True)
class EvaluationReport:
    """The content of the report.

    Parameters
    ----------
    title
        Headline, plain text.
    source
        Provenance: keys of :data:`PROVENANCE`, and any other fact, as text. Never a customer id.
    churned, score, baseline_score
        (n,) labels and pooled out-of-fold scores of the model and of the baseline, on the same rows.
    model_repeats, baseline_repeats
        Figures per repeat of the cross-validation, both on the same folds.
    threshold
        The score in use, in [0, 1]: customers at or above it are contacted.
    economics
        What a contact costs and earns.
    slices
        Figures by slice, from :func:`training.metrics.scores.measure_slices`.
    shap
        Contributions, or None where the model has none.
    simulated
        Whether the customers are made up; None: not known.
    dates
        Number of observation dates of the rows; with several, a row is a customer at a date, scored by a model fitted
        on earlier dates alone.
    heldout
        Whether the rows are the held-out rows of one model, instead of all rows of a cross-validation.

    Raises
    ------
    EvaluationError
        If labels and scores are of unequal lengths, empty, missing or out of range, or of one class.
    ReportError
        If the repeats don't pair or the threshold is no probability.
    """

    title: str
    source: Mapping[str, str]
    churned: BoolArray
    score: FloatArray
    baseline_score: FloatArray
    model_repeats: Sequence[Metrics]
    baseline_repeats: Sequence[Metrics]
    threshold: float
    economics: Economics = field(default_factory=Economics)
    slices: Sequence[Slice] = ()
    shap: ShapSummary | None = None
    simulated: bool | None = False
    dates: int = 1
    heldout: bool = False

    def __post_init__(self) -> None:
        check_scores(self.churned, self.score)
        check_scores(self.churned, self.baseline_score)
        lift_at(self.churned, self.score)  # refuses one class
        if len(self.model_repeats) != len(self.baseline_repeats) or not self.model_repeats:
            raise ReportError(
                f"{len(self.model_repeats)} repeats of the model, {len(self.baseline_repeats)} of the baseline",
                "measure both on the same folds, once or more",
            )
        if not 0 <= self.threshold <= 1:
            raise ReportError(f"the threshold is {self.threshold:g}", "a threshold is a score between 0 and 1")

    @property
    def leak_suspected(self) -> bool:
        """Whether ROC-AUC on customers known to be real is above the best that is known to be possible."""
        return self.simulated is False and summarise(self.model_repeats)["roc_auc"].mean > SUSPECT_ROC_AUC


@dataclass(frozen=True)
class HeadlineRow:
    """One formatted row of the headline table."""

    figure: Figure
    model: str
    baseline: str
    difference: str
    ahead: str
    better: bool


@dataclass(frozen=True)
class Drawn:
    """The charts of a report in the order of the page, the bins of its calibration, and the SHAP summary."""

    charts: tuple[Chart, ...]
    bins: CalibrationBins
    shap: ShapChart | None


def write_evaluation(folder: Path, report: EvaluationReport) -> list[Path]:
    """Write ``report.html`` and each chart as ``<key>.svg`` into a folder; return the paths, the report first."""
    drawn = draw_charts(report)
    svgs = {each.key: each.svg for each in drawn.charts} | ({"shap": drawn.shap.wide} if drawn.shap else {})
    paths = [write_report(folder / "report.html", report, drawn)]
    for key, svg in svgs.items():
        paths.append(folder / f"{key}.svg")
        paths[-1].write_text(standalone(svg, STYLE.read_text(encoding="utf-8")), encoding="utf-8")
    return paths


def write_report(path: Path, report: EvaluationReport, drawn: Drawn | None = None) -> Path:
    """Write the report atomically, creating its folder, and return its path."""
    page = render(report, drawn)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)
    return path


def draw_charts(report: EvaluationReport) -> Drawn:
    """Return the report's charts."""
    labels = np.asarray(report.churned)
    models = {"model": np.asarray(report.score), BASELINE: np.asarray(report.baseline_score)}
    chosen = targeting_at(report.threshold, labels, report.score, report.economics)
    calibration, bins = charts.calibration_chart(labels, models)
    shap = report.shap
    return Drawn(
        (
            charts.roc_chart(labels, models),
            charts.pr_chart(labels, models),
            calibration,
            charts.gains_chart(labels, models, LIFT_SHARE),
            charts.lift_chart(labels, models["model"]),
            charts.profit_chart(labels, models, report.economics, chosen),
        ),
        bins,
        charts.shap_chart(shap.names, shap.contributions, shap.values) if shap else None,
    )


def render(report: EvaluationReport, drawn: Drawn | None = None) -> str:
    """Return the page, with the charts of :func:`draw_charts`. The same report gives the same text, to the byte."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "points": _points, "by_column": _by_column}
    drawn = drawn or draw_charts(report)
    chosen = targeting_at(report.threshold, np.asarray(report.churned), report.score, report.economics)
    return environment.get_template("report.html.j2").render(
        report=report,
        rows=_headline(report),
        summary=_summary(report, chosen),
        calibration_rows=_calibration_rows(drawn.bins),
        charts=drawn.charts,
        shap=drawn.shap,
        provenance=_provenance(report.source),
        economics=asdict(report.economics),
        baseline=BASELINE,
        leak_roc_auc=SUSPECT_ROC_AUC,
        repeats=len(report.model_repeats),
        slice_limit=SLICE_GAP_MARKED,
        calibrated=summarise(report.model_repeats)["ece"].mean <= CALIBRATED_ECE,
    )


def _headline(report: EvaluationReport) -> list[HeadlineRow]:
    ours, theirs = summarise(report.model_repeats), summarise(report.baseline_repeats)
    differences = paired_difference(report.model_repeats, report.baseline_repeats)
    return [
        HeadlineRow(
            figure,
            _estimate(ours[figure.key], figure.digits),
            _estimate(theirs[figure.key], figure.digits),
            _difference(differences[figure.key], figure.digits),
            f"{differences[figure.key].ahead} of {differences[figure.key].repeats}",
            differences[figure.key].ahead == differences[figure.key].repeats,
        )
        for figure in HEADLINE_FIGURES
    ]


def _estimate(value: Estimate, digits: int) -> str:
    error = "" if value.standard_error is None else f" ± {value.standard_error:.{digits}f}"
    return f"{value.mean:.{digits}f}{error}"


def _difference(value: Difference, digits: int) -> str:
    error = "" if value.standard_error is None else f" ± {value.standard_error:.{digits}f}"
    return f"{value.mean:+.{digits}f}{error}".replace("-", "\N{MINUS SIGN}")


def _summary(report: EvaluationReport, chosen: Targeting) -> dict[str, str]:
    """Return the formatted values of the first screen."""
    rate = float(np.mean(report.churned))
    lift = lift_at(report.churned, report.score)
    _, profit = profit_curve(report.churned, report.score, report.economics)
    roc = paired_difference(report.model_repeats, report.baseline_repeats)["roc_auc"]
    contacted = np.asarray(report.score) >= report.threshold
    gap = summarise(report.model_repeats)["ece"].mean
    return {
        "customers": f"{len(report.churned):,}",
        "average": _percent(rate),
        "top_left": _percent(min(lift * rate, 1.0)),
        "lift": f"{lift:.1f}",
        "caught": _percent(lift * LIFT_SHARE),
        "threshold": f"{report.threshold:.3f}",
        "contacted": _percent(chosen.share),
        "contacted_left": _percent(float(np.mean(report.churned[contacted]))) if contacted.any() else "none",
        "reached": _percent(float(np.sum(report.churned & contacted) / np.sum(report.churned))),
        "profit": usd(chosen.profit_usd),
        "everybody": usd(float(profit[-1])),
        "break_even": f"{profit_threshold(report.economics):.3f}",
        "gap_points": f"{gap * 100:.1f}",
        "ahead": f"{roc.ahead} of {roc.repeats}",
        "roc_gain": f"{roc.mean:+.4f}".replace("-", "\N{MINUS SIGN}"),
    }


def _percent(share: float) -> str:
    return f"{share * 100:.1f}\N{NO-BREAK SPACE}%"


def _points(gap: float) -> str:
    points = round(gap * 100, 1)
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}") if points else "0.0"


def _by_column(found: Sequence[Slice]) -> list[tuple[str, list[Slice]]]:
    """Return the slices grouped by column, columns in order of first appearance."""
    columns: dict[str, list[Slice]] = {}
    for each in found:
        columns.setdefault(each.column, []).append(each)
    return list(columns.items())


def _calibration_rows(bins: CalibrationBins) -> list[tuple[str, str, str, str]]:
    return [
        (f"{rows:,}", _percent(score), _percent(rate), _points(score - rate))
        for rows, score, rate in zip(bins.rows, bins.mean_score, bins.churn_rate, strict=True)
    ]


def _provenance(source: Mapping[str, str]) -> list[tuple[str, str]]:
    known = [(label, source.get(key) or "not recorded") for key, label in PROVENANCE.items()]
    others = [(key.replace("_", " ").capitalize(), text) for key, text in source.items() if key not in PROVENANCE]
    return [(label, TIME_MEANS.get(text, text) if label == PROVENANCE["time"] else text) for label, text in known] + [
        *others
    ]
