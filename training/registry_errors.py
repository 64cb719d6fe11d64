"""Errors of the model registry, and what MLflow, its database and its connection raise as one of them.

Used by :mod:`training.registry`. See docs/decisions/0018-pointer-and-ledger.md.
"""

from __future__ import annotations

import errno
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.stores.database_errors import chain, sqlite_cause
from training.mlflow_connection import connection_cause
from training.mlflow_database import server_uri

_REFUSALS: Final = {
    "UNAUTHENTICATED": "put user and password into CHURN_MLFLOW__TRACKING_URI",
    "PERMISSION_DENIED": "give the user of CHURN_MLFLOW__TRACKING_URI the right to log and to register",
    "RESOURCE_DOES_NOT_EXIST": "it was deleted meanwhile, or the address is of another service; train again",
    "ENDPOINT_NOT_FOUND": "the address is of another service, or of an MLflow that is too old",
    "INVALID_PARAMETER_VALUE": "",
    "INVALID_STATE": "",
    "RESOURCE_ALREADY_EXISTS": "",
}
"""MLflow error codes that a repeated call gets again, and the fix."""
_DAMAGED: Final = "restore mlflow/ from a backup; where nothing was ever registered, move mlflow/mlflow.db away"
_DAMAGED_ELSEWHERE: Final = "restore the file that CHURN_MLFLOW__TRACKING_URI names from a backup"
_NO_FILE: Final = {errno.EACCES, errno.EINVAL, errno.EISDIR, errno.ENOTDIR}
"""Error numbers of a path that can't be opened as a file until it is fixed by hand."""
_A_FILE: Final = "correct the rights of mlflow/ below the home; mlflow/mlflow.db must be a file"


class ModelRegistryUnavailableError(ChurnError):
    """MLflow can't be reached, or refused a call."""

    error = "model_registry_unavailable"
    http_status = 503
    transient = True


class ModelRegistryRefusedError(ModelRegistryUnavailableError):
    """MLflow refused a call, and will refuse it again until the cause is fixed."""

    error = "model_registry_refused"
    http_status = 502
    transient = False


class ExperimentDeletedError(ModelRegistryRefusedError):
    """The experiment of the runs was deleted."""

    error = "experiment_deleted"


class NoSuchVersionError(ChurnError):
    """The model has no such version, or no version at all."""

    error = "no_such_version"
    http_status = 404


@contextmanager
def translate_registry_errors(settings: Settings) -> Iterator[None]:
    """Translate errors of MLflow, its database and its connection into ModelRegistryUnavailableError."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _quiet():
            yield
    # The exceptions of requests are OSErrors.
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as refused:
        raise named_error(settings, refused) from refused


def named_error(settings: Settings, refused: Exception) -> ModelRegistryUnavailableError:
    """Return the named error for an exception of MLflow, its database or its connection, with the fix.

    Of MLflow's text only the error code is repeated: it may hold the server's address, and a password in it.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    away, sqlite = bool(server_uri(settings)), server_uri(settings).startswith("sqlite")
    where = "the MLflow database below the home"
    hint, damaged = "see Operations: MLflow is away", _DAMAGED
    if away:
        where = "the MLflow database" if sqlite else "the MLflow server"
        hint = "check CHURN_MLFLOW__TRACKING_URI" + ("" if sqlite else " and the server's log")
        damaged = _DAMAGED_ELSEWHERE
    if isinstance(refused, MlflowException):
        if "out-of-date database schema" in str(refused):
            return ModelRegistryRefusedError(
                f"{where} is of another MLflow version", "back it up, then run: mlflow db upgrade on its URI"
            )
        if refused.error_code in _REFUSALS:
            return ModelRegistryRefusedError(
                f"{where} refused: {refused.error_code}", _REFUSALS[refused.error_code] or hint
            )
    # MLflow wraps most exceptions of its database and reports an error code of its own.
    broken = next((each for each in chain(refused) if isinstance(each, sqlite3.Error)), None)
    if broken is not None:
        cause = sqlite_cause(broken, damaged=damaged, otherwise=hint)
        kind = ModelRegistryUnavailableError if cause.passing else ModelRegistryRefusedError
        return kind(f"{where} can't be used: {cause.what}", cause.cure)
    if isinstance(refused, (MlflowException, DBAPIError)):
        what = f"failed: {refused.error_code if isinstance(refused, MlflowException) else 'its database'}"
        if away and (unreached := connection_cause(refused)) is not None:
            what, hint = f"can't be reached: {unreached.what}", unreached.cure
        return ModelRegistryUnavailableError(f"{where} {what}", hint)
    if isinstance(refused, OSError) and not away:
        what = f"{where} can't be used: {refused.strerror or type(refused).__name__}"
        lasting = refused.errno in _NO_FILE
        return ModelRegistryRefusedError(what, _A_FILE) if lasting else ModelRegistryUnavailableError(what, hint)
    return ModelRegistryUnavailableError(f"{where} does not answer ({type(refused).__name__})", hint)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings for MLflow's developers, and two of MLflow's hints.

    The input example that it suggests would be a customer's data, and the signature is explicit.
    """
    with warnings.catch_warnings():
        for told in (".*input example was not provided", ".*[Tt]ype hint"):
            warnings.filterwarnings("ignore", message=told, category=UserWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
