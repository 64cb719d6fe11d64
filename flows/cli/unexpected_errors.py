"""One-line errors for exceptions without a ChurnError: their type, and where the rest is."""

from __future__ import annotations

import traceback
from pathlib import Path

from configs.errors import ChurnError
from configs.settings import PROJECT_ROOT


class UnexpectedError(ChurnError):
    """An exception that the platform does not handle."""

    error = "unexpected"


def unexpected(broken: BaseException) -> ChurnError:
    """Return the error of an exception. Its own text is omitted: it may hold a customer or a secret.

    For errors of the operating system the reason and the file are included: they hold neither.
    """
    if isinstance(broken, MemoryError):
        return UnexpectedError("out of memory", "lower feast.offline_memory_max_mb or batch.chunk_customers")
    if isinstance(broken, OSError) and broken.strerror:
        where = f": {broken.filename}" if isinstance(broken.filename, str | Path) else ""
        return UnexpectedError(
            f"the system refused it: {broken.strerror}{where}", "correct that, then run it again; --debug shows where"
        )
    return UnexpectedError(
        f"unexpected {type(broken).__name__} at {_place(broken)}",
        "run it again as churn --debug …, which shows all of it; report it if it stays",
    )


def _place(broken: BaseException) -> str:
    """Return file and line of the innermost frame in this project's code, else of the innermost frame."""
    frames = traceback.extract_tb(broken.__traceback__)
    ours = [
        frame
        for frame in frames
        if Path(frame.filename).is_relative_to(PROJECT_ROOT) and "site-packages" not in frame.filename
    ]
    found = (ours or frames)[-1:]
    return " ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in found) or "an unknown place"
