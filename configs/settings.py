"""Settings: TOML files, overridden by ``CHURN_…`` environment variables; typed and frozen.

Read once per process by :func:`load_settings` and passed down. Only this module reads settings from the
environment.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import TomlConfigSettingsSource as TomlSource

from configs.errors import SettingsError
from configs.text import decoded

CONFIG_DIR: Final = Path(__file__).resolve().parent
PROJECT_ROOT: Final = CONFIG_DIR.parent
VARIABLE_PREFIX: Final = "CHURN_"
DEVELOPMENT_KEY: Final = "local-development-key"

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSettings(_Section):
    """Ingestion and the data-quality gate."""

    delivery_lag_hours: Annotated[float, Field(ge=0)]
    label_window_days: Positive
    label_window_tolerance_days: Annotated[int, Field(ge=0)]
    quarantine_share_max: Share
    volume_share_min: Annotated[float, Field(gt=0, le=1)]
    volume_share_max: Annotated[float, Field(ge=1)]
    vanished_share_max: Share
    vanished_share_limit: Share
    churn_rate_min: Share
    churn_rate_max: Share
    churn_rate_factor_max: Annotated[float, Field(ge=1)]
    churn_rate_snapshots: Positive
    rows_min: Positive
    file_size_max_mb: Positive
    memory_max_mb: Annotated[int, Field(ge=256)]
    cell_length_max_chars: Positive
    event_quarantine_share_max: Share
    event_clock_skew_s: Annotated[float, Field(ge=0)]


class PrivacySettings(_Section):
    """Pseudonyms of customer ids."""

    pseudonym_key: SecretStr


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class FeastSettings(_Section):
    """Feast's online store, registry and offline store."""

    online_store: Literal["sqlite", "redis"]
    redis_url: SecretStr
    redis_timeout_ms: Positive
    registry_url: SecretStr
    registry_cache_ttl_s: Positive
    offline_memory_max_mb: Annotated[int, Field(ge=256)]
    offline_threads: Positive

    @field_validator("redis_url")
    @classmethod
    def _password_survives_feast(cls, url: SecretStr) -> SecretStr:
        # Feast splits its connection string on "," and JSON-decodes each value, so a password with a comma is
        # cut in two and "123", "1e5" or "true" is no string any more. Refused here, where the error can explain it.
        from urllib.parse import unquote, urlsplit

        parts = urlsplit(url.get_secret_value())
        try:
            number = parts.path.strip("/")
            well_formed = (
                parts.scheme in {"redis", "rediss"}
                and bool(parts.hostname)
                and parts.port != 0
                and (not number or (number.isascii() and number.isdigit()))
            )
        except ValueError:  # its text repeats the invalid port, which is often half a password
            well_formed = False
        if not well_formed:
            raise ValueError("must look like redis://[:password@]host:port/db, its password percent-encoded")
        # Feast supports none of them: it would ignore them without a message, and write to another database.
        if parts.query or parts.fragment:
            raise ValueError("has options behind ? or #, which Feast cannot carry: the database is a number behind /")
        for name, value in {"password": parts.password, "username": parts.username}.items():
            if value and ("," in unquote(value) or _is_json(unquote(value))):
                raise ValueError(
                    f"the {name} holds a comma or reads as JSON (digits only, true, null …), "
                    "which Feast cannot carry: choose another"
                )
        return url


class MlflowSettings(_Section):
    """MLflow tracking and registry."""

    tracking_uri: SecretStr
    experiment: str
    model_name: str


class TrainingSettings(_Section):
    """Tuning and fitting."""

    feature_service: Annotated[str, Field(pattern=r"^(auto|[a-z][a-z0-9_]*_v[1-9][0-9]*)$")] = "auto"
    seed: int
    trials: Positive
    tuning_timeout_s: Positive
    folds: Annotated[int, Field(ge=2)]
    test_share: Annotated[float, Field(gt=0, lt=0.5)]


