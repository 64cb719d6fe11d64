"""Routes without a champion: shapes of refusals, and /openapi.json that says all of it."""

import asyncio
import json
import re
import threading

import httpx
import pytest
from pydantic import SecretStr
from pydantic_core import to_json

from bentos.churn.api import request_body
from bentos.churn.api.examples import EXAMPLES
from bentos.churn.api.openapi import TAGS, bodies
from bentos.churn.app import create_app, templates
from bentos.churn.routes import LARGE_BODY_BYTES
from bentos.churn.runtime.prediction_service import PredictionService
from bentos.churn.server.gateway import GatewayMiddleware
from bentos.decisions.counterfactuals import WhatIfRefusedError, check_changes
from bentos.decisions.feature_words import spoken
from bentos.decisions.levers import changeable, load_levers
from bentos.decisions.reason_codes import load_reason_codes as load_reasons
from bentos.prediction.errors import CustomerUnknownError
from configs.errors import ChurnError, SettingsError
from feature_repo.contract import CORE_SERVICE, SERVICES_OF
from tests.support.customers import NEWCOMER


async def elsewhere(scope, receive, send):
    raise AssertionError("the server's own routes must not be reached")


class Client:
    """Asks the application in process."""

    def __init__(self, app):
        self.app = app

    def request(self, method, path, **body):
        async def asked():
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://churn") as client:
                return await client.request(method, path, **body)

        return asyncio.run(asked())

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, **body):
        return self.request("POST", path, **body)


@pytest.fixture
def client(settings):
    app, metrics = create_app(settings)
    return Client(GatewayMiddleware(elsewhere, app.state.quick, metrics, settings.serving, templates(app)))


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/readyz", 503, "no_champion"),
        ("GET", "/metadata", 503, "no_champion"),
        ("GET", "/nothing", 404, "route_unknown"),
        ("GET", "/docs", 404, "route_unknown"),
        ("GET", "/redoc", 404, "route_unknown"),
        ("GET", "/docs.json", 404, "route_unknown"),
        ("GET", "/predict/", 404, "route_unknown"),
        ("GET", "/predict/7590-VHVEG", 404, "route_unknown"),
        ("GET", "/predict", 405, "method_not_allowed"),
        ("DELETE", "/health", 405, "method_not_allowed"),
    ],
)
def test_every_refusal_has_the_one_shape(client, method, path, status, error):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json().keys() == {"error", "message", "hint"}
    assert answer.json()["error"] == error
    assert "7590" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    assert ("allow" in answer.headers) == (status == 405)


def test_without_a_champion_the_service_lives_and_names_the_command(client):
    assert client.get("/livez").json() == {"status": "alive"}
    assert "churn train" in client.get("/readyz").json()["hint"]
    health = client.get("/health")
    assert health.status_code == 200
    assert health.json()["ready"] is False
    assert health.json()["error"]["error"] == "no_champion"
    assert client.post("/predict", json={"customer_id": "7590-VHVEG"}).json()["error"] == "no_champion"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 503),
        ("application/json; charset=UTF-8", 503),
        ("APPLICATION/JSON", 503),
        ("application/json; charset=latin-1", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/vnd.bentoml+pickle", 415),
        ("application/octet-stream", 415),
        ("nonsense", 415),
        ("", 415),
    ],
)
def test_only_json_is_read(client, content_type, status):
    for path, body in (("/predict", '{"customer_id": "a"}'), ("/predict/batch", '{"customer_ids": ["a"]}')):
        answer = client.post(path, content=body, headers={"content-type": content_type})
        assert answer.status_code == status, answer.text


def test_a_batch_longer_than_allowed_is_refused(client):
    answer = client.post("/predict/batch", json={"customer_ids": ["a"] * 1001})
    assert answer.status_code == 422
    assert "1001 are given, 1000 are allowed" in answer.json()["message"]


