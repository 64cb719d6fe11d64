"""Errors of the HTTP service, and the one place where an error becomes an HTTP answer."""

from __future__ import annotations

from math import ceil
from typing import Final

from starlette.responses import JSONResponse

from bentos.prediction.errors import UNAVAILABLE
from configs.errors import ChurnError

TOO_MANY: Final = 429
_JSON_HINT: Final = "see /openapi.json for the body of each route"


class RequestInvalidError(ChurnError):
    """The body does not match the route's schema. Reports location and rule, never the value."""

    error = "request_invalid"
    http_status = 422

    def __init__(self, message: str, hint: str = _JSON_HINT) -> None:
        super().__init__(message, hint)


class BodyTooLargeError(ChurnError):
    """The body exceeds serving.body_size_max_kb."""

    error = "body_too_large"
    http_status = 413


class MediaTypeError(ChurnError):
    """The body is not declared as JSON."""

    error = "media_type_unsupported"
    http_status = 415


class ContentEncodingError(ChurnError):
    """The body is in an unsupported content encoding."""

    error = "content_encoding_unsupported"
    http_status = 415

    def __init__(self, message: str) -> None:
        super().__init__(message, "send it as it is, or in gzip or deflate")


class RouteUnknownError(ChurnError):
    """There is no such route."""

    error = "route_unknown"
    http_status = 404


class MethodNotAllowedError(ChurnError):
    """The route exists, but not for this method."""

    error = "method_not_allowed"
    http_status = 405


class RequestTimeoutError(ChurnError):
    """The head did not arrive within serving.header_timeout_s, or the body within serving.request_timeout_s."""

    error = "request_timeout"
    http_status = 408


class AnswerTimeoutError(ChurnError):
    """The answer was not ready within serving.request_timeout_s."""

    error = "answer_timeout"
    http_status = UNAVAILABLE


class KeyMissingError(ChurnError):
    """The request has no valid API key."""

    error = "key_invalid"
    http_status = 401


class KeyForbiddenError(ChurnError):
    """The key is valid, but lacks the right that the route needs."""

    error = "key_forbidden"
    http_status = 403


class HostRefusedError(ChurnError):
    """Without keys in use: the request's Host header names another machine than this one."""

    error = "host_refused"
    http_status = 421

    def __init__(self) -> None:
        super().__init__(
            "the Host header names another machine than this one",
            "without API keys only localhost, 127.0.0.1 and [::1] are answered, with any port; for callers that know "
            "the service by another name make a key: churn keys create",
        )


class RateLimitedError(ChurnError):
    """The key exceeds access.requests_per_s; ``wait_s``: seconds until its next request is admitted."""

    error = "rate_limited"
    http_status = TOO_MANY

    def __init__(self, wait_s: float) -> None:
        super().__init__("too many requests", "wait as long as Retry-After says, or ask for a higher limit")
        self.retry_after_s = ceil(wait_s)


class OverloadedError(ChurnError):
    """As many requests as serving.concurrency_max are in progress."""

    error = "overloaded"
    http_status = TOO_MANY
    retry_after_s = 1
    """Requests in progress end within about a second."""


class RequestMalformedError(ChurnError):
    """The bytes received are not an HTTP request."""

    error = "request_malformed"
    http_status = 400


class HeadTooLargeError(ChurnError):
    """The request's line and headers are too long, or too many."""

    error = "head_too_large"
    http_status = 431


class NotReadyError(ChurnError):
    """The service can't answer yet. Carries the error of its cause, which the operator has to fix."""

    http_status = UNAVAILABLE

    def __init__(self, cause: ChurnError) -> None:
        super().__init__(cause.message, cause.hint)
        self.error = cause.error


class LoadingError(ChurnError):
    """Another request is loading the champion."""

    error = "loading"
    http_status = UNAVAILABLE


class HomeLostError(ChurnError):
    """The home, or a file of it that the service holds open, was removed."""

    error = "home_lost"
    http_status = UNAVAILABLE

    def __init__(self) -> None:
        super().__init__(
            "the home was removed or replaced while the service runs: feast/registry.db or feast/online.db is missing",
            "restore the whole home from a backup; or run: churn apply, then churn materialize",
        )


def response_to(error: ChurnError, retry_after_s: int) -> JSONResponse:
    """Return the HTTP answer to an error: status, common error body, Retry-After where a retry may help."""
    wait_s = error.retry_after_s if isinstance(error, RateLimitedError | OverloadedError) else retry_after_s
    headers = {"Retry-After": str(wait_s)} if error.http_status in {UNAVAILABLE, TOO_MANY} else None
    return JSONResponse(error.body(), error.http_status, headers)
