"""The command line `churn …` over the functions of :mod:`flows.steps`; entry point: :func:`main`."""

from flows.cli.entry_point import main

__all__ = ["main"]
