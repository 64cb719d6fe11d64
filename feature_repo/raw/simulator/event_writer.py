"""Writer of the monthly event files, by arrival time.

Events that arrive after the open file's cut wait in memory for the next file.
"""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.contract import CUSTOMER
from feature_repo.events import EVENT_SCHEMA
from feature_repo.raw.simulator.event_encoding import ENCODED, json_lines
from feature_repo.raw.simulator.manifest import events_name

_FEW_VALUES: Final = ["type", CUSTOMER]
# Ids are random and do not compress.
_COMPRESSION: Final = {name: "NONE" if name == "event_id" else "SNAPPY" for name in EVENT_SCHEMA.names}


class EventWriter:
    """Write event files, one open at a time.

    ``written`` lists their paths relative to ``out``.
    """

    def __init__(self, out: Path, *, jsonl: bool) -> None:
        self._out = out
        self._jsonl = jsonl
        self._waiting: list[pa.Table] = []
        self._day: date | None = None
        self._cut: Any = None
        self._parquet: Any = None
        self._lines: Any = None
        self.written: list[str] = []

    def open(self, day: date, cut: datetime) -> None:
        """Open the file of a date, for events that arrive up to ``cut``; does nothing if it is open already."""
        if day == self._day:
            return
        self.close()
        (self._out / "events").mkdir(exist_ok=True)
        name = events_name(day)
        self._day, self._cut = day, pa.scalar(cut, pa.timestamp("us", "UTC"))
        # The Arrow schema is left out of the file, so that readers see plain strings.
        self._parquet = pq.ParquetWriter(
            self._out / f"{name}.parquet",
            ENCODED,
            compression=_COMPRESSION,
            use_dictionary=_FEW_VALUES,
            store_schema=False,
        )
        self.written.append(f"{name}.parquet")
        if self._jsonl:
            self._lines = (self._out / f"{name}.jsonl").open("wb")
            self.written.append(f"{name}.jsonl")
        waiting, self._waiting = self._waiting, []
        if waiting:
            order = [("arrived_at", "ascending"), ("event_id", "ascending"), ("revision", "ascending")]
            self.write(pa.concat_tables(waiting).sort_by(order).cast(ENCODED))

    def write(self, events: pa.Table) -> None:
        """Write the events of a block that arrive by the cut; keep the others for the next file.

        ``events`` must be sorted by arrival.
        """
        here = int(pc.sum(pc.less_equal(events["arrived_at"], self._cut)).as_py() or 0)
        # Copied: a slice would keep the whole block in memory.
        if here < len(events):
            self._waiting.append(events.take(pa.array(np.arange(here, len(events)))).cast(EVENT_SCHEMA))
        if here:
            arrived = events.slice(0, here).combine_chunks()
            self._parquet.write_table(arrived)
            if self._lines is not None:
                self._lines.write(json_lines(arrived))

    def close(self) -> None:
        """Close the open file, if any."""
        if self._parquet is not None:
            self._parquet.close()
        if self._lines is not None:
            self._lines.close()
        self._parquet = self._lines = self._day = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
