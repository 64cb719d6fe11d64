"""Where MLflow's data are: a server, or an embedded SQLite database below the home, which is made atomically.

Used by :mod:`training.registry`. See docs/decisions/0018-pointer-and-ledger.md.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from configs.settings import Settings
from feature_repo.files.atomic_writes import remove_leftovers_in, storage_errors, sync_folder, temporary_folder
from feature_repo.files.locks import publish_lock
from feature_repo.files.regular_files import open_regular
from feature_repo.stores.feature_store import sqlite_url


def server_uri(settings: Settings) -> str:
    """Return the URL of the MLflow server, "" where the embedded database serves. May hold a password."""
    return settings.mlflow.tracking_uri.get_secret_value()


def tracking_uri(settings: Settings) -> str:
    """Return MLflow's tracking URI: SQLite below the home unless a server is set."""
    return server_uri(settings) or database_uri(database_path(settings))


def database_path(settings: Settings) -> Path:
    """Return the path of the embedded database, which need not exist."""
    return settings.home / "mlflow" / "mlflow.db"


def try_to_open(database: Path) -> None:
    """Open the embedded database once; raises if that fails, where MLflow would retry for almost an hour.

    MLflow's retries are silent. A FIFO is refused first: SQLite reports it as a disk error.
    """
    open_regular(database).close()
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA schema_version")


def database_uri(database: Path) -> str:
    """Return MLflow's URI of a SQLite file.

    If the path has a question mark the driver is named: after a bare ``sqlite:///`` MLflow takes the URI of the file
    for a relative path, and creates its folders in the current directory.
    """
    return sqlite_url(database).replace("sqlite:///file:", "sqlite+pysqlite:///file:", 1)


def make_database(settings: Settings) -> None:
    """Create the embedded database atomically.

    MLflow creates its tables in dozens of steps, each committed by itself. A process killed between two of them would
    leave a database that MLflow can neither use nor complete, and two processes that create it at once would both fail.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    final = database_path(settings)
    with publish_lock(final.parent):
        if final.exists():
            return
        remove_leftovers_in(final.parent)
        with temporary_folder(final.parent) as folder:
            made = folder / final.name
            SqlAlchemyStore(database_uri(made), artifacts_uri(settings)).engine.dispose()
            with storage_errors():
                made.rename(final)
                sync_folder(final.parent)


def artifacts_uri(settings: Settings) -> str:
    """Return the location of the artifacts that go with the embedded database."""
    return (settings.home / "mlflow" / "artifacts").as_uri()
