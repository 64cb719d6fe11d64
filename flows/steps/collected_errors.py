"""Reads of a home's parts that report what can't be read instead of failing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from configs.errors import ChurnError

T = TypeVar("T")


def read_or_report(read: Callable[[], T], problems: list[str]) -> T | None:
    """Return what ``read`` returns; for a ChurnError or OSError None, and its message is added to ``problems``.

    Examples
    --------
    >>> from pathlib import Path
    >>> from flows.steps.collected_errors import read_or_report
    >>> problems = []
    >>> read_or_report(lambda: Path("missing/inbox").stat(), problems)
    >>> problems
    ['missing/inbox cannot be read: No such file or directory']
    """
    try:
        return read()
    except ChurnError as refused:
        problems.append(refused.message + (f" ({refused.hint})" if refused.hint else ""))
    except OSError as refused:
        problems.append(f"{refused.filename or 'a file'} cannot be read: {refused.strerror or refused}")
    return None
