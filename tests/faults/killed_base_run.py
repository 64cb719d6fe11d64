"""Run by the scoring faults as a program of its own, so that it can be killed.

It reads lines "HOME TOUCH MS": scores the base below HOME in a child, which is killed with SIGKILL before its TOUCH-th
touch of a file below the scores (0: never), or after MS milliseconds (0: never), and answers "killed", or "done" and
the number of touches.
"""

import itertools
import os
import signal
import sys
import time
from pathlib import Path

import duckdb
import feast
import xgboost

from bentos.batch.score_base import FOLDER, score_base
from configs.settings import load_settings
from tests.support.customer_base import scored

CHUNK = 100
# What scoring loads lazily is loaded here, so that the children need not.
LOADED = (duckdb, feast, xgboost)


def kill_before(touch, folder):
    """Die before the ``touch``-th time that the interpreter opens, renames or removes something below the folder."""
    seen = itertools.count(1)

    def watch(event, args):
        ours = event.startswith(("open", "os.", "shutil.")) and args and str(args[0]).startswith(str(folder))
        if ours and next(seen) == touch:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    return seen


def score(home, touch):
    settings = load_settings(home=home)
    settings = settings.model_copy(update={"batch": settings.batch.model_copy(update={"chunk_customers": CHUNK})})
    seen = kill_before(touch, home / FOLDER)
    score_base(settings, scored(0))
    return next(seen) - 1


def main():
    for line in sys.stdin:
        home, touch, ms = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.write(writing, str(score(Path(home), int(touch))).encode())
            os._exit(0)
        os.close(writing)
        if int(ms):
            time.sleep(int(ms) / 1000)
            os.kill(child, signal.SIGKILL)
        told = os.read(reading, 32).decode()
        os.close(reading)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else f"done {told}", flush=True)


if __name__ == "__main__":
    main()
