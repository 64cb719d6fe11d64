"""Model bundle: preprocessing, components, calibration, threshold and metrics as data, no pickle.

:class:`Bundle` and the other names that need NumPy and pandas are imported on first access, so that the manifest can be
read without them. See docs/decisions/0005-bundle-is-data.md.
"""

from typing import TYPE_CHECKING, Any

from bentos.bundle.manifest import BundleError, Manifest

if TYPE_CHECKING:
    from bentos.bundle.bundle import Bundle, Explanation, FeaturesInvalidError
else:

    def __getattr__(name: str) -> Any:
        """Import and return a name on first access, and keep it in the module. Raises AttributeError."""
        if name not in _COMPUTES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from bentos.bundle import bundle

        found = globals()[name] = getattr(bundle, name)
        return found


__all__ = [
    "Bundle",
    "BundleError",
    "Explanation",
    "FeaturesInvalidError",
    "Manifest",
]

_COMPUTES = frozenset({"Bundle", "Explanation", "FeaturesInvalidError"})
