"""Parity: any history replayed in arrival order into both online stores and read at any instant equals the join at
that instant, and both equal a brute-force oracle: late arrivals, corrections, ties, nulls, withdrawals, expiry.

A case is one customer's whole feature vector at one instant, compared three ways. The normal tier looks at hundreds;
`poe nightly` at thousands.
"""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from pydantic import SecretStr
from redis import Redis

from configs.settings import load_settings
from feature_repo.contract import (
    ACTIVITY_SOURCE,
    BEHAVIOR,
    BEHAVIOR_SERVICE,
    BY_NAME,
    CREATED_TIMESTAMP,
    CUSTOMER,
    EVENT_TIMESTAMP,
    OBSERVED_AT,
    PROTECTION,
    SOURCE,
    STORED,
    TILES,
    TTL_DAYS,
    features_of,
)
from feature_repo.events import EVENT_SCHEMA
from feature_repo.files.parquet_tables import append_table
from feature_repo.stores.casting import to_python_values
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.historical_features import get_historical_features
from feature_repo.stores.online_features import OnlineFeatureReader
from feature_repo.stores.registration import apply
from feature_repo.transforms import tiles
from monitoring.parity import as_served
from tests.support.behavior_oracle import behavior_as_known
from tests.support.event_rows import event
from tests.support.point_in_time_oracle import Row, as_known

FEATURES = features_of(BEHAVIOR_SERVICE)
CUSTOMERS = ["ann", "bob", "eve", "Žoë"]
TTL = timedelta(days=TTL_DAYS)
START = datetime(2010, 3, 1, 5, 59, 59, 999_999, tzinfo=UTC)
"""So early that no history reaches the present: what lies after this machine's clock is not materialised."""
SECOND = timedelta(seconds=1)
MICRO = timedelta(microseconds=1)
TICKS = [MICRO, timedelta(hours=7), timedelta(days=1), timedelta(days=29), TTL, TTL + MICRO]
AGES = [timedelta(0), MICRO, timedelta(hours=3), timedelta(days=1), timedelta(days=31), TTL - SECOND, TTL, TTL + SECOND]
WITHDRAWN = dict.fromkeys(feature.name for feature in STORED)
PLAIN = {feature.name: feature.categories[0] if feature.categories else 1 for feature in STORED} | {
    feature.name: True for feature in STORED if feature.dtype == "bool"
}

values = st.just(WITHDRAWN) | st.builds(
    lambda changes: PLAIN | changes,
    st.fixed_dictionaries(
        {},
        optional={
            "tenure_months": st.sampled_from([0, 13, 72, None]),
            "monthly_charges_usd": st.sampled_from([0.1 + 0.2, 18.25, -0.0, 1e-300]),
            "total_charges_usd": st.sampled_from([None, 8684.8]),
            "contract_type": st.sampled_from(["Month-to-month", "One year", "Two year", None]),
            "tech_support": st.sampled_from(["Yes", "No", None]),
            "payment_method": st.sampled_from(["Credit card (automatic)", "Mailed check", None]),
            "partner": st.sampled_from([True, False, None]),
        },
    ),
)
kinds = st.sampled_from(
    [
        ("usage_day", {"data_mb": 7, "voice_minutes": 3}),
        ("usage_day", {"data_mb": 0, "voice_minutes": 0}),
        ("login", {}),
        ("ticket_opened", {"ticket_id": "t1"}),
        ("ticket_closed", {"ticket_id": "t1", "resolution_hours": 5}),
        ("payment", {"amount_cents": 100, "days_late": 4}),
        ("payment", {"amount_cents": 100, "days_late": 0}),
        ("plan_change", {"price_before_cents": 700, "price_after_cents": 650}),
    ]
)
arrivals = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), st.integers(0, len(AGES) - 1), values), min_size=1, max_size=6
)
happenings = st.lists(
    st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(AGES), kinds, st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)


