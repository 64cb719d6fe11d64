"""Several extracts: again, replaced, the next month, a month late."""

from datetime import UTC, date, datetime, timedelta

import pytest

from configs.settings import load_settings
from feature_repo.raw.publication import SnapshotExists, SnapshotTooEarly, published, read_snapshot, versions
from feature_repo.raw.simulator import simulate_snapshot, write_csv
from flows.land import ingest
from monitoring.quality import GateFailed

MARCH, APRIL, MAY = date(2024, 3, 1), date(2024, 4, 1), date(2024, 5, 1)
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def extract(tmp_path):
    def write(seed, customers=300):
        path = tmp_path / f"seed{seed}_{customers}.csv"
        write_csv(simulate_snapshot(customers, seed), path)
        return path

    return write


def test_the_same_file_again_is_no_work_and_changes_nothing(settings, extract):
    first = ingest(settings, extract(1), MARCH, ingested_at=NOW)
    before = {path: path.stat().st_mtime_ns for path in settings.home.rglob("*") if path.is_file()}
    for replace in (False, True):
        again = ingest(settings, extract(1), MARCH, ingested_at=NOW + timedelta(days=1), replace=replace)
        assert not again.fresh
        assert (again.manifest, again.gate, again.report_html) == (first.manifest, first.gate, first.report_html)
    assert {path: path.stat().st_mtime_ns for path in settings.home.rglob("*") if path.is_file()} == before


def test_other_content_needs_replace_which_keeps_the_old_and_wins_the_tie(settings, extract):
    old = ingest(settings, extract(1), MARCH, ingested_at=NOW).manifest
    with pytest.raises(SnapshotExists) as refused:
        ingest(settings, extract(2), MARCH, ingested_at=NOW)
    assert "--replace" in refused.value.hint
    new = ingest(settings, extract(2), MARCH, ingested_at=NOW, replace=True).manifest
    assert published(settings.home) == [new]
    assert versions(settings.home, MARCH) == [old, new]
    assert len(read_snapshot(settings.home, old)) == 300
    assert (new.time, new.event_at) == ("declared", old.event_at)
    assert new.created_at - old.created_at == timedelta(microseconds=1)


def test_from_the_second_date_on_time_is_observed(settings, extract):
    ingest(settings, extract(1), MARCH, ingested_at=NOW)
    april = ingest(settings, extract(2), APRIL, ingested_at=NOW).manifest
    assert (april.time, april.event_at) == ("observed", datetime(2024, 4, 1, tzinfo=UTC))
    assert april.event_at <= april.created_at
    corrected = ingest(settings, extract(3), APRIL, ingested_at=NOW, replace=True).manifest
    assert corrected.created_at >= NOW, "nobody knew the correction before it came"


def test_a_month_late_is_taken_and_one_before_the_first_is_not(settings, extract):
    ingest(settings, extract(1), MARCH, ingested_at=NOW)
    ingest(settings, extract(3), MAY, ingested_at=NOW)
    late = ingest(settings, extract(2), APRIL, ingested_at=NOW).manifest
    assert (late.time, late.ingested_at) == ("observed", NOW)
    with pytest.raises(SnapshotTooEarly, match="2024-02-29 lies before the first snapshot, 2024-03-01"):
        ingest(settings, extract(4), date(2024, 2, 29), ingested_at=NOW)
    assert [manifest.snapshot_date for manifest in published(settings.home)] == [MARCH, APRIL, MAY]


@pytest.mark.parametrize(("rows", "passes"), [(149, False), (150, True), (600, True), (601, False)])
def test_the_volume_is_judged_by_the_last_date_before(settings, extract, rows, passes):
    ingest(settings, extract(1), MARCH, ingested_at=NOW)
    if passes:
        assert ingest(settings, extract(2, rows), APRIL, ingested_at=NOW).manifest.rows == rows
        return
    with pytest.raises(GateFailed, match=rf"rule volume, found {rows}, expected 150 to 600"):
        ingest(settings, extract(2, rows), APRIL, ingested_at=NOW)


def test_the_first_has_an_own_least_size(tmp_path, extract):
    settings = load_settings(home=tmp_path / "home")
    with pytest.raises(GateFailed, match="rule volume, found 99, expected 100 or more"):
        ingest(settings, extract(1, 99), MARCH, ingested_at=NOW)
