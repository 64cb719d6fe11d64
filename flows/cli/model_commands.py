"""Commands on models: training, promotion, roll-back, trials, evaluation, monitoring, batch scoring."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from configs.errors import EXIT_FAILURE
from flows.cli.invocation import now, run_settings, say, say_empty
from flows.cli.parameters import CSV, NEW_FILE, ONE_LINE

if TYPE_CHECKING:
    from bentos.rollout.ledger import LedgerEntry

_CANARY: Final = "Let it answer for this share of the customers, above 0 and below 1; for all of them: churn promote."
_SHARE: Final = click.FloatRange(0, 1, min_open=True, max_open=True)


def _named_champion(home: Path, version: str) -> str | None:
    """Return the champion's digest if ``version`` names it; else print so and return None.

    Raises NoChampionError if there is none, UnknownNameError if ``version`` names no bundle.
    """
    from bentos.rollout.rollout import served_rollout
    from flows.steps.compare import serving
    from flows.steps.promote import is_named

    found = serving(home) or served_rollout(home)
    if is_named(home, found.champion, version):
        return found.champion
    say(f"nothing to do: the champion is {found.champion[:12]} (model {found.model_version}), not {version}")
    return None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The outcome as one line of JSON: promoted, serves, verdict.")
def train(*, as_json: bool) -> None:
    """Train a challenger on everything published; promote it if it is better than the champion on the same rows.

    Exit code 0 whether it was promoted or not: the last line, or "promoted" with --json, says so.
    """
    from flows.cli.promotion_text import outcome_json, outcome_lines
    from flows.current_user import current_user
    from flows.steps.train import train_and_register as fit

    settings = run_settings()
    done = fit(settings, now(), who=current_user())
    for line in [outcome_json(done, training=True)] if as_json else outcome_lines(settings.home, done, training=True):
        say(line)


@click.command()
@click.option("--version", help="MLflow version; without it the newest challenger.")
@click.option("--from", "leaving", metavar="VERSION", help="The champion to replace; does nothing if another serves.")
@click.option("--why", type=ONE_LINE, default="", help="Your reason; it goes into the ledger.")
@click.option("--force", is_flag=True, help="Overrule the verdict; needs --why.")
def promote(version: str | None, leaving: str | None, why: str, *, force: bool) -> None:
    """Compare a challenger with the champion and let it serve if every rule holds. Exit code 1: refused."""
    settings = run_settings()
    left = None if leaving is None else _named_champion(settings.home, leaving)
    if leaving is not None and left is None:
        return
    from flows.cli.promotion_text import outcome_lines
    from flows.current_user import current_user
    from flows.steps.promote import compare_and_promote
    from flows.steps.train import registered_challenger

    trained = registered_challenger(settings, version)
    done = compare_and_promote(settings, trained, who=current_user(), why=why, now=now(), force=force, leaving=left)
    for line in outcome_lines(settings.home, done):
        say(line)
    if not done.serves:
        sys.exit(EXIT_FAILURE)


@click.command()
@click.option("--from", "leaving", metavar="VERSION", help="The champion to leave; does nothing if another serves.")
@click.option("--why", type=ONE_LINE, required=True, help="Your reason; it goes into the ledger.")
def rollback(leaving: str | None, why: str) -> None:
    """Let the champion before this one serve again, at once and without training; does nothing right after another.

    VERSION is the MLflow or model version of the champion that is to go, or the first 8 digits of its bundle or more;
    one that no bundle has is an error (exit code 2). What was rolled back comes back by churn promote --force alone.
    """
    from flows.cli.promotion_text import refuse_nothing_to_leave
    from flows.current_user import current_user
    from flows.steps.promote import roll_back

    settings = run_settings()
    left = None if leaving is None else _named_champion(settings.home, leaving)
    if leaving is not None and left is None:
        return

    def tell(entry: LedgerEntry | None) -> None:
        if entry is None:
            say(refuse_nothing_to_leave(settings.home))
        else:
            say(f"model {entry.after['model_version']} ({entry.after['champion'][:12]}) serves again")

    roll_back(settings, who=current_user(), why=why, now=now(), leaving=left, report=tell)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Every entry whole, one a line.")
def history(*, as_json: bool) -> None:
    """Say who let which model serve, when and why; the ledger is verified on the way."""
    import json
    from dataclasses import asdict

    from bentos.rollout.ledger import read_ledger
    from flows.cli.promotion_text import ledger_line

    found = read_ledger(run_settings().home)
    for entry in found:
        told = {**asdict(entry), "forced": entry.forced}
        say(json.dumps(told, sort_keys=True) if as_json else ledger_line(entry), wrap=not as_json)
    if not found:
        say_empty("the ledger is empty: no model was ever promoted; train one: churn train")


@click.command()
@click.option("--shadow", is_flag=True, help="Let the challenger score live requests unseen.")
@click.option("--canary", metavar="SHARE", type=_SHARE, help=_CANARY)
@click.option("--stop", is_flag=True, help="End the trial.")
@click.option("--version", help="MLflow version; without it the newest challenger. With --stop: the one to end.")
@click.option("--why", type=ONE_LINE, default="", help="Your reason; it goes into the ledger.")
def rollout(canary: float | None, version: str | None, why: str, *, shadow: bool, stop: bool) -> None:
    """Begin or end the trial of a challenger on live requests; without an option, say what serves."""
    from flows.cli.promotion_text import rollout_lines

    settings = run_settings()
    if shadow + stop + (canary is not None) > 1:
        raise click.UsageError("give one of --shadow, --canary and --stop")
    if stop:
        from flows.current_user import current_user
        from flows.steps.promote import end_trial

        if end_trial(settings, version, who=current_user(), why=why, now=now()) is None:
            say("no trial is running" if version is None else f"no trial of {version} is running: nothing to do")
    elif shadow or canary is not None:
        from flows.current_user import current_user
        from flows.steps.promote import begin_trial
        from flows.steps.train import registered_challenger

        trained = registered_challenger(settings, version)
        begin_trial(settings, trained, share=canary, who=current_user(), why=why, now=now())
    for line in rollout_lines(settings.home):
        say(line)


@click.command()
@click.option("--csv", required=True, type=CSV, help="A labelled extract.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1, 100), help="Of the cross-validation.")
def evaluate(csv: Path, repeats: int) -> None:
    """Repeated nested cross-validation, compared with a logistic regression on the same folds, with an HTML report."""
    from flows.cli.tables import comparison_table
    from flows.steps.evaluate import evaluate_csv

    settings = run_settings()
    total = repeats * settings.training.folds
    with click.progressbar(length=total, label="folds", file=sys.stderr) as bar:
        evaluated = evaluate_csv(settings, csv, now(), repeats=repeats, progress=lambda _fold: bar.update(1))
    comparison_table(evaluated.validation)
    if evaluated.leak_suspected:
        click.echo("warning: ROC-AUC is above 0.86: on the public Telco file that is a leak; look for one", err=True)
    click.echo(f"report: {evaluated.html}\nfigures: {evaluated.figures}")


@click.command()
@click.option(
    "--run", "run_id", help="Flow run that waits, by id; needed where several do. Does nothing if it is over."
)
@click.option("--version", help="The challenger that you mean; does nothing if another waits.")
@click.option("--yes/--no", "yes", required=True, help="Let the challenger serve, or not.")
@click.option("--who", type=ONE_LINE, required=True, help="Your name; it goes into the ledger.")
@click.option("--why", type=ONE_LINE, default="", help="Your reason; it goes into the ledger.")
def approve(run_id: str | None, version: str | None, who: str, why: str, *, yes: bool) -> None:
    """Answer the deployment that waits for a person (promotion.approval_required); needs PREFECT_API_URL."""
    from flows.pipeline.approval import approve as answer
    from flows.pipeline.approval import waiting_approvals

    settings = run_settings()
    told = answer(settings, run_id, version, yes=yes, who=who, why=why)
    if told is None:
        others = "; ".join(each.summary() for each in waiting_approvals(settings.home)) or "none"
        say(f"nothing to do: no deployment of {version} waits for approval; waiting: {others}")
    elif told.over:
        say(f"{told.name} is over: nothing to do")
    else:
        say(f"{told.name}: {'may serve' if yes else 'refused'}, says {who}")


@click.command()
def monitor() -> None:
    """Compare today's customers with those that the champion was measured on; check labels, quality and freshness."""
    from flows.cli.tables import drift_table
    from flows.steps.monitor import run_monitor as measure

    settings = run_settings()
    found = measure(settings, now())
    drift_table(found)
    if not found.windows_judged:
        click.echo(
            f"windows over events: insufficient data; they end {found.known_at}, and the newest event known then is of "
            f"{found.events_until or 'no delivery'}"
        )
    did, quality = found.performance, found.quality
    if did.rows:
        say(
            f"newest labels: {did.churn_rate:.1%} of {did.rows} customers observed {did.observed_at} left, mean score "
            f"{did.mean_score:.1%}; log loss {did.log_loss:.4f}, {did.rise:+.4f} since training: {did.status}"
        )
    if quality is not None:
        verdict = "passed" if quality.passed else f"REFUSED ({', '.join(quality.failed)})"
        say(f"gate: the file of {quality.snapshot} {verdict}{f'; {quality.finding}' if quality.finding else ''}")
    for age in found.freshness:
        say(f"{age.name}: {age.status}" + ("" if age.age_h is None else f", {age.age_h:.0f} h old"))
    click.echo(f"drift: {', '.join(found.drifted) or 'none'}\nreport: {settings.home / found.report}")


