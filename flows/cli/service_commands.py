"""Commands on the HTTP service: the demo, serving, API keys, and replay of predictions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from bentos.churn.auth.rights import RIGHTS, Right
from configs.errors import EXIT_FAILURE
from flows.cli.invocation import now, run_settings, say, say_empty
from flows.cli.parameters import CSV, ONE_LINE

if TYPE_CHECKING:
    from configs.settings import Settings


@click.command()
@click.option("--csv", type=CSV, help="A Telco Customer Churn CSV; without it the demo simulates a world.")
@click.option("--customers", default=2000, show_default=True, type=click.IntRange(500), help="Simulated, a month.")
@click.option("--months", default=12, show_default=True, type=click.IntRange(3, 60), help="Simulated months.")
@click.option("--seed", default=7, show_default=True, type=click.IntRange(0), help="Seed of the simulation.")
@click.option("--serve", is_flag=True, help="Leave the service running at the end.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of --serve (default: serving.port).")
def demo(csv: Path | None, customers: int, months: int, seed: int, port: int | None, *, serve: bool) -> None:
    """Run the whole job on embedded defaults, and ask the service for three customers."""
    from flows.demo.prefect_environment import run_demo

    settings = _listening(run_settings(), port=port)
    run_demo(settings, csv=csv, customers=customers, months=months, seed=seed, stay=serve, now=now())


@click.command()
@click.option("--host", help="Address to bind (default: serving.host).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port (default: serving.port).")
def serve(host: str | None, port: int | None) -> None:
    """Serve the champion over HTTP until interrupted."""
    from flows.service_process import run_service as run

    run(_listening(run_settings(), host=host, port=port))


def _listening(settings: Settings, **changes: str | int | None) -> Settings:
    """Return the settings with another listen address: ``host`` and ``port``, as far as they are given."""
    given = {name: value for name, value in changes.items() if value is not None}
    return settings.model_copy(update={"serving": settings.serving.model_copy(update=given)})


@click.group()
def keys() -> None:
    """Make, list, revoke and audit API keys. Once there is one, the service answers only callers with a key."""


@keys.command("create")
@click.option("--name", type=ONE_LINE, required=True, help="Whose key it is: an application.")
@click.option("--right", "rights", required=True, multiple=True, type=click.Choice(RIGHTS), help="May be repeated.")
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires (default: never).")
def create_key(name: str, rights: tuple[Right, ...], days: int | None) -> None:
    """Make a key and print it: this once, for only its hash is kept."""
    from bentos.churn.auth.key_admin import create_key
    from flows.current_user import current_user

    entry, key = create_key(run_settings(), name, rights, now=now(), days=days, who=current_user())
    click.echo(key)
    until = "never expires" if entry.expires_at is None else f"expires {entry.expires_at:%F %H:%M} UTC"
    click.echo(f"key {entry.id} of {entry.name} may {', '.join(entry.rights)}; {until}; not shown again", err=True)


@keys.command("list")
def list_keys() -> None:
    """Say which keys there are, and which of them are valid."""
    from bentos.churn.auth.key_admin import format_keys

    found = format_keys(run_settings(), now())
    for line in found:
        click.echo(line)
    if len(found) == 1:
        say_empty("there is no key; make one: churn keys create --name NAME --right predict")


@keys.command("revoke")
@click.argument("key_id")
def revoke_key(key_id: str) -> None:
    """End a key; a running service refuses it within seconds."""
    from bentos.churn.auth.key_admin import revoke_key
    from flows.current_user import current_user

    entry = revoke_key(run_settings(), key_id, now=now(), who=current_user())
    click.echo(f"key {entry.id} of {entry.name} is revoked since {entry.revoked_at:%F %H:%M} UTC")


@keys.command("audit")
@click.option("--last", type=click.IntRange(1), help="Show only so many, the newest; all are verified.")
@click.option("--json", "as_json", is_flag=True, help="Every entry whole, one a line.")
def audit_keys(last: int | None, *, as_json: bool) -> None:
    """Say who made and revoked keys, and which were refused; verified on the way. Exit code 1: it was changed."""
    import json
    from dataclasses import asdict

    from bentos.churn.auth.key_admin import audit_keys, format_entry

    found = audit_keys(run_settings(), last)
    for event in found.entries:
        say(json.dumps(asdict(event), sort_keys=True) if as_json else format_entry(event), wrap=not as_json)
    if not found.entries:
        say_empty("the audit is empty: no key was made, revoked or refused")
    if found.unknown:
        click.echo(f"older than the audit, or not made by churn keys: {', '.join(found.unknown)}", err=True)
    for key_id in found.unrecorded:
        click.echo(f"key {key_id} is revoked and has no entry of it; run: churn keys revoke {key_id}", err=True)


@click.command()
@click.argument("prediction_id")
@click.option("--json", "as_json", is_flag=True, help="As GET /predictions/{id} answers it.")
def replay(prediction_id: str, *, as_json: bool) -> None:
    """Show what was answered and from which values, and score them again. Exit code 1: it does not agree."""
    from bentos.churn.api.receipt_bodies import prediction_body
    from flows.cli.receipt_text import format_receipt, replay_prediction

    receipt, replayed = replay_prediction(run_settings(), prediction_id)
    if as_json:
        click.echo(prediction_body(receipt, replayed).model_dump_json(indent=2))
    else:
        click.echo("\n".join(format_receipt(receipt, replayed)))
    if not replayed.agrees:
        sys.exit(EXIT_FAILURE)


SERVICE_COMMANDS: Final[tuple[click.Command, ...]] = (demo, serve, keys, replay)
