"""Errors of the feature stores, and the translation of library errors into them.

Every command that uses Feast goes through :func:`translate_store_errors`. The hints name the remedy, as
docs/operations.md does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.files.atomic_writes import StorageError
from feature_repo.stores.database_errors import Cause, postgres_cause, redis_cause, sqlite_cause

if TYPE_CHECKING:
    from sqlalchemy.exc import SQLAlchemyError


class NothingRegisteredError(ChurnError):
    """The registry does not hold the requested object."""

    error = "nothing_registered"
    http_status = 503


class RegistryUnavailableError(ChurnError):
    """The feature registry can't be read or written."""

    error = "registry_unavailable"
    http_status = 503
    transient = True


class StoreUnavailableError(ChurnError):
    """The online store did not respond, or its tables are gone."""

    error = "store_unavailable"
    http_status = 503
    transient = True


class OfflineTableDamagedError(ChurnError):
    """A Parquet file of the offline tables is damaged."""

    error = "offline_table_damaged"


class OfflineMemoryError(ChurnError):
    """A query of the offline tables does not fit its limits."""

    error = "offline_memory"


@contextmanager
def translate_store_errors(settings: Settings) -> Iterator[None]:
    """Translate errors of the stores and the disk into one named error with a hint.

    Covers Feast, SQLAlchemy, DuckDB, Arrow, sqlite3, redis and OSError. The libraries' texts may hold a password or a
    host: they stay in the chained exception alone.

    Raises
    ------
    ChurnError
        One of this module's errors, or StorageError.

    Examples
    --------
    >>> from configs.settings import load_settings
    >>> from feature_repo.stores.errors import translate_store_errors
    >>> with translate_store_errors(load_settings()):
    ...     raise PermissionError(13, "Permission denied")
    Traceback (most recent call last):
        ...
    feature_repo.files.atomic_writes.StorageError: ...
    """
    import sqlite3

    import duckdb
    import pyarrow as pa
    from feast.errors import FeastObjectNotFoundException
    from redis.exceptions import RedisError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except FeastObjectNotFoundException as missing:
        raise NothingRegisteredError("the feature definitions are not registered", "run: churn apply") from missing
    except SQLAlchemyError as broken:
        raise registry_failure(settings, broken) from broken
    except duckdb.OutOfMemoryException as short:
        raise OfflineMemoryError(
            "a query of the offline tables needs more than feast.offline_memory_max_mb, or its overflow found no disk",
            "raise CHURN_FEAST__OFFLINE_MEMORY_MAX_MB or free disk space, then run again",
        ) from short
    except (duckdb.Error, pa.ArrowInvalid) as broken:
        raise OfflineTableDamagedError(
            "a file of the offline tables below the home can't be read",
            "restore offline/ from a backup; or move the damaged file away and run: churn build-features",
        ) from broken
    except OSError as broken:
        raise StorageError(
            f"cannot read or write below the home: {broken.strerror or type(broken).__name__}",
            "free disk space or correct the rights of CHURN_HOME, then run again",
        ) from broken
    except (sqlite3.Error, RedisError) as broken:
        raise store_failure(broken) from broken


def registry_failure(settings: Settings, broken: SQLAlchemyError) -> RegistryUnavailableError:
    """Return the error for a failure of the registry that SQLAlchemy raised."""
    driver = getattr(broken, "orig", None) or broken
    if url := settings.feast.registry_url.get_secret_value():
        name, where = "CHURN_FEAST__REGISTRY_URL", "the server of CHURN_FEAST__REGISTRY_URL"
        cause = (
            postgres_cause(driver, name)
            if url.startswith("postgres")
            else Cause(f"it failed ({type(driver).__name__})", "check that it runs and lets us in")
        )
    else:
        where = "feast/registry.db below the home"
        cause = sqlite_cause(
            driver,
            damaged="restore it from a backup; or move it away and run: churn apply",
            otherwise="run: churn apply",
        )
    return RegistryUnavailableError(f"the feature registry ({where}) can't be used: {cause.what}", cause.cure)


def store_failure(broken: Exception) -> StoreUnavailableError:
    """Return the error for a failure of the online store that its client raised."""
    import sqlite3

    from redis.exceptions import RedisError

    if isinstance(broken, StoreUnavailableError):
        return broken
    if isinstance(broken, sqlite3.Error):
        cause = sqlite_cause(
            broken,
            damaged="move it away, then run: churn apply, then churn materialize",
            otherwise="run: churn apply, then churn materialize",
        )
        where = "the SQLite online store (feast/online.db below the home) can't be used"
        return StoreUnavailableError(f"{where}: {cause.what}", cause.cure)
    if isinstance(broken, RedisError):
        cause = redis_cause(broken)
        return StoreUnavailableError(f"the online store (Redis) can't be used: {cause.what}", cause.cure)
    return StoreUnavailableError(
        f"the online feature store failed ({type(broken).__name__})", "check that it runs; the request can be repeated"
    )


class NothingToMaterializeError(ChurnError):
    """No offline value is young enough to be served."""

    error = "nothing_to_materialize"
