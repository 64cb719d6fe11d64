"""Feast's servers on the product's stores: features over HTTP and gRPC, the offline store and registry from afar."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore
from feast.data_source import PushMode
from feast.feature_logging import FeatureServiceLoggingSource
from feast.repo_config import RepoConfig

from flows.service_process import free_port
from tests.feast_api.repository import Repository
from tests.support.feast_shop import NOW, TTL, ago, configuration

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


@pytest.fixture
def repository(shop):
    shop.store.materialize(start_date=NOW - TTL, end_date=NOW)
    return Repository.of(shop.home, shop.kind, shop.port)


@pytest.fixture
def afar(shop, repository, tmp_path):
    """Open a store whose registry or offline store is a server's."""

    def opened(**remote):
        config = configuration(shop.home, shop.kind, shop.port) | remote
        return FeatureStore(config=RepoConfig(repo_path=tmp_path, **config))

    return opened


def rows(**changes):
    row = {"account_id": 1, "event_timestamp": ago(2), "created_timestamp": ago(1), "visits": 5, "spend": 2.5}
    return pd.DataFrame([row | {"days": [1], "note": "pushed"} | changes])


def test_features_over_http(shop, repository):
    port = free_port()
    with (
        repository.serving("serve", "-p", str(port), ports=[port]) as _,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
    ):
        asked = {"features": ["visits:visits", "visits:note"], "entities": {"account_id": [1, 2, 99]}}

        def read():
            answer = client.post("/get-online-features", json=asked)
            assert answer.status_code == 200, answer.text
            names, results = answer.json()["metadata"]["feature_names"], answer.json()["results"]
            return dict(zip(names, (each["values"] for each in results), strict=True))["visits"]

        assert client.get("/health").status_code == 200
        assert read() == [2, 7, None]
        pushed = {
            name: list(map(str, column)) if "stamp" in name else column.tolist() for name, column in rows().items()
        }
        answer = client.post("/push", json={"push_source_name": "visit_push", "df": pushed, "to": "online_and_offline"})
        assert answer.status_code == 200, answer.text
        assert read() == [5, 7, None]
        written = pushed | {"event_timestamp": [str(ago(1))], "visits": [6]}
        answer = client.post("/write-to-online-store", json={"feature_view_name": "visits", "df": written})
        assert answer.status_code == 200, answer.text
        assert read() == [6, 7, None]
        service = {"feature_service": "rates_v1", "entities": {"account_id": [4], "factor": [0.5]}}
        answer = client.post("/get-online-features", json=service | {"full_feature_names": True})
        assert answer.status_code == 200, answer.text
        assert "rates__scaled" in answer.json()["metadata"]["feature_names"]
        assert client.post("/get-online-features", json=asked | {"features": ["nowhere:x"]}).status_code == 404
    asked = pd.DataFrame({"account_id": [1], "event_timestamp": [NOW]})
    assert shop.store.get_historical_features(asked, ["visits:visits"]).to_arrow()["visits"].to_pylist() == [5]


def test_features_over_grpc(shop, repository):
    import grpc
    from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest
    from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value

    port = free_port()
    with (
        repository.serving("listen", "-a", f"127.0.0.1:{port}", ports=[port]),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        client = GrpcFeatureServerStub(channel)
        answer = client.GetOnlineFeatures(
            GetOnlineFeaturesRequest(
                feature_service="spend_v1",
                entities={"account_id": RepeatedValue(val=[Value(int64_val=1), Value(int64_val=2)])},
            )
        )
        found = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
        assert [value.int64_val for value in found["visits"].values] == [2, 7]


def test_the_offline_store_from_afar(shop, repository, afar):
    port = free_port()
    with repository.serving("serve_offline", "-p", str(port), ports=[port]):
        store = afar(offline_store={"type": "remote", "host": "127.0.0.1", "port": port})
        asked = pd.DataFrame({"account_id": [1, 2], "event_timestamp": NOW})
        job = store.get_historical_features(asked, ["visits:visits"])
        assert job.to_arrow()["visits"].to_pylist() == [2, 7]
        by_sql = f"SELECT 1::BIGINT AS account_id, TIMESTAMPTZ '{NOW.isoformat()}' AS event_timestamp"
        assert store.get_historical_features(by_sql, ["visits:visits"]).to_arrow()["visits"].to_pylist() == [2]
        store.write_to_offline_store("visits", rows())
        store.push("visit_push", rows(account_id=77), to=PushMode.OFFLINE)
        again = pd.DataFrame({"account_id": [1, 77], "event_timestamp": NOW})
        assert store.get_historical_features(again, ["visits:visits"]).to_arrow()["visits"].to_pylist() == [5, 5]
        service = store.get_feature_service("spend_v1")
        schema = FeatureServiceLoggingSource(service, "shop").get_schema(store.registry)
        row = {"account_id": 1, "__request_id": "r", "__log_timestamp": ago(3), "__log_date": ago(3).date()}
        store.write_logged_features(pa.Table.from_pylist([row], schema), service)
        columns = store._get_provider().get_table_column_names_and_types_from_data_source(
            store.config, store.get_data_source("visit_rows")
        )
        assert dict(columns)["visits"] == "int64"
    assert len(list((shop.home / "offline" / "visits").glob("*.parquet"))) == 3
    assert len(list((shop.home / "logs" / "spend").rglob("*.parquet"))) == 1


def test_the_registry_from_afar(shop, repository, afar):
    port = free_port()
    with repository.serving("serve_registry", "-p", str(port), ports=[port]):
        store = afar(registry={"registry_type": "remote", "path": f"127.0.0.1:{port}"})
        assert store.get_feature_view("visits").tags == {"refreshed": "daily"}
        found = store.get_online_features(features=["visits:visits"], entity_rows=[{"account_id": 1}]).to_dict()
        assert found["visits"] == [2]
        asked = pd.DataFrame({"account_id": [1], "event_timestamp": [NOW]})
        assert store.get_historical_features(asked, ["visits:visits"]).to_arrow()["visits"].to_pylist() == [2]


@pytest.mark.parametrize("with_grpc", [False, True], ids=["alone", "beside gRPC"])
def test_the_registry_over_http(repository, with_grpc):
    ports = [free_port(), free_port()]
    arguments = ["--rest-api", "--rest-port", str(ports[0]), "--host", "127.0.0.1", "-p", str(ports[1])]
    used = ports if with_grpc else ports[:1]
    with repository.serving("serve_registry", *arguments, *([] if with_grpc else ["--no-grpc"]), ports=used):
        views = httpx.get(f"http://127.0.0.1:{ports[0]}/api/v1/feature_views?project=shop", timeout=120)
        assert views.status_code == 200, views.text
        assert {each["spec"]["name"] for each in views.json()["featureViews"]} == {"visits", "standing", "rates"}


def test_both_registry_servers_take_the_settings_of_churn_feast(tmp_path, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "elsewhere"))
    churn = str(Path(sys.executable).with_name("churn"))
    subprocess.run([churn, "apply"], check=True, capture_output=True)
    rest, grpc = free_port(), free_port()
    arguments = ["--rest-api", "--rest-port", str(rest), "--host", "127.0.0.1", "-p", str(grpc)]
    repository = Repository(tmp_path, tmp_path / "elsewhere", "sqlite")
    with repository.serving("feast", "serve_registry", *arguments, program=churn, ports=[rest, grpc]):
        views = httpx.get(f"http://127.0.0.1:{rest}/api/v1/feature_views?project=churn", timeout=120)
        assert "customer_billing" in {each["spec"]["name"] for each in views.json()["featureViews"]}
