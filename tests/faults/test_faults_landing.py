"""Rows 10 and 11 of the fault catalogue, and readers during publications: old or new, and whole."""

import random
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from feature_repo.raw.snapshots.publication import published_snapshots, read_snapshot, snapshot_versions
from feature_repo.raw.snapshots.telco_csv import normalise
from tests.support.single_extract import simulate_snapshot

PROGRAM = Path(__file__).with_name("killed_ingest.py")
MARCH = date(2024, 3, 1)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(*arguments):
    return subprocess.run(
        [sys.executable, str(PROGRAM), *map(str, arguments)], check=True, capture_output=True, text=True
    ).stdout


def seen(home):
    """Read everything as a reader does, check that it is whole and of one piece; gives the seed of each date."""
    seeds = []
    for manifest in published_snapshots(home):
        snapshot = read_snapshot(home, manifest)
        seed = int(Path(manifest.source_name).stem.rpartition("-")[2])
        assert manifest.rows == len(snapshot) == 150 + seed % 50
        assert manifest.churn_rate == snapshot["churned"].mean()
        assert_frame_equal(snapshot, normalise(simulate_snapshot(len(snapshot), seed)))
        seeds.append(seed)
    return seeds


def leftovers(home):
    """What no manifest leads to."""
    alive = {Path(manifest.path).parent.as_posix() for manifest in snapshot_versions(home, MARCH)}
    folders = {path.relative_to(home).as_posix() for path in home.glob("processed/2024-03-01/versions/*")}
    return [*home.rglob(".tmp-*"), *(folders - alive)]


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    finish("publish", home, 1)
    return home


def test_fault_10_kill_9_before_every_single_touch_of_a_file(home):
    before = seen(home)[0]
    kills = 0
    with start("step", home, 2_000_000) as program:
        for line in program.stdout:
            touch, outcome = line.split()
            now = seen(home)[0]
            assert now in {before, 2_000_000 + int(touch)}, "old or new"
            before = now
            kills += outcome == "killed"
            program.stdin.write("\n")
            program.stdin.flush()
    assert program.returncode == 0
    assert kills > 15, "landing touches more files than that"
    assert before == 2_000_000 + kills + 1, "the run that was let live is the new one"
    assert leftovers(home) == [], "and it cleaned up after the killed ones"


def test_fault_10_kill_9_at_random_moments_of_the_whole_ingest(home):
    chance = random.Random(5)
    for round_ in range(3):
        first = 3_000_000 + 1000 * round_
        with start("loop", home, first) as program:
            assert program.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0, 1.2))
            program.kill()
            done = 1 + program.stdout.read().count("ready")
        assert seen(home)[0] in {first + done - 1, first + done}
    finish("publish", home, 2)
    assert leftovers(home) == []


@pytest.mark.parametrize("size", [100, 10_000, 1, 601, 11_001])
def test_fault_11_no_room_left(home, size):
    """The system itself refuses to let a file grow, as a full disk does."""
    before = seen(home)
    told = finish("full", home, size)
    assert told.startswith("storage_failed: cannot write below the home: File too large")
    assert seen(home) == before
    assert leftovers(home) == []


def test_readers_never_see_a_mixture_while_two_snapshots_are_published_in_a_loop(home):
    looks, different = 0, set()
    with start("publish", home, 40) as program:
        while program.poll() is None:
            different.add(tuple(seen(home)))
            looks += 1
    assert program.returncode == 0
    assert seen(home) == [40, 1040]
    assert looks > 20
    assert len(different) > 5, "the reader saw the snapshots change"


def test_two_publishers_at_once_wait_for_each_other(home):
    with start("publish", home, 10) as one, start("publish", home, 11) as other:
        assert (one.wait(), other.wait()) == (0, 0)
    numbers = [manifest.version for manifest in snapshot_versions(home, MARCH)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 11
    for manifest in snapshot_versions(home, MARCH):
        assert len(read_snapshot(home, manifest)) == manifest.rows
    assert leftovers(home) == []
