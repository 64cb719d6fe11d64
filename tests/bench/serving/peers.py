"""The ways that ours is measured beside: features from Feast, a score from XGBoost, the reasons from SHAP.

Both ways have the same model: one-hot columns and numbers, 300 trees like ours. It has no linear part and no
calibration, which ours computes on top: that is in their favour.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from configs.settings import Settings
from feature_repo.contract import CORE_SERVICE, CUSTOMER, DERIVED, LABEL, features_of
from feature_repo.stores.feature_store import redis_connection, repo_config
from feature_repo.transforms import derive
from tests.bench.serving.world import TRAINING, champion_of

REASONS = 3
THRESHOLD = 0.3
PRECOMPUTED = "bench_precomputed"
"""The feature service whose vectors Feast computes before."""


def stock_store(settings: Settings, **registry: Any) -> Any:
    """Return Feast's FeatureStore on the same Redis and registry, with Feast's own online store."""
    from feast import FeatureStore
    from feast.repo_config import RepoConfig

    redis = redis_connection(settings.feast.redis_url.get_secret_value(), settings.feast.redis_timeout_ms)
    given = repo_config(settings)
    given["online_store"] = {"type": "redis", "connection_string": redis}
    # Its own defaults, where ours are others.
    given["registry"] = {"registry_type": "sql", "path": given["registry"]["path"], **registry}
    given["batch_engine"] = {"type": "local"}
    return FeatureStore(config=RepoConfig(repo_path=settings.home, **given))


def fitted(settings: Settings) -> Any:
    """Fit the model on what the world left in the home: a pipeline as most would write it."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder
    from xgboost import XGBClassifier

    rows = pd.read_parquet(settings.home / TRAINING)
    features = features_of(CORE_SERVICE)
    words = [each.name for each in features if each.dtype in {"string", "bool"}]
    numbers = [each.name for each in features if each.name not in words]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("words", one_hot, words), ("numbers", "passthrough", numbers)])
    trees = XGBClassifier(
        n_estimators=champion_of(settings).trees.booster.num_boosted_rounds(),
        max_depth=3,
        learning_rate=0.03,
        subsample=0.8,
        colsample_bytree=0.5,
        min_child_weight=10,
        reg_lambda=10,
        n_jobs=1,
        random_state=7,
    )
    return Pipeline([("columns", columns), ("trees", trees)]).fit(rows[words + numbers], rows[LABEL].astype(int))


class UsualWay:
    """As most write it: SDK -> data frame -> scikit-learn pipeline -> shap.TreeExplainer, each made once."""

    def __init__(self, settings: Settings) -> None:
        import shap

        self.store = stock_store(settings)
        self.service = self.store.get_feature_service(CORE_SERVICE)
        self.pipeline = fitted(settings)
        self.explainer = shap.TreeExplainer(self.pipeline["trees"])
        self.columns = self.pipeline[:-1].get_feature_names_out()
        self.names = [each.name for each in features_of(CORE_SERVICE)]

    def read(self, customer_ids: list[str]) -> pd.DataFrame:
        """Return the features, a row a customer."""
        entities = [{CUSTOMER: each} for each in customer_ids]
        return self.store.get_online_features(features=self.service, entity_rows=entities).to_df()[self.names]

    def answers(self, customer_ids: list[str]) -> list[dict[str, Any]]:
        """Return score, label and reasons of each."""
        features = self.read(customer_ids)
        scores = self.pipeline.predict_proba(features)[:, 1]
        columns = self.pipeline[:-1].transform(features)
        return _answers(customer_ids, scores, columns, self.explainer.shap_values(columns), self.columns)


