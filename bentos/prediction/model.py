"""The serving model: load a bundle with its features, reasons and levers, and check that they agree.

Used by the service; never changes what is registered or promoted. See docs/decisions/0018-pointer-and-ledger.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bentos.decisions.economics import Economics, load_economics, profit_threshold
from bentos.decisions.levers import Levers, load_levers
from bentos.decisions.reason_codes import ReasonDictionary, parse_reason_codes
from bentos.decisions.reason_codes import load_reason_codes as load_reasons
from bentos.prediction.errors import ContractMismatchError
from bentos.prediction.prediction import ModelInfo
from configs.settings import Settings
from feature_repo.contract import Feature, current_services, features_of
from feature_repo.definition_hash import same_contract

if TYPE_CHECKING:
    from bentos.bundle import Bundle
    from feature_repo.stores.online_features import OnlineFeatureReader

log = logging.getLogger(__name__)

PROBE_ID: Final = "readiness-probe"
"""Not a customer's id; reading it shows whether the online store answers."""
_THRESHOLD_GAP: Final = 1e-6
_APPLY: Final = "run: churn apply"
_PROBE_VALUE: Final[dict[str, Any]] = {"bool": False, "int64": 0, "float64": 0.0}


@dataclass(frozen=True)
class ServingModel:
    """One model in service, with its feature reader, reasons, levers and economics.

    Parameters
    ----------
    bundle
        The loaded bundle.
    features
        Reader of the bundle's feature service, registered with the bundle's contract hash.
    reasons
        The reason dictionary: the bundle's own if it has one, else that of configs/.
    levers
        What may be offered, only with reason codes that ``reasons`` has.
    economics
        Costs and gains of a contact, of configs/economics.toml.
    """

    bundle: Bundle
    features: OnlineFeatureReader
    reasons: ReasonDictionary
    levers: Levers
    economics: Economics

    @cached_property
    def info(self) -> ModelInfo:
        """The fields that all its predictions share."""
        manifest = self.bundle.manifest
        return ModelInfo(
            self.bundle.digest, manifest.model_version, manifest.service, manifest.contract_hash, manifest.threshold
        )


def load_model(settings: Settings, folder: Path, current: ServingModel | None = None) -> ServingModel:
    """Load a bundle and open its features.

    Parameters
    ----------
    settings
        The home and the stores.
    folder
        The bundle's folder.
    current
        A model whose store is shared: the new reader opens no connection of its own. None: a store is opened.

    Raises
    ------
    ChurnError
        BundleError, ReasonDictionaryError, LeversError, EconomicsError, NothingRegisteredError,
        RegistryUnavailableError or ContractMismatchError: nothing is half loaded, and a store that was opened for it is
        closed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from bentos.prediction.model import load_model
    >>> from configs.settings import load_settings
    >>> home = Path(tempfile.mkdtemp())
    >>> load_model(load_settings(home=home), home / "bundles" / "none")
    Traceback (most recent call last):
        ...
    bentos.bundle.manifest.BundleError: no bundle at ...
    """
    from bentos.bundle import Bundle

    bundle = Bundle.load(folder)
    service = bundle.manifest.service
    # The bundle's own dictionary gives the same texts at each replay; a bundle without one uses that of configs/.
    reasons = (
        parse_reason_codes(bundle.reason_codes, service, stored=True) if bundle.reason_codes else load_reasons(service)
    )
    features = _features(settings, service, current)
    try:
        return _agreed(bundle, features, reasons)
    except BaseException:
        if current is None:
            features.close()
        raise


def _agreed(bundle: Bundle, features: OnlineFeatureReader, reasons: ReasonDictionary) -> ServingModel:
    """Return the model of its parts. Raises ContractMismatchError, LeversError or EconomicsError."""
    service = bundle.manifest.service
    if not same_contract(service, features.contract_hash):
        raise ContractMismatchError(
            f"feature service {service} is registered with another contract than the bundle and this code have",
            _APPLY,
        )
    economics = load_economics()
    if abs(profit_threshold(economics) - bundle.manifest.threshold) > _THRESHOLD_GAP:
        log.warning(
            "labels follow the threshold %.4f that the model was trained with; configs/economics.toml now says %.4f",
            bundle.manifest.threshold,
            profit_threshold(economics),
        )
    return ServingModel(bundle, features, reasons, current_levers(service, reasons), economics)


def current_levers(service: str, reasons: ReasonDictionary) -> Levers:
    """Return the levers of configs/levers.toml that the model's reason codes have; raises LeversError.

    They are checked against the current reason codes. Recommendations must not keep an older model from serving: a
    rollback may lead to one. What does not fit an older version of the feature service is left out.
    """
    if service not in current_services():
        return load_levers(service, reasons, partial=True)
    levers = load_levers(service, load_reasons(service))
    known = tuple(lever for lever in levers.levers if lever.code in reasons.codes)
    if left := [lever.name for lever in levers.levers if lever not in known]:
        log.warning("levers left out, the model has no such reason code: %s", ", ".join(left))
    return replace(levers, levers=known)


def _features(settings: Settings, service: str, beside: ServingModel | None) -> OnlineFeatureReader:
    from feature_repo.stores.errors import translate_store_errors
    from feature_repo.stores.feature_store import close_store, open_feature_store
    from feature_repo.stores.online_features import OnlineFeatureReader

    with translate_store_errors(settings):
        if beside is not None:
            return beside.features.for_service(service)
        store = open_feature_store(settings)
        try:
            return OnlineFeatureReader(store, service)
        except BaseException:
            # The load is tried again every second: each try would leave a thread that polls the registry for ever.
            close_store(store)
            raise


def warm_up(model: ServingModel, now: datetime, *, store_needed: bool = False) -> None:
    """Score, explain and read once, so that no request pays for lazy imports and first allocations.

    A store that does not answer is only logged: readiness checks it again each time.

    Parameters
    ----------
    model
        The model to warm up.
    now
        The instant of the read, tz-aware.
    store_needed
        Whether a store that does not answer is an error: the current model then serves until the new one can.

    Raises
    ------
    StoreUnavailableError
        If the store does not answer, with ``store_needed``.
    """
    from feature_repo.stores.errors import StoreUnavailableError
    from feature_repo.stores.vectors import encode_features

    features = features_of(model.bundle.manifest.service)
    vectors = encode_features(features, {feature.name: [_probe_value(feature)] for feature in features})
    # One customer and several take different code paths.
    model.bundle.explain_vectors(vectors)
    model.bundle.explain_vectors(vectors.repeat(2, axis=0))
    model.bundle.score_vectors(vectors)
    try:
        model.features.read_batch([PROBE_ID], now)
    except StoreUnavailableError:
        if store_needed:
            raise
        log.warning("the online store does not answer yet")


def _probe_value(feature: Feature) -> Any:
    return feature.categories[0] if feature.categories else _PROBE_VALUE[feature.dtype]
