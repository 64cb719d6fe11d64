"""The click group `churn` with all its commands. Heavy libraries are imported inside the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from flows.cli import data_commands, feature_commands, model_commands, service_commands


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
    """Print the traceback of an exception in the block and re-raise it."""
    import traceback

    try:
        yield
    except click.exceptions.Exit:
        raise
    except Exception:
        click.echo(traceback.format_exc(), err=True)
        raise


for _command in (
    *data_commands.DATA_COMMANDS,
    *feature_commands.FEATURE_COMMANDS,
    *model_commands.MODEL_COMMANDS,
    *service_commands.SERVICE_COMMANDS,
):
    cli.add_command(_command)
