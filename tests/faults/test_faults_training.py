"""A training that dies anywhere, and two at once: one version a fingerprint, whatever happens."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from bentos.bundle import Bundle
from bentos.rollout.rollout import read_rollout
from configs.settings import PROJECT_ROOT
from feature_repo.files.locks import LeaseHeldError
from flows.steps.promote import compare_and_promote
from flows.steps.train import current_fingerprint, train_challenger
from tests.support.patience import until
from tests.support.retraining_home import NOW, make, seeded
from training.data.heldout import read_heldout
from training.mlflow_database import tracking_uri
from training.registry import FINGERPRINT, known_digests, version_of, versions_with

KILLED_TWICE = 3
"""Trainings, each killed at two random places before it is let go."""
BEFORE_THE_END = (0, 13, 17, 60)
"""Places while MLflow writes the version, its alias and the end of its run."""
WHOLE = {"mlflow.db", ".publish.lock"}
"""What lies in a home's mlflow/ once its database is made."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    made = make(tmp_path_factory.mktemp("killed") / "home")
    first = train_challenger(made, NOW)
    assert compare_and_promote(made, first, who="test", why="first", now=NOW).serves
    return made


class Trainer:
    """A program that trains (or does what ``program`` does) and can be killed."""

    def __init__(self, home, program="killed_training.py"):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(program)), str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "PYTHONWARNINGS": "ignore"},
        )

    def ask(self, name, touch=0):
        self.process.stdin.write(f"{name} {touch}\n")
        self.process.stdin.flush()

    def answer(self):
        return self.process.stdout.readline().split()

    def run(self, name, touch=0):
        self.ask(name, touch)
        return self.answer()


@pytest.fixture(scope="module")
def trainer(settings):
    made = Trainer(settings.home)
    yield made
    made.process.communicate()
    assert made.process.returncode == 0


@pytest.fixture
def openers(tmp_path):
    made = [Trainer(tmp_path, "killed_registry_setup.py") for _ in range(2)]
    yield made
    for each in made:
        each.process.communicate()
        assert each.process.returncode == 0


def runs_of(settings, mark):
    mlflow.set_tracking_uri(tracking_uri(settings))
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(settings.mlflow.experiment)
    return client.search_runs([experiment.experiment_id], f"tags.{FINGERPRINT} = '{mark}'")


def check_whole(settings):
    """Exactly one version of this fingerprint, whole, with the alias; no run at work, no rows of unknown bundles."""
    mark = current_fingerprint(settings)
    (version,) = versions_with(settings, FINGERPRINT, mark)
    assert version_of(settings, "challenger") == version
    assert Bundle.load(settings.home / "bundles" / version.bundle_digest).digest == version.bundle_digest
    assert len(read_heldout(settings.home, version.bundle_digest)) == int(version.tags["rows_test"])
    states = {run.info.run_id: run.info.status for run in runs_of(settings, mark)}
    assert states.pop(version.run_id) == "FINISHED"
    assert set(states.values()) <= {"KILLED"}
    assert {path.stem for path in (settings.home / "heldout").iterdir()} <= known_digests(settings)
    return version


def test_killed_anywhere_and_run_again_there_is_one_version(settings, trainer):
    told, touches = trainer.run(100)
    assert told == "done"
    champion = read_rollout(settings.home)
    known = {version_of(settings, "champion").version, check_whole(seeded(settings, 100)).version}
    places = [[chosen.randint(1, int(touches)) for _ in range(2)] for chosen in map(random.Random, range(KILLED_TWICE))]
    places += [[int(touches) - back] for back in BEFORE_THE_END]
    for seed, killed_at in enumerate(places, start=101):
        for place in killed_at:
            # Killed after the version was there, it has less to do and may get to the end.
            assert trainer.run(seed, place)[0] in {"killed", "done"}
        assert trainer.run(seed)[0] == "done", killed_at
        known.add(check_whole(seeded(settings, seed)).version)
        # Again, and nothing is done.
        assert not train_challenger(seeded(settings, seed), NOW).fresh
    assert known == {str(number) for number in range(1, 3 + len(places))}
    assert read_rollout(settings.home) == champion, "a training changes nothing that serves"


def test_mlflows_database_is_whole_whoever_dies_making_it(tmp_path, openers):
    opener, _ = openers
    told, touches = opener.run("whole")
    assert (told, files_of(tmp_path / "whole")) == ("done", WHOLE)
    for sixth in range(1, 6):
        home = f"killed-{sixth}"
        for _ in range(2):
            assert opener.run(home, int(touches) * sixth // 6)[0] == "killed"
        assert opener.run(home)[0] == "done", f"killed at {sixth}/6 of {touches} touches"
        assert files_of(tmp_path / home) == WHOLE
    for each in openers:
        each.ask("at-once")
    assert [each.answer()[0] for each in openers] == ["done", "done"]
    assert files_of(tmp_path / "at-once") == WHOLE


def files_of(home):
    return {path.relative_to(home / "mlflow").as_posix() for path in (home / "mlflow").rglob("*")}


def test_two_trainings_at_once_are_one(settings, trainer):
    other = seeded(settings, 900)
    lease = settings.home / ".training.lease"
    before = lease.read_text()
    trainer.ask(900)
    until(lambda: lease.read_text() not in {"", before})
    with pytest.raises(LeaseHeldError, match="training is being done already by process") as refused:
        train_challenger(other, NOW)
    assert refused.value.hint == "wait until it has ended"
    assert trainer.answer()[0] == "done"
    assert train_challenger(other, NOW).version == check_whole(other).version
