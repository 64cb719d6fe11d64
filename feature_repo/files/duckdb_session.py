"""DuckDB sessions with resource limits that spill below the home, and quoting for their SQL."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from configs.settings import Settings
from feature_repo.files.atomic_writes import remove_leftovers_in, storage_errors, temporary_folder

if TYPE_CHECKING:
    from feast.repo_config import RepoConfig

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Limits:
    """Resources of one query.

    ``memory_mb`` is for the whole process: DuckDB gets a part, the rows' arrays the rest.
    """

    home: Path
    memory_mb: int
    threads: int

    @staticmethod
    def of(config: RepoConfig) -> Limits:
        """Return the limits of an offline store's configuration; a relative home is below feature_store.yaml."""
        store = config.offline_store
        return Limits((Path(str(config.repo_path)) / store.home).resolve(), store.memory_max_mb, store.threads)

    @property
    def duckdb_mb(self) -> int:
        """DuckDB's own share: half, because the result and the row groups being read need the rest."""
        return max(self.memory_mb // 2, 64)


@contextmanager
def session(limits: Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an in-memory DuckDB in UTC that spills to a folder below the home, removed at the end.

    Folders that killed sessions left are removed first. On a read-only home nothing is spilled: a query that does not
    fit its memory fails.
    """
    with _spill(limits.home) as spill:
        connection = duckdb.connect(
            config={
                "threads": limits.threads,
                "memory_limit": f"{limits.duckdb_mb}MB",
                "temp_directory": str(spill / "duckdb") if spill else "",
                "preserve_insertion_order": False,
            }
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET file_search_path = " + quote_text(str(limits.home)))
            yield connection
        finally:
            connection.close()


@contextmanager
def _spill(home: Path) -> Iterator[Path | None]:
    """Create a spill folder for one session and hold it until the end; None where the home is read-only.

    Raises
    ------
    StorageError
        If the operating system refuses it for another reason, such as a full disk.
    """
    with ExitStack() as held:
        with storage_errors():
            spill = _held_folder(home, held)
        yield spill


def _held_folder(home: Path, held: ExitStack) -> Path | None:
    remove_leftovers_in(home)
    try:
        return held.enter_context(temporary_folder(home, "spill-"))
    except OSError as refused:
        if refused.errno not in _READ_ONLY:
            raise
        return None


def quote_name(name: str) -> str:
    """Return an identifier quoted for DuckDB; the name may hold any character."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return ``text`` as a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def offline_limits(settings: Settings) -> Limits:
    """Return the limits of DuckDB sessions over offline tables and events: those of a query of the offline store."""
    return Limits(settings.home, settings.feast.offline_memory_max_mb, settings.feast.offline_threads)
