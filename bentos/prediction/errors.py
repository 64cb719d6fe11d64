"""Errors of a prediction: why a customer has no score. Each has the HTTP status that the service answers with."""

from __future__ import annotations

import logging
import traceback
from typing import Final

from configs.errors import ChurnError

log = logging.getLogger(__name__)
UNAVAILABLE: Final = 503


class ContractMismatchError(ChurnError):
    """The registered feature service has another contract than the bundle or this code."""

    error = "contract_mismatch"
    http_status = UNAVAILABLE


class CustomerUnknownError(ChurnError):
    """The online store has no such customer."""

    error = "customer_unknown"
    http_status = 404


class CustomerWithdrawnError(ChurnError):
    """The customer has left, or the newest extract no longer lists it."""

    error = "customer_withdrawn"
    http_status = 410


class FeaturesExpiredError(ChurnError):
    """The customer's values are older than their view's time to live."""

    error = "features_expired"
    http_status = UNAVAILABLE


class FeaturesMissingError(ChurnError):
    """A value is null although the contract forbids it."""

    error = "features_missing"
    http_status = 422


class InternalError(ChurnError):
    """A defect of this software."""

    error = "internal"
    http_status = 500

    def __init__(self) -> None:
        super().__init__("the service failed on this request", "the log names the place; report it")


def internal(broken: Exception) -> InternalError:
    """Log an unexpected exception by type and place, and return the error for the caller.

    Neither the exception's text nor the local values are written: both may hold a customer id.
    """
    place = traceback.extract_tb(broken.__traceback__)
    frames = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(place[-4:]))
    log.error("unexpected %s at %s", type(broken).__name__, frames)
    return InternalError()
