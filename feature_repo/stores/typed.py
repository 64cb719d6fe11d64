"""The address of :mod:`feature_repo.stores.casting` that model scripts stored in MLflow import from."""

from feature_repo.stores.casting import as_frame, as_python

__all__ = ["as_frame", "as_python"]
