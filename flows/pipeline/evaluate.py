"""The evaluation flow: the verdict on a challenger, and on request a cross-validation report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from prefect import flow, task
from prefect.runtime import flow_run

from configs.settings import load_settings
from flows.pipeline.artifacts import escaped, facts, publish, table
from flows.pipeline.policy import FLOW, TASK, Now, resolve_now, start_run
from flows.steps import compare as comparing
from flows.steps.train import registered_challenger, training_set
from training.registry import keep_files

_CACHED: Final = {name: option for name, option in TASK.items() if name != "cache_policy"} | {"persist_result": True}

_SIDES: Final = ("challenger_", "champion_")

Version = str | None
"""MLflow version of a challenger; None: the newest one."""


def version_name(verb: str) -> Callable[[], str]:
    """Return a function that names a run about one version on Prefect's pages."""

    def name() -> str:
        return f"{verb} {flow_run.get_parameters().get('version') or 'the newest challenger'}"

    return name


@flow(name="evaluate", flow_run_name=version_name("evaluate"), timeout_seconds=12 * 3600, **FLOW)
def evaluate(
    version: Version = None,
    report: bool = False,  # noqa: FBT001, FBT002 - a field of Prefect's form
    now: Now = None,
) -> dict[str, Any]:
    """Compare a challenger with the champion on the challenger's held-out rows; promotes nothing.

    Returns the verdict: whether it may be promoted, and every rule with its figures.

    Args:
        version: MLflow version of the challenger; empty: the newest one.
        report: Whether the nested cross-validation's report is written too, which takes minutes.
        now: The instant that the run works as of, with its time zone; empty: the present moment.
    """
    start_run()
    at = resolve_now(now)
    verdict: dict[str, Any] = compare_challenger(version, at)
    if report:
        report_on(version, at)
    return verdict


def report_on(version: str | None, now: datetime) -> None:
    """Write the nested cross-validation's report of a version if it is missing."""
    settings = load_settings()
    trained = registered_challenger(settings, version)
    # Prefect's cache stores the run, not the file: a deleted file is written again.
    there = list((settings.home / "reports" / "evaluation").glob("*/report.html"))
    html = Path(write_report.with_options(refresh_cache=not there)(trained.fingerprint, trained.model_version, now))
    if html.is_file():
        log_report(trained.run_id, html)


@task(name="compare", **TASK)
def compare_challenger(version: str | None, now: datetime) -> dict[str, Any]:
    """Decide about the challenger from all available figures."""
    settings = load_settings()
    trained = registered_challenger(settings, version)
    compared = comparing.compare_models(settings, trained, comparing.serving(settings.home), now)
    show(compared, trained.version)
    return compared.to_json()


def show(compared: comparing.ComparisonResult, version: str) -> None:
    """Publish the champion/challenger table; for the champion itself, that there is nothing to compare."""
    verdict = compared.verdict
    if compared.champion == compared.challenger:
        publish("champion-challenger", f"Version {version} is the champion", ["There is nothing to compare it with."])
        return
    rules = [[name, "held" if held else "FAILED", told] for name, held, told in verdict.rules]
    against = f"champion {compared.champion[:12]}" if compared.champion else "no champion"
    stays = "the champion stays" if compared.champion else "may not serve"
    publish(
        "champion-challenger",
        f"Version {version} against {against}: {'may serve' if verdict.promote else stays}",
        [
            f"**{escaped(verdict.why)}**",
            table(["rule", "", "figures"], rules),
            table(["figure", "challenger", "champion"], _sides(verdict.figures)),
            facts({name: figure for name, figure in verdict.figures.items() if not name.startswith(_SIDES)}),
        ],
    )


def _sides(figures: Mapping[str, float]) -> list[list[object]]:
    """Return name, challenger's and champion's figure per row, in the order of ``figures``."""
    ours, theirs = _SIDES
    names = [name.removeprefix(ours) for name in figures if name.startswith(ours)]
    return [[name, figures[ours + name], figures.get(theirs + name, "")] for name in names]


def _report_key(_context: Any, given: Mapping[str, Any]) -> str:
    return f"evaluation-{given['fingerprint']}"


@task(name="evaluation report", **{**_CACHED, "cache_key_fn": _report_key})
def write_report(fingerprint: str, model_version: str, now: datetime) -> str:  # noqa: ARG001 - the cache's key
    """Cross-validate the training procedure, once per fingerprint; return the report's path."""
    from flows.steps.evaluate import evaluate_model as cross_validate

    settings = load_settings()
    done = cross_validate(
        settings,
        training_set(settings),
        now,
        reports=settings.home / "reports",
        repeats=1,
        simulated=False,
        model_version=model_version,
        progress=lambda _fold: None,
    )
    publish("evaluation", "Nested cross-validation", [f"Report: {escaped(Path(done.html))}"])
    return str(done.html)


@task(name="log report", **TASK)
def log_report(run_id: str, html: Path) -> None:
    """Log the report and its figures in the version's MLflow run, below ``cross_validation``."""
    keep_files(load_settings(), run_id, "cross_validation", [html, html.with_name("figures.json")])
