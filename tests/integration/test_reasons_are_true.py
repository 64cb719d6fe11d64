"""A reason that speaks for leaving must be about customers who do leave: checked on the real file, code by code."""

from __future__ import annotations

import numpy as np
import pytest

from bentos.decisions.reason_codes import load_reason_codes
from feature_repo.contract import BY_NAME, CORE_SERVICE

MATTERS_LOG_ODDS = 0.05
CUSTOMERS_MIN = 100
DICTIONARY = load_reason_codes(CORE_SERVICE)


@pytest.fixture(scope="module")
def groups(telco):
    """Each customer's contribution by code, and whether the customer left."""
    contributions = telco.challenger.bundle.explain(telco.training_set.features).contributions
    names = list(telco.training_set.features.columns)
    summed = {
        code: contributions[:, [names.index(name) for name in entry.features]].sum(axis=1)
        for code, entry in DICTIONARY.codes.items()
    }
    return summed, telco.training_set.churned.to_numpy(dtype=bool)


@pytest.mark.parametrize("code", DICTIONARY.codes)
def test_customers_for_whom_a_code_raises_leave_more_often_than_those_for_whom_it_lowers(code, groups):
    summed, churned = groups
    raises, lowers = summed[code] > MATTERS_LOG_ODDS, summed[code] < -MATTERS_LOG_ODDS
    if min(raises.sum(), lowers.sum()) < CUSTOMERS_MIN:
        # It hardly ever matters one way: then at least the order must be right.
        assert np.corrcoef(summed[code], churned)[0, 1] > 0
    else:
        assert churned[raises].mean() > churned[lowers].mean()


def test_no_protected_attribute_is_a_reason():
    assert not any(BY_NAME[name].protected for entry in DICTIONARY.codes.values() for name in entry.features)
