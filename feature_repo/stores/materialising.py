"""Copy the newest offline values into the online store."""

from __future__ import annotations

import contextlib
import io
from datetime import datetime, timedelta

from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import TTL_DAYS
from feature_repo.stores.opening import open_store


class NothingRegisteredError(ChurnError):
    """The registry holds no feature view."""

    error = "nothing_registered"


def materialize(settings: Settings, now: datetime) -> int:
    """Write each customer's newest unexpired values online; return the number of views written.

    The whole TTL window is read each time, not only what follows the watermark: a late row (one that is older
    than the last materialisation) would never arrive otherwise.
    """
    store = open_store(settings)
    views = [view.name for view in store.list_feature_views() if view.online]
    if not views:
        raise NothingRegisteredError("no feature view is registered", "run: churn apply")
    with contextlib.redirect_stdout(io.StringIO()):  # Feast prints its progress, colours and all
        store.materialize(start_date=now - timedelta(days=TTL_DAYS), end_date=now, feature_views=views)
    return len(views)
