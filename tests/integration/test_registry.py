"""MLflow holds the run, the version and its aliases, and a model that is the bundle, without pickle."""

from __future__ import annotations

import contextlib
import os
import re
import socketserver
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, event

from bentos.bundle import Bundle, FeaturesInvalidError
from bentos.rollout import champion_digest
from configs.settings import load_settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, features_of
from tests.support.small_model import features_of_snapshot, saved, simulated
from training.mlflow_database import tracking_uri
from training.registry import close_runs, register, set_alias, signature, tag_version, version_of
from training.registry_errors import ExperimentDeletedError, ModelRegistryRefusedError, ModelRegistryUnavailableError

PICKLE = re.compile(rb"\x80[\x02-\x05](?:\x95.{8}|[\x8c}\]cX(K])", re.DOTALL)
"""A pickle of protocol 2 to 5 begins with its version, then a frame or a first opcode."""


@pytest.fixture(scope="module")
def client(telco):
    mlflow.set_tracking_uri(tracking_uri(telco.settings))
    return mlflow.MlflowClient()


@pytest.fixture(scope="module")
def run(telco, client):
    return client.get_run(telco.challenger.registered.run_id)


@pytest.fixture(scope="module")
def loaded(client):
    return mlflow.pyfunc.load_model("models:/churn@champion")


def with_server(settings, uri):
    return settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update={"tracking_uri": SecretStr(uri)})})


def test_both_aliases_point_at_the_promoted_version(telco):
    for alias in ("challenger", "champion"):
        found = version_of(telco.settings, alias)
        assert found == telco.challenger.registered
        assert (found.version, found.bundle_digest) == ("1", telco.challenger.bundle.digest)


def test_the_run_has_the_parameters_that_were_chosen(telco, run):
    tuning = telco.challenger.fitted.tuning
    expected = {**tuning.params.as_dict(), "seed": telco.settings.training.seed, "trials": tuning.trials}
    assert run.data.params == {name: str(value) for name, value in expected.items()}


def test_the_run_has_the_figures_of_model_and_baseline(telco, run):
    fitted = telco.challenger.fitted
    expected = {f"test_{name}": value for name, value in fitted.metrics.as_dict().items()}
    expected |= {f"baseline_{name}": value for name, value in fitted.baseline.as_dict().items()}
    assert run.data.metrics == pytest.approx(expected)
    assert run.info.status == "FINISHED"


def test_the_run_and_its_version_say_what_the_model_is(telco, client, run):
    manifest = telco.challenger.bundle.manifest
    expected = {
        "bundle_digest": telco.challenger.bundle.digest,
        "model_version": manifest.model_version,
        "feature_service": CORE_SERVICE,
        "contract_hash": manifest.contract_hash,
        "git_commit": manifest.git_commit,
        "time": "declared",
        "snapshots": f"{telco.now.date()}.v1",
    }
    assert expected.items() <= run.data.tags.items()
    assert run.data.tags["rows_train"] == str(len(telco.challenger.fitted.train))
    assert run.data.tags["rows_test"] == str(len(telco.challenger.fitted.test))
    version = client.get_model_version("churn", "1")
    assert expected.items() <= version.tags.items()
    assert version.tags["verdict"] == "passed"
    assert version.tags["why"] == telco.verdict.why


def test_the_pages_show_what_people_look_for(telco, client, run):
    """Names and a line about each, plots and a report, the kind of the experiment."""
    fitted, day = telco.challenger.fitted, telco.now.date()
    assert run.info.run_name == f"churn v1, {day}, {CORE_SERVICE}"
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    version, model = client.get_model_version("churn", "1"), client.get_registered_model("churn")
    said = [run.data.tags["mlflow.note.content"], version.description, model.description]
    said.append(experiment.tags["mlflow.note.content"])
    assert all(each and "\n" not in each for each in said)
    assert said[0] == said[1]
    assert said[0].startswith(f"Fitted on {len(fitted.train)} rows of 1 extract up to {day}, measured on")
    assert f"ROC-AUC {fitted.metrics.roc_auc:.4f}" in said[0]
    files = {each.path for each in client.list_artifacts(run.info.run_id, "evaluation")}
    charts = ("roc", "pr", "calibration", "gains", "lift", "profit", "shap")
    assert files == {"evaluation/report.html", *(f"evaluation/{name}.svg" for name in charts)}
    # The page of the experiment's models has the figures of each.
    (made,) = run.outputs.model_outputs
    logged = client.get_logged_model(made.model_id)
    assert logged.name == f"churn-{telco.challenger.bundle.manifest.model_version}"
    assert {each.key: each.value for each in logged.metrics} == pytest.approx(run.data.metrics)


