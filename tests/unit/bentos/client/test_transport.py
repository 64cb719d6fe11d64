"""What httpx is given, and what its exceptions mean."""

import httpx
import pytest

from bentos.client.retries import Request, Send
from bentos.client.transport import arguments, failed, options
from tests.support.loopback_server import KEY


@pytest.mark.parametrize("wrong", ["127.0.0.1:3000", "ftp://host", "http://", "file:///run/churn.sock", ""])
def test_an_address_must_be_one(wrong):
    with pytest.raises(ValueError, match="base_url"):
        options(wrong, None, 1)


@pytest.mark.parametrize("wrong", ["", "two words", "line\nbreak", "ключ", KEY + "\r\nX-Admin: 1"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_told(wrong):
    with pytest.raises(ValueError, match="api_key") as caught:
        options("http://host", wrong, 1)
    assert KEY not in str(caught.value)


def test_the_key_is_a_bearer_token_and_no_redirect_is_followed():
    found = options("https://host/churn", KEY, 1)
    assert found["headers"]["authorization"] == f"Bearer {KEY}"
    assert found["follow_redirects"] is False
    assert "authorization" not in options("https://host/churn", None, 1)["headers"]


def test_connections_are_bounded_by_the_client_and_kept_open():
    limits = options("http://host", None, 7)["limits"]
    assert (limits.max_connections, limits.max_keepalive_connections) == (None, 7)
    with pytest.raises(ValueError, match="concurrency_max must be at least 1"):
        options("http://host", None, 0)


def test_times_of_a_step_are_those_of_httpx():
    found = arguments(Send(Request("/predict", b"{}"), connect_s=2, read_s=10, ends_at=99))
    assert found["timeout"] == httpx.Timeout(connect=2, read=10, write=10, pool=None)
    assert (found["method"], found["headers"]) == ("POST", {"content-type": "application/json"})
    assert arguments(Send(Request("/readyz"), connect_s=2, read_s=10, ends_at=99))["method"] == "GET"


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (httpx.ConnectError(""), "connection"),
        (httpx.ConnectTimeout(""), "connection"),
        (httpx.PoolTimeout(""), "connection"),
        (httpx.ReadError(""), "connection"),
        (httpx.WriteError(""), "connection"),
        (httpx.RemoteProtocolError(""), "connection"),
        (httpx.ProxyError(""), "connection"),
        (httpx.ReadTimeout(""), "time"),
        (httpx.WriteTimeout(""), "time"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_a_connection_that_failed_is_told_from_an_answer_that_took_too_long(broken, kind):
    found = failed(broken)
    assert (found.kind, found.cause) == (kind, broken)


def test_a_mistake_of_ours_is_not_hidden_as_a_fault_of_the_network():
    with pytest.raises(httpx.LocalProtocolError):
        failed(httpx.LocalProtocolError("ours"))
