"""What an earlier version wrote is opened by this one, and the addresses that something outside remembers stay.

That is its bundle, registry, online rows, receipts and ledger, and its model in MLflow. The kept home is from before
the modules were ordered into rooms; ``tests/support/kept_home.py`` says how it is made.
"""

from __future__ import annotations

import ast
import importlib
import json
import tomllib
import warnings
from datetime import datetime

import pytest
import yaml

from bentos.bundle import Bundle
from bentos.prediction.model import load_model
from bentos.prediction.predictor import predict_customers
from bentos.receipts import Replayer, find_receipt
from bentos.rollout import champion_digest
from bentos.rollout.ledger import read_ledger
from configs.settings import PROJECT_ROOT, load_settings
from feature_repo.contract import features_of
from feature_repo.stores.casting import to_dataframe
from tests.support.kept_home import ANSWERS, stored_models, unpack

CHURN = PROJECT_ROOT / "bentos" / "churn"
ADDRESSES = (
    "bentos.bundle.Bundle",
    "bentos.client.AsyncChurnClient",
    "bentos.client.ChurnClient",
    "bentos.client.ChurnServiceError",
    "bentos.client.CustomerUnknownError",
    "bentos.client.CustomerWithdrawnError",
    "bentos.client.NotAllowedError",
    "bentos.client.OverloadedError",
    "bentos.client.Patience",
    "bentos.client.RequestRefusedError",
    "bentos.client.UnavailableError",
    "bentos.client.UnexpectedAnswerError",
    "feature_repo.contract.features_of",
    "feature_repo.stores.casting.as_frame",
    "feature_repo.stores.engine.ColumnarComputeEngine",
    "feature_repo.stores.offline.AsofOfflineStore",
    "feature_repo.stores.offline.AsofOfflineStoreConfig",
    "feature_repo.stores.online_redis.PlannedRedisOnlineStore",
    "feature_repo.stores.online_redis.PlannedRedisOnlineStoreConfig",
    "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore",
    "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStoreConfig",
    "feature_repo.stores.typed.as_frame",
    "feature_repo.transforms.derive",
    "feature_repo.transforms.milestones",
    "feature_repo.transforms.windows",
)
"""What commands, configurations, registries, model scripts and programs outside name."""
FILES = ("bentofile.yaml", "requirements.txt", "ui/page.html")
"""What a build of the service and its images name of ``bentos/churn``."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def settings(home):
    return load_settings(home=home)


@pytest.fixture
def answers(home):
    return json.loads((home / ANSWERS).read_text())


def near(value):
    return pytest.approx(value, rel=0, abs=1e-12)


def test_its_model_answers_as_it_did(settings, answers):
    model = load_model(settings, champion_digest(settings.home))
    for each in answers:
        now = find_receipt(settings, each["prediction_id"]).answered_at
        (found,) = (one.body() for one in predict_customers(model, [each["customer_id"]], now, reasons_max=3))
        assert found == each | {
            "prediction_id": found["prediction_id"],
            "stale": tuple(each["stale"]),
            "missing": tuple(each["missing"]),
            "features_as_of": datetime.fromisoformat(each["features_as_of"]),
            "probability": near(each["probability"]),
            "expected_profit_usd": near(each["expected_profit_usd"]),
            "reasons": [reason | {"contribution": near(reason["contribution"])} for reason in each["reasons"]],
        }


def test_its_receipts_are_replayed(settings, answers):
    for each in answers:
        replayed = Replayer(settings).replay(find_receipt(settings, each["prediction_id"]))
        assert replayed.agrees
        assert replayed.probability == pytest.approx(each["probability"], abs=1e-12)


def test_its_ledger_is_whole(home):
    (entry,) = read_ledger(home)
    assert (entry.action, entry.after["champion"]) == ("promote", champion_digest(home).name)


def test_its_model_is_loaded_by_mlflow(settings, home, answers):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

    (folder,) = stored_models(home)
    model = mlflow.pyfunc.load_model(str(folder))
    values = [find_receipt(settings, each["prediction_id"]).values for each in answers]
    features = features_of(Bundle.load(champion_digest(home)).manifest.service)
    columns = {feature.name: column for feature, column in zip(features, zip(*values, strict=True), strict=True)}
    scores = model.predict(to_dataframe(features, columns))
    assert scores["probability"].tolist() == pytest.approx([each["probability"] for each in answers], abs=1e-9)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_something_outside_remembers_stays(address):
    module, _, name = address.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_a_build_of_the_service_names_stays(name):
    assert (CHURN / name).is_file()


def test_the_service_stays():
    assert yaml.safe_load((CHURN / "bentofile.yaml").read_text())["service"] == "bentos.churn.service:ChurnService"
    # Read, not imported: BentoML would be set up in this process.
    module = ast.parse((CHURN / "service.py").read_text())
    assert "ChurnService" in {node.name for node in module.body if isinstance(node, ast.ClassDef)}


def test_the_command_and_every_deployment_lead_somewhere():
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["churn"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    deployments = yaml.safe_load((PROJECT_ROOT / "flows" / "prefect.yaml").read_text())["deployments"]
    entrypoints = {each["entrypoint"] for each in deployments}
    assert len(entrypoints) == 13
    for entrypoint in entrypoints:
        module, _, name = entrypoint.rpartition(".")
        assert getattr(importlib.import_module(module), name).name
