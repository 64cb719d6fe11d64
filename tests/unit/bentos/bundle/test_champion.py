"""Which bundle serves: a pointer that leads to a bundle's folder and nowhere else."""

from __future__ import annotations

import json

import pytest

from bentos.bundle import BundleError, NoChampionError, champion, set_champion
from feature_repo.raw.atomic import StorageFailed

DIGEST, OTHER = "a" * 64, "b" * 64


def test_without_a_champion_the_way_to_one_is_named(tmp_path):
    with pytest.raises(NoChampionError) as refused:
        champion(tmp_path)
    assert (refused.value.error, refused.value.http_status) == ("no_champion", 503)
    assert "churn train" in refused.value.hint
    assert "churn demo" in refused.value.hint


def test_the_last_one_set_serves(tmp_path):
    set_champion(tmp_path, DIGEST, "v1")
    set_champion(tmp_path, OTHER, "v2")
    assert champion(tmp_path) == tmp_path / "bundles" / OTHER
    written = json.loads((tmp_path / "bundles" / "champion.json").read_text())
    assert written == {"digest": OTHER, "path": OTHER, "model_version": "v2"}
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["champion.json"]


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
        json.dumps({"digest": DIGEST, "path": OTHER, "model_version": "v1"}),
        *(
            json.dumps({"digest": path, "path": path, "model_version": "v1"})
            for path in ("../../x", "..", "", "/etc", "./" + DIGEST, DIGEST + "/..", "A" * 64, "latest", None)
        ),
    ],
)
def test_a_pointer_that_leads_elsewhere_is_refused(tmp_path, content):
    pointer = tmp_path / "bundles" / "champion.json"
    pointer.parent.mkdir()
    pointer.write_text(content)
    with pytest.raises(BundleError, match=r"champion\.json is damaged") as refused:
        champion(tmp_path)
    assert refused.value.hint == "promote again: churn train"


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "champion.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="is damaged"):
        champion(tmp_path)


def test_a_disk_that_refuses_is_named(tmp_path):
    (tmp_path / "bundles").write_text("a file where the folder should be")
    with pytest.raises(StorageFailed):
        set_champion(tmp_path, DIGEST, "v1")
