"""The service's application in this process, on a real SQLite store and a real bundle."""

import asyncio
import math
import re
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from bentos.bundle import Bundle
from bentos.bundle.manifest import bundles_folder
from bentos.churn.app import create_app, templates
from bentos.churn.errors import AnswerTimeoutError, NotReadyError
from bentos.churn.metrics import ServiceMetrics
from bentos.churn.routes import Routes
from bentos.churn.runtime.model_manager import ModelManager
from bentos.churn.runtime.prediction_service import PredictionService
from bentos.churn.server.gateway import GatewayMiddleware
from bentos.prediction.errors import ContractMismatchError, InternalError
from bentos.prediction.model import load_model, warm_up
from bentos.prediction.prediction import REASONS_FAILED
from bentos.prediction.predictor import predict_customers
from bentos.prediction.what_if import predict_what_if
from bentos.rollout import champion_digest
from bentos.rollout.rollout import start_trial
from feature_repo.contract import CORE_SERVICE, PROJECT
from feature_repo.stores.errors import NothingRegisteredError, RegistryUnavailableError
from feature_repo.stores.feature_store import close_store, open_feature_store
from flows.service_process import free_port
from tests.support.patience import until
from tests.support.serving_home import EXPIRED, another, as_kind, build, serving


@pytest.fixture(scope="module")
def world(tmp_path_factory, telco_csv):
    return build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)


@pytest.fixture
def copy(world, tmp_path):
    """Settings of a copy of the world's home, to be spoiled."""
    for part in ("feast", "bundles", "ledger"):
        shutil.copytree(world.settings.home / part, tmp_path / part)
    return world.settings.model_copy(update={"home": tmp_path})


def ask_all(settings, requests):
    """Start the application with its lifespan, and ask it."""
    app, metrics = create_app(settings)
    door = GatewayMiddleware(app, app.state.quick, metrics, settings.serving, templates(app))

    async def asked():
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=door)
            async with httpx.AsyncClient(transport=transport, base_url="http://churn") as client:
                return [await client.request(method, path, json=body) for method, path, body in requests]

    return asyncio.run(asked())


def test_every_route_answers_from_the_loaded_champion(world):
    known, other = world.ids[:2]
    ready, metadata, one, many, health, metrics = ask_all(
        world.settings,
        [
            ("GET", "/readyz", None),
            ("GET", "/metadata", None),
            ("POST", "/predict", {"customer_id": known}),
            ("POST", "/predict/batch", {"customer_ids": [other, EXPIRED, known, known, "nobody"]}),
            ("GET", "/health", None),
            ("GET", "/metrics", None),
        ],
    )
    assert (ready.status_code, health.json()["ready"]) == (200, True)
    assert metadata.json()["bundle_digest"] == world.bundle.digest
    assert one.json()["probability"] == pytest.approx(float(world.bundle.score(world.frame.head(1))[0]), abs=1e-12)
    results = many.json()["results"]
    assert [each["customer_id"] for each in results] == [other, EXPIRED, known, known, "nobody"]
    assert results[2]["prediction_id"] != results[3]["prediction_id"]
    assert 'churn_refusals_total{error="features_expired"} 1.0' in metrics.text
    labels = [each["label"] for each in (one.json(), results[0], results[2])]
    assert f'churn_predictions_total{{label="{labels[0]}"}}' in metrics.text


def test_without_a_champion_the_lifespan_begins_all_the_same(settings):
    live, ready = ask_all(settings, [("GET", "/livez", None), ("GET", "/readyz", None)])
    assert (live.status_code, ready.status_code) == (200, 503)


def test_a_service_registered_with_another_contract_is_refused_by_name(copy):
    store = open_feature_store(copy)
    registered = store.get_feature_service(CORE_SERVICE)
    registered.tags = {"contract_hash": "0" * 64}
    store.registry.apply_feature_service(registered, PROJECT)
    with pytest.raises(ContractMismatchError, match="registered with another contract") as refused:
        load_model(copy, champion_digest(copy.home))
    assert refused.value.hint == "run: churn apply"
    (answer,) = ask_all(copy, [("GET", "/readyz", None)])
    assert (answer.status_code, answer.json()["error"]) == (503, "contract_mismatch")


def refreshing():
    """The threads that refresh the registry of a store; each is a new one after its turn."""
    named = "_start_thread_async_refresh"
    waiting = (each for each in threading.enumerate() if isinstance(each, threading.Timer))
    return {each for each in waiting if getattr(each.function, "__name__", "") == named}


def of_stores():
    """The registries that are refreshed."""
    return {id(each.function.__self__) for each in refreshing()}


