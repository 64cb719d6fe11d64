"""Authenticate requests by API key: cached key file, and the check of each request's head."""

from __future__ import annotations

import binascii
import ipaddress
import logging
import sys
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NoReturn

from bentos.churn.auth.audit_log import Failure, had_keys
from bentos.churn.auth.key_store import KEY_PREFIX, KeyEntry, KeyFile, KeyFileError, KeyState, keys_path, read_keys
from bentos.churn.auth.rights import Right
from bentos.churn.auth.token_bucket import TokenBucket
from bentos.churn.errors import KeyForbiddenError, KeyMissingError, RateLimitedError
from bentos.churn.metrics import ServiceMetrics
from configs.errors import EXIT_USAGE, ChurnError
from configs.settings import Settings

log = logging.getLogger(__name__)

HEADERS: Final = frozenset({b"x-api-key", b"authorization"})
_LOOK_S: Final = 1.0
"""Seconds between two checks of the file, at least: for so long after `churn keys` a worker may use the old keys."""
_TELL_S: Final = 60.0
"""Seconds between two log lines about refusals for one reason; the metric counts each."""
_ID: Final = slice(len(KEY_PREFIX), len(KEY_PREFIX) + 8)
_KEY_CHARS: Final = len(KEY_PREFIX) + 8 + 1 + 43
_NOBODY: Final = bytes(32)
"""The digest that an unknown id is compared with; no key has it."""
_HINT: Final = (
    "send one as Authorization: Bearer <key>, or as X-API-Key; the service's operator makes it: churn keys create"
)
_WHY: Final = {
    "missing": "an API key is needed",
    "unknown": "the API key is not valid",
    "expired": "the API key has expired",
    "revoked": "the API key was revoked",
}


class KeysNeededError(ChurnError):
    """The service may only start with keys, and no key is valid."""

    error = "keys_needed"
    exit_code = EXIT_USAGE


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether an address is a loopback address; of names only localhost is."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def keys_needed(settings: Settings) -> bool:
    """Return whether the service with these settings requires a key. Raises KeyFileError."""
    read_keys(keys_path(settings))
    return _always(settings) or had_keys(settings)


def describe_access(settings: Settings, now: datetime) -> str:
    """Return one line that describes which callers are admitted.

    Raises
    ------
    KeysNeededError
        If a key is required, and no key is valid.
    KeyFileError
        If the key file or its audit can't be read.
    """
    keys = read_keys(keys_path(settings)).keys
    host = settings.serving.host
    had = had_keys(settings)
    if not (had or _always(settings)):
        return f"no API keys: every caller who reaches {host} gets answers"
    valid = sum(entry.state(now) == "valid" for entry in keys)
    if not valid:
        why = (
            "access.required is set"
            if settings.access.required
            else f"it listens on {host}"
            if _always(settings)
            else "there are API keys"
            if keys
            else "there were API keys before"
        )
        # A lost or emptied key file must not make the service answer callers without a key.
        again = (
            "" if keys or not had else "; to answer without keys again, move the key file and audit/ next to it away"
        )
        raise KeysNeededError(
            f"the service answers only callers with an API key, because {why}, and no key is valid",
            f"restore the key file, or run: churn keys create --name NAME --right predict{again}"
            if again
            else "run: churn keys create --name NAME --right predict",
        )
    return f"only callers with an API key may ask; {valid} valid"


def exit_unless_startable(settings: Settings) -> None:
    """Log which callers are admitted, or end the process as the command line would.

    For a service that is started without the command line.
    """
    try:
        log.warning("%s", describe_access(settings, datetime.now(UTC)))
    except ChurnError as refused:
        sys.stderr.write(f"error: {refused.message}\nhint: {refused.hint}\n")
        raise SystemExit(refused.exit_code) from None


def _always(settings: Settings) -> bool:
    return settings.access.required or not is_loopback(settings.serving.host)


class _Holder:
    """A key in the form that is compared on each request."""

    __slots__ = ("bucket", "digest", "entry", "rights", "state")

    def __init__(self, entry: KeyEntry, bucket: TokenBucket | None) -> None:
        self.entry = entry
        self.digest = bytes.fromhex(entry.sha256)
        self.rights = frozenset(entry.rights)
        self.bucket = bucket
        self.state: KeyState = "revoked"


