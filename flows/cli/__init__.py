"""The command line `churn …`: a thin door to the functions of :mod:`flows`; its entry point is :func:`main`."""

from flows.cli.entry_point import main

__all__ = ["main"]
