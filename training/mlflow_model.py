"""The model script that MLflow stores in place of a pickle: `mlflow.pyfunc.load_model` runs it.

It needs this distribution installed where it is loaded; the bundle is the model's one artifact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from bentos.bundle import Bundle
from feature_repo.contract import features_of
from feature_repo.stores.typed import as_frame


class ChurnModel(PythonModel):
    """Features of the bundle's service -> column ``probability`` (float64, calibrated)."""

    def load_context(self, context: Any) -> None:
        """Verify and load the bundle."""
        self.bundle = Bundle.load(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Score ``model_input``: one column per feature, any order."""
        features = features_of(self.bundle.manifest.service)
        frame = as_frame(features, {feature.name: model_input[feature.name].tolist() for feature in features})
        return pd.DataFrame({"probability": self.bundle.score(frame)})


set_model(ChurnModel())
