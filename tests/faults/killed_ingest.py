"""Run by the landing faults as a program of its own, so that it can be killed.

``killed_ingest.py step HOME N``   replace March's snapshot by seed N's, killed with SIGKILL before its N-th touch of a
                                   file
``killed_ingest.py loop HOME``     print "ready", then replace March's snapshot for ever, through the whole ingest
``killed_ingest.py publish HOME N`` replace the snapshots of March and April N times, without the gate
``killed_ingest.py full HOME BYTES`` replace March's snapshot where no file may grow beyond so many bytes; an odd number
                             sets in once the raw file has landed
"""

import itertools
import os
import resource
import signal
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from configs.errors import ChurnError
from configs.settings import load_settings
from feature_repo.raw.snapshots.publication import land_raw, publish_snapshot
from feature_repo.raw.snapshots.telco_csv import normalise
from tests.support.single_extract import simulate_snapshot, write_csv

MARCH, APRIL = date(2024, 3, 1), date(2024, 4, 1)
NOW = datetime(2024, 4, 1, 7, tzinfo=UTC)


def customers(seed):
    """Every seed has its own number of rows, so that a mixture shows."""
    return 150 + seed % 50


def extract(home, seed):
    """A file of this process's own: what another one still writes is refused."""
    path = home.parent / f"{os.getpid()}-{seed}.csv"
    if not path.is_file():
        write_csv(simulate_snapshot(customers(seed), seed), path)
    return path


def replace(home, seed, as_of=MARCH, raw=None):
    rows = simulate_snapshot(customers(seed), seed)
    raw = raw or land_raw(home, extract(home, seed), as_of)
    publish_snapshot(
        home,
        as_of,
        normalise(rows),
        rows.head(0),
        raw=raw,
        time="observed",
        event_at=NOW,
        created_at=NOW,
        ingested_at=NOW,
        replace=True,
        extra_files={"gate.json": b"{}"},
    )


def kill_before(touch, home):
    """Die before the ``touch``-th time that the interpreter opens, renames or removes something below home."""
    left = itertools.count(1)

    def watch(event, args):
        ours = event.startswith(("open", "os.", "shutil.")) and args and str(args[0]).startswith(str(home))
        if ours and next(left) == touch:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def step(home, first):
    # A child each, so that the seconds of importing are paid once.
    for touch in itertools.count(1):
        extract(home, first + touch)
        child = os.fork()
        if child == 0:
            kill_before(touch, home)
            replace(home, first + touch)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(touch, "killed" if os.WIFSIGNALED(status) else "done", flush=True)
        # The test looks at what is there before the next one is let go.
        sys.stdin.readline()
        if not os.WIFSIGNALED(status):
            return


def loop(home, first):
    from flows.steps.ingest_snapshot import ingest_snapshot

    settings = load_settings(home=home)
    for seed in itertools.count(first):
        ingest_snapshot(settings, extract(home, seed), MARCH, ingested_at=NOW, replace=True)
        print("ready", flush=True)


def publish_times(home, times):
    for seed in range(1, times + 1):
        replace(home, seed)
        replace(home, seed + 1000, APRIL)


def full(home, size):
    seed = 2_000_000 + size
    path = extract(home, seed)
    raw = land_raw(home, path, MARCH) if size % 2 else None
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        replace(home, seed, raw=raw)
    except ChurnError as refused:
        print(refused.error, refused.message, sep=": ")


if __name__ == "__main__":
    {"step": step, "loop": loop, "publish": publish_times, "full": full}[sys.argv[1]](
        Path(sys.argv[2]), int(sys.argv[3])
    )