def test_the_run_has_its_dataset_as_schema_and_digest_without_a_row(telco, run):
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == CORE_SERVICE
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "training")]
    assert '"num_rows": ' + str(len(telco.challenger.fitted.train)) in given.dataset.profile
    assert all(feature.name in given.dataset.schema for feature in features_of(CORE_SERVICE))


def test_the_signature_is_the_contract(loaded):
    assert loaded.metadata.signature == signature(CORE_SERVICE)
    names = [feature.name for feature in features_of(CORE_SERVICE)]
    assert loaded.metadata.signature.inputs.input_names() == names
    assert loaded.metadata.signature.outputs.input_names() == ["probability"]
    required = {column.name: column.required for column in loaded.metadata.signature.inputs.inputs}
    assert required == {feature.name: not feature.nullable for feature in features_of(CORE_SERVICE)}


def test_mlflows_model_scores_as_the_bundle(telco, loaded):
    frame = telco.training_set.features
    bundle = Bundle.load(champion_digest(telco.settings.home))
    found = loaded.predict(frame)
    assert list(found.columns) == ["probability"]
    assert found["probability"].to_numpy() == pytest.approx(bundle.score(frame), abs=1e-12)
    shuffled = frame.head(20)[list(reversed(frame.columns))]
    assert loaded.predict(shuffled)["probability"].to_numpy() == pytest.approx(bundle.score(frame.head(20)), abs=1e-12)


def test_mlflows_model_refuses_a_null_without_a_meaning(telco, loaded):
    broken = telco.training_set.features.head(2).assign(monthly_charges_usd=np.nan)
    with pytest.raises(FeaturesInvalidError, match="2 of 2 rows have no usable value for monthly_charges_usd"):
        loaded.predict(broken)
    with pytest.raises(mlflow.MlflowException, match="tenure_months"):
        loaded.predict(telco.training_set.features.head(2).drop(columns="tenure_months"))


def test_nothing_below_a_trained_home_is_a_pickle(telco):
    files = [path for path in telco.settings.home.rglob("*") if path.is_file()]
    assert any(path.name == "MLmodel" for path in files), "the scan must see MLflow's artifacts"
    assert any(path.name == "trees.ubj" for path in files)
    assert [path for path in files if path.suffix in {".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill"}] == []
    assert [path for path in files if PICKLE.match(path.read_bytes()[:16])] == []


def test_no_artifact_of_the_model_names_a_customer(telco):
    ids = [each.encode() for each in telco.snapshot[CUSTOMER].sample(300, random_state=7)]
    for path in (telco.settings.home / "mlflow").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert [each for each in ids if each in content] == [], path


def test_an_alias_that_points_nowhere_is_none(settings):
    assert version_of(settings, "champion") is None
    assert version_of(settings, "challenger") is None


def registered(settings):
    bundle, _ = saved(settings.home)
    frame = features_of_snapshot(simulated())
    given = {"params": {"trials": 1}, "metrics": {"test_roc_auc": 0.8}, "tags": {"rows": "400"}, "artifacts": {}}
    return register(settings, bundle, frame, **given)


def test_registering_makes_a_challenger_and_no_champion(settings):
    first = registered(settings)
    assert version_of(settings, "challenger") == first
    assert version_of(settings, "champion") is None
    set_alias(settings, "champion", first.version)
    second = registered(settings)
    assert (first.version, second.version) == ("1", "2")
    assert version_of(settings, "challenger") == second
    assert version_of(settings, "champion") == first


