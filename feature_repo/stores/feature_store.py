"""Configuration and opening of Feast's FeatureStore, from the platform's settings.

Used by everything that reads or writes features; opening contacts no server. See docs/decisions/0003-offline-store.md.
"""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.settings import PROJECT_ROOT, Settings
from feature_repo.contract import PROJECT

if TYPE_CHECKING:
    from feast import FeatureStore

REPO_PATH = PROJECT_ROOT / "feature_repo"


def repo_config(settings: Settings, *, overwrite_newer: bool = False) -> dict[str, Any]:
    """Return the content of feature_store.yaml for these settings. Holds secrets: never log it.

    Parameters
    ----------
    settings
        The home and the addresses of the stores.
    overwrite_newer
        Whether materialisation writes the offline values, whatever the online store holds.

    Examples
    --------
    >>> from configs.settings import load_settings
    >>> from feature_repo.stores.feature_store import repo_config
    >>> config = repo_config(load_settings())
    >>> config["project"], config["offline_store"]["type"]
    ('churn', 'feature_repo.stores.offline.AsofOfflineStore')
    """
    engine: dict[str, Any] = {"type": "feature_repo.stores.engine.ColumnarComputeEngine"}
    return {
        "project": PROJECT,
        "provider": "local",
        "registry": {
            "registry_type": "sql",
            "path": registry_url(settings),
            "cache_ttl_seconds": settings.feast.registry_cache_ttl_s,
            "cache_mode": "thread",
        },
        "offline_store": {
            "type": "feature_repo.stores.offline.AsofOfflineStore",
            "home": str(settings.home),
            "memory_max_mb": settings.feast.offline_memory_max_mb,
            "threads": settings.feast.offline_threads,
        },
        "online_store": _online_store(settings),
        "batch_engine": engine | ({"overwrite_newer": True} if overwrite_newer else {}),
        "entity_key_serialization_version": 3,
    }


def registry_url(settings: Settings) -> str:
    """Return the SQLAlchemy URL of the registry."""
    return settings.feast.registry_url.get_secret_value() or sqlite_url(feast_folder(settings) / "registry.db")


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of a SQLite file.

    In a plain URL a question mark would end the path: then it is a ``file:`` URI, quoted.

    Examples
    --------
    >>> from pathlib import Path
    >>> from feature_repo.stores.feature_store import sqlite_url
    >>> sqlite_url(Path("/data/registry.db"))
    'sqlite:////data/registry.db'
    >>> sqlite_url(Path("/data/what?/registry.db"))
    'sqlite:///file:/data/what%3F/registry.db?uri=true'
    """
    from urllib.parse import quote

    return f"sqlite:///file:{quote(str(path))}?uri=true" if "?" in str(path) else f"sqlite:///{path}"


def feast_folder(settings: Settings) -> Path:
    """Return the folder of the embedded registry and online store."""
    return settings.home / "feast"


def open_feature_store(settings: Settings, *, overwrite_newer: bool = False) -> FeatureStore:
    """Return Feast's FeatureStore on the settings' stores.

    Creates the home's folder; contacts no server yet. :func:`close_store` ends the thread that it starts.

    Parameters
    ----------
    settings
        The home and the addresses of the stores.
    overwrite_newer
        As of :func:`repo_config`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from configs.settings import load_settings
    >>> from feature_repo.stores.feature_store import close_store, open_feature_store
    >>> store = open_feature_store(load_settings(home=Path(tempfile.mkdtemp())))
    >>> store.project, store.list_feature_views()
    ('churn', [])
    >>> close_store(store)
    """
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    feast_folder(settings).mkdir(parents=True, exist_ok=True)
    return FeatureStore(
        config=RepoConfig(repo_path=REPO_PATH, **repo_config(settings, overwrite_newer=overwrite_newer))
    )


def close_store(store: FeatureStore) -> None:
    """End the thread that refreshes the store's registry, and close the registry's connections.

    Reads in progress and later reads get the registry's last content. A refresh in progress is the last one. A second
    call does nothing.
    """
    from feast.infra.registry.caching_registry import CachingRegistry

    registry: Any = store.registry
    if isinstance(registry, CachingRegistry):
        # Feast's exit handler cancels the current timer only: a refresh in progress would start the next one.
        registry._start_thread_async_refresh = _refreshed_no_more  # noqa: SLF001 - Feast has no other way to end it
        registry._exit_handler()  # noqa: SLF001
        atexit.unregister(registry._exit_handler)  # noqa: SLF001
        for engine in {registry.write_engine, registry.read_engine}:
            engine.dispose()


def _refreshed_no_more(_ttl_s: float) -> None:
    """Do nothing; replaces the refresh of a closed registry."""


def _online_store(settings: Settings) -> dict[str, Any]:
    if settings.feast.online_store == "sqlite":
        return {
            "type": "feature_repo.stores.online_sqlite.PlannedSqliteOnlineStore",
            "path": str(feast_folder(settings) / "online.db"),
        }
    return {
        "type": "feature_repo.stores.online_redis.PlannedRedisOnlineStore",
        "connection_string": redis_connection(
            settings.feast.redis_url.get_secret_value(), settings.feast.redis_timeout_ms
        ),
    }


def redis_connection(url: str, timeout_ms: int) -> str:
    """Translate ``redis://[user:password@]host:port/db`` into Feast's own ``host:port,key=value`` form.

    Parameters
    ----------
    url
        URL of the server; ``rediss`` means TLS.
    timeout_ms
        Time-out of a connection attempt and of a reply, milliseconds.

    Examples
    --------
    >>> from feature_repo.stores.feature_store import redis_connection
    >>> redis_connection("redis://localhost:6379/2", 500)
    'localhost:6379,db=2,socket_timeout=0.5,socket_connect_timeout=0.5,retry=null'
    """
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    timeout_s = timeout_ms / 1000
    options = {
        "db": parts.path.strip("/") or "0",
        "socket_timeout": f"{timeout_s}",
        "socket_connect_timeout": f"{timeout_s}",
        # Feast reads the value as JSON. By default redis-py retries a dead server for seconds; without retries the
        # caller gets its 503 at once.
        "retry": "null",
    }
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password:
        options["password"] = unquote(parts.password)
    if parts.scheme == "rediss":
        options["ssl"] = "true"
    return ",".join([f"{parts.hostname}:{parts.port or 6379}", *(f"{key}={value}" for key, value in options.items())])
