"""Both clients against a real server on loopback that fails as it is told."""

import asyncio
import json
import logging
import random
import subprocess
import sys

import httpx
import pytest

from bentos.client import (
    AsyncChurnClient,
    ChurnClient,
    CustomerUnknownError,
    NotAllowedError,
    Patience,
    UnavailableError,
    UnexpectedAnswerError,
)
from configs.settings import PROJECT_ROOT
from tests.support.loopback_server import KEY, Moment, Said, Scripted, an_answer, refused

ANSWER = Said(body=an_answer().model_dump_json().encode())


@pytest.fixture
def moment():
    return Moment()


@pytest.fixture
def server(moment):
    scripted = Scripted(moment)
    yield scripted
    scripted.stop()


@pytest.fixture(params=["blocking", "awaiting"])
def call(request, server, moment):
    """Call a method of a client of the server: call("predict", "id", **options of the client)."""

    def blocking(method, *args, url=None, **options):
        with ChurnClient(
            url or server.url, sleep=moment.sleep, clock=moment.clock, rng=random.Random(7), **options
        ) as client:
            return getattr(client, method)(*args)

    def awaiting(method, *args, url=None, **options):
        async def run():
            async with AsyncChurnClient(
                url or server.url, sleep=moment.sleep_async, clock=moment.clock, rng=random.Random(7), **options
            ) as client:
                return await getattr(client, method)(*args)

        return asyncio.run(run())

    return blocking if request.param == "blocking" else awaiting


def test_an_answer_is_typed_and_what_was_sent_is_json(call, server):
    server.script = [ANSWER]
    assert call("predict", "7590-VHVEG") == an_answer()
    (heard,) = server.heard
    assert (heard.method, heard.path, heard.body) == ("POST", "/predict", {"customer_id": "7590-VHVEG"})
    assert heard.headers["content-type"] == "application/json"


def test_a_path_behind_a_gateway_is_kept(call, server):
    server.script = [ANSWER]
    call("predict", "a", url=server.url + "/churn/v1")
    assert server.heard[0].path == "/churn/v1/predict"


def test_it_is_asked_again_after_an_overload_and_a_dropped_connection(call, server, moment):
    server.script = [refused(429, "rate_limited", **{"retry-after": "2"}), Said(drop=True), ANSWER]
    assert call("predict", "a") == an_answer()
    assert len(server.heard) == 3
    assert 2 <= moment.waits[0] <= 2.1
    assert 0 <= moment.waits[1] <= 0.2


def test_where_nothing_listens_it_is_tried_as_often_as_allowed(call, port, moment):
    with pytest.raises(UnavailableError) as caught:
        call("predict", "a", url=f"http://127.0.0.1:{port}")
    assert (caught.value.error, caught.value.status) == ("service_unreachable", None)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert len(moment.waits) == 3


def test_an_answer_that_does_not_come_is_not_asked_for_again(call, server):
    server.script = [Said(hang=True)]
    with pytest.raises(UnavailableError, match="did not answer in time"):
        call("predict", "a", patience=Patience(read_s=0.05))
    assert len(server.heard) == 1


def test_a_body_that_comes_too_slowly_is_given_up(call, server):
    server.script = [Said(body=ANSWER.body, late_s=31)]
    with pytest.raises(UnavailableError, match="did not answer in time"):
        call("predict", "a")


def test_a_refusal_is_its_error(call, server):
    server.script = [refused(404, "customer_unknown")]
    with pytest.raises(CustomerUnknownError) as caught:
        call("predict", "a")
    assert (caught.value.message, caught.value.hint, caught.value.status) == ("what happened", "what to do", 404)
    assert len(server.heard) == 1


def test_a_redirect_is_not_followed_with_the_key(call, server):
    server.script = [Said(307, headers={"location": "/elsewhere"}), ANSWER]
    with pytest.raises(UnexpectedAnswerError):
        call("predict", "a", api_key=KEY)
    assert [each.path for each in server.heard] == ["/predict"]


@pytest.mark.parametrize(
    ("said", "ready"), [(Said(), True), (refused(503, "no_champion"), False), (Said(drop=True), False)]
)
def test_ready_asks_once(call, server, said, ready):
    server.script = [said]
    assert call("ready") is ready
    assert [(each.method, each.path) for each in server.heard] == [("GET", "/readyz")]


def test_ready_where_nothing_listens(call, port):
    assert call("ready", url=f"http://127.0.0.1:{port}") is False


def test_ready_does_not_take_a_stranger_for_the_service(call, server):
    server.script = [Said(404, b"<html>")]
    with pytest.raises(Exception, match="not the churn service's"):
        call("ready")


@pytest.mark.parametrize(
    ("method", "args", "path"),
    [
        ("metadata", (), "/metadata"),
        ("prediction", ("01A204B1-6022-79d9-a58e-4cb07ee36e70",), "/predictions/01a204b1-6022-79d9-a58e-4cb07ee36e70"),
    ],
)
def test_what_is_only_read_is_a_get(call, server, method, args, path):
    server.script = [refused(401, "key_invalid")]
    with pytest.raises(NotAllowedError):
        call(method, *args)
    assert [(each.method, each.path, each.body) for each in server.heard] == [("GET", path, None)]


def test_a_what_if_sends_its_changes_and_many_are_split(call, server):
    server.script = [refused(422, "what_if_refused"), Said(body=json.dumps({"results": []}).encode())]
    with pytest.raises(Exception, match="what happened"):
        call("what_if", "a", {"Contract": "One year"})
    assert server.heard[0].body == {"customer_id": "a", "changes": {"Contract": "One year"}}
    with pytest.raises(UnexpectedAnswerError, match="not about"):
        call("predict_many", ["a", "b", "c"], batch_ids_max=2)
    assert server.heard[1].body == {"customer_ids": ["a", "b"]}


def test_the_key_is_sent_and_shown_nowhere(call, server, caplog):
    caplog.set_level(logging.DEBUG)
    server.script = [refused(401, "key_invalid")]
    with pytest.raises(NotAllowedError) as caught:
        call("predict", "a", api_key=KEY)
    assert server.heard[0].headers["authorization"] == f"Bearer {KEY}"
    assert caplog.records
    assert KEY not in caplog.text
    assert KEY not in repr(caught.value)


def test_a_client_s_name_is_its_address_alone():
    with ChurnClient(f"https://agent:{KEY}@host/churn", api_key=KEY) as client:
        assert repr(client) == "ChurnClient(URL('https://agent:[secure]@host/churn/'))"

    async def name():
        async with AsyncChurnClient("http://host", api_key=KEY) as client:
            return repr(client)

    assert asyncio.run(name()) == "AsyncChurnClient(URL('http://host'))"


def test_importing_it_loads_nothing_that_scores():
    code = "import bentos.client, sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    heavy = {"bentoml", "feast", "pandas", "numpy", "xgboost", "fastapi", "starlette", "redis", "sqlalchemy", "pyarrow"}
    assert not set(run.stdout.split()) & heavy
