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
from bentos.bundle.design_matrix import CompiledDesign, Floats, from_json, to_json
from bentos.bundle.manifest import (
    LINEAR,
    MANIFEST,
    REASON_CODES,
    TREE_DESIGN,
    TREES,
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
    """A value is null where the model has no trained meaning for null, or is not a finite number."""

    error = "features_invalid"
    http_status = 422


ADDS_UP_LOG_ODDS: Final = 1e-4
"""Tolerance between the sum of the contributions and the margin, in log-odds: trees add in float32."""


@dataclass(frozen=True)
class Explanation:
    """Scores and their feature contributions, n rows.

    ``score`` (n,) calibrated probability; ``margin`` (n,) its log-odds; ``base`` the margin of the average
    training row; ``contributions`` (n, f) one column per feature of the service in contract order:
    base + contributions.sum(axis=1) == margin (within ADDS_UP_LOG_ODDS).
    """

    score: Floats
    margin: Floats
    base: float
    contributions: Floats

    def is_additive(self) -> NDArray[np.bool_]:
        """Return whether each row's contributions add up to its margin, (n,) bool."""
        beside = np.abs(self.base + self.contributions.sum(axis=1) - self.margin)
        return np.asarray(beside <= ADDS_UP_LOG_ODDS, dtype=np.bool_)


@dataclass(frozen=True)
class Bundle:
    """A model that can score. Immutable and safe to share between threads."""

    manifest: Manifest
    linear: LinearComponent
    trees: TreeComponent
    reason_codes: str = ""
    """The reason dictionary (TOML) that was valid when the model was trained."""
    digest: str = ""
    """sha256 (hex) of the manifest, which names the sha256 of every file; empty until saved."""

    def score(self, features: pd.DataFrame) -> Floats:
        """Return the calibrated probability of churn, (n,) float64 in (0, 1).

        ``features``: one column per feature of ``manifest.service`` in contract order, dtypes as
        ``feature_repo.stores.casting.to_dataframe`` returns them. Raises BundleError for other columns, and
        FeaturesInvalidError for a null that has no trained meaning or a number that is not finite.
        """
        return _probability(self.margin(features))

    def margin(self, features: pd.DataFrame) -> Floats:
        """Return the calibrated log-odds of churn, (n,) float64; ``features`` and errors as in :meth:`score`."""
        return self.margin_vectors(self.vectors(features))

    def explain(self, features: pd.DataFrame) -> Explanation:
        """Score and explain; ``features`` and errors as in :meth:`score`."""
        return self.explain_vectors(self.vectors(features))

    def vectors(self, features: pd.DataFrame) -> Floats:
        """Return the frame as numbers, (n, f) float64. Raises BundleError for other columns."""
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
        """Score and explain vectors (n, f) float64, the features in contract order as ``stores.vectors`` encodes them.

        Raises FeaturesInvalidError for a null that has no trained meaning or a number that is not finite.
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
        """Return the bundle with the metrics of its held-out rows in the manifest."""
        return replace(self, manifest=replace(self.manifest, metrics=metrics))

    def save(self, home: Path) -> Self:
        """Write the bundle below ``home/bundles/<digest>/``, atomically; return it with its digest.

        Saving the same bundle again changes nothing. Raises StorageError if a write to disk fails.
        """
        files = {
            LINEAR: _json(self.linear.to_json()),
            TREES: bytes(self.trees.booster.save_raw("ubj")),
            TREE_DESIGN: _json(to_json(self.trees.design)),
            REASON_CODES: self.reason_codes.encode(),
        }
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = replace(self.manifest, files=hashes)
        text = manifest.to_json().encode()
        digest = hashlib.sha256(text).hexdigest()
        folder = bundles_folder(home) / digest
        if not folder.exists():
            with storage_errors():
                write_folder(folder, {**files, MANIFEST: text})
        return replace(self, manifest=manifest, digest=digest)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Verify and load a bundle.

        Raises
        ------
        BundleError
            If a file is missing, was changed, or the bundle's contract is not this code's.
        """
        from xgboost import Booster
        from xgboost.core import XGBoostError

        manifest, digest, files = read_verified(folder)
        try:
            linear = LinearComponent.from_json(json.loads(files[LINEAR]))
            design = from_json(json.loads(files[TREE_DESIGN]))
            booster = Booster({"nthread": 1}, model_file=bytearray(files[TREES]))
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
