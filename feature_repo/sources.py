"""Feast data sources: the offline tables that the feature build appends to."""

from __future__ import annotations

from feast import FileSource
from feast.data_format import ParquetFormat

from feature_repo.contract import ACTIVITY_SOURCE, CREATED_TIMESTAMP, EVENT_TIMESTAMP, SOURCE
from feature_repo.files.table_paths import table_pattern

# Paths are relative to the offline store's home, so that the registry holds no machine's path.
customer_snapshot = FileSource(
    name=SOURCE,
    path=table_pattern(SOURCE),
    file_format=ParquetFormat(),
    timestamp_field=EVENT_TIMESTAMP,
    created_timestamp_column=CREATED_TIMESTAMP,
    description="Validated Telco extracts, one row a customer and snapshot; append-only Parquet",
    tags={"grain": "customer x snapshot", "pii": "true", "refreshed": "monthly"},
    owner="data-platform@telco.example",
)

customer_activity = FileSource(
    name=ACTIVITY_SOURCE,
    path=table_pattern(ACTIVITY_SOURCE),
    file_format=ParquetFormat(),
    timestamp_field=EVENT_TIMESTAMP,
    created_timestamp_column=CREATED_TIMESTAMP,
    description="Daily tiles of a customer's events as each delivery left them; append-only Parquet",
    tags={"grain": "customer x delivery of events", "pii": "true", "refreshed": "with each delivery of events"},
    owner="data-platform@telco.example",
)
