"""Which packed formats a file may be, by its first bytes. Pure."""

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


def packed_as(head: bytes) -> str | None:
    """Return the packed format that begins with these bytes (four or more), None if none does."""
    return next((name for magic, name in PACKED.items() if head.startswith(magic)), None)
