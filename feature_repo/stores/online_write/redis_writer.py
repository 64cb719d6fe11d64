"""Writer of rows to Redis: pipelined commands, every reply read, no newer value overwritten.

See docs/decisions/0036-instants-online.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from feast.infra.online_stores.helpers import _mmh3
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # none are published
from redis.exceptions import NoPermissionError

from feature_repo.clocks import CLOCKS_DIFFER
from feature_repo.stores.online_write.push_rows import PushedRow
from feature_repo.stores.online_write.row_schema import OnlineRowSchema
from feature_repo.stores.point_in_time.parquet_source import micros
from feature_repo.stores.wire import redis_protocol
from feature_repo.stores.wire.value_encoder import encode_timestamps
from feature_repo.stores.wire.varint import Ints

Flags = npt.NDArray[np.bool_]
_NEVER: Final = int(np.iinfo(np.int64).min)
_WATCHED_AT_ONCE: Final = 200
"""Keys of a transaction.

Redis compares each with those watched before, and one changed key makes all of them be read again.
"""


@dataclass(frozen=True)
class RedisBatch:
    """Encoded rows of views that share keys and event timestamps; one row per key.

    ``keys``: Redis keys, encoded as RESP. ``events_us``: event timestamps (UTC microseconds since 1970). ``views``: the
    view's event timestamp field -> field -> value. ``everything``: the commands that write all of it, the usual case,
    made while Redis processes the previous batch.
    """

    keys: pa.Array
    events_us: Ints
    views: Mapping[bytes, Mapping[bytes, pa.Array]]
    everything: pa.Array


class RedisWriter:
    """Writer of batches, in order, over one connection.

    While Redis works on one batch, the stored timestamps of the next are read.

    A row is written if its event timestamp is that of the stored row or later: the same instant again is a correction.
    With ``corrects`` false it must be later. A stored timestamp after this machine's clock can't be right and does not
    stop a write. ``kept`` counts, per view, the keys whose stored row was not changed. ``overwrite_newer`` reads no
    timestamps and writes everything. Reading the timestamps and writing are two steps: a row that another writer stores
    between them, within two batches, can be overwritten by an older one until the next materialisation.
    """

    overlaps = True

    def __init__(
        self,
        connection: Any,
        *,
        project: str,
        shape: OnlineRowSchema,
        send_bytes: int,
        expire_s: int | None = None,
        corrects: bool = True,
        overwrite_newer: bool = False,
    ) -> None:
        self._connection = connection
        self._project = project.encode()
        self._shape = shape
        self._send_bytes = send_bytes
        self._expire_s = expire_s
        self._corrects = corrects
        self._overwrite_newer = overwrite_newer
        self._ready: list[pa.Array] = []
        self._owed = 0
        self._clock_us = micros(datetime.now(UTC) + CLOCKS_DIFFER)
        self.kept: Counter[str] = Counter()

    def prepare(self, rows: pa.RecordBatch) -> RedisBatch:
        """Encode a batch."""
        events_us = self._shape.events_us(rows)
        stamps = encode_timestamps(events_us)
        views = {
            stamp_field(view): {
                stamp_field(view): stamps,
                **{_mmh3(f"{view}:{feature}"): encoded for feature, encoded in values.items()},
            }
            for view, values in self._shape.values(rows).items()
        }
        keys = redis_protocol.bulks(self._shape.entity_keys(rows, self._project))
        return RedisBatch(
            keys, events_us, views, redis_protocol.hset(keys, _all_fields(views.values()), self._expire_s)
        )

    def write(self, rows: RedisBatch) -> None:
        """Accept a batch; the next call, or :meth:`finish`, sends it and raises its error replies.

        The query for this batch's timestamps is sent before the commands of the last one: Redis replies at once and has
        work while the reply is read here. Raises redis-py's errors.
        """
        owed, self._owed = self._owed, 0
        if self._overwrite_newer:
            self._send(rows.everything)
            self._read(owed)
            return
        self._put(redis_protocol.hmget(rows.keys, list(rows.views)))
        self._send_ready()
        self._read(owed)
        self._ready = self._due(rows, self._stored(len(rows.keys), len(rows.views)))

    def finish(self) -> None:
        """Send the remaining commands and read every reply. Raises the first error among them."""
        self._send_ready()
        self._read(self._owed)
        self._owed = 0

    def _due(self, rows: RedisBatch, stored: Ints) -> list[pa.Array]:
        """Return the commands for the rows that are not older than what is stored."""
        events = rows.events_us[:, None]
        due = np.array(events >= stored if self._corrects else events > stored, bool)
        if due.all():
            return [rows.everything]
        self.kept += Counter(dict(zip(self._shape.views, (~due).sum(axis=0).tolist(), strict=True)))
        together = np.array(due.all(axis=1), bool)
        alone = [(fields, due[:, place] & ~together) for place, fields in enumerate(rows.views.values())]
        return [
            self._some(rows, views, wanted)
            for views, wanted in ((rows.views.values(), together), *(([fields], wanted) for fields, wanted in alone))
            if wanted.any()
        ]

    def _some(self, rows: RedisBatch, views: Iterable[Mapping[bytes, pa.Array]], wanted: Flags) -> pa.Array:
        kept = pa.array(wanted)
        fields = {name: values.filter(kept) for name, values in _all_fields(views).items()}
        return redis_protocol.hset(rows.keys.filter(kept), fields, self._expire_s)

    def _send_ready(self) -> None:
        for commands in self._ready:
            self._send(commands)
        self._ready = []

    def _read(self, replies: int) -> None:
        for _ in range(replies):
            self._connection.read_response(disable_decoding=True)

    def _send(self, commands: pa.Array) -> None:
        self._owed += len(commands) * (2 if self._expire_s else 1)
        self._put(commands)

    def _put(self, commands: pa.Array) -> None:
        # In pieces, since the socket's time-out applies to a whole send.
        data = redis_protocol.stream(commands)
        pieces = (data[start : start + self._send_bytes] for start in range(0, len(data), self._send_bytes))
        self._connection.send_packed_command(pieces, check_health=False)

    def _stored(self, rows: int, views: int) -> Ints:
        """Return stored event timestamps (rows x views, UTC microseconds, rounded up), else the least int64."""
        replies: list[bytes | None] = []
        for _ in range(rows):
            replies += self._connection.read_response(disable_decoding=True)
        spelt = pa.array(replies, pa.binary()).dictionary_encode(null_encoding="encode")
        distinct = np.array([_instant_us(stamp) for stamp in spelt.dictionary.to_pylist()], np.int64)
        distinct[distinct > self._clock_us] = _NEVER
        found: Ints = distinct[spelt.indices.to_numpy()].reshape(rows, views)
        return found


class PushedHashes:
    """Rows of one view that Feast's own API writes to Redis: by the same rule, one HSET per row.

    ``rows`` holds all rows of each of the Redis ``keys``, in the order in which they are written.
    """

    def __init__(self, rows: Mapping[bytes, Sequence[PushedRow]], view: str) -> None:
        self.keys = list(rows)
        self._rows = rows
        self._view = view
        self._stamp = stamp_field(view)

    @classmethod
    def of(cls, rows: Iterable[PushedRow], view: str, project: str) -> list[PushedHashes]:
        """Return the rows in parts, each for one transaction."""
        suffix = project.encode()
        keyed: dict[bytes, list[PushedRow]] = {}
        # Sorted, so that the latest wins: a batch may hold several rows of a key, in any order.
        for row in sorted(rows, key=lambda row: (row.event_us, row.created_us or 0)):
            keyed.setdefault(row.key + suffix, []).append(row)
        several = list(keyed.items())
        starts = range(0, len(several), _WATCHED_AT_ONCE)
        return [cls(dict(several[start : start + _WATCHED_AT_ONCE]), view) for start in starts]

    def ask(self, pipe: Any) -> None:
        """Queue the read of each key's stored event timestamp."""
        for key in self.keys:
            pipe.hmget(key, self._stamp)

    def put(self, pipe: Any, stored: Sequence[Sequence[bytes | None]], expire_s: int | None) -> int:
        """Queue the rows that are not older than their key's stored row; return the number of older ones.

        ``stored`` holds the event timestamp of each of ``keys``, in a list of its own as HMGET returns it.
        """
        clock_us, kept = micros(datetime.now(UTC) + CLOCKS_DIFFER), 0
        for (key, rows), (spelt,) in zip(self._rows.items(), stored, strict=True):
            instant = _instant_us(spelt)
            for row in rows:
                if row.event_us < instant <= clock_us:
                    kept += 1
                    continue
                stamp = Timestamp()
                stamp.FromMicroseconds(row.event_us)
                fields = {_mmh3(f"{self._view}:{name}"): each.SerializeToString() for name, each in row.values.items()}
                pipe.hset(key, mapping={self._stamp: stamp.SerializeToString(), **fields})
                if expire_s:
                    pipe.expire(key, expire_s)
        return kept


def stamp_field(view: str) -> bytes:
    """Return the hash field of a view's event timestamp."""
    return f"_ts:{view}".encode()


def _all_fields(views: Iterable[Mapping[bytes, pa.Array]]) -> dict[bytes, pa.Array]:
    return {name: values for fields in views for name, values in fields.items()}


def _instant_us(stamp: bytes | None) -> int:
    if not stamp:
        return _NEVER
    instant = Timestamp.FromString(stamp)
    return int(instant.seconds * 1_000_000 + math.ceil(instant.nanos / 1000))


def refuse_unwritable(connection: Any, project: str) -> None:
    """Raise the error that any write would raise now (no memory, a replica, a full disk).

    Nothing is written: the key never exists, and ``XX`` writes existing keys only.
    """
    connection.send_command("SET", f"{project}:writable", b"", "XX")
    # A user with the right to write hashes may lack the right to write anything else.
    with suppress(NoPermissionError):
        connection.read_response()


@contextmanager
def connection_of(client: Any) -> Iterator[Any]:
    """Yield a connection of a redis-py client's pool, with its address, TLS, password and database.

    After an error it is closed, since replies may still be outstanding.
    """
    connection = client.connection_pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)
