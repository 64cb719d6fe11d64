"""`churn train`, `promote`, `rollout`, `history` and `rollback` as an operator types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.rollout.rollout import read_rollout
from flows.cli import main
from flows.current_user import current_user
from tests.support.retraining_home import extracts, land, make
from training.registry import find_version, version_of

CHURN = str(Path(sys.executable).with_name("churn"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return make(tmp_path_factory.mktemp("promotion") / "home")


VARIABLES = {
    "CHURN_TRAINING__TRIALS": "1",
    "CHURN_TRAINING__FOLDS": "2",
    "CHURN_PROMOTION__SIGNIFICANCE": "0.000001",  # nothing is better beyond so little chance
    "CHURN_PROMOTION__BOOTSTRAP_REPLICATES": "500",
}


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def churn(settings, monkeypatch, capsys):
    """Run the command line in this process: most of a command's time is spent on loading libraries."""
    monkeypatch.setattr(os, "environ", {**os.environ, **VARIABLES, "CHURN_HOME": str(settings.home)})
    mask = os.umask(0o077)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        told = capsys.readouterr()
        return Done(int(ended.value.code or 0), told.out, told.err)

    yield run
    os.umask(mask)


def hours_to_the_end(settings):
    return (datetime.fromisoformat(read_rollout(settings.home).ends_at) - datetime.now(UTC)).total_seconds() / 3600


def test_the_operators_day(settings, churn):
    first = churn("train")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[0].startswith("version 1 (")
    assert first.stdout.splitlines()[-1] == "promoted to champion"
    again = churn("train")
    assert "trained before" in again.stdout
    assert again.stdout.splitlines()[-1] == "it is the champion already"

    land(settings, 3, extracts()[3])
    second = churn("train")
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[0].startswith("version 2 (")
    assert "FAILED: better than the champion beyond chance" in second.stdout
    assert second.stdout.splitlines()[-1] == "refused: the champion stays"

    # Nothing new is no refusal, and a script reads from the JSON whether anything was promoted.
    same = churn("train")
    assert same.stdout.splitlines()[-1] == "nothing new was trained: the champion stays"
    assert "refused" not in same.stdout
    told = churn("train", "--json")
    outcome = json.loads(told.stdout)
    assert (told.returncode, outcome["promoted"], outcome["outcome"]) == (0, False, "nothing new")
    assert outcome["verdict"]["promote"] is False

    asked = churn("promote")
    assert asked.returncode == 1
    assert asked.stdout.splitlines()[-1] == "refused: the champion stays"
    unsaid = churn("promote", "--force")
    assert (unsaid.returncode, unsaid.stdout) == (1, "")
    assert "hint: add --why" in unsaid.stderr

    assert "challenger" not in churn("rollout").stdout
    assert "canary for 20% of the customers" in churn("rollout", "--canary", "0.2", "--why", "to see").stdout
    assert hours_to_the_end(settings) == pytest.approx(settings.rollout.trial_timeout_h, abs=0.02)
    assert "shadow: challenger" in churn("rollout", "--shadow").stdout
    assert hours_to_the_end(settings) == pytest.approx(settings.rollout.trial_timeout_h, abs=0.02)
    assert churn("rollout", "--shadow", "--stop").returncode == 2
    for share in ("0", "1"):
        refused = churn("rollout", "--canary", share)
        assert (refused.returncode, "is not in the range 0<x<1" in refused.stderr) == (2, True)
    assert "no trial of 1 is running" in churn("rollout", "--stop", "--version", "1").stdout
    assert "challenger" not in churn("rollout", "--stop", "--version", "2").stdout
    assert "no trial is running" in churn("rollout", "--stop").stdout

    forced = churn("promote", "--force", "--why", "the new tariff")
    assert forced.returncode == 0, forced.stderr
    assert forced.stdout.splitlines()[-1] == "promoted to champion, against the verdict"
    tags = find_version(settings, "2").tags
    assert (tags["verdict"], tags["overruled_in"]) == ("overruled", "5")
    assert find_version(settings, "1").tags["verdict"] == "passed"