def expected(rows, deliveries, customer_id, observed_at):
    """The whole vector by brute force: what was known of the snapshot, what that derives, what was known to happen."""
    row = as_known(rows, customer_id, observed_at, TTL)
    known = dict(row.values if row else WITHDRAWN)
    answers = [known[name] for name in PROTECTION]
    known["protection_count"] = None if None in answers else answers.count("Yes")
    method = known["payment_method"]
    known["automatic_payment"] = None if method is None else "automatic" in method
    behavior = dict.fromkeys(feature.name for feature in FEATURES if feature.view == BEHAVIOR.name)
    behavior |= behavior_as_known(deliveries, customer_id, observed_at)
    term, tenure = {"One year": 12, "Two year": 24}.get(known["contract_type"]), known["tenure_months"]
    behavior["months_to_renewal"] = None if term is None or tenure is None else (term - tenure % term) % term
    behavior["months_since_anniversary"] = None if tenure is None else tenure % 12
    return tuple(to_python_values(feature, [(known | behavior)[feature.name]])[0] for feature in FEATURES)


def differing(found, wanted):
    """Say which values differ; by their repr, which tells -0.0 from 0.0 and 1 from True."""
    return [
        (customer_id, feature.name, one, other)
        for customer_id, row, expected_row in zip(CUSTOMERS, found, wanted, strict=True)
        for feature, one, other in zip(FEATURES, row, expected_row, strict=True)
        if repr(one) != repr(other)
    ]


