"""The model as it travels: preprocessing, parts, calibration, threshold and their proof, without pickle."""

from bentos.bundle.bundle import Bundle, Explanation
from bentos.bundle.champion import NoChampionError, champion, set_champion
from bentos.bundle.manifest import BundleError, Manifest

__all__ = ["Bundle", "BundleError", "Explanation", "Manifest", "NoChampionError", "champion", "set_champion"]
