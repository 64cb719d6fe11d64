"""The steps of the pipeline: functions that work without Prefect and may be called twice.

See docs/decisions/0020-idempotence.md.
"""
