"""What "now" may be, for every flow that takes one."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
from prefect import Flow

from configs.settings import PROJECT_ROOT
from feature_repo.clocks import CLOCKS_DIFFER
from flows.pipeline.policy import InstantInFutureError, resolve_now

AS_OF = (
    "deploy",
    "evaluate",
    "freshness",
    "land",
    "lifecycle",
    "materialize",
    "monitor",
    "refresh",
    "retrain",
    "score_base",
    "train",
)
"""Names of the flows that take an instant."""
HOUR = timedelta(hours=1)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    mask = os.umask(0o077)
    yield tmp_path
    os.umask(mask)


@functools.cache
def flows():
    """Name -> flow, of all modules: they are loaded at the first test that needs them."""
    modules = sorted(path.stem for path in (PROJECT_ROOT / "flows" / "pipeline").glob("[a-z]*.py"))
    return {
        found.name: found
        for module in modules
        for found in vars(importlib.import_module(f"flows.pipeline.{module}")).values()
        if isinstance(found, Flow)
    }


@pytest.mark.slow
def test_most_flows_take_an_instant():
    assert {name for name, flow in flows().items() if "now" in inspect.signature(flow.fn).parameters} == set(AS_OF)
    assert set(flows()) - set(AS_OF) == {"build_features", "sweep"}


@pytest.mark.slow
@pytest.mark.parametrize("name", AS_OF)
def test_no_flow_works_as_of_the_future(home, name):
    with pytest.raises(InstantInFutureError, match="5 minutes after this machine's clock"):
        flows()[name].fn(now=datetime.now(UTC) + HOUR)
    assert list(home.iterdir()) == []


def test_the_past_the_present_and_what_clocks_differ_by_are_fine():
    before = datetime.now(UTC)
    assert before <= resolve_now(None) <= datetime.now(UTC)
    ahead = before + CLOCKS_DIFFER
    assert resolve_now(ahead) == ahead
    old = datetime(2025, 1, 31, 11, tzinfo=timezone(5 * HOUR))
    assert resolve_now(old).isoformat() == "2025-01-31T06:00:00+00:00"


def test_the_time_zone_does_not_hide_the_future():
    with pytest.raises(InstantInFutureError):
        resolve_now((datetime.now(UTC) + HOUR).astimezone(timezone(-10 * HOUR)))
