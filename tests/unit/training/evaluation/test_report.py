"""The report as its reader gets it: the words, the tables, and nothing fetched from anywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from bentos.decisions.economics import Economics, profit_threshold
from configs.errors import ChurnError
from training.evaluation import charts
from training.evaluation.report import (
    EvaluationReport,
    ReportError,
    ShapSummary,
    _points,
    render,
    write_evaluation,
    write_report,
)
from training.metrics.profit import EvaluationError, OneClassError, targeting_at, usd
from training.metrics.scores import Metrics, measure_metrics, measure_slices

VOID = {"meta", "br", "link", "img", "input", "hr"}
BLOCKS = {"th", "td", "small", "div", "p", "li", "dt", "dd"}
MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"


class Page(HTMLParser):
    """Every tag with its attributes, the text, and whether each tag is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == [], "unclosed tags"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.text += " " if tag in BLOCKS else ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data

    def words(self) -> str:
        return " ".join(self.text.split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    """Two thousand customers, calibrated scores, a baseline that knows less."""
    rng = np.random.default_rng(11)
    tenure, monthly = rng.integers(0, 73, 2000), rng.random(2000) < 0.55
    margin = -0.2 - tenure / 20 + 1.8 * monthly + rng.normal(0, 0.3, 2000)
    score = 1 / (1 + np.exp(-margin))
    churned = rng.random(2000) < score
    weaker = 1 / (1 + np.exp(0.2 + tenure / 20 - 0.9))
    frame = pd.DataFrame({"contract_type": np.where(monthly, "Month-to-month", "Two year"), "tenure_months": tenure})
    economics = Economics()

    def repeats(scores: np.ndarray) -> list[Metrics]:
        return [
            measure_metrics(churned, np.clip(scores + rng.normal(0, 0.005, 2000), 0, 1), economics) for _ in range(3)
        ]

    return EvaluationReport(
        title="Churn model evaluation",
        source={"data_source": "telco.csv", "sha256": "ab" * 32, "rows": "2000", "time": "declared", "folds": "5"},
        churned=churned,
        score=score,
        baseline_score=weaker,
        model_repeats=repeats(score),
        baseline_repeats=repeats(weaker),
        threshold=profit_threshold(economics),
        economics=economics,
        slices=measure_slices(frame, churned, score, ["contract_type", "tenure_months"]),
        shap=ShapSummary(
            ["tenure_months", "contract_type", "nothing"],
            np.stack([1.8 - tenure / 20, np.where(monthly, 0.8, -1.0), np.zeros(2000)], axis=1),
            np.stack([tenure.astype(object), frame["contract_type"].to_numpy(), np.ones(2000, dtype=object)], axis=1),
        ),
    )


@pytest.fixture(scope="module")
def page(report: EvaluationReport) -> Page:
    return Page(render(report))


@pytest.mark.slow
def test_the_first_screen_says_it_in_plain_words(report: EvaluationReport, page: Page) -> None:
    top = np.argsort(-report.score)[:200]
    left, average = report.churned[top].mean(), report.churned.mean()
    words = page.words().replace(NBSP, " ")
    assert (
        f"Of the 10 % of customers with the highest score, {left:.1%} left".replace("%", " %").replace("10  %", "10 %")
        in words
    )
    assert f"{left / average:.1f} times the average" in words
    chosen = targeting_at(report.threshold, report.churned, report.score, report.economics)
    assert f"expected to earn {usd(chosen.profit_usd)} per customer of the base" in words
    assert "in 3 of 3 repeats" in words
    assert "A score can be read as a probability" in words


@pytest.mark.slow
def test_the_headline_table_sets_the_model_beside_the_baseline(page: Page) -> None:
    words = page.words()
    for name in ("ROC-AUC", "PR-AUC", "Lift at 10 %", "EMPC, USD", "Brier", "Log loss", "ECE"):
        assert re.search(rf"{name} .*? \d+\.\d+ ± \d+\.\d+ \d+\.\d+ ± \d+\.\d+ [+{MINUS}]\d+\.\d+ ± \d", words), name
    assert "Logistic regression Paired difference Repeats ahead" in words


@pytest.mark.slow
def test_nothing_is_fetched_and_nothing_runs(report: EvaluationReport, page: Page) -> None:
    source = render(report)
    assert "http:" not in source
    assert "https:" not in source
    assert "url(" not in source
    assert "@import" not in source
    assert not [tag for tag, _ in page.tags if tag in {"script", "link", "img", "iframe", "object", "form"}]
    assert all((anchor["href"] or "").startswith("#") for anchor in page.all("a"))
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert len(source) < 250_000


@pytest.mark.slow
def test_pictures_have_words_and_tables_have_headers(page: Page) -> None:
    pictures = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert [(svg["aria-label"] or "").split(".")[0] for svg in pictures] == [
        "ROC curve",
        "Precision and recall",
        "Calibration",
        "Cumulative gains",
        "Lift by tenth",
        "Profit of a campaign",
        *["Features by mean absolute contribution to the log-odds of leaving: tenure_months 0"] * 2,
    ]
    assert all(svg.get("role") == "img" for svg in page.all("svg"))
    assert all(header.get("scope") in {"col", "row", "rowgroup"} for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) == 5
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {anchor["href"] for anchor in page.all("a")} <= {f"#{each}" for each in ids}
    assert page.all("html")[0]["lang"] == "en"


@pytest.mark.slow
def test_every_svg_is_well_formed_and_finite(report: EvaluationReport) -> None:
    source = render(report)
    drawings = re.findall(r"<svg.*?</svg>", source, flags=re.DOTALL)
    assert len(drawings) == 6 + 2, "six charts, and the contributions for wide and for narrow screens"
    for drawing in drawings:
        ET.fromstring(drawing)  # noqa: S314 - our own text
        assert not re.search(r"\b(nan|inf|None|NaN|Infinity|undefined|null)\b", drawing)


@pytest.mark.slow
def test_light_and_dark_are_both_styled(report: EvaluationReport) -> None:
    source = render(report)
    assert "prefers-color-scheme: dark" in source
    style = source.split("<style>")[1].split("</style>")[0]
    used = set(re.findall(r"var\((--[\w]+)\)", source))
    light, dark = style.split("@media (prefers-color-scheme: dark)")[:2]
    for name in used:
        assert f"{name}:" in light, name
        assert f"{name}:" in dark.split("* {")[0], name
    for colour in re.findall(r"(?:fill|stroke)=\"(.*?)\"", source):
        assert re.fullmatch(r"none|var\(--\w+\)", colour), "colours belong to the style sheet"


@pytest.mark.slow
def test_provenance_lists_every_fact_and_owns_up_to_gaps(page: Page) -> None:
    words = page.words()
    assert f"SHA-256 of the data {'ab' * 32}" in words
    assert "Time declared: the file has no dates of its own" in words
    assert "Model version not recorded" in words
    assert "Git commit not recorded" in words
    assert "Folds 5" in words


@pytest.mark.slow
def test_slices_are_listed_under_their_column(page: Page) -> None:
    words = page.words()
    assert re.search(r"contract_type Month-to-month [\d,]+ ", words)
    assert words.index("contract_type Month-to-month") < words.index("tenure_months 0 to")


@pytest.mark.slow
def test_shap_names_the_direction(page: Page) -> None:
    words = page.words()
    assert re.search(r"tenure_months \d\.\d{3} lower values raise it", words)
    assert re.search(r'contract_type \d\.\d{3} "Month-to-month" raises it most', words)
    assert "nothing 0.000 one value only" in words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("roc_auc", "simulated", "warned"),
    [(0.861, False, True), (0.859, False, False), (0.95, True, False)],
    ids=["real and too good", "real", "simulated"],
)
def test_a_ranking_too_good_to_be_true_is_called_a_leak(
    report: EvaluationReport, roc_auc: float, simulated: bool, warned: bool
) -> None:
    repeats = [replace(each, roc_auc=roc_auc) for each in report.model_repeats]
    changed = replace(report, model_repeats=repeats, simulated=simulated)
    assert changed.leak_suspected is warned
    assert ("Treat as a leak." in render(changed)) is warned


