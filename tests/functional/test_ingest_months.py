"""Several extracts: again, replaced, the next month, a month late."""

import json
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest
from click.testing import CliRunner

from configs.settings import load_settings
from feature_repo.files.atomic_writes import file_sha256
from feature_repo.raw.clock import ClockAheadError
from feature_repo.raw.snapshots.changes import SnapshotChanges
from feature_repo.raw.snapshots.origin import MixedHomeError
from feature_repo.raw.snapshots.publication import (
    SnapshotExistsError,
    SnapshotTooEarlyError,
    origin_of,
    published_snapshots,
    read_snapshot,
    snapshot_versions,
)
from flows.cli.commands import cli
from flows.steps.inbox import accept
from flows.steps.ingest_events import ingest_events
from flows.steps.ingest_snapshot import ingest_snapshot
from monitoring.quality_report import GateFailedError
from tests.support.event_rows import event, write_lines
from tests.support.single_extract import simulate_snapshot, write_csv
from tests.support.world_manifest import write_world_json

MARCH, APRIL, MAY = date(2024, 3, 1), date(2024, 4, 1), date(2024, 5, 1)
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def extract(tmp_path):
    """Write an extract of the same customers, with other values for each seed."""

    def write(seed, customers=300):
        path = tmp_path / f"seed{seed}_{customers}.csv"
        rows = simulate_snapshot(customers, seed)
        write_csv(rows.assign(customerID=[f"{number:04d}-ABCDE" for number in range(customers)]), path)
        return path

    return write


def test_the_same_file_again_is_no_work_and_changes_nothing(settings, extract):
    first = ingest_snapshot(settings, extract(1), MARCH, ingested_at=NOW)
    before = {path: path.stat().st_mtime_ns for path in settings.home.rglob("*") if path.is_file()}
    for replace in (False, True):
        again = ingest_snapshot(settings, extract(1), MARCH, ingested_at=NOW + timedelta(days=1), replace=replace)
        assert not again.fresh
        assert (again.manifest, again.gate, again.report_html) == (first.manifest, first.gate, first.report_html)
    assert {path: path.stat().st_mtime_ns for path in settings.home.rglob("*") if path.is_file()} == before


def test_other_content_needs_replace_which_keeps_the_old_and_wins_the_tie(settings, extract):
    old = ingest_snapshot(settings, extract(1), MARCH, ingested_at=NOW).manifest
    with pytest.raises(SnapshotExistsError) as refused:
        ingest_snapshot(settings, extract(2), MARCH, ingested_at=NOW)
    assert "--replace" in refused.value.hint
    new = ingest_snapshot(settings, extract(2), MARCH, ingested_at=NOW, replace=True).manifest
    assert published_snapshots(settings.home) == [new]
    assert snapshot_versions(settings.home, MARCH) == [old, new]
    assert len(read_snapshot(settings.home, old)) == 300
    assert (new.time, new.event_at) == ("declared", old.event_at)
    assert new.created_at - old.created_at == timedelta(microseconds=1)


def test_from_the_second_date_on_time_is_observed(settings, extract):
    ingest_snapshot(settings, extract(1), MARCH, ingested_at=NOW)
    april = ingest_snapshot(settings, extract(2), APRIL, ingested_at=NOW).manifest
    assert (april.time, april.event_at) == ("observed", datetime(2024, 4, 1, tzinfo=UTC))
    assert april.event_at <= april.created_at
    corrected = ingest_snapshot(settings, extract(3), APRIL, ingested_at=NOW, replace=True).manifest
    assert corrected.created_at >= NOW, "nobody knew the correction before it came"


def test_after_an_extract_of_a_clock_that_was_ahead_none_is_published_to_be_hidden(settings, extract):
    ingest_snapshot(settings, extract(1), MARCH, ingested_at=NOW)
    ingest_snapshot(settings, extract(2), APRIL.replace(year=2031), ingested_at=NOW.replace(year=2031))
    with pytest.raises(ClockAheadError, match="known from 2031-04-01"):
        ingest_snapshot(settings, extract(3), APRIL, ingested_at=NOW)
    assert [manifest.snapshot_date for manifest in published_snapshots(settings.home)] == [
        MARCH,
        APRIL.replace(year=2031),
    ]


def test_an_extract_may_be_landed_as_of_the_past_although_others_came_since(settings, extract):
    ingest_snapshot(settings, extract(1), MARCH, ingested_at=NOW)
    april = ingest_snapshot(settings, extract(2), APRIL, ingested_at=NOW).manifest
    then = datetime(2024, 3, 5, tzinfo=UTC)
    corrected = ingest_snapshot(settings, extract(3), MARCH, ingested_at=then, clock=NOW, replace=True).manifest
    assert corrected.ingested_at == then
    assert corrected.created_at > april.created_at, "no hindsight"