@click.command("score-base")
@click.option("--csv", "csv_file", type=NEW_FILE, help="Write the list of customers to this CSV file too.")
@click.option("--excel", "excel_file", type=NEW_FILE, help="Write it to this Excel workbook (.xlsx): ids stay text.")
def score_base(csv_file: Path | None, excel_file: Path | None) -> None:
    """Score every active customer with the champion, to Parquet; goes on where a killed run stopped.

    The list has one line per customer, the greatest expected profit first: whether to call, risk, offer, reasons and
    quality of the data. A regular file of that name is replaced; anything else, such as a pipe, is refused.
    """
    from bentos.batch.call_list import list_path, write_csv, write_excel
    from bentos.batch.score_base import score_base as score
    from bentos.batch.summary import advice, coverage

    # Refused before the scoring, which takes long.
    files = [list_path(target) for target in (csv_file, excel_file) if target is not None]
    for file in files:
        if not file.parent.is_dir():
            raise click.UsageError(f"there is no folder {file.parent} to write {file.name} to")
    if len(set(files)) < len(files):
        raise click.UsageError(f"--csv and --excel name the same file {files[0]}; give each its own")
    settings = run_settings()
    done = score(settings, now())
    run = settings.home / done.path
    for line in coverage(done):
        say(line)
    say(f"scores: {run}")
    for target, write in ((csv_file, write_csv), (excel_file, write_excel)):
        if target is not None:
            say(f"list of {write(settings, run, target)} customers: {target}")
    for line in advice(done):
        say(line)


MODEL_COMMANDS: Final[tuple[click.Command, ...]] = (
    train,
    promote,
    rollback,
    history,
    rollout,
    evaluate,
    approve,
    monitor,
    score_base,
)
