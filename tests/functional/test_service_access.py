"""Who is answered: every route, with and without a key, sent in each of three ways; and keys that change meanwhile."""

import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from bentos.churn.app import create_app
from bentos.churn.auth.authenticator import KeysNeededError
from bentos.churn.auth.key_admin import create_key, revoke_key
from bentos.churn.auth.key_store import keys_path
from bentos.churn.auth.rights import RIGHTS
from configs.settings import PROJECT_ROOT, load_settings
from flows.service_process import free_port, run_service
from tests.support.keyed_service import WAYS, guarded, with_access
from tests.support.patience import PATIENCE_S, until
from tests.support.serving_home import serving

OPEN = "open"
ANY = "any key"
RIGHT_OF = {
    "/": ANY,
    "/health": OPEN,
    "/livez": OPEN,
    "/readyz": OPEN,
    "/metadata": ANY,
    "/openapi.json": ANY,
    "/schema.json": ANY,
    "/ui": ANY,
    "/metrics": "metrics",
    "/predict": "predict",
    "/predict/batch": "predict",
    "/predict/what-if": "predict",
    "/predictions/{prediction_id}": "receipts",
}
"""Each route of the application must stand here: whoever adds one decides who may ask it."""
NOWHERE = {
    "/docs": ANY,
    "/nothing": ANY,
    "/metrics/": ANY,
    "/predict/": "predict",
    "/predictions/": "receipts",
}
SECRET_CHARS = 43


@pytest.fixture(scope="module")
def service(request, tmp_path_factory, telco_csv):
    return guarded(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, request.config)


def routes(service):
    """(method, path, who may) of each route that the application has, and of some that nobody has."""
    app, _ = create_app(service.settings)
    found = [(method, route.path) for route in app.routes for method in route.methods - {"HEAD"}]
    assert {path for _, path in found} == set(RIGHT_OF)
    known = [(method, path.replace("{prediction_id}", "x"), RIGHT_OF[path]) for method, path in found]
    return known + [("GET", path, right) for path, right in NOWHERE.items()]


def asked(service, headers):
    """(method, path) -> the answer, of every route."""
    return {
        (method, path): service.client.request(method, path, headers=headers, json={} if method == "POST" else None)
        for method, path, _ in routes(service)
    }