def test_a_month_late_is_taken_and_one_before_the_first_is_not(settings, extract):
    ingest_snapshot(settings, extract(1), MARCH, ingested_at=NOW)
    ingest_snapshot(settings, extract(3), MAY, ingested_at=NOW)
    late = ingest_snapshot(settings, extract(2), APRIL, ingested_at=NOW).manifest
    assert (late.time, late.ingested_at, late.late) == ("observed", NOW, True)
    assert late.created_at >= NOW, "nobody knew it when May was scored"
    assert not any(manifest.late for manifest in published_snapshots(settings.home) if manifest.snapshot_date != APRIL)
    with pytest.raises(SnapshotTooEarlyError, match="2024-02-29 is before the first snapshot, 2024-03-01"):
        ingest_snapshot(settings, extract(4), date(2024, 2, 29), ingested_at=NOW)
    assert [manifest.snapshot_date for manifest in published_snapshots(settings.home)] == [MARCH, APRIL, MAY]


@pytest.mark.parametrize(("rows", "passes"), [(149, False), (150, True), (600, True), (601, False)])
def test_the_volume_is_judged_by_the_last_date_before(settings, extract, rows, passes):
    ingest_snapshot(settings, extract(1), MARCH, ingested_at=NOW)
    if passes:
        # Half of the customers are missing in the smaller one, which is another rule's.
        landing = ingest_snapshot(
            settings, extract(2, rows), APRIL, ingested_at=NOW, accepted_by=("ann", "half were sold")
        )
        assert landing.manifest.rows == rows
        return
    with pytest.raises(GateFailedError, match=rf"rule volume, found {rows}, expected 150 to 600"):
        ingest_snapshot(settings, extract(2, rows), APRIL, ingested_at=NOW)


def test_the_first_has_an_own_least_size(tmp_path, extract):
    settings = load_settings(home=tmp_path / "home")
    with pytest.raises(GateFailedError, match="rule volume, found 99, expected 100 or more"):
        ingest_snapshot(settings, extract(1, 99), MARCH, ingested_at=NOW)


def billed(rows):
    """The rows with the totals that tenure and price make: the gate's bounds are not what is tested here."""
    total = rows["tenure"].astype(int) * rows["MonthlyCharges"].astype(float)
    return rows.assign(TotalCharges=total.map("{:.2f}".format).where(total > 0, " "))


def moved(extract_rows, *, vanish=0, leave=0, join=0):
    """The rows a month later: the first vanish, the next leave, new ones join, who left before is gone."""
    stayed = extract_rows[extract_rows["Churn"] == "No"].iloc[vanish:].copy()
    stayed.iloc[:leave, stayed.columns.get_loc("Churn")] = "Yes"
    fresh = billed(simulate_snapshot(join + 1, seed=99).head(join).assign(Churn="No"))
    return pd.concat([stayed, fresh], ignore_index=True)


@pytest.fixture
def quiet():
    """300 customers, and 20 behind them that have left: the gate wants some."""
    return billed(simulate_snapshot(320, seed=1).assign(Churn=["No"] * 300 + ["Yes"] * 20))


@pytest.fixture
def write(tmp_path):
    def to(rows, name):
        write_csv(rows, tmp_path / name)
        return tmp_path / name

    return to


def test_movements_are_counted_kept_and_there_again_when_the_file_comes_again(settings, quiet, write):
    first = ingest_snapshot(settings, write(quiet, "march.csv"), MARCH, ingested_at=NOW)
    assert str(first.movements) == "300 customers, the first snapshot"
    april = moved(quiet, vanish=15, leave=40, join=7)
    landing = ingest_snapshot(settings, write(april, "april.csv"), APRIL, ingested_at=NOW)
    assert str(landing.movements) == "252 customers; since 2024-03-01.v1: 7 joined, 40 left, 15 vanished, 0 returned"
    assert landing.finding is None, "15 of 300 is the limit itself"
    beside = (settings.home / landing.manifest.path).with_name("movements.json")
    assert SnapshotChanges.from_json(beside.read_text()) == landing.movements
    again = ingest_snapshot(settings, write(april, "april.csv"), APRIL, ingested_at=NOW)
    assert (again.fresh, again.movements) == (False, landing.movements)
    # Who vanished comes back, as does one who had left.
    back = pd.concat([moved(april, leave=10), quiet.iloc[[0, 1, 20]]], ignore_index=True)
    may = ingest_snapshot(settings, write(back, "may.csv"), MAY, ingested_at=NOW)
    assert str(may.movements) == "245 customers; since 2024-04-01.v1: 0 joined, 10 left, 0 vanished, 3 returned"


