"""Causes of a failed MLflow connection: server unreachable, or another service at its address. Pure."""

from __future__ import annotations

from typing import Final

from feature_repo.stores.database_errors import Cause, Server, unreachable

_SERVER: Final = Server("CHURN_MLFLOW__TRACKING_URI", "http://", "https://", "MLFLOW_HTTP_REQUEST_TIMEOUT")


def connection_cause(broken: BaseException) -> Cause | None:
    """Return why the server could not be reached, and the fix; None where the server itself failed.

    MLflow's text is not repeated: it may hold the address, and perhaps a password.
    """
    if (found := unreachable(broken, _SERVER)) is not None:
        return found
    if "not in a valid JSON format" in str(broken):
        return Cause("what answers at its address is no MLflow, perhaps a page to log in", f"correct {_SERVER.setting}")
    return None
