"""The offline tables: append-only Parquet files, each appearing whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd

from feature_repo.raw.atomic import storage, write_file


def table_pattern(table: str) -> str:
    """Return the pattern, relative to the home, that matches the table's files and no temporary one."""
    return f"offline/{table}/*.parquet"


def append(home: Path, table: str, part: str, rows: pd.DataFrame) -> Path:
    """Write ``rows`` as the file ``<part>.parquet`` of a table, atomically; an existing part is left as it is.

    Parts are immutable: the same name means the same content, so a re-run after a kill changes nothing.
    """
    target = home / "offline" / table / f"{part}.parquet"
    if not target.exists():
        content = io.BytesIO()
        rows.to_parquet(content, index=False, coerce_timestamps="us", compression="zstd")
        with storage():
            write_file(target, content.getvalue())
    return target
