"""The offline tables: append-only Parquet files, each appearing whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pandas as pd


def table_folder(home: Path, table: str) -> Path:
    """Return the folder of an offline table."""
    return home / "offline" / table


def table_pattern(table: str) -> str:
    """Return the pattern, relative to the home, that matches the table's files and no temporary one."""
    return f"offline/{table}/*.parquet"


def append(home: Path, table: str, part: str, rows: pd.DataFrame) -> Path:
    """Write ``rows`` as the file ``<part>.parquet`` of a table, atomically; an existing part is left as it is.

    Parts are immutable: the same name means the same content, so a re-run after a kill changes nothing.
    """
    target = table_folder(home, table) / f"{part}.parquet"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{part}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            rows.to_parquet(stream, index=False, coerce_timestamps="us", compression="zstd")
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target
