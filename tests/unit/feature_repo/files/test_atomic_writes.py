import hashlib
import multiprocessing
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from feature_repo.files.atomic_writes import (
    StorageError,
    copy_file,
    file_sha256,
    remove_leftovers,
    storage_errors,
    temporary_file,
    write_file,
    write_folder,
)
from feature_repo.files.locks import LeaseHeldError, lease, publish_lock
from tests.support.patience import PATIENCE_S


def test_a_file_is_replaced_and_private(tmp_path):
    path = tmp_path / "new" / "note.json"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["note.json"]


def test_a_folder_appears_whole(tmp_path):
    write_folder(tmp_path / "1", {"a": b"1", "b": b"2"})
    assert {found.name: found.read_bytes() for found in (tmp_path / "1").iterdir()} == {"a": b"1", "b": b"2"}


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="name too long"):
        write_folder(tmp_path / "1", {"a": b"1", "b" * 300: b"2"})
    assert list(tmp_path.iterdir()) == []


def test_what_fails_aside_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), temporary_file(tmp_path) as temporary:
        temporary.write_bytes(b"%d" % (1 // 0))
    assert list(tmp_path.iterdir()) == []


def test_a_copy_tells_the_digest_of_what_was_copied(tmp_path):
    content = bytes(range(256)) * 9000
    (tmp_path / "from").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert copy_file(tmp_path / "from", tmp_path / "to") == (digest, len(content))
    assert file_sha256(tmp_path / "to") == digest


def test_the_system_s_refusal_gets_a_name_and_a_way_out(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write below the home: File exists") as refused, storage_errors():
        write_file(tmp_path / "file" / "below", b"")
    assert "CHURN_HOME" in refused.value.hint


def _take(home, told):
    told.send("asking")
    with publish_lock(home):
        told.send("mine")


@pytest.mark.slow
def test_the_lock_lets_one_in_at_a_time(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    with publish_lock(tmp_path):
        other = spawn.Process(target=_take, args=(tmp_path, there))
        other.start()
        assert here.recv() == "asking"
        assert not here.poll(0.3), "the other got in"
    assert here.recv() == "mine"
    other.join()


def test_a_lease_is_held_by_one_and_told_to_the_other(tmp_path):
    with lease(tmp_path, "training", "process 1"):
        told = pytest.raises(LeaseHeldError, match="training is being done already by process 1")
        with told, lease(tmp_path, "training", "process 2"):
            pytest.fail("two hold one lease")
        with lease(tmp_path, "scoring", "process 2"):
            pass
    with lease(tmp_path, "training", "process 2"):
        pass


def _hold(home, ready):
    with lease(home, "training", "the one that dies"):
        ready.set()
        ready.wait()
        multiprocessing.Event().wait()


def test_a_holder_that_is_killed_frees_its_lease(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(PATIENCE_S)
    with pytest.raises(LeaseHeldError, match="the one that dies"), lease(tmp_path, "training", "other"):
        pytest.fail("two hold one lease")
    holder.kill()
    holder.join()
    with lease(tmp_path, "training", "other"):
        pass


HOLDS = """
import sys
from pathlib import Path
from feature_repo.files.atomic_writes import temporary_file, temporary_folder
home = Path(sys.argv[1])
with temporary_file(home / "offline") as file, temporary_folder(home / "bundles", "saved-") as folder:
    file.write_bytes(b"7590-VHVEG")
    (folder / "rows").write_bytes(b"7590-VHVEG")
    print("held", flush=True)
    sys.stdin.read()
"""


def unfinished(home):
    return sorted(path.relative_to(home).parts[0] for path in home.rglob(".tmp-*"))


def test_what_a_living_process_holds_stays_and_what_a_dead_one_left_goes(tmp_path):
    (tmp_path / "offline").mkdir()
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / ".tmp-theirs").write_bytes(b"")
    words = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        remove_leftovers(tmp_path)
        assert unfinished(tmp_path) == ["bundles", "offline", "prefect"]
        for path in (*tmp_path.glob("offline/.tmp-*"), *tmp_path.glob("bundles/.tmp-*")):
            assert stat.S_IMODE(path.stat().st_mode) in {0o600, 0o700}
        other.kill()
    assert unfinished(tmp_path) == ["bundles", "offline", "prefect"]
    remove_leftovers(tmp_path)
    assert unfinished(tmp_path) == ["prefect"]


def test_a_copy_that_a_user_makes_in_the_inbox_stays(tmp_path):
    copies = [tmp_path / "inbox" / ".tmp-telco_2026-11-01.csv", tmp_path / "inbox" / "landed" / ".tmp-a" / "part"]
    for copy in copies:
        copy.parent.mkdir(parents=True)
        copy.write_bytes(b"7590-VHVEG")
    remove_leftovers(tmp_path)
    assert all(copy.read_bytes() == b"7590-VHVEG" for copy in copies)


@pytest.mark.slow
def test_makers_and_sweepers_side_by_side_lose_nothing(tmp_path):
    def write(number):
        write_folder(tmp_path / str(number), {"a": b"%d" % number})
        remove_leftovers(tmp_path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(200)))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(200))
    assert all((tmp_path / str(number) / "a").read_bytes() == b"%d" % number for number in range(200))


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError), temporary_file(tmp_path / "none"):
        pass
    remove_leftovers(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