@pytest.mark.slow
def test_simulated_customers_are_called_so(report: EvaluationReport, page: Page) -> None:
    assert "These customers are made up" in render(replace(report, simulated=True))
    assert "not on simulated customers" in page.words()


@pytest.mark.slow
def test_uncalibrated_scores_are_not_sold_as_probabilities(report: EvaluationReport) -> None:
    repeats = [replace(each, ece=0.08) for each in report.model_repeats]
    words = Page(render(replace(report, model_repeats=repeats))).words()
    assert "Do not read a score as a probability: on average it differs by 8.0 percentage points" in words


@pytest.mark.slow
def test_text_from_outside_is_escaped(report: EvaluationReport) -> None:
    hostile = "<script>alert(1)</script>"
    shap = ShapSummary([hostile], np.ones((4, 1)), np.asarray([[hostile]] * 2 + [["b"]] * 2, dtype=object))
    changed = replace(
        report,
        title=hostile,
        source={"data_source": hostile, hostile: "x"},
        shap=shap,
        slices=[replace(report.slices[0], column=hostile, value=hostile)],
    )
    source = render(changed)
    assert "<script" not in source.lower()
    assert source.count("&lt;script&gt;") >= 6
    Page(source)


@pytest.mark.slow
def test_a_report_without_extras_and_with_one_repeat(report: EvaluationReport) -> None:
    bare = replace(
        report,
        shap=None,
        slices=(),
        source={},
        model_repeats=report.model_repeats[:1],
        baseline_repeats=report.baseline_repeats[:1],
        threshold=1.0,
    )
    words = Page(render(bare)).words()
    assert "What moves the score" not in words
    assert "By slice" not in words
    assert "One cross-validation, both models on the same folds." in words
    assert "±" not in words.split("Paired difference")[1].split("The repeats split")[0]


