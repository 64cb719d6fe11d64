"""Commands for authors of features: the check of their files, and the difference to the registry."""

from __future__ import annotations

import sys
from typing import Final

import click

from configs.errors import EXIT_FAILURE
from flows.cli.invocation import run_settings, say


@click.group()
def features() -> None:
    """Check the files that declare features."""


@features.command("check")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def check_features(*, as_json: bool) -> None:
    """Hold contract, transforms, reasons, designs, levers, freshness and gate against each other.

    One line for each finding: the feature, the file, and what to add. Exit code 1 if there is one.
    """
    import json
    from dataclasses import asdict

    from feature_repo.contract import FEATURES
    from flows.steps.check_features import check_features as check

    found = check()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
    elif not found:
        say(f"{len(FEATURES)} features: all files agree")
    else:
        for each in found:
            say(str(each))
    if found:
        sys.exit(EXIT_FAILURE)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def plan(*, as_json: bool) -> None:
    """Show by feature and service what `churn apply` would change in the registry."""
    import json
    from dataclasses import asdict

    from flows.steps.apply_features import plan_features
    from flows.steps.check_features import refuse_inconsistent_features

    refuse_inconsistent_features()
    changes = plan_features(run_settings())
    if as_json:
        click.echo(json.dumps([asdict(each) for each in changes], indent=2))
        return
    for each in changes:
        say(str(each))
    if not changes:
        say("no changes: the registry agrees with the contract")


FEATURE_COMMANDS: Final[tuple[click.Command, ...]] = (features, plan)
