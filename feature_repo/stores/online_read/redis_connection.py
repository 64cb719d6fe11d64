"""Reads of Redis hashes: pipelined HMGET commands over connections that stay open."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from feature_repo.stores.wire.redis_protocol import bulk

KEYS_AT_ONCE: Final = 2000
"""Commands sent before their replies are read: neither side has to buffer more than some MB."""

Row = Sequence[bytes | None]


class Fields:
    """Hash fields of a read, encoded once; ``key_suffix`` ends each key."""

    def __init__(self, names: Iterable[bytes], key_suffix: bytes = b"") -> None:
        spelt = [bulk(name) for name in names]
        self._head = b"*%d\r\n$5\r\nHMGET\r\n$" % (2 + len(spelt))
        self._tail = key_suffix + b"\r\n" + b"".join(spelt)
        self._suffix_bytes = len(key_suffix)

    def hmget(self, keys: Sequence[bytes]) -> bytes:
        """Return one encoded HMGET per key."""
        head, tail, more = self._head, self._tail, self._suffix_bytes
        return b"".join([b"%b%d\r\n%b%b" % (head, len(key) + more, key, tail) for key in keys])


class RedisReader:
    """Reader of hash fields of many keys, one round trip per :data:`KEYS_AT_ONCE` keys.

    Connections come from a redis-py client's pool, with its address, TLS, password and time-outs, and are not returned
    to it: taking one from the pool costs as much as a read. A thread uses a connection alone while it reads. A broken
    one is closed. If it had been idle, the read is repeated once on another: after a restart of the server all idle
    connections are dead. A time-out is not repeated.
    """

    def __init__(self, client: Any) -> None:
        self._pool = client.connection_pool
        self._idle: deque[Any] = deque()
        self._process = os.getpid()

    def read(self, keys: Sequence[bytes], fields: Fields) -> list[Row]:
        """Return the fields' values per key, None where a field is not stored.

        Raises redis.exceptions.RedisError; a server that hangs costs the connection's time-out.
        """
        if self._process != os.getpid():
            # After a fork two processes would read each other's replies.
            self._idle, self._process = deque(), os.getpid()
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._read(self._pool.get_connection(), keys, fields)
        try:
            return self._read(connection, keys, fields)
        except RedisConnectionError:
            return self._read(self._pool.get_connection(), keys, fields)

    def _read(self, connection: Any, keys: Sequence[bytes], fields: Fields) -> list[Row]:
        rows: list[Row] = []
        try:
            for start in range(0, len(keys), KEYS_AT_ONCE):
                some = keys[start : start + KEYS_AT_ONCE]
                connection.send_packed_command([fields.hmget(some)], check_health=False)
                rows += _replies(connection, len(some))
        except BaseException:
            # Replies may still be outstanding.
            connection.disconnect()
            self._pool.release(connection)
            raise
        self._idle.append(connection)
        return rows


def _replies(connection: Any, count: int) -> list[Row]:
    """Return the next replies. Raises redis.exceptions.RedisError."""
    rows = [connection.read_response(disable_decoding=True)]
    # Those that arrived with the first are taken from hiredis itself: redis-py's checks around each reply cost as much
    # as the reply. It reads on from the socket, within its time-out, wherever hiredis has no whole reply.
    gets = getattr(getattr(connection._parser, "_reader", None), "gets", None)  # noqa: SLF001 - no public way
    while len(rows) < count:
        reply = None if gets is None else gets(False)  # noqa: FBT003 - hiredis takes no keyword
        if type(reply) is list:
            rows.append(reply)
        elif isinstance(reply, Exception):
            raise reply
        else:
            rows.append(connection.read_response(disable_decoding=True))
    return rows