class PromotionSettings(_Section):
    """Thresholds that a challenger must meet to be promoted."""

    log_loss_margin: Annotated[float, Field(ge=0)]
    profit_margin_usd: Annotated[float, Field(ge=0)]
    slice_log_loss_margin: Annotated[float, Field(ge=0)]
    slice_rows_min: Positive
    significance: Annotated[float, Field(gt=0, le=0.5)]
    bootstrap_replicates: Annotated[int, Field(ge=200, le=100_000)]
    rows_min: Positive
    roc_auc_min: Share
    ece_max: Share
    latency_p50_max_ms: Annotated[float, Field(gt=0)]
    bundle_size_max_mb: Annotated[float, Field(gt=0)]
    approval_required: bool
    approval_timeout_h: Annotated[float, Field(gt=0)]


class RolloutSettings(_Section):
    """Trials of a challenger on live requests before its promotion: shadow and canary."""

    shadow_requests_min: Annotated[int, Field(ge=0)]
    canary_share: Annotated[float, Field(ge=0, lt=1)]
    canary_requests_min: Positive
    trial_timeout_h: Annotated[float, Field(gt=0)]
    agreement_min: Share
    score_psi_max: Annotated[float, Field(gt=0)]
    latency_ratio_max: Annotated[float, Field(ge=1)]
    error_rate_margin: Share
    queue_max: Positive


class MonitoringSettings(_Section):
    """Bounds beyond which a monitoring report shows drift or stale data."""

    psi_max: Annotated[float, Field(gt=0)]
    score_psi_max: Annotated[float, Field(gt=0)]
    label_psi_max: Annotated[float, Field(gt=0)]
    log_loss_rise_max: Annotated[float, Field(gt=0)]
    calibration_gap_max: Annotated[float, Field(gt=0)]
    bins: Annotated[int, Field(ge=2, le=100)]
    rows_min: Positive
    false_alarm: Annotated[float, Field(gt=0, lt=0.5)]
    freshness_max_h: Annotated[float, Field(gt=0)]
    inbox_max_h: Annotated[float, Field(gt=0)]


class RetrainingSettings(_Section):
    """Limits on trainings that drift starts."""

    cool_down_h: Annotated[float, Field(ge=0)]
    daily_max: Positive


class BatchSettings(_Section):
    """Batch scoring of all customers."""

    chunk_customers: Positive


class ServingSettings(_Section):
    """The HTTP service."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]
    workers: Positive
    reasons_max: Positive
    batch_ids_max: Positive
    body_size_max_kb: Positive
    retry_after_s: Positive
    request_timeout_s: Positive
    header_timeout_s: Positive
    keep_alive_s: Positive
    concurrency_max: Positive
    reload_interval_s: Annotated[float, Field(gt=0, le=60)]
    traces_endpoint: str


class AccessSettings(_Section):
    """API keys and rate limits of the service."""

    keys_file: str
    required: bool
    requests_per_s: Annotated[float, Field(ge=0)]
    burst: Positive


class ReceiptsSettings(_Section):
    """Receipts: records of predictions."""

    database_url: SecretStr
    signing_key: SecretStr
    queue_max: Positive


class Settings(BaseSettings):
    """All settings of one process, read once and passed down.

    ``home`` is the absolute path of the folder that holds everything the platform writes.
    """

    model_config = SettingsConfigDict(
        env_prefix=VARIABLE_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", case_sensitive=False
    )

    home: Path
    profile: Literal["local", "prod"] = "local"
    telco_csv: Path | None = None
    """Path of the real file for the tests; no command reads it."""
    data: DataSettings
    privacy: PrivacySettings
    feast: FeastSettings
    mlflow: MlflowSettings
    training: TrainingSettings
    promotion: PromotionSettings
    rollout: RolloutSettings
    monitoring: MonitoringSettings
    retraining: RetrainingSettings
    batch: BatchSettings
    serving: ServingSettings
    access: AccessSettings
    receipts: ReceiptsSettings

    @model_validator(mode="after")
    def _prod_is_complete(self) -> Settings:
        if self.profile == "prod" and self.privacy.pseudonym_key.get_secret_value() in {"", DEVELOPMENT_KEY}:
            raise ValueError("profile prod needs its own CHURN_PRIVACY__PSEUDONYM_KEY")
        if self.profile == "prod" and self.receipts.signing_key.get_secret_value() in {"", DEVELOPMENT_KEY}:
            raise ValueError("profile prod needs its own CHURN_RECEIPTS__SIGNING_KEY")
        if self.profile == "prod" and not (
            self.feast.registry_url.get_secret_value() and self.mlflow.tracking_uri.get_secret_value()
        ):
            raise ValueError("profile prod needs CHURN_FEAST__REGISTRY_URL and CHURN_MLFLOW__TRACKING_URI")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic-settings'
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by priority: keyword arguments, environment, TOML; no others are read."""
        return init_settings, env_settings, _toml_files(settings_cls, env_settings)


