import numpy as np

from feature_repo.raw.simulator.event_arrays import (
    LAG_DAYS_MAX,
    LOGIN,
    PAYMENT,
    USAGE_DAY,
    EventArrays,
    deliver_events,
    event_arrays,
)

EVENTS = 50_000
DAY_S = 86_400


def made(rng):
    row = np.arange(EVENTS)
    amounts = np.full(EVENTS, 5000)
    parts = [event_arrays(row, kind, row * 60, amounts, amounts) for kind in (USAGE_DAY, PAYMENT, LOGIN)]
    true = EventArrays.concat(parts)
    true.retracted[:7] = True
    return deliver_events(rng, true, 1000)


def test_every_event_has_an_id_and_arrives_after_it_occurred(rng):
    told = made(rng)
    first = told.take(told.revision == 0)
    assert len(np.unique(first.key)) == len(first) == 3 * EVENTS
    assert (told.arrived_s >= told.occurred_s).all()
    assert (np.diff(told.arrived_s) >= 0).all()
    assert (told.arrived_s - told.occurred_s).max() <= LAG_DAYS_MAX * DAY_S


def test_most_come_within_hours_and_some_days_late(rng):
    told = made(rng)
    lag = (told.arrived_s - told.occurred_s)[told.revision == 0]
    assert (lag < DAY_S // 4).mean() > 0.95
    assert 0.01 < (lag > DAY_S).mean() < 0.02


def test_a_correction_follows_its_original_with_another_payload(rng):
    told = made(rng)
    original = {key: place for place, key in enumerate(told.key.tolist()) if told.revision[place] == 0}
    corrections = np.flatnonzero(told.revision == 1)
    assert 0.004 < len(corrections) / (3 * EVENTS) < 0.012
    for place in corrections.tolist():
        before = original[told.key[place]]
        assert told.arrived_s[place] > told.arrived_s[before]
        assert told.occurred_s[place] == told.occurred_s[before]
        assert told.kind[place] != LOGIN
        assert told.retracted[place] or told.first[place] == 5000 != told.first[before]


def test_what_never_happened_is_said_and_withdrawn(rng):
    told = made(rng)
    bogus = told.take(told.key < np.uint64(1007))
    assert (
        sorted(zip(bogus.revision.tolist(), bogus.retracted.tolist(), strict=True))
        == [(0, False)] * 7 + [(1, True)] * 7
    )
