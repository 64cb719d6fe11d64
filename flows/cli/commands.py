"""`churn …`: a thin door to the functions of this package. Heavy libraries load inside the commands."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from bentos.churn.rights import RIGHTS, Right
from configs.errors import EXIT_FAILURE, EXIT_USAGE, ChurnError
from configs.printable import printable, unprintable
from configs.telemetry import switch_off
from feature_repo.raw.world.drift import SCENARIOS

if TYPE_CHECKING:
    from bentos.bundle.ledger import Entry
    from configs.settings import Settings

CSV: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
EVENTS: Final = click.Path(exists=True, path_type=Path)
FOLDER: Final = click.Path(file_okay=False, path_type=Path)


class _Day(click.ParamType[date]):
    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date of the form 2026-11-30", param, ctx)


class _Line(click.ParamType[str]):
    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if unprintable(str(value)):
            self.fail("a line end, a control character or a mark of direction is in it; give one line", param, ctx)
        return str(value)


DAY: Final = _Day()
LINE: Final = _Line()
"""What goes into a ledger: one line."""
_CANARY: Final = (
    "Let it answer for this share of the customers. At 1 the champion's times are missing, and no CPU time ends it."
)


def _settings() -> Settings:
    from configs.settings import load_settings
    from feature_repo.raw.atomic import sweep

    settings = load_settings()
    sweep(settings.home)
    return settings


def _now() -> datetime:
    return datetime.now(UTC)


def _say(line: str) -> None:
    """Print one line, of which a part may be somebody's text."""
    click.echo(printable(line))


def _named_champion(home: Path, version: str) -> str | None:
    """Return the champion's digest if it is the one that is named; else None, and says so.

    Raises NoChampionError if there is none, UnknownNameError if no bundle has that name.
    """
    from bentos.bundle.rollout import served
    from flows.compare import serving
    from flows.deploy import is_named

    found = serving(home) or served(home)
    if is_named(home, found.champion, version):
        return found.champion
    _say(f"nothing to do: the champion is {found.champion[:12]} (model {found.model_version}), not {version}")
    return None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="churn-platform", prog_name="churn")
@click.option("--debug", is_flag=True, help="Show the traceback of what fails.")
@click.pass_context
def cli(context: click.Context, *, debug: bool) -> None:
    """From a Telco CSV to explained churn scores. Settings: configs/default.toml and CHURN_… variables."""
    if debug:
        context.with_resource(_traceback_shown())


@contextmanager
def _traceback_shown() -> Iterator[None]:
    """Print the traceback of what ends the block; it goes on."""
    import traceback

    try:
        yield
    except click.exceptions.Exit:
        raise
    except Exception:
        click.echo(traceback.format_exc(), err=True)
        raise


@cli.command()
@click.option("--csv", type=CSV, help="A Telco Customer Churn CSV; without it the demo simulates a world.")
@click.option("--customers", default=2000, show_default=True, type=click.IntRange(500), help="Simulated, a month.")
@click.option("--months", default=12, show_default=True, type=click.IntRange(3, 60), help="Simulated months.")
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="Seed of the simulation.")
@click.option("--serve", is_flag=True, help="Leave the service running at the end.")
def demo(csv: Path | None, customers: int, months: int, seed: int, *, serve: bool) -> None:
    """Run the whole job on embedded defaults, and ask the service for three customers."""
    from flows.embedded import run_demo

    run_demo(_settings(), csv=csv, customers=customers, months=months, seed=seed, stay=serve, now=_now())


@cli.command()
@click.option("--customers", default=7000, show_default=True, type=click.IntRange(100), help="Rows of an extract.")
@click.option("--months", default=12, show_default=True, type=click.IntRange(1, 120), help="Number of extracts.")
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="The same seed, the same bytes.")
@click.option("--out", required=True, type=FOLDER, help="An empty or new folder.")
@click.option("--start", default="2025-01-31", show_default=True, type=DAY, help="Date of the first extract.")
@click.option("--drift", default="none", show_default=True, type=click.Choice(list(SCENARIOS)), help="What changes.")
@click.option("--drift-month", type=click.IntRange(1), help="First extract that shows it (default: the middle).")
@click.option("--monthly-churn", type=float, help="Share of Churn = Yes rows, for example 0.015 (default: 0.265).")
@click.option("--jsonl/--no-jsonl", default=True, show_default=True, help="Events as JSON lines too.")
def simulate(  # noqa: PLR0913 - an option each
    out: Path,
    customers: int,
    months: int,
    seed: int,
    start: date,
    drift: str,
    drift_month: int | None,
    monthly_churn: float | None,
    *,
    jsonl: bool,
) -> None:
    """Write a simulated Telco world: monthly extracts, events, and the truth about every customer's risk."""
    from flows.simulate import simulate_world

    done = simulate_world(
        out,
        customers=customers,
        months=months,
        seed=seed,
        start=start,
        drift=drift,
        drift_month=drift_month,
        jsonl=jsonl,
        monthly_churn=monthly_churn,
    )
    click.echo("\n".join(done.lines))


