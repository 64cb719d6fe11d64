"""Errors of the client: one class per family of failures."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from pydantic import ValidationError

from bentos.churn.api.schemas import ErrorBody
from configs.errors import ChurnError

NO_ANSWER: Final = "service_unreachable"
"""The ``error`` of a call that got no answer at all."""
NOT_OURS: Final = "answer_unreadable"
"""The ``error`` of an answer that this service did not write: a proxy's page, another service's JSON."""


class ChurnServiceError(ChurnError):
    """Base class of all errors that the client raises on purpose.

    Parameters
    ----------
    message, hint
        As the service wrote them; they hold no customer id.
    error
        The service's stable error name, to distinguish errors within a family.
    status
        The HTTP status; None if there was no answer.
    retry_after_s
        Seconds to wait as the service requested; None if it did not.

    Examples
    --------
    >>> from bentos.client import OverloadedError
    >>> refused = OverloadedError("too many requests", "slow down", error="overloaded", status=429, retry_after_s=2.0)
    >>> refused.transient, refused.retry_after_s
    (True, 2.0)
    """

    def __init__(
        self, message: str, hint: str = "", *, error: str, status: int | None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint)
        self.error = error
        self.status = status
        self.retry_after_s = retry_after_s


class CustomerUnknownError(ChurnServiceError):
    """The service has no features of this customer."""


class CustomerWithdrawnError(ChurnServiceError):
    """The customer has left: remove them from the list."""


class NotAllowedError(ChurnServiceError):
    """The API key is missing, wrong, or lacks the right that the route needs."""


class RequestRefusedError(ChurnServiceError):
    """The service refuses this request, and would refuse it again."""


class OverloadedError(ChurnServiceError):
    """The service, or the limit of this key, has no capacity for the request now."""

    transient = True


class UnavailableError(ChurnServiceError):
    """The service can't answer now, can't be reached, or took too long."""

    transient = True


class UnexpectedAnswerError(ChurnServiceError):
    """A defect of the service, or an answer that this client can't read."""


class EventLoopError(ChurnError):
    """An :class:`~bentos.client.async_client.AsyncChurnClient` is used in another event loop than its first call."""

    error = "event_loop_changed"


_OF_NAME: Final[dict[str, type[ChurnServiceError]]] = {
    "customer_unknown": CustomerUnknownError,
    "customer_withdrawn": CustomerWithdrawnError,
}
_OF_STATUS: Final[dict[int, type[ChurnServiceError]]] = {
    HTTPStatus.UNAUTHORIZED: NotAllowedError,
    HTTPStatus.FORBIDDEN: NotAllowedError,
    HTTPStatus.REQUEST_TIMEOUT: UnavailableError,
    HTTPStatus.TOO_MANY_REQUESTS: OverloadedError,
    HTTPStatus.BAD_GATEWAY: UnavailableError,
    HTTPStatus.SERVICE_UNAVAILABLE: UnavailableError,
    HTTPStatus.GATEWAY_TIMEOUT: UnavailableError,
}


def error_of_answer(status: int, content: bytes, retry_after_s: float | None) -> ChurnServiceError:
    """Return the error of an answer that is not a success. Pure.

    The body decides where it can: behind a reverse proxy a 404 may also mean that the proxy does not know the service.

    Examples
    --------
    >>> from bentos.client.errors import error_of_answer
    >>> error_of_answer(404, b"<html>not found</html>", None)
    RequestRefusedError("status 404, with a body that is not the churn service's")
    """
    body = _body(status, content)
    family = _OF_NAME.get(body.error) or _OF_STATUS.get(status)
    if family is None:
        client_s = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        family = RequestRefusedError if client_s else UnexpectedAnswerError
    return family(body.message, body.hint, error=body.error, status=status, retry_after_s=retry_after_s)


def _body(status: int, content: bytes) -> ErrorBody:
    try:
        return ErrorBody.model_validate_json(content, extra="ignore")
    except ValidationError:
        return ErrorBody(
            error=NOT_OURS,
            message=f"status {status}, with a body that is not the churn service's",
            hint="check the address, and what stands between: a gateway or a proxy answers so",
        )
