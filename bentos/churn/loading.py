"""Load the champion and everything that an answer needs, check that the parts agree, and keep it."""

from __future__ import annotations

import gc
import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bentos.churn.errors import ContractMismatchError, LoadingError, NotReadyError, internal
from bentos.reasons import ReasonDictionary
from configs.errors import ChurnError
from configs.settings import Settings
from feature_repo.contract import Feature, contract_hash, features_of

if TYPE_CHECKING:
    from bentos.bundle import Bundle
    from feature_repo.stores.reading import OnlineFeatures

log = logging.getLogger(__name__)

PROBE_ID: Final = "readiness-probe"
"""No customer's id; asking for it shows that the online store answers."""
_RETRY_S: Final = 1.0
_APPLY: Final = "run: churn apply"
_PROBE_VALUE: Final[dict[str, Any]] = {"bool": False, "int64": 0, "float64": 0.0}


@dataclass(frozen=True)
class Champion:
    """One model in service, with the features it reads and the words for its reasons."""

    bundle: Bundle
    features: OnlineFeatures
    reasons: ReasonDictionary


def load(settings: Settings, folder: Path) -> Champion:
    """Load the bundle in ``folder`` and open its features.

    Raises
    ------
    ChurnError
        BundleError, ReasonDictionaryError, NothingRegisteredError, RegistryUnavailableError or
        ContractMismatchError: nothing that an answer needs is half loaded.
    """
    from bentos.bundle import Bundle
    from bentos.reasons import load as load_reasons
    from bentos.reasons import parse

    bundle = Bundle.load(folder)
    service = bundle.manifest.service
    # The bundle's own dictionary explains it, the same words at each replay; one without has that of the configs.
    reasons = parse(bundle.reason_codes, service) if bundle.reason_codes else load_reasons(service)
    features = _features(settings, service)
    expected = {bundle.manifest.contract_hash, contract_hash(service)}
    if expected != {features.contract_hash}:
        raise ContractMismatchError(
            f"feature service {service} is registered with another contract than the bundle and this code have",
            _APPLY,
        )
    return Champion(bundle, features, reasons)


def _features(settings: Settings, service: str) -> OnlineFeatures:
    from feature_repo.stores.opening import open_store
    from feature_repo.stores.reading import OnlineFeatures
    from feature_repo.stores.refusals import refusals

    with refusals(settings):
        return OnlineFeatures(open_store(settings), service)


def warm_up(champion: Champion, now: datetime) -> None:
    """Score, explain and read once, so that no caller pays for lazy imports and first allocations.

    A store that does not answer is no reason to refuse: readiness asks it again each time.
    """
    from feature_repo.stores.refusals import StoreUnavailableError
    from feature_repo.stores.typed import as_frame

    features = features_of(champion.bundle.manifest.service)
    frame = as_frame(features, {feature.name: [_probe_value(feature)] for feature in features})
    champion.bundle.score(frame)
    champion.bundle.explain(frame)
    try:
        champion.features.read([PROBE_ID], now)
    except StoreUnavailableError:
        log.warning("the online store does not answer yet")


def _probe_value(feature: Feature) -> Any:
    return feature.categories[0] if feature.categories else _PROBE_VALUE[feature.dtype]


class Keeper:
    """Holds the champion once it is loaded; until then each request may try, at most once a second."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._champion: Champion | None = None
        self._failure: ChurnError | None = None
        self._tried_at = 0.0
        self._lock = threading.Lock()

    def current(self) -> Champion:
        """Return the champion, loading it if there is one by now.

        Raises
        ------
        NotReadyError
            With the name, message and hint of what keeps the service from answering.
        """
        if self._champion is not None:
            return self._champion
        # Who comes while another request loads is sent away to return: a queue of waiters would only time out.
        if not self._lock.acquire(blocking=False):
            raise NotReadyError(LoadingError("the champion model is being loaded", "repeat the request in a moment"))
        try:
            if self._champion is None:
                self._champion = self._load()
            return self._champion
        finally:
            self._lock.release()

    def _load(self) -> Champion:
        from bentos.bundle import champion

        if self._failure is not None and time.monotonic() - self._tried_at < _RETRY_S:
            raise NotReadyError(self._failure)
        try:
            loaded = load(self._settings, champion(self._settings.home))
            warm_up(loaded, datetime.now(UTC))
        except Exception as broken:
            # Whatever a library raises must not end the worker: it stays up, says that it is not ready, tries again.
            failure = broken if isinstance(broken, ChurnError) else internal(broken)
            if self._failure is None or failure.error != self._failure.error:
                log.warning("not ready: %s: %s; %s", failure.error, failure.message, failure.hint)
            self._failure, self._tried_at = failure, time.monotonic()
            raise NotReadyError(failure) from broken
        # Half a million objects of imported libraries will never be freed. Taken out of the collector's sight,
        # they no longer cost a pause of 100 ms and more in the middle of a request.
        gc.collect()
        gc.freeze()
        manifest = loaded.bundle.manifest
        log.warning("serving model %s, bundle %s", manifest.model_version, loaded.bundle.digest[:12])
        return loaded