@cli.command()
@click.option("--csv", required=True, type=CSV, help="The extract, 21 Telco columns.")
@click.option("--as-of", required=True, type=DAY, help="The date that the extract describes.")
@click.option("--replace", is_flag=True, help="Publish other content for a date that is live; the old one is kept.")
def ingest(csv: Path, as_of: date, *, replace: bool) -> None:
    """Land, validate and publish one snapshot. Exit code 3: the gate refused it, nothing was published."""
    from flows.land import ingest as land

    landing = land(_settings(), csv, as_of, ingested_at=_now(), replace=replace)
    manifest = landing.manifest
    what = "published" if landing.fresh else "was published before, nothing to do:"
    click.echo(
        f"{what} {manifest.snapshot_date} version {manifest.version}: {manifest.rows} rows, "
        f"{manifest.quarantined_rows} quarantined, churn rate {manifest.churn_rate:.1%}, time {manifest.time}"
    )
    if landing.movements is not None:
        click.echo(f"movements: {landing.movements}")
    click.echo(f"gate report: {landing.report_html}")


@cli.command("ingest-events")
@click.option(
    "--file", "path", required=True, type=EVENTS, help="Parquet, a folder of it, or JSON lines (.jsonl, .ndjson)."
)
def ingest_events(path: Path) -> None:
    """Judge and publish a file or folder of events. Exit code 3: too many were bad, nothing was published."""
    from flows.land_events import ingest_events as land
    from flows.land_events import told

    for line in told(land(_settings(), path, now=_now())):
        click.echo(line)


@cli.command("build-features")
def build_features() -> None:
    """Append published snapshots, and deliveries of events, to the offline tables that Feast reads."""
    from flows.build_activity import build_activity
    from flows.build_features import build_features as build

    settings = _settings()
    parts = build(settings)
    click.echo(f"offline table: {len(parts)} part{'s' if len(parts) > 1 else ''}, newest {parts[-1]}")
    if activity := build_activity(settings):
        click.echo(f"activity table: {len(activity)} part{'s' if len(activity) > 1 else ''}, newest {activity[-1]}")


@cli.command()
def apply() -> None:
    """Register the feature definitions (as `feast apply` does) in the registry of the settings."""
    from feature_repo.stores.registration import apply as register

    for name in register(_settings()):
        click.echo(name)


@cli.command()
def train() -> None:
    """Train a challenger on everything published; promote it if it is better than the champion on the same rows."""
    from flows.outcomes import outcome_lines
    from flows.train import train as fit
    from flows.who import operator

    settings = _settings()
    done = fit(settings, _now(), who=operator())
    for line in outcome_lines(settings.home, done):
        _say(line)


@cli.command()
@click.option("--version", help="MLflow version; without it the newest challenger.")
@click.option("--from", "leaving", metavar="VERSION", help="The champion to replace; does nothing if another serves.")
@click.option("--why", type=LINE, default="", help="Your reason; it goes into the ledger.")
@click.option("--force", is_flag=True, help="Overrule the verdict; needs --why.")
def promote(version: str | None, leaving: str | None, why: str, *, force: bool) -> None:
    """Compare a challenger with the champion and let it serve if every rule holds. Exit code 1: refused."""
    from flows.deploy import compare_and_deploy
    from flows.outcomes import outcome_lines
    from flows.train import registered_challenger
    from flows.who import operator

    settings = _settings()
    left = None if leaving is None else _named_champion(settings.home, leaving)
    if leaving is not None and left is None:
        return
    trained = registered_challenger(settings, version)
    done = compare_and_deploy(settings, trained, who=operator(), why=why, now=_now(), force=force, leaving=left)
    for line in outcome_lines(settings.home, done):
        _say(line)
    if not done.serves:
        sys.exit(EXIT_FAILURE)