def test_what_a_person_wrote_about_the_experiment_stays(settings):
    first = registered(settings)
    client = mlflow.MlflowClient()
    experiment = client.get_run(first.run_id).info.experiment_id
    client.set_experiment_tag(experiment, "mlflow.note.content", "ours")
    registered(settings)
    assert client.get_experiment(experiment).tags["mlflow.note.content"] == "ours"


def test_files_can_be_kept_with_the_run(settings, tmp_path):
    (tmp_path / "report.html").write_text("<p>figures</p>")
    bundle, _ = saved(settings.home)
    made = register(
        settings,
        bundle,
        features_of_snapshot(simulated(50)),
        params={},
        metrics={},
        tags={},
        artifacts={"report": [tmp_path / "report.html"]},
    )
    kept = list((settings.home / "mlflow").rglob("report.html"))
    assert [path.read_text() for path in kept] == ["<p>figures</p>"]
    assert made.run_id in str(kept[0])


def test_nothing_is_written_outside_the_home(settings, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    registered(settings)
    assert list(elsewhere.iterdir()) == []


def test_a_dead_server_is_named_in_time(settings, port):
    dead = with_server(settings, f"http://127.0.0.1:{port}")
    with pytest.raises(ModelRegistryUnavailableError, match="can't be reached: nothing listens") as refused:
        version_of(dead, "champion")
    assert refused.value.transient
    assert (refused.value.error, refused.value.http_status) == ("model_registry_unavailable", 503)
    assert "CHURN_MLFLOW__TRACKING_URI" in refused.value.hint
    assert str(port) not in refused.value.message


class Page(socketserver.BaseRequestHandler):
    """Answers whatever is asked with a page, as a proxy does that wants somebody to log in."""

    def handle(self):
        self.request.recv(1 << 16)
        self.request.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\n<html>")


def test_a_connection_that_fails_is_named(settings, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Page) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{web.server_address[1]}"
        for uri, what in {
            f"http://{address}": "no MLflow, perhaps a page to log in",
            f"https://{address}": r"the encrypted connection \(TLS\) failed",
            "http://no-such-host.invalid": "its host name is unknown",
        }.items():
            with pytest.raises(ModelRegistryUnavailableError, match=what) as refused:
                version_of(with_server(settings, uri), "champion")
            assert "CHURN_MLFLOW__TRACKING_URI" in refused.value.hint
            assert "127.0.0.1" not in refused.value.message
        web.shutdown()


def test_every_question_to_a_dead_server_gives_the_same_error(settings, port, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # an operator's own choice stays
    dead = with_server(settings, f"http://127.0.0.1:{port}")
    bundle, _ = saved(settings.home)
    for ask in (
        lambda: register(dead, bundle, pd.DataFrame({"x": [1.0]}), params={}, metrics={}, tags={}, artifacts={}),
        lambda: set_alias(dead, "champion", "1"),
        lambda: tag_version(dead, "1", {"verdict": "promoted"}),
        lambda: version_of(dead, "challenger"),
    ):
        with pytest.raises(ModelRegistryUnavailableError):
            ask()


@pytest.mark.parametrize("uri", ["nonsense://host", "http://", "sqlite:////dev/null/mlflow.db"])
def test_an_address_that_is_none_is_named(settings, uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ModelRegistryUnavailableError):
        version_of(with_server(settings, uri), "champion")


def test_a_damaged_database_is_named(settings):
    (settings.home / "mlflow").mkdir(parents=True)
    (settings.home / "mlflow" / "mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(
        ModelRegistryRefusedError, match=r"below the home can't be used: it is damaged \(SQLITE_NOTADB\)"
    ) as refused:
        version_of(settings, "champion")
    assert "restore mlflow/ from a backup" in refused.value.hint
    assert not refused.value.transient, "asking again is in vain"


def test_a_damaged_database_of_the_address_is_named_and_not_the_one_below_the_home(settings, tmp_path):
    other = tmp_path / "other.db"
    other.write_bytes(b"no database" * 1000)
    with pytest.raises(ModelRegistryRefusedError) as refused:
        version_of(with_server(settings, f"sqlite:///{other}"), "champion")
    assert refused.value.message == "the MLflow database can't be used: it is damaged (SQLITE_NOTADB)"
    assert refused.value.hint == "restore the file that CHURN_MLFLOW__TRACKING_URI names from a backup"


@pytest.mark.parametrize(("put", "what"), [(Path.mkdir, "Is a directory"), (os.mkfifo, "it is a FIFO, no file")])
def test_a_database_that_can_not_be_opened_is_named_at_once(settings, put, what):
    """MLflow itself tries again for almost an hour."""
    (settings.home / "mlflow").mkdir(parents=True)
    put(settings.home / "mlflow" / "mlflow.db")
    with pytest.raises(ModelRegistryRefusedError) as refused:
        version_of(settings, "champion")
    assert refused.value.message == f"the MLflow database below the home can't be used: {what}"
    assert "mlflow.db must be a file" in refused.value.hint
    assert not refused.value.transient, "asking again is in vain"


def test_a_database_that_another_holds_is_asked_again(settings):
    version_of(settings, "champion")
    database = settings.home / "mlflow" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ModelRegistryUnavailableError, match=r"another process holds it \(SQLITE_BUSY\)") as refused:
            set_alias(with_server(settings, f"sqlite:///{database}?timeout=0.1"), "champion", "1")
    assert refused.value.transient


def test_a_database_that_may_not_be_written_is_refused_with_its_cure(settings):
    version_of(settings, "champion")
    database = settings.home / "mlflow" / "mlflow.db"
    read_only = with_server(settings, f"sqlite+pysqlite:///file:{database}?mode=ro&uri=true")
    with pytest.raises(ModelRegistryRefusedError, match=r"it may not be written \(SQLITE_READONLY\)") as refused:
        close_runs(read_only, "0" * 64, set())  # makes the experiment
    assert (refused.value.transient, "correct the rights" in refused.value.hint) == (False, True)


def test_a_database_on_a_full_disk_is_asked_again(settings):
    version_of(settings, "champion")
    database = settings.home / "mlflow" / "mlflow.db"

    def leave_no_room(connection, _):
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the pages that there are

    def fill():
        full = with_server(settings, f"sqlite:///{database}?timeout=0.2")
        for number in range(200):
            section = full.mlflow.model_copy(update={"experiment": f"{number:0250d}"})
            close_runs(full.model_copy(update={"mlflow": section}), "0" * 64, set())

    event.listen(Engine, "connect", leave_no_room)
    try:
        with pytest.raises(ModelRegistryUnavailableError, match=r"the disk is full \(SQLITE_FULL\)") as refused:
            fill()
    finally:
        event.remove(Engine, "connect", leave_no_room)
    assert (refused.value.transient, "free disk space" in refused.value.hint) == (True, True)


def test_a_deleted_experiment_is_named_with_its_cure_and_the_cure_works(settings):
    version_of(settings, "champion")
    mlflow.set_tracking_uri(tracking_uri(settings))
    number = mlflow.create_experiment(settings.mlflow.experiment)
    mlflow.MlflowClient().delete_experiment(number)
    with pytest.raises(ExperimentDeletedError, match="experiment churn was deleted") as refused:
        close_runs(settings, "0" * 64, set())
    assert not refused.value.transient
    command = refused.value.hint.split("; or set CHURN_MLFLOW__EXPERIMENT")[0].removeprefix("restore it: ")
    assert tracking_uri(settings) in command
    done = subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    close_runs(settings, "0" * 64, set())
    elsewhere = settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update={"experiment": "another"})})
    mlflow.MlflowClient().delete_experiment(number)
    close_runs(elsewhere, "0" * 64, set())


def test_a_version_that_does_not_exist_can_not_be_promoted(telco):
    with pytest.raises(ModelRegistryUnavailableError):
        set_alias(telco.settings, "champion", "999")
    with pytest.raises(ModelRegistryUnavailableError):
        tag_version(telco.settings, "999", {"verdict": "promoted"})
    assert version_of(telco.settings, "champion") == telco.challenger.registered


def test_the_embedded_store_lies_in_the_home(tmp_path):
    settings = load_settings(home=tmp_path)
    assert tracking_uri(settings) == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert tracking_uri(with_server(settings, "http://mlflow:5000")) == "http://mlflow:5000"
