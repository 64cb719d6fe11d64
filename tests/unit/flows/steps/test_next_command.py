"""The next command of a home: the first one of the way that is not done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.steps.next_command import Progress, next_command

DONE = Progress(
    damaged=False,
    refused=False,
    snapshots=3,
    inbox_waits=False,
    built=True,
    registered=True,
    bundles=1,
    champion=True,
    snapshots_since=0,
    materialized=True,
    stale=False,
    serving=True,
    trial=False,
)


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({}, "churn monitor"),
        ({"serving": False}, "churn serve"),
        ({"trial": True}, "churn rollout"),
        ({"snapshots_since": 1}, "churn train"),
        ({"stale": True}, "churn ingest --csv PATH --as-of YYYY-MM-DD"),
        ({"materialized": False, "snapshots_since": 1}, "churn materialize"),
        ({"champion": False, "bundles": 0, "materialized": False}, "churn train"),
        ({"champion": False}, "churn promote"),
        ({"registered": False, "champion": False, "bundles": 0}, "churn apply"),
        ({"built": False, "registered": False}, "churn build-features"),
        ({"snapshots": 0, "registered": False}, "churn ingest --csv PATH --as-of YYYY-MM-DD"),
        ({"inbox_waits": True, "snapshots": 0}, "prefect deployment run refresh/nightly"),
        ({"refused": True, "inbox_waits": True}, ""),
        ({"damaged": True, "built": False}, ""),
    ],
)
def test_the_first_step_that_is_not_done_comes_next(changes, command):
    found = next_command(replace(DONE, **changes))
    assert found.command == command
    assert found.why