def _toml_files(cls: type[BaseSettings], env: PydanticBaseSettingsSource) -> TomlSource:
    """Return the source of default.toml, with the profile's file deep-merged over it."""
    profile = env().get("profile", "local") if isinstance(env, EnvSettingsSource) else "local"
    files = [CONFIG_DIR / "default.toml"]
    if profile == "prod":
        files.append(CONFIG_DIR / "prod.toml")
    return _Toml(cls, toml_file=files, deep_merge=True)


class _Toml(TomlSource):
    """TOML source that accepts byte-order marks; an unreadable or invalid file raises SettingsError."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        try:
            return tomllib.loads(decoded(file_path.read_bytes()))
        except (OSError, ValueError) as broken:
            raise SettingsError(f"{file_path.name} cannot be read: {broken}", f"correct {file_path}") from None


def default_home() -> Path:
    """Return ``data`` in the checkout of this file or, once installed elsewhere, in the working folder."""
    root = PROJECT_ROOT if (PROJECT_ROOT / "pyproject.toml").is_file() else Path.cwd()
    return root / "data"


def load_settings(**overrides: Any) -> Settings:
    """Read and validate the settings.

    Sources by priority: keyword overrides, ``CHURN_…`` variables, the profile's TOML, default.toml.

    Raises
    ------
    SettingsError
        If a value is missing, of the wrong type or out of range, or a ``CHURN_…`` variable names no setting.
    """
    _refuse_unknown(os.environ)
    home = Path(overrides.pop("home", None) or os.environ.get(f"{VARIABLE_PREFIX}HOME") or default_home())
    try:
        return Settings(home=home.expanduser().resolve(), **overrides)
    except ValidationError as broken:
        # Pydantic's own text repeats the input, which may be a secret: only location and rule are shown.
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in broken.errors())
        raise SettingsError(
            f"invalid settings: {found}", "see configs/default.toml for every setting and its unit"
        ) from None


def known_variables() -> frozenset[str]:
    """Return the names of all environment variables that set something, in upper case."""
    names = set()
    for field, info in Settings.model_fields.items():
        section = info.annotation
        if isinstance(section, type) and issubclass(section, _Section):
            names |= {f"{VARIABLE_PREFIX}{field}__{key}".upper() for key in section.model_fields}
        else:
            names.add(f"{VARIABLE_PREFIX}{field}".upper())
    return frozenset(names)


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    # pydantic-settings ignores a misspelt variable without a message, as if it had taken effect.
    unknown = sorted({name for name in environ if name.upper().startswith(VARIABLE_PREFIX)} - known_variables())
    if unknown:
        raise SettingsError(
            f"unknown environment variable {', '.join(unknown)}", "CHURN_<SECTION>__<KEY>, see configs/default.toml"
        )
