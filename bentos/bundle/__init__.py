"""The model as it travels: preprocessing, parts, calibration, threshold and their proof, without pickle.

What computes (:class:`Bundle` and its like: NumPy, pandas) loads when it is first asked for: the manifest is
read without it.
"""

from typing import TYPE_CHECKING, Any

from bentos.bundle.manifest import BundleError, Manifest

if TYPE_CHECKING:
    from bentos.bundle.bundle import Bundle, Explanation, FeaturesInvalidError
else:

    def __getattr__(name: str) -> Any:
        """Return what computes, and keep it: later look-ups find it in the module. Raises AttributeError."""
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