@pytest.mark.slow
def test_few_customers_and_ties_still_draw(report: EvaluationReport) -> None:
    churned, score = np.asarray([True, False]), np.asarray([0.5, 0.5])
    Page(render(replace(report, churned=churned, score=score, baseline_score=score, slices=())))


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"score": np.asarray([0.5])}, EvaluationError, "shape"),
        ({"baseline_score": np.full(2000, np.nan)}, EvaluationError, "missing"),
        ({"churned": np.zeros(2000, dtype=bool)}, OneClassError, "none churned"),
        ({"baseline_repeats": []}, ReportError, "3 repeats of the model, 0 of the baseline"),
        ({"model_repeats": [], "baseline_repeats": []}, ReportError, "0 repeats"),
        ({"threshold": 1.2}, ReportError, "threshold is 1.2"),
        ({"threshold": float("nan")}, ReportError, "threshold is nan"),
    ],
)
def test_parts_that_do_not_fit_are_refused(report: EvaluationReport, changed, error, says) -> None:
    with pytest.raises(error, match=says) as refused:
        replace(report, **changed)
    assert isinstance(refused.value, ChurnError)


@pytest.mark.parametrize(
    ("names", "contributions"),
    [(["a"], np.zeros((3, 2))), ([], np.zeros((3, 0))), (["a", "b"], np.full((3, 2), np.inf))],
)
def test_shap_that_does_not_fit_is_refused(names, contributions) -> None:
    with pytest.raises(ReportError):
        ShapSummary(names, contributions, np.zeros(contributions.shape))


@pytest.mark.slow
def test_write_report_replaces_the_file_whole(tmp_path: Path, report: EvaluationReport) -> None:
    path = tmp_path / "reports" / "evaluation.html"
    assert write_report(path, replace(report, title="first")) == path
    write_report(path, report)
    assert path.read_text(encoding="utf-8") == render(report)
    assert [each.name for each in path.parent.iterdir()] == ["evaluation.html"]