class TunedWay:
    """The same with what is known to help: dictionaries, one matrix, one call of XGBoost on one thread, for both."""

    def __init__(self, settings: Settings) -> None:
        self.store = stock_store(settings, cache_mode="thread", cache_ttl_seconds=60)
        self.service = self.store.get_feature_service(CORE_SERVICE)
        pipeline = fitted(settings)
        self.booster = pipeline["trees"].get_booster()
        self.booster.set_param({"nthread": 1})
        self.columns = pipeline[:-1].get_feature_names_out()
        encoder = pipeline["columns"].named_transformers_["words"]
        place = 0
        self.places: dict[str, dict[Any, int]] = {}
        for name, values in zip(encoder.feature_names_in_, encoder.categories_, strict=True):
            self.places[name] = {value: place + number for number, value in enumerate(values.tolist())}
            place += len(values)
        numbers = [each.name for each in features_of(CORE_SERVICE) if each.name not in self.places]
        self.numbers = {name: place + number for number, name in enumerate(numbers)}

    def read(self, customer_ids: list[str]) -> dict[str, list[Any]]:
        """Return feature -> values, one a customer."""
        entities = [{CUSTOMER: each} for each in customer_ids]
        found: dict[str, list[Any]] = self.store.get_online_features(
            features=self.service, entity_rows=entities
        ).to_dict()
        return found

    def answers(self, customer_ids: list[str]) -> list[dict[str, Any]]:
        """Return score, label and reasons of each."""
        from xgboost import DMatrix

        columns = self.matrix(self.read(customer_ids), len(customer_ids))
        contributions = self.booster.predict(DMatrix(columns, nthread=1), pred_contribs=True)
        scores = 1 / (1 + np.exp(-contributions.sum(axis=1, dtype=np.float64)))
        return _answers(customer_ids, scores, columns, contributions[:, :-1], self.columns)

    def matrix(self, values: dict[str, list[Any]], rows: int) -> NDArray[np.float32]:
        """Return the model's columns, (rows, k)."""
        columns = np.zeros((rows, len(self.columns)), np.float32)
        for name, places in self.places.items():
            for row, value in enumerate(values[name]):
                columns[row, places[value]] = 1
        for name, place in self.numbers.items():
            columns[:, place] = [np.nan if value is None else value for value in values[name]]
        return columns


class PrecomputedWay(TunedWay):
    """The tuned way on vectors that Feast wrote before (``FeatureService(precompute_online=True)``).

    Feast refuses them for a service with on-demand features: their inputs are read, and the features computed here.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.service = self.store.get_feature_service(PRECOMPUTED)

    def read(self, customer_ids: list[str]) -> dict[str, list[Any]]:
        entities = [{CUSTOMER: each} for each in customer_ids]
        # Without full names Feast does not recognise its own vectors.
        found = self.store.get_online_features(
            features=self.service, entity_rows=entities, full_feature_names=True
        ).to_dict()
        stored = {name.partition("__")[2]: values for name, values in found.items() if "__" in name}
        return stored | derive(stored)


def precompute(settings: Settings) -> tuple[int, float, str]:
    """Have Feast compute the vectors; return how many, in how many seconds, and what it says to our own service."""
    from feast import FeatureService

    store = stock_store(settings)
    own = store.get_feature_service(CORE_SERVICE)
    views = [store.get_feature_view(each.name) for each in own.feature_view_projections if not _on_demand(each.name)]
    wanted = {each.name for each in features_of(CORE_SERVICE)}
    parts = [view[[field.name for field in view.features if field.name in wanted]] for view in views]
    refused = ""
    try:
        whole = [*parts, store.get_on_demand_feature_view(DERIVED.name)]
        FeatureService(name="refused", features=whole, precompute_online=True).validate()
    except ValueError as why:
        refused = str(why)
    store.apply(FeatureService(name=PRECOMPUTED, features=parts, precompute_online=True))
    began = time.perf_counter()
    written = store.precompute_feature_service(PRECOMPUTED)
    return written, time.perf_counter() - began, refused


def _on_demand(view: str) -> bool:
    return all(each.derived for each in features_of(CORE_SERVICE) if each.view == view)


def _answers(
    customer_ids: list[str],
    scores: NDArray[Any],
    columns: NDArray[Any],
    contributions: NDArray[Any],
    names: NDArray[Any],
) -> list[dict[str, Any]]:
    answers = []
    for row, customer_id in enumerate(customer_ids):
        largest = np.argsort(-np.abs(contributions[row]))[:REASONS]
        reasons = [
            {
                "feature": str(names[each]),
                "contribution": float(contributions[row, each]),
                "value": float(columns[row, each]),
            }
            for each in largest
        ]
        score = float(scores[row])
        label = "churn" if score >= THRESHOLD else "stay"
        answers.append({"customer_id": customer_id, "probability": score, "label": label, "reasons": reasons})
    return answers
