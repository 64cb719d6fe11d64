"""A store that is lost, damaged or away: one named error with the command that mends it, and the mend works."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from configs.settings import load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, SOURCE
from feature_repo.files.parquet_tables import append_table
from feature_repo.raw.snapshots.telco_csv import normalise
from feature_repo.raw.snapshots.timing import feature_rows
from feature_repo.stores.errors import (
    NothingRegisteredError,
    NothingToMaterializeError,
    RegistryUnavailableError,
    StoreUnavailableError,
)
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.materialize import materialize
from feature_repo.stores.online_features import OnlineFeatureReader
from feature_repo.stores.registration import apply
from tests.support.single_extract import simulate_snapshot

NOW = datetime.now(UTC)
SNAPSHOT = normalise(simulate_snapshot(500, seed=2)).head(20)


@pytest.fixture
def home(tmp_path):
    settings = load_settings(home=tmp_path)
    month = NOW - timedelta(days=2)
    append_table(tmp_path, SOURCE, "month.v1", feature_rows(SNAPSHOT, month, month))
    return settings


def statuses(settings):
    reader = OnlineFeatureReader(open_feature_store(settings), CORE_SERVICE)
    return {row.status for row in reader.read(SNAPSHOT[CUSTOMER].tolist(), NOW)}


def test_materialise_says_how_much_it_wrote(home):
    apply(home)
    done = materialize(home, NOW)
    assert (done.views, done.customers) == (3, 20)
    assert abs(done.newest - (NOW - timedelta(days=2))) < timedelta(milliseconds=1)


def test_nothing_registered(home):
    with pytest.raises(NothingRegisteredError) as refused:
        materialize(home, NOW)
    assert refused.value.hint == "run: churn apply"


def test_no_offline_rows(tmp_path):
    settings = load_settings(home=tmp_path)
    apply(settings)
    with pytest.raises(NothingToMaterializeError, match="no rows"):
        materialize(settings, NOW)


def test_only_expired_rows(home):
    apply(home)
    with pytest.raises(NothingToMaterializeError, match="last 92 days"):
        materialize(home, NOW + timedelta(days=120))


def test_a_lost_online_store_is_named_and_two_commands_restore_it(home):
    apply(home)
    materialize(home, NOW)
    (home.home / "feast" / "online.db").unlink()
    with pytest.raises(StoreUnavailableError) as refused:
        materialize(home, NOW)
    assert refused.value.hint == "run: churn apply, then churn materialize"
    apply(home)
    materialize(home, NOW)
    assert statuses(home) == {"present"}


def test_a_corrupt_registry_is_named_and_apply_restores_it(home):
    """Fault 14."""
    apply(home)
    registry = home.home / "feast" / "registry.db"
    registry.write_bytes(b"no database")
    with pytest.raises(RegistryUnavailableError) as refused:
        materialize(home, NOW)
    assert "churn apply" in refused.value.hint
    registry.unlink()
    apply(home)
    materialize(home, NOW)
    assert statuses(home) == {"present"}


def test_a_registry_server_that_is_away_is_named_without_its_password(home, port):
    url = SecretStr(f"postgresql+psycopg://feast:pa55@127.0.0.1:{port}/registry")
    away = home.model_copy(update={"feast": home.feast.model_copy(update={"registry_url": url})})
    with pytest.raises(RegistryUnavailableError) as refused:
        apply(away)
    assert "pa55" not in refused.value.message + refused.value.hint
    assert "CHURN_FEAST__REGISTRY_URL" in refused.value.message


def test_a_redis_that_is_away_is_named(home, port):
    redis = {"online_store": "redis", "redis_url": SecretStr(f"redis://127.0.0.1:{port}/0")}
    away = home.model_copy(update={"feast": home.feast.model_copy(update=redis)})
    apply(away)
    with pytest.raises(StoreUnavailableError, match="Redis"):
        materialize(away, NOW)


def test_applying_twice_in_a_process_and_from_the_command_line_agree(home):
    assert apply(home) == apply(home)
