"""Append-only hash-chained files: encoding, verification and appending.

Each line holds the hash of the line before. The caller defines the content of the lines and holds the lock for
appending: the ledger of the roll-out and the audit log of the keys. See docs/decisions/0018-pointer-and-ledger.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from feature_repo.files.atomic_writes import storage_errors, sync_folder
from feature_repo.files.regular_files import open_regular

GENESIS: Final = "0" * 64
"""Previous hash of the first entry."""
_TAIL_BYTES: Final = 1 << 17
"""More than a complete line and an unfinished one after it, in the files that :func:`read_head` reads."""

Known = TypeVar("Known")


class ChainBrokenError(ValueError):
    """A line was changed, or does not follow the line before it; the message names the line."""


@dataclass(frozen=True)
class ChainHead:
    """End of a chain.

    Parameters
    ----------
    sequence
        Sequence of its last entry; 0 for an empty chain.
    hash
        sha256 (hex) of its last entry; :data:`GENESIS` for an empty chain.
    size_bytes
        Size of its entries in the file.
    """

    sequence: int = 0
    hash: str = GENESIS
    size_bytes: int = 0


def line(content: Mapping[str, Any]) -> bytes:
    """Return the canonical encoding of an entry. Raises ValueError for a number that is not finite."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def seal(content: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of an entry without its own hash.

    Examples
    --------
    >>> from feature_repo.files.hash_chain import seal
    >>> seal({"action": "promote"}) == seal({"action": "promote", "hash": "any"})
    True
    """
    return hashlib.sha256(line({name: content[name] for name in content if name != "hash"})).hexdigest()


def seal_next(after: ChainHead, content: Mapping[str, Any]) -> tuple[dict[str, Any], ChainHead]:
    """Return ``content`` as the sealed entry that follows ``after``, and the chain's new end."""
    entry = {**content, "sequence": after.sequence + 1, "previous_hash": after.hash}
    entry["hash"] = seal(entry)
    return entry, ChainHead(entry["sequence"], entry["hash"], after.size_bytes + len(line(entry)))


def iter_verified(path: Path, accept: Callable[[dict[str, Any]], Known]) -> Iterator[Known]:
    """Yield ``accept(entry)`` for each verified entry, oldest first; nothing if there is no file.

    An unfinished last line, left by a process that died, was never in force and is skipped.

    Parameters
    ----------
    path
        The file of the chain.
    accept
        Converts an entry; raises ValueError or TypeError for what is no entry.

    Raises
    ------
    ChainBrokenError
        At the first line that was changed, or does not follow.
    OSError
        If the file can't be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.files.hash_chain import ChainHead, append_lines, iter_verified
    >>> path = Path(tempfile.mkdtemp()) / "ledger.jsonl"
    >>> _ = append_lines(path, ChainHead(), [{"action": "promote"}, {"action": "rollback"}])
    >>> list(iter_verified(path, lambda entry: (entry["sequence"], entry["action"])))
    [(1, 'promote'), (2, 'rollback')]

    A changed line is detected:

    >>> _ = path.write_bytes(path.read_bytes().replace(b"promote", b"demoted"))
    >>> list(iter_verified(path, dict))
    Traceback (most recent call last):
        ...
    feature_repo.files.hash_chain.ChainBrokenError: line 1 of ledger.jsonl was changed
    """
    previous = GENESIS
    try:
        file = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    with file:
        for number, found in enumerate(file, start=1):
            if not found.endswith(b"\n"):
                return
            content, known = _verified(found, accept, f"line {number} of {path.name}")
            if content.get("sequence") != number or content.get("previous_hash") != previous:
                raise ChainBrokenError(f"line {number} of {path.name} does not follow the line before it")
            previous = content["hash"]
            yield known


def read_head(path: Path) -> ChainHead:
    """Return the end of the chain, read from its last complete line alone, however long the chain is.

    Raises
    ------
    ChainBrokenError
        If that line was changed, or is missing where there must be one. Earlier lines are checked by
        :func:`iter_verified` only.
    OSError
        If the file can't be read.
    """
    try:
        file = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return ChainHead()
    with file:
        size = file.seek(0, os.SEEK_END)
        start = max(size - _TAIL_BYTES, 0)
        file.seek(start)
        tail = file.read()
    whole, newline, _ = tail.rpartition(b"\n")
    if not newline and not start:
        return ChainHead()
    _, before, last = whole.rpartition(b"\n")
    if not newline or (not before and start):
        raise ChainBrokenError(f"the end of {path.name} is no line")
    content, _ = _verified(last + b"\n", _numbered, f"the last line of {path.name}")
    return ChainHead(content["sequence"], content["hash"], start + len(whole) + 1)


def append_lines(path: Path, after: ChainHead, contents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Append entries durably; the caller holds the file's lock.

    Bytes after ``after`` are cut off: a process that died left them unfinished. The folder is synced too, so that a new
    file is not lost.

    Parameters
    ----------
    path
        The file of the chain; created if it is missing.
    after
        The chain's present end.
    contents
        The entries without sequence and hashes.

    Returns
    -------
    list of dict
        The entries as they were written, sealed.

    Raises
    ------
    StorageError
        If the write fails; the chain is unchanged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from feature_repo.files.hash_chain import append_lines, read_head
    >>> path = Path(tempfile.mkdtemp()) / "ledger.jsonl"
    >>> _ = append_lines(path, read_head(path), [{"action": "promote"}])
    >>> (entry,) = append_lines(path, read_head(path), [{"action": "rollback"}])
    >>> entry["sequence"], read_head(path).hash == entry["hash"]
    (2, True)
    """
    made = []
    at = after
    for content in contents:
        entry, at = seal_next(at, content)
        made.append(entry)
    with storage_errors():
        path.parent.mkdir(exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, after.size_bytes)
            try:
                _write(handle, b"".join(map(line, made)), after.size_bytes)
                os.fsync(handle)
                sync_folder(path.parent)
            except OSError:
                os.ftruncate(handle, after.size_bytes)
                raise
        finally:
            os.close(handle)
    return made


def remove_last(path: Path, entry: Mapping[str, Any]) -> None:
    """Remove the last entry, because what it records failed; under the same lock. Raises StorageError."""
    with storage_errors(), path.open("r+b") as file:
        file.truncate(path.stat().st_size - len(line(entry)))
        os.fsync(file.fileno())


def _write(handle: int, content: bytes, at: int) -> None:
    # Unbuffered: a buffer would write the bytes that a full disk refused again at close, after the truncation.
    while content:
        written = os.pwrite(handle, content, at)
        content, at = content[written:], at + written


def _verified(found: bytes, accept: Callable[[dict[str, Any]], Known], where: str) -> tuple[dict[str, Any], Known]:
    try:
        content = json.loads(found)
        known = accept(content)
        # Sealed again from the parsed content: detects another value, another encoding and an extra field.
        genuine = line(content) == found and seal(content) == content["hash"]
    except (ValueError, TypeError, KeyError, RecursionError):
        genuine = False
    if not genuine:
        raise ChainBrokenError(f"{where} was changed")
    return content, known


def _numbered(content: dict[str, Any]) -> None:
    if not (isinstance(content["sequence"], int) and content["sequence"] > 0):
        raise ValueError("no number")
