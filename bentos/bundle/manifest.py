"""Manifest of a bundle: identity, provenance and file hashes, and verification against it.

Read by everything that lists or loads bundles; imports neither NumPy nor pandas. See
docs/decisions/0005-bundle-is-data.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

from configs.errors import ChurnError
from feature_repo.contract import SERVICES_OF
from feature_repo.definition_hash import CONTRACT_FILE, TRANSFORMS_FILE, canonical, changed_features, same_contract

MANIFEST_FILE: Final = "manifest.json"
LINEAR_FILE: Final = "linear.json"
TREES_FILE: Final = "trees.ubj"
TREE_DESIGN: Final = "trees_design.json"
REASON_CODES: Final = "reason_codes.toml"
FILES: Final = frozenset({LINEAR_FILE, TREES_FILE, TREE_DESIGN, REASON_CODES})
"""Names of the files of a bundle besides its manifest; no others are allowed."""
FORMAT: Final = 1

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RECOVERY_HINT: Final = "restore the folder, or train again: churn train"


class BundleError(ChurnError):
    """The bundle is damaged, was changed, or belongs to another feature contract."""

    error = "bundle_invalid"
    http_status = 503


class OtherContractError(BundleError):
    """The bundle is whole, but belongs to another feature contract than this code's."""


@dataclass(frozen=True)
class Manifest:
    """Identity and provenance of a bundle.

    Parameters
    ----------
    model_version
        Name of the model, shown with each prediction.
    service, contract_hash, features
        The version of a feature service, its contract hash, and its features in contract order.
    threshold, threshold_policy
        The probability from which a customer is labelled churn, and how it was chosen.
    tree_weight
        The trees' share of the margin in [0, 1]; the rest is the linear component's.
    calibration
        (slope, intercept) on the margin, (1, 0) where calibration did not help.
    metrics
        Those of the held-out test rows.
    time, snapshots, git_commit, created_at
        Provenance: kind of the training data's time, snapshot versions, commit, instant (ISO 8601 UTC).
    files
        Each file of the bundle -> its sha256 (hex).
    feature_hashes
        What each feature meant (see :func:`feature_repo.definition_hash.feature_hashes`); empty in earlier bundles.
    format
        Version of the bundle's format.

    Examples
    --------
    >>> from bentos.bundle import Manifest
    >>> from feature_repo.contract import CORE_SERVICE, SERVICES_OF
    >>> from feature_repo.definition_hash import contract_hash
    >>> manifest = Manifest(
    ...     model_version="example", service=CORE_SERVICE, contract_hash=contract_hash(CORE_SERVICE),
    ...     features=SERVICES_OF[CORE_SERVICE], threshold=0.164, threshold_policy="profit", tree_weight=0.5,
    ...     calibration=(1.0, 0.0), metrics={}, time="declared", snapshots=(), git_commit="",
    ...     created_at="2026-01-01T00:00:00+00:00", files={},
    ... )
    >>> Manifest.from_json(manifest.to_json()) == manifest
    True
    """

    model_version: str
    service: str
    contract_hash: str
    features: tuple[str, ...]
    threshold: float
    threshold_policy: str
    tree_weight: float
    calibration: tuple[float, float]
    metrics: dict[str, float]
    time: Literal["declared", "observed"]
    snapshots: tuple[str, ...]
    git_commit: str
    created_at: str
    files: dict[str, str]
    format: int = FORMAT
    feature_hashes: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the manifest as JSON with sorted keys: its sha256 is the bundle's digest."""
        content = asdict(self)
        if not self.feature_hashes:  # as an earlier version wrote it
            del content["feature_hashes"]
        return json.dumps(content, indent=2, sort_keys=True) + "\n"

    def content_hash(self) -> str:
        """Return the sha256 (hex) of what determines predictions: bundles of one hash predict the same.

        Unlike the digest it does not cover when the bundle was made, from which snapshots, by which commit, nor how it
        was measured.
        """
        every = asdict(self) | {"contract_hash": canonical(self.contract_hash)}
        names = ("files", "service", "contract_hash", "threshold", "tree_weight", "calibration")
        text = json.dumps({name: every[name] for name in names}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ValueError, KeyError, TypeError
            For anything else.
        """
        content: dict[str, Any] = json.loads(text)
        if {"feature_hashes", *content} != {each.name for each in fields(cls)}:
            raise ValueError("the manifest has other keys than this version writes")
        for name in ("features", "snapshots", "calibration"):
            content[name] = tuple(content[name])
        manifest = cls(**content)
        # A wrong type or a NaN would score: JSON as Python reads it can hold both.
        slope, intercept = manifest.calibration
        numbers = (manifest.threshold, manifest.tree_weight, slope, intercept)
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError("a number of the manifest is not finite")
        tables = (manifest.files, manifest.feature_hashes)
        if not (isinstance(manifest.service, str) and all(isinstance(each, dict) for each in tables)):
            raise TypeError("the manifest holds other types than this version writes")
        return manifest


def is_digest(name: str) -> bool:
    """Return whether ``name`` is a bare sha256 in hex, hence a folder's name and not a path.

    Examples
    --------
    >>> from bentos.bundle.manifest import is_digest
    >>> is_digest("ab" * 32), is_digest("../" + "ab" * 32)
    (True, False)
    """
    return _DIGEST.fullmatch(name) is not None


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Return a bundle's manifest, of whatever contract, and its digest; its other files are not read.

    Raises
    ------
    BundleError
        If the manifest is missing, was changed, or is not valid.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise BundleError(f"no bundle at {folder}", _RECOVERY_HINT)
    text = path.read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    # Below a home a bundle is stored in a folder named after its digest; MLflow's copy has a folder of its own.
    if is_digest(folder.name) and folder.name != digest:
        raise BundleError(f"{MANIFEST_FILE} of bundle {folder.name} was changed", _RECOVERY_HINT)
    try:
        manifest = Manifest.from_json(text.decode())
    except (ValueError, KeyError, TypeError) as broken:
        raise BundleError(f"{path} is no bundle manifest ({type(broken).__name__})", _RECOVERY_HINT) from broken
    if manifest.format != FORMAT:
        raise BundleError(f"{path} has format {manifest.format}, this version reads {FORMAT}", _RECOVERY_HINT)
    return manifest, digest


def read_verified(folder: Path) -> tuple[Manifest, str, dict[str, bytes]]:
    """Return a bundle's manifest, its digest, and its files (name -> content).

    Each file is read once: the bytes that were checked against the manifest are the bytes that score.

    Raises
    ------
    BundleError
        Naming the file that is missing, changed or not listed.
    OtherContractError
        Naming the contract that differs.
    """
    manifest, digest = read_manifest(folder)
    # A file that is not listed would be loaded unchecked.
    if differing := sorted(FILES ^ set(manifest.files)):
        raise BundleError(
            f"{folder / MANIFEST_FILE} lists other files than a bundle has: {', '.join(differing)}", _RECOVERY_HINT
        )
    contents = {name: _verified(folder / name, expected) for name, expected in manifest.files.items()}
    refuse_other_contract(manifest)
    return manifest, digest, contents


def refuse_other_contract(manifest: Manifest) -> None:
    """Raise OtherContractError unless this code has the version of the feature service that the bundle names.

    Other versions of the service don't matter.
    """
    if (found := other_contract(manifest)) is not None:
        raise OtherContractError(
            found, f"put the version back as it was, next to newer ones ({CONTRACT_FILE}), or train again"
        )


def other_contract(manifest: Manifest) -> str | None:
    """Return what this code has changed of a bundle's feature service, with feature and file; None if nothing."""
    service = manifest.service
    if service not in SERVICES_OF:
        return f"the bundle reads feature service {service}, which this code lacks ({CONTRACT_FILE})"
    if same_contract(service, manifest.contract_hash) and manifest.features == SERVICES_OF[service]:
        return None
    return f"the bundle was trained on another contract of {service}: {_changed(manifest)}"


def _changed(manifest: Manifest) -> str:
    service = manifest.service
    if manifest.feature_hashes and (found := changed_features(service, manifest.feature_hashes)):
        return ", ".join(f"{name} ({file})" for name, file in found.items())
    if names := sorted({*manifest.features} ^ {*SERVICES_OF[service]}):
        return f"{', '.join(names)} ({CONTRACT_FILE})"
    if manifest.features != SERVICES_OF[service]:
        return f"the order of the features ({CONTRACT_FILE})"
    return f"which feature is not recorded ({CONTRACT_FILE} or {TRANSFORMS_FILE})"


def _verified(file: Path, expected: str) -> bytes:
    content = file.read_bytes() if file.is_file() else None
    if content is None or hashlib.sha256(content).hexdigest() != expected:
        raise BundleError(f"{file.name} of bundle {file.parent.name} is missing or was changed", _RECOVERY_HINT)
    return content


def bundles_folder(home: Path) -> Path:
    """Return the folder that holds the bundles, each in a folder named after its digest."""
    return home / "bundles"
