"""The model as it travels: preprocessing, parts, calibration, threshold and their proof, without pickle."""

from bentos.bundle.bundle import Bundle, Explanation, FeaturesInvalidError
from bentos.bundle.champion import NoChampionError, champion, set_champion
from bentos.bundle.manifest import BundleError, Manifest

__all__ = [
    "Bundle",
    "BundleError",
    "Explanation",
    "FeaturesInvalidError",
    "Manifest",
    "NoChampionError",
    "champion",
    "set_champion",
]