def test_openapi_tells_every_route_body_answer_and_refusal(client):
    spec = client.get("/openapi.json").json()
    opened = {"/health", "/livez", "/readyz"}
    keyed = {"/", "/metadata", "/metrics", "/predict", "/predict/batch", "/predict/what-if", "/schema.json", "/ui"}
    assert set(spec["paths"]) == opened | keyed | {"/predictions/{prediction_id}"}
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (path not in opened)
            kept_out = {"401", "403", "421", "429"}
            assert set(operation["responses"]) & kept_out == (set() if path in opened else kept_out)
    assert "HTTPValidationError" not in str(spec)
    predict = spec["paths"]["/predict"]["post"]
    refusals = {"401", "403", "404", "408", "410", "413", "415", "421", "422", "429", "500", "503"}
    assert set(predict["responses"]) == refusals | {"200"}
    for status, response in predict["responses"].items():
        if status != "200":
            reference = response["content"]["application/json"]["schema"]["$ref"]
            assert reference.endswith("/ErrorBody")
    body = body_of(spec, "/predict/batch")
    ids = body["properties"]["customer_ids"]
    assert (ids["minItems"], ids["maxItems"], body["additionalProperties"]) == (1, 1000, False)


def body_of(spec, path):
    """The schema of a route's body, which is a named one."""
    schema = spec["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    (reference,) = schema.values()
    return spec["components"]["schemas"][reference.removeprefix("#/components/schemas/")]


def operations(spec):
    return [operation for methods in spec["paths"].values() for operation in methods.values()]


def test_generators_make_short_names_of_it(client):
    spec = client.get("/openapi.json").json()
    names = {each["operationId"] for each in operations(spec)}
    assert names == {
        *("root", "health", "livez", "readyz", "metadata", "metrics", "ui", "bentoml_schema"),
        *("predict", "predict_batch", "predict_what_if", "prediction"),
    }
    used = [each["tags"] for each in operations(spec)]
    assert {tag for (tag,) in used} == {each["name"] for each in spec["tags"]} == {each["name"] for each in TAGS}


def test_no_schema_mixes_types_in_an_enumeration_or_names_that_differ_in_case_alone(client):
    def schemas(found):
        if isinstance(found, dict):
            yield found
        for each in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
            yield from schemas(each)

    for each in schemas(client.get("/openapi.json").json()["components"]["schemas"]):
        if isinstance(values := each.get("enum"), list):
            assert len({type(value) for value in values}) == 1, each
        if isinstance(properties := each.get("properties"), dict):
            plain = [name.replace("_", "").lower() for name in properties]
            assert len(set(plain)) == len(plain)


@pytest.mark.parametrize("needed", [True, False])
def test_a_key_is_optional_where_none_is_in_use(settings, needed):
    class Keys:
        def __init__(self):
            self.requires_key = needed

        def authorize(self, *_):
            """Let everyone in."""

    app, metrics = create_app(settings)
    door = GatewayMiddleware(
        elsewhere, app.state.quick, metrics, settings.serving, templates(app), authenticator=Keys()
    )
    spec = Client(door).request("GET", "/openapi.json", headers={"host": "localhost"}).json()
    for path in ("/predict", "/predict/batch"):
        assert ({} in spec["paths"][path]["post"]["security"]) is not needed
        assert {"bearer": []} in spec["paths"][path]["post"]["security"]
    assert "security" not in spec["paths"]["/livez"]["get"]


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 307),
        ("*/*", 200),
        ("application/json", 200),
        ("", 200),
    ],
)
def test_a_browser_at_the_root_is_sent_to_the_page_and_a_program_is_not(client, accept, status):
    answer = client.request("GET", "/", headers={"accept": accept})
    assert (answer.status_code, answer.headers["vary"]) == (status, "accept")
    if status == 307:
        assert answer.headers["location"] == "ui"
    else:
        assert [client.get(f"/{answer.json()[name]}").status_code for name in ("page", "description", "health")] == [
            200
        ] * 3


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/health", "/livez", "/readyz", "/metadata", "/metrics", "/openapi.json", "/schema.json", "/ui"),
        *("/nothing", "/predict", "/predictions/01a204b1-6022-79d9-a58e-4cb07ee36e70"),
    ],
)
@pytest.mark.parametrize("accept", ["identity", "gzip"])
def test_head_is_get_without_the_body(client, path, accept):
    ways = {method: client.request(method, path, headers={"accept-encoding": accept}) for method in ("GET", "HEAD")}
    assert ways["HEAD"].content == b""
    assert ways["HEAD"].status_code == ways["GET"].status_code
    told = {method: dict(answer.headers) for method, answer in ways.items()}
    if path == "/metrics":
        assert int(told["HEAD"].pop("content-length")) > 0  # the request before is counted in it
        told["GET"].pop("content-length")
    assert told["HEAD"] == told["GET"]


