"""What the commands on models refuse before they look at anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from flows.cli.model_commands import rollout


@pytest.mark.parametrize("share", ["-0.1", "0", "1", "1.5"])
def test_the_share_of_a_canary_is_above_0_and_below_1(share):
    refused = CliRunner().invoke(rollout, ["--canary", share])
    assert (refused.exit_code, "is not in the range 0<x<1" in refused.output) == (2, True)


def test_the_help_says_how_all_customers_are_answered():
    assert "churn promote" in CliRunner().invoke(rollout, ["--help"]).output
