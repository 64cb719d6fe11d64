"""Comparison of a challenger with the champion on the challenger's held-out rows, and the verdict.

See docs/decisions/0019-promotion-needs-proof.md.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import pandas as pd

from bentos.bundle import Bundle, BundleError
from bentos.bundle.manifest import OtherContractError, bundles_folder, read_manifest
from bentos.decisions import reason_codes
from bentos.decisions.economics import load_economics
from bentos.rollout.ledger import read_ledger
from bentos.rollout.live_comparison import LiveFigures
from bentos.rollout.pointer import Rollout
from bentos.rollout.rollout import read_rollout
from configs.printable import printable
from configs.settings import Settings
from feature_repo.contract import AUDIT_SERVICE, CUSTOMER, LABEL, SERVICES_OF
from feature_repo.stores.errors import translate_store_errors
from feature_repo.stores.feature_store import open_feature_store
from feature_repo.stores.historical_features import get_historical_features
from training.data.heldout import read_heldout
from training.metrics.slices import PROMOTION_SLICES_READ, promotion_slices
from training.promotion import BY_HAND, Evidence, Verdict, decide
from training.registry import DIGEST, keep_text, restore_bundle, tag_version, versions_with

if TYPE_CHECKING:
    from feast import FeatureStore

    from training.registry import RegisteredChallenger

TIMED_ROWS: Final = 25
TAG_LENGTH_MAX: Final = 5000
"""Maximum length of a version's tag where MLflow stores tags in PostgreSQL."""


