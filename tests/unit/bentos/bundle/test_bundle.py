"""Saved and loaded, a bundle is the same model; changed by one byte, it is none."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pandas as pd
import pytest

from bentos.bundle import Bundle, BundleError, FeaturesInvalidError
from bentos.bundle.design_matrix import matrix
from bentos.bundle.manifest import FILES, MANIFEST_FILE
from feature_repo.files.atomic_writes import StorageError
from tests.support.small_model import (
    REASONS,
    fitted_model,
    manifest,
    saved,
    small_bundle,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A saved bundle and its folder, which no test changes."""
    return saved(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bundle(original):
    return Bundle.load(original[1])


@pytest.fixture
def folder(original, tmp_path):
    """A copy that may be spoiled, under the bundle's own name."""
    return shutil.copytree(original[1], tmp_path / original[1].name)


def test_it_scores_as_the_pipeline_does(bundle, frame):
    assert bundle.score(frame) == pytest.approx(fitted_model().predict_proba(frame)[:, 1], abs=1e-12)


def test_explanations_add_up_to_the_margin_of_the_score(bundle, frame):
    explained = bundle.explain(frame)
    assert np.array_equal(explained.score, bundle.score(frame))
    assert np.array_equal(explained.margin, bundle.margin(frame))
    assert np.log(explained.score / (1 - explained.score)) == pytest.approx(explained.margin, abs=1e-9)
    assert explained.contributions.shape == frame.shape
    assert explained.base + explained.contributions.sum(axis=1) == pytest.approx(explained.margin, abs=1e-6)


def test_contributions_are_the_ones_the_evaluation_shows(bundle, frame):
    peer = fitted_model().contributions(frame, tuple(frame.columns))
    assert bundle.explain(frame).contributions == pytest.approx(peer, abs=1e-9)


@pytest.mark.parametrize("calibration", [(1.0, 0.0), (0.8, -0.3), (2.0, 1.0)])
def test_calibration_moves_score_and_explanation_together(frame, calibration):
    slope, intercept = calibration
    plain, calibrated = small_bundle(), small_bundle(calibration=calibration)
    assert calibrated.margin(frame) == pytest.approx(slope * plain.margin(frame) + intercept, abs=1e-12)
    explained = calibrated.explain(frame)
    assert explained.base + explained.contributions.sum(axis=1) == pytest.approx(explained.margin, abs=1e-6)


@pytest.mark.parametrize(("tree_weight", "part"), [(0.0, "linear"), (1.0, "trees")])
def test_the_weight_is_the_trees_share(frame, tree_weight, part):
    bundle = small_bundle(tree_weight=tree_weight)
    own = getattr(bundle, part)
    alone = own.margin(matrix(own.design, frame))
    assert bundle.margin(frame) == pytest.approx(alone, abs=1e-12)


def test_a_row_alone_scores_as_in_a_batch_and_order_does_not_matter(bundle, frame):
    together = bundle.explain(frame)
    for row in (0, 7, len(frame) - 1):
        alone = bundle.explain(frame.iloc[[row]])
        assert alone.score == together.score[row]
        assert alone.contributions == pytest.approx(together.contributions[[row]], abs=1e-12)
    order = np.random.default_rng(3).permutation(len(frame))
    assert bundle.score(frame.iloc[order]) == pytest.approx(together.score[order], abs=1e-15)


def test_nobody_is_certain_however_large_the_margin(bundle, frame):
    extreme = frame.head(2).assign(monthly_charges_usd=[0.0, 1e6], total_charges_usd=[None, 1e9])
    score = bundle.score(extreme)
    assert ((score > 0) & (score < 1)).all()


def test_small_probabilities_keep_their_digits(frame):
    # 1 - 1 / (1 + e^-40) is 0 in floating point; the probability is e^-40.
    bundle = small_bundle(calibration=(0.0, -40.0))
    assert bundle.score(frame.head(1)) == pytest.approx([np.exp(-40)], rel=1e-12)


def test_no_rows_no_scores(bundle, frame):
    explained = bundle.explain(frame.head(0))
    assert bundle.score(frame.head(0)).shape == explained.score.shape == explained.margin.shape == (0,)
    assert explained.contributions.shape == (0, frame.shape[1])
    assert explained.base == bundle.explain(frame.head(1)).base


def test_other_columns_are_refused(bundle, frame):
    with pytest.raises(BundleError, match="not those of churn_core_v1 in contract order: tenure_months missing"):
        bundle.score(frame.drop(columns="tenure_months"))
    for wrong in (frame[frame.columns[::-1]], frame.assign(gender="Female")):
        with pytest.raises(BundleError, match=r"contract order$"):
            bundle.explain(wrong)


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        ("tenure_months", np.nan),
        ("monthly_charges_usd", np.inf),
        ("total_charges_usd", -np.inf),
        ("monthly_charges_usd", 1e300),
        ("contract_type", None),
        ("partner", None),
        ("protection_count", np.nan),
    ],
)
def test_a_value_without_a_trained_meaning_is_never_scored(bundle, frame, feature, value):
    broken = frame.head(3).copy()
    broken.loc[1, feature] = value
    for ask in (bundle.score, bundle.explain, bundle.margin):
        with pytest.raises(FeaturesInvalidError, match=f"1 of 3 rows have no usable value for {feature}") as refused:
            ask(broken)
    assert refused.value.http_status == 422


