"""Alias of :mod:`feature_repo.stores.casting`, imported by the model scripts stored in MLflow."""

from feature_repo.stores.casting import to_dataframe as as_frame
from feature_repo.stores.casting import to_python_values as as_python

__all__ = ["as_frame", "as_python"]
