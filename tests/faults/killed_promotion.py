"""Run by the faults of the roll-out as a program of its own, so that it can be killed.

``killed_promotion.py step HOME DIGEST…``   promote another bundle, killed before its first touch of a file, another
                                    before the second one, until one lives
``killed_promotion.py race HOME DIGEST…``   promote them in turn 25 times, and roll back now and then
``killed_promotion.py back HOME TOUCH``      roll back, killed before that touch of a file (0: not)
``killed_promotion.py full HOME DIGEST…``   promote the last one where no file may grow beyond 1000 bytes
"""

import itertools
import os
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path

from bentos.rollout.rollout import champion_digest, promote, rollback
from configs.errors import ChurnError
from tests.faults.killed_ingest import kill_before

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
RACES = 25


def known(why):
    return {"who": str(os.getpid()), "why": str(why), "now": NOW}


def step(home, digests):
    for touch in itertools.count(1):
        # Never the one that serves: promoting it again is soon done.
        target = next(each for each in digests if each != champion_digest(home).name)
        child = os.fork()
        if child == 0:
            kill_before(touch, home)
            promote(home, target, **known(touch))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(target, "killed" if os.WIFSIGNALED(status) else "done", flush=True)
        # The test looks at what is there before the next one is let go.
        sys.stdin.readline()
        if not os.WIFSIGNALED(status):
            return


def race(home, digests):
    for number in range(RACES):
        print(promote(home, digests[number % len(digests)], **known(number)).sequence, flush=True)
        # Right after another one's rollback there is nothing to do.
        if number % 7 == 6 and (entry := rollback(home, **known(number))) is not None:
            print(entry.sequence, flush=True)


def back(home, arguments):
    if touch := int(arguments[0]):
        kill_before(touch, home)
    print("done" if rollback(home, **known("calls")) else "nothing to do")


def full(home, digests):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        promote(home, digests[-1], **known("full"))
    except ChurnError as refused:
        print(refused.error, refused.message, sep=": ")


if __name__ == "__main__":
    {"step": step, "race": race, "back": back, "full": full}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3:])
