"""Rows of the fault catalogue that the HTTP service answers for, each against the real part."""

import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from bentos.bundle import Bundle, BundleError, Explanation
from bentos.churn.metrics import ServiceMetrics
from bentos.prediction.model import load_model
from bentos.prediction.prediction import REASONS_FAILED
from bentos.prediction.predictor import predict_customers
from bentos.rollout import champion_digest
from bentos.rollout.rollout import promote
from feature_repo.stores.materialize import materialize
from flows.service_process import ServiceProcess, free_port
from tests.support.patience import PATIENCE_S, until
from tests.support.redis_server import RedisProcess
from tests.support.serving_home import (
    EXPIRED,
    INCOMPLETE,
    NEWCOMER,
    STALE,
    Served,
    another,
    as_kind,
    build,
    point_at,
    served,
    serving,
)

PICKLED = b"(dS'customer_id'\nS'a'\ns."
"""{"customer_id": "a"} as a pickle of protocol 0, written out: nothing of ours imports the module."""


@pytest.fixture(scope="module")
def service(request, tmp_path_factory, telco_csv):
    return served(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, request.config, None)


@pytest.fixture(scope="module")
def own(tmp_path_factory, telco_csv):
    """A Redis of our own, and the service that reads it, started while MLflow could not be reached."""
    redis = RedisProcess(tmp_path_factory.mktemp("redis"))
    try:
        world = build(tmp_path_factory.mktemp("own") / "home", telco_csv, redis.port)
        # Nobody listens there.
        mlflow = world.settings.mlflow.model_copy(update={"tracking_uri": SecretStr("http://127.0.0.1:9")})
        settings = serving(world.settings, port=free_port(), retry_after_s=7).model_copy(update={"mlflow": mlflow})
        with ServiceProcess(settings) as running:
            yield redis, Served(world, running.wait("/readyz", PATIENCE_S))
    finally:
        redis.kill()


def test_31_the_service_starts_and_answers_without_mlflow(own):
    _, service = own
    assert service.predict(service.world.ids[0]).status_code == 200
    assert service.get("/metadata").json()["bundle_digest"] == service.world.bundle.digest


def test_18_redis_refuses_connections(own):
    redis, service = own
    world = service.world
    assert service.predict(world.ids[0]).status_code == 200
    redis.kill()
    refused = service.predict(world.ids[0])
    assert (refused.status_code, refused.json()["error"]) == (503, "store_unavailable")
    assert refused.headers["retry-after"] == "7"
    assert service.post("/predict/batch", {"customer_ids": list(world.ids)}).status_code == 503
    assert service.get("/livez").status_code == 200
    assert service.get("/metadata").status_code == 200
    assert service.get("/readyz").status_code == 503
    assert service.get("/readyz").json()["error"] == "store_unavailable"
    assert service.get("/health").json()["error"]["error"] == "store_unavailable"
    redis.start()
    # It is back, and empty: ready again without a restart, and no score out of thin air.
    until(lambda: service.get("/readyz"), lambda found: found.status_code == 200)
    assert service.predict(world.ids[0]).json()["error"] == "customer_unknown"
    assert world.ids[0] not in service.log()
    materialize(world.settings, datetime.now(UTC))


def test_19_redis_hangs_and_every_request_is_answered_in_its_time(own):
    redis, service = own
    ids = service.world.ids[:8]
    redis.process.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(len(ids)) as callers:
            refused = list(callers.map(service.predict, ids))
        assert {(each.status_code, each.json()["error"]) for each in refused} == {(503, "store_unavailable")}
        assert all(each.headers["retry-after"] for each in refused)
        assert service.get("/livez").status_code == 200
        assert service.get("/readyz").status_code == 503
    finally:
        redis.process.send_signal(signal.SIGCONT)
    found = until(lambda: service.predict(ids[0]), lambda found: found.status_code == 200)
    assert found.json()["customer_id"] == ids[0]


