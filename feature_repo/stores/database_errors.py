"""Causes and remedies of database errors: SQLite, Redis and PostgreSQL. Pure.

The libraries' texts may hold a host, a user or a value, so none of them is repeated.
"""

from __future__ import annotations

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Cause:
    """What happened, as a clause to follow the name of the database, and its remedy.

    ``passing``: for SQLite, whether the next attempt may succeed.
    """

    what: str
    cure: str
    passing: bool = False


_PRIMARY: Final = 0xFF
"""SQLite's extended codes hold the primary one in their last byte."""
_HELD: Final = Cause("another process holds it", "wait until that one has ended, then run this again", passing=True)
_SQLITE: Final = {
    sqlite3.SQLITE_FULL: Cause("the disk is full", "free disk space, then run this again", passing=True),
    sqlite3.SQLITE_READONLY: Cause("it may not be written", "correct the rights of the file and its folder"),
    sqlite3.SQLITE_PERM: Cause("it may not be used", "correct the rights of the file and its folder"),
    sqlite3.SQLITE_BUSY: _HELD,
    sqlite3.SQLITE_LOCKED: _HELD,
    sqlite3.SQLITE_IOERR: Cause("the disk failed", "check the disk and its mount, then run this again", passing=True),
    sqlite3.SQLITE_CANTOPEN: Cause("it can't be opened", "correct the rights of its folder; it must be a file"),
}


def sqlite_cause(broken: BaseException, *, damaged: str, otherwise: str) -> Cause:
    """Return why SQLite refused.

    ``damaged`` is the remedy for a file that is no longer a database, ``otherwise`` the one for any other failure, such
    as missing tables.
    """
    code, name = getattr(broken, "sqlite_errorcode", None), getattr(broken, "sqlite_errorname", type(broken).__name__)
    primary = None if code is None else code & _PRIMARY
    if primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        cause = Cause("it is damaged", damaged)
    elif str(broken).startswith("no such table"):
        cause = Cause("its tables are not there", otherwise)
    else:
        cause = _SQLITE.get(primary or 0, Cause("it failed", otherwise))
    return replace(cause, what=f"{cause.what} ({name})")


_REDIS_URL: Final = "CHURN_FEAST__REDIS_URL"
_REDIS: Final = (
    # The first words of Redis' own errors; redis-py removes some of them, then the next words identify the error.
    (
        ("OOM", "command not allowed when used memory"),
        Cause(
            "it is out of memory (maxmemory) and takes no writes",
            "raise maxmemory or free memory; the data must not be evicted",
        ),
    ),
    (
        ("READONLY", "You can't write against a read only replica"),
        Cause("it is a read-only replica", f"name the primary in {_REDIS_URL}"),
    ),
    (
        ("LOADING", "Redis is loading"),
        Cause("it is still loading its data", "wait until it is done, then run this again"),
    ),
    (
        ("MISCONF",),
        Cause("it takes no writes, because it can't save to its disk", "free its disk; its log names the cause"),
    ),
    (
        ("NOREPLICAS",),
        Cause("it takes no writes, because too few replicas follow it", "add replicas, or lower min-replicas-to-write"),
    ),
    (
        ("WRONGTYPE",),
        Cause(
            "a key of ours is of another type: another application writes this database",
            f"give the online store a database of its own, by the number at the end of {_REDIS_URL}",
        ),
    ),
    (("BUSY ",), Cause("it is busy with a script", "end the script (SCRIPT KILL), then run this again")),
    (
        ("unknown command",),
        Cause(
            "it lacks a command (disabled, renamed, or no Redis)",
            "enable the command (rename-command in its configuration)",
        ),
    ),
    (("MASTERDOWN",), Cause("it is a replica without its primary", f"name the primary in {_REDIS_URL}")),
    (
        ("MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT"),
        Cause("it is a node of a cluster, which can't be asked alone", f"name a single server in {_REDIS_URL}"),
    ),
    (
        ("DENIED",),
        Cause("it is in protected mode and answers its own machine alone", "give it a password, and the same here"),
    ),
    (
        ("max number of clients",),
        Cause("it has no connection left (maxclients)", "raise maxclients, or end what holds them"),
    ),
    (
        ("DB index is out of range", "invalid DB index"),
        Cause("it has no database of this number", f"correct the number at the end of {_REDIS_URL}"),
    ),
    (
        ("NOAUTH", "Authentication required", "unauthenticated multibulk", "unauthenticated bulk"),
        Cause("it wants a password and none is set", f"put the password into {_REDIS_URL}"),
    ),
    (
        ("AUTH <password> called without", "AUTH called without", "without any password configured"),
        Cause("it has no password and one is set", f"take the password out of {_REDIS_URL}, or set requirepass"),
    ),
    (
        ("WRONGPASS", "invalid password", "invalid username-password pair"),
        Cause(
            "the user name or password is wrong",
            f"fix them in {_REDIS_URL}; special characters are percent-encoded",
        ),
    ),
    (
        ("NOPERM", "has no permissions"),
        Cause("its user lacks a right (ACL)", "grant the user reading and writing of hashes"),
    ),
)


