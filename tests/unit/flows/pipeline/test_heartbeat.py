"""Who is alive: told by the kernel, not by a clock."""

from __future__ import annotations

import signal
import subprocess
import sys

from flows.pipeline.heartbeat import find_dead_runs, find_live_runs, register_run

BEGIN = """
import sys, time
from pathlib import Path
from flows.pipeline.heartbeat import register_run
register_run(Path(sys.argv[1]), sys.argv[2])
print("here", flush=True)
time.sleep(600)
"""


def begin(home, run_id):
    process = subprocess.Popen([sys.executable, "-c", BEGIN, str(home), run_id], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    return process


def test_a_run_is_dead_when_its_process_is(tmp_path):
    assert find_dead_runs(tmp_path) == []
    one, other = begin(tmp_path, "one"), begin(tmp_path, "other")
    try:
        assert find_dead_runs(tmp_path) == []
        one.send_signal(signal.SIGKILL)
        one.wait()
        (found,) = find_dead_runs(tmp_path)
        assert (found.run_id, found.pid) == ("one", one.pid)
        # Until it was marked it is found again, by whoever looks next.
        assert find_dead_runs(tmp_path) == [found]
        found.remove()
        assert find_dead_runs(tmp_path) == []
    finally:
        for process in (one, other):
            process.kill()
            process.wait()
            process.stdout.close()


def test_a_run_that_begins_at_this_moment_is_not_dead(tmp_path):
    assert find_live_runs(tmp_path) == set()
    register_run(tmp_path, "mine")
    # Of another one, which has not got so far as to be seen.
    (tmp_path / "runs" / ".tmp-other.json").touch()
    assert find_dead_runs(tmp_path) == []
    assert find_live_runs(tmp_path) == {"mine"}
