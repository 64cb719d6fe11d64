import numpy as np
import pytest

from feature_repo.raw.simulator.hazard import core_log_intensity
from feature_repo.raw.simulator.profile import OFFLINE
from feature_repo.raw.simulator.transitions import changed, first_customers, joiners, legacy, one_extract, passers

PLACES = 20_000


def test_the_base_is_filled_to_its_places_and_keeps_its_tenures(rng, constants):
    base = first_customers(rng, PLACES, constants)
    survivors = base.take(rng.random(PLACES) < 0.8)
    filled = np.concatenate([survivors.tenure, joiners(rng, survivors, PLACES, constants).tenure])
    assert len(filled) == PLACES
    assert np.bincount(filled, minlength=73) / PLACES == pytest.approx(constants.active_tenure_share, abs=0.01)


def test_nobody_joins_a_full_base(rng, constants):
    base = first_customers(rng, 500, constants)
    assert len(joiners(rng, base, 500, constants)) == 0


def test_those_over_the_cap_s_share_go_to_the_legacy_book(rng, constants):
    tenure = np.full(1000, 72)
    gone = legacy(rng, tenure, 1000, constants)
    assert len(gone) == 1000 - round(1000 * constants.active_tenure_share[72])
    assert len(legacy(rng, np.full(1000, 71), 1000, constants)) == 0


def test_changes_are_possible_ones_and_leave_the_make_up_as_it_is(rng, constants):
    base = first_customers(rng, PLACES, constants)
    before = base.take(slice(None))
    for _ in range(20):
        rows, after = changed(rng, base, constants)
        assert (np.diff(rows) > 0).all()
        base.put(rows, after)
    assert (base.tenure == before.tenure).all()
    assert (base.contract != before.contract).mean() > 0.01
    for name in ("contract", "internet", "payment", "paperless", "security", "tv", "lines"):
        now, then = (np.bincount(getattr(each, name), minlength=4) / PLACES for each in (base, before))
        assert now == pytest.approx(then, abs=0.015), name
    assert not base.tv[base.internet == OFFLINE].any()
    assert (base.phone[base.internet != 0] == 1).all()


def test_passers_are_the_restless(rng, constants):
    through, everybody = passers(rng, PLACES, constants), one_extract(rng, PLACES, constants)
    assert 0.08 < len(through) / PLACES < 0.16
    assert core_log_intensity(through, constants).mean() > core_log_intensity(everybody, constants).mean() + 1
