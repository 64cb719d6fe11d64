"""Verbs: what the command line and Prefect run."""
