"""One shop for each test and each online store: what one test writes, no other sees."""

from __future__ import annotations

import shutil
import warnings
from types import SimpleNamespace

import pytest
import redis

from tests.support.feast_shop import KINDS, fill, objects, open_shop


def pytest_collection_modifyitems(items):
    """Let Feast call its API experimental: here it is what the tests are about."""
    here = str(__file__).rsplit("/", 1)[0]
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.filterwarnings("ignore:.*experimental feature:RuntimeWarning"))


@pytest.fixture(scope="session")
def registered(tmp_path_factory):
    """A home with its tables filled and everything registered, once for each kind; to be copied."""
    made = {}

    def of(kind, redis_port):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(f"shop-{kind}") / "home"
            fill(made[kind])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                open_shop(made[kind], kind, redis_port).apply(objects())
        return made[kind]

    return of


@pytest.fixture(params=KINDS)
def shop(request, registered, tmp_path):
    """The product's stores on a home of the test's own: .store, .home, .kind, .reopen()."""
    kind = request.param
    port = request.getfixturevalue("redis_server") if kind == "redis" else None
    if port:
        with redis.Redis(port=port, db=11) as server:
            server.flushdb()
    home = tmp_path / "home"
    shutil.copytree(registered(kind, port), home)

    def reopen():
        return open_shop(home, kind, port)

    store = reopen()
    # Feast makes an online table when the registry learns of its view; the copy's online store is a new one.
    store._get_provider().update_infra(store.project, [], store.list_feature_views(), [], [], partial=True)
    return SimpleNamespace(store=store, home=home, kind=kind, port=port, reopen=reopen)
