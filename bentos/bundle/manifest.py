"""What a bundle says of itself, and the check that it is what it says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

from configs.errors import ChurnError
from feature_repo.contract import SERVICES_OF, contract_hash

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1


class BundleError(ChurnError):
    """The bundle is damaged, was changed, or belongs to another feature contract."""

    error = "bundle_invalid"
    http_status = 503


@dataclass(frozen=True)
class Manifest:
    """Identity and provenance of a bundle.

    ``files`` maps each file of the bundle to its sha256 (hex). ``threshold`` is the probability from which a
    customer is labelled churn. ``metrics`` are those of the held-out test rows. ``calibration`` is (slope,
    intercept) on the margin, (1, 0) where calibrating did not help. ``tree_weight`` is the trees' share of the
    margin, the rest is the linear part's. Instants are ISO 8601 UTC.
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
    reason_codes_sha256: str
    git_commit: str
    created_at: str
    files: dict[str, str]
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the manifest as JSON with sorted keys: its sha256 is the bundle's digest."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        content: dict[str, Any] = json.loads(text)
        if set(content) != {field.name for field in fields(cls)}:
            raise ValueError("the manifest has other keys than this version writes")
        for name in ("features", "snapshots", "calibration"):
            content[name] = tuple(content[name])
        return cls(**content)


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Return a bundle's manifest and digest, after checking every file against its sha256 and the contract.

    Raises
    ------
    BundleError
        Naming the file that is missing, changed or not listed, or the contract that differs.
    """
    mend = "restore the folder, or train again: churn train"
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"no bundle at {folder}", mend)
    text = path.read_text(encoding="utf-8")
    try:
        manifest = Manifest.from_json(text)
    except (ValueError, KeyError, TypeError) as broken:
        raise BundleError(f"{path} is no bundle manifest ({type(broken).__name__})", mend) from broken
    if manifest.format != FORMAT:
        raise BundleError(f"{path} has format {manifest.format}, this version reads {FORMAT}", mend)
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise BundleError(f"{name} of bundle {folder.name} is missing or was changed", mend)
    refuse_other_contract(manifest)
    return manifest, hashlib.sha256(text.encode()).hexdigest()


def refuse_other_contract(manifest: Manifest) -> None:
    """Raise BundleError unless the bundle was trained on the contract that this code has."""
    if manifest.service not in SERVICES_OF:
        raise BundleError(f"the bundle reads feature service {manifest.service}, which this code lacks", "train again")
    if manifest.contract_hash != contract_hash(manifest.service):
        raise BundleError(
            f"the bundle was trained on another contract of {manifest.service}", "train again, or deploy its code"
        )
