"""Optuna's journal of finished trials, reused by a training that is restarted or repeated."""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import os
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from feature_repo.files.atomic_writes import storage_errors
from feature_repo.files.regular_files import identity, open_lock, open_regular

log = logging.getLogger(__name__)

DONE: Final = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of a trial with a result; a failed or a killed one is run again."""
LOCK: Final = ".flock"
_OLD_LOCK: Final = ".lock"
"""Suffix of Optuna's own lock file, which remains for 30 s after its holder died."""


class KernelLock(JournalFileOpenLock):
    """A ``flock`` lock: the kernel releases it when its holder dies for any reason."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._file = open_lock(self._path)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        """Free the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        """Wait for the lock."""
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Free the lock."""
        self.release()


class Journal:
    """The finished trials of one study, each returned once; new ones are appended.

    Parameters
    ----------
    path
        The journal file. An incomplete line (a killed process, a full disk) is cut off with all that follows; a file
        that Optuna can't read even so is renamed. Both are logged, and the lost trials are computed again.
    study
        The study's name: trials of other studies are ignored.

    Raises
    ------
    StorageError
        If the journal can't be written.
    """

    def __init__(self, path: Path, study: str) -> None:
        lock = KernelLock(path.with_name(path.name + LOCK))
        with storage_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(path.name + _OLD_LOCK).unlink(missing_ok=True)
            with lock:
                if path.exists():
                    open_regular(path).close()  # Optuna would wait at a FIFO
                cut_torn_tail(path)
                seen = identity(path)
            try:
                self._study = _opened(path, lock, study)
            except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as unreadable:
                with lock:
                    # Another training may have renamed it meanwhile: the file now at this path is the new one.
                    if identity(path) == seen:
                        aside = _free(path.with_name(f"{path.name}.unreadable"))
                        path.replace(aside)
                        log.warning("%s is not Optuna's (%s) and set aside as %s", path.name, unreadable, aside.name)
                self._study = _opened(path, lock, study)
        self._known: dict[str, list[FrozenTrial]] = defaultdict(list)
        for trial in reversed(self._study.get_trials(deepcopy=False, states=DONE)):
            self._known[_key(trial)].append(trial)

    def take(self, trial: optuna.Trial) -> FrozenTrial | None:
        """Return the oldest trial with these parameters that was not returned yet, None if there is none."""
        known = self._known[_key(trial)]
        return known.pop() if known else None

    def add(self, trial: FrozenTrial) -> None:
        """Append a finished trial. Raises StorageError if the journal can't be written."""
        with storage_errors():
            self._study.add_trial(trial)


def cut_torn_tail(path: Path) -> int:
    """Truncate a file of JSON lines before its first invalid line, log it, and return the bytes removed.

    Call only under the lock of the processes that append to it.
    """
    if not path.is_file():
        return 0
    whole = 0
    with path.open("rb+") as file:
        for line in file:
            if not line.endswith(b"\n") or not _is_json(line):
                break
            whole += len(line)
        size = file.seek(0, 2)
        if whole < size:
            log.warning("%s: cut off %d bytes behind its last whole line", path.name, size - whole)
            file.truncate(whole)
    return size - whole


def _free(path: Path) -> Path:
    """Return ``path``, or ``path`` with the first numeric suffix that is not taken."""
    names = itertools.chain([path], (path.with_name(f"{path.name}.{number}") for number in itertools.count(2)))
    return next(each for each in names if not os.path.lexists(each))


def _opened(path: Path, lock: KernelLock, study: str) -> optuna.Study:
    store = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    return optuna.create_study(storage=store, study_name=study, load_if_exists=True, direction="minimize")


def _key(trial: optuna.Trial | FrozenTrial) -> str:
    return json.dumps(trial.params, sort_keys=True)


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