def test_a_home_that_is_replaced_ends_the_thread_of_its_store_and_so_does_the_end(copy):
    before = of_stores()
    models = ModelManager(copy, ServiceMetrics())
    models.current()
    (first,) = of_stores() - before
    shutil.copytree(copy.home, copy.home.parent / "restored")
    copy.home.rename(copy.home.parent / "gone")
    begun = models.current()
    (copy.home.parent / "restored").rename(copy.home)
    models.refresh(datetime.now(UTC))
    assert models.current() is not begun
    until(lambda: first not in of_stores())
    assert len(of_stores() - before) == 1
    # A request that began with what served before is answered to its end.
    assert begun.predict(["nobody"], datetime.now(UTC), reasons_max=3)[0].error == "customer_unknown"
    models.close()
    until(lambda: of_stores() == before)


def test_a_model_that_can_not_be_loaded_leaves_no_thread_of_a_store(copy):
    before = of_stores()
    store = open_feature_store(copy)
    registered = store.get_feature_service(CORE_SERVICE)
    registered.tags = {"contract_hash": "0" * 64}
    store.registry.apply_feature_service(registered, PROJECT)
    with pytest.raises(ContractMismatchError):
        load_model(copy, champion_digest(copy.home))
    store.registry.delete_feature_service(CORE_SERVICE, PROJECT)
    with pytest.raises(NothingRegisteredError):
        load_model(copy, champion_digest(copy.home))
    close_store(store)
    until(lambda: of_stores() == before)


def test_a_registry_that_was_never_applied_is_refused_by_name(copy):
    shutil.rmtree(copy.home / "feast")
    with pytest.raises(NothingRegisteredError) as refused:
        load_model(copy, champion_digest(copy.home))
    assert refused.value.hint == "run: churn apply"


def test_a_corrupt_registry_is_refused_by_name_without_its_address(copy):
    (copy.home / "feast" / "registry.db").write_bytes(b"no database" * 1000)
    with pytest.raises(RegistryUnavailableError) as refused:
        load_model(copy, champion_digest(copy.home))
    assert str(copy.home) not in refused.value.message


def test_a_dead_store_does_not_keep_the_service_from_loading(world, caplog):
    feast = {"online_store": "redis", "redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}/0")}
    settings = world.settings.model_copy(update={"feast": world.settings.feast.model_copy(update=feast)})
    warm_up(load_model(settings, champion_digest(settings.home)), datetime.now(UTC))
    assert "the online store does not answer yet" in caplog.text


def test_a_champion_that_appears_later_is_picked_up_and_kept_without_a_pointer(copy):
    pointer = copy.home / "bundles" / "champion.json"
    content = pointer.read_bytes()
    pointer.unlink()
    models = ModelManager(copy, ServiceMetrics())
    with pytest.raises(NotReadyError) as refused:
        models.current()
    assert refused.value.error == "no_champion"
    pointer.write_bytes(content)
    models._tried_at = math.inf
    with pytest.raises(NotReadyError):
        models.current()  # looked at a moment ago
    models._tried_at = -math.inf
    loaded = models.current()
    pointer.unlink()
    models.refresh(datetime.now(UTC))
    assert models.current().champion is loaded.champion
    assert models.current().rejected.error.error == "no_champion"


def test_who_comes_while_another_loads_is_told_to_come_back(world):
    models = ModelManager(world.settings, ServiceMetrics())
    holds, done = threading.Event(), threading.Event()

    def loading():
        with models._lock:
            holds.set()
            done.wait()

    other = threading.Thread(target=loading)
    other.start()
    holds.wait()
    try:
        with pytest.raises(NotReadyError) as refused:
            models.current()
        assert refused.value.error == "loading"
    finally:
        done.set()
        other.join()


def test_an_answer_that_takes_too_long_is_a_503(world):
    settings = serving(world.settings, request_timeout_s=1)
    models, metrics = ModelManager(settings, ServiceMetrics()), ServiceMetrics()
    routes = Routes(settings, models, PredictionService(settings, models, metrics), metrics)
    held = threading.Event()

    async def too_long():
        try:
            await routes._work(held.wait)
        finally:
            held.set()

    with pytest.raises(AnswerTimeoutError) as refused:
        asyncio.run(too_long())
    assert refused.value.http_status == 503


class Broken(Bundle):
    """A bundle that can't add up or score one customer: the fault itself, everything around it is real."""

    def explain_vectors(self, vectors):
        found = super().explain_vectors(vectors)
        found.contributions[1] += 0.5
        found.score[2] = np.nan
        return found


def test_one_customer_s_fault_costs_nobody_else_anything(world):
    real = load_model(world.settings, champion_digest(world.settings.home))
    model = replace(real, bundle=as_kind(Broken, real.bundle))
    whole, unexplained, unscored, last = predict_customers(model, world.ids[:4], datetime.now(UTC), reasons_max=3)
    assert whole.reasons
    assert last.reasons
    assert (unexplained.reasons, unexplained.reasons_error) == (None, REASONS_FAILED)
    assert unexplained.probability == world.bundle.score(world.frame.head(2))[1]
    assert unscored.error == "internal"


