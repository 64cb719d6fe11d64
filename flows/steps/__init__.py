"""The steps of the pipeline: functions that work without Prefect and may be called twice."""
