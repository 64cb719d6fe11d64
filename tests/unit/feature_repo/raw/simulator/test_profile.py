import numpy as np

from feature_repo.raw.simulator.profile import (
    CHAIN,
    DESIGN_WIDTH,
    Profile,
    ProfileDesign,
    cell,
    design,
    list_price_cents,
)
from feature_repo.raw.simulator.sampling import draw_profiles


def test_every_model_reads_the_columns_known_before_its_attribute(constants, rng):
    profile = draw_profiles(rng, np.arange(73), constants)
    columns = ProfileDesign(profile)
    for name, _ in CHAIN:
        assert constants.chain[name].shape[1] == len(columns.known), name
        columns.learn(name)
    assert len(columns.known) == DESIGN_WIDTH == len(constants.hazard)
    assert np.isfinite(design(profile)).all()


def test_the_price_list():
    profile = Profile.empty(3)
    profile.phone[:] = 1
    profile.internet[:] = [0, 1, 2]
    profile.lines[1] = profile.tv[1] = profile.security[1] = 1
    assert list_price_cents(profile).tolist() == [4500, 9000, 2000]


def test_take_copies_and_put_writes():
    profile = Profile.empty(4)
    some = profile.take(np.array([1, 3]))
    some.tenure[:] = 7
    assert profile.tenure.tolist() == [0, 0, 0, 0]
    profile.put(np.array([1, 3]), some)
    assert profile.tenure.tolist() == [0, 7, 0, 7]
    assert len(Profile.concat([profile, some])) == 6


def test_cells_tell_plans_bands_and_risks_apart():
    profile = Profile.empty(4)
    profile.tenure[:] = [1, 40, 1, 1]
    profile.contract[:] = [0, 0, 2, 0]
    assert len(set(cell(profile, np.array([0.1, 0.1, 0.1, -5.0])))) == 4