def test_too_many_vanished_are_a_loud_finding_and_no_refusal(settings, quiet, write, caplog):
    ingest_snapshot(settings, write(quiet, "march.csv"), MARCH, ingested_at=NOW)
    landing = ingest_snapshot(settings, write(moved(quiet, vanish=16, leave=10), "april.csv"), APRIL, ingested_at=NOW)
    assert landing.finding is not None
    assert "16 of 300 customers (5.3%) vanished since 2024-03-01.v1" in landing.finding
    assert landing.finding in caplog.text
    assert not set(quiet["customerID"].head(16)) & set(landing.finding.split()), "no customer is named"
    assert [manifest.snapshot_date for manifest in published_snapshots(settings.home)] == [MARCH, APRIL]


def test_the_command_tells_movements_and_findings(tmp_path, quiet, write, monkeypatch, caplog):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    run = CliRunner()
    one = run.invoke(cli, ["ingest", "--csv", str(write(quiet, "march.csv")), "--as-of", "2024-03-01"])
    assert "movements: 300 customers, the first snapshot" in one.stdout
    april = write(moved(quiet, vanish=30, leave=10), "april.csv")
    two = run.invoke(cli, ["ingest", "--csv", str(april), "--as-of", "2024-04-01"])
    assert two.exit_code == 0, two.output
    told = "movements: 260 customers; since 2024-03-01.v1: 0 joined, 10 left, 30 vanished, 0 returned"
    assert told in two.stdout.splitlines()
    assert "finding: 30 of 300 customers (10.0%) vanished" in caplog.text


def churn(*words):
    return CliRunner().invoke(cli, list(words), catch_exceptions=True)


@pytest.fixture
def sold(settings, quiet, write, monkeypatch):
    """A home with March, and an extract of April in which 130 of 300 customers are missing."""
    monkeypatch.setenv("CHURN_HOME", str(settings.home))
    ingest_snapshot(settings, write(quiet, "march.csv"), MARCH, ingested_at=NOW)
    return write(moved(quiet, vanish=130, leave=20, join=60), "april.csv")


def test_an_extract_of_another_base_is_refused_with_the_ways_out(settings, sold):
    with pytest.raises(GateFailedError) as refused:
        ingest_snapshot(settings, sold, APRIL, ingested_at=NOW)
    assert refused.value.exit_code == 3
    assert "rule customers_vanished, 130 of 300 customers (43.3%) vanished since 2024-03-01.v1" in refused.value.message
    for way in ("--accept-vanished --why TEXT", "churn inbox accept FILE --why TEXT", "data.vanished_share_limit"):
        assert way in refused.value.hint
    assert [each.snapshot_date for each in published_snapshots(settings.home)] == [MARCH]
    (report,) = (settings.home / "reports" / "gate").glob("2024-04-01-*.html")
    assert "customers_vanished" in report.read_text()


def test_the_bound_is_a_setting(settings, sold):
    wider = settings.model_copy(update={"data": settings.data.model_copy(update={"vanished_share_limit": 0.5})})
    assert ingest_snapshot(wider, sold, APRIL, ingested_at=NOW).manifest.vanished_accepted is None


def test_a_person_accepts_it_on_the_command_line_and_the_manifest_says_who_and_why(settings, sold):
    words = ("ingest", "--csv", str(sold), "--as-of", "2024-04-01")
    for halves in (("--accept-vanished",), ("--why", "sold"), ("--accept-vanished", "--why", " ")):
        assert churn(*words, *halves).exit_code == 2
    done = churn(*words, "--accept-vanished", "--why", "the west was sold")
    assert done.exit_code == 0, done.output
    accepted = published_snapshots(settings.home)[-1].vanished_accepted
    assert (accepted.sha256, accepted.snapshot_date, accepted.why) == (file_sha256(sold), APRIL, "the west was sold")
    assert f"vanished customers accepted by {accepted.who}: the west was sold" in done.stdout
    gate = (settings.home / published_snapshots(settings.home)[-1].path).with_name("gate.html").read_text()
    assert "accepted by" in gate
    # Without need nothing is recorded.
    assert (
        churn(*words[:2], str(sold), "--as-of", "2024-05-01", *words[5:], "--accept-vanished", "--why", "x").exit_code
        == 0
    )
    assert published_snapshots(settings.home)[-1].vanished_accepted is None


def test_an_extract_of_the_inbox_is_accepted_by_its_content(settings, quiet, write, sold):
    file = settings.home / "inbox" / "telco_2024-04-01.csv"
    file.parent.mkdir()
    file.write_bytes(sold.read_bytes())
    for name in ("telco_2024-05-01.csv", str(sold), "../april.csv"):
        assert churn("inbox", "accept", name, "--why", "sold").exit_code != 0
    assert churn("inbox", "accept", file.name, "--why", " ").exit_code == 2
    accept(settings.home, file.name, who="ann", why="sold", now=NOW)
    # A changed file is not the accepted one, and neither is this one of another date.
    changed = write(moved(quiet, vanish=140, leave=20, join=60), "changed.csv")
    for csv, day in ((changed, APRIL), (file, MAY)):
        with pytest.raises(GateFailedError, match="customers_vanished"):
            ingest_snapshot(settings, csv, day, ingested_at=NOW)
    accepted = ingest_snapshot(settings, file, APRIL, ingested_at=NOW).manifest.vanished_accepted
    assert (accepted.who, accepted.why) == ("ann", "sold")