@pytest.mark.slow
def test_a_model_on_its_held_out_rows_has_a_page_and_charts_that_stand_alone(tmp_path: Path, report) -> None:
    one = replace(
        report,
        heldout=True,
        simulated=None,
        model_repeats=report.model_repeats[:1],
        baseline_repeats=report.baseline_repeats[:1],
    )
    page, *svgs = write_evaluation(tmp_path, one)
    words = Page(page.read_text(encoding="utf-8")).words()
    assert "held-out observations" in words
    assert "cross-validation" not in words
    assert "simulated" not in words.lower()
    assert not one.leak_suspected
    assert [path.name for path in svgs] == [
        "roc.svg", "pr.svg", "calibration.svg", "gains.svg", "lift.svg", "profit.svg", "shap.svg"
    ]  # fmt: skip
    for path in svgs:
        text = path.read_text(encoding="utf-8")
        assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - written just now
        used, defined = set(re.findall(r"var\((--\w+)\)", text)), set(re.findall(r"(--\w+):", text))
        assert used <= defined, path.name


@pytest.mark.parametrize(
    ("value", "text"), [(2.5, "$2.50"), (-2.5, f"{MINUS}$2.50"), (-0.001, "$0.00"), (12345.678, "$12,345.68")]
)
def test_amounts_are_written_as_people_write_them(value: float, text: str) -> None:
    assert usd(value) == text


@pytest.mark.slow
def test_a_long_name_leaves_the_picture_its_room_and_stands_whole_beside_it(report: EvaluationReport) -> None:
    name = "usage_of_the_last_ninety_days_against_the_ninety_days_before"
    shap = ShapSummary([name], np.ones((4, 1)), np.asarray([["a"]] * 2 + [["b" * 60]] * 2, dtype=object))
    drawn = charts.shap_chart(shap.names, shap.contributions, shap.values)
    assert f">{name[:41]}\N{HORIZONTAL ELLIPSIS}</text>" in drawn.wide
    assert f">{name[:41]}\N{HORIZONTAL ELLIPSIS}</text>" in drawn.narrow
    assert re.search(rf"{name} 1\.000 ", Page(render(replace(report, shap=shap))).words())


@pytest.mark.slow
def test_missing_values_are_neither_high_nor_low() -> None:
    contributions = np.asarray([[-1.0], [0.0], [1.0], [0.2]])
    drawn = charts.shap_chart(["spend_usd"], contributions, np.asarray([[1.0], [2.0], [3.0], [None]], dtype=object))
    assert re.findall(r'd="M.+?" fill="var\(--(v.)\)"', drawn.wide) == ["v0", "v3", "vx", "v6"]
    assert re.findall(r'd="M.+?" fill="var\(--(v.)\)"', drawn.narrow) == ["v0", "v3", "vx", "v6"]
    assert drawn.rows[0].direction == "higher values raise it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "contributions", "says"),
    [
        ([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], "higher values raise it"),
        ([True, True, False, False], [-0.1, -0.2, 0.3, 0.4], "lower values raise it"),
        ([1, 2, 3, 4], [0.3, -0.3, -0.3, 0.3], "depends on the other features"),
        ([1, 2, 3, 4], [0.2, 0.2, 0.2, 0.2], "no effect"),
        ([7, 7, 7, None], [0.1, 0.2, 0.3, 0.4], "one value only"),
        ([None, None, None, None], [0.1, 0.2, 0.3, 0.4], "one value only"),
        (["a", "a", "b", "b"], [0.1, 0.2, 0.3, 0.4], '"b" raises it most'),
        (["a", None, None, "b"], [0.1, 0.2, 0.3, -0.4], '"no value" raises it most'),
    ],
)
def test_direction_is_put_in_words(values, contributions, says) -> None:
    drawn = charts.shap_chart(["f"], np.asarray([contributions]).T, np.asarray([values], dtype=object).T)
    assert drawn.rows[0].direction == says


@pytest.mark.parametrize(("gap", "text"), [(0.0004, "0.0"), (-0.0004, "0.0"), (0.1, "+10.0"), (-0.0123, f"{MINUS}1.2")])
def test_gaps_are_written_in_points(gap: float, text: str) -> None:
    assert _points(gap) == text


@pytest.mark.slow
def test_a_report_on_several_dates_says_that_time_ran_forward(report):
    page = render(replace(report, dates=3))
    assert "observations of customers on 3 dates" in page
    assert "learnt from earlier dates alone" in page
    assert "the same in each repeat" in page
    assert "on 3 dates" not in render(report)
