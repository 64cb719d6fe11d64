"""What the commands on models refuse before they look at anything."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from bentos.batch.call_list import ListNotWrittenError
from flows.cli.model_commands import rollout, score_base


@pytest.mark.parametrize("share", ["-0.1", "0", "1", "1.5"])
def test_the_share_of_a_canary_is_above_0_and_below_1(share):
    refused = CliRunner().invoke(rollout, ["--canary", share])
    assert (refused.exit_code, "is not in the range 0<x<1" in refused.output) == (2, True)


def test_the_help_says_how_all_customers_are_answered():
    assert "churn promote" in CliRunner().invoke(rollout, ["--help"]).output


@pytest.mark.parametrize("second", ["list", "../{name}/list", "link"])
def test_the_two_lists_of_a_run_are_two_files(tmp_path, second):
    (tmp_path / "link").symlink_to("list")
    named = str(tmp_path / second.format(name=tmp_path.name))
    refused = CliRunner().invoke(score_base, ["--csv", str(tmp_path / "list"), "--excel", named])
    assert (refused.exit_code, "--csv and --excel name the same file" in refused.output) == (2, True)


@pytest.mark.parametrize("option", ["--csv", "--excel"])
def test_a_list_goes_to_a_regular_file_which_is_checked_before_the_scoring(tmp_path, option):
    os.mkfifo(tmp_path / "fifo")
    for target in ("-", "/dev/null", str(tmp_path / "fifo")):
        assert isinstance(CliRunner().invoke(score_base, [option, target]).exception, ListNotWrittenError)
    missing = CliRunner().invoke(score_base, [option, str(tmp_path / "none" / "list")])
    assert (missing.exit_code, "there is no folder" in missing.output) == (2, True)