def test_a_lever_that_an_older_model_has_no_word_for_is_left_out(world, tmp_path, caplog):
    codes = world.bundle.reason_codes.replace("[codes.PROTECTION]", "[codes.ADD_ONS]")
    older = replace(world.bundle, reason_codes=codes).save(tmp_path)
    model = load_model(world.settings, bundles_folder(tmp_path) / older.digest)
    left = {lever.name for lever in model.levers.levers}
    assert "ONE_YEAR_CONTRACT" in left
    assert not {"ONLINE_SECURITY", "TECHNICAL_SUPPORT"} & left
    assert "levers left out" in caplog.text


class Counted(Bundle):
    """A bundle that counts the customers whom it explains and those whom it scores alone."""

    explained: ClassVar[int] = 0
    scored: ClassVar[int] = 0

    def explain_vectors(self, vectors):
        Counted.explained += len(vectors)
        return super().explain_vectors(vectors)

    def score_vectors(self, vectors):
        Counted.scored += len(vectors)
        return super().score_vectors(vectors)


def test_a_what_if_computes_of_the_customer_as_they_are_what_it_shows_and_no_more(world):
    real = load_model(world.settings, champion_digest(world.settings.home))
    model = replace(real, bundle=as_kind(Counted, real.bundle))
    now = datetime.now(UTC)
    for customer_id in world.ids[:20]:
        (own,) = predict_customers(real, [customer_id], now, reasons_max=3)
        Counted.explained = Counted.scored = 0
        supposed = predict_what_if(model, customer_id, {}, now, reasons_max=3)
        offers = len(model.levers.options(own.row.values)) if own.label == "churn" else 0
        assert (Counted.explained, Counted.scored) == (1, 1 + offers)
        # Without changes what is shown is what a prediction says, and so is the receipt.
        body, alike = supposed.body(), own.body()
        shown = {name: alike[name] for name in ("probability", "label", "expected_profit_usd")}
        assert body["before"] == body["after"] == shown
        assert body["reasons"] == alike["reasons"]
        ours, theirs = supposed.after.receipt("what_if"), own.receipt("what_if")
        assert replace(ours, prediction_id=theirs.prediction_id) == theirs


def test_a_customer_who_has_no_score_as_they_are_has_no_what_if(world):
    real = load_model(world.settings, champion_digest(world.settings.home))
    model = replace(real, bundle=as_kind(Unscored, real.bundle))
    with pytest.raises(InternalError):
        predict_what_if(model, world.ids[0], {}, datetime.now(UTC), reasons_max=3)


class Unscored(Bundle):
    """A bundle that can explain and not score: the fault itself."""

    def score_vectors(self, vectors):
        return np.full(len(vectors), np.nan)


@pytest.mark.parametrize("trial", [False, True])
def test_what_fails_behind_an_answer_does_not_cost_the_answer(copy, world, trial, monkeypatch, caplog):
    if trial:
        challenger = another(world.bundle, copy.home, "other", 0.5)
        start_trial(copy.home, challenger.digest, mode="shadow", share=0, who="tests", why="why", now=datetime.now(UTC))
    (models, metrics) = ModelManager(copy, ServiceMetrics()), ServiceMetrics()
    models.current()
    models.refresh(datetime.now(UTC))
    assert (models.current().trial is not None) == trial
    answering = PredictionService(copy, models, metrics)

    def broken(_):
        raise OSError("of 7590-VHVEG")

    monkeypatch.setattr(metrics, "observe_predictions", broken)
    (given,) = asyncio.run(answering.predict([world.ids[0]]))
    assert given.customer_id == world.ids[0]
    # Receipts have a fault of their own: there is no thread to write them.
    monkeypatch.setattr(answering, "_receipts", object())
    assert answering.what_if(world.ids[0], {})["customer_id"] == world.ids[0]
    monkeypatch.setattr(answering, "_receipts", None)
    answering.close()
    models.close()
    assert "unexpected OSError" in caplog.text
    assert "unexpected AttributeError" in caplog.text
    assert "7590" not in caplog.text


def test_receipts_that_were_written_wait_no_more(world):
    metrics = ServiceMetrics()
    answering = PredictionService(world.settings, ModelManager(world.settings, metrics), metrics)

    def waiting():
        found = re.search(r"^churn_receipts_waiting (\S+)$", metrics.exposition().decode(), re.MULTILINE)
        return float(found.group(1))

    asyncio.run(answering.predict(list(world.ids[:5])))
    answering.close()
    assert waiting() == 0
