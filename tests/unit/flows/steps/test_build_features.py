"""Published snapshots become Feast's rows: every version, once, never taken back."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from configs.settings import load_settings
from feature_repo.contract import CREATED_TIMESTAMP, CUSTOMER, EVENT_TIMESTAMP, LABEL, SOURCE, STORED
from feature_repo.raw.snapshots.publication import read_snapshot, snapshot_history
from feature_repo.raw.snapshots.timing import feature_rows
from flows.steps.build_features import NothingPublishedError, build_features
from tests.support.small_model import publish_month

D0, D1 = date(2026, 1, 31), date(2026, 3, 2)


@pytest.fixture
def settings(tmp_path):
    """Two months, the second of which was corrected."""
    home = tmp_path / "home"
    publish_month(home, D0, {"ann": "No", "bob": "No"})
    publish_month(home, D1, {"ann": "No", "bob": "Yes"})
    publish_month(home, D1, {"ann": "Yes", "bob": "Yes", "cy": "No"}, replace=True)
    return load_settings(home=home)


def parts(settings):
    return {path.name: path for path in (settings.home / "offline" / SOURCE).iterdir()}


def test_nothing_published_is_named_with_the_way_to_a_snapshot(tmp_path):
    with pytest.raises(NothingPublishedError, match="no snapshot is published") as refused:
        build_features(load_settings(home=tmp_path))
    assert "churn ingest" in refused.value.hint


def test_every_version_is_a_part_oldest_first(settings):
    assert build_features(settings) == ["2026-01-31.v1", "2026-03-02.v1", "2026-03-02.v2"]
    assert set(parts(settings)) == {"2026-01-31.v1.parquet", "2026-03-02.v1.parquet", "2026-03-02.v2.parquet"}


def test_a_part_holds_the_versions_rows_with_their_own_times_and_no_label(settings):
    build_features(settings)
    every = snapshot_history(settings.home)
    assert [(each.snapshot_date, each.version) for each in every] == [(D0, 1), (D1, 1), (D1, 2)]
    for manifest in every:
        rows = part(settings, manifest)
        snapshot = read_snapshot(settings.home, manifest)
        stayed = snapshot[~snapshot[LABEL]].reset_index(drop=True)
        expected = feature_rows(stayed, manifest.event_at, manifest.created_at)
        names = [feature.name for feature in STORED]
        values = rows[rows[names].notna().any(axis=1)]
        pd.testing.assert_frame_equal(values, expected, check_dtype=False)
        assert {str(rows[name].dtype) for name in names} <= {"boolean", "Int64", "Float64", "string"}
        # Who left is withdrawn: a row of nulls at the same instants.
        withdrawn = rows[rows[names].isna().all(axis=1)]
        assert set(withdrawn[CUSTOMER]) == set(snapshot[CUSTOMER]) - set(stayed[CUSTOMER])
        assert set(withdrawn[EVENT_TIMESTAMP]) <= {pd.Timestamp(manifest.event_at)}
        assert set(withdrawn[CREATED_TIMESTAMP]) <= {pd.Timestamp(manifest.created_at)}
        assert LABEL not in rows


def part(settings, manifest):
    return pd.read_parquet(parts(settings)[f"{manifest.snapshot_date}.v{manifest.version}.parquet"])


def test_a_correction_is_known_later_than_what_it_corrects(settings):
    build_features(settings)
    first, second = (pd.read_parquet(parts(settings)[f"2026-03-02.v{version}.parquet"]) for version in (1, 2))
    assert first[EVENT_TIMESTAMP].iloc[0] == second[EVENT_TIMESTAMP].iloc[0]
    assert first[CREATED_TIMESTAMP].iloc[0] < second[CREATED_TIMESTAMP].iloc[0]
    assert (set(first[CUSTOMER]), set(second[CUSTOMER])) == ({"ann", "bob"}, {"ann", "bob", "cy"})


def test_building_again_changes_no_byte(settings):
    build_features(settings)
    before = {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in parts(settings).items()}
    assert build_features(settings) == ["2026-01-31.v1", "2026-03-02.v1", "2026-03-02.v2"]
    assert {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in parts(settings).items()} == before


def test_a_run_killed_in_between_is_completed_by_the_next(settings):
    build_features(settings)
    whole = {name: path.read_bytes() for name, path in parts(settings).items()}
    parts(settings)["2026-03-02.v1.parquet"].unlink()
    (settings.home / "offline" / SOURCE / ".tmp-half").write_bytes(b"PAR1")
    build_features(settings)
    assert {name: path.read_bytes() for name, path in parts(settings).items() if name in whole} == whole
