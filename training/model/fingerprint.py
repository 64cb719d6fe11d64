"""The training fingerprint: one hash of all inputs of a model; equal hashes give equal models.

Used by the training step to find a version that was trained from the same inputs.
See docs/decisions/0020-idempotence.md.
"""

from __future__ import annotations

import functools
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bentos.decisions.economics import ECONOMICS_FILE
from configs.settings import PROJECT_ROOT, Settings
from feature_repo.contract import ACTIVITY_SOURCE, SOURCE
from feature_repo.definition_hash import contract_hash
from feature_repo.files.atomic_writes import file_sha256
from feature_repo.files.table_paths import table_pattern
from feature_repo.raw.events.deliveries import deliveries
from feature_repo.raw.snapshots.publication import snapshot_history
from training.model.fit import REASON_CODES_FILE

LIBRARIES: Final = ("numpy", "pandas", "scikit-learn", "optuna", "xgboost-cpu", "xgboost")
CODE: Final = (
    "training/**/*.py",
    "bentos/bundle/**/*.py",
    "bentos/decisions/economics.py",
    "feature_repo/**/*.py",
)
"""The Python files that determine a model (bentos/decisions/economics.py: its threshold)."""


def fingerprint(settings: Settings, service: str) -> str:
    """Return the sha256 (hex) of all inputs of a model trained now on ``service``.

    Inputs are every version of every snapshot and every delivery of events (their digests, and when they were known),
    the offline parts that the join reads, the settings of labels and training, the economics, the reason codes, the
    service with the hash of its contract, the code, and the libraries used for fitting. The clock and the serving
    settings are not included. The code is hashed by its bytes, not by its commit: a documentation commit gives the same
    fingerprint, and uncommitted changes give another one.

    Raises
    ------
    SnapshotDamagedError, DeliveryDamagedError
        If a manifest can't be read.
    """
    home = settings.home
    content = {
        "snapshots": [
            [m.snapshot_date, m.version, m.sequence, m.time, m.event_at, m.created_at, m.late, m.digest]
            for m in snapshot_history(home)
        ],
        "deliveries": [[d.number, d.known_at, d.digest] for d in deliveries(home)],
        "parts": [_parts(home, table) for table in (SOURCE, ACTIVITY_SOURCE)],
        "labels": [
            settings.data.label_window_days,
            settings.data.label_window_tolerance_days,
            settings.data.delivery_lag_hours,
        ],
        "training": settings.training.model_dump(mode="json"),
        "files": [file_sha256(path) for path in (ECONOMICS_FILE, REASON_CODES_FILE)],
        "service": [service, contract_hash(service)],
        "code": code_version(),
        "libraries": [_version(name) for name in LIBRARIES],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_text).encode()).hexdigest()


@functools.cache
def code_version(root: Path = PROJECT_ROOT) -> str:
    """Return the sha256 (hex) of the Python files that determine a model, names included.

    Computed once per process: files edited afterwards are not the code that runs.
    """
    digest = hashlib.sha256()
    for path in sorted(path for pattern in CODE for path in root.glob(pattern)):
        digest.update(f"{path.relative_to(root).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _parts(home: Path, table: str) -> list[tuple[str, int]]:
    # A part is immutable and named after its inputs.
    return sorted((path.name, path.stat().st_size) for path in home.glob(table_pattern(table)))


def _version(library: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(library)
    except PackageNotFoundError:  # XGBoost comes under one of two names
        return ""


def _text(value: Any) -> str:
    return str(value.isoformat())
