"""A simulated world on disk: what the issue promises of it, file by file."""

import hashlib
import itertools
import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from xgboost import XGBClassifier

from feature_repo.events import EVENT_SCHEMA, parse_lines, validate_events
from feature_repo.raw.simulator import ground_truth
from feature_repo.raw.simulator.drift import SCENARIOS
from feature_repo.raw.simulator.event_arrays import LAG_DAYS_MAX
from feature_repo.raw.simulator.manifest import World, available_at
from feature_repo.raw.simulator.simulate import simulate
from feature_repo.raw.snapshots.telco_csv import CSV_COLUMNS, normalise, read_raw
from monitoring.quality import run_gate

CUSTOMERS = 3000
MONTHS = 6
DRIFT_MONTH = 4
START = date(2025, 1, 31)
FOLDS = StratifiedKFold(5, shuffle=True, random_state=0)


def simulated(out, *, customers=CUSTOMERS, months=MONTHS, seed=7, drift="none", jsonl=False):
    return simulate(out, customers, months, seed, START, drift, DRIFT_MONTH, jsonl=jsonl)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("world") / "none", jsonl=True)


@pytest.fixture(scope="module")
def drifted(tmp_path_factory):
    """The same world under another scenario, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("drifted")
    made = {}

    def of(drift):
        if drift not in made:
            made[drift] = simulated(folder / drift, drift=drift)
        return made[drift]

    return of


def raw(path):
    return read_raw(path, file_size_max_mb=64, cell_length_max_chars=100)


def extract(world, snapshot):
    return normalise(raw(world.extract(snapshot))).set_index("customer_id")


def corrected(world, snapshot):
    """The extract as it stands once all corrections have arrived."""
    for correction in world.corrections:
        if correction.corrects == snapshot:
            return normalise(raw(world.out / correction.file)).set_index("customer_id")
    return extract(world, snapshot)


def told(world, observed):
    return pq.read_table(world.truth(observed)).to_pandas().set_index("customer_id")


def events(world, snapshot):
    return pq.read_table(world.events(snapshot))


def every_event(world):
    return pa.concat_tables([events(world, snapshot) for snapshot in world.observation_dates])


def test_the_folder_holds_what_world_json_lists_and_nothing_else(world):
    files = {str(path.relative_to(world.out)) for path in world.out.rglob("*") if path.is_file()}
    assert files == {*world.files, "world.json"}
    for name, digest in world.files.items():
        assert hashlib.sha256((world.out / name).read_bytes()).hexdigest() == digest
    assert World.load(world.out) == world
    assert json.loads((world.out / "world.json").read_text())["simulated"] is True
    assert [later - earlier for earlier, later in itertools.pairwise(world.snapshots)] == [timedelta(days=30)] * (
        MONTHS - 1
    )


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path, world):
    again = simulated(tmp_path / "again", jsonl=True)
    assert again.files == world.files
    other = simulated(tmp_path / "other", seed=8)
    assert not set(other.files.values()) & set(world.files.values())


def test_the_gate_accepts_every_month(world):
    for snapshot in world.snapshots:
        rows = raw(world.extract(snapshot))
        assert tuple(rows.columns) == CSV_COLUMNS
        parameters = {
            "rows_min": 100,
            "rows_max": None,
            "churn_rate_min": 0.1,
            "churn_rate_max": 0.6,
            "quarantine_share_max": 0.0,
        }
        gate = run_gate(rows, parameters=parameters, pseudonym_key="test")
        assert gate.passed
        assert [check.rule for check in gate.checks if not check.passed] == []


def test_the_csv_is_written_as_the_real_one_is(world):
    path = world.extract(world.snapshots[0])
    assert raw(path).to_csv(index=False, lineterminator="\n") == path.read_text(encoding="utf-8")


def test_churn_says_yes_of_whom_the_truth_says_it_and_of_those_between_extracts(world):
    for observed, snapshot in zip(world.observation_dates, world.snapshots, strict=False):
        now, known = corrected(world, snapshot), told(world, observed)
        both = now.join(known, how="inner", rsuffix="_truth")
        assert (both["churned"] == both["churned_truth"].astype(bool)).all()
        assert set(known.index[known["churned"].notna()]) == set(both.index)
        assert now.index.is_unique


def test_the_truth_is_of_the_active_customers_and_the_last_outcome_is_open(world):
    for snapshot in world.snapshots:
        active = corrected(world, snapshot)
        assert set(told(world, snapshot).index) == set(active.index[~active["churned"]])
    last = told(world, world.snapshots[-1])
    assert last["churned"].isna().all()
    assert pq.read_schema(world.truth(START)).equals(ground_truth.SCHEMA)
    assert (last["observed_at"] == pd.Timestamp(available_at(world.snapshots[-1]))).all()


def test_leavers_are_gone_some_return_some_vanish_and_tenure_grows_by_a_month(world):
    extracts = [corrected(world, snapshot) for snapshot in world.snapshots]
    returned, vanished, at_all = 0, 0, 0
    gone = set()
    for before, after in itertools.pairwise(extracts):
        left, stayed = before.index[before["churned"]], before.index[~before["churned"]]
        gone |= set(left)
        assert not set(left) & set(after.index)
        returned += len(gone & set(after.index))
        vanished += len(set(stayed) - set(after.index))
        at_all += len(stayed)
        both = before.loc[stayed].join(after[~after["churned"]], how="inner", rsuffix="_after")
        grown = (both["tenure_months_after"] - both["tenure_months"]).to_numpy()
        assert np.isin(grown, [0, 1]).all()
        assert (both["tenure_months"][grown == 0] == 72).all()
    assert returned > 0
    assert 0.01 < vanished / at_all < 0.05


def test_the_hazard_is_what_the_outcomes_were_drawn_with(world):
    outcomes = pd.concat([told(world, observed) for observed in world.observation_dates[:-1]])
    outcomes = outcomes[outcomes["churned"].notna()]
    band = pd.cut(outcomes["hazard"], [0, 0.02, 0.1, 0.3, 0.6, 1])
    seen = outcomes["churned"].astype(float).groupby(band, observed=True).mean()
    said = outcomes["hazard"].groupby(band, observed=True).mean()
    assert seen.to_numpy() == pytest.approx(said.to_numpy(), abs=0.04)
    assert (outcomes["offer_effect"] >= 0).all()
    assert roc_auc_score(outcomes["churned"].astype(bool), outcomes["hazard"]) > 0.84


def test_events_are_valid_and_arrive_in_their_month_within_the_bounded_lag(world):
    after = datetime(2100, 1, 1, tzinfo=UTC)
    before = datetime(1970, 1, 1, tzinfo=UTC)
    for observed in world.observation_dates:
        table, cut = events(world, observed), available_at(observed)
        assert table.schema.equals(EVENT_SCHEMA)
        assert pc.all(pc.is_null(validate_events(table, after, 0)["reason"])).as_py()
        assert before < pc.min(table["arrived_at"]).as_py()
        assert pc.max(table["arrived_at"]).as_py() <= cut
        lag = pc.subtract(table["arrived_at"], table["occurred_at"]).cast(pa.int64())
        assert timedelta(microseconds=pc.max(lag).as_py()) <= timedelta(days=LAG_DAYS_MAX)
        before = cut
        assert pc.min(table["occurred_at"]).as_py() >= datetime(2024, 9, 3, tzinfo=UTC)
    first = world.observation_dates[0]
    assert pc.min(events(world, first)["occurred_at"]).as_py() < available_at(first) - timedelta(days=92)


def test_revisions_are_unique_tickets_open_before_they_close_and_customers_are_known(world):
    frame = every_event(world).to_pandas()
    assert not frame.duplicated(["event_id", "revision"]).any()
    assert 0.001 < (frame["revision"] == 1).mean() < 0.02
    assert frame.loc[frame["retracted"], "revision"].eq(1).all()
    opened = frame[frame["type"] == "ticket_opened"].set_index("ticket_id")["occurred_at"]
    closed = frame[frame["type"] == "ticket_closed"].drop_duplicates("ticket_id").set_index("ticket_id")
    both = closed.join(opened.rename("opened"), how="inner")
    hours = (both["occurred_at"] - both["opened"]).dt.total_seconds() / 3600
    assert len(both) > 0.95 * len(closed)
    assert hours.to_numpy() == pytest.approx(both["resolution_hours"].to_numpy())
    listed = set().union(*(corrected(world, snapshot).index for snapshot in world.snapshots))
    late = frame[frame["occurred_at"] >= pd.Timestamp(available_at(START)) - pd.Timedelta(days=29)]
    assert late["customer_id"].isin(listed).mean() > 0.98


def test_customers_have_about_ten_metered_days_a_month(world):
    frame = events(world, world.snapshots[2]).to_pandas()
    usage = frame[(frame["type"] == "usage_day") & (frame["revision"] == 0)]
    before, after = (corrected(world, world.snapshots[place]) for place in (1, 2))
    stayed = before.index[~before["churned"]].intersection(after.index[~after["churned"]])
    assert usage["customer_id"].isin(stayed).sum() / len(stayed) == pytest.approx(10, abs=0.5)


def test_json_lines_say_what_the_parquet_says(world):
    for observed in world.observation_dates:
        assert (
            parse_lines(world.lines(observed).read_bytes()).select(EVENT_SCHEMA.names).equals(events(world, observed))
        )


def test_plan_changes_and_payments_agree_with_the_extracts(world):
    first, second = (corrected(world, snapshot) for snapshot in world.snapshots[2:4])
    frame = every_event(world).to_pandas()
    inside = frame["occurred_at"].between(*(pd.Timestamp(day, tz="UTC") for day in world.snapshots[2:4]), "left")
    changes = frame[inside & (frame["type"] == "plan_change")].set_index("customer_id")
    both = first[~first["churned"]].join(second[~second["churned"]], how="inner", rsuffix="_after")
    moved = both[both["monthly_charges_usd"] != both["monthly_charges_usd_after"]]
    known = moved.index.intersection(changes.index)
    assert len(known) > 0.9 * len(moved) > 10
    assert (changes.loc[known, "price_before_cents"] / 100).to_numpy() == pytest.approx(
        moved.loc[known, "monthly_charges_usd"].to_numpy()
    )
    assert (changes.loc[known, "price_after_cents"] / 100).to_numpy() == pytest.approx(
        moved.loc[known, "monthly_charges_usd_after"].to_numpy()
    )


def test_a_correction_differs_in_a_few_charges_and_labels(world):
    assert world.corrections
    for correction in world.corrections:
        issued = extract(world, correction.corrects)
        mended = normalise(raw(world.out / correction.file)).set_index("customer_id").loc[issued.index]
        changed = [column for column in issued if not issued[column].equals(mended[column])]
        assert changed == ["monthly_charges_usd", "churned"]
        assert 0 < (issued["churned"] != mended["churned"]).sum() < 0.02 * len(issued)
        assert correction.arrives_after == correction.corrects + timedelta(days=30)


def before_and_from(world, figure):
    """A figure of the month before the drift sets in and of the month that first shows it."""
    return [figure(world, world.snapshots[DRIFT_MONTH - 2 + place]) for place in (0, 1)]


def usage(world, snapshot):
    frame = events(world, snapshot).to_pandas()
    start = pd.Timestamp(snapshot, tz="UTC") - pd.Timedelta(days=30)
    now = frame[(frame["type"] == "usage_day") & (frame["data_mb"] > 0) & (frame["occurred_at"] >= start)]
    return now["data_mb"].median()


def test_before_its_month_a_drift_changes_nothing(world, drifted):
    for scenario in SCENARIOS.keys() - {"none"}:
        for snapshot in world.snapshots[: DRIFT_MONTH - 1]:
            for path in (World.extract, World.events):
                one, other = path(world, snapshot), path(drifted(scenario), snapshot)
                assert one.read_bytes() == other.read_bytes(), (scenario, snapshot)


def test_a_price_rise_raises_every_charge_and_the_hazard(world, drifted):
    def charge(of, snapshot):
        return extract(of, snapshot)["monthly_charges_usd"].mean()

    before, after = before_and_from(drifted("price_rise"), charge)
    assert after / before == pytest.approx(1.08, abs=0.02)
    snapshot = world.snapshots[DRIFT_MONTH - 1]
    assert told(drifted("price_rise"), snapshot)["hazard"].mean() > 1.1 * told(world, snapshot)["hazard"].mean()


def test_a_campaign_takes_customers_who_look_as_before(world, drifted):
    observed = world.snapshots[DRIFT_MONTH - 2]
    calm, hunted = told(world, observed), told(drifted("competitor_campaign"), observed)
    assert hunted["hazard"].mean() > 1.25 * calm["hazard"].mean()
    assert set(calm.index) == set(hunted.index)


def test_an_outage_costs_fibre_traffic_and_brings_tickets_that_stay_open(world, drifted):
    def tickets(of, snapshot):
        return int(pc.sum(pc.equal(events(of, snapshot)["type"], "ticket_opened")).as_py())

    snapshot = world.snapshots[DRIFT_MONTH - 1]
    assert tickets(drifted("fibre_outage"), snapshot) > 1.5 * tickets(world, snapshot)
    assert usage(drifted("fibre_outage"), snapshot) < 0.9 * usage(world, snapshot)
    assert told(drifted("fibre_outage"), snapshot)["hazard"].mean() > 1.1 * told(world, snapshot)["hazard"].mean()


def test_a_wrong_unit_is_wrong_in_the_data_alone(world, drifted):
    before, after = before_and_from(drifted("unit_change"), usage)
    assert after / before == pytest.approx(1000, rel=0.2)
    for snapshot in world.snapshots:
        assert world.extract(snapshot).read_bytes() == drifted("unit_change").extract(snapshot).read_bytes()
        assert told(world, snapshot).equals(told(drifted("unit_change"), snapshot))


def test_delayed_labels_come_a_month_later(world, drifted):
    late = drifted("label_delay")
    place = DRIFT_MONTH - 1
    now, after = (corrected(late, late.snapshots[place + step]) for step in (0, 1))
    true = corrected(world, world.snapshots[place])
    left = true.index[true["churned"]]
    untold = left[~now.loc[left, "churned"].to_numpy(dtype=bool)]
    assert len(untold) / len(left) == pytest.approx(0.6, abs=0.05)
    assert after["churned"].reindex(untold).fillna(value=True).astype(bool).mean() > 0.97


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("big") / "world", customers=7043, months=12)


def numbers(snapshot):
    """The 19 contract features and the label as numbers."""
    columns = {}
    for name in snapshot.columns.drop("customer_id", errors="ignore"):
        values = snapshot[name]
        columns[name] = values.map(sorted(set(values)).index) if values.dtype == object else values
    return pd.DataFrame(columns).astype(float)


@pytest.mark.parametrize("month", [0, 5, 11])
def test_simulated_rows_are_hardly_told_from_real_ones(big, public_csv, month):
    real, fake = numbers(normalise(raw(public_csv))), numbers(extract(big, big.snapshots[month]).reset_index(drop=True))
    assert list(real) == list(fake)
    assert len(list(real)) == 20
    rows, is_fake = pd.concat([real, fake]).to_numpy(), np.repeat([0, 1], [len(real), len(fake)])
    model = XGBClassifier(n_estimators=100, max_depth=4, learning_rate=0.1, n_jobs=1)
    score = cross_val_predict(model, rows, is_fake, cv=FOLDS, method="predict_proba")[:, 1]
    assert roc_auc_score(is_fake, score) <= 0.60
    assert fake["churned"].mean() == pytest.approx(real["churned"].mean(), abs=0.02)


@pytest.mark.parametrize("month", [0, 11])
def test_a_model_of_simulated_rows_holds_on_real_ones(big, public_csv, month):
    real, fake = numbers(normalise(raw(public_csv))), numbers(extract(big, big.snapshots[month]).reset_index(drop=True))
    model = XGBClassifier(n_estimators=100, max_depth=3, learning_rate=0.08, n_jobs=1)
    inputs, churned = real.drop(columns="churned").to_numpy(), real["churned"].to_numpy()
    own = cross_val_predict(model, inputs, churned, cv=FOLDS, method="predict_proba")[:, 1]
    foreign = model.fit(fake.drop(columns="churned").to_numpy(), fake["churned"]).predict_proba(inputs)[:, 1]
    assert roc_auc_score(churned, foreign) >= roc_auc_score(churned, own) - 0.03
