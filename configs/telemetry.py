"""No library of ours phones home unless the operator says so."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Final

OFF: Final[dict[str, str]] = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # It would copy uv.lock and pyproject.toml into each model.
    "MLFLOW_UV_AUTO_DETECT": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""Environment variable -> value that switches a library's telemetry (or pickle loading) off."""


def switch_off(environ: MutableMapping[str, str]) -> None:
    """Set every switch in :data:`OFF` that the operator has not set.

    Must run before the libraries are imported: some of them read the variable at import time.
    """
    for name, value in OFF.items():
        environ.setdefault(name, value)
