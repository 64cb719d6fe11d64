"""The command line `churn …`; its entry point is :func:`main`."""

from flows.cli.commands import main

__all__ = ["main"]
