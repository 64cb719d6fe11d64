"""MLflow tracking and model registry. The only module that imports MLflow (except its model script)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from bentos.bundle.manifest import MANIFEST_FILE, BundleError, bundles_folder, read_verified
from configs.interrupts import reinstate_interrupts
from configs.settings import Settings
from feature_repo.contract import DType, features_of
from feature_repo.files.atomic_writes import (
    storage_errors,
    temporary_folder,
    write_file,
    write_folder,
)
from training.mlflow_database import artifacts_uri, database_path, make_database, server_uri, tracking_uri, try_to_open
from training.registry_errors import (
    ExperimentDeletedError,
    NoSuchVersionError,
    translate_registry_errors,
)
from training.run_text import EXPERIMENT_TAGS, MODEL_DESCRIPTION, run_name

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

    from bentos.bundle import Bundle

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
PREVIOUS: Final = "previous"
FINGERPRINT: Final = "training_fingerprint"
"""Tag of a run and of its version: the training fingerprint; see :mod:`training.model.fingerprint`."""
DIGEST: Final = "bundle_digest"
MODEL_SCRIPT: Final = Path(__file__).with_name("mlflow_model.py")
# Requirements of a loader: the distribution brings the rest; inferring them from imports is slow.
REQUIREMENTS: Final = ["churn-platform"]
_MODEL_NAME_UNUSABLE: Final = re.compile(r"[^A-Za-z0-9_-]")
"""Characters that are replaced in the name of a logged model: MLflow refuses some of them."""
Alias = Literal["champion", "challenger", "previous"]
SERVER_RETRIES: Final = 2
"""Retries of a server that does not respond, about 5 s in all (MLflow's own 7 take minutes)."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered model version: its number, its run, its bundle's digest, and its tags."""

    version: str
    run_id: str
    bundle_digest: str
    tags: Mapping[str, str] = field(default_factory=dict, compare=False)


def register(
    settings: Settings,
    bundle: Bundle,
    training_rows: pd.DataFrame,
    *,
    params: Mapping[str, float | int | str],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    artifacts: Mapping[str, Sequence[Path]],
    description: str = "",
) -> RegisteredVersion:
    """Log one run and register its bundle as the model's newest version, alias ``challenger``.

    The version is created with all its tags: a process that is killed here leaves no version without a fingerprint, and
    at most a run that :func:`close_runs` ends.

    Parameters
    ----------
    bundle
        A saved bundle (it has a digest).
    training_rows
        The features of the training rows: logged as the run's dataset input (schema and digest, no rows).
    tags
        Tags of the run and of the version, in addition to those of the bundle.
    artifacts
        Name of a folder in the run -> files to log there.
    description
        One line about the model, shown with the run and with the version.
    """
    import mlflow

    every = {**tags, **_identity(bundle)}
    with translate_registry_errors(settings):
        client = _client(settings)
        experiment = _experiment(client, settings)
        _describe_experiment(client, experiment)
        manifest = bundle.manifest
        with mlflow.start_run(
            experiment_id=experiment, run_name=manifest.model_version, tags=every, description=description or None
        ) as run:
            mlflow.log_params(dict(params))
            inputs = mlflow.data.from_pandas(training_rows, name=bundle.manifest.service)
            mlflow.log_input(inputs, context="training")
            for folder, paths in artifacts.items():
                for path in paths:
                    mlflow.log_artifact(str(path), folder)
            with temporary_folder(settings.home, "mlflow-") as copy:
                bundle.export(settings.home, copy / "bundle")
                logged = mlflow.pyfunc.log_model(
                    name=_MODEL_NAME_UNUSABLE.sub("-", f"{settings.mlflow.model_name}-{manifest.model_version}"),
                    python_model=str(MODEL_SCRIPT),
                    artifacts={"bundle": (copy / "bundle").as_uri()},
                    signature=signature(bundle.manifest.service),
                    pip_requirements=REQUIREMENTS,
                    params=dict(params),
                )
            # Metrics of the run and of the logged model: MLflow's page of models has a column for each.
            mlflow.log_metrics(dict(metrics), model_id=logged.model_id)
            # Within the run: a run that finished has its version.
            version = _new_version(client, settings, run.info.run_id, logged.model_id, every, description)
            client.update_run(run.info.run_id, name=run_name(settings.mlflow.model_name, version, manifest))
            client.set_registered_model_alias(settings.mlflow.model_name, CHALLENGER, version)
    return RegisteredVersion(version, run.info.run_id, bundle.digest, every)


def set_alias(settings: Settings, alias: Alias, version: str | None) -> None:
    """Set an alias of the model to a version, or delete it (None). No effect where it is set already."""
    name = settings.mlflow.model_name
    with translate_registry_errors(settings):
        client = _client(settings)
        if _aliases(client, name).get(alias) == version:
            return
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, version)


def tag_version(settings: Settings, version: str, tags: Mapping[str, str]) -> None:
    """Write tags on a registered version."""
    with translate_registry_errors(settings):
        client = _client(settings)
        for key, value in tags.items():
            client.set_model_version_tag(settings.mlflow.model_name, version, key, value)


def version_of(settings: Settings, alias: Alias) -> RegisteredVersion | None:
    """Return the version of an alias, None where it is not set."""
    name = settings.mlflow.model_name
    with translate_registry_errors(settings):
        client = _client(settings)
        version = _aliases(client, name).get(alias)
        return None if version is None else _registered(client.get_model_version(name, version))


def find_version(settings: Settings, version: str) -> RegisteredVersion:
    """Return a version by its number. Raises NoSuchVersionError."""
    from mlflow.exceptions import MlflowException

    with translate_registry_errors(settings):
        try:
            return _registered(_client(settings).get_model_version(settings.mlflow.model_name, version))
        except MlflowException as missing:
            # MLflow reports an invalid number as a bad parameter.
            if missing.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
    raise NoSuchVersionError(f"the model has no version {version}", "churn history names those that served")


def versions_with(settings: Settings, tag: str, value: str) -> list[RegisteredVersion]:
    """Return the versions whose tag has this value (hex digits), newest first."""
    with translate_registry_errors(settings):
        wanted = f"name = '{settings.mlflow.model_name}' and tags.{tag} = '{value}'"
        found = [_registered(each) for each in _client(settings).search_model_versions(wanted)]
    return sorted(found, key=lambda each: int(each.version), reverse=True)


def known_digests(settings: Settings) -> set[str]:
    """Return the digests of the bundles of all versions."""
    found: set[str] = set()
    wanted, token = f"name = '{settings.mlflow.model_name}'", None
    with translate_registry_errors(settings):
        client = _client(settings)
        while True:
            page = client.search_model_versions(wanted, page_token=token)
            found.update(_registered(each).bundle_digest for each in page)
            token = page.token
            if not token:
                return found


def close_runs(settings: Settings, fingerprint: str, finished: set[str]) -> None:
    """End runs left by a killed training: those in ``finished`` (run ids) as finished, others as killed."""
    with translate_registry_errors(settings):
        client = _client(settings)
        wanted = f"tags.{FINGERPRINT} = '{fingerprint}' and attributes.status = 'RUNNING'"
        for run in client.search_runs([_experiment(client, settings)], wanted):
            client.set_terminated(run.info.run_id, "FINISHED" if run.info.run_id in finished else "KILLED")


def restore_bundle(settings: Settings, registered: RegisteredVersion) -> bool:
    """Restore a version's bundle below the home from MLflow's copy; False if that is missing or damaged."""
    import mlflow
    from mlflow.exceptions import MlflowException

    place = f"models:/{settings.mlflow.model_name}/{registered.version}"
    with temporary_folder(settings.home, "mlflow-") as folder, translate_registry_errors(settings):
        _client(settings)
        try:
            copy = Path(mlflow.artifacts.download_artifacts(place, dst_path=folder)) / "artifacts" / "bundle"
            _, digest, files = read_verified(copy)
        except (BundleError, MlflowException):
            return False
        if digest != registered.bundle_digest:
            return False
        files[MANIFEST_FILE] = (copy / MANIFEST_FILE).read_bytes()
        final = bundles_folder(settings.home) / digest
        with storage_errors():
            if final.exists():
                # Damaged bundle: each file is verified at every read, so files may be restored one by one.
                for name, content in files.items():
                    write_file(final / name, content)
            else:
                write_folder(final, files)
    return True


def figures_of(settings: Settings, run_id: str) -> dict[str, float]:
    """Return the metrics of a run."""
    with translate_registry_errors(settings):
        return dict(_client(settings).get_run(run_id).data.metrics)


def keep_files(settings: Settings, run_id: str, folder: str, paths: Sequence[Path]) -> None:
    """Log files in a folder of a run, replacing earlier ones of the same names."""
    with translate_registry_errors(settings):
        client = _client(settings)
        for path in paths:
            client.log_artifact(run_id, str(path), folder)


def keep_text(settings: Settings, run_id: str, name: str, text: str) -> None:
    """Log a text as the file ``name`` of a run, replacing an earlier one."""
    with translate_registry_errors(settings):
        _client(settings).log_text(run_id, text, name)


def signature(service: str) -> ModelSignature:
    """Return MLflow's signature of a feature service: input types of the contract, output a probability."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    # pandas stores an integer column with a null as float: the signature is double, as the frame is.
    kinds: dict[DType, DataType] = {
        "bool": DataType.boolean,
        "int64": DataType.double,
        "float64": DataType.double,
        "string": DataType.string,
    }
    inputs = [ColSpec(kinds[f.dtype], f.name, required=not f.nullable) for f in features_of(service)]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema([ColSpec(DataType.double, "probability")]))


