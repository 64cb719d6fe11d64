"""The Prefect flows: thin tasks over the plain functions of :mod:`flows.steps`."""
