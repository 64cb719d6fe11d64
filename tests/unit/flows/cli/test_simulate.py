from datetime import date

from feature_repo.raw.simulator.manifest import World
from flows.cli.simulate import simulate_world


def test_it_says_what_it_wrote_and_that_nobody_is_real(tmp_path):
    done = simulate_world(
        tmp_path / "w",
        customers=200,
        months=2,
        seed=1,
        start=date(2025, 1, 31),
        drift="price_rise",
        drift_month=None,
        jsonl=False,
    )
    assert World.load(tmp_path / "w") == done.world
    assert "none of them is real" in done.lines[0]
    assert done.lines[-1].startswith("drift from month 2 on: All charges rise")