class History(RuleBasedStateMachine):
    """One history of arrivals; after each of them both online stores are brought up to date, as life does."""

    template: str
    """A home with the definitions registered."""
    redis_url: str
    cases = 0
    number = itertools.count()

    @initialize()
    def begin(self):
        self.home = f"{self.template}-{next(self.number)}"
        shutil.copytree(self.template, self.home)
        Redis.from_url(self.redis_url).flushdb()
        sqlite = load_settings(home=self.home)
        online = {"online_store": "redis", "redis_url": SecretStr(self.redis_url)}
        redis = sqlite.model_copy(update={"feast": sqlite.feast.model_copy(update=online)})
        self.stores = {"sqlite": open_feature_store(sqlite), "redis": open_feature_store(redis)}
        self.readers = {name: OnlineFeatureReader(store, BEHAVIOR_SERVICE) for name, store in self.stores.items()}
        self.offline = self.stores["sqlite"]
        self.clock, self.rows, self.deliveries, self.log = START, [], [], []
        # Both tables exist from the start, empty: as after a first feature build.
        self.append(SOURCE, pd.DataFrame(columns=[CUSTOMER, *WITHDRAWN, EVENT_TIMESTAMP, CREATED_TIMESTAMP]))
        columns = [CUSTOMER, *(tile.name for tile in TILES), EVENT_TIMESTAMP, CREATED_TIMESTAMP]
        self.append(ACTIVITY_SOURCE, pd.DataFrame(columns=columns))

    @rule(batch=arrivals, tick=st.sampled_from(TICKS))
    def a_snapshot_arrives(self, batch, tick):
        self.clock += tick
        arrived = []
        for customer_id, age, found in batch:
            # The instants of earlier rows come again: corrections and ties, not only late rows. Whole seconds, as
            # the feature build writes them: that is all that Redis keeps of an event timestamp.
            before = [row.event for row in self.rows if row.key == customer_id]
            new = (self.clock - AGES[age]).replace(microsecond=0)
            event_at = before[age % len(before)] if before and age % 2 else new
            arrived.append(Row(customer_id, event_at, self.clock, found))
        self.rows += arrived
        frame = pd.DataFrame(
            [{CUSTOMER: r.key, **r.values, EVENT_TIMESTAMP: r.event, CREATED_TIMESTAMP: r.created} for r in arrived]
        )
        self.append(SOURCE, frame)
        self.bring_online()

    @rule(batch=happenings, tick=st.sampled_from(TICKS))
    def events_arrive(self, batch, tick):
        self.clock += tick
        arrived = []
        for customer_id, age, (kind, payload), revises, retracted in batch:
            mine = [row for row in self.log if row["customer_id"] == customer_id and row["type"] == kind]
            if revises and mine:
                last = max(mine, key=lambda row: row["revision"])
                same = {"event_id": last["event_id"], "revision": last["revision"] + 1, "retracted": retracted}
            else:
                same = {"event_id": f"e{len(self.log)}", "revision": 0, "retracted": False}
            at = {"occurred_at": self.clock - age, "arrived_at": self.clock}
            arrived.append(event(kind, customer_id, **same, **at, **payload))
            self.log.append(arrived[-1])
        self.deliveries.append((self.clock, arrived))
        those = {row["customer_id"] for row in arrived}
        known = pa.Table.from_pylist([row for row in self.log if row["customer_id"] in those], schema=EVENT_SCHEMA)
        frame = tiles(known, self.clock).to_pandas()
        self.append(ACTIVITY_SOURCE, frame.assign(**{EVENT_TIMESTAMP: self.clock, CREATED_TIMESTAMP: self.clock}))
        self.bring_online()

    @rule(later=st.sampled_from([timedelta(0), *TICKS]))
    def somebody_looks(self, later):
        """Time goes on without an arrival: windows decay, values expire."""
        self.clock += later
        offline = self.joined([self.clock] * len(CUSTOMERS))
        for name, reader in self.readers.items():
            online = [as_served(FEATURES, row) for row in reader.read(CUSTOMERS, self.clock)]
            assert differing(online, offline) == [], name

    @rule(back=st.sampled_from([MICRO, *TICKS]))
    def somebody_trains(self, back):
        """A training row of a past instant holds what was known then, whatever arrived since."""
        self.joined([self.clock - back] * len(CUSTOMERS))

    def teardown(self):
        if hasattr(self, "home"):
            self.somebody_looks(timedelta(0))
            shutil.rmtree(self.home)

    def joined(self, instants):
        keys = pd.DataFrame({CUSTOMER: CUSTOMERS, OBSERVED_AT: pd.to_datetime(instants, utc=True)})
        frame = get_historical_features(self.offline, keys, BEHAVIOR_SERVICE)
        columns = [to_python_values(feature, frame[feature.name].tolist()) for feature in FEATURES]
        found = list(zip(*columns, strict=True))
        wanted = [expected(self.rows, self.deliveries, *key) for key in zip(CUSTOMERS, instants, strict=True)]
        assert differing(found, wanted) == []
        type(self).cases += len(found)
        return found

    def append(self, table, frame):
        for name in frame.columns:
            if name in BY_NAME:
                frame = frame.astype({name: ARROW[BY_NAME[name].dtype]})
        frame = frame.astype({CUSTOMER: ARROW["string"]})
        for name in (EVENT_TIMESTAMP, CREATED_TIMESTAMP):
            frame[name] = frame[name].astype("datetime64[us, UTC]")
        append_table(load_settings(home=self.home).home, table, f"{next(self.number):06d}", frame)

    def bring_online(self):
        for store in self.stores.values():
            store.materialize(start_date=self.clock - TTL, end_date=self.clock)


ARROW = {
    "bool": pd.ArrowDtype(pa.bool_()),
    "int64": pd.ArrowDtype(pa.int64()),
    "float64": pd.ArrowDtype(pa.float64()),
    "string": pd.ArrowDtype(pa.string()),
    "int64_list": pd.ArrowDtype(pa.list_(pa.int64())),
}


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    home = tmp_path_factory.mktemp("parity") / "home"
    apply(load_settings(home=home))
    return home


@pytest.mark.parametrize(
    ("histories", "cases_min"),
    [(12, 300), pytest.param(250, 5_000, marks=pytest.mark.nightly)],
)
@pytest.mark.timeout(3600)
def test_online_equals_offline_equals_brute_force(registered, redis_server, histories, cases_min):
    class Machine(History):
        template = str(registered)
        redis_url = f"redis://127.0.0.1:{redis_server}/7"

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=14,
            deadline=None,
            derandomize=histories < 100,
            database=None,
            phases=[Phase.explicit, Phase.generate],  # a failure is read from its steps; shrinking it takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Machine.cases >= cases_min
