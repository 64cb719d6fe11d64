"""A CSV is measured the whole way in a home of its own; what stays is a report without customers."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from configs.settings import TrainingSettings, load_settings
from flows.steps.evaluate import EvaluationResult, evaluate_csv
from tests.support.single_extract import simulate_snapshot, write_csv

pytestmark = pytest.mark.slow

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
CUSTOMERS = 400


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    plan = TrainingSettings(seed=7, trials=1, tuning_timeout_s=60, folds=2, test_share=0.25)
    settings = load_settings(home=folder / "home").model_copy(update={"training": plan})
    rows = simulate_snapshot(CUSTOMERS, seed=5)
    write_csv(rows, folder / "base.csv")
    told = []
    found = evaluate_csv(settings, folder / "base.csv", NOW, repeats=1, progress=told.append)
    return settings, rows, found, told


def test_the_home_keeps_the_report_and_nothing_else(evaluated):
    settings, _, found, _ = evaluated
    kept = {path.relative_to(settings.home).parts[0] for path in settings.home.rglob("*") if path.is_file()}
    assert kept == {"reports"}
    assert isinstance(found, EvaluationResult)
    assert found.html.name == "report.html"
    assert found.html.is_relative_to(settings.home / "reports" / "evaluation")
    assert found.html.parent == found.figures.parent


def test_neither_file_names_a_customer(evaluated):
    _, rows, found, _ = evaluated
    for path in (found.html, found.figures):
        text = path.read_text()
        assert [each for each in rows["customerID"] if each in text] == []


def test_the_report_is_a_page_that_needs_no_network(evaluated):
    _, _, found, _ = evaluated
    text = found.html.read_text()
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert not any(loads in text for loads in ('src="http', "src='http", "<link", "@import", "fetch("))
    assert "Churn model evaluation" in text


def test_the_figures_say_what_was_measured_and_on_what(evaluated):
    _, rows, found, _ = evaluated
    figures = json.loads(found.figures.read_text())
    assert set(figures) == {
        "source",
        "model",
        "baseline",
        "difference",
        "repeats",
        "ahead_in_repeats",
        "leak_suspected",
        "chosen",
        "score_spread_over_repeats",
    }
    assert figures["source"]["data_source"].startswith("base.csv of ")
    assert figures["source"]["rows"] == str(len(rows)) == str(CUSTOMERS)
    assert figures["source"]["time"] == "declared"
    assert figures["source"]["evaluated_at"] == "2026-06-01T12:00:00+00:00"
    assert {"roc_auc", "pr_auc", "brier", "log_loss", "ece", "lift_10", "empc_usd"} <= set(figures["model"])
    assert set(figures["model"]) == set(figures["baseline"]) == set(figures["difference"])
    assert len(figures["repeats"]) == 1
    assert len(figures["chosen"]) == 2  # one a fold


def test_the_figures_are_those_of_the_validation(evaluated):
    _, _, found, told = evaluated
    figures = json.loads(found.figures.read_text())
    (ours,), (theirs,) = found.validation.metrics, found.validation.baseline_metrics
    assert figures["model"]["roc_auc"]["mean"] == pytest.approx(ours.roc_auc)
    assert figures["difference"]["roc_auc"]["mean"] == pytest.approx(ours.roc_auc - theirs.roc_auc)
    assert figures["repeats"][0]["baseline"] == theirs.as_dict()
    assert told == [1, 2]
