"""Why an MLflow server could not be asked: what lies on the way to it, named with its cure. Pure."""

from __future__ import annotations

import socket
import ssl
from typing import Final

from feature_repo.stores.database_errors import chain

_URI: Final = "CHURN_MLFLOW__TRACKING_URI"


def way_cause(broken: BaseException) -> tuple[str, str] | None:
    """Return what happened, to be read after the server's name, and its cure; None where the server itself failed.

    Only the kinds of the errors are looked at: their texts hold the address, and perhaps a password.
    """
    causes = list(chain(broken))
    if any(isinstance(each, ssl.SSLError) for each in causes):
        return (
            "can't be reached: the encrypted connection (TLS) failed",
            f"check http or https in {_URI}, and the certificate",
        )
    if any(isinstance(each, socket.gaierror) for each in causes):
        return "can't be reached: its host name is unknown", f"mend the host in {_URI}"
    if any(isinstance(each, ConnectionRefusedError) for each in causes):
        return "can't be reached: nothing listens at its address", f"start it, or mend host and port in {_URI}"
    if any(isinstance(each, TimeoutError) or "Timeout" in type(each).__name__ for each in causes):
        return "does not answer in time", f"check its load, the network and {_URI}"
    if "not in a valid JSON format" in str(broken):
        return "can't be asked: what answers there is no MLflow, perhaps a page to log in", f"mend {_URI}"
    return None
