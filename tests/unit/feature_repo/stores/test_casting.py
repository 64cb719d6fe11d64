"""One value looks the same from every store."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from feature_repo.contract import BY_NAME
from feature_repo.stores.casting import to_dataframe, to_python_values

TENURE, CHARGE = BY_NAME["tenure_months"], BY_NAME["total_charges_usd"]
PARTNER, CONTRACT = BY_NAME["partner"], BY_NAME["contract_type"]


@pytest.mark.parametrize(
    ("feature", "stored", "value"),
    [
        (TENURE, 3.0, 3),
        (TENURE, np.int64(3), 3),
        (TENURE, np.nan, None),
        (TENURE, pd.NA, None),
        (CHARGE, np.float64(1.5), 1.5),
        (CHARGE, None, None),
        (PARTNER, np.True_, True),
        (PARTNER, 0, False),
        (CONTRACT, "One year", "One year"),
        (CONTRACT, None, None),
    ],
)
def test_a_value_becomes_the_contracts_type(feature, stored, value):
    (found,) = to_python_values(feature, [stored])
    assert found == value
    assert type(found) is type(value)


def test_a_broken_integer_is_refused():
    with pytest.raises(ValueError, match=r"tenure_months: 1\.5 is no integer"):
        to_python_values(TENURE, [1.5])


def test_a_null_changes_no_dtype():
    columns = {"tenure_months": [1, 2], "total_charges_usd": [1.0, None], "contract_type": ["One year", None]}
    frame = to_dataframe([TENURE, CHARGE, CONTRACT], columns)
    assert list(frame.columns) == ["tenure_months", "total_charges_usd", "contract_type"]
    assert [str(dtype) for dtype in frame.dtypes] == ["float64", "float64", "object"]
    assert frame["contract_type"].tolist() == ["One year", None]
