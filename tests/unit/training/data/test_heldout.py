"""The rows that a model is measured on: kept once, read back as they were."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.support.small_model import simulated, training_set
from training.data.heldout import (
    HELDOUT_COLUMNS,
    HeldOutMissingError,
    delete_heldout,
    heldout_path,
    read_heldout,
    save_heldout,
)

DIGEST = "ab" * 32


def test_they_come_back_as_they_were(tmp_path):
    keys = training_set(simulated(50)).keys
    path = save_heldout(tmp_path, DIGEST, keys.iloc[[3, 1, 7]].assign(score=0.5))
    assert path == heldout_path(tmp_path, DIGEST)
    pd.testing.assert_frame_equal(
        read_heldout(tmp_path, DIGEST), keys.iloc[[3, 1, 7]][HELDOUT_COLUMNS].reset_index(drop=True)
    )
    assert path.stat().st_mode & 0o077 == 0, "they name customers"


def test_what_is_kept_stays(tmp_path):
    keys = training_set(simulated(50)).keys
    save_heldout(tmp_path, DIGEST, keys.head(3))
    save_heldout(tmp_path, DIGEST, keys.head(9))
    assert len(read_heldout(tmp_path, DIGEST)) == 3


def test_a_bundle_from_elsewhere_has_none(tmp_path):
    with pytest.raises(HeldOutMissingError, match="abababababab") as refused:
        read_heldout(tmp_path, DIGEST)
    assert refused.value.hint == "train again: churn train"


def test_what_nobody_knows_is_removed_and_nothing_else(tmp_path):
    assert delete_heldout(tmp_path, set()) == []
    keys = training_set(simulated(50)).keys
    other = "cd" * 32
    for digest in (DIGEST, other):
        save_heldout(tmp_path, digest, keys.head(3))
    folder = tmp_path / "heldout"
    (folder / ".tmp-a").write_bytes(b"unfinished")
    (folder / "README").write_text("kept by a person")
    assert delete_heldout(tmp_path, {DIGEST}) == [".tmp-a", f"{other}.parquet"]
    assert sorted(path.name for path in folder.iterdir()) == ["README", f"{DIGEST}.parquet"]
