"""The command line `churn …`, which calls the functions of :mod:`flows.steps`; its entry point is :func:`main`."""

from flows.cli.entry_point import main

__all__ = ["main"]