def _identity(bundle: Bundle) -> dict[str, str]:
    manifest = bundle.manifest
    return {
        DIGEST: bundle.digest,
        "model_version": manifest.model_version,
        "feature_service": manifest.service,
        "contract_hash": manifest.contract_hash,
        "git_commit": manifest.git_commit,
        "time": manifest.time,
        "snapshots": ", ".join(manifest.snapshots),
    }


def _registered(found: Any) -> RegisteredVersion:
    tags = dict(found.tags)
    return RegisteredVersion(str(found.version), str(found.run_id), str(tags.get(DIGEST, "")), tags)


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Return alias -> version, read from the model: a missing alias has the error code of a wrong address."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(name).aliases
    except MlflowException as missing:
        if missing.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    return {alias: str(version) for alias, version in found.items()}


def _new_version(
    client: MlflowClient, settings: Settings, run_id: str, model_id: str, tags: dict[str, str], description: str
) -> str:
    from mlflow.exceptions import MlflowException

    name = settings.mlflow.model_name
    try:
        client.create_registered_model(name, description=MODEL_DESCRIPTION)
    except MlflowException as known:
        if known.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, MODEL_DESCRIPTION)
    created = client.create_model_version(
        name,
        f"models:/{model_id}",
        run_id=run_id,
        tags=tags,
        model_id=model_id,
        description=description or None,
    )
    return str(created.version)


