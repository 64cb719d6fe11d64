import hashlib
import json
from datetime import UTC, date, datetime

import pytest
from pandas.testing import assert_frame_equal

from feature_repo.contract import STORED
from feature_repo.files.locks import publish_lock
from feature_repo.raw.snapshots.publication import (
    SCHEMA_VERSION,
    SnapshotDamagedError,
    SnapshotExistsError,
    SnapshotManifest,
    SnapshotTooEarlyError,
    land_raw,
    live_version,
    publish_snapshot,
    published_snapshots,
    read_snapshot,
    snapshot_history,
    snapshot_versions,
)
from feature_repo.raw.snapshots.telco_csv import normalise
from tests.support.single_extract import simulate_snapshot, write_csv

MARCH = date(2024, 3, 1)
APRIL = date(2024, 4, 1)
AT = datetime(2024, 3, 1, 6, tzinfo=UTC)


@pytest.fixture
def offer(tmp_path):
    """Land and publish the simulated rows of a seed."""

    def do(seed, as_of=MARCH, *, replace=False, **options):
        rows = simulate_snapshot(20, seed)
        write_csv(rows, tmp_path / f"extract{seed}.csv")
        return publish_snapshot(
            tmp_path,
            as_of,
            normalise(rows),
            rows.head(0),
            raw=land_raw(tmp_path, tmp_path / f"extract{seed}.csv", as_of),
            time="observed",
            event_at=AT,
            created_at=AT,
            ingested_at=AT,
            replace=replace,
            extra_files={"gate.json": b"{}"},
            **options,
        )

    return do


def _files(home):
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())


def test_the_raw_file_is_kept_as_it_came_with_its_sha256(tmp_path):
    (tmp_path / "Kunden März.csv").write_bytes(b"\xef\xbb\xbfany\r\nbytes")
    raw = land_raw(tmp_path, tmp_path / "Kunden März.csv", MARCH)
    digest = hashlib.sha256(b"\xef\xbb\xbfany\r\nbytes").hexdigest()
    assert raw.path == tmp_path / "raw" / "2024-03-01" / f"{digest[:12]}.csv"
    assert raw.path.read_bytes() == b"\xef\xbb\xbfany\r\nbytes"
    assert json.loads(raw.path.with_suffix(".json").read_text()) == {
        "snapshot_date": "2024-03-01",
        "sha256": digest,
        "bytes": 13,
        "source_name": "Kunden März.csv",
    }


