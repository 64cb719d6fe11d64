"""The service as a real process, once on SQLite and once on a real Redis."""

import pytest
from playwright.sync_api import sync_playwright

from tests.support.chromium import start
from tests.support.serving_home import served


@pytest.fixture(scope="session", params=["sqlite", "redis"])
def service(request, tmp_path_factory, telco_csv):
    home = tmp_path_factory.getbasetemp() / f"serving-{request.param}"
    port = request.getfixturevalue("redis_server") if request.param == "redis" else None
    return served(home, telco_csv, request.config, port)


@pytest.fixture(scope="session")
def sqlite_service(request, tmp_path_factory, telco_csv):
    """The one of the two that needs no server: for what does not depend on the store."""
    return served(tmp_path_factory.getbasetemp() / "serving-sqlite", telco_csv, request.config, None)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = start(playwright)
        yield started
        started.close()