def test_what_may_be_asked_instead_names_head_too(client):
    assert client.request("DELETE", "/livez").headers["allow"] == "GET, HEAD"
    assert client.request("HEAD", "/predict").headers["allow"] == "POST"


def test_openapi_names_what_a_what_if_may_change(client):
    spec = client.get("/openapi.json").json()
    changes = body_of(spec, "/predict/what-if")["properties"]["changes"]
    levers = load_levers(CORE_SERVICE, load_reasons(CORE_SERVICE))
    features = [each.feature for each in levers.choices.values()]
    assert changes["additionalProperties"] is False
    assert changes["maxProperties"] == 20
    assert set(changes["properties"]) == {each.name for each in features}
    assert set(changes["patternProperties"]) == {f"^{each.column}$" for each in features}
    assert (
        changes["patternProperties"]["^Contract$"]
        == changes["properties"]["contract_type"]
        == {
            "description": "Length of the running contract",
            "type": "string",
            "enum": ["Month-to-month", "One year", "Two year"],
        }
    )
    word = {"type": "string", "enum": ["No", "Yes"]}
    assert changes["properties"]["paperless_billing"]["anyOf"] == [{"type": "boolean"}, word]
    price = changes["patternProperties"]["^MonthlyCharges$"]
    assert (price["type"], price["minimum"], price["maximum"]) == ("number", 18.0, 120.0)
    assert "on a step of 0.05 above the minimum" in price["description"]


def fault(levers, customer, asked):
    """What is said against a what-if; nothing where it is taken."""
    try:
        check_changes(levers, customer, asked)
    except WhatIfRefusedError as refused:
        return refused.message
    return ""


def test_what_openapi_lists_is_what_is_taken_and_nothing_else():
    levers = load_levers(CORE_SERVICE, load_reasons(CORE_SERVICE))
    customer = [NEWCOMER[name] for name in SERVICES_OF[CORE_SERVICE]]
    changes = bodies(1000, changeable())["WhatIfRequest"]["properties"]["changes"]
    shown = changes["properties"] | {name.strip("^$"): schema for name, schema in changes["patternProperties"].items()}
    assert len(shown) == 2 * len(changes["properties"])
    for name, schema in shown.items():
        words = next(spoken(each.name) for each in levers.features if name in {each.name, each.column})
        either = schema.get("anyOf", [schema])
        allowed = (
            [value for each in either for value in each.get("enum", [True, False])]
            if "type" not in schema
            else (schema.get("enum", [schema.get("minimum"), schema.get("maximum")]))
        )
        for value in allowed:
            # What goes only with other values, or is so already, is refused by itself; no value as such is.
            assert re.search("^$|nothing changes|only for them", fault(levers, customer, {name: value})), (name, value)
        for value in ("Perhaps", "yes", 0, 1e9, None):
            assert f"{words} must be" in fault(levers, customer, {name: value})


def test_where_nobody_knows_what_may_be_changed_every_name_may_be():
    changes = bodies(1000, {})["WhatIfRequest"]["properties"]["changes"]
    assert "properties" not in changes
    assert changes["additionalProperties"]["anyOf"]


def test_each_error_has_its_own_name():
    import bentos.churn.errors as service
    import bentos.prediction.errors as prediction

    kinds = {
        each
        for module in (service, prediction)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, ChurnError) and each.__module__ == module.__name__
    }
    names = [each.error for each in kinds if each is not service.NotReadyError]
    assert len(names) == len(set(names)) > 10
    assert "failed" not in names