class ApiKeyAuthenticator:
    """Admits or refuses each request by its API key. One per worker.

    Only the file's hashes are kept: hashing the key of a request takes a microsecond, so that no key has to be held in
    memory for speed. The file is checked once a second, when requests come. If it becomes unreadable or vanishes, the
    last valid keys stay in use. If there never were any, every request is refused. A service that had keys answers no
    request without one, even if the list is empty now, or was so before this worker started: the file or its audit
    exists.

    Parameters
    ----------
    settings
        Sections access and serving. The limit of a key is divided by ``serving.workers``.
    metrics
        Count failures by reason.
    refused
        Called for each failure, with the key if it is a known one; must not block.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: ServiceMetrics,
        refused: Callable[[Failure, KeyEntry | None], object] = lambda _why, _key: None,
    ) -> None:
        self._settings = settings
        self._path = keys_path(settings)
        self._always = _always(settings)
        self._metrics = metrics
        self._refused = refused
        self._per_s = settings.access.requests_per_s / settings.serving.workers
        self._burst = settings.access.burst / settings.serving.workers
        self._holders: dict[bytes, _Holder] = {}
        self._anyone = self._bucket()
        self._needed = True
        self._had_keys = False
        self._seen: tuple[int, ...] | None = None
        self._look_at = 0.0
        self._told: dict[tuple[str, str], float] = {}
        self._broken = ""

    def authorize(self, headers: Mapping[bytes, bytes], right: Right | None, address: str | None, now: float) -> None:
        """Return if the request is admitted.

        Parameters
        ----------
        headers
            Those of HEADERS that the request has, by lower-case name.
        right
            The right that is needed; None: any valid key.
        address
            The local address at which it arrived; None: not over a network.
        now
            Seconds of a monotonic clock.

        Raises
        ------
        KeyMissingError, KeyForbiddenError, RateLimitedError
        """
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            self.refresh(datetime.now(UTC))
        # BentoML can be started on another address than that of the settings: without keys only loopback is admitted.
        if not self._needed and (address is None or is_loopback(address)):
            self._limit(self._anyone, now)
            return
        presented = _key(headers)
        holder = None if presented is None else self._holder(presented)
        if holder is None or holder.state != "valid":
            # Failures have a rate limit too, shared by all of them.
            self._limit(self._anyone, now)
            self._refuse(_failure(presented, holder), holder, now)
        self._limit(holder.bucket, now)
        if right is not None and right not in holder.rights:
            self._refuse("forbidden", holder, now, right)

    @property
    def requires_key(self) -> bool:
        """Whether a key is required."""
        return self._needed

    def refresh(self, now: datetime) -> None:
        """Read the file if it has changed; determine which keys are valid at ``now``."""
        try:
            self._read()
        except KeyFileError as broken:
            self._needed = self._needed or self._always or bool(self._holders)
            if broken.message != self._broken:
                self._metrics.key_file_failures.inc()
                log.warning("API keys stay as they were: %s; %s", broken.message, broken.hint)
            self._broken = broken.message
        else:
            self._broken = ""
        for holder in self._holders.values():
            holder.state = holder.entry.state(now)

    def _read(self) -> None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            if self._holders:
                raise KeyFileError("is gone") from None
            self._needed = self._always or self._had_keys or had_keys(self._settings)
            return
        except OSError as refused:
            raise KeyFileError(f"can't be read: {refused.strerror}") from None
        # A writer replaces the file by another one, so its identity changes.
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return
        self._take(read_keys(self._path))
        self._seen = seen

    def _take(self, file: KeyFile) -> None:
        before = self._holders
        made = [_Holder(entry, self._bucket()) for entry in file.keys]
        for holder in made:
            if (known := before.get(holder.entry.id.encode())) is not None:
                holder.bucket = known.bucket
        self._holders = {holder.entry.id.encode(): holder for holder in made}
        self._had_keys = self._needed = True

    def _holder(self, presented: bytes) -> _Holder | None:
        """Return the holder of the key. The work is the same whether the id is known or not."""
        holder = self._holders.get(presented[_ID])
        digest = sha256(presented[: _KEY_CHARS + 1]).digest()
        same = compare_digest(digest, _NOBODY if holder is None else holder.digest)
        return holder if same else None

    def _bucket(self) -> TokenBucket | None:
        return TokenBucket(self._per_s, self._burst) if self._per_s else None

    def _limit(self, bucket: TokenBucket | None, now: float) -> None:
        if bucket is not None and (wait_s := bucket.take(now)):
            raise RateLimitedError(wait_s)

    def _refuse(self, why: Failure, holder: _Holder | None, now: float, right: Right | None = None) -> NoReturn:
        self._metrics.key_failures.labels(why).inc()
        self._refused(why, holder.entry if holder else None)
        # The id is public and grants nothing.
        whose = f"key {holder.entry.id}" if holder else "no known key"
        if now >= self._told.get((why, whose), 0.0):
            self._told[why, whose] = now + _TELL_S
            log.warning("refused a request: %s, %s", whose, why)
        if why == "forbidden":
            raise KeyForbiddenError(f"the API key has not the right {right}", "ask for a key that has it")
        raise KeyMissingError(_WHY[why], _HINT)


def _failure(presented: bytes | None, holder: _Holder | None) -> Failure:
    if presented is None:
        return "missing"
    return "unknown" if holder is None or holder.state == "valid" else holder.state


def _key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the key of a request, None without one. A reverse proxy may need Authorization for itself."""
    if (key := headers.get(b"x-api-key")) is not None:
        return key.strip()
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    match scheme.lower():
        case b"bearer":
            return value.strip()
        case b"basic":
            # The password of HTTP Basic; the user name is whatever was entered in the browser's dialog.
            try:
                return b64decode(value).partition(b":")[2]
            except binascii.Error:
                return b""
    return None