def test_going_back_is_told_first_and_written_down(settings, churn):
    # This line is what an operator waits for: it comes before the process has told MLflow.
    with subprocess.Popen(
        [CHURN, "rollback", "--why", "too many calls"], env=os.environ, stdout=subprocess.PIPE, text=True
    ) as process:
        said = process.stdout.readline()
        assert said.endswith("serves again\n")
        assert read_rollout(settings.home).champion == find_version(settings, "1").bundle_digest
    assert process.returncode == 0
    assert (version_of(settings, "champion").version, version_of(settings, "previous").version) == ("1", "2")
    assert churn("rollback").returncode == 2, "a reason is asked for"
    champion = read_rollout(settings.home).champion
    for words in ((), ("--from", "2"), ("--from", find_version(settings, "2").bundle_digest[:8])):
        again = churn("rollback", "--why", "too many calls", *words)
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout.startswith(f"nothing to do: {'the champion is' if words else 'bundle'} {champion[:12]}")
    assert "serves since 6 " in (told := churn("rollback", "--why", "x").stdout)
    assert told.endswith('to leave it: churn promote --version N --force --why "…"\n')
    for words in (("rollback", "--why", "x", "--from"), ("promote", "--from"), ("rollout", "--stop", "--version")):
        unknown = churn(*words, "999")
        assert (unknown.returncode, unknown.stdout) == (2, "")
        assert f"{champion[:12]} (model " in unknown.stderr
    back = churn("rollback", "--from", "1", "--why", "x")
    assert (back.returncode, back.stdout) == (1, "")
    assert "was rolled back by" in back.stderr
    done = churn("promote", "--version", "2", "--from", "2", "--force", "--why", "again")
    assert (done.returncode, done.stdout.startswith("nothing to do: the champion is")) == (0, True)
    assert read_rollout(settings.home).champion == champion
    refused = churn("promote")
    assert refused.returncode == 1
    assert f"not withdrawn before (rollback by {current_user()}: too many calls)" in refused.stdout

    lines = churn("history").stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["promote", "canary", "shadow", "stop", "promote", "rollback"]
    assert lines[-1].endswith(f"by {current_user()}: too many calls")
    assert [line for line in lines if "[forced]" in line] == [lines[4]]
    entries = [json.loads(line) for line in churn("history", "--json").stdout.splitlines()]
    assert [entry["sequence"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert entries[4]["details"]["overruled"].startswith("failed: better than the champion")
    assert [entry["forced"] for entry in entries] == [False, False, False, False, True, False]


@pytest.mark.parametrize(
    "text", ["a\n   7 2026-01-01T00:00:00 promote  000000000000 by root", "\x1b[2J", "\u202eabc", "\x85"]
)
def test_a_reason_is_one_line_and_forges_none(settings, churn, text):
    before = churn("history").stdout
    for command in (("rollback",), ("promote", "--force"), ("rollout", "--shadow"), ("approve", "--yes", "--who", "x")):
        refused = churn(*command, "--why", text)
        assert refused.returncode == 2
        assert text not in refused.stderr
    assert churn("history").stdout == before


def test_a_changed_ledger_is_named(settings, churn):
    path = settings.home / "ledger" / "ledger.jsonl"
    path.write_text(path.read_text().replace("the new tariff", "a new tariff  "))
    for arguments in (("history",), ("promote",), ("rollback", "--why", "again")):
        done = churn(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert "line 5 of ledger.jsonl was changed" in done.stderr


def test_before_anything_was_trained(churn, monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, "CHURN_HOME", str(tmp_path / "empty"))
    for arguments, code, told in (
        (("rollback", "--why", "x"), 1, "there is no champion model yet"),
        (("promote",), 1, "nothing was trained yet"),
        (("rollout",), 0, "no model serves yet"),
        (("history",), 0, ""),
    ):
        done = churn(*arguments)
        assert done.returncode == code
        assert told in done.stdout + done.stderr
