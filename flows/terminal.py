"""Text output of the command line: characters that the stream can't encode, and line widths.

A line in a pipe or a file is never wrapped, so that it can be searched. A terminal gets lines wrapped between words.
"""

from __future__ import annotations

import codecs
import io
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console

LINE: Final[dict[str, Any]] = {"highlight": False, "overflow": "ignore", "crop": False}
"""Options of Console.print for a line: it is wrapped between words, and a longer word is neither broken nor cut."""
_UNBOUNDED: Final = 100_000
_ERRORS: Final = "churn.readable"
_INSTEAD: Final = {"✓": "ok", "±": "+-", "…": "...", "→": "->", "≤": "<=", "≥": ">="}


def encode_everything() -> None:
    """Make standard output and error accept every character: one that can't be encoded is replaced or escaped."""
    codecs.register_error(_ERRORS, _readable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def _readable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_INSTEAD.get(each) or ascii(each)[1:-1] for each in found), error.end


def console() -> Console:
    """Return a console on standard output; its width is unbounded if that is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_UNBOUNDED)


def wrapped(text: str, stream: TextIO) -> str:
    """Return one line wrapped between words to the width of the terminal ``stream``, unchanged if it is none.

    A word that is longer than the terminal is wide stays whole. Further lines are indented by two spaces.
    """
    try:
        width = shutil.get_terminal_size().columns if os.isatty(stream.fileno()) else 0
    except (OSError, ValueError):  # no file behind the stream
        width = 0
    if not width or len(text) <= width:
        return text
    lines = textwrap.wrap(
        text,
        width,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
    return "\n".join(lines)
