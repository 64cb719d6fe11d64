"""Promotions that are killed, race each other, or find no room: one champion, one ledger, each saying the same."""

import itertools
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.bundle import Bundle
from bentos.rollout.ledger import ledger_path, read_ledger
from bentos.rollout.rollout import champion_digest, promote, read_rollout, stop_trial
from configs.settings import PROJECT_ROOT
from tests.support.small_model import saved

PROGRAM = Path(__file__).with_name("killed_promotion.py")
KNOWN = {"who": "tests", "why": "a fault", "now": datetime(2026, 3, 1, 6, tzinfo=UTC)}


@pytest.fixture
def home(tmp_path):
    """Three bundles, the first one promoted."""
    home = tmp_path / "home"
    promote(home, bundles(home)[0], **KNOWN)
    return home


def bundles(home):
    return [saved(home, model_version=version)[0].digest for version in "abc"]


def start(what, home, *words):
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), what, str(home), *(words or bundles(home))],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def whole(home):
    """What serves, after everything was checked: the ledger follows on, and says what the pointer does."""
    stop_trial(home, **KNOWN)  # the next operation, whatever it is, moves a pointer that lags
    found = read_ledger(home)
    assert read_rollout(home) == found[-1].rollout()
    for before, after in itertools.pairwise(found):
        assert after.before == before.after
    Bundle.load(champion_digest(home))
    assert list((home / "bundles").glob(".tmp-*")) == []
    return found[-1].after["model_version"]


def test_kill_9_before_every_single_touch_of_a_file(home):
    before, kills, promoted = "a", 0, 0
    with start("step", home) as program:
        for line in program.stdout:
            target, outcome = line.split()
            kills += outcome == "killed"
            # A reader sees a whole pointer at every moment.
            assert read_rollout(home).model_version in "abc"
            now = whole(home)
            assert now == before or champion_digest(home).name == target, "old or new"
            assert outcome == "killed" or now != before
            promoted += now != before
            before = now
            program.stdin.write("\n")
            program.stdin.flush()
    assert program.returncode == 0
    assert kills > 15, "a promotion touches more files than that"
    assert 1 < promoted < kills, "some died before the entry was written and some after"


def test_kill_9_at_random_moments_of_promotions_and_rollbacks(home):
    chance = random.Random(5)
    for _ in range(4):
        with start("race", home) as program:
            first = int(program.stdout.readline())
            time.sleep(chance.uniform(0, 0.3))
            program.kill()
            said = [first, *map(int, program.stdout.read().split())]
        assert whole(home) in "abc"
        # What was said to be done is in the ledger.
        assert len(read_ledger(home)) >= max(said)


def test_promoters_at_once_wait_for_each_other(home):
    with start("race", home) as one, start("race", home) as two, start("race", home) as three:
        programs = (one, two, three)
        looks = set()
        while any(program.poll() is None for program in programs):
            # A reader in between sees a ledger that holds, and a pointer to a bundle that loads.
            looks.add(len(read_ledger(home)))
            assert read_rollout(home).model_version in "abc"
        assert [program.returncode for program in programs] == [0, 0, 0]
        said = [[int(line) for line in program.stdout.read().split()] for program in programs]
    whole(home)
    found = read_ledger(home)
    assert len({entry.who for entry in found}) == 4
    assert len(looks) > 5, "the reader saw the ledger grow"
    for sequences in said:
        assert len(sequences) >= 25
        assert {found[sequence - 1].sequence for sequence in sequences} == set(sequences)


def test_a_rollback_that_is_killed_anywhere_and_run_again_leaves_the_bad_model(home):
    done = 0
    for touch in itertools.count(1):
        promote(home, bundles(home)[1], **KNOWN)
        with start("back", home, str(touch)) as first:
            first.communicate()
        with start("back", home, "0") as again:
            told, _ = again.communicate()
        assert whole(home) == "a"
        done += told == "nothing to do\n"
        if first.returncode == 0:
            break
    assert touch > 8, "a rollback touches more files than that"
    assert 1 < done < touch, "some died before the entry was written and some after"


def test_operators_at_once_roll_back_once(home):
    promote(home, bundles(home)[1], **KNOWN)
    programs = [start("back", home, "0") for _ in range(4)]
    told = sorted(program.communicate()[0] for program in programs)
    assert told == ["done\n", *["nothing to do\n"] * 3]
    assert whole(home) == "a"
    assert [entry.action for entry in read_ledger(home)] == ["promote", "promote", "rollback"]


def test_where_there_is_no_room_nothing_changes(home):
    before, text = read_rollout(home), ledger_path(home).read_bytes()
    assert len(text) < 1000
    told, _ = start("full", home).communicate()
    assert told.startswith("storage_failed: cannot write below the home: File too large")
    assert read_rollout(home) == before
    assert ledger_path(home).read_bytes() == text
    assert whole(home) == "a"
