import numpy as np
import pytest

from feature_repo.raw.simulator.profile import CHAIN, OFFLINE
from feature_repo.raw.simulator.sampling import draw_profiles, log_likelihood


def test_a_profile_does_not_depend_on_how_many_are_drawn_at_a_time(constants, monkeypatch):
    tenure = np.arange(500) % 73
    whole = draw_profiles(np.random.default_rng(1), tenure, constants)
    monkeypatch.setattr("feature_repo.raw.simulator.sampling._ROWS", 64)
    parts = draw_profiles(np.random.default_rng(1), tenure, constants)
    for name in (*(name for name, _ in CHAIN), "gender", "noise"):
        assert (getattr(whole, name) == getattr(parts, name)).all(), name


def test_what_the_real_file_never_has_is_never_drawn(constants, rng):
    drawn = draw_profiles(rng, np.arange(5000) % 73, constants)
    offline = drawn.internet == OFFLINE
    assert offline.any()
    for name in ("security", "backup", "protection", "support", "tv", "movies"):
        assert not getattr(drawn, name)[offline].any()
    assert (drawn.phone[drawn.internet != 0] == 1).all()
    assert not drawn.lines[drawn.phone == 0].any()


def test_likelihood_is_that_of_the_draws(constants, rng):
    drawn = draw_profiles(rng, np.full(40_000, 30), constants)
    same = drawn.take(np.repeat(np.arange(1), 2))
    same.contract[:] = [0, 2]
    # P(contract, rest) / P(contract', rest), summed over the rest, is the ratio of the contracts' shares.
    told = np.exp(log_likelihood(drawn, constants))
    share = [(1 / told[drawn.contract == value]).size / len(drawn) for value in (0, 2)]
    key = np.stack([getattr(drawn, name) for name, _ in CHAIN]).T
    distinct, place = np.unique(key, axis=0, return_index=True)
    covered = [told[place[distinct[:, 0] == value]].sum() for value in (0, 2)]
    assert covered[0] / share[0] == pytest.approx(covered[1] / share[1], rel=0.25)
    assert 0.3 < sum(covered) < 1
