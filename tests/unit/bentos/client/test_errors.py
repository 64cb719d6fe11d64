"""From the answer that is no success to one class a family."""

import json

import pytest

from bentos.churn import errors as ours
from bentos.client.errors import (
    ChurnServiceError,
    CustomerUnknownError,
    CustomerWithdrawnError,
    NotAllowedError,
    OverloadedError,
    RequestRefusedError,
    UnavailableError,
    UnexpectedAnswerError,
    error_of_answer,
)
from bentos.prediction import errors as predictions


@pytest.mark.parametrize(
    ("refused", "family"),
    [
        (predictions.CustomerUnknownError, CustomerUnknownError),
        (predictions.CustomerWithdrawnError, CustomerWithdrawnError),
        (ours.KeyMissingError, NotAllowedError),
        (ours.KeyForbiddenError, NotAllowedError),
        (ours.RequestInvalidError, RequestRefusedError),
        (predictions.FeaturesMissingError, RequestRefusedError),
        (ours.BodyTooLargeError, RequestRefusedError),
        (ours.MediaTypeError, RequestRefusedError),
        (ours.RouteUnknownError, RequestRefusedError),
        (ours.MethodNotAllowedError, RequestRefusedError),
        (ours.RateLimitedError, OverloadedError),
        (ours.OverloadedError, OverloadedError),
        (ours.RequestTimeoutError, UnavailableError),
        (ours.AnswerTimeoutError, UnavailableError),
        (ours.LoadingError, UnavailableError),
        (predictions.FeaturesExpiredError, UnavailableError),
        (predictions.InternalError, UnexpectedAnswerError),
    ],
    ids=lambda value: value.__name__,
)
def test_each_refusal_of_the_service_has_its_family(refused, family):
    body = {"error": refused.error, "message": "m", "hint": "h"}
    found = error_of_answer(refused.http_status, json.dumps(body).encode(), 5.0)
    assert type(found) is family
    assert isinstance(found, ChurnServiceError)
    assert (found.error, found.message, found.hint) == (refused.error, "m", "h")
    assert (found.status, found.retry_after_s) == (refused.http_status, 5.0)


def test_a_refusal_may_say_more_than_this_client_knows():
    body = {"error": "customer_unknown", "message": "m", "hint": "h", "trace": "t"}
    assert type(error_of_answer(404, json.dumps(body).encode(), None)) is CustomerUnknownError


@pytest.mark.parametrize(
    ("status", "content", "family"),
    [
        (404, b"<html>no such app</html>", RequestRefusedError),
        (502, b"<html>Bad Gateway</html>", UnavailableError),
        (504, b"", UnavailableError),
        (500, b"\xff\xfe", UnexpectedAnswerError),
        (302, b"", UnexpectedAnswerError),
        (204, b"", UnexpectedAnswerError),
        (403, b'{"error": 7}', NotAllowedError),
    ],
)
def test_what_a_gateway_says_is_told_apart_from_what_the_service_says(status, content, family):
    found = error_of_answer(status, content, None)
    assert type(found) is family
    assert found.error == "answer_unreadable"
    assert str(status) in found.message


def test_what_may_pass_by_itself_says_so():
    assert OverloadedError("m", error="e", status=429).transient
    assert UnavailableError("m", error="e", status=503).transient
    assert not CustomerUnknownError("m", error="e", status=404).transient