def test_20_redis_comes_back_empty_and_one_command_fills_it_again(own):
    redis, service = own

    def unknown():
        found = re.search(
            r'^churn_refusals_total{error="customer_unknown"} (\S+)$', service.get("/metrics").text, re.MULTILINE
        )
        return float(found.group(1)) if found else 0.0

    before, ids = unknown(), service.world.ids[:20]
    scores = [each["probability"] for each in service.post("/predict/batch", {"customer_ids": ids}).json()["results"]]
    redis.kill()
    redis.start()
    until(lambda: service.get("/readyz"), lambda found: found.status_code == 200)
    lost = service.post("/predict/batch", {"customer_ids": ids}).json()["results"]
    assert {each["error"]["error"] for each in lost} == {"customer_unknown"}
    assert unknown() == before + len(ids)
    materialize(service.world.settings, datetime.now(UTC))
    again = service.post("/predict/batch", {"customer_ids": ids}).json()["results"]
    assert [each["probability"] for each in again] == scores


def test_21_old_values_are_called_stale_and_older_ones_refused(service):
    stale = service.predict(STALE)
    assert stale.status_code == 200
    views = ["customer_billing", "customer_contract", "customer_services"]
    assert (sorted(stale.json()["stale"]), stale.json()["score_quality"]) == (views, "stale")
    expired = service.predict(EXPIRED)
    assert (expired.status_code, expired.json()["error"]) == (503, "features_expired")
    assert all(view in expired.json()["message"] for view in views)


def test_22_an_unknown_customer_is_404_never_a_score_on_nulls(service):
    for customer_id in ("nobody", "0", "readiness-probe", "7590-vhveg"):
        refused = service.predict(customer_id)
        assert (refused.status_code, refused.json()["error"]) == (404, "customer_unknown")
        assert customer_id not in refused.text


def test_23_a_null_is_scored_only_where_the_contract_gives_it_a_meaning(service):
    newcomer = service.predict(NEWCOMER)
    assert newcomer.status_code == 200
    assert 0 < newcomer.json()["probability"] < 1
    refused = service.predict(INCOMPLETE)
    assert (refused.status_code, refused.json()["error"]) == (422, "features_missing")
    assert "contract_type" in refused.json()["message"]
    expired = service.predict(EXPIRED)
    assert (expired.status_code, expired.json()["error"]) == (503, "features_expired")
    assert "churn materialize" in expired.json()["hint"]
    assert expired.headers["retry-after"]


def test_26_no_champion_or_a_damaged_bundle_is_never_served(tmp_path, telco_csv):
    world = build(tmp_path / "home", telco_csv, None)
    home = world.settings.home
    good, pointer = champion_digest(home), home / "bundles" / "champion.json"
    pointed = pointer.read_bytes()
    pointer.unlink()
    with ServiceProcess(serving(world.settings, port=free_port())) as running:
        service = Served(world, running.wait("/livez", PATIENCE_S))

        def refuses(error, says):
            found = until(
                lambda: service.get("/readyz"), lambda found: found.json().get("error") == error and says in found.text
            )
            assert found.status_code == 503
            assert found.headers["retry-after"]
            assert "churn train" in found.json()["hint"]
            assert service.predict(world.ids[0]).json() == found.json()
            assert service.get("/livez").status_code == 200

        refuses("no_champion", "no champion")
        pointer.write_bytes(b"{")
        refuses("bundle_invalid", "champion.json is damaged")
        point_at(home, "0" * 64)
        refuses("bundle_invalid", "no bundle at")
        # Files are checked in order of name: spoilt from the last to the first, each is the one that is told of.
        pristine = {path: path.read_bytes() for path in good.iterdir() if path.name != "manifest.json"}
        for path in sorted(pristine, reverse=True):
            content = bytearray(pristine[path])
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
            point_at(home, good.name)
            refuses("bundle_invalid", f"{path.name} of bundle {good.name} is missing or was changed")
        point_at(home, "../bundles")
        refuses("bundle_invalid", "its path is not the digest of a bundle")
        for path, content in pristine.items():
            path.write_bytes(content)
        pointer.write_bytes(pointed)
        until(lambda: service.get("/readyz"), lambda found: found.status_code == 200)
        assert service.predict(world.ids[0]).status_code == 200
        assert service.get("/metadata").json()["bundle_digest"] == world.bundle.digest