def raw_copies(home, file):
    """Files below raw/ that hold the file's content, its name or its sha256."""
    sha256 = file_sha256(file)
    words = (file.read_bytes(), file.name.encode(), sha256.encode())
    files = [path for path in (home / "raw").rglob("*") if path.is_file()]
    return [path for path in files if path.stem in sha256 or any(word in path.read_bytes() for word in words)]


def test_simulated_and_real_files_are_not_mixed(settings, extract, tmp_path):
    march, april, real = extract(1), extract(2), tmp_path / "elsewhere" / "real.csv"
    write_csv(simulate_snapshot(300, 5), real)
    write_world_json(march, april)
    assert ingest_snapshot(settings, march, MARCH, ingested_at=NOW).manifest.origin == "simulated"
    with pytest.raises(MixedHomeError, match=r"real\.csv holds real customers, and .* simulated ones") as refused:
        ingest_snapshot(settings, real, APRIL, ingested_at=NOW)
    assert "CHURN_HOME=" in refused.value.hint
    assert "world.json" in refused.value.hint
    assert raw_copies(settings.home, real) == []
    # A copy is recognised where there is no world.json: the home keeps the one that it saw.
    copy = settings.home / "inbox" / "telco_2024-04-01.csv"
    copy.parent.mkdir()
    copy.write_bytes(april.read_bytes())
    assert ingest_snapshot(settings, copy, APRIL, ingested_at=NOW).manifest.origin == "simulated"
    other = load_settings(home=tmp_path / "other")
    assert ingest_snapshot(other, real, MARCH, ingested_at=NOW).manifest.origin == "real"
    with pytest.raises(MixedHomeError, match="holds simulated customers"):
        ingest_snapshot(other, april, APRIL, ingested_at=NOW)
    assert [each.origin for each in published_snapshots(other.home)] == ["real"]


def test_a_home_of_an_earlier_version_gets_its_origin_from_its_first_file(settings, extract, tmp_path):
    march, april, real = extract(1), extract(2), tmp_path / "elsewhere" / "real.csv"
    write_csv(simulate_snapshot(300, 5), real)
    first = ingest_snapshot(settings, march, MARCH, ingested_at=NOW).manifest
    for path in settings.home.glob("processed/*/**/manifest.json"):
        told = json.loads(path.read_text())
        path.write_text(json.dumps({name: told[name] for name in told if name not in {"origin", "vanished_accepted"}}))
    assert (published_snapshots(settings.home)[0].origin, origin_of(settings.home)) == (None, "real")
    # The demo kept its worlds below the home; a world above the file at hand does as well.
    write_world_json(march, april)
    assert ingest_snapshot(settings, april, APRIL, ingested_at=NOW).manifest.origin == "simulated"
    assert origin_of(settings.home) == "simulated"
    with pytest.raises(MixedHomeError):
        ingest_snapshot(settings, real, MAY, ingested_at=NOW)
    # What is published already is no work, whatever it is.
    assert ingest_snapshot(settings, march, MARCH, ingested_at=NOW).manifest.digest == first.digest


def test_events_are_not_mixed_either(settings, extract, tmp_path):
    march = extract(1)
    events = write_lines(tmp_path / "events.jsonl", event(customer_id="0001-ABCDE", occurred="2024-03-02"))
    (tmp_path / "elsewhere").mkdir()
    real = write_lines(tmp_path / "elsewhere" / "real.jsonl", event(customer_id="0001-ABCDE", occurred="2024-03-02"))
    write_world_json(march, events)
    ingest_snapshot(settings, march, MARCH, ingested_at=NOW)
    assert ingest_events(settings, events, now=NOW).delivery.admitted == 1
    with pytest.raises(MixedHomeError, match=r"real\.jsonl holds real customers"):
        ingest_events(settings, real, now=NOW)
    assert raw_copies(settings.home, real) == []
    assert raw_copies(settings.home, events)
    folder = tmp_path / "elsewhere" / "real.parquet"
    folder.mkdir()
    pd.read_json(real, lines=True, convert_dates=False).to_parquet(folder / "part-0.parquet")
    with pytest.raises(MixedHomeError, match=r"real\.parquet holds real customers"):
        ingest_events(settings, folder, now=NOW)
    assert len(list((settings.home / "raw" / "events").iterdir())) == 2, "a copy and its note"
    assert not ingest_events(settings, events, now=NOW).fresh
