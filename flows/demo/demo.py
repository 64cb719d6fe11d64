"""The demo: from one CSV to explained predictions over HTTP, a Prefect flow on embedded defaults."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bentos.bundle import Bundle
from bentos.churn.auth.authenticator import keys_needed
from bentos.churn.auth.key_admin import create_key, revoke_key
from bentos.rollout import champion_digest
from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT
from feature_repo.files.atomic_writes import file_sha256
from feature_repo.raw.simulator.manifest import World
from feature_repo.raw.snapshots.publication import published_snapshots, read_snapshot
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.historical_features import get_historical_features
from feature_repo.stores.materialize import materialize
from flows.current_user import current_user
from flows.demo.replay_world import ReplayedWorld, replay_world, simulated_world, true_hazard
from flows.service_process import ServiceProcess, free_port, request_json, start_service
from flows.steps.apply_features import apply_features
from flows.steps.build_features import build_activity, build_features
from flows.steps.check_parity import check_parity, report
from flows.steps.evaluate import EvaluationResult, evaluate_model
from flows.steps.ingest_snapshot import SnapshotIngestion, ingest_snapshot
from flows.steps.promote import PromotionOutcome, compare_and_promote
from flows.steps.train import train_challenger, training_set
from flows.terminal import LINE
from flows.terminal import console as terminal_console
from training.data.training_set import TrainingSet
from training.metrics.scores import FIGURES, roc_auc
from training.registry import RegisteredChallenger

STEPS: Final = 10
PARITY_CUSTOMERS: Final = 500
KEY_NAME: Final = "churn-demo"


class HomeInUseError(ChurnError):
    """The home holds snapshots of another file."""

    error = "home_in_use"


class NoAnswerError(ChurnError):
    """The service returned no prediction for a known customer."""

    error = "demo_unanswered"


@dataclass(frozen=True)
class DemoInputs:
    """Input of the demo: a CSV, or a simulated world of ``customers`` (rows per extract) and ``months``."""

    settings: Settings
    csv: Path | None
    customers: int
    months: int
    seed: int
    now: datetime
    stay: bool = False


@dataclass
class DemoSteps:
    """Run steps under one progress bar, print a line per step and record its duration (seconds)."""

    console: Console
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, work: Callable[[], Any], told: Callable[[Any], str]) -> Any:
        """Run ``work`` as a Prefect task called ``name``; ``told`` formats its result as one line."""
        bar = self.progress.tasks[0].id
        self.progress.update(bar, description=name)
        began = time.perf_counter()
        result = task(work, name=name, cache_policy=NO_CACHE, persist_result=False)()
        self.seconds[name] = time.perf_counter() - began
        self.progress.advance(bar)
        self.console.print(f"[green]✓[/] {name:<22} {escape(told(result))} [dim]{self.seconds[name]:.1f} s[/]", **LINE)
        return result


@flow(name="churn-demo", persist_result=False)
def _demo_flow(inputs: DemoInputs, steps: DemoSteps) -> list[str]:
    settings = inputs.settings
    world = None if inputs.csv else _simulate(inputs, steps)
    landing = _land_csv(inputs, steps, inputs.csv) if inputs.csv else _replay(settings, steps, world)
    steps.run(
        "build features", lambda: _build(settings), lambda parts: f"{len(parts)} offline parts, newest {parts[-1]}"
    )
    steps.run("feast apply", lambda: apply_features(settings), lambda done: f"{len(done.names)} objects registered")
    rows: TrainingSet = steps.run(
        "point-in-time join",
        lambda: training_set(settings),
        lambda found: (
            f"{len(found)} labels in, {len(found.features)} rows out, "
            f"{found.features.shape[1]} features of {found.service}"
        ),
    )
    trained: RegisteredChallenger = steps.run(
        "tune, train, register",
        lambda: train_challenger(settings, inputs.now),
        lambda done: (
            f"MLflow version {done.version}, bundle {done.digest[:12]}"
            + ("" if done.fresh else ": the same data, settings and code")
        ),
    )
    evaluated: EvaluationResult = steps.run(
        "evaluate",
        lambda: _evaluate(steps, settings, rows, trained, inputs, simulated=world is not None),
        lambda done: (
            f"nested, {len(done.validation.scored)} rows scored: ROC-AUC {done.validation.metrics[0].roc_auc:.4f}, "
            f"baseline {done.validation.baseline_metrics[0].roc_auc:.4f}"
        ),
    )
    outcome: PromotionOutcome = steps.run(
        "promote",
        lambda: compare_and_promote(settings, trained, who=current_user(), why="churn demo", now=inputs.now),
        lambda done: done.compared.verdict.why if done.compared else "it is the champion already",
    )
    steps.run(
        "materialize",
        lambda: materialize(settings, inputs.now),
        lambda done: f"{done.customers} customers in {done.views} views into {settings.feast.online_store}",
    )
    steps.run(
        "prove parity",
        lambda: report(settings, check_parity(settings, inputs.now, customers_max=PARITY_CUSTOMERS)),
        lambda lines: f"{len(lines)} feature services: online equals the point-in-time join, value by value",
    )
    found: list[dict[str, Any]] = steps.run(
        "serve and ask",
        lambda: _ask(settings, customers_to_ask(settings, Bundle.load(champion_digest(settings.home)), inputs.now)),
        lambda some: f"{len(some)} answers over HTTP{_with_a_key(settings)}",
    )
    steps.progress.stop()
    answers(found, steps.console)
    best = None if world is None else _best_reachable(world, rows, evaluated)
    _summary(steps, landing, outcome, evaluated, best)
    return [str(answer["customer_id"]) for answer in found]


def _simulate(inputs: DemoInputs, steps: DemoSteps) -> World:
    folder, numbers = inputs.settings.home / "simulated", {"customers": inputs.customers, "months": inputs.months}
    # Yesterday's extract has arrived at any hour of today.
    newest = inputs.now.date() - timedelta(days=1)
    world: World = steps.run(
        "simulate a world",
        lambda: simulated_world(folder, **numbers, seed=inputs.seed, newest=newest),
        lambda done: (
            f"{done.months} months of about {done.customers} customers, {done.snapshots[0]} to {done.snapshots[-1]}"
        ),
    )
    _refuse_other_files(inputs.settings.home, {name: sha for name, sha in world.files.items() if name.endswith(".csv")})
    return world


def _replay(settings: Settings, steps: DemoSteps, world: World | None) -> SnapshotIngestion:
    assert world is not None  # noqa: S101 - either a CSV or a world
    done: ReplayedWorld = steps.run(
        "ingest, gate, publish",
        lambda: replay_world(settings, world),
        lambda all_of_it: (
            f"{len(all_of_it.landings)} extracts ({all_of_it.rows} rows, {all_of_it.corrections} corrected later), "
            f"{all_of_it.deliveries} deliveries of events ({all_of_it.events['admitted']} admitted)"
        ),
    )
    return done.landings[-1]


def _land_csv(inputs: DemoInputs, steps: DemoSteps, csv: Path) -> SnapshotIngestion:
    settings = inputs.settings
    as_of = day(settings.home, csv, inputs.now.date())
    landing: SnapshotIngestion = steps.run(
        "ingest, gate, publish",
        lambda: ingest_snapshot(settings, csv, as_of, ingested_at=inputs.now),
        lambda done: (
            f"{done.manifest.rows} rows of {as_of}, {done.manifest.quarantined_rows} quarantined, "
            f"gate passed ({len(done.gate.checks)} checks), time {done.manifest.time}"
        ),
    )
    return landing


def _build(settings: Settings) -> list[str]:
    return [*build_activity(settings), *build_features(settings)]


def _best_reachable(world: World, rows: TrainingSet, evaluated: EvaluationResult) -> float:
    """Return the ROC-AUC of the true hazard on the rows that the evaluation scored."""
    scored = rows.keys.iloc[evaluated.validation.scored]
    hazard = true_hazard(world, scored).to_numpy()
    told = np.isfinite(hazard)
    return roc_auc(scored[LABEL].to_numpy(dtype=bool)[told], hazard[told])


def run_steps(inputs: DemoInputs, console: Console | None = None) -> None:
    """Run the demo, print its steps, and keep the service running if ``inputs.stay``.

    Raises
    ------
    ChurnError
        Any error of a step: the first one ends the demo.
    """
    console = console or terminal_console()
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task("start Prefect", total=STEPS + (inputs.csv is None))
        # Prefect would hash and record the inputs: they are frames and models, and must stay in this process.
        asked = _demo_flow.with_options(validate_parameters=False)(inputs, DemoSteps(console, progress))
    if inputs.stay:
        _stay(inputs.settings, asked[0], console)


def day(home: Path, csv: Path, today: date) -> date:
    """Return the snapshot date for ``csv``: its own if it is published already, else today.

    Raises
    ------
    HomeInUseError
        If the home has snapshots of other files: the demo's rows would mix with them.
    """
    sha256 = file_sha256(csv)
    _refuse_other_files(home, {csv.name: sha256})
    return next((m.snapshot_date for m in published_snapshots(home) if m.source_sha256 == sha256), today)


def _refuse_other_files(home: Path, ours: Mapping[str, str]) -> None:
    other = next((m for m in published_snapshots(home) if m.source_sha256 not in set(ours.values())), None)
    if other is not None:
        raise HomeInUseError(
            f"{home} holds snapshots of another file ({other.source_name} of {other.snapshot_date})",
            "give the demo a folder of its own: CHURN_HOME=data/other uv run churn demo …",
        )


def customers_to_ask(settings: Settings, bundle: Bundle, now: datetime) -> list[str]:
    """Return the current customers with the highest, the middle and the lowest score."""
    newest = read_snapshot(settings.home, published_snapshots(settings.home)[-1])
    here = newest.loc[~newest[LABEL].astype(bool), CUSTOMER].reset_index(drop=True)
    keys = pd.DataFrame({CUSTOMER: here, OBSERVED_AT: pd.Timestamp(now)})
    frame = get_historical_features(open_feature_store(settings), keys, bundle.manifest.service)
    order = np.argsort(-bundle.score(frame), kind="stable")
    return [str(here.iloc[order[place]]) for place in (0, len(order) // 2, -1)]


def _evaluate(
    steps: DemoSteps,
    settings: Settings,
    rows: TrainingSet,
    trained: RegisteredChallenger,
    inputs: DemoInputs,
    *,
    simulated: bool,
) -> EvaluationResult:
    bar = steps.progress.add_task("  folds", total=settings.training.folds)
    evaluated = evaluate_model(
        settings,
        rows,
        inputs.now,
        reports=settings.home / "reports",
        repeats=1,
        simulated=simulated,
        model_version=trained.model_version,
        progress=lambda done: steps.progress.update(bar, completed=done),
    )
    steps.progress.remove_task(bar)
    return evaluated


@contextlib.contextmanager
def own_key(settings: Settings) -> Iterator[str | None]:
    """Create an API key for the duration of the block; yields None if the service needs none.

    The first key of a home makes keys mandatory for all callers: none is created without need. The key is revoked
    however the block ends; the key of a killed process expires within a day.
    """
    if not keys_needed(settings):
        yield None
        return
    entry, key = create_key(settings, KEY_NAME, ["predict"], now=datetime.now(UTC), days=1, who=current_user())
    try:
        yield key
    finally:
        revoke_key(settings, entry.id, now=datetime.now(UTC), who=current_user())


def _with_a_key(settings: Settings) -> str:
    return f", with an API key of its own ({KEY_NAME}), revoked again" if keys_needed(settings) else ""


def _ask(settings: Settings, customer_ids: list[str]) -> list[dict[str, Any]]:
    # Before the service: it does not start where no key is valid.
    with own_key(settings) as key, start_service(settings, free_port()) as base_url:
        found = [request_json(f"{base_url}/predict", {"customer_id": each}, key=key) for each in customer_ids]
    for status, answer in found:
        if status != 200:  # noqa: PLR2004
            raise NoAnswerError(f"/predict answered {status}: {answer.get('message', '')}", answer.get("hint", ""))
    return [answer for _, answer in found]


def _summary(
    steps: DemoSteps,
    landing: SnapshotIngestion,
    outcome: PromotionOutcome,
    evaluated: EvaluationResult,
    best_roc_auc: float | None,
) -> None:
    simulated = best_roc_auc is not None
    ours, theirs = evaluated.validation.metrics[0], evaluated.validation.baseline_metrics[0]
    table = Table(title="churn demo" + (" (simulated customers)" if simulated else ""))
    table.add_column("")
    table.add_column("model", justify="right")
    table.add_column("logistic regression", justify="right")
    for name in ("roc_auc", "pr_auc", "brier", "lift_10"):
        table.add_row(FIGURES[name], f"{getattr(ours, name):.4f}", f"{getattr(theirs, name):.4f}")
    if best_roc_auc is not None:
        table.add_row("best reachable ROC-AUC", f"{best_roc_auc:.4f}", "")
    table.add_section()
    table.add_row("rows scored", str(len(evaluated.validation.scored)), "")
    table.add_row("customers in the newest extract", str(landing.manifest.rows), "")
    table.add_row("gate", "passed", "")
    table.add_row("champion", f"version {outcome.trained.version}" if outcome.serves else "unchanged", "")
    table.add_section()
    for name, seconds in steps.seconds.items():
        table.add_row(name, f"{seconds:.1f} s", "")
    table.add_row("all steps", f"{sum(steps.seconds.values()):.1f} s", "")
    steps.console.print(table)
    if simulated:
        steps.console.print("every figure above is of simulated customers; for real ones: churn demo --csv PATH")
    steps.console.print(f"evaluation report  {evaluated.html}", markup=False, **LINE)
    steps.console.print(f"gate report        {landing.report_html}", markup=False, **LINE)


def _stay(settings: Settings, customer_id: str, console: Console) -> None:
    with own_key(settings) as key, ServiceProcess(settings) as running:
        running.wait("/readyz", 90)
        console.print(f"serving at {running.base_url} (Ctrl-C stops it)")
        if key is not None:
            console.print(f"it wants an API key; the one below ({KEY_NAME}) is revoked when it stops")
        with_key = "" if key is None else f"-H 'authorization: Bearer {key}' "
        console.print(
            f"  curl -s {running.base_url}/predict -H 'content-type: application/json' {with_key}"
            f'-d \'{{"customer_id": "{customer_id}"}}\'',
            # A command to copy: it stays one line, whatever the width.
            highlight=False,
            soft_wrap=True,
        )
        running.join()


def answers(found: list[dict[str, Any]], console: Console) -> None:
    """Print the predictions of some customers with their reasons."""
    for answer in found:
        console.print(
            f"  customer [bold]{answer['customer_id']}[/]: {answer['probability']:.1%} -> [bold]{answer['label']}[/] "
            f"(threshold {answer['threshold']:.1%})"
        )
        for reason in answer["reasons"] or []:
            console.print(
                f"      {'+' if reason['direction'] == 'raises' else '-'} {reason['text']}",
                highlight=False,
                markup=False,
            )
