"""Only regular files are opened, and nothing waits for a FIFO that nobody writes to."""

import os
import socket
import stat

import pytest

from bentos.bundle.manifest import BundleError, bundles_folder
from bentos.rollout.pointer import POINTER, read_pointer
from feature_repo.files.atomic_writes import StorageError, file_sha256
from feature_repo.files.hash_chain import iter_verified
from feature_repo.files.locks import lease, publish_lock
from feature_repo.files.regular_files import open_lock, open_regular, read_regular
from feature_repo.raw.events.deliveries import DeliveryDamagedError, deliveries, log_folder


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_a_file_and_a_link_to_one_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"1234")
    (tmp_path / "b").symlink_to("a")
    assert read_regular(tmp_path / "a") == read_regular(tmp_path / "b") == b"1234"
    assert read_regular(tmp_path / "a", 2) == b"12"
    with open_regular(tmp_path / "a") as file:
        assert not os.get_inheritable(file.fileno())


def test_what_is_no_file_is_refused_by_its_kind_without_waiting(tmp_path, fifo):
    (tmp_path / "link").symlink_to(fifo)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        kinds = {fifo: "FIFO", tmp_path / "link": "FIFO", tmp_path / "socket": "socket", "/dev/zero": "device"}
        for path, kind in kinds.items():
            for opened in (open_regular, open_lock):
                with pytest.raises(OSError, match=f"it is a {kind}, no file"):
                    opened(path)
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_a_lock_file_is_made_for_its_owner_alone_and_kept(tmp_path):
    with open_lock(tmp_path / "lock") as lock:
        lock.write(b"told")
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    with open_lock(tmp_path / "lock") as lock:
        assert lock.read() == b"told"


@pytest.mark.parametrize("name", [".publish.lock", ".training.lease"])
def test_a_fifo_where_a_lock_is_kept_is_named(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises((StorageError, OSError), match="it is a FIFO"):
        {
            ".publish.lock": lambda: publish_lock(tmp_path),
            ".training.lease": lambda: lease(tmp_path, "training", "test"),
        }[name]().__enter__()


def test_a_fifo_among_the_files_of_a_home_is_named(tmp_path, fifo):
    with pytest.raises(OSError, match="it is a FIFO"):
        file_sha256(fifo)
    with pytest.raises(OSError, match="it is a FIFO"):
        next(iter_verified(fifo, lambda content: content))
    bundles_folder(tmp_path).mkdir()
    os.mkfifo(bundles_folder(tmp_path) / POINTER)
    with pytest.raises(BundleError, match="it is a FIFO"):
        read_pointer(tmp_path)
    folder = log_folder(tmp_path) / "000001"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(DeliveryDamagedError, match="000001 has no readable manifest"):
        deliveries(tmp_path)
