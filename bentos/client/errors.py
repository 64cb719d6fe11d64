"""What a call of the service can end with instead of an answer: one class a family."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from pydantic import ValidationError

from bentos.churn.api.schemas import ErrorBody
from configs.errors import ChurnError

NO_ANSWER: Final = "service_unreachable"
"""The ``error`` of a call that got no answer at all."""
NOT_OURS: Final = "answer_unreadable"
"""The ``error`` of an answer that this service did not write: a gateway's page, another service's JSON."""


class ChurnServiceError(ChurnError):
    """The service gave no answer to what was asked. All that this client raises on purpose derives from it.

    Parameters
    ----------
    message, hint
        The service's own words; they hold no customer id.
    error
        The service's stable name of the refusal: what to switch on within a family.
    status
        The HTTP status; None if there was no answer.
    retry_after_s
        How long the service asks to wait, seconds; None if it does not say.
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
    """The customer has left: take them off the list."""


class NotAllowedError(ChurnServiceError):
    """The API key is missing, wrong, or has not the right that the route needs."""


class RequestRefusedError(ChurnServiceError):
    """The service does not take this request, and would not take it a second time."""


class OverloadedError(ChurnServiceError):
    """More was asked than the service, or this key, may be asked now."""

    transient = True


class UnavailableError(ChurnServiceError):
    """The service can't answer now, can't be reached, or took too long."""

    transient = True


class UnexpectedAnswerError(ChurnServiceError):
    """A defect of the service, or an answer that this client can't read."""


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


def refusal(status: int, content: bytes, retry_after_s: float | None) -> ChurnServiceError:
    """Return the error of an answer that is not a success. Pure.

    The body decides where it can: behind a gateway a 404 may as well mean that the gateway knows no such service.
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
