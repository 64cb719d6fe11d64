from datetime import date

import pytest

from feature_repo.raw.simulator.errors import SimulationError
from feature_repo.raw.simulator.manifest import World
from feature_repo.raw.simulator.simulate import simulate

GOOD = {"customers": 200, "months": 2, "seed": 1, "start": date(2025, 1, 31), "drift": "none", "drift_month": None}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"customers": 99}, "customers is 99"),
        ({"months": 0}, "months is 0"),
        ({"months": 121}, "months is 121"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is"),
        ({"start": date(1999, 1, 1)}, "year of the start is 1999"),
        ({"drift": "meteorite"}, "unknown drift scenario 'meteorite'"),
        ({"drift_month": 3}, "drift month is 3"),
        ({"drift_month": 0}, "drift month is 0"),
    ],
)
def test_arguments_that_make_no_world(tmp_path, change, told):
    with pytest.raises(SimulationError, match=told) as refused:
        simulate(tmp_path / "out", **{**GOOD, **change})
    assert refused.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["a file in it", "a file instead"])
def test_nothing_is_overwritten(tmp_path, what):
    place = tmp_path / "out"
    (place if what == "a file instead" else tmp_path / "out" / "mine.txt").parent.mkdir(exist_ok=True)
    (place if what == "a file instead" else place / "mine.txt").write_text("mine")
    with pytest.raises(SimulationError, match="is not empty"):
        simulate(place, **GOOD)


def test_a_world_is_read_as_it_was_written(tmp_path):
    world = simulate(tmp_path / "out", **GOOD, jsonl=False)
    assert World.load(tmp_path / "out") == world
    assert world.simulated
    assert not world.lines(world.snapshots[0]).exists()


def test_no_world_and_another_version_s(tmp_path):
    with pytest.raises(SimulationError, match="no whole simulated world"):
        World.load(tmp_path)
    (tmp_path / "world.json").write_text('{"version": 99}')
    with pytest.raises(SimulationError, match="version 99"):
        World.load(tmp_path)
