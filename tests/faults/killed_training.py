"""Run by the training faults as a program of its own, so that it can be killed.

``killed_training.py HOME`` reads lines "SEED TOUCH": trains with that seed in a child of its own, killed with SIGKILL
before its TOUCH-th touch of a file below HOME or of MLflow's database (0: not at all); answers "killed" or
"done TOUCHES".
"""

import importlib
import itertools
import os
import signal
import sys
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

from flows.steps.train import train_challenger
from tests.support.retraining_home import NOW, seeded, settings_of

HEAVY = (
    "alembic.command",
    "feast.infra.passthrough_provider",
    "feast.repo_operations",
    "feature_repo.stores.offline",
    "feature_repo.stores.point_in_time.retrieval_job",
    "git",
    "ibis.expr.api",
    "mako.template",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "training.model.trial_journal",
)
"""Imported once, and never opened here: a child inherits no connection and no thread."""


def count_touches(home, deadly):
    """Count what the interpreter opens, renames or removes below home, and each statement and commit."""
    numbers = itertools.count(1)
    seen = [0]

    def touched(*_args, **_kwargs):
        seen[0] = next(numbers)
        if seen[0] == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(name, args):
        if name.startswith(("open", "os.", "shutil.")) and args and str(args[0]).startswith(str(home)):
            touched()

    sys.addaudithook(watch)
    event.listen(Engine, "before_cursor_execute", touched)
    event.listen(Engine, "commit", touched)
    return seen


def answer_in_children(home_of, work):
    """Do the lines of stdin, "NAME TOUCH": work(NAME) in a child that dies at that touch of home_of(NAME)."""
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        name, deadly = line.split()
        child = os.fork()
        if child == 0:
            seen = count_touches(home_of(name), int(deadly))
            work(name)
            print("done", seen[0], flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            print("killed", flush=True)
        elif status:
            print("failed", flush=True)


def main(home):
    answer_in_children(lambda _: home, lambda seed: train_challenger(seeded(settings_of(home), int(seed)), NOW))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
