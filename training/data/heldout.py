"""Storage of a model's held-out labels: the rows of its comparison and of its monitoring baseline.

See docs/decisions/0007-held-out-rows.md.
"""

from __future__ import annotations

import io
from collections.abc import Container
from pathlib import Path

import pandas as pd

from configs.errors import ChurnError
from feature_repo.contract import CUSTOMER, LABEL, OBSERVED_AT
from feature_repo.files.atomic_writes import TEMPORARY, storage_errors, write_file

HELDOUT_COLUMNS = [CUSTOMER, OBSERVED_AT, LABEL]


class HeldOutMissingError(ChurnError):
    """The held-out labels of a bundle are not stored in this home."""

    error = "heldout_missing"


def heldout_path(home: Path, digest: str) -> Path:
    """Return the path of the held-out labels of the bundle ``digest``; personal data: customer ids."""
    return home / "heldout" / f"{digest}.parquet"


def save_heldout(home: Path, digest: str, keys: pd.DataFrame) -> Path:
    """Store the labels of held-out rows; an existing file stays.

    Features are not stored: they are joined again as known at ``observed_at``, for whatever service a model reads.

    Parameters
    ----------
    home
        The home.
    digest
        The bundle's digest.
    keys
        customer_id, observed_at (UTC) and churned (bool).

    Returns
    -------
    Path
        The file; personal data.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from training.data.heldout import read_heldout, save_heldout
    >>> home = Path(tempfile.mkdtemp())
    >>> at = pd.Timestamp("2026-01-01", tz="UTC")
    >>> keys = pd.DataFrame({"customer_id": ["A"], "observed_at": [at], "churned": [True]})
    >>> path = save_heldout(home, "ab" * 32, keys)
    >>> read_heldout(home, "ab" * 32)["customer_id"].tolist()
    ['A']
    """
    path = heldout_path(home, digest)
    if not path.exists():
        content = io.BytesIO()
        keys[HELDOUT_COLUMNS].to_parquet(content, index=False)
        with storage_errors():
            write_file(path, content.getvalue())
    return path


def read_heldout(home: Path, digest: str) -> pd.DataFrame:
    """Return the held-out labels of the bundle ``digest``: customer_id, observed_at (UTC), churned (bool).

    Raises
    ------
    HeldOutMissingError
        If they were not stored (a bundle from elsewhere, or of an older version).
    """
    path = heldout_path(home, digest)
    if not path.is_file():
        raise HeldOutMissingError(
            f"the held-out rows of bundle {digest[:12]} are not kept in this home", "train again: churn train"
        )
    return pd.read_parquet(path, columns=HELDOUT_COLUMNS)


def delete_heldout(home: Path, known: Container[str]) -> list[str]:
    """Remove held-out labels of bundles not ``known`` (digests), and unfinished files; return the names.

    A training that died before its model was registered leaves them. Call only under the training lease: a running
    training stores these rows before its bundle is registered.
    """
    orphans = [
        path
        for path in sorted((home / "heldout").glob("*"))
        if path.name.startswith(TEMPORARY) or (path.suffix == ".parquet" and path.stem not in known)
    ]
    with storage_errors():
        for path in orphans:
            path.unlink(missing_ok=True)
    return [path.name for path in orphans]
