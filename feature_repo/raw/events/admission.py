"""Admission of a delivery's events: duplicates, conflicts and unknown customers, in SQL.

Events are compared with each other, with all events admitted before, and with the known customers. Precedence is
fixed, so that the same deliveries give the same result: the earlier arrival first, at a tie the earlier delivery, then
the earlier row. An event of an unknown customer waits; it is compared with no other event until the customer is known.
See docs/decisions/0016-event-deliveries.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from feature_repo.contract import CUSTOMER
from feature_repo.events import EVENT_SCHEMA, RejectionReason

EVENT_LOG_COLUMNS: Final = ("delivery", "row", *EVENT_SCHEMA.names)
"""Columns of an event in the log: its origin (number of the delivery, row of its file), and the event."""

_CONTENT: Final = tuple(name for name in EVENT_SCHEMA.names if name not in {"event_id", "revision", "arrived_at"})
"""Columns that are equal in a duplicate of an event; its arrival time may differ."""


def admit_events(
    connection: duckdb.DuckDBPyConnection,
    *,
    number: int,
    staged: Path,
    waiting: Path | None,
    admitted: Sequence[Path],
    customers: pa.Table,
) -> None:
    """Create the relations ``admitted_now``, ``quarantined_now`` and ``waiting_now`` of one delivery.

    Parameters
    ----------
    connection
        A session that may spill to disk.
    number
        The delivery's number.
    staged
        Parquet of its validated events: SCHEMA, row, content, reason.
    waiting
        Parquet (:data:`EVENT_LOG_COLUMNS`) of the events of earlier deliveries that wait for their customer; None: none
        wait.
    admitted
        Parquet (:data:`EVENT_LOG_COLUMNS`) of all events admitted by earlier deliveries.
    customers
        One column customer_id: all customers of the live snapshots.

    They are temporary tables or views. ``admitted_now`` and ``waiting_now`` have :data:`EVENT_LOG_COLUMNS`;
    ``quarantined_now`` also has reason and content.
    """
    names = ", ".join(EVENT_LOG_COLUMNS)
    connection.register("known_customer", customers)
    earlier = f"UNION ALL FROM {_parquet([waiting])}" if waiting else ""
    log = _parquet(admitted) if admitted else "(FROM staged LIMIT 0)"
    same = " AND ".join(f"one.{name} IS NOT DISTINCT FROM other.{name}" for name in _CONTENT)
    doubled = f"CASE WHEN {same} THEN '{RejectionReason.DUPLICATE}' ELSE '{RejectionReason.CONFLICTING_DUPLICATE}' END"
    connection.execute(
        f"""
        CREATE TEMP VIEW staged AS SELECT {number}::BIGINT AS delivery, * FROM {_parquet([staged])};
        CREATE TEMP VIEW open_case AS SELECT {names} FROM staged WHERE reason IS NULL {earlier};
        CREATE TEMP TABLE candidate AS SELECT * FROM open_case SEMI JOIN known_customer USING ({CUSTOMER});
        CREATE TEMP TABLE waiting_now AS SELECT * FROM open_case ANTI JOIN known_customer USING ({CUSTOMER});
        CREATE TEMP TABLE before AS SELECT {names} FROM {log} SEMI JOIN candidate USING (event_id);
        CREATE TEMP TABLE ranked AS
        SELECT *, row_number() OVER (PARTITION BY event_id, revision ORDER BY arrived_at, delivery, row) AS place
        FROM candidate
        SEMI JOIN (SELECT event_id, revision FROM candidate GROUP BY ALL HAVING count(*) > 1)
        USING (event_id, revision);
        CREATE TEMP TABLE doubled AS
        SELECT one.delivery, one.row, {doubled} AS reason
        FROM candidate AS one JOIN before AS other USING (event_id, revision);
        INSERT INTO doubled
        SELECT one.delivery, one.row, {doubled}
        FROM ranked AS one JOIN ranked AS other USING (event_id, revision)
        ANTI JOIN doubled ON doubled.delivery = one.delivery AND doubled.row = one.row
        WHERE other.place = 1 AND one.place > 1;
        CREATE TEMP VIEW single AS SELECT * FROM candidate ANTI JOIN doubled USING (delivery, row);
        CREATE TEMP TABLE revised AS
        SELECT *, 1 AS turn FROM single
        SEMI JOIN (
            SELECT event_id FROM (SELECT event_id FROM single UNION ALL SELECT event_id FROM before)
            GROUP BY event_id HAVING count(*) > 1
        ) USING (event_id)
        UNION ALL SELECT *, 0 FROM before;
        CREATE TEMP TABLE identity AS
        SELECT event_id, arg_min({{'customer': {CUSTOMER}, 'type': type}}, (turn, arrived_at, delivery, row)) AS first
        FROM revised GROUP BY event_id;
        CREATE TEMP TABLE torn AS
        SELECT delivery, row, '{RejectionReason.CONFLICTING_REVISION}' AS reason
        FROM revised JOIN identity USING (event_id)
        WHERE turn = 1 AND ({CUSTOMER} <> first.customer OR type <> first.type);
        CREATE TEMP VIEW admitted_now AS SELECT * FROM single ANTI JOIN torn USING (delivery, row);
        CREATE TEMP VIEW quarantined_now AS
        SELECT {names}, reason, content FROM staged WHERE reason IS NOT NULL
        UNION ALL SELECT {names}, verdict.reason, NULL
        FROM candidate JOIN (FROM doubled UNION ALL FROM torn) AS verdict USING (delivery, row)
        UNION ALL SELECT {names}, '{RejectionReason.UNKNOWN_CUSTOMER}', NULL FROM waiting_now WHERE delivery = {number};
        """  # noqa: S608 - names of the schema and numbers of ours; paths are quoted
    )


def _parquet(paths: Sequence[Path]) -> str:
    quoted = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{quoted}], hive_partitioning = false)"
