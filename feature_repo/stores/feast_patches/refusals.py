"""Feast 0.67 failures that are only logged, or end in a foreign traceback: one line and an exit code.

:func:`feature_repo.stores.feast_patches.faults.install_patches` applies these patches to Feast's functions.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Final

import click
from feast.saved_dataset import ValidationReference

from configs.errors import ChurnError

_MONITOR: Final = "feast.cli.monitor"
_FROM_PROTO: Final = ValidationReference.from_proto
_TO_PROTO: Final = ValidationReference.to_proto


class FeastRefusedError(ChurnError, click.ClickException):  # type: ignore[misc]
    """Feast can't do this here; its commands show message and hint, and end with exit code 1."""

    error = "feast_refused"

    def format_message(self) -> str:
        """Return the text that Feast's commands show."""
        return f"{self.message}; {self.hint}" if self.hint else self.message


def install_refusals() -> None:
    """Apply the patches; a second call changes nothing."""
    ValidationReference.from_proto = staticmethod(_refusing(_FROM_PROTO))
    ValidationReference.to_proto = _refusing(_TO_PROTO)
    # Loaded by Feast's command line only, before it opens a store.
    monitor = sys.modules.get(_MONITOR)
    for name, guard in (("_run_batch_monitoring", _counted), ("_run_log_monitoring", _named)):
        if monitor is not None and not hasattr(getattr(monitor, name), "__wrapped__"):
            setattr(monitor, name, guard(getattr(monitor, name)))


def _refusing(convert: Callable[..., Any]) -> Callable[..., Any]:
    """Raise FeastRefusedError where Feast needs Great Expectations' old modules.

    That is where it reads or writes a validation reference.
    """

    @wraps(convert)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        try:
            return convert(*args, **kwargs)
        except ModuleNotFoundError as missing:
            if not (missing.name or "").startswith("great_expectations"):
                raise
            raise FeastRefusedError(
                "a validation reference can't be kept in the registry or read from it: Feast needs Great Expectations "
                "below 1 for that",
                "use FeatureStore.validate_logged_features(..., cache_profile=False) with a Profiler of your own",
            ) from missing

    return refusing


def _counted(run: Callable[..., Any]) -> Callable[..., Any]:
    """Make `feast monitor run` exit with code 1 if a view or service failed, after trying all of them."""

    @wraps(run)
    def counted(*args: Any, **kwargs: Any) -> None:
        failed = _Failed()
        log = logging.getLogger("feast.monitoring.monitoring_service")
        level = log.level
        if not log.isEnabledFor(logging.ERROR):  # `feast --log-level CRITICAL`: no handler would be called
            log.setLevel(logging.ERROR)
        log.addHandler(failed)
        try:
            run(*args, **kwargs)
        finally:
            log.removeHandler(failed)
            log.setLevel(level)
        if failed.names:
            click.get_current_context().call_on_close(partial(_refuse, failed.names))

    return counted


def _named(run: Callable[..., Any]) -> Callable[..., Any]:
    """Do the same for logs; raise for a missing option, which Feast prints as an error without failing."""
    count = _counted(run)

    @wraps(run)
    def named(*args: Any, **kwargs: Any) -> None:
        given = inspect.signature(run).bind(*args, **kwargs).arguments
        if not given["auto_mode"] and not given["feature_service_name"]:
            raise click.UsageError("--feature-service is required for --source-type log or all with explicit dates")
        count(*args, **kwargs)

    return named


def _refuse(names: list[str]) -> None:
    raise FeastRefusedError(f"no figures of {', '.join(names)}", "the log above says why")


class _Failed(logging.Handler):
    """Handler that collects the failures that Feast logs as errors: a name, else the message."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.names: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        named = record.args if isinstance(record.args, tuple) else ()
        self.names.append(", ".join(map(str, named)) or record.getMessage())
