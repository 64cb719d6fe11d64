"""Paths of the offline tables' files, below a home. Loads no library."""

from __future__ import annotations

from pathlib import Path


def table_pattern(table: str) -> str:
    """Return the pattern, relative to the home, that matches the table's files and no temporary one."""
    return f"offline/{table}/*.parquet"


def part_path(home: Path, table: str, part: str) -> Path:
    """Return the path of a part of a table, whether it exists or not."""
    return home / "offline" / table / f"{part}.parquet"
