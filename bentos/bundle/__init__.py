"""The model as it travels: preprocessing, parts, calibration, threshold and their proof, without pickle."""

from bentos.bundle.bundle import Bundle, Explanation, FeaturesInvalidError
from bentos.bundle.ledger import Entry, LedgerBrokenError
from bentos.bundle.manifest import BundleError, Manifest
from bentos.bundle.rollout import ChampionChangedError, NoChampionError, NothingToRollBackError, Rollout, champion

__all__ = [
    "Bundle",
    "BundleError",
    "ChampionChangedError",
    "Entry",
    "Explanation",
    "FeaturesInvalidError",
    "LedgerBrokenError",
    "Manifest",
    "NoChampionError",
    "NothingToRollBackError",
    "Rollout",
    "champion",
]
