"""One number of one feature, products of them, and who a product's contribution belongs to."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from bentos.bundle.design_matrix import Factor, Term, attribution, design_from_json, design_to_json, matrix

ROWS = pd.DataFrame(
    {
        "tenure_months": [0.0, 1.0, 12.0],
        "total_charges_usd": [math.nan, 20.0, 300.5],
        "contract_type": ["Month-to-month", "One year", None],
        "partner": pd.Series([True, False, None], dtype=object),
    }
)
TENURE = Factor("tenure_months", "number")
MONTHLY = Factor("contract_type", "equals", "Month-to-month")


@pytest.mark.parametrize(
    ("factor", "numbers"),
    [
        (Factor("tenure_months", "number"), [0, 1, 12]),
        (Factor("tenure_months", "number", shift=2.0), [-2, -1, 10]),
        (Factor("tenure_months", "log1p"), [0, math.log(2), math.log(13)]),
        (Factor("tenure_months", "log1p", shift=3.0), [-3, math.log(2) - 3, math.log(13) - 3]),
        (Factor("tenure_months", "above", 1.0), [0, 0, 11]),
        (Factor("tenure_months", "at_most", 1.0), [1, 1, 0]),
        (Factor("contract_type", "equals", "One year"), [0, 1, 0]),
        (Factor("contract_type", "equals", "Nobody has this"), [0, 0, 0]),
        (Factor("partner", "equals", value=True), [1, 0, 0]),
        # The one null with a meaning: a total before the first bill counts as 0.
        (Factor("total_charges_usd", "number"), [0, 20, 300.5]),
        (Factor("total_charges_usd", "above", 25.0), [0, 0, 275.5]),
    ],
)
def test_each_operation(factor, numbers):
    found = matrix((Term("it", (factor,)),), ROWS)
    assert found.dtype == np.float64
    assert found[:, 0] == pytest.approx(numbers, abs=1e-15)


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="unknown operation 'exec' of feature tenure_months"):
        Factor("tenure_months", "exec")


def test_a_missing_feature_is_named():
    with pytest.raises(KeyError, match="gone"):
        matrix((Term("gone", (Factor("gone", "number"),)),), ROWS)


def test_a_column_is_the_product_of_its_factors():
    design = (Term("tenure", (TENURE,)), Term("monthly", (MONTHLY,)), Term("both", (TENURE, MONTHLY)))
    shifted = (Term("both", (Factor("tenure_months", "number", shift=5.0), MONTHLY)),)
    assert matrix(design, ROWS).tolist() == [[0, 1, 0], [1, 0, 0], [12, 0, 0]]
    assert matrix(shifted, ROWS).tolist() == [[-5], [0], [0]]


def test_no_rows_give_no_rows():
    assert matrix((Term("tenure", (TENURE,)),), ROWS.head(0)).shape == (0, 1)


def test_a_product_belongs_to_its_features_half_and_half():
    names = ("contract_type", "partner", "tenure_months")
    design = (
        Term("tenure", (TENURE,)),
        Term("both", (TENURE, MONTHLY)),
        Term("squared", (TENURE, Factor("tenure_months", "log1p"))),
        Term("three", (TENURE, MONTHLY, Factor("partner", "equals", value=True))),
    )
    weights = attribution(design, names)
    assert weights.tolist()[:3] == [[0, 0, 1], [0.5, 0, 0.5], [0, 0, 1]]
    assert weights[3] == pytest.approx([1 / 3] * 3)
    assert weights.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-15)


def test_a_column_of_a_feature_that_nobody_asked_for_is_an_error():
    with pytest.raises(KeyError, match="tenure_months"):
        attribution((Term("tenure", (TENURE,)),), ("partner",))


def test_a_design_travels_as_json():
    design = (
        Term("both", (Factor("tenure_months", "log1p", shift=3.0), MONTHLY)),
        Term("partner", (Factor("partner", "equals", value=True),)),
    )
    assert design_from_json(json.loads(json.dumps(design_to_json(design)))) == design


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ([{"name": "x"}], KeyError),
        ([{"name": "x", "factors": [{"feature": "x"}]}], TypeError),
        ([{"name": "x", "factors": [{"feature": "x", "op": "number", "code": "import os"}]}], TypeError),
        ([{"name": "x", "factors": [{"feature": "x", "op": "eval"}]}], ValueError),
        (["x"], TypeError),
    ],
)
def test_anything_else_is_no_design(content, error):
    with pytest.raises(error):
        design_from_json(content)