@cli.command()
@click.option("--from", "leaving", metavar="VERSION", help="The champion to leave; does nothing if another serves.")
@click.option("--why", type=LINE, required=True, help="Your reason; it goes into the ledger.")
def rollback(leaving: str | None, why: str) -> None:
    """Let the champion before this one serve again, at once and without training; does nothing right after another.

    VERSION is the MLflow or model version of the champion that is to go, or the first 8 digits of its bundle or more;
    one that no bundle has is an error (exit code 2). What was rolled back comes back by churn promote --force alone.
    """
    from flows.deploy import roll_back
    from flows.outcomes import nothing_to_leave
    from flows.who import operator

    settings = _settings()
    left = None if leaving is None else _named_champion(settings.home, leaving)
    if leaving is not None and left is None:
        return

    def tell(entry: Entry | None) -> None:
        if entry is None:
            _say(nothing_to_leave(settings.home))
        else:
            _say(f"model {entry.after['model_version']} ({entry.after['champion'][:12]}) serves again")

    roll_back(settings, who=operator(), why=why, now=_now(), leaving=left, told=tell)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Every entry whole, one a line.")
def history(*, as_json: bool) -> None:
    """Say who let which model serve, when and why; the ledger is verified on the way."""
    import json
    from dataclasses import asdict

    from bentos.bundle.ledger import entries
    from flows.outcomes import ledger_line

    for entry in entries(_settings().home):
        _say(json.dumps(asdict(entry), sort_keys=True) if as_json else ledger_line(entry))


@cli.command()
@click.option("--shadow", is_flag=True, help="Let the challenger score live requests unseen.")
@click.option("--canary", metavar="SHARE", type=click.FloatRange(0, 1, min_open=True), help=_CANARY)
@click.option("--stop", is_flag=True, help="End the trial.")
@click.option("--version", help="MLflow version; without it the newest challenger. With --stop: the one to end.")
@click.option("--why", type=LINE, default="", help="Your reason; it goes into the ledger.")
def rollout(canary: float | None, version: str | None, why: str, *, shadow: bool, stop: bool) -> None:
    """Begin or end the trial of a challenger on live requests; without an option, say what serves."""
    from flows.deploy import begin_trial, end_trial
    from flows.outcomes import rollout_lines
    from flows.who import operator

    settings = _settings()
    if shadow + stop + (canary is not None) > 1:
        raise click.UsageError("give one of --shadow, --canary and --stop")
    if stop and end_trial(settings, version, who=operator(), why=why, now=_now()) is None:
        _say("no trial is running" if version is None else f"no trial of {version} is running: nothing to do")
    elif shadow or canary is not None:
        from flows.train import registered_challenger

        trained = registered_challenger(settings, version)
        begin_trial(settings, trained, share=canary, who=operator(), why=why, now=_now())
    for line in rollout_lines(settings.home):
        _say(line)