@pytest.mark.parametrize("model", EXAMPLES, ids=lambda model: model.__name__)
def test_each_example_is_what_is_answered(client, model):
    model.model_validate_json(json.dumps(EXAMPLES[model]))
    shown = [
        operation["responses"]["200"]["content"]["application/json"]["example"]
        for operations in client.get("/openapi.json").json()["paths"].values()
        for operation in operations.values()
        if "example" in str(operation["responses"]["200"].get("content", {}).get("application/json", {}))
    ]
    assert EXAMPLES[model] in shown


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_a_defect_is_told_in_the_one_shape(settings, path, monkeypatch):
    async def broken(*_):
        raise RuntimeError("of 7590-VHVEG")

    monkeypatch.setattr(PredictionService, "predict", broken)
    app, metrics = create_app(settings)
    body = {"customer_id": "a"} if path == "/predict" else {"customer_ids": ["a"]}
    answer = Client(GatewayMiddleware(elsewhere, app.state.quick, metrics, settings.serving, templates(app))).post(
        path, json=body
    )
    assert (answer.status_code, answer.json()["error"]) == (500, "internal")
    assert 'churn_refusals_total{error="internal"}' in metrics.exposition().decode()


LARGE = {"customer_ids": ["a" * 60] * 900}
"""A batch of more than LARGE_BYTES."""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"customer_id": "a" * LARGE_BODY_BYTES}),
        ("/predict/batch", LARGE),
        ("/predict/what-if", {"customer_id": "a" * LARGE_BODY_BYTES, "changes": {}}),
    ],
)
def test_a_large_body_that_is_checked_holds_no_other_request(client, monkeypatch, path, body):
    """Where it is checked, the thread is held until other requests were answered."""
    begun, answered = threading.Event(), threading.Event()
    checked = request_body.validate_body

    def held(value, model):
        begun.set()
        assert answered.wait(60)
        return checked(value, model)

    monkeypatch.setattr(request_body, "validate_body", held)

    async def run():
        transport = httpx.ASGITransport(app=client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://churn") as asking:
            large = asyncio.create_task(asking.post(path, json=body))
            await asyncio.to_thread(begun.wait, 60)
            others = [(await asking.get(other)).status_code for other in ("/livez", "/health", "/readyz", "/nothing")]
            assert not large.done()
            answered.set()
            return others, (await large).status_code

    others, status = asyncio.run(run())
    assert others == [200, 200, 503, 404]
    assert status in {422, 503}


def test_an_answer_to_many_customers_is_written_where_it_holds_no_other_request(client, monkeypatch):
    begun, answered = threading.Event(), threading.Event()

    async def unknown(_, customer_ids):
        return [CustomerUnknownError("no features are known for this customer") for _ in customer_ids]

    def held(value):
        begun.set()
        assert answered.wait(60)
        return to_json(value)

    monkeypatch.setattr(PredictionService, "predict", unknown)
    monkeypatch.setattr("bentos.churn.routes.to_json", held)

    async def run():
        transport = httpx.ASGITransport(app=client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://churn") as asking:
            large = asyncio.create_task(asking.post("/predict/batch", json=LARGE))
            await asyncio.to_thread(begun.wait, 60)
            other = (await asking.get("/nothing")).status_code
            assert not large.done()
            answered.set()
            return other, (await large).json()["results"]

    other, results = asyncio.run(run())
    assert (other, len(results)) == (404, 900)


def test_whoever_asks_whether_it_is_ready_shares_one_look(settings, monkeypatch):
    begun, answered, looks = threading.Event(), threading.Event(), []

    def probe(self):
        looks.append(self)
        begun.set()
        assert answered.wait(60)
        return "test-1"

    monkeypatch.setattr("bentos.churn.routes.Routes._probe", probe)
    app, metrics = create_app(settings)
    door = GatewayMiddleware(elsewhere, app.state.quick, metrics, settings.serving, templates(app))

    async def run():
        transport = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport, base_url="http://churn") as asking:
            waiting = [asyncio.create_task(asking.get(path)) for path in ("/readyz", "/health") * 50]
            await asyncio.to_thread(begun.wait, 60)
            assert (await asking.get("/livez")).status_code == 200
            answered.set()
            return [(await each).json()["model_version"] for each in waiting]

    assert asyncio.run(run()) == ["test-1"] * 100
    assert len(looks) < 5


def test_receipts_in_another_database_than_ours_are_refused_at_the_start(settings):
    receipts = settings.receipts.model_copy(update={"database_url": SecretStr("mysql://somewhere/else")})
    with pytest.raises(SettingsError, match=r"receipts.database_url"):
        create_app(settings.model_copy(update={"receipts": receipts}))