@dataclass(frozen=True)
class ComparisonResult:
    """A verdict on two models.

    Parameters
    ----------
    verdict
        The decision, with every rule.
    challenger, champion
        Digests of the bundles; ``champion`` is None if no model served.
    compared_at
        Instant of the comparison, ISO 8601 UTC.

    Examples
    --------
    >>> from flows.steps.compare import ComparisonResult
    >>> from training.promotion import Verdict
    >>> result = ComparisonResult(Verdict(True, ()), "ab" * 32, None, "2026-01-01T00:00:00+00:00")
    >>> ComparisonResult.from_json(result.to_json()) == result
    True
    """

    verdict: Verdict
    challenger: str
    champion: str | None
    compared_at: str

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "verdict": self.verdict.to_json(),
            "challenger": self.challenger,
            "champion": self.champion,
            "compared_at": self.compared_at,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the comparison that :meth:`to_json` wrote."""
        return cls(**{**content, "verdict": Verdict.from_json(content["verdict"])})


def compare_models(
    settings: Settings,
    trained: RegisteredChallenger,
    served: Rollout | None,
    now: datetime,
    *,
    live: LiveFigures | None = None,
) -> ComparisonResult:
    """Decide from all available figures; the verdict becomes a file of the run and tags of the version.

    A champion whose bundle is missing or damaged is restored from MLflow first: services may still use it. One that
    can't be compared even so (another contract included) stays until a person decides. A champion that reads another
    feature service is scored with its own features.

    Parameters
    ----------
    served
        What serves, as :func:`serving` returns it: its champion is compared with. None: no model serves.
    live
        Results of both on live requests: ``rollout.shadow_requests_min`` of them are required then. None: decided
        without them.

    Raises
    ------
    HeldOutMissingError
        If the challenger's held-out rows are not stored.
    LedgerBrokenError
        If the ledger was changed, so that withdrawals of this challenger are unknown.
    RegistryUnavailableError
        If MLflow does not accept the verdict, or the champion's copy can't be fetched.
    """
    evidence = gather_evidence(settings, trained, served, live)
    verdict = decide(evidence, load_economics(), settings.promotion, settings.rollout, seed=settings.training.seed)
    champion = served.champion if served else None
    compared = ComparisonResult(verdict, trained.digest, champion, now.isoformat())
    # Not for the champion itself: the verdict on it as a challenger stays.
    if champion != trained.digest:
        _record_verdict(settings, trained, compared)
    return compared


def serving(home: Path) -> Rollout | None:
    """Return the roll-out, from the ledger if the pointer is missing or damaged; None before a promotion."""
    try:
        pointed = read_rollout(home)
    except BundleError:
        pointed = None
    if pointed is not None:
        return pointed
    known = read_ledger(home)
    return known[-1].rollout() if known else None


def gather_evidence(
    settings: Settings, trained: RegisteredChallenger, served: Rollout | None, live: LiveFigures | None
) -> Evidence:
    """Collect the input of a verdict from the offline store and the bundles.

    Writes nothing, except a restored bundle of the champion.
    """
    keys = read_heldout(settings.home, trained.digest)
    customers, churned = keys[CUSTOMER].to_numpy(dtype=str), keys[LABEL].to_numpy(dtype=bool)
    withdrawn, undone = withdrawal(settings.home, trained.digest), rolled_back(settings.home)
    try:
        challenger = Bundle.load(bundles_folder(settings.home) / trained.digest)
    except BundleError as unfit:
        unknown = np.full(len(keys), math.nan)
        return Evidence(
            customers, churned, unknown, None, math.nan, schema=unfit.message, withdrawn=withdrawn, rolled_back=undone
        )
    incumbent, incomparable = _incumbent(settings, served)
    with translate_store_errors(settings):
        store = open_feature_store(settings)
        features = get_historical_features(store, keys, challenger.manifest.service)
        known = features
        if incumbent is not None and incumbent.manifest.service != challenger.manifest.service:
            known = get_historical_features(store, keys, incumbent.manifest.service)
        audit = get_historical_features(store, keys, AUDIT_SERVICE)
        groups = _grouped_by(store, keys, features, known)
    score, explained_share = explained(challenger, features)
    return Evidence(
        customers=customers,
        churned=churned,
        challenger=score,
        champion=None if incumbent is None else incumbent.score(known),
        challenger_threshold=challenger.manifest.threshold,
        champion_threshold=math.nan if incumbent is None else incumbent.manifest.threshold,
        slices=promotion_slices(groups, audit),
        explained_share=explained_share,
        latency_p50_ms=latency_p50_ms(challenger, features),
        bundle_bytes=sum(path.stat().st_size for path in (bundles_folder(settings.home) / trained.digest).iterdir()),
        seen_rows=trained.seen_rows,
        withdrawn=withdrawn,
        rolled_back=undone,
        incomparable=incomparable,
        live=live,
        live_required=0 if live is None else settings.rollout.shadow_requests_min,
    )


def withdrawal(home: Path, digest: str) -> str:
    """Return by whom and why the model of the bundle ``digest`` was last withdrawn, "" if it was not.

    The same data give the same model again, in a bundle with another date and hence another digest: a model that was
    rolled back, or failed as a canary, must not return by itself. So bundles are identified by their content
    hash; an unreadable bundle by its digest alone.
    """
    model = functools.cache(functools.partial(_model, home))
    left_as = {"rollback": "champion", "abort": "challenger"}
    said = ""
    for entry in read_ledger(home):
        left = (entry.before or {}).get(left_as.get(entry.action, ""))
        if left is not None and model(left) == model(digest):
            said = printable(f"{entry.action} by {entry.who}: {entry.why}")
        elif entry.action in {"promote", "rollback"} and model(entry.after["champion"]) == model(digest):
            said = ""
    return said


def rolled_back(home: Path) -> str:
    """Return the operator and reason of the last roll-back, "" if a model was promoted since.

    A person withdrew a model that had passed every rule: the rules alone do not choose its successor.
    """
    changes = [entry for entry in read_ledger(home) if entry.action in {"promote", "rollback"}]
    if not changes or changes[-1].action == "promote":
        return ""
    return printable(f"rollback by {changes[-1].who}: {changes[-1].why}")


def _grouped_by(store: FeatureStore, keys: pd.DataFrame, *known: pd.DataFrame) -> pd.DataFrame:
    """Return what the slices read: of a frame that has all of it, or of another service if no model reads it."""
    wanted = set(PROMOTION_SLICES_READ)
    for frame in known:
        if wanted <= set(frame.columns):
            return frame
    registered = {service.name for service in store.list_feature_services()}
    service = next(name for name in SERVICES_OF if name in registered and wanted <= set(SERVICES_OF[name]))
    return get_historical_features(store, keys, service)


def explained(bundle: Bundle, features: pd.DataFrame) -> tuple[np.ndarray, float]:
    """Return the scores (n,) and the share of rows whose reasons add up to their score, in [0, 1].

    0 if a feature of the service has no reason code: its contribution would be missing in the reasons.
    """
    found = bundle.explain(features)
    try:
        reason_codes.parse_reason_codes(bundle.reason_codes, bundle.manifest.service, stored=True)
    except reason_codes.ReasonDictionaryError:
        return found.score, 0.0
    return found.score, float(found.is_additive().mean()) if len(found.score) else math.nan


def latency_p50_ms(bundle: Bundle, features: pd.DataFrame) -> float:
    """Return the median time to score and explain one customer in this process, NaN without rows."""
    times = []
    for row in np.unique(np.linspace(0, len(features) - 1, min(TIMED_ROWS, len(features))).astype(int)):
        one = features.iloc[[row]]
        began = time.perf_counter()
        bundle.explain(one)
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1000 if times else math.nan


def _incumbent(settings: Settings, served: Rollout | None) -> tuple[Bundle | None, str]:
    """Return the champion's bundle, or why it can't be compared; (None, "") if no model serves."""
    if served is None:
        return None, ""
    try:
        return _restored(settings, served.champion), ""
    except OtherContractError as moved_on:
        return None, f'{moved_on.message}; {BY_HAND} "new contract"'
    except BundleError as lost:
        return None, f"{lost.message}, and MLflow has no whole copy; {BY_HAND}"


def _restored(settings: Settings, digest: str) -> Bundle:
    """Load a bundle, from MLflow's copy if need be. Raises BundleError."""
    folder = bundles_folder(settings.home) / digest
    try:
        return Bundle.load(folder)
    except OtherContractError:
        raise  # the copy has the same contract
    except BundleError:
        if not any(restore_bundle(settings, each) for each in versions_with(settings, DIGEST, digest)):
            raise
    return Bundle.load(folder)


def _model(home: Path, digest: str) -> str:
    try:
        return read_manifest(bundles_folder(home) / digest)[0].content_hash()
    except BundleError:
        return digest


def _record_verdict(settings: Settings, trained: RegisteredChallenger, compared: ComparisonResult) -> None:
    verdict = compared.verdict
    keep_text(
        settings, trained.run_id, "promotion/verdict.json", json.dumps(compared.to_json(), indent=2, sort_keys=True)
    )
    figures = {name: float(f"{value:.5g}") for name, value in verdict.figures.items() if math.isfinite(value)}
    tags = {
        "verdict": "passed" if verdict.promote else "refused",
        "why": verdict.why,
        "verdict_figures": json.dumps(figures, separators=(",", ":")),
        "compared_with": compared.champion or "",
    }
    tag_version(settings, trained.version, {name: value[:TAG_LENGTH_MAX] for name, value in tags.items()})
