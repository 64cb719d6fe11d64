"""Rows are added through Feast as a part of their own; no file that a reader may have open ever changes."""

from __future__ import annotations

import pandas as pd
import pytest

from configs.settings import load_settings
from feature_repo.contract import CUSTOMER, EVENT_TIMESTAMP, SOURCE
from feature_repo.files.parquet_tables import OfflineRowsError, append_table
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.registration import apply


@pytest.fixture
def home(tmp_path, telco):
    """Two rows of the real table in a home of their own."""
    (part,) = telco.settings.home.glob("offline/customer_snapshot/*.parquet")
    settings = load_settings(home=tmp_path)
    rows = pd.read_parquet(part).head(2)
    append_table(tmp_path, SOURCE, "first", rows)
    apply(settings)
    return settings, rows


def test_writing_through_feast_adds_a_part_and_changes_none(home):
    settings, rows = home
    (part,) = settings.home.glob("offline/customer_snapshot/*.parquet")
    before = part.read_bytes()
    for _ in range(2):
        open_feature_store(settings).write_to_offline_store("customer_billing", rows.assign(**{CUSTOMER: ["x", "y"]}))
    assert part.read_bytes() == before
    assert len(list(settings.home.glob("offline/customer_snapshot/*.parquet"))) == 2


def test_rows_without_an_instant_are_refused(home):
    settings, rows = home
    with pytest.raises(OfflineRowsError, match=EVENT_TIMESTAMP):
        open_feature_store(settings).write_to_offline_store(
            "customer_billing", rows.assign(**{EVENT_TIMESTAMP: pd.NaT})
        )
    assert len(list(settings.home.glob("offline/customer_snapshot/*.parquet"))) == 1