def spoilt(folder, name):
    """Flip a bit in the middle of a bundle's file; returns what the file held."""
    content = (folder / name).read_bytes()
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    (folder / name).write_bytes(changed)
    return content


def test_26_32_a_swap_to_a_bad_bundle_or_pointer_keeps_the_old_one_answering(tmp_path, telco_csv):
    world = build(tmp_path / "home", telco_csv, None)
    home, known = world.settings.home, {"who": "tests", "why": "a fault", "now": datetime.now(UTC)}
    pointer = home / "bundles" / "champion.json"
    expected = float(world.bundle.score(world.frame.head(1))[0])
    better = another(world.bundle, home, "better", 0.5)
    folder = home / "bundles" / better.digest
    with ServiceProcess(serving(world.settings, port=free_port(), workers=2, reload_interval_s=0.1)) as running:
        service = Served(world, running.wait("/readyz", PATIENCE_S))
        old = pointer.read_bytes()

        def keeps(digest, error, says):
            """The refusal is told, and every answer is the old model's."""
            found = until(
                lambda: service.get("/metadata"),
                lambda found: (
                    (refused := found.json()["rollout"]["refused"]) is not None
                    and (refused["bundle_digest"], refused["error"]["error"]) == (digest, error)
                    and says in refused["error"]["message"]
                ),
            ).json()
            assert found["bundle_digest"] == found["rollout"]["champion"] == world.bundle.digest
            for _ in range(4):
                answer = service.predict(world.ids[0]).json()
                assert (answer["model_version"], answer["probability"]) == ("test-1", pytest.approx(expected, abs=1e-9))
            assert service.get("/health").json()["status"] == "ok"
            assert service.get("/readyz").status_code == 200

        # Sound when it was promoted, spoilt before any worker has looked.
        for name in ("manifest.json", "trees.ubj", "linear.json", "reason_codes.toml"):
            content = spoilt(folder, name)
            point_at(home, better.digest)
            keeps(better.digest, "bundle_invalid", name)
            pointer.write_bytes(old)
            until(lambda: service.get("/metadata"), lambda found: found.json()["rollout"]["refused"] is None)
            (folder / name).write_bytes(content)
        foreign = another(world.bundle, home, "foreign", 0.0, contract_hash="0" * 64)
        for wrong, digest, says in (
            (lambda: point_at(home, "0" * 64), "0" * 64, "no bundle at"),
            (lambda: point_at(home, foreign.digest), foreign.digest, "another contract"),
            (lambda: point_at(home, "../bundles"), None, "its path is not the digest"),
            (lambda: pointer.write_bytes(b"{"), None, "is damaged"),
        ):
            wrong()
            keeps(digest, "bundle_invalid", says)
        pointer.unlink()
        keeps(None, "no_champion", "no champion")
        # No command leads there: a bad bundle is refused before it is promoted.
        with pytest.raises(BundleError):
            promote(home, foreign.digest, **known)
        promote(home, better.digest, **known)
        until(lambda: service.predict(world.ids[0]), lambda found: found.json()["model_version"] == "better")
        # Another worker may follow a moment later.
        until(lambda: service.get("/metadata"), lambda found: found.json()["rollout"]["refused"] is None)
        (refused,) = re.findall(
            r'^churn_model_swaps_total{outcome="refused"} (\S+)$', service.get("/metrics").text, re.MULTILINE
        )
        assert float(refused) >= 9
        assert "Traceback" not in service.log()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"NaN "', "1", "[NaN]", "{}"])
