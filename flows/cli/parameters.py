"""Shared click parameter types: files, folders, a date, one line of text."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Final

import click

from configs.printable import unprintable

CSV: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
EVENTS_PATH: Final = click.Path(exists=True, path_type=Path)
FOLDER_PATH: Final = click.Path(file_okay=False, path_type=Path)
NEW_FILE: Final = click.Path(dir_okay=False, writable=True, path_type=Path)


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
ONE_LINE: Final = _Line()
"""Text for the ledger: one line."""
