"""Saved data sets, logs of answered features, and the validation of the one against the other."""

from __future__ import annotations

import shutil

import pandas as pd
import pyarrow as pa
import pytest
from feast.dqm.errors import ValidationFailed
from feast.dqm.profilers.profiler import Profile, Profiler, ValidationError, ValidationReport
from feast.errors import SavedDatasetLocationAlreadyExists, SavedDatasetNotFound
from feast.feature_logging import FeatureServiceLoggingSource
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.registry.sql import validation_references
from feast.protos.feast.core.ValidationProfile_pb2 import GEValidationProfile, GEValidationProfiler
from feast.protos.feast.core.ValidationProfile_pb2 import ValidationReference as ValidationReferenceProto
from feast.saved_dataset import ValidationReference

from configs.errors import ChurnError
from feature_repo.stores.feast_patches.refusals import FeastRefusedError
from feature_repo.stores.point_in_time.parquet_source import OfflineTableEmptyError, SourceColumnError
from tests.support.feast_shop import NOW, ago


def history(shop, *keys):
    asked = pd.DataFrame({"account_id": list(keys), "event_timestamp": ago(1)})
    return shop.store.get_historical_features(asked, shop.store.get_feature_service("spend_v1"))


def saved(shop, *keys, path="saved/first", **more):
    return shop.store.create_saved_dataset(history(shop, *keys), "first", SavedDatasetFileStorage(path=path), **more)


@pytest.mark.parametrize("path", ["saved/first", "saved/first.parquet", "{home}/elsewhere"])
def test_a_saved_data_set_comes_back_and_lies_where_it_was_said(shop, path):
    place = path.format(home=shop.home)
    saved(shop, 1, 2, path=place, tags={"for": "tests"})
    assert (shop.home / place).exists()
    again = shop.reopen().get_saved_dataset("first")
    assert again.to_df()["visits"].tolist() == [2, 7]
    assert (again.tags, again.join_keys, again.features) == (
        {"for": "tests"},
        ["account_id"],
        ["visits:spend", "visits:visits"],
    )


def test_a_saved_data_set_is_replaced_only_where_that_was_asked(shop):
    saved(shop, 1)
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        saved(shop, 2)
    saved(shop, 2, allow_overwrite=True)
    assert shop.store.get_saved_dataset("first").to_df()["visits"].tolist() == [7]


def test_a_saved_data_set_is_known_whose_files_are_gone_and_says_so_when_read(shop):
    saved(shop, 1)
    shutil.rmtree(shop.home / "saved")
    known = shop.store.get_saved_dataset("first")
    assert known.name == "first"
    with pytest.raises(OfflineTableEmptyError):
        known.to_df()


def test_data_sets_are_listed_and_deleted(shop):
    saved(shop, 1)
    assert [each.name for each in shop.store.list_saved_datasets()] == ["first"]
    shop.store.registry.delete_saved_dataset("first", shop.store.project)
    with pytest.raises(SavedDatasetNotFound):
        shop.reopen().get_saved_dataset("first")


def test_a_data_set_behind_a_url_is_refused_by_name(shop):
    with pytest.raises(SourceColumnError, match="is a URL"):
        saved(shop, 1, path="s3://bucket/first")
    assert not list(shop.home.glob("s3*"))


def logged(shop, **changes):
    service = shop.store.get_feature_service("spend_v1")
    schema = FeatureServiceLoggingSource(service, shop.store.project).get_schema(shop.store.registry)
    row = {"account_id": 1, "__request_id": "r1", "__log_timestamp": ago(3), "__log_date": ago(3).date()}
    for name, value in {"spend": 4.0, "visits": 2}.items():
        row |= {f"visits__{name}": value, f"visits__{name}__timestamp": ago(24), f"visits__{name}__status": 2}
    return service, pa.Table.from_pylist([row | changes], schema)


def logs(shop, service):
    provider = shop.store._get_provider()
    job = provider.retrieve_feature_service_logs(service, ago(48), NOW, shop.store.config, shop.store.registry)
    return job.to_arrow()


def test_logged_features_lie_below_the_home_and_come_back(shop):
    service, table = logged(shop)
    for _ in range(2):  # sent again, they are there once
        shop.store.write_logged_features(table, service)
    assert len(list((shop.home / "logs" / "spend").rglob("*.parquet"))) == 1
    (row,) = logs(shop, service).to_pylist()
    assert (row["visits__spend"], row["visits__visits"], row["__request_id"]) == (4.0, 2, "r1")


class Seen(Profile, Profiler):
    """A profile, and what makes it: the greatest number of visits in the reference."""

    def __init__(self, most=None):
        self.most = most

    def analyze_dataset(self, df):
        return Seen(int(df["visits" if "visits" in df else "visits__visits"].max()))

    def validate(self, dataset):
        return Report(bool((dataset["visits__visits"] <= self.most).all()))

    def to_proto(self):
        return GEValidationProfile() if self.most is not None else GEValidationProfiler()

    @classmethod
    def from_proto(cls, proto):
        return cls()


class Report(ValidationReport):
    def __init__(self, passed):
        self.passed = passed

    @property
    def is_success(self):
        return self.passed

    @property
    def errors(self):
        return [ValidationError(check_name="most", column_name="visits__visits", check_config={}, missing_count=None)]


@pytest.mark.parametrize(("visits", "valid"), [(2, True), (8, False)])
def test_logs_are_validated_against_a_data_set(shop, visits, valid):
    service, table = logged(shop, visits__visits=visits)
    shop.store.write_logged_features(table, service)
    reference = saved(shop, 1, 2).as_reference("like the first", profiler=Seen())
    found = shop.store.validate_logged_features(
        service, ago(48), NOW, reference, throw_exception=False, cache_profile=False
    )
    assert (found is None) == valid
    assert valid or isinstance(found, ValidationFailed)


def test_a_reference_with_a_profile_needs_no_data_set_any_more(shop):
    service, table = logged(shop)
    shop.store.write_logged_features(table, service)
    saved(shop, 1)
    shutil.rmtree(shop.home / "saved")
    reference = ValidationReference(name="like the first", dataset_name="first", profiler=Seen())
    reference._dataset = shop.store.get_saved_dataset("first")
    reference._profile = Seen(2)  # as Feast does when it reads one from its registry
    assert shop.store.validate_logged_features(service, ago(48), NOW, reference, cache_profile=False) is None


def test_a_reference_that_can_not_be_kept_or_read_is_refused_with_one_reason(shop):
    why = "Great Expectations below 1"
    reference = saved(shop, 1).as_reference("like the first", profiler=Seen())
    with pytest.raises(FeastRefusedError, match=why) as refused:
        shop.store.apply(reference)
    assert isinstance(refused.value, ChurnError)
    assert "Profiler" in refused.value.hint
    assert refused.value.hint in refused.value.format_message(), "what Feast's commands show"
    # As an older Feast wrote it.
    kept = ValidationReferenceProto(name="old", reference_dataset_name="first", ge_profiler=GEValidationProfiler())
    registry = shop.store.registry
    with registry.write_engine.begin() as connection:
        row = {"validation_reference_name": "old", "project_id": shop.store.project, "last_updated_timestamp": 0}
        row["validation_reference_proto"] = kept.SerializeToString()
        connection.execute(validation_references.insert().values(row))
    with pytest.raises(FeastRefusedError, match=why):
        shop.store.get_validation_reference("old")
