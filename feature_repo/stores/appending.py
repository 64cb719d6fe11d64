"""Append a part to an offline table piece by piece; it appears whole or not at all, like any other."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.raw.atomic import aside, storage, sync_folder
from feature_repo.stores.offline_files import part_path


def has(home: Path, table: str, part: str) -> bool:
    """Say whether a table has a part."""
    return part_path(home, table, part).exists()


def append_tables(home: Path, table: str, part: str, schema: pa.Schema, pieces: Iterable[pa.Table]) -> Path:
    """Write pieces of the same columns as one part, without holding them all in memory.

    As with :func:`feature_repo.stores.offline_files.append` the same name means the same content: where the part
    exists, no piece is asked for.
    """
    target = part_path(home, table, part)
    if not target.exists():
        with storage():
            target.parent.mkdir(parents=True, exist_ok=True)
            with aside(target.parent) as temporary:
                with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
                    for piece in pieces:
                        writer.write_table(piece)
                with temporary.open("rb") as written:
                    os.fsync(written.fileno())
                temporary.replace(target)
            sync_folder(target.parent)
    return target