def test_landing_twice_is_landing_once_and_heals_a_damaged_copy(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a")
    raw = land_raw(tmp_path, tmp_path / "a.csv", MARCH)
    before = raw.path.stat().st_mtime_ns
    assert land_raw(tmp_path, tmp_path / "a.csv", MARCH) == raw
    assert raw.path.stat().st_mtime_ns == before
    raw.path.write_bytes(b"spoilt")
    land_raw(tmp_path, tmp_path / "a.csv", MARCH)
    assert raw.path.read_bytes() == b"a"


def test_publish_then_read_gives_the_same_rows(tmp_path, offer):
    done = offer(1)
    manifest = done.manifest
    assert done.fresh
    assert_frame_equal(read_snapshot(tmp_path, manifest), normalise(simulate_snapshot(20, 1)))
    assert published_snapshots(tmp_path) == snapshot_versions(tmp_path, MARCH) == [manifest]
    assert manifest.path == f"processed/2024-03-01/versions/1-{manifest.digest[:12]}/snapshot.parquet"
    assert (manifest.rows, manifest.version, manifest.replaces) == (20, 1, None)
    assert manifest.source_sha256 == hashlib.sha256((tmp_path / "extract1.csv").read_bytes()).hexdigest()


def test_a_manifest_is_sorted_json_that_reads_back(offer):
    manifest = offer(1).manifest
    told = json.loads(manifest.to_json())
    assert list(told) == sorted(told)
    assert told["created_at"] == "2024-03-01T06:00:00+00:00"
    assert SnapshotManifest.from_json(manifest.to_json()) == manifest


def test_the_same_source_again_changes_nothing(tmp_path, offer):
    first = offer(1)
    before = _files(tmp_path)
    for replace in (False, True):
        again = offer(1, replace=replace)
        assert (again.manifest, again.fresh) == (first.manifest, False)
    assert _files(tmp_path) == before


def test_other_content_is_refused_unless_it_replaces_and_the_old_is_kept(tmp_path, offer):
    old = offer(1).manifest
    with pytest.raises(SnapshotExistsError, match="2024-03-01 with other content is live") as refused:
        offer(2)
    assert "--replace" in refused.value.hint
    assert published_snapshots(tmp_path) == [old]
    new = offer(2, replace=True).manifest
    assert (new.version, new.replaces) == (2, old.digest)
    assert published_snapshots(tmp_path) == [new]
    assert snapshot_versions(tmp_path, MARCH) == [old, new]
    assert_frame_equal(read_snapshot(tmp_path, old), normalise(simulate_snapshot(20, 1)))


def test_going_back_to_the_old_content_is_a_third_version(tmp_path, offer):
    offer(1)
    offer(2, replace=True)
    back = offer(1, replace=True)
    assert (back.fresh, back.manifest.version) == (True, 3)
    assert [manifest.version for manifest in snapshot_versions(tmp_path, MARCH)] == [1, 2, 3]


def test_published_is_oldest_first_and_nothing_comes_before_the_first(tmp_path, offer):
    offer(1, date(2024, 6, 1))
    with pytest.raises(SnapshotTooEarlyError, match="2024-05-31 is before the first snapshot, 2024-06-01"):
        offer(2, date(2024, 5, 31))
    offer(3, date(2024, 8, 1))
    offer(4, date(2024, 7, 1))
    assert [manifest.snapshot_date.month for manifest in published_snapshots(tmp_path)] == [6, 7, 8]


def test_history_is_every_version_in_the_order_of_publication(tmp_path, offer):
    assert snapshot_history(tmp_path) == []
    offer(1, MARCH)
    offer(2, date(2024, 5, 1))
    offer(3, APRIL, late=True)
    offer(4, MARCH, replace=True)
    offer(4, MARCH)  # the same again is no publication
    offer(5, date(2024, 6, 1))
    assert [(m.sequence, m.snapshot_date.month, m.version, m.late) for m in snapshot_history(tmp_path)] == [
        (1, 3, 1, False),
        (2, 5, 1, False),
        (3, 4, 1, True),
        (4, 3, 2, False),
        (5, 6, 1, False),
    ]


def test_some_columns_can_be_read_alone_and_are_checked_as_all(tmp_path, offer):
    manifest = offer(1).manifest
    assert read_snapshot(tmp_path, manifest, ["churned"]).columns.tolist() == ["churned"]
    (tmp_path / manifest.path).write_bytes(b"PAR1")
    with pytest.raises(SnapshotDamagedError):
        read_snapshot(tmp_path, manifest, ["churned"])


def test_an_empty_home_has_nothing(tmp_path):
    assert published_snapshots(tmp_path) == []
    assert snapshot_versions(tmp_path, MARCH) == []
    assert live_version(tmp_path, MARCH) is None


def test_leftovers_of_a_killed_run_are_unseen_and_swept(tmp_path, offer):
    live = offer(1).manifest
    day = tmp_path / "processed" / "2024-03-01"
    whole = day / "versions" / "2-0123456789ab"
    whole.mkdir()
    (whole / "manifest.json").write_text(live.to_json().replace('"version": 1', '"version": 2'))
    (day / "versions" / ".tmp-x").mkdir()
    (day / "versions" / ".tmp-x" / "manifest.json").write_text("{")
    (day / ".tmp-y").write_text("half a man")
    (tmp_path / "raw" / "2024-03-01" / ".tmp-z").write_text("half a file")
    assert snapshot_versions(tmp_path, MARCH) == published_snapshots(tmp_path) == [live]
    offer(2, APRIL)
    assert not [name for name in _files(tmp_path) if ".tmp-" in name or "0123456789ab" in name]
    assert snapshot_versions(tmp_path, MARCH) == [live]


def test_a_changed_or_missing_file_is_refused(tmp_path, offer):
    manifest = offer(1).manifest
    path = tmp_path / manifest.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SnapshotDamagedError, match="missing or changed"):
        read_snapshot(tmp_path, manifest)
    path.unlink()
    with pytest.raises(SnapshotDamagedError, match="missing or changed"):
        read_snapshot(tmp_path, manifest)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1'])
def test_an_unreadable_manifest_is_named(tmp_path, offer, text):
    offer(1)
    (tmp_path / "processed" / "2024-03-01" / "manifest.json").write_text(text)
    with pytest.raises(SnapshotDamagedError, match=r"is no manifest|lacks 'snapshot_date'"):
        published_snapshots(tmp_path)


def test_who_holds_the_lock_may_publish_under_it(tmp_path):
    rows = simulate_snapshot(20, 5)
    write_csv(rows, tmp_path / "extract5.csv")
    raw = land_raw(tmp_path, tmp_path / "extract5.csv", MARCH)
    with publish_lock(tmp_path) as held:
        done = publish_snapshot(
            tmp_path,
            MARCH,
            normalise(rows),
            rows.head(0),
            raw=raw,
            time="declared",
            event_at=AT,
            created_at=AT,
            ingested_at=AT,
            replace=False,
            extra_files={},
            held=held,
        )
    assert done.fresh


def test_the_schema_version_moves_with_the_contract():
    """If this fails, the snapshot's columns changed: raise SCHEMA_VERSION and pin the new columns here."""
    columns = [(feature.name, feature.dtype) for feature in STORED]
    pinned = hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:12]
    assert (SCHEMA_VERSION, pinned) == (1, "ea395919eb8e")
