"""Environment variables that disable the telemetry of libraries, unless the operator set them.

Applied by :func:`switch_off` at the start of the command line, the service and the Prefect flows.
"""

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
    # If on, MLflow copies uv.lock and pyproject.toml into each model.
    "MLFLOW_UV_AUTO_DETECT": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""Environment variable -> value that disables telemetry, or another unwanted default, of a library."""


def switch_off(environ: MutableMapping[str, str]) -> None:
    """Set each variable of :data:`OFF` that ``environ`` does not have.

    Must run before the libraries are imported: some of them read the variable at import time.
    """
    for name, value in OFF.items():
        environ.setdefault(name, value)
