"""Where queries overflow to, and what becomes of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from feature_repo.files.atomic_writes import StorageError
from feature_repo.files.duckdb_session import Limits, session
from tests.support.feast_repository import READ_ONLY

HOLD = """
import sys, time
from pathlib import Path
from feature_repo.files.duckdb_session import Limits, session
with session(Limits(Path(sys.argv[1]), 128, 1)):
    print("open", flush=True)
    time.sleep(600)
"""


def spills(home):
    return list(home.glob(".tmp-*"))


def test_half_of_the_memory_is_duckdbs():
    assert Limits(Path(), 4096, 2).duckdb_mb == 2048
    assert Limits(Path(), 1, 2).duckdb_mb == 64


def test_a_session_is_in_utc_and_below_the_home(tmp_path):
    (tmp_path / "x.csv").write_text("n\n7\n")
    with session(Limits(tmp_path, 128, 1)) as connection:
        assert connection.execute("SELECT n FROM 'x.csv'").fetchall() == [(7,)]
        assert connection.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
        assert connection.execute("SELECT current_setting('threads')").fetchall() == [(1,)]


def test_a_killed_sessions_folder_goes_and_a_living_ones_stays(tmp_path):
    limits = Limits(tmp_path, 128, 1)
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with other:
        assert other.stdout.readline() == "open\n"
        theirs = spills(tmp_path)
        with session(limits):
            assert len(spills(tmp_path)) == 2
        assert spills(tmp_path) == theirs
        other.send_signal(signal.SIGKILL)
    assert spills(tmp_path) == theirs
    with session(limits):
        assert theirs[0] not in spills(tmp_path)
    assert not spills(tmp_path)


@pytest.mark.slow
def test_sessions_side_by_side_never_sweep_each_other(tmp_path):
    def use(_number):
        with session(Limits(tmp_path, 128, 1)) as connection:
            return connection.execute("SELECT 1").fetchall()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(200))) == [[(1,)]] * 200
    assert spills(tmp_path) == []


def test_on_a_home_that_may_not_be_written_a_session_works_in_memory_alone():
    with session(Limits(READ_ONLY, 128, 1)) as connection:
        assert connection.execute("SELECT current_setting('temp_directory')").fetchall() == [("",)]
        assert connection.execute("SELECT sum(n) FROM range(1000) AS r (n)").fetchall() == [(499500,)]


def test_a_home_that_is_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(StorageError, match="below the home"), session(Limits(tmp_path / "home", 128, 1)):
        raise AssertionError("opened")
