"""One reader of the environment: what it takes, what it refuses, what it never shows."""

from __future__ import annotations

import tomllib

import pytest

from configs.errors import EXIT_USAGE
from configs.settings import CONFIG_DIR, Settings, SettingsError, default_home, known_variables, load_settings

PROD = {
    "CHURN_PROFILE": "prod",
    "CHURN_PRIVACY__PSEUDONYM_KEY": "k-9c1",
    "CHURN_RECEIPTS__SIGNING_KEY": "s-4f7",
    "CHURN_FEAST__REGISTRY_URL": "postgresql+psycopg://feast:pa55@db/registry",
    "CHURN_MLFLOW__TRACKING_URI": "http://mlflow:5000",
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in known_variables() | {"CHURN_HOME"}:
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_the_local_profile():
    settings = load_settings()
    assert settings.profile == "local"
    assert settings.feast.online_store == "sqlite"
    assert settings.home == default_home()
    assert settings.serving.host == "127.0.0.1"


def test_every_default_is_in_the_toml_and_nothing_else():
    written = tomllib.loads((CONFIG_DIR / "default.toml").read_text())
    sections = {name: set(getattr(load_settings(), name).model_dump()) for name in written}
    assert sections == {name: set(keys) for name, keys in written.items()}


def test_the_environment_wins_over_the_files(monkeypatch, tmp_path):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    monkeypatch.setenv("CHURN_SERVING__PORT", "4000")
    settings = load_settings()
    assert (settings.home, settings.serving.port) == (tmp_path, 4000)


def test_prod_changes_only_what_its_file_says(monkeypatch):
    for name, value in PROD.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.feast.online_store == "redis"
    assert settings.serving.workers == 2
    assert settings.access.required
    assert settings.data == load_settings(profile="local").data


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"CHURN_SERVNG__PORT": "1"}, "unknown environment variable CHURN_SERVNG__PORT"),
        ({"CHURN_SERVING__PORT": "99999"}, "serving.port"),
        ({"CHURN_TRAINING__TEST_SHARE": "0.9"}, "training.test_share"),
        ({"CHURN_ROLLOUT__CANARY_SHARE": "1"}, "rollout.canary_share"),
        ({"CHURN_FEAST__ONLINE_STORE": "cassandra"}, "feast.online_store"),
        ({"CHURN_PROFILE": "staging"}, "profile"),
        ({"CHURN_PROFILE": "prod"}, "CHURN_PRIVACY__PSEUDONYM_KEY"),
        ({**PROD, "CHURN_FEAST__REGISTRY_URL": ""}, "CHURN_FEAST__REGISTRY_URL"),
        ({**PROD, "CHURN_RECEIPTS__SIGNING_KEY": "local-development-key"}, "CHURN_RECEIPTS__SIGNING_KEY"),
        ({"CHURN_FEAST__REDIS_URL": "localhost:6379"}, "must look like redis://"),
        # Fault 25: Feast's connection string can carry neither.
        ({"CHURN_FEAST__REDIS_URL": "redis://cache:6379/first"}, "must look like redis://"),
        ({"CHURN_FEAST__REDIS_URL": "redis://cache:6379?db=3"}, "has options behind ?"),
        ({"CHURN_FEAST__REDIS_URL": "rediss://cache:6379/0?ssl_ca_certs=ca.pem"}, "has options behind ?"),
        ({"CHURN_FEAST__REDIS_URL": "redis://:one%2Ctwo@cache/0"}, "holds a comma"),
        ({"CHURN_FEAST__REDIS_URL": "redis://:123456@cache/0"}, "reads as JSON"),
        ({"CHURN_FEAST__REDIS_URL": "redis://:1e5@cache/0"}, "reads as JSON"),
        ({"CHURN_FEAST__REDIS_URL": "redis://true:pass@cache/0"}, "username"),
        ({"CHURN_FEAST__REDIS_URL": "redis://svc:s3cr/et@cache:6379/0"}, "percent-encoded"),
    ],
)
def test_what_is_refused_is_named(monkeypatch, variables, told):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert told in refused.value.message
    assert refused.value.exit_code == EXIT_USAGE
    assert refused.value.hint


def test_no_secret_is_shown(monkeypatch):
    for name, value in PROD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CHURN_FEAST__REDIS_URL", "redis://:s3cret@cache/0")
    shown = repr(load_settings()) + str(load_settings())
    assert not any(secret in shown for secret in ("s3cret", "pa55", "k-9c1", "s-4f7"))
    for url in ("redis://:s3c,ret@cache/0", "redis://svc:s3c/ret@cache:6379/0"):
        monkeypatch.setenv("CHURN_FEAST__REDIS_URL", url)
        with pytest.raises(SettingsError) as refused:
            load_settings()
        assert "s3c" not in refused.value.message


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().home = "elsewhere"
    assert Settings.model_config["extra"] == "forbid"
