"""What a bundle promises for every customer that the contract allows, likely or not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.bundle import Bundle
from bentos.bundle.design_matrix import Factor, Term, attribution, matrix
from feature_repo.contract import CORE_SERVICE, Feature, features_of
from feature_repo.stores.casting import to_dataframe
from tests.support.small_model import saved
from training.model.feature_columns import LINEAR_TERMS, TREE_TERMS

FEATURES = features_of(CORE_SERVICE)
NAMES = tuple(feature.name for feature in FEATURES)
CASES = settings(max_examples=60, deadline=None)


def domain(feature: Feature) -> st.SearchStrategy[object]:
    """Any value of the contract's type and domain; charges and months far beyond any bill and any life."""
    if feature.dtype == "bool":
        values: st.SearchStrategy[object] = st.booleans()
    elif feature.dtype == "string":
        values = st.sampled_from(feature.categories)
    elif feature.dtype == "int64":
        values = st.sampled_from([0, 1, 72, 10**6]) | st.integers(0, 120)
    else:
        values = st.sampled_from([0.0, 0.01, 1e6]) | st.floats(0, 10_000)
    return values | st.none() if feature.nullable else values


def frames(rows: st.SearchStrategy[int]) -> st.SearchStrategy[pd.DataFrame]:
    customer = st.tuples(*(domain(feature) for feature in FEATURES))
    return rows.flatmap(lambda count: st.lists(customer, min_size=count, max_size=count)).map(
        lambda found: to_dataframe(FEATURES, dict(zip(NAMES, zip(*found, strict=True), strict=True)))
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.load(saved(tmp_path_factory.mktemp("home"), calibration=(0.9, -0.1))[1])


@pytest.mark.slow
@CASES
@given(frames(st.integers(1, 6)))
def test_every_score_is_a_probability_and_every_explanation_adds_up(bundle, frame):
    explained = bundle.explain(frame)
    assert np.isfinite(explained.margin).all()
    assert ((explained.score > 0) & (explained.score < 1)).all()
    assert explained.contributions.shape == frame.shape
    assert explained.base + explained.contributions.sum(axis=1) == pytest.approx(explained.margin, abs=1e-6)


@pytest.mark.slow
@CASES
@given(frames(st.integers(2, 6)), st.randoms(use_true_random=False))
def test_a_customers_score_depends_on_nobody_else(bundle, frame, random):
    together = bundle.score(frame)
    order = random.sample(range(len(frame)), len(frame))
    assert bundle.score(frame.iloc[order]) == pytest.approx(together[order], rel=1e-12)
    alone = [float(bundle.score(frame.iloc[[row]])[0]) for row in range(len(frame))]
    assert alone == pytest.approx(together, rel=1e-12)


@CASES
@given(frames(st.integers(1, 4)))
def test_every_design_is_finite_and_a_sum_of_indicators_is_one(bundle, frame):
    for design in (LINEAR_TERMS, TREE_TERMS):
        columns = matrix(design, frame)
        assert np.isfinite(columns).all()
        for feature in ("contract_type", "internet_service", "payment_method"):
            own = [k for k, column in enumerate(design) if column.name.startswith(f"{feature}=")]
            assert (columns[:, own].sum(axis=1) == 1).all()


@pytest.mark.parametrize("design", [LINEAR_TERMS, TREE_TERMS], ids=["linear", "trees"])
def test_what_is_attributed_is_no_more_and_no_less_than_there_is(design):
    assert attribution(design, NAMES).sum(axis=1) == pytest.approx(np.ones(len(design)), abs=1e-15)


@CASES
@given(st.floats(0, 1e6), st.floats(-10, 10), st.sampled_from(["number", "log1p", "above", "at_most"]))
def test_a_shift_only_moves(value, shift, operation):
    frame = pd.DataFrame({"tenure_months": [value]})
    plain, shifted = (Term("it", (Factor("tenure_months", operation, 12.0, each),)) for each in (0.0, shift))
    both = matrix((plain, shifted), frame)
    assert both[:, 1] == pytest.approx(both[:, 0] - shift, abs=1e-9)
