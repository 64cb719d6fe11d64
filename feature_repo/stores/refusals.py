"""What the stores raise, in words that name the cure. One place: every command that touches Feast goes through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.raw.atomic import StorageFailed


class NothingRegisteredError(ChurnError):
    """The registry does not hold what was asked for."""

    error = "nothing_registered"
    http_status = 503


class RegistryUnavailableError(ChurnError):
    """The feature registry can't be read or written."""

    error = "registry_unavailable"
    http_status = 503
    transient = True


class StoreUnavailableError(ChurnError):
    """The online store did not answer, or its tables are gone."""

    error = "store_unavailable"
    http_status = 503
    transient = True


class OfflineTableDamagedError(ChurnError):
    """A Parquet file of the offline table is not what it was written as."""

    error = "offline_table_damaged"


class OfflineMemoryError(ChurnError):
    """A query of the offline tables does not fit its limits."""

    error = "offline_memory"


@contextmanager
def refusals(settings: Settings) -> Iterator[None]:
    """Turn what Feast, SQLAlchemy, sqlite3 and redis raise into one named error with a hint.

    The libraries' texts may hold a password or a host: they stay in the chained exception alone.
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
        server = settings.feast.registry_url.get_secret_value()
        where = "the server of CHURN_FEAST__REGISTRY_URL" if server else "feast/registry.db below the home"
        hint = (
            "check that it runs and lets us in; then run: churn apply"
            if server
            else "if it is damaged, move it away and run: churn apply"
        )
        raise RegistryUnavailableError(f"the feature registry can't be used: {where}", hint) from broken
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
        raise StorageFailed(
            f"cannot read or write below the home: {broken.strerror or type(broken).__name__}",
            "free disk space or mend the rights of CHURN_HOME, then run again",
        ) from broken
    except sqlite3.Error as broken:
        raise StoreUnavailableError(
            "the SQLite online store (feast/online.db below the home) can't be used",
            "run: churn apply, then churn materialize",
        ) from broken
    except RedisError as broken:
        raise StoreUnavailableError(
            "Redis did not do what it was asked", "check that it runs (CHURN_FEAST__REDIS_URL); then run this again"
        ) from broken