def test_the_one_null_with_a_meaning_counts_as_nothing_billed_yet(bundle, frame):
    unbilled = frame.head(1).assign(tenure_months=0.0, total_charges_usd=np.nan)
    assert bundle.score(unbilled) == pytest.approx(bundle.score(unbilled.assign(total_charges_usd=0.0)), abs=0)


def test_a_loaded_bundle_is_the_saved_one(original, bundle, frame):
    kept, folder = original
    assert bundle.digest == kept.digest == folder.name
    assert bundle.manifest == kept.manifest
    assert bundle.reason_codes == REASONS
    assert np.array_equal(bundle.score(frame), kept.score(frame))


def test_saving_again_changes_nothing(tmp_path):
    first, folder = saved(tmp_path)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
    again = first.save(tmp_path)
    loaded_and_saved = Bundle.load(folder).save(tmp_path)
    assert first.digest == again.digest == loaded_and_saved.digest == saved(tmp_path / "elsewhere")[0].digest
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()} == before
    assert list((tmp_path / "bundles").iterdir()) == [folder]


def test_the_digest_follows_everything_in_the_bundle(original, tmp_path):
    kept, _ = original
    digests = {
        kept.digest,
        kept.with_metrics({"roc_auc": 0.85}).save(tmp_path).digest,
        saved(tmp_path, threshold=0.26)[0].digest,
        Bundle(manifest(), kept.linear, kept.trees, REASONS + "\n").save(tmp_path).digest,
    }
    assert len(digests) == 4


def test_the_folder_holds_the_manifest_and_its_files_and_nothing_that_can_run(original):
    names = {path.name for path in original[1].iterdir()}
    assert names == {MANIFEST_FILE, *FILES}
    assert {name.rsplit(".", 1)[1] for name in names} == {"json", "toml", "ubj"}


@pytest.mark.parametrize("name", sorted({MANIFEST_FILE, *FILES}))
def test_26_any_changed_byte_is_found_and_the_file_named(folder, name):
    content = (folder / name).read_bytes()
    # Every place of a small file, and an even spread over a large one; a low bit and the highest.
    for place in range(0, len(content), max(1, len(content) // 60)):
        for bit in (1, 128):
            changed = bytearray(content)
            changed[place] ^= bit
            (folder / name).write_bytes(changed)
            with pytest.raises(BundleError, match=name.replace(".", r"\.")):
                Bundle.load(folder)


@pytest.mark.parametrize("name", sorted(FILES))
def test_26_a_line_end_a_cut_or_an_addition_is_a_change_too(folder, name):
    content = (folder / name).read_bytes()
    for changed in (content.replace(b"\n", b"\r\n") + b"\r\n", content[:-1], content + b" ", b""):
        (folder / name).write_bytes(changed)
        with pytest.raises(BundleError, match="is missing or was changed"):
            Bundle.load(folder)


def test_26_a_manifest_with_other_line_ends_is_another_manifest(folder):
    content = (folder / MANIFEST_FILE).read_bytes()
    (folder / MANIFEST_FILE).write_bytes(content.replace(b"\n", b"\r\n"))
    with pytest.raises(BundleError, match=r"manifest\.json of bundle .* was changed"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", sorted({MANIFEST_FILE, *FILES}))
def test_26_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match="no bundle at" if name == MANIFEST_FILE else name.replace(".", r"\.")):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("linear.json", b"{"),
        ("linear.json", b"[]"),
        ("linear.json", b"{}"),
        ("trees_design.json", b'[{"name": "x"}]'),
        ("trees_design.json", b"7"),
        ("trees.ubj", b"no booster"),
        ("trees.ubj", b"\x80\x04\x95"),
        ("reason_codes.toml", b"\xff"),
    ],
)
def test_a_file_that_is_listed_rightly_and_is_no_model_is_refused(folder, name, content):
    # Whoever writes bundles by hand gets as far as a matching hash, and no further.
    text = (folder / MANIFEST_FILE).read_text()
    old, new = (hashlib.sha256(each).hexdigest() for each in ((folder / name).read_bytes(), content))
    (folder / name).write_bytes(content)
    (folder / MANIFEST_FILE).write_text(text.replace(old, new))
    with pytest.raises(BundleError, match=r"bundle forged can't be read"):
        Bundle.load(folder.rename(folder.with_name("forged")))


def test_an_exported_copy_loads_under_another_folders_name(original, bundle, frame, tmp_path):
    home = original[1].parent.parent
    bundle.export(home, tmp_path / "bundle")
    copy = Bundle.load(tmp_path / "bundle")
    assert copy.digest == bundle.digest
    assert np.array_equal(copy.score(frame), bundle.score(frame))


def test_a_disk_that_refuses_leaves_nothing(tmp_path):
    (tmp_path / "bundles").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        small_bundle().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bundles"]


def test_scoring_changes_nothing_it_was_given(bundle, frame):
    before = frame.copy(deep=True)
    bundle.explain(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_scores_are_the_same_to_the_bit_by_every_way(bundle, frame):
    vectors = bundle.vectors(frame)
    assert np.array_equal(bundle.score_vectors(vectors), bundle.explain_vectors(vectors).score)
    alone = [float(bundle.explain_vectors(vectors[[row]]).score[0]) for row in range(len(frame))]
    assert alone == bundle.score(frame).tolist()
