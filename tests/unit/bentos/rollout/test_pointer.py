"""The pointer: it leads to a bundle's folder and nowhere else, and says what is on trial."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bentos.bundle import BundleError
from bentos.rollout import NoChampionError, champion_digest
from bentos.rollout.pointer import Rollout, read_pointer, write_pointer
from feature_repo.files.atomic_writes import StorageError

DIGEST, OTHER = "a" * 64, "b" * 64
WHOLE = {"digest": DIGEST, "path": DIGEST, "model_version": "v1"}
TRIAL = Rollout(DIGEST, "v1", OTHER, OTHER, "canary", 0.1, 7, "c" * 64)
ENDS = replace(TRIAL, ends_at="2026-03-02T06:00:00+00:00")


def test_without_a_champion_the_way_to_one_is_named(tmp_path):
    assert read_pointer(tmp_path) is None
    with pytest.raises(NoChampionError) as refused:
        champion_digest(tmp_path)
    assert (refused.value.error, refused.value.http_status) == ("no_champion", 503)
    assert "churn train" in refused.value.hint
    assert "churn demo" in refused.value.hint


@pytest.mark.parametrize("written", [Rollout(DIGEST, "v1"), Rollout(DIGEST, "v2", OTHER), TRIAL, ENDS])
def test_what_was_written_is_read(tmp_path, written):
    write_pointer(tmp_path, Rollout(OTHER, "v0"))
    write_pointer(tmp_path, written)
    assert read_pointer(tmp_path) == written
    assert champion_digest(tmp_path) == tmp_path / "bundles" / DIGEST
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["champion.json"]


def test_a_trial_is_over_at_its_end():
    end = datetime.fromisoformat(str(ENDS.ends_at))
    assert [ENDS.has_expired(end + timedelta(seconds=second)) for second in (-1, 0, 1)] == [False, True, True]
    assert not TRIAL.has_expired(end)
    assert ENDS.without_trial() == TRIAL.without_trial()
    assert "ends_at" not in TRIAL.ledger_state(), "what an earlier version wrote in the ledger reads as it was"


def test_a_pointer_of_an_earlier_version_names_the_champion_alone(tmp_path):
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "champion.json").write_text(json.dumps(WHOLE))
    assert read_pointer(tmp_path) == Rollout(DIGEST, "v1")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        json.dumps({"digest": DIGEST, "model_version": "v1"}),
        json.dumps({"path": DIGEST, "model_version": "v1"}),
        json.dumps(WHOLE | {"path": OTHER}),
        *(
            json.dumps({"digest": path, "path": path, "model_version": "v1"})
            for path in ("../../x", "..", "", "/etc", "./" + DIGEST, DIGEST + "/..", "A" * 64, "latest", None)
        ),
        *(
            json.dumps(WHOLE | wrong)
            for wrong in (
                {"previous": "../../x"},
                {"previous": 7},
                {"challenger": "../../x", "mode": "shadow"},
                {"challenger": OTHER},
                {"mode": "canary"},
                {"challenger": OTHER, "mode": "other"},
                {"challenger": OTHER, "mode": "canary", "share": 1.5},
                {"challenger": OTHER, "mode": "canary", "share": True},
                {"challenger": OTHER, "mode": "canary", "share": "0.1"},
                {"challenger": OTHER, "mode": ["canary"], "share": 0.1},
                {"ends_at": ENDS.ends_at},
                *({"challenger": OTHER, "mode": "shadow", "ends_at": end} for end in ("soon", "2026-03-02T06:00", 7)),
                {"ledger": {"sequence": "1", "hash": OTHER}},
                {"ledger": {"sequence": 1}},
                {"ledger": [1, OTHER]},
            )
        ),
    ],
)
def test_a_pointer_that_leads_elsewhere_is_refused(tmp_path, content):
    pointer = tmp_path / "bundles" / "champion.json"
    pointer.parent.mkdir()
    pointer.write_text(content)
    with pytest.raises(BundleError, match=r"champion\.json is damaged") as refused:
        champion_digest(tmp_path)
    assert refused.value.hint == "promote again: churn train"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "is damaged"),
        (lambda path: path.mkdir(), "can't be read: Is a directory"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, spoil, says):
    (tmp_path / "bundles").mkdir()
    spoil(tmp_path / "bundles" / "champion.json")
    with pytest.raises(BundleError, match=says):
        champion_digest(tmp_path)


def test_a_disk_that_refuses_is_named(tmp_path):
    (tmp_path / "bundles").write_text("a file where the folder should be")
    assert read_pointer(tmp_path) is None
    with pytest.raises(StorageError):
        write_pointer(tmp_path, Rollout(DIGEST, "v1"))