def redis_cause(broken: BaseException) -> Cause:
    """Return why Redis refused a command or could not be reached."""
    from redis import exceptions

    kinds = {
        exceptions.OutOfMemoryError: "OOM",
        exceptions.ReadOnlyError: "READONLY",
        exceptions.BusyLoadingError: "LOADING",
        exceptions.NoPermissionError: "NOPERM",
        exceptions.MovedError: "MOVED",
        exceptions.AskError: "MOVED",
        exceptions.ClusterDownError: "CLUSTERDOWN",
    }
    text = next((word for kind, word in kinds.items() if isinstance(broken, kind)), str(broken))
    for words, cause in _REDIS:
        if any(text.startswith(word) or (" " in word and word in text) for word in words):
            return cause
    if isinstance(broken, exceptions.InvalidResponse):
        return Cause("what answers at its address speaks no Redis", f"correct host and port in {_REDIS_URL}")
    if isinstance(broken, exceptions.AuthenticationError):
        return Cause("it refused the user name or password", f"correct them in {_REDIS_URL}")
    if isinstance(broken, (exceptions.ConnectionError, exceptions.TimeoutError)):
        return _unreachable(broken)
    return Cause(f"it refused a command ({type(broken).__name__})", "its log names the cause")


def _unreachable(broken: BaseException) -> Cause:
    # Some of redis-py's TLS errors can be recognised by their text only.
    if "SSL" in str(broken):
        return _tls(_REDIS_SERVER)
    return unreachable(broken, _REDIS_SERVER) or Cause(
        "the connection was closed",
        f"check that it runs; a server that wants TLS does the same: write rediss:// in {_REDIS_URL} then",
    )


@dataclass(frozen=True)
class Server:
    """Names of a server in messages.

    They are the setting with its URL, the URL's beginning without and with TLS, and the setting of its time limit.
    """

    setting: str
    plain: str
    encrypted: str
    limit: str


_REDIS_SERVER: Final = Server(_REDIS_URL, "redis://", "rediss://", "feast.redis_timeout_ms")


def unreachable(broken: BaseException, server: Server) -> Cause | None:
    """Return why a client could not reach a server, None for other errors; only error types are checked."""
    causes = list(chain(broken))
    if any(isinstance(each, ssl.SSLError) for each in causes):
        return _tls(server)
    if any(isinstance(each, socket.gaierror) for each in causes):
        return Cause("its host name is unknown", f"correct the host in {server.setting}")
    if any(isinstance(each, ConnectionRefusedError) for each in causes):
        return Cause("nothing listens at its address", f"start it, or correct host and port in {server.setting}")
    if any(isinstance(each, TimeoutError) or "Timeout" in type(each).__name__ for each in causes):
        return Cause(
            "it did not answer in time",
            f"check its load and the network ({server.limit}); a server without TLS may leave {server.encrypted} "
            f"unanswered, see {server.setting}",
        )
    return None


def _tls(server: Server) -> Cause:
    return Cause(
        "the encrypted connection (TLS) failed",
        f"{server.plain} in {server.setting} is plain, {server.encrypted} is TLS; check the server's certificate",
    )


_POSTGRES: Final = (
    # SQLSTATE, where there is one; and words of libpq and of the server's English messages, where there is none.
    (
        ("28P01", "28000", "password authentication failed", "no password supplied", "no pg_hba.conf entry"),
        Cause("it refused the user name or password", "correct them in {url}; special characters are percent-encoded"),
    ),
    (("3D000",), Cause("there is no such database", "create the database, or correct its name in {url}")),
    (
        ("53300", "too many clients", "remaining connection slots", "too many connections"),
        Cause("it has no connection left (max_connections)", "raise max_connections, or end what holds them"),
    ),
    (("53100", "No space left"), Cause("its disk is full", "free its disk")),
    (("53200",), Cause("it is out of memory", "its log names the cause")),
    (("25006",), Cause("it is read-only: a standby, or default_transaction_read_only", "name the primary in {url}")),
    (("42501",), Cause("its user lacks a right", "grant the user what docs/operations.md names")),
    (
        ("57P03", "57P01", "57P02", "starting up", "shutting down"),
        Cause("it is starting or stopping", "wait until it runs, then try again"),
    ),
    (
        ("57014", "55P03", "timeout expired"),
        Cause("it did not answer in time", "check its load, its locks and the network"),
    ),
    (("Connection refused",), Cause("nothing listens at its address", "start it, or correct host and port in {url}")),
    (
        ("could not translate host name", "failed to resolve host", "Name or service not known"),
        Cause("its host name is unknown", "correct the host in {url}"),
    ),
    (
        ("SSL", "certificate"),
        Cause("the encrypted connection (TLS) failed", "check sslmode in {url} and the certificate"),
    ),
)


def postgres_cause(broken: BaseException, url: str) -> Cause:
    """Return why PostgreSQL refused or could not be reached.

    ``url`` is the variable that names the server.
    """
    state, text = getattr(broken, "sqlstate", None) or "", str(broken)
    # A missing database can be recognised by the message only: before the log-in there is no SQLSTATE.
    if 'database "' in text and "does not exist" in text:
        state = "3D000"
    for words, cause in _POSTGRES:
        if state in words or (not state and any(word in text for word in words)):
            return Cause(cause.what, cause.cure.format(url=url))
    return Cause(
        f"it failed ({type(broken).__name__})", f"check that the server of {url} runs; its log names the cause"
    )


def chain(broken: BaseException) -> Iterator[BaseException]:
    """Yield an error, then the one that it was raised from or during, and so on."""
    each: BaseException | None = broken
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__
