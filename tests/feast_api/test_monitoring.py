"""Feast's monitoring: what `feast monitor run` counts is the home's, and its results lie there."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from feast.cli import monitor
from feast.feature_logging import FeatureServiceLoggingSource
from feast.monitoring.monitoring_service import MonitoringService

from feature_repo.files.parquet_tables import append_table
from feature_repo.stores.feast_patches.faults import install_patches
from feature_repo.stores.feast_patches.refusals import _Failed
from tests.support.feast_shop import ago


def figures(shop, **asked):
    found = MonitoringService(shop.reopen()).get_feature_metrics(project="shop", **asked)
    return {(each["feature_view_name"], each["feature_name"]): each for each in found}


def test_every_feature_is_counted_and_kept_below_the_home(shop):
    told = MonitoringService(shop.store).auto_compute(project="shop")
    assert (told["computed_feature_views"], told["computed_features"]) == (2, 5 * 5)
    found = figures(shop, granularity="quarterly")
    visits = found["visits", "visits"]
    assert (visits["row_count"], visits["null_count"], visits["min_val"], visits["max_val"]) == (6, 0, 1.0, 11.0)
    spend = found["visits", "spend"]
    assert (spend["null_count"], spend["mean"]) == (1, pytest.approx((1.5 + 1.5 + 4 + 9 + 8) / 5))
    note = found["visits", "note"]
    assert {each["value"]: each["count"] for each in note["histogram"]["values"]} == dict.fromkeys(
        ["first", "corrected", "only", "expired", "late"], 1
    )
    assert found["standing", "balance"]["max_event_timestamp"].startswith(ago(30).strftime("%Y-%m-%dT%H:%M:%S"))
    assert (shop.home / "feast_monitoring").is_dir()
    assert not list((shop.home.parent / "repository").iterdir())


def test_a_list_is_a_row_and_its_elements_the_values(shop):
    MonitoringService(shop.store).auto_compute(project="shop")
    days = figures(shop, granularity="quarterly")["visits", "days"]
    assert (days["row_count"], days["null_count"], days["min_val"], days["max_val"]) == (6, 1, 1.0, 9.0)
    assert sum(days["histogram"]["counts"]) == 6


def test_what_is_no_finite_number_is_counted_as_none(shop):
    rows = pd.DataFrame(
        {"account_id": [7, 8], "event_timestamp": ago(2), "created_timestamp": ago(2), "days": [[], []]}
    )
    rows = rows.assign(visits=1, spend=[float("nan"), float("inf")], note="x")
    append_table(shop.home, "visits", "odd", rows)
    MonitoringService(shop.store).auto_compute(project="shop", feature_view_name="visits")
    assert figures(shop, granularity="quarterly")["visits", "spend"]["max_val"] == 9.0


def test_a_range_of_dates_is_counted_alone(shop):
    told = MonitoringService(shop.store).compute_metrics(
        project="shop", feature_view_name="visits", start_date=ago(310).date(), end_date=ago(290).date()
    )
    assert told["computed_features"] == 4
    assert figures(shop, granularity="daily")["visits", "visits"]["row_count"] == 1


def test_a_baseline_is_set_once(shop):
    first = MonitoringService(shop.store).compute_baseline(project="shop")
    again = MonitoringService(shop.store).compute_baseline(project="shop")
    assert (first["computed_features"], again["computed_features"]) == (5, 0)


def test_a_view_whose_table_has_no_file_is_passed_over(shop):
    for part in (shop.home / "offline" / "balances").iterdir():
        part.unlink()
    told = MonitoringService(shop.store).auto_compute(project="shop")
    assert told["computed_feature_views"] == 1
    assert MonitoringService(shop.store).compute_baseline(project="shop")["computed_features"] == 0


def test_logged_answers_are_counted(shop):
    service = shop.store.get_feature_service("spend_v1")
    schema = FeatureServiceLoggingSource(service, "shop").get_schema(shop.store.registry)
    row = {"account_id": 1, "__request_id": "r", "__log_timestamp": ago(3), "__log_date": ago(3).date()}
    row |= {"visits__visits": 4, "visits__spend": None}
    shop.store.write_logged_features(pa.Table.from_pylist([row], schema), service)
    told = MonitoringService(shop.store).auto_compute_log_metrics(project="shop")
    assert told["computed_feature_services"] == 1
    found = figures(shop, granularity="daily", data_source_type="log")
    assert (found["visits", "visits"]["max_val"], found["visits", "spend"]["null_count"]) == (4.0, 1)


def test_two_runs_at_once_lose_nothing(shop):
    stores = [shop.reopen(), shop.reopen()]
    runs = [
        threading.Thread(
            target=MonitoringService(store).auto_compute, kwargs={"project": "shop", "feature_view_name": view}
        )
        for store, view in zip(stores, ["visits", "standing"], strict=True)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert {view for view, _ in figures(shop, granularity="daily")} == {"visits", "standing"}


def test_a_run_that_is_stopped_leaves_the_results_as_they_were(shop, monkeypatch):
    MonitoringService(shop.store).auto_compute(project="shop")
    kept = {file.name: file.read_bytes() for file in (shop.home / "feast_monitoring").glob("*.parquet")}

    def half(table, path):
        Path(path).write_bytes(b"PAR1 and then the process was killed")
        raise KeyboardInterrupt

    monkeypatch.setattr("feast.infra.offline_stores.duckdb.pq.write_table", half)
    with pytest.raises(KeyboardInterrupt):
        MonitoringService(shop.store).auto_compute(project="shop")
    assert {file.name: file.read_bytes() for file in (shop.home / "feast_monitoring").glob("*.parquet")} == kept
    assert not list((shop.home / "feast_monitoring").glob(".tmp-*"))


@pytest.fixture
def command(shop, monkeypatch):
    """`feast monitor run`, in this process."""
    for name in ("_run_batch_monitoring", "_run_log_monitoring"):
        monkeypatch.setattr(monitor, name, getattr(monitor, name))  # as it was, afterwards
    install_patches()
    monkeypatch.setattr(monitor, "create_feature_store", lambda _context: shop.store)
    return lambda *options: CliRunner().invoke(monitor.monitor_cmd, ["run", *options], prog_name="feast monitor")


@pytest.mark.parametrize(
    "options", [[], ["--set-baseline"], ["--start-date", "2020-01-01", "-s", "spend_v1"]], ids=" ".join
)
def test_the_command_fails_where_a_view_failed_after_it_counted_the_others(shop, command, options):
    (part,) = (shop.home / "offline" / "visits").glob("*.parquet")
    part.write_bytes(b"PAR1 damaged PAR1")
    done = command("--source-type", "all", *options)
    assert done.exit_code == 1, done.output
    assert "Error: no figures of visits; the log above says why" in done.output
    assert "Feature views computed: 1" in done.output
    assert not [each for each in logging.getLogger("feast.monitoring.monitoring_service").handlers if each.level]


def test_a_view_that_failed_counts_whatever_the_log_level(shop, command):
    """`feast --log-level CRITICAL` sets it on the root and on each logger of Feast's."""
    log = logging.getLogger("feast.monitoring.monitoring_service")
    (part,) = (shop.home / "offline" / "visits").glob("*.parquet")
    part.write_bytes(b"PAR1 damaged PAR1")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        done = command()
        assert log.level == logging.CRITICAL
    finally:
        log.setLevel(before)
    assert (done.exit_code, "Error: no figures of visits; the log above" in done.output) == (1, True), done.output


@pytest.mark.parametrize(("arguments", "name"), [(("visits",), "visits"), ((), "Failed to compute %s")])
def test_an_error_without_arguments_counts_by_its_text(arguments, name):
    failed = _Failed()
    failed.handle(logging.LogRecord("feast", logging.ERROR, __file__, 1, "Failed to compute %s", arguments, None))
    assert failed.names == [name]


def test_logs_between_dates_need_the_name_of_a_service(command):
    for kind in ("log", "all"):
        done = command("--source-type", kind, "--start-date", "2020-01-01")
        assert (done.exit_code, "--feature-service is required" in done.output) == (2, True), done.output


def test_the_command_succeeds_where_every_view_has_figures(command):
    done = command("--source-type", "all")
    assert (done.exit_code, "Feature views computed: 2" in done.output) == (0, True), done.output
