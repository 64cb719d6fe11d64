"""What an earlier version wrote is opened by this one: its home, its bundle, its model in MLflow, its addresses.

The kept home is from before the modules were ordered into rooms; ``tests/support/kept_home.py`` says how it is made.
"""

from __future__ import annotations

import importlib
import json
import tomllib
import warnings
from datetime import datetime, timedelta

import pytest
import yaml

from bentos.bundle import Bundle
from bentos.prediction.model import load
from bentos.prediction.predictor import answer
from bentos.receipts import Replayer, find
from bentos.rollout import champion
from bentos.rollout.ledger import entries
from configs.settings import PROJECT_ROOT, load_settings
from feature_repo.contract import features_of
from feature_repo.stores.casting import as_frame
from tests.support.kept_home import ANSWERS, stored_models, unpack

ADDRESSES = (
    "bentos.bundle.Bundle",
    "feature_repo.contract.features_of",
    "feature_repo.stores.engine.ColumnarComputeEngine",
    "feature_repo.stores.offline.AsofOfflineStoreConfig",
    "feature_repo.stores.online_redis.PlannedRedisOnlineStoreConfig",
    "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStoreConfig",
    "feature_repo.stores.typed.as_frame",
    "feature_repo.transforms.derive",
    "feature_repo.transforms.milestones",
    "feature_repo.transforms.windows",
)
"""What configurations, registries and model scripts outside name."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def settings(home):
    return load_settings(home=home)


@pytest.fixture
def answers(home):
    return json.loads((home / ANSWERS).read_text())


def test_its_model_answers_as_it_did(settings, answers):
    # A day after the values: they are fresh, however long ago that was.
    now = datetime.fromisoformat(answers[0]["features_as_of"]) + timedelta(days=1)
    model = load(settings, champion(settings.home))
    found = answer(model, [each["customer_id"] for each in answers], now, reasons_max=3)
    assert [each.body()["label"] for each in found] == [each["label"] for each in answers]
    # Windows end at the instant of asking, so the score is near the one of then, not the same.
    assert [each.body()["probability"] for each in found] == pytest.approx(
        [each["probability"] for each in answers], abs=0.05
    )


def test_its_receipts_are_replayed(settings, answers):
    for each in answers:
        replayed = Replayer(settings).replay(find(settings, each["prediction_id"]))
        assert replayed.agrees
        assert replayed.probability == pytest.approx(each["probability"], abs=1e-12)


def test_its_ledger_is_whole(home):
    (entry,) = entries(home)
    assert (entry.action, entry.after["champion"]) == ("promote", champion(home).name)


def test_its_model_is_loaded_by_mlflow(settings, home, answers):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc

    (folder,) = stored_models(home)
    model = mlflow.pyfunc.load_model(str(folder))
    values = [find(settings, each["prediction_id"]).values for each in answers]
    features = features_of(Bundle.load(champion(home)).manifest.service)
    columns = {feature.name: column for feature, column in zip(features, zip(*values, strict=True), strict=True)}
    scores = model.predict(as_frame(features, columns))
    assert scores["probability"].tolist() == pytest.approx([each["probability"] for each in answers], abs=1e-9)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_something_outside_remembers_stays(address):
    module, _, name = address.rpartition(".")
    assert hasattr(importlib.import_module(module), name)


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
