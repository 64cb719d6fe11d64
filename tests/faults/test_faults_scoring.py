"""Row 58 of the fault catalogue: kill -9 anywhere in the whole-base job; resumed, the same bytes, no mixed run seen."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from bentos.batch.score_base import FOLDER, LATEST, score_base
from configs.settings import PROJECT_ROOT
from feature_repo.files.atomic_writes import file_sha256
from tests.faults.killed_base_run import CHUNK
from tests.support import customer_base

PROGRAM = Path(__file__).with_name("killed_base_run.py")
PLACES = 10
"""Random places at which a run is killed; each of these runs is killed once more before it may end."""


class Scorer:
    """The program that scores and can be killed."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        )

    def score(self, home, touch=0, ms=0):
        self.process.stdin.write(f"{home} {touch} {ms}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()


@pytest.fixture(scope="module")
def scorer():
    made = Scorer()
    with made.process:
        yield made
    assert made.process.returncode == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with yesterday's scores, to which the pointer leads until today's are whole."""
    settings = customer_base.world(tmp_path_factory.mktemp("killed") / "home")
    batch = settings.batch.model_copy(update={"chunk_customers": CHUNK})
    score_base(settings.model_copy(update={"batch": batch}), customer_base.scored(0) - timedelta(hours=7))
    return settings.home


def files(home):
    folder = home / FOLDER
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def seen(home):
    """Read as a reader does: the pointer, its manifest, and every part; gives the instant of the scores."""
    pointer = json.loads((home / FOLDER / LATEST).read_text())
    manifest = home / pointer["path"] / "manifest.json"
    assert file_sha256(manifest) == pointer["manifest_sha256"]
    listed = json.loads(manifest.read_text())["files"]
    assert {name: file_sha256(home / pointer["path"] / name) for name in listed} == listed
    return pointer["observed_at"]


@pytest.fixture(scope="module")
def undisturbed(home, scorer, tmp_path_factory):
    """What a run writes that nobody kills, and how many touches and milliseconds it takes."""
    copy = tmp_path_factory.mktemp("whole") / "home"
    shutil.copytree(home, copy)
    # The first answer waits for the program's imports.
    scorer.score(copy)
    shutil.rmtree(copy)
    shutil.copytree(home, copy)
    begun = time.monotonic()
    outcome, touches = scorer.score(copy)
    ms = int((time.monotonic() - begun) * 1000)
    assert outcome == "done"
    assert int(touches) > 60
    assert len(list(copy.glob(f"{FOLDER}/*/*/parts/*.parquet"))) > 6
    return files(copy), int(touches), ms


def test_fault_58_kill_9_at_random_places_and_again(home, scorer, undisturbed, tmp_path):
    whole, touches, _ = undisturbed
    old, new = seen(home), customer_base.scored(0).isoformat()
    chance = random.Random(58)
    # The first and the last places too: before the plan, and between manifest and pointer.
    places = [1, touches - 8, touches, *chance.sample(range(2, touches - 8), PLACES - 3)]
    for number, place in enumerate(places):
        copy = tmp_path / str(number) / "home"
        shutil.copytree(home, copy)
        assert scorer.score(copy, place) == ["killed"]
        assert seen(copy) in {old, new}
        scorer.score(copy, chance.randrange(1, touches))
        assert seen(copy) in {old, new}
        assert scorer.score(copy)[0] == "done"
        assert seen(copy) == new
        assert files(copy) == whole


def test_fault_58_kill_9_at_random_moments(home, scorer, undisturbed, tmp_path):
    """Not at a touch of a file but anywhere: in the join, in the model, in a write."""
    whole, _, ms = undisturbed
    chance, killed = random.Random(59), 0
    for number in range(6):
        copy = tmp_path / str(number) / "home"
        shutil.copytree(home, copy)
        killed += scorer.score(copy, ms=chance.randrange(ms // 10, ms)) == ["killed"]
        seen(copy)
        assert scorer.score(copy)[0] == "done"
        assert files(copy) == whole
    assert killed
