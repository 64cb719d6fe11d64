"""Optuna's journal after what a disk and a kill do to it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial

from configs.settings import PROJECT_ROOT
from feature_repo.files.atomic_writes import StorageError
from training.model import trial_journal as journals
from training.model.trial_journal import Journal, cut_torn_tail

SPACE = {"x": FloatDistribution(0, 10)}


def finished(x):
    return create_trial(params={"x": float(x)}, distributions=SPACE, value=float(x))


def kept(journal):
    return [trial.value for trial in journal._study.get_trials()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "journal.log"


@pytest.mark.parametrize("name", ["journal.log", "journal.log.flock"])
@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo], ids=["a folder", "a FIFO"])
def test_what_is_no_file_is_named_and_not_waited_for(path, name, put):
    path.parent.mkdir()
    put(path.with_name(name))
    with pytest.raises(StorageError):
        Journal(path, "s")


@pytest.mark.parametrize(
    "torn", [b'{"op_code": 4, "wor', b"\0\0\0\0", b'{"op_code": 4}{"op_code": 4}\n', b"\xff\n{}\n", b"1\n"]
)
def test_a_torn_tail_is_cut_off_and_told(path, torn, caplog):
    journal = Journal(path, "s")
    for x in range(3):
        journal.add(finished(x))
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with caplog.at_level(logging.WARNING):
        again = Journal(path, "s")
    told = [each.getMessage() for each in caplog.records if each.name == "training.model.trial_journal"]
    assert told == [f"journal.log: cut off {len(torn)} bytes behind its last whole line"]
    assert kept(again) == [0, 1, 2]
    again.add(finished(3))
    assert kept(Journal(path, "s")) == [0, 1, 2, 3]


def test_what_was_appended_behind_a_torn_line_is_lost_and_nothing_else(path):
    journal = Journal(path, "s")
    journal.add(finished(0))
    whole = path.read_bytes()
    # As an earlier version left it: half a line, and the next one glued to it.
    path.write_bytes(whole + b'{"op_code": 4, "wor' + whole)
    assert kept(Journal(path, "s")) == [0]


def test_a_journal_that_is_none_is_set_aside_and_told(path, caplog):
    path.parent.mkdir()
    path.write_text("{}\n")
    with caplog.at_level(logging.WARNING):
        journal = Journal(path, "s")
    journal.add(finished(1))
    assert kept(Journal(path, "s")) == [1]
    assert path.with_name("journal.log.unreadable").read_text() == "{}\n"
    assert "set aside as journal.log.unreadable" in caplog.text


def test_each_journal_that_is_none_is_kept(path):
    path.parent.mkdir()
    for number in (1, 2, 3):
        path.write_text(f'{{"n": {number}}}\n')
        Journal(path, "s")
    kept_aside = sorted(each.read_text() for each in path.parent.glob("*.unreadable*"))
    assert kept_aside == [f'{{"n": {number}}}\n' for number in (1, 2, 3)]


def test_another_training_s_new_journal_is_not_set_aside(path, monkeypatch):
    """Two trainings find the same unreadable journal; the second one acts after the first one went on."""
    path.parent.mkdir()
    path.write_text("{}\n")
    opened = journals._opened

    def overtaken(*given):
        try:
            return opened(*given)
        except KeyError:
            monkeypatch.undo()
            Journal(path, "s").add(finished(1))
            raise

    monkeypatch.setattr(journals, "_opened", overtaken)
    assert kept(Journal(path, "s")) == [1]
    assert [each.read_text() for each in path.parent.glob("*.unreadable*")] == ["{}\n"]


def test_whole_files_stay_as_they_are(path):
    assert cut_torn_tail(path) == 0
    Journal(path, "s").add(finished(1))
    before = path.read_bytes()
    assert cut_torn_tail(path) == 0
    assert path.read_bytes() == before


def test_each_trial_is_taken_once_and_only_for_its_parameters(path):
    journal = Journal(path, "s")
    for value in (1, 2):
        journal.add(create_trial(params={"x": 1.0}, distributions=SPACE, value=value))
    Journal(path, "other").add(finished(1))
    asked = optuna.create_study()
    again = Journal(path, "s")
    found = []
    for x in (1.0, 1.0, 1.0, 2.0):
        asked.enqueue_trial({"x": x})
        found.append(again.take(asked.ask(fixed_distributions=SPACE)))
    assert [each and each.value for each in found] == [1, 2, None, None]


FULL = """
import resource, sys
from pathlib import Path
from tests.unit.training.model.test_trial_journal import finished
from training.model.trial_journal import Journal
path = Path(sys.argv[1])
journal = Journal(path, "s")
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 40,) * 2)
journal.add(finished(5))
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from training.model.trial_journal import KernelLock
with KernelLock(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def program(text, path):
    return subprocess.Popen(
        [sys.executable, "-c", text, str(path)],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_full_disk_is_one_named_error_and_the_next_one_goes_on(path):
    Journal(path, "s").add(finished(0))
    told = program(FULL, path).communicate()[1]
    assert told.strip().splitlines()[-1].startswith(f"{StorageError.__module__}.{StorageError.__name__}: cannot write")
    assert not path.read_bytes().endswith(b"\n"), "half a line is there"
    assert kept(Journal(path, "s")) == [0]


def test_a_lock_dies_with_its_process(path):
    Journal(path, "s").add(finished(0))
    with program(KILLED, path.with_name("journal.log.flock")) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    # What Optuna's own lock leaves, which an earlier version took.
    path.with_name("journal.log.lock").symlink_to(path)
    Journal(path, "s").add(finished(1))
    assert kept(Journal(path, "s")) == [0, 1]
    assert not path.with_name("journal.log.lock").is_symlink()


def test_optuna_reads_it_without_us(path):
    Journal(path, "s").add(finished(1))
    study = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    assert study.best_value == 1
