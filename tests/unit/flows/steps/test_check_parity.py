"""What the check of parity reads, where it is no file."""

import os

import pytest

from feature_repo.contract import ACTIVITY_SOURCE, SOURCE
from feature_repo.files.atomic_writes import StorageError
from feature_repo.files.table_paths import part_path
from flows.steps.check_parity import _customers, check_parity
from tests.support.event_rows import NOW


@pytest.mark.parametrize(
    ("table", "check", "error"),
    [(ACTIVITY_SOURCE, check_parity, StorageError), (SOURCE, _customers, OSError)],
    ids=["activity", "customers"],
)
def test_a_fifo_in_an_offline_table_is_named_and_not_waited_for(settings, table, check, error):
    path = part_path(settings.home, table, "part")
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(error, match="it is a FIFO, no file"):
        check(settings, NOW)
