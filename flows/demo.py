"""The main job from one CSV to an explained answer over HTTP, as a Prefect flow on embedded defaults."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import CUSTOMER
from feature_repo.raw.atomic import file_sha256
from feature_repo.raw.publication import published
from feature_repo.raw.simulator import simulate_snapshot, write_csv
from feature_repo.stores.materialising import materialize
from feature_repo.stores.registration import apply
from flows.build_features import build_features
from flows.evaluate import Evaluated, evaluate
from flows.land import Landing, ingest
from flows.serve import Running, ask, free_port, start
from flows.tables import FIGURES, answers
from flows.train import Challenger, fit_challenger, promote, register_challenger, training_set
from training.dataset import TrainingSet
from training.promotion import Verdict

STEPS: Final = 10
PLAIN: Final[dict[str, Any]] = {"highlight": False, "soft_wrap": True}


class HomeInUseError(ChurnError):
    """The home holds snapshots of another file."""

    error = "home_in_use"


class UnansweredError(ChurnError):
    """The service did not answer a customer that it should know."""

    error = "demo_unanswered"


@dataclass(frozen=True)
class DemoInputs:
    """What the demo runs on: a CSV, or that many simulated customers."""

    settings: Settings
    csv: Path | None
    customers: int
    seed: int
    now: datetime
    stay: bool = False


@dataclass
class Steps:
    """Runs steps under one progress bar, prints a line for each and remembers how long it took (seconds)."""

    console: Console
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, work: Callable[[], Any], told: Callable[[Any], str]) -> Any:
        """Do ``work`` as a Prefect task called ``name``; ``told`` says in one line what came out."""
        bar = self.progress.tasks[0].id
        self.progress.update(bar, description=name)
        began = time.perf_counter()
        result = task(work, name=name, cache_policy=NO_CACHE, persist_result=False)()
        self.seconds[name] = time.perf_counter() - began
        self.progress.advance(bar)
        self.console.print(f"[green]✓[/] {name:<22} {told(result)} [dim]{self.seconds[name]:.1f} s[/]", **PLAIN)
        return result


@flow(name="churn-demo", persist_result=False)
def _demo_flow(inputs: DemoInputs, steps: Steps) -> list[str]:
    settings, simulated = inputs.settings, inputs.csv is None
    csv = inputs.csv or _simulated(inputs)
    as_of = day(settings.home, csv, inputs.now.date())
    landing: Landing = steps.run(
        "ingest, gate, publish",
        lambda: ingest(settings, csv, as_of, ingested_at=inputs.now),
        lambda done: (
            f"{done.manifest.rows} rows of {as_of}, {done.manifest.quarantined_rows} quarantined, "
            f"gate passed ({len(done.gate.checks)} checks), time {done.manifest.time}"
        ),
    )
    steps.run("build features", lambda: build_features(settings), lambda parts: f"offline part {parts[-1]}")
    steps.run("feast apply", lambda: apply(settings), lambda names: f"{len(names)} objects registered")
    rows: TrainingSet = steps.run(
        "point-in-time join",
        lambda: training_set(settings),
        lambda found: f"{len(found)} labels in, {len(found.features)} rows out, {found.features.shape[1]} features",
    )
    fitted, bundle = steps.run(
        "tune and train", lambda: fit_challenger(settings, rows, inputs.now), lambda pair: _tuned(pair[0])
    )
    challenger: Challenger = steps.run(
        "register challenger",
        lambda: register_challenger(settings, fitted, bundle, rows),
        lambda done: f"MLflow version {done.registered.version}, bundle {done.bundle.digest[:12]}",
    )
    evaluated: Evaluated = steps.run(
        "evaluate",
        lambda: _evaluate(steps, settings, rows, challenger, inputs, simulated=simulated),
        lambda done: (
            f"nested cross-validation: ROC-AUC {done.validation.metrics[0].roc_auc:.4f}, "
            f"baseline {done.validation.baseline_metrics[0].roc_auc:.4f}"
        ),
    )
    verdict: Verdict = steps.run("promote", lambda: promote(settings, challenger), lambda done: done.why)
    steps.run(
        "materialize",
        lambda: materialize(settings, inputs.now),
        lambda done: f"{done.customers} customers in {done.views} views into {settings.feast.online_store}",
    )
    found: list[dict[str, Any]] = steps.run(
        "serve and ask",
        lambda: _ask(settings, customers_to_ask(rows, evaluated)),
        lambda some: f"{len(some)} answers over HTTP",
    )
    steps.progress.stop()
    answers(found, steps.console)
    _summary(steps, landing, challenger, evaluated, verdict, simulated=simulated)
    return [str(answer["customer_id"]) for answer in found]


def demo(inputs: DemoInputs, console: Console | None = None) -> None:
    """Run the demo, print what happens, and leave the service up if asked to.

    Raises
    ------
    ChurnError
        Whatever a step refuses: the first refusal ends the demo.
    """
    console = console or Console()
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task("start Prefect", total=STEPS)
        # Prefect would hash and record the inputs: they are frames and models, and stay in this process.
        asked = _demo_flow.with_options(validate_parameters=False)(inputs, Steps(console, progress))
    if inputs.stay:
        _stay(inputs.settings, asked[0], console)


def day(home: Path, csv: Path, today: date) -> date:
    """Return the date to ingest ``csv`` under: the one it has, if it is live already, else today.

    Raises
    ------
    HomeInUseError
        If the home has snapshots of other files: the demo's rows would mix with them.
    """
    manifests = published(home)
    sha256 = file_sha256(csv)
    for manifest in manifests:
        if manifest.source_sha256 == sha256:
            return manifest.snapshot_date
    if manifests:
        raise HomeInUseError(
            f"{home} holds snapshots of another file ({manifests[0].source_name})",
            "give the demo a folder of its own: CHURN_HOME=data/other uv run churn demo …",
        )
    return today


def customers_to_ask(rows: TrainingSet, evaluated: Evaluated) -> list[str]:
    """Return three customer ids: the highest, the middle and the lowest out-of-fold score."""
    order = np.argsort(-evaluated.validation.score[0], kind="stable")
    return [str(rows.keys[CUSTOMER].iloc[order[place]]) for place in (0, len(order) // 2, -1)]


def _simulated(inputs: DemoInputs) -> Path:
    folder = inputs.settings.home / "simulated"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"telco-{inputs.customers}-seed{inputs.seed}.csv"
    write_csv(simulate_snapshot(inputs.customers, inputs.seed), path)
    return path


def _tuned(fitted: Any) -> str:
    tuning = fitted.tuning
    chosen = tuning.params
    return (
        f"{tuning.trials} trials ({tuning.pruned} pruned): C {chosen.regularisation:g}, trees {chosen.tree_weight:g}, "
        f"depth {chosen.max_depth}, {chosen.rounds} rounds"
    )


def _evaluate(
    steps: Steps, settings: Settings, rows: TrainingSet, challenger: Challenger, inputs: DemoInputs, *, simulated: bool
) -> Evaluated:
    bar = steps.progress.add_task("  folds", total=settings.training.folds)
    evaluated = evaluate(
        settings,
        rows,
        inputs.now,
        reports=settings.home / "reports",
        repeats=1,
        simulated=simulated,
        model_version=challenger.bundle.manifest.model_version,
        progress=lambda done: steps.progress.update(bar, completed=done),
    )
    steps.progress.remove_task(bar)
    return evaluated


def _ask(settings: Settings, customer_ids: list[str]) -> list[dict[str, Any]]:
    with start(settings, free_port()) as base_url:
        found = [ask(f"{base_url}/predict", {"customer_id": each}) for each in customer_ids]
    for status, answer in found:
        if status != 200:  # noqa: PLR2004
            raise UnansweredError(f"/predict answered {status}: {answer.get('message', '')}", answer.get("hint", ""))
    return [answer for _, answer in found]


def _summary(
    steps: Steps, landing: Landing, challenger: Challenger, evaluated: Evaluated, verdict: Verdict, *, simulated: bool
) -> None:
    ours, theirs = evaluated.validation.metrics[0], evaluated.validation.baseline_metrics[0]
    table = Table(title="churn demo" + (" (simulated customers)" if simulated else ""))
    table.add_column("")
    table.add_column("model", justify="right")
    table.add_column("logistic regression", justify="right")
    for name in ("roc_auc", "pr_auc", "brier", "lift_10"):
        table.add_row(FIGURES[name], f"{getattr(ours, name):.4f}", f"{getattr(theirs, name):.4f}")
    table.add_section()
    table.add_row("rows", str(landing.manifest.rows), "")
    table.add_row("gate", "passed", "")
    champion = f"version {challenger.registered.version}" if verdict.promote else "unchanged"
    table.add_row("champion", champion, "")
    table.add_section()
    for name, seconds in steps.seconds.items():
        table.add_row(name, f"{seconds:.1f} s", "")
    table.add_row("all steps", f"{sum(steps.seconds.values()):.1f} s", "")
    steps.console.print(table)
    if simulated:
        steps.console.print("every figure above is of simulated customers; for real ones: churn demo --csv PATH")
    steps.console.print(f"evaluation report  {evaluated.html}", **PLAIN)
    steps.console.print(f"gate report        {landing.report_html}", **PLAIN)


def _stay(settings: Settings, customer_id: str, console: Console) -> None:
    with Running(settings) as running:
        running.wait("/readyz", 90)
        console.print(f"serving at {running.base_url} (Ctrl-C stops it)")
        console.print(
            f"  curl -s {running.base_url}/predict -H 'content-type: application/json' "
            f'-d \'{{"customer_id": "{customer_id}"}}\'',
            **PLAIN,
        )
        running.process.wait()
