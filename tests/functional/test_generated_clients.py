"""Clients that the common generators make of /openapi.json ask the service for everything, without a hand's change."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.full

GENERATORS = {
    "openapi-python-client": "openapi-python-client==0.29.1",
    "datamodel-codegen": "datamodel-code-generator==0.89.0",
    "openapi-generator-cli": "openapi-generator-cli==7.26.0",
}
"""Command -> package. Not among the project's own: the first wants another release of typer than the project has."""

OF_OPENAPI_PYTHON_CLIENT = """
import json, sys
from churn_client import Client
from churn_client.api.health import readyz
from churn_client.api.predict import predict, predict_batch, predict_what_if
from churn_client.api.receipts import prediction
from churn_client.api.service import bentoml_schema, metadata, metrics, root, ui
from churn_client.models import BatchRequest, PredictRequest, WhatIfRequest, WhatIfRequestChanges
from churn_client.models import WhatIfRequestChangesContractType as Contract

url, customer = sys.argv[1:]
client = Client(url)
changes = WhatIfRequestChanges(contract_type=Contract.TWO_YEAR, paperless_billing=False)
batch = predict_batch.sync(client=client, body=BatchRequest(customer_ids=[customer, "nobody-0"]))
supposed = predict_what_if.sync(client=client, body=WhatIfRequest(customer_id=customer, changes=changes))
answer = predict.sync(client=client, body=PredictRequest(customer_id=customer))
refused = predict.sync(client=client, body=PredictRequest(customer_id="nobody-0"))
print(json.dumps({
    "predict": answer.probability, "batch": [type(each).__name__ for each in batch.results],
    "what_if": [supposed.before.probability, supposed.after.probability], "refused": refused.error,
    "ready": readyz.sync(client=client).status, "model": metadata.sync(client=client).model_version,
}))
"""
OF_OPENAPI_GENERATOR = """
import json, sys
from openapi_client import ApiClient, BatchRequest, Changes, Configuration, PredictRequest, WhatIfRequest
from openapi_client import HealthApi, PredictApi, ServiceApi
from openapi_client.exceptions import NotFoundException

url, customer = sys.argv[1:]
with ApiClient(Configuration(host=url)) as client:
    api = PredictApi(client)
    batch = api.predict_batch(BatchRequest(customer_ids=[customer, "nobody-0"]))
    supposed = api.predict_what_if(WhatIfRequest(customer_id=customer, changes=Changes(contract_type="Two year")))
    try:
        api.predict(PredictRequest(customer_id="nobody-0"))
    except NotFoundException as refused:
        error = json.loads(refused.body)["error"]
    print(json.dumps({
        "predict": api.predict(PredictRequest(customer_id=customer)).probability,
        "batch": [type(each.actual_instance).__name__ for each in batch.results],
        "what_if": [supposed.before.probability, supposed.after.probability], "refused": error,
        "ready": HealthApi(client).readyz().status, "model": ServiceApi(client).metadata().model_version,
    }))
"""
OF_DATAMODEL_CODE_GENERATOR = """
import json, sys, urllib.request
from models import Answer, BatchAnswer, BatchRequest, PredictRequest, WhatIfAnswer, WhatIfRequest

url, customer = sys.argv[1:]
def ask(path, body, model):
    head = {"content-type": "application/json"}
    request = urllib.request.Request(url + path, body.model_dump_json(exclude_none=True, by_alias=True).encode(), head)
    return model.model_validate_json(urllib.request.urlopen(request).read())
supposed = WhatIfRequest(customer_id=customer, changes={"contract_type": "Two year"})
supposed = ask("/predict/what-if", supposed, WhatIfAnswer)
batch = ask("/predict/batch", BatchRequest(customer_ids=[customer, "nobody-0"]), BatchAnswer)
print(json.dumps({
    "predict": ask("/predict", PredictRequest(customer_id=customer), Answer).probability,
    "batch": [type(each).__name__ for each in batch.results],
    "what_if": [supposed.before.probability, supposed.after.probability],
}))
"""


@pytest.fixture(scope="module")
def described(sqlite_service, tmp_path_factory):
    """A folder with the document."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_bytes(sqlite_service.get("/openapi.json").content)
    return folder


@pytest.fixture
def generate(described):
    """Run a generator; return what it said."""

    def run(command, *words):
        tool = ["uv", "tool", "run", "--python", sys.executable, "--from", GENERATORS[command], command]
        done = subprocess.run([*tool, *words], cwd=described, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def said(sqlite_service, described):
    """What a program that uses a generated client says, checked as far as it says it."""

    def run(program, folder):
        world = sqlite_service.world
        customer = next(
            each
            for each, contract in zip(world.ids, world.frame["contract_type"], strict=True)
            if contract == "Month-to-month"
        )
        words = [sys.executable, "-W", "error", "-c", program, sqlite_service.url, customer]
        done = subprocess.run(words, cwd=described / folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        expected = sqlite_service.predict(customer).json()["probability"]
        assert found["predict"] == pytest.approx(expected, abs=1e-9)
        assert found["batch"] == ["Answer", "RefusedCustomer"]
        before, after = found["what_if"]
        assert before == pytest.approx(expected, abs=1e-9)
        assert after < before
        return found

    return run


WHOLE = {"refused": "customer_unknown", "ready": "ready", "model": "test-1"}


def test_openapi_python_client(generate, said):
    output = generate("openapi-python-client", "generate", "--path", "openapi.json", "--output-path", "one")
    assert "will not be generated" not in output
    assert said(OF_OPENAPI_PYTHON_CLIENT, "one").items() >= WHOLE.items()


def test_openapi_generator(generate, said):
    output = generate("openapi-generator-cli", "generate", "-g", "python", "-i", "openapi.json", "-o", "two")
    assert " ERROR " not in output
    assert said(OF_OPENAPI_GENERATOR, "two").items() >= WHOLE.items()


def test_datamodel_code_generator(generate, said):
    words = ["--input", "openapi.json", "--output", "models.py", "--output-model-type", "pydantic_v2.BaseModel"]
    generate("datamodel-codegen", *words)
    assert said(OF_DATAMODEL_CODE_GENERATOR, ".")