@cli.command()
@click.option("--csv", required=True, type=CSV, help="A labelled extract.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1, 100), help="Of the cross-validation.")
def evaluate(csv: Path, repeats: int) -> None:
    """Repeated nested cross-validation beside a logistic regression on the same folds, with an HTML report."""
    from flows.evaluate import evaluate_csv
    from flows.tables import comparison

    settings = _settings()
    total = repeats * settings.training.folds
    with click.progressbar(length=total, label="folds", file=sys.stderr) as bar:
        evaluated = evaluate_csv(settings, csv, _now(), repeats=repeats, progress=lambda _fold: bar.update(1))
    comparison(evaluated.validation)
    if evaluated.leak_suspected:
        click.echo("warning: ROC-AUC is above 0.86: on the public Telco file that is a leak; look for one", err=True)
    click.echo(f"report: {evaluated.html}\nfigures: {evaluated.figures}")


@cli.command()
@click.option("--overwrite-newer", is_flag=True, help="Write over online rows with a later event timestamp too.")
def materialize(*, overwrite_newer: bool) -> None:
    """Copy the newest offline values into the online store."""
    from feature_repo.stores.materialising import materialize as copy

    settings = _settings()
    done = copy(settings, _now(), overwrite_newer=overwrite_newer)
    click.echo(
        f"{done.customers} customers in {done.views} views written to {settings.feast.online_store}, "
        f"newest values of {done.newest:%Y-%m-%d}"
    )
    if done.kept:
        counts = ", ".join(f"{view} {count}" for view, count in sorted(done.kept.items()))
        click.echo(f"rows not written, a later event timestamp is online (--overwrite-newer replaces it): {counts}")


@cli.command()
@click.option("--parity", is_flag=True, help="Compare the online store with the point-in-time join, value by value.")
@click.option(
    "--customers", type=click.IntRange(1), help="Compare at most so many, evenly spread; without it everybody."
)
def doctor(customers: int | None, *, parity: bool) -> None:
    """Prove what the platform promises on the data of this home. Exit code 1: a promise does not hold."""
    from flows.doctor import check_parity, report

    if not parity:
        raise click.UsageError("say what to check: churn doctor --parity")
    settings = _settings()
    for line in report(settings, check_parity(settings, _now(), customers_max=customers)):
        click.echo(line)


@cli.command()
def monitor() -> None:
    """Compare today's customers with those that the champion was measured on; check labels, quality and freshness."""
    from flows.monitor import monitor as measure
    from flows.tables import drift

    settings = _settings()
    found = measure(settings, _now())
    drift(found)
    did, quality = found.performance, found.quality
    if did.rows:
        click.echo(
            f"newest labels: {did.churn_rate:.1%} of {did.rows} customers observed {did.observed_at} left, mean score "
            f"{did.mean_score:.1%}; log loss {did.log_loss:.4f}, {did.rise:+.4f} since training: {did.status}"
        )
    if quality is not None:
        verdict = "passed" if quality.passed else f"REFUSED ({', '.join(quality.failed)})"
        click.echo(f"gate: the file of {quality.snapshot} {verdict}{f'; {quality.finding}' if quality.finding else ''}")
    for age in found.freshness:
        click.echo(f"{age.name}: {age.status}" + ("" if age.age_h is None else f", {age.age_h:.0f} h old"))
    click.echo(f"drift: {', '.join(found.drifted) or 'none'}\nreport: {settings.home / found.report}")


@cli.command("score-base")
def score_base() -> None:
    """Score every active customer with the champion, to Parquet; goes on where a killed run stopped."""
    from flows.score_base import score_base as score

    settings = _settings()
    done = score(settings, _now())
    what = "scored" if done.fresh else "was scored before, nothing to do:"
    click.echo(
        f"{what} {done.scored} of {done.customers} customers "
        f"as of {done.observed_at} with model {done.model_version}: {done.churn} churn, "
        f"worth {done.expected_profit_usd:.0f} USD if all of them are contacted"
    )
    for reason, customers in done.refused.items():
        click.echo(f"not scored: {customers} customers, {reason}")
    click.echo(f"no customers: {done.withdrawn} withdrawn, {done.expired} expired\nscores: {settings.home / done.path}")


@cli.command()
@click.option(
    "--run", "run_id", help="Flow run that waits, by id; needed where several do. Does nothing if it is over."
)
@click.option("--yes/--no", "yes", required=True, help="Let the challenger serve, or not.")
@click.option("--who", type=LINE, required=True, help="Your name; it goes into the ledger.")
@click.option("--why", type=LINE, default="", help="Your reason; it goes into the ledger.")
def approve(run_id: str | None, who: str, why: str, *, yes: bool) -> None:
    """Answer the deployment that waits for a person (promotion.approval_required); needs PREFECT_API_URL."""
    from flows.approving import approve as answer

    told = answer(_settings().home, run_id, yes=yes, who=who, why=why)
    if told.over:
        _say(f"{told.name} is over: nothing to do")
    else:
        _say(f"{told.name}: {'may serve' if yes else 'refused'}, says {who}")


@cli.command()
@click.option("--host", help="Address to bind (default: serving.host).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port (default: serving.port).")
def serve(host: str | None, port: int | None) -> None:
    """Serve the champion over HTTP until interrupted."""
    from flows.serve import serve as run

    settings = _settings()
    changed = {key: value for key, value in {"host": host, "port": port}.items() if value is not None}
    run(settings.model_copy(update={"serving": settings.serving.model_copy(update=changed)}))


@cli.group()
def keys() -> None:
    """Make, list, revoke and audit API keys. Once there is one, the service answers only callers with a key."""


@keys.command("create")
@click.option("--name", type=LINE, required=True, help="Whose key it is: an application.")
@click.option("--right", "rights", required=True, multiple=True, type=click.Choice(RIGHTS), help="May be repeated.")
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires (default: never).")
def create_key(name: str, rights: tuple[Right, ...], days: int | None) -> None:
    """Make a key and print it: this once, for only its hash is kept."""
    from flows.keys import create
    from flows.who import operator

    entry, key = create(_settings(), name, rights, now=_now(), days=days, who=operator())
    click.echo(key)
    until = "never expires" if entry.expires_at is None else f"expires {entry.expires_at:%F %H:%M} UTC"
    click.echo(f"key {entry.id} of {entry.name} may {', '.join(entry.rights)}; {until}; not shown again", err=True)


@keys.command("list")
def list_keys() -> None:
    """Say which keys there are, and which of them are valid."""
    from flows.keys import lines

    for line in lines(_settings(), _now()):
        click.echo(line)


@keys.command("revoke")
@click.argument("key_id")
def revoke_key(key_id: str) -> None:
    """End a key; a running service refuses it within seconds."""
    from flows.keys import revoke
    from flows.who import operator

    entry = revoke(_settings(), key_id, now=_now(), who=operator())
    click.echo(f"key {entry.id} of {entry.name} is revoked since {entry.revoked_at:%F %H:%M} UTC")


@keys.command("audit")
@click.option("--last", type=click.IntRange(1), help="Show only so many, the newest; all are verified.")
@click.option("--json", "as_json", is_flag=True, help="Every entry whole, one a line.")
def audit_keys(last: int | None, *, as_json: bool) -> None:
    """Say who made and revoked keys, and which were refused; verified on the way. Exit code 1: it was changed."""
    import json
    from dataclasses import asdict

    from flows.keys import audit, told

    found = audit(_settings(), last)
    for event in found.entries:
        _say(json.dumps(asdict(event), sort_keys=True) if as_json else told(event))
    if found.unknown:
        click.echo(f"older than the audit, or not made by churn keys: {', '.join(found.unknown)}", err=True)
    for key_id in found.unrecorded:
        click.echo(f"key {key_id} is revoked and has no entry of it; run: churn keys revoke {key_id}", err=True)


@cli.command()
@click.argument("prediction_id")
@click.option("--json", "as_json", is_flag=True, help="As GET /predictions/{id} answers it.")
def replay(prediction_id: str, *, as_json: bool) -> None:
    """Show what was answered and from which values, and score them again. Exit code 1: it does not agree."""
    from bentos.churn.receipt_bodies import answer_body
    from flows.replay_prediction import replay_prediction, told

    receipt, replayed = replay_prediction(_settings(), prediction_id)
    if as_json:
        click.echo(answer_body(receipt, replayed).model_dump_json(indent=2))
    else:
        click.echo("\n".join(told(receipt, replayed)))
    if not replayed.agrees:
        sys.exit(EXIT_FAILURE)


@cli.command()
@click.option("--out", type=FOLDER, help="Folder for features.yaml and features.json (default: <home>/catalogue).")
def catalog(out: Path | None) -> None:
    """Write the feature catalogue (owner, definition, type, source, tags, consumers) as registered."""
    from feature_repo.stores.catalog import write_catalogue

    settings = _settings()
    for path in write_catalogue(settings, out or settings.home / "catalogue"):
        click.echo(str(path))


@cli.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def feast(arguments: tuple[str, ...]) -> None:
    """Run Feast's own command line on the stores of the settings: churn feast plan."""
    from flows.feast_cli import run

    run(_settings(), arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a refusal is one line and its exit code, never a traceback."""
    switch_off(os.environ)
    # What is written is personal data: for the user that runs this, and nobody else.
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, _terminated)
    sys.exit(_exit_code(lambda: cli.main(arguments, prog_name="churn", standalone_mode=False)))


def _terminated(number: int, _frame: FrameType | None) -> None:
    """End as an interrupted command does: what it started is stopped, what it left unfinished is removed."""
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    click.echo("interrupted", err=True)
    sys.exit(128 + number)


def _exit_code(run: Callable[[], Any]) -> int:
    try:
        run()
    except ChurnError as refused:
        return _refused(refused)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as misused:
        misused.show()
        return EXIT_USAGE
    except Exception as broken:  # noqa: BLE001 - whatever a library raises, a command ends in one line
        from flows.unexpected_errors import unexpected

        return _refused(unexpected(broken))
    return 0


def _refused(refused: ChurnError) -> int:
    click.echo(f"error: {printable(refused.message)}", err=True)
    if refused.hint:
        click.echo(f"hint: {printable(refused.hint)}", err=True)
    return refused.exit_code