def wrong_keys(service):
    key = service.keys["all"]
    other = key[:-SECRET_CHARS] + "A" * SECRET_CHARS
    return {"other secret": other, "other id": "churn_00000000" + key[14:], "longer": key + "A", "shorter": key[:-1]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", ["wrong", "expired", "revoked"])
def test_a_key_that_is_not_valid_opens_nothing_but_health(service, fault, way):
    keys = wrong_keys(service) if fault == "wrong" else {fault: service.keys[fault]}
    for key in keys.values():
        refuses(service, WAYS[way](key))


@pytest.mark.parametrize(
    "headers", [{}, {"x-api-key": ""}, {"authorization": "Basic %%%"}, {"authorization": "Digest x"}]
)
def test_no_key_opens_nothing_but_health(service, headers):
    refuses(service, headers)


def refuses(service, headers):
    answers = asked(service, headers)
    for method, path, right in routes(service):
        answer = answers[method, path]
        if right == OPEN:
            assert answer.status_code == 200, path
            continue
        assert (answer.status_code, answer.json()["error"]) == (401, "key_invalid"), path
        assert answer.headers["www-authenticate"].startswith("Basic " if path in {"/", "/ui"} else "Bearer")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("missing", RIGHTS)
def test_a_key_opens_what_it_has_the_right_to_and_no_more(service, missing, way):
    answers = asked(service, WAYS[way](service.keys[f"without {missing}"]))
    for method, path, right in routes(service):
        answer = answers[method, path]
        if right == missing:
            assert (answer.status_code, answer.json()["error"]) == (403, "key_forbidden"), path
            assert missing in answer.json()["message"]
        else:
            assert answer.status_code not in {401, 403}, path


@pytest.mark.parametrize("way", WAYS)
def test_a_right_key_is_answered(service, way):
    headers = WAYS[way](service.keys["all"])
    for (_, path), answer in asked(service, headers).items():
        assert answer.status_code not in {401, 403}, path
        assert (answer.status_code == 404) == (path in NOWHERE or path == "/predictions/x"), path
    customer = service.world.ids[0]
    answer = service.client.post("/predict", json={"customer_id": customer}, headers=headers)
    assert answer.json()["customer_id"] == customer


def test_probes_may_ask_for_the_head_alone(service):
    for path in ("/health", "/livez", "/readyz"):
        asked_whole = service.client.get(path)
        answer = service.client.head(path)
        assert (answer.status_code, answer.content) == (asked_whole.status_code, b"")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE"])
def test_no_method_is_a_way_around(service, method):
    for path in ("/predict", "/metadata", "/nothing"):
        assert service.client.request(method, path).status_code == 401
        answer = service.client.request(method, path, headers=WAYS["bearer"](service.keys["all"]))
        known = 200 if method == "HEAD" and path == "/metadata" else 405
        assert answer.status_code == (404 if path == "/nothing" else known)
        assert method == "HEAD" or answer.json()["error"] in {"method_not_allowed", "route_unknown"}


def test_a_line_s_end_behind_a_path_reaches_no_route(service):
    # A router's pattern may match before it, and what needs a right is known by the whole path.
    for method, path, _ in routes(service):
        for end in ("%0A", "%0D", "%00", "%0A%0A"):
            asked_for = {"json": {}} if method == "POST" else {}
            assert service.client.request(method, path + end, **asked_for).status_code == 401, path
            answer = service.client.request(
                method, path + end, headers=WAYS["bearer"](service.keys["all"]), **asked_for
            )
            assert (answer.status_code, answer.json()["error"]) == (404, "route_unknown"), path


def test_a_path_that_is_spelt_in_another_way_is_no_way_around(service):
    for path in (
        "/Metrics",
        "/%6detrics",
        "//metrics",
        "/health/../metrics",
        "/health%2f..%2fmetrics",
        "/health;/metrics",
    ):
        assert service.client.get(path).status_code == 401


def settled(ask, wanted):
    """Ask until the answer is as wanted: a worker looks at the keys once a second."""
    until(ask, lambda found: found == wanted)


def test_keys_are_rotated_without_a_restart(service):
    def status(key):
        return service.predict(service.world.ids[0], key).status_code

    old, old_key = create_key(service.settings, "crm", ["predict"], now=datetime.now(UTC), who="tests")
    settled(lambda: status(old_key), 200)
    _, new_key = create_key(service.settings, "crm", ["predict"], now=datetime.now(UTC), who="tests")
    settled(lambda: status(new_key), 200)
    assert status(old_key) == 200
    revoke_key(service.settings, old.id, now=datetime.now(UTC), who="tests")
    settled(lambda: status(old_key), 401)
    assert status(new_key) == 200


def test_a_spoilt_key_file_changes_nothing_and_is_told(service):
    path = keys_path(service.settings)
    good, spoilt = path.read_bytes(), path.with_suffix(".spoilt")

    def failures():
        (line,) = [each for each in service.metrics().splitlines() if each.startswith("churn_key_file_failures_total ")]
        return float(line.split()[1])

    before = failures()
    try:
        spoilt.write_bytes(b'{"version": 1, "keys": [{"id": "')
        spoilt.replace(path)
        settled(failures, before + 1)
        path.unlink()
        settled(failures, before + 2)
        assert service.predict(service.world.ids[0]).status_code == 200
        assert service.predict(service.world.ids[0], wrong_keys(service)["other secret"]).status_code == 401
    finally:
        path.write_bytes(good)
    _, key = create_key(service.settings, "after", ["predict"], now=datetime.now(UTC), who="tests")
    settled(lambda: service.predict(service.world.ids[0], key).status_code, 200)
    assert "API keys stay as they were: the key file is damaged" in service.log()
    assert "API keys stay as they were: the key file is gone" in service.log()


def test_failures_are_counted_by_reason_and_no_key_is_told(service):
    ways = [WAYS[way](key)[name] for key in service.keys.values() for way in WAYS for name in WAYS[way](key)]
    secrets = [key[-SECRET_CHARS:] for key in service.keys.values()] + [way.split(" ")[-1] for way in ways]
    told = service.log() + service.metrics()
    assert [secret for secret in secrets if secret in told] == []
    for reason in ("missing", "unknown", "expired", "revoked", "forbidden"):
        assert f'churn_key_failures_total{{reason="{reason}"}}' in told
        assert f", {reason}" in service.log()
    assert "only callers with an API key may ask" in service.log()


def test_it_does_not_start_where_nobody_could_ask(tmp_path):
    settings = load_settings(home=tmp_path)
    for closed in (with_access(settings, required=True), serving(settings, host="0.0.0.0")):  # noqa: S104 - refused
        with pytest.raises(KeysNeededError) as refused:
            run_service(closed)
        assert refused.value.exit_code == 2
        assert "churn keys create" in refused.value.hint
    entry, _ = create_key(settings, "gone", ["predict"], now=datetime.now(UTC), who="tests")
    revoke_key(settings, entry.id, now=datetime.now(UTC), who="tests")
    with pytest.raises(KeysNeededError, match="there are API keys"):
        run_service(settings)


def test_bentoml_alone_does_not_start_it_either(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", "bentos.churn.service:ChurnService", "--port", str(free_port())],
        cwd=PROJECT_ROOT,
        env={
            **os.environ,
            "CHURN_HOME": str(tmp_path),
            "BENTOML_HOME": str(tmp_path),
            "CHURN_ACCESS__REQUIRED": "true",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert "hint: run: churn keys create" in done.stderr
    assert "Traceback" not in done.stderr
