"""What a bundle says of itself is checked before anything of it is believed."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import pytest

from bentos.bundle import BundleError
from bentos.bundle.manifest import (
    FILES,
    MANIFEST_FILE,
    Manifest,
    OtherContractError,
    is_digest,
    read_manifest,
    read_verified,
)
from feature_repo.contract import AUDIT_SERVICE, CORE_SERVICE, SAME_CONTRACTS, SERVICES_OF
from feature_repo.definition_hash import contract_hash, feature_hashes
from tests.support.small_model import manifest, saved


def forged(folder, content):
    """The bundle with another manifest, in a folder whose name claims no digest."""
    (folder / MANIFEST_FILE).write_bytes(content)
    return folder.rename(folder.with_name("copy"))


def rewritten(folder, **changes):
    content = json.loads((folder / MANIFEST_FILE).read_text())
    return forged(folder, json.dumps(content | changes, indent=2, sort_keys=True).encode())


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path)[1]


def test_it_says_the_same_after_a_round_trip():
    said = manifest(files={"linear.json": "0" * 64})
    assert Manifest.from_json(said.to_json()) == said
    assert json.loads(said.to_json())["format"] == 1


def test_the_digest_is_the_sha256_of_the_manifest(folder):
    found, digest, contents = read_verified(folder)
    assert digest == folder.name == hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()
    assert set(found.files) == set(contents) == FILES
    assert {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()} == found.files


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"model_version": "20270101T000000", "created_at": "2027-01-01T00:00:00+00:00"}, True),
        (
            {"git_commit": "unknown", "snapshots": ("2027-01-01.v1",), "time": "observed", "metrics": {"rows": 1.0}},
            True,
        ),
        ({"files": {"linear.json": "1" * 64}}, False),
        ({"threshold": 0.31}, False),
        ({"calibration": (1.0, 0.1)}, False),
        ({"tree_weight": 0.11}, False),
        ({"service": AUDIT_SERVICE}, False),
        ({"contract_hash": "1" * 64}, False),
    ],
)
def test_two_bundles_are_one_model_if_they_answer_alike(changes, same):
    said = manifest(files={"linear.json": "0" * 64})
    assert (replace(said, **changes).content_hash() == said.content_hash()) is same


def test_what_a_bundle_says_is_read_of_another_contract_and_of_lost_files_too(folder):
    said = read_verified(folder)[0]
    (folder / "trees.ubj").unlink()
    assert read_manifest(folder) == (said, folder.name)
    other = rewritten(folder, contract_hash="0" * 64)
    assert read_manifest(other)[0].contract_hash == "0" * 64


def test_a_bundle_of_before_transforms_were_part_of_the_hash_is_the_same_contract_and_model(folder):
    said = read_verified(folder)[0]
    (earlier,) = SAME_CONTRACTS[contract_hash(CORE_SERVICE)]
    old = rewritten(folder, contract_hash=earlier)
    assert "feature_hashes" not in json.loads((old / MANIFEST_FILE).read_text())
    found = read_verified(old)[0]
    assert (found.contract_hash, found.feature_hashes) == (earlier, {})
    assert found.content_hash() == said.content_hash()


def test_what_differs_is_named_with_its_file(folder):
    hashes = feature_hashes(CORE_SERVICE)
    before = hashes | {"partner": f"{'0' * 16}:", "protection_count": hashes["protection_count"][:17] + "0" * 16}
    with pytest.raises(OtherContractError) as refused:
        read_verified(folder := rewritten(folder, contract_hash="0" * 64, feature_hashes=before))
    assert "partner (feature_repo/contract.py), protection_count (feature_repo/transforms.py)" in refused.value.message
    kept = dict(list(hashes.items())[1:])
    with pytest.raises(OtherContractError, match=r": partner \(feature_repo/contract.py\)$"):
        read_verified(folder := rewritten(folder, features=[*kept], feature_hashes=kept))
    with pytest.raises(BundleError, match=r"no bundle manifest \(TypeError\)"):
        read_verified(rewritten(folder, feature_hashes=["partner"]))


def test_another_contract_is_told_from_damage(folder):
    with pytest.raises(OtherContractError):
        read_verified(rewritten(folder, contract_hash="0" * 64))


@pytest.mark.parametrize(
    ("name", "whether"),
    [
        ("0" * 64, True),
        (hashlib.sha256(b"x").hexdigest(), True),
        ("0" * 63, False),
        ("A" * 64, False),
        ("0" * 64 + "\n", False),
        ("../" + "0" * 61, False),
        ("", False),
    ],
)
def test_a_digest_is_64_hex_digits(name, whether):
    assert is_digest(name) is whether


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"extra": 1}, r"no bundle manifest \(ValueError\)"),
        ({"threshold": "0.5"}, r"no bundle manifest \(ValueError\)"),
        ({"threshold": math.nan}, r"no bundle manifest \(ValueError\)"),
        ({"tree_weight": math.inf}, r"no bundle manifest \(ValueError\)"),
        ({"calibration": [1.0]}, r"no bundle manifest \(ValueError\)"),
        ({"calibration": [math.nan, 0.0]}, r"no bundle manifest \(ValueError\)"),
        ({"calibration": None}, r"no bundle manifest \(TypeError\)"),
        ({"files": ["linear.json"]}, r"no bundle manifest \(TypeError\)"),
        ({"service": ["churn_core_v1"]}, r"no bundle manifest \(TypeError\)"),
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"files": {}}, "lists other files than a bundle has: linear.json, reason_codes.toml, trees.ubj"),
        # Fault 27: a model of another contract.
        ({"contract_hash": "0" * 64}, "trained on another contract of churn_core_v1"),
        ({"service": AUDIT_SERVICE}, "trained on another contract of churn_audit_v1"),
        ({"service": "churn_core_v9"}, "reads feature service churn_core_v9, which this code lacks"),
        ({"features": [*reversed(SERVICES_OF[CORE_SERVICE])]}, "trained on another contract"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_forged_manifest_is_refused(folder, changes, says):
    with pytest.raises(BundleError, match=says) as refused:
        read_verified(rewritten(folder, **changes))
    assert refused.value.http_status == 503
    assert "train" in refused.value.hint


def test_a_lost_key_is_refused(folder):
    content = json.loads((folder / MANIFEST_FILE).read_text())
    del content["threshold"]
    with pytest.raises(BundleError, match=r"no bundle manifest \(ValueError\)"):
        read_verified(forged(folder, json.dumps(content).encode()))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"7", b'"manifest"', b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(folder, text):
    with pytest.raises(BundleError, match="no bundle manifest"):
        read_verified(forged(folder, text))


def test_a_file_that_is_not_listed_can_not_be_swapped(folder):
    files = json.loads((folder / MANIFEST_FILE).read_text())["files"]
    del files["trees.ubj"]
    (folder / "trees.ubj").write_bytes(b"another model")
    with pytest.raises(BundleError, match=r"lists other files than a bundle has: trees\.ubj"):
        read_verified(rewritten(folder, files=files))


def test_a_file_that_a_bundle_does_not_have_is_refused(folder):
    files = json.loads((folder / MANIFEST_FILE).read_text())["files"] | {"../../champion.json": "0" * 64}
    with pytest.raises(BundleError, match=r"lists other files than a bundle has: \.\./\.\./champion\.json"):
        read_verified(rewritten(folder, files=files))


def test_a_folder_named_after_another_digest_is_refused(folder):
    other = folder.rename(folder.with_name("0" * 64))
    with pytest.raises(BundleError, match=r"manifest\.json of bundle 0000.* was changed"):
        read_verified(other)


def test_a_changed_manifest_is_found_by_the_folders_name(folder):
    content = (folder / MANIFEST_FILE).read_text()
    (folder / MANIFEST_FILE).write_text(content.replace('"threshold": 0.25', '"threshold": 0.95'))
    with pytest.raises(BundleError, match=r"manifest\.json of bundle .* was changed"):
        read_verified(folder)