def test_34_what_is_no_number_is_no_customer(service, number):
    for path, body in (
        ("/predict", f'{{"customer_id": {number}}}'),
        ("/predict/batch", f'{{"customer_ids": [{number}]}}'),
    ):
        refused = httpx.post(service.url + path, content=body, headers={"content-type": "application/json"})
        assert (refused.status_code, refused.json()["error"]) == (422, "request_invalid")


class Unexplained(Bundle):
    """A bundle that scores and can't explain: the fault itself, everything around it is real."""

    def explain_vectors(self, vectors):
        raise MemoryError(f"no room for {len(vectors)} rows")


class Inconsistent(Bundle):
    """A bundle whose contributions do not add up to its margin."""

    def explain_vectors(self, vectors):
        found = super().explain_vectors(vectors)
        return Explanation(found.score, found.margin, found.base + 0.5, found.contributions)


def explanation_failures(metrics):
    (value,) = re.findall(r"^churn_explanation_failures_total ([0-9.]+)$", metrics.exposition().decode(), re.MULTILINE)
    return float(value)


@pytest.mark.parametrize("kind", [Unexplained, Inconsistent])
def test_36_a_failing_explanation_costs_the_reasons_not_the_score(tmp_path_factory, telco_csv, caplog, kind):
    world = build(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, None)
    real = load_model(world.settings, champion_digest(world.settings.home))
    model = replace(real, bundle=as_kind(kind, real.bundle))
    metrics = ServiceMetrics()
    ids = world.ids[:3]
    found = predict_customers(model, ids, datetime.now(UTC), reasons_max=3)
    metrics.observe_predictions(found)
    expected = real.bundle.score(world.frame.head(3))
    assert [each.probability for each in found] == pytest.approx(list(expected), abs=1e-12)
    assert [(each.reasons, each.reasons_error) for each in found] == [(None, REASONS_FAILED)] * 3
    assert explanation_failures(metrics) == 3
    assert "explanation failed" in caplog.text
    assert not any(each in caplog.text for each in ids)


@pytest.mark.parametrize(
    ("content_type", "body", "statuses"),
    [
        ("application/json", b"[" * 100_000, {422}),
        ("application/json", b'{"customer_id":' * 10_000, {422}),
        ("application/json", b'{"customer_id": "a", "customer_id": "b"}', {422}),
        ("application/json", b'{"customer_id": "a"} {"customer_id": "b"}', {422}),
        ("application/json", b"\x00\xff", {422}),
        ("application/xml", b"<customer_id>a</customer_id>", {415}),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="customer_id"\r\n\r\na\r\n--x--',
            {415},
        ),
        ("application/vnd.bentoml+pickle", PICKLED, {415}),
        ("application/json", PICKLED, {422}),
        ("application/json; charset=utf-7", b'{"customer_id": "a"}', {415}),
    ],
    ids=lambda each: str(each)[:30],
)
def test_40_bodies_that_mean_harm(service, content_type, body, statuses):
    for path in ("/predict", "/predict/batch"):
        refused = httpx.post(
            service.url + path, content=body, headers={"content-type": content_type}, timeout=PATIENCE_S
        )
        assert refused.status_code in statuses
        assert refused.json().keys() == {"error", "message", "hint"}
    assert service.predict(service.world.ids[0]).status_code == 200


def test_40_the_pickle_routes_of_the_server_are_closed(service, tmp_path):
    proof = tmp_path / "proof"

    payload = f"cos\nsystem\n(S'touch {proof}'\ntR.".encode()
    for path in ("/predict", "/ChurnService/predict", "/__call__", "/encode"):
        answered = httpx.post(
            service.url + path,
            content=payload,
            headers={"content-type": "application/vnd.bentoml+pickle", "bento-name": "churn", "payload-container": "x"},
        )
        assert answered.status_code in {404, 415}
    assert not proof.exists()
    assert json.loads(service.get("/livez").text) == {"status": "alive"}
