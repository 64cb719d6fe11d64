"""Context of a command: the settings, the present instant, and output of escaped lines."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from configs.printable import printable
from flows.terminal import wrapped

if TYPE_CHECKING:
    from configs.settings import Settings


def run_settings() -> Settings:
    """Return the settings of this run; removes half-written files of killed processes below the home.

    Raises
    ------
    SettingsError, StorageError
        If a setting is invalid, or the home can't be written.
    """
    from configs.settings import load_settings
    from feature_repo.files.atomic_writes import remove_leftovers

    settings = load_settings()
    remove_leftovers(settings.home)
    return settings


def now() -> datetime:
    """Return the present instant in UTC; commands pass it down."""
    return datetime.now(UTC)


def say(line: str, *, wrap: bool = True) -> None:
    """Print one line, of which a part may be untrusted text; wrapped in a terminal, unless it is for a program."""
    click.echo(wrapped(printable(line), sys.stdout) if wrap else printable(line))


def say_empty(line: str) -> None:
    """Print on standard error that a list is empty, so that standard output holds its entries alone."""
    click.echo(wrapped(line, sys.stderr), err=True)
