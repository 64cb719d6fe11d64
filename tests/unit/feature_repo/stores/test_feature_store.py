"""The settings say the same as feature_store.yaml, and a Redis URL survives Feast's own format."""

from __future__ import annotations

import pytest
import yaml

from configs.settings import PROJECT_ROOT, load_settings
from feature_repo.stores.feature_store import close_store, open_feature_store, redis_connection, repo_config


def test_the_yaml_for_feasts_own_command_equals_the_embedded_settings():
    folder = PROJECT_ROOT / "feature_repo"
    written = yaml.safe_load((folder / "feature_store.yaml").read_text())
    built = repo_config(load_settings(home=PROJECT_ROOT / "data"))
    # The file lies in feature_repo and is read there: its paths are relative to that folder.
    written["registry"]["path"] = f"sqlite:///{(folder / written['registry']['path'][10:]).resolve()}"
    written["online_store"]["path"] = str((folder / written["online_store"]["path"]).resolve())
    written["offline_store"]["home"] = str((folder / written["offline_store"]["home"]).resolve())
    assert built == written


@pytest.mark.parametrize(
    ("url", "connection"),
    [
        ("redis://127.0.0.1:6379/0", "127.0.0.1:6379,db=0,socket_timeout=0.5,socket_connect_timeout=0.5,retry=null"),
        ("redis://cache", "cache:6379,db=0,socket_timeout=0.5,socket_connect_timeout=0.5,retry=null"),
        (
            "rediss://app:s%40crt@cache:7000/2",
            "cache:7000,db=2,socket_timeout=0.5,socket_connect_timeout=0.5,retry=null,username=app,password=s@crt,ssl=true",
        ),
    ],
)
def test_a_redis_url_in_feasts_words(url, connection):
    assert redis_connection(url, 500) == connection


def test_a_closed_store_refreshes_no_more_whenever_it_is_closed(settings):
    store = open_feature_store(settings)
    registry = store.registry
    at_work, waiting = registry._start_thread_async_refresh, registry.registry_refresh_thread
    close_store(store)
    waiting.join()
    # A refresh that was at work when the store was closed sets a timer; nothing follows it.
    at_work(0.01)
    last = registry.registry_refresh_thread
    last.join()
    assert registry.registry_refresh_thread is last
    close_store(store)
