"""On every row of the real file the saved bundle is the trained pipeline, and its reasons add up."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest

from bentos.bundle import Bundle, BundleError
from bentos.bundle.design_matrix import matrix
from bentos.rollout import champion_digest
from feature_repo.contract import CORE_SERVICE, SERVICES_OF

NAMES = SERVICES_OF[CORE_SERVICE]


@pytest.fixture(scope="module")
def frame(telco):
    return telco.training_set.features


@pytest.fixture(scope="module")
def bundle(telco):
    """The champion as a service loads it: from the disk, verified."""
    return Bundle.load(champion_digest(telco.settings.home))


@pytest.fixture(scope="module")
def explained(bundle, frame):
    return bundle.explain(frame)


def test_the_champion_is_what_was_trained_on_all_rows_of_the_file(telco, bundle, frame):
    assert telco.verdict.promote, telco.verdict.why
    assert bundle.digest == telco.challenger.bundle.digest
    assert len(frame) == len(telco.snapshot)


def test_bundle_scores_equal_the_pipelines_on_every_row(telco, bundle, frame):
    model = telco.challenger.fitted.model
    slope, intercept = bundle.manifest.calibration
    calibrated = slope * model.decision_function(frame) + intercept
    assert bundle.margin(frame) == pytest.approx(calibrated, abs=1e-12)
    assert bundle.score(frame) == pytest.approx(1 / (1 + np.exp(-calibrated)), abs=1e-12)
    if (slope, intercept) == (1.0, 0.0):
        assert bundle.score(frame) == pytest.approx(model.predict_proba(frame)[:, 1], abs=1e-12)


def test_explanations_add_up_to_the_margin_on_every_row(bundle, frame, explained):
    assert explained.contributions.shape == (len(frame), len(NAMES))
    assert explained.base + explained.contributions.sum(axis=1) == pytest.approx(explained.margin, abs=1e-6)
    assert np.array_equal(explained.score, bundle.score(frame))


def test_the_linear_reasons_are_coefficient_times_distance_from_the_mean(telco, bundle, frame):
    model = telco.challenger.fitted.model
    design, scale, regression = (model.linear_[name] for name in ("design", "scale", "regression"))
    columns = (design.transform(frame) - scale.mean_) / scale.scale_ * regression.coef_[0]
    found = bundle.linear.explain(matrix(bundle.linear.design, frame), NAMES)
    assert found.base == pytest.approx(float(regression.intercept_[0]), abs=1e-12)
    for place, name in enumerate(NAMES):
        summed = np.zeros(len(frame))
        for k, column in enumerate(design.design):
            owners = [factor.feature for factor in column.factors]
            summed += columns[:, k] * owners.count(name) / len(owners)
        assert found.contributions[:, place] == pytest.approx(summed, abs=1e-9), name


def test_the_tree_reasons_are_shaps(bundle, frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of shap's plots, at import
        import shap

    sample = frame.sample(200, random_state=7)
    columns = matrix(bundle.trees.design, sample).astype(np.float32)
    # An explanation's base_values are right; expected_value is not until values were computed.
    peer = shap.TreeExplainer(bundle.trees.booster)(columns)
    found = bundle.trees.explain(matrix(bundle.trees.design, sample), NAMES)
    assert np.full(len(sample), found.base) == pytest.approx(peer.base_values, abs=1e-4)
    for place, name in enumerate(NAMES):
        own = [k for k, column in enumerate(bundle.trees.design) if column.factors[0].feature == name]
        summed = peer.values[:, own].sum(axis=1)
        assert found.contributions[:, place] == pytest.approx(summed, abs=1e-4), name


def test_the_bundles_reasons_are_the_blend_of_its_parts(bundle, frame, explained):
    share, (slope, intercept) = bundle.manifest.tree_weight, bundle.manifest.calibration
    linear, trees = (part.explain(matrix(part.design, frame), NAMES) for part in (bundle.linear, bundle.trees))
    blended = slope * ((1 - share) * linear.contributions + share * trees.contributions)
    assert explained.contributions == pytest.approx(blended, abs=1e-12)
    assert explained.base == pytest.approx(slope * ((1 - share) * linear.base + share * trees.base) + intercept)


def test_a_customer_alone_scores_as_in_the_whole_base_in_any_order(bundle, frame, explained):
    rows = np.random.default_rng(7).choice(len(frame), 25, replace=False)
    alone = np.array([bundle.score(frame.iloc[[row]])[0] for row in rows])
    assert alone == pytest.approx(explained.score[rows], abs=1e-12)
    order = np.random.default_rng(8).permutation(len(frame))
    assert bundle.score(frame.iloc[order]) == pytest.approx(explained.score[order], abs=1e-12)


def test_the_manifest_is_of_this_run(telco, bundle):
    said = bundle.manifest
    assert said.time == "declared"
    assert said.snapshots == (f"{telco.now.date()}.v1",)
    assert said.metrics == telco.challenger.fitted.metrics.as_dict()
    assert said.contract_hash == telco.training_set.contract_hash


def test_26_no_byte_of_the_real_bundle_can_change(bundle, telco, tmp_path):
    folder = shutil.copytree(champion_digest(telco.settings.home), tmp_path / bundle.digest)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        changed = bytearray(content)
        changed[len(content) // 2] ^= 1
        path.write_bytes(changed)
        with pytest.raises(BundleError, match=path.name.replace(".", r"\.")):
            Bundle.load(folder)
        path.write_bytes(content)
    assert Bundle.load(folder).digest == bundle.digest