def _describe_experiment(client: MlflowClient, experiment_id: str) -> None:
    """Set the experiment's kind and description where they are not set; what a person chose stays."""
    known = client.get_experiment(experiment_id).tags
    for key, value in EXPERIMENT_TAGS.items():
        if not known.get(key):
            client.set_experiment_tag(experiment_id, key, value)


def _client(settings: Settings) -> MlflowClient:
    import logging

    import mlflow
    from mlflow.environment_variables import (
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    )

    reinstate_interrupts()  # polars is imported with it
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    if not MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set():
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(SERVER_RETRIES)
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    if not server_uri(settings):
        if not database_path(settings).exists():
            make_database(settings)
        try_to_open(database_path(settings))
    mlflow.set_tracking_uri(tracking_uri(settings))
    return mlflow.MlflowClient()


def _experiment(client: MlflowClient, settings: Settings) -> str:
    found = client.get_experiment_by_name(settings.mlflow.experiment)
    if found is not None and found.lifecycle_stage == "deleted":
        place = "<your server>" if server_uri(settings) else tracking_uri(settings)
        raise ExperimentDeletedError(
            f"MLflow's experiment {settings.mlflow.experiment} was deleted: no run can be logged in it",
            f"restore it: MLFLOW_TRACKING_URI={place} mlflow experiments restore --experiment-id "
            f"{found.experiment_id}; or set CHURN_MLFLOW__EXPERIMENT to another name",
        )
    if found is not None:
        return str(found.experiment_id)
    # A server sets its own artifact store; the embedded one needs a location, or MLflow writes to ./mlruns.
    location = None if server_uri(settings) else artifacts_uri(settings)
    return str(client.create_experiment(settings.mlflow.experiment, artifact_location=location))


@dataclass(frozen=True)
class RegisteredChallenger:
    """A registered challenger, described by names alone, so that it can be passed between processes.

    ``fingerprint`` is the hash of its inputs, ``digest`` its bundle's, ``version`` and ``run_id`` MLflow's.
    ``seen_rows`` counts held-out rows that it was fitted on, -1 if not counted. ``fresh`` is False if this version
    existed before.
    """

    fingerprint: str
    digest: str
    model_version: str
    version: str
    run_id: str
    seen_rows: int
    fresh: bool = False
