"""Save, verify, load, score and explain a model bundle: the one scoring function of the platform.

Used by the service, batch scoring, replay and training. See docs/decisions/0005-bundle-is-data.md.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bentos.bundle.components import LinearComponent, TreeComponent
from bentos.bundle.design_matrix import CompiledDesign, Floats, design_from_json, design_to_json
from bentos.bundle.manifest import (
    LINEAR_FILE,
    MANIFEST_FILE,
    REASON_CODES,
    TREE_DESIGN,
    TREES_FILE,
    BundleError,
    Manifest,
    bundles_folder,
    read_verified,
)
from configs.errors import ChurnError
from feature_repo.contract import Feature, features_of
from feature_repo.files.atomic_writes import storage_errors, write_folder
from feature_repo.stores.vectors import encode_features


class FeaturesInvalidError(ChurnError):
    """A value is null where the model has no trained meaning for null, or is not a finite number.

    Raised by every scoring method of :class:`Bundle`; the HTTP service answers 422. The message names the features and
    the number of rows, never a value.
    """

    error = "features_invalid"
    http_status = 422


ADDS_UP_LOG_ODDS: Final = 1e-4
"""Tolerance between the sum of the contributions and the margin, in log-odds: trees add in float32."""


@dataclass(frozen=True)
class Explanation:
    """Scores and their feature contributions, n rows.

    Parameters
    ----------
    score
        (n,) float64, calibrated probability of churn in (0, 1).
    margin
        (n,) float64, its log-odds.
    base
        The margin of the average training row.
    contributions
        (n, f) float64, one column per feature of the service in contract order:
        ``base + contributions.sum(axis=1) == margin`` (within ADDS_UP_LOG_ODDS).

    Examples
    --------
    >>> import numpy as np
    >>> from bentos.bundle import Explanation
    >>> explanation = Explanation(
    ...     score=np.array([0.62, 0.62]),
    ...     margin=np.array([0.5, 0.5]),
    ...     base=-1.0,
    ...     contributions=np.array([[1.2, 0.3], [1.2, 0.1]]),
    ... )
    >>> explanation.is_additive().tolist()
    [True, False]
    """

    score: Floats
    margin: Floats
    base: float
    contributions: Floats

    def is_additive(self) -> NDArray[np.bool_]:
        """Return whether each row's contributions add up to its margin.

        Returns
        -------
        numpy.ndarray
            (n,) bool.
        """
        beside = np.abs(self.base + self.contributions.sum(axis=1) - self.margin)
        return np.asarray(beside <= ADDS_UP_LOG_ODDS, dtype=np.bool_)


@dataclass(frozen=True)
class Bundle:
    """A model that can score. Immutable and safe to share between threads.

    Trained models are read by :meth:`load`; only training makes one of its parts.

    Parameters
    ----------
    manifest
        Identity, threshold, calibration, and the weight of the trees.
    linear, trees
        The two components; each maps its own design matrix to a log-odds margin.
    reason_codes
        The reason dictionary (TOML) that was valid when the model was trained.
    digest
        sha256 (hex) of the manifest, which names the sha256 of every file; empty until saved.

    Examples
    --------
    A model of one feature: both components read the tenure.

    >>> import numpy as np, xgboost
    >>> from bentos.bundle import Bundle, Manifest
    >>> from bentos.bundle.components import LinearComponent, TreeComponent
    >>> from bentos.bundle.design_matrix import Factor, Term
    >>> from feature_repo.contract import CORE_SERVICE, SERVICES_OF
    >>> from feature_repo.definition_hash import contract_hash
    >>> design = (Term("tenure_months", (Factor("tenure_months", "number"),)),)
    >>> linear = LinearComponent(
    ...     design, mean=np.array([32.0]), scale=np.array([24.0]), coefficients=np.array([-0.8]), intercept=-1.0
    ... )
    >>> rows = xgboost.DMatrix(np.array([[1.0], [70.0]]), np.array([1, 0]))
    >>> options = {"objective": "binary:logistic", "max_depth": 1, "min_child_weight": 0}
    >>> trees = TreeComponent(design, xgboost.train(options, rows, num_boost_round=1))
    >>> manifest = Manifest(
    ...     model_version="example", service=CORE_SERVICE, contract_hash=contract_hash(CORE_SERVICE),
    ...     features=SERVICES_OF[CORE_SERVICE], threshold=0.164, threshold_policy="profit", tree_weight=0.5,
    ...     calibration=(1.0, 0.0), metrics={}, time="declared", snapshots=(), git_commit="",
    ...     created_at="2026-01-01T00:00:00+00:00", files={},
    ... )
    >>> bundle = Bundle(manifest, linear, trees)

    It scores vectors with all features of the service in contract order, and explains the scores.

    >>> vectors = np.zeros((2, len(manifest.features)))
    >>> vectors[:, manifest.features.index("tenure_months")] = [1, 60]
    >>> bundle.score_vectors(vectors).round(2).tolist()
    [0.52, 0.29]
    >>> explanation = bundle.explain_vectors(vectors)
    >>> explanation.contributions.shape, explanation.is_additive().tolist()
    ((2, 19), [True, True])

    Saved and loaded, it is the same model; its folder is named after its digest.

    >>> import tempfile
    >>> from pathlib import Path
    >>> home = Path(tempfile.mkdtemp())
    >>> saved = bundle.save(home)
    >>> loaded = Bundle.load(home / "bundles" / saved.digest)
    >>> bool((loaded.score_vectors(vectors) == bundle.score_vectors(vectors)).all())
    True
    """

    manifest: Manifest
    linear: LinearComponent
    trees: TreeComponent
    reason_codes: str = ""
    """The reason dictionary (TOML) that was valid when the model was trained."""
    digest: str = ""
    """sha256 (hex) of the manifest, which names the sha256 of every file; empty until saved."""

    def score(self, features: pd.DataFrame) -> Floats:
        """Return the calibrated probability of churn.

        Parameters
        ----------
        features
            n rows, one column per feature of ``manifest.service`` in contract order, dtypes as
            :func:`feature_repo.stores.casting.to_dataframe` returns them.

        Returns
        -------
        numpy.ndarray
            (n,) float64 in (0, 1).

        Raises
        ------
        BundleError
            For other columns.
        FeaturesInvalidError
            For a null that has no trained meaning, or a number that is not finite.
        """
        return _probability(self.margin(features))

    def margin(self, features: pd.DataFrame) -> Floats:
        """Return the calibrated log-odds of churn, (n,) float64; ``features`` and errors as in :meth:`score`."""
        return self.margin_vectors(self.vectors(features))

    def explain(self, features: pd.DataFrame) -> Explanation:
        """Score and explain; ``features`` and errors as in :meth:`score`."""
        return self.explain_vectors(self.vectors(features))

    def vectors(self, features: pd.DataFrame) -> Floats:
        """Return the frame as numbers, (n, f) float64.

        Raises
        ------
        BundleError
            For other columns than those of :meth:`score`.
        """
        if tuple(features.columns) != self.manifest.features:
            missing = sorted(set(self.manifest.features) - set(features.columns))
            raise BundleError(
                f"the features are not those of {self.manifest.service} in contract order"
                + (f": {', '.join(missing)} missing" if missing else ""),
                "build the frame with to_dataframe(features_of(service), columns)",
            )
        return encode_features(self._wanted, features)

    def score_vectors(self, vectors: Floats) -> Floats:
        """Return the calibrated probability of churn, (n,); ``vectors`` and errors as in :meth:`explain_vectors`."""
        return _probability(self.margin_vectors(vectors))

    def margin_vectors(self, vectors: Floats) -> Floats:
        """Return the calibrated log-odds of churn, (n,); ``vectors`` and errors as in :meth:`explain_vectors`."""
        linear, trees = self._matrices(vectors)
        return self._blend(self.linear.margin(linear), self.trees.margin(trees))

    def explain_vectors(self, vectors: Floats) -> Explanation:
        """Score and explain vectors.

        Parameters
        ----------
        vectors
            (n, f) float64, the features in contract order as :mod:`feature_repo.stores.vectors` encodes them.

        Raises
        ------
        FeaturesInvalidError
            For a null that has no trained meaning, or a number that is not finite.
        """
        names = self.manifest.features
        share, (slope, intercept) = self.manifest.tree_weight, self.manifest.calibration
        matrices = self._matrices(vectors)
        linear, trees = self.linear.explain(matrices[0], names), self.trees.explain(matrices[1], names)
        margin = self._blend(linear.margin, trees.margin)
        return Explanation(
            _probability(margin),
            margin,
            slope * ((1 - share) * linear.base + share * trees.base) + intercept,
            slope * ((1 - share) * linear.contributions + share * trees.contributions),
        )

    def _matrices(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Return the matrices of both components' designs. Raises FeaturesInvalidError."""
        self._refuse(vectors)
        both = self._design.matrix(vectors)
        split = len(self.linear.design)
        return both[:, :split], both[:, split:]

    @cached_property
    def _design(self) -> CompiledDesign:
        """Both designs compiled as one, concatenated: they share most of their factors."""
        return CompiledDesign.of((*self.linear.design, *self.trees.design), self.manifest.features)

    def _blend(self, linear: Floats, trees: Floats) -> Floats:
        share, (slope, intercept) = self.manifest.tree_weight, self.manifest.calibration
        return np.asarray(slope * ((1 - share) * linear + share * trees) + intercept, dtype=np.float64)

    def with_metrics(self, metrics: dict[str, float]) -> Self:
        """Return a copy with ``metrics`` (name -> value on its held-out rows) in the manifest."""
        return replace(self, manifest=replace(self.manifest, metrics=metrics))

    def save(self, home: Path) -> Self:
        """Write the bundle below ``home/bundles/<digest>/``, atomically.

        Saving the same bundle again changes nothing.

        Returns
        -------
        Bundle
            The bundle with its digest and the hashes of its files.

        Raises
        ------
        StorageError
            If a write to disk fails.
        """
        files = {
            LINEAR_FILE: _json(self.linear.to_json()),
            TREES_FILE: bytes(self.trees.booster.save_raw("ubj")),
            TREE_DESIGN: _json(design_to_json(self.trees.design)),
            REASON_CODES: self.reason_codes.encode(),
        }
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = replace(self.manifest, files=hashes)
        text = manifest.to_json().encode()
        digest = hashlib.sha256(text).hexdigest()
        folder = bundles_folder(home) / digest
        if not folder.exists():
            with storage_errors():
                write_folder(folder, {**files, MANIFEST_FILE: text})
        return replace(self, manifest=manifest, digest=digest)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Verify and load the bundle in ``folder``.

        Parameters
        ----------
        folder
            ``home/bundles/<digest>``, or a copy of it under another name.

        Raises
        ------
        BundleError
            If a file is missing, was changed, or the bundle's contract is not this code's.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from bentos.bundle import Bundle
        >>> Bundle.load(Path(tempfile.mkdtemp()))
        Traceback (most recent call last):
            ...
        bentos.bundle.manifest.BundleError: no bundle at ...
        """
        from xgboost import Booster
        from xgboost.core import XGBoostError

        manifest, digest, files = read_verified(folder)
        try:
            linear = LinearComponent.from_json(json.loads(files[LINEAR_FILE]))
            design = design_from_json(json.loads(files[TREE_DESIGN]))
            booster = Booster({"nthread": 1}, model_file=bytearray(files[TREES_FILE]))
            codes = files[REASON_CODES].decode()
        except (ValueError, KeyError, TypeError, XGBoostError) as broken:
            raise BundleError(
                f"bundle {folder.name} can't be read ({type(broken).__name__})", "train again: churn train"
            ) from broken
        return cls(manifest, linear, TreeComponent(design, booster), codes, digest)

    def export(self, home: Path, target: Path) -> None:
        """Copy the saved bundle's files into ``target`` (for MLflow's artifact store)."""
        shutil.copytree(bundles_folder(home) / self.digest, target, dirs_exist_ok=True)

    def invalid_reason(self, features: pd.DataFrame) -> NDArray[np.bool_]:
        """Return which values can't be scored, (n, f) bool: null without a trained meaning, or not finite."""
        return self._unusable(self.vectors(features))

    @cached_property
    def _wanted(self) -> tuple[Feature, ...]:
        return features_of(self.manifest.service)

    @cached_property
    def _limits(self) -> tuple[Floats, NDArray[np.bool_]]:
        """The greatest usable magnitude of each feature, and which must not be null."""
        # The trees read float32: a number beyond its range is infinite to them.
        most = [np.finfo(np.float32).max if each.dtype in {"int64", "float64"} else np.inf for each in self._wanted]
        return np.array(most), np.array([not each.nullable for each in self._wanted])

    def _unusable(self, vectors: Floats) -> NDArray[np.bool_]:
        most, needed = self._limits
        return np.asarray((np.isnan(vectors) & needed) | (np.abs(vectors) > most), dtype=np.bool_)

    def _refuse(self, vectors: Floats) -> None:
        # Every caller refuses these values before; a new caller that does not must not get an invented score.
        bad = self._unusable(vectors)
        if bad.any():
            names = ", ".join(self.manifest.features[place] for place in np.flatnonzero(bad.any(axis=0)))
            raise FeaturesInvalidError(
                f"{int(bad.any(axis=1).sum())} of {len(vectors)} rows have no usable value for {names}",
                "correct the source and ingest it again",
            )


_SURELY_STAYS: Final = np.finfo(np.float64).tiny
_SURELY_LEAVES: Final = np.nextafter(1.0, 0.0)


def _probability(margin: Floats) -> Floats:
    # exp of a large positive number overflows, and 1 - p of a p near 1 has no digits left: each half of the
    # logistic function is computed in its own safe form. Scores lie in the open interval: neither 0 nor 1 is returned.
    small = np.exp(-np.abs(margin))
    leaving = np.where(margin >= 0, 1.0, small) / (1 + small)
    return np.asarray(np.minimum(np.maximum(leaving, _SURELY_STAYS), _SURELY_LEAVES), dtype=np.float64)


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
