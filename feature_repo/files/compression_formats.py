"""Compression formats of files, detected by their first bytes. Pure."""

from __future__ import annotations

from typing import Final

PACKED: Final = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "ZIP",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
}
"""First bytes (at most four) -> format."""


def compression_of(head: bytes) -> str | None:
    """Return the format whose files begin with ``head`` (four bytes or more), None if there is none."""
    return next((name for magic, name in PACKED.items() if head.startswith(magic)), None)
