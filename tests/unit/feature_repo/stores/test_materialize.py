"""What is said of the values that are online now."""

from datetime import timedelta

import pytest

from feature_repo.stores.errors import NothingToMaterializeError
from feature_repo.stores.materialize import _young
from tests.support.materialisation_store import NOON

DAY = timedelta(days=1)


def put(settings, *rows):
    import pandas as pd

    from feature_repo.contract import CREATED_TIMESTAMP, CUSTOMER, EVENT_TIMESTAMP, SOURCE
    from feature_repo.files.table_paths import table_pattern

    path = settings.home / table_pattern(SOURCE).replace("**/", "").replace("*", "part")
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows, columns=[CUSTOMER, EVENT_TIMESTAMP, CREATED_TIMESTAMP]).to_parquet(path)


def test_customers_and_the_newest_known_value(settings):
    put(settings, ("a", NOON - DAY, NOON - DAY), ("b", NOON - DAY, NOON), ("a", NOON - 2 * DAY, NOON))
    assert _young(settings, NOON - 92 * DAY, NOON) == (2, NOON - DAY)


def test_what_was_not_known_yet_does_not_count(settings):
    put(settings, ("a", NOON - DAY, NOON + DAY))
    with pytest.raises(NothingToMaterializeError, match="last 92 days"):
        _young(settings, NOON - 92 * DAY, NOON)
