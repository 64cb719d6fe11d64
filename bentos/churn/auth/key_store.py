"""The file of API keys: its entries, reading and writing. It never holds a key itself.

A key is ``churn_<id>_<secret>``: a public id of 8 hex digits, and 256 random bits. These can't be guessed, so that one
round of SHA-256 protects them as well as a slow password hash would, at a microsecond per request.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from bentos.churn.auth.rights import Right
from configs.errors import EXIT_USAGE, ChurnError
from configs.settings import Settings
from configs.text import decoded
from feature_repo.files.atomic_writes import storage_errors, write_file
from feature_repo.files.regular_files import read_regular

FILE: Final = "keys.json"
KEY_PREFIX: Final = "churn_"
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SIZE_MAX_BYTES: Final = 1 << 20
_ID_BYTES: Final = 4
_SECRET_BYTES: Final = 32

KeyState = Literal["valid", "expired", "revoked"]


class KeyFileError(ChurnError):
    """The key file can't be read, or is not what `churn keys` writes. Reports where, never the value."""

    error = "key_file_invalid"
    exit_code = EXIT_USAGE

    def __init__(self, what: str) -> None:
        super().__init__(f"the key file {what}", "restore it, or move it away and make new keys: churn keys create")


class KeyEntry(BaseModel):
    """The stored entry of one key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
    name: Annotated[str, StringConstraints(pattern=NAME)]
    rights: Annotated[tuple[Right, ...], Field(min_length=1)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None

    def state(self, now: datetime) -> KeyState:
        """Return whether the key is valid at ``now``, and if not, why."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


class KeyFile(BaseModel):
    """All keys, in the order in which they were made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    keys: tuple[KeyEntry, ...] = ()

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        if len({entry.id for entry in self.keys}) != len(self.keys):
            raise ValueError("two keys have one id")
        return self


def keys_path(settings: Settings) -> Path:
    """Return the path of the key file; a relative setting is resolved against the home."""
    return settings.home / Path(settings.access.keys_file or FILE).expanduser()


def read_keys(path: Path) -> KeyFile:
    """Return the keys; none if there is no file.

    Raises
    ------
    KeyFileError
        If the file can't be read, is larger than SIZE_MAX_BYTES, or does not hold keys.
    """
    try:
        content = read_regular(path, SIZE_MAX_BYTES + 1)
    except FileNotFoundError:
        return KeyFile()
    except OSError as refused:
        raise KeyFileError(f"can't be read: {refused.strerror}") from None
    if len(content) > SIZE_MAX_BYTES:
        raise KeyFileError(f"is larger than {SIZE_MAX_BYTES >> 20} MiB")
    try:
        return KeyFile.model_validate_json(decoded(content))
    except UnicodeDecodeError:
        raise KeyFileError("is damaged: it is no text") from None
    except ValidationError as broken:
        first = broken.errors(include_input=False, include_url=False)[0]
        raise KeyFileError(f"is damaged at {'.'.join(map(str, first['loc'])) or 'its root'}: {first['type']}") from None


def write_keys(path: Path, keys: KeyFile) -> None:
    """Replace the file atomically, readable by its owner only.

    Raises
    ------
    KeyFileError
        If it would be larger than the service reads.
    StorageError
    """
    content = keys.model_dump_json(indent=1).encode() + b"\n"
    if len(content) > SIZE_MAX_BYTES:
        raise KeyFileError(f"would be larger than {SIZE_MAX_BYTES >> 20} MiB")
    with storage_errors():
        write_file(path, content)


def new_key(
    name: str, rights: tuple[Right, ...], *, now: datetime, expires_at: datetime | None
) -> tuple[KeyEntry, str]:
    """Make a key: its entry for the file, and the key itself, which is not stored."""
    key_id = secrets.token_hex(_ID_BYTES)
    key = f"{KEY_PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    entry = KeyEntry(
        id=key_id,
        name=name,
        rights=rights,
        sha256=sha256(key.encode()).hexdigest(),
        created_at=now,
        expires_at=expires_at,
        revoked_at=None,
    )
    return entry, key
