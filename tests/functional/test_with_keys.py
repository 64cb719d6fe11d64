"""The clients and the page where the service wants a key."""

import asyncio
import warnings

import pytest
from playwright.sync_api import expect

from bentos.client import AsyncChurnClient, ChurnClient, NotAllowedError
from tests.support.chromium import Visit
from tests.support.keyed_service import guarded


@pytest.fixture(scope="module")
def service(request, tmp_path_factory, telco_csv):
    return guarded(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, request.config)


@pytest.fixture
def visit_with(browser, service):
    """Open the page as the browser does once a person has signed in with this key."""
    visits = []

    def opened(key):
        context = browser.new_context(http_credentials={"username": "agent", "password": key})
        visits.append(Visit.watched(context.new_page(), service.url))
        visits[-1].open()
        return visits[-1]

    yield opened
    for visit in visits:
        visit.assert_clean()
        visit.page.context.close()


def test_a_client_with_the_key_is_answered(service):
    customer_id = service.world.ids[0]
    with ChurnClient(service.url, api_key=service.keys["all"]) as client:
        assert client.predict(customer_id).customer_id == customer_id
        assert client.metadata().bundle_digest == service.world.bundle.digest


@pytest.mark.parametrize(
    ("key", "error"),
    [(None, "key_invalid"), ("revoked", "key_invalid"), ("without predict", "key_forbidden")],
)
def test_a_client_without_is_told_so(service, key, error):
    secret = service.keys[key] if key else None
    with ChurnClient(service.url, api_key=secret) as client, pytest.raises(NotAllowedError) as caught:
        client.predict(service.world.ids[0])
    assert caught.value.error == error

    async def ask():
        async with AsyncChurnClient(service.url, api_key=secret) as other:
            assert await other.ready(), "whether it is ready is no secret"
            await other.predict(service.world.ids[0])

    with pytest.raises(NotAllowedError):
        asyncio.run(ask())


def test_bentoml_s_own_client_sends_it_as_its_token(service):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a part that it loads calls a part of another that is deprecated
        from bentoml import SyncHTTPClient
    customer_id = service.world.ids[0]
    with SyncHTTPClient(service.url, token=service.keys["all"]) as bento:
        assert bento.predict(customer_id=customer_id)["customer_id"] == customer_id
        bento._temp_dir.cleanup()  # it forgets to


def test_who_has_signed_in_to_the_page_needs_nothing_more(visit_with, service):
    visit = visit_with(service.keys["all"])
    visit.look_up(service.world.ids[0])
    expect(visit.page.locator("#figure")).to_contain_text("%")


def test_who_may_not_score_is_told_whom_to_ask(visit_with, service):
    visit = visit_with(service.keys["without predict"])
    visit.ask(service.world.ids[0])
    expect(visit.page.get_by_role("alert")).to_contain_text("You may not look up customers")


def test_a_browser_is_asked_to_sign_in(service):
    answer = service.client.get("/ui")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
