"""Feast may not write into the offline table: it would rewrite a file that a reader has open."""

from __future__ import annotations

import pandas as pd
import pytest

from feature_repo.stores.offline import OfflineTableAppendOnlyError
from feature_repo.stores.opening import open_store


def test_writing_through_feast_is_refused_by_name(telco):
    (part,) = telco.settings.home.glob("offline/customer_snapshot/*.parquet")
    before = part.read_bytes()
    rows = pd.read_parquet(part).head(2)
    with pytest.raises(OfflineTableAppendOnlyError, match="append-only"):
        open_store(telco.settings).write_to_offline_store("customer_billing", rows)
    assert part.read_bytes() == before
