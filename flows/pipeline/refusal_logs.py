"""Log records of Prefect's engine about expected refusals: message and hint, without the traceback.

Prefect logs each exception of a task, of its flow and of the parent flow with its traceback. A ChurnError is an
expected refusal: its message and its hint say what to do. Every other exception keeps its traceback.
"""

from __future__ import annotations

import logging
from typing import Final

from configs.errors import ChurnError
from configs.printable import printable

ENGINE_LOGGERS: Final = (
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.flow_runs",
    "prefect.task_engine",
    "prefect.task_runs",
)
"""Names of the loggers through which Prefect reports the end of a task or a flow."""
_ENDS: Final = ("Finished in state", "Crash detected! Execution was aborted by")
"""Beginnings of the records about a final state, and about an interrupt."""


class RefusalFilter(logging.Filter):
    """Replace the traceback of a ChurnError by its message and hint.

    Parameters
    ----------
    shown
        False drops the record, and those about the final state and an interrupt: for a command that reports both.
    """

    def __init__(self, *, shown: bool = True) -> None:
        super().__init__()
        self.shown = shown

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged; rewrites it if it is about a refusal."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if not isinstance(error, ChurnError):
            return self.shown or not str(record.msg).startswith(_ENDS)
        record.exc_info = record.exc_text = None
        record.msg, record.args = f"refused ({error.error}): %s", (_text(error),)
        return self.shown


def log_refusals_as_lines(*, shown: bool = True) -> None:
    """Add the filter to the loggers of Prefect's engine, once per process; the newest ``shown`` applies."""
    for name in ENGINE_LOGGERS:
        logger = logging.getLogger(name)
        known = [each for each in logger.filters if isinstance(each, RefusalFilter)]
        for each in known:
            each.shown = shown
        if not known:
            logger.addFilter(RefusalFilter(shown=shown))


def _text(error: ChurnError) -> str:
    return printable(error.message) + (f"; {printable(error.hint)}" if error.hint else "")
