"""Commands on data and features: simulation, ingestion, online store, parity, Feast's command line."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final

import click

from feature_repo.raw.simulator.drift import SCENARIOS
from flows.cli.invocation import now, run_settings, say
from flows.cli.parameters import CSV, DAY, EVENTS_PATH, FOLDER_PATH, ONE_LINE


@click.command()
@click.option("--customers", default=7000, show_default=True, type=click.IntRange(100), help="Rows of an extract.")
@click.option("--months", default=12, show_default=True, type=click.IntRange(1, 120), help="Number of extracts.")
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="The same seed, the same bytes.")
@click.option("--out", required=True, type=FOLDER_PATH, help="An empty or new folder.")
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
    from flows.cli.simulate import simulate_world

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


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(*, as_json: bool) -> None:
    """Say what is in this home, what serves since when, how fresh it is, what is wrong, and what comes next."""
    import json
    from dataclasses import asdict

    from flows.cli.status_text import status_lines
    from flows.steps.home_status import home_status

    found = home_status(run_settings(), now())
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        for line in status_lines(found):
            say(line)


@click.command()
@click.option("--csv", required=True, type=CSV, help="The extract, 21 Telco columns.")
@click.option("--as-of", required=True, type=DAY, help="The date that the extract describes.")
@click.option("--replace", is_flag=True, help="Publish other content for a date that is live; the old one is kept.")
@click.option("--accept-vanished", is_flag=True, help="Publish although too many customers vanished; needs --why.")
@click.option("--why", type=ONE_LINE, default="", help="Your reason for --accept-vanished; it goes into the manifest.")
def ingest(csv: Path, as_of: date, why: str, *, replace: bool, accept_vanished: bool) -> None:
    """Land, validate and publish one snapshot. Exit code 3: the gate refused it, nothing was published."""
    if accept_vanished != bool(why.strip()):
        raise click.UsageError("give --accept-vanished and --why TEXT together")
    from flows.current_user import current_user
    from flows.steps.ingest_snapshot import ingest_snapshot as land

    accepted_by = (current_user(), why) if accept_vanished else None
    landing = land(run_settings(), csv, as_of, ingested_at=now(), replace=replace, accepted_by=accepted_by)
    manifest = landing.manifest
    what = "published" if landing.fresh else "was published before, nothing to do:"
    say(
        f"{what} {manifest.snapshot_date} version {manifest.version}: {manifest.rows} rows, "
        f"{manifest.quarantined_rows} quarantined, churn rate {manifest.churn_rate:.1%}, time {manifest.time}"
    )
    if landing.movements is not None:
        say(f"movements: {landing.movements}")
    if manifest.vanished_accepted is not None:
        say(f"vanished customers accepted by {manifest.vanished_accepted.who}: {manifest.vanished_accepted.why}")
    say(f"gate report: {landing.report_html}")


@click.command("ingest-events")
@click.option(
    "--file", "path", required=True, type=EVENTS_PATH, help="Parquet, a folder of it, or JSON lines (.jsonl, .ndjson)."
)
def ingest_events(path: Path) -> None:
    """Judge and publish a file or folder of events. Exit code 3: too many were bad, nothing was published."""
    from flows.steps.ingest_events import format_delivery
    from flows.steps.ingest_events import ingest_events as land

    for line in format_delivery(land(run_settings(), path, now=now())):
        say(line)


@click.group()
def inbox() -> None:
    """Decide on files of the inbox, which the Prefect flow `land` ingests."""


@inbox.command("accept")
@click.argument("file")
@click.option("--why", type=ONE_LINE, required=True, help="Your reason; it goes into the snapshot's manifest.")
def accept_file(file: str, why: str) -> None:
    """Accept that too many customers vanished in the extract FILE. A changed file is not accepted."""
    if not why.strip():
        raise click.UsageError("give a reason: --why TEXT")
    from flows.current_user import current_user
    from flows.steps.inbox import accept

    accepted = accept(run_settings().home, file, who=current_user(), why=why, now=now())
    say(
        f"accepted {Path(file).name} of {accepted.snapshot_date} with sha256 {accepted.sha256}: the next run ingests it"
    )


@click.command("build-features")
def build_features() -> None:
    """Append published snapshots, and deliveries of events, to the offline tables that Feast reads."""
    from flows.steps.build_features import build_activity
    from flows.steps.build_features import build_features as build

    settings = run_settings()
    parts = build(settings)
    say(f"offline table: {len(parts)} part{'s' if len(parts) > 1 else ''}, newest {parts[-1]}")
    if activity := build_activity(settings):
        say(f"activity table: {len(activity)} part{'s' if len(activity) > 1 else ''}, newest {activity[-1]}")


@click.command()
@click.option("--remove-unneeded", is_flag=True, help="Remove older feature services that no bundle needs any more.")
def apply(*, remove_unneeded: bool) -> None:
    """Register the feature definitions (as `feast apply` does) in the registry of the settings.

    An older version of a feature service stays as long as a bundle needs it. A change of one that is needed is refused.
    """
    from flows.steps.apply_features import apply_features
    from flows.steps.check_features import refuse_inconsistent_features

    refuse_inconsistent_features()
    applied = apply_features(run_settings(), remove_unneeded=remove_unneeded)
    for line in (*applied.names, *applied.lines()):
        click.echo(line)


@click.command()
@click.option("--overwrite-newer", is_flag=True, help="Write over online rows with a later event timestamp too.")
def materialize(*, overwrite_newer: bool) -> None:
    """Copy the newest offline values into the online store."""
    from feature_repo.stores.materialize import materialize as copy

    settings = run_settings()
    done = copy(settings, now(), overwrite_newer=overwrite_newer)
    say(
        f"{done.customers} customers in {done.views} views written to {settings.feast.online_store}, "
        f"newest values of {done.newest:%Y-%m-%d}"
    )
    if done.kept:
        counts = ", ".join(f"{view} {count}" for view, count in sorted(done.kept.items()))
        say(f"rows not written, a later event timestamp is online (--overwrite-newer replaces it): {counts}")


@click.command()
@click.option("--parity", is_flag=True, help="Compare the online store with the point-in-time join, value by value.")
@click.option(
    "--customers", type=click.IntRange(1), help="Compare at most so many, evenly spread; without it everybody."
)
def doctor(customers: int | None, *, parity: bool) -> None:
    """Prove what the platform promises on the data of this home. Exit code 1: a promise does not hold."""
    from flows.steps.check_parity import check_parity, report

    if not parity:
        raise click.UsageError("say what to check: churn doctor --parity")
    settings = run_settings()
    for line in report(settings, check_parity(settings, now(), customers_max=customers)):
        say(line)


@click.command()
@click.option("--out", type=FOLDER_PATH, help="Folder for features.yaml and features.json (default: <home>/catalogue).")
def catalog(out: Path | None) -> None:
    """Write the feature catalogue (owner, definition, type, source, tags, consumers) as registered."""
    from feature_repo.stores.catalog import write_catalogue

    settings = run_settings()
    for path in write_catalogue(settings, out or settings.home / "catalogue"):
        click.echo(str(path))


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def feast(arguments: tuple[str, ...]) -> None:
    """Run Feast's own command line on the stores of the settings: churn feast plan."""
    from flows.cli.feast_command import run

    run(run_settings(), arguments)


DATA_COMMANDS: Final[tuple[click.Command, ...]] = (
    status,
    simulate,
    ingest,
    ingest_events,
    inbox,
    build_features,
    apply,
    materialize,
    doctor,
    catalog,
    feast,
)
