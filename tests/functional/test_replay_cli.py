"""`churn replay <prediction_id>` as an operator types it; no service is running."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bentos.bundle.manifest import bundles_folder
from bentos.churn.api.schemas import PredictionAnswer
from bentos.receipts import ReceiptWriter
from bentos.receipts.sqlite_sink import receipts_path
from configs.settings import load_settings
from flows.cli import main
from tests.support.receipts import a_receipt, receipts_of, replayable

CHURN = str(Path(sys.executable).with_name("churn"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("replay") / "home"


@pytest.fixture
def receipt(home):
    """A receipt that is kept below the home."""
    receipt = replace(receipts_of(replayable(home), 1)[0], prediction_id=a_receipt().prediction_id)
    keep(home, receipt)
    return receipt


def keep(home, receipt):
    writer = ReceiptWriter(load_settings(home=home))
    writer.offer([receipt])
    writer.close(30)
    assert writer.written == 1


@pytest.fixture
def churn(home, monkeypatch, capsys):
    """Run the command line in this process; returns its exit code and what it printed."""
    monkeypatch.setattr(os, "environ", {**os.environ, "CHURN_HOME": str(home)})
    mask = os.umask(0o077)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    yield run
    os.umask(mask)


def test_an_operator_sees_the_answer_its_values_and_that_it_comes_out_again(receipt, churn):
    code, said, errors = churn("replay", receipt.prediction_id)
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    assert lines[0] == f"answered 2026-11-30 10:15:00.123456 UTC for customer {receipt.customer_id}"
    assert lines[1] == f"model 20260101T060000 (bundle {receipt.bundle_digest[:12]}), churn_core_v1"
    assert f"probability {receipt.probability!r}: {receipt.label} (threshold 0.2500)" in lines[2]
    assert "worth 12.50 USD if contacted, lever one_year_contract; quality full" in lines[2]
    assert lines[3].startswith(f"reasons: {receipt.reasons[0][0]} ")
    assert "  view customer_contract: fresh, as of 2026-11-27 10:15:00 UTC" in lines
    assert "  view customer_usage: unknown" in lines
    assert f"  monthly_charges_usd = {receipt.values[15]}" in lines
    assert f"replayed: probability {receipt.probability!r}, difference 0.0e+00" in lines
    assert lines[-1] == "agrees"


def test_json_is_what_the_service_answers(receipt, churn):
    code, said, _ = churn("replay", receipt.prediction_id, "--json")
    answer = PredictionAnswer.model_validate_json(said)
    assert code == 0
    assert answer.receipt.prediction_id == receipt.prediction_id
    assert list(answer.receipt.features.values()) == list(receipt.values)
    assert answer.replay.agrees


def test_what_does_not_come_out_again_is_exit_code_1(home, receipt, churn):
    other = replace(
        receipt,
        prediction_id=a_receipt().prediction_id,
        probability=receipt.probability / 2,
        label="stay" if receipt.label == "churn" else "churn",
        reasons=(("TENURE", 9.0),),
        lever=None,
    )
    keep(home, other)
    code, said, _ = churn("replay", other.prediction_id)
    assert code == 1
    assert said.splitlines()[-1].startswith("DOES NOT AGREE")
    assert f"replayed: label {receipt.label}" in said
    assert f"replayed: reasons {receipt.reasons[0][0]} " in said
    code, said, _ = churn("replay", other.prediction_id, "--json")
    assert code == 1
    assert json.loads(said)["replay"]["agrees"] is False


def test_an_answer_without_reasons_is_told_as_such(home, receipt, churn):
    silent = replace(receipt, prediction_id=a_receipt().prediction_id, reasons=None, kind="what_if")
    keep(home, silent)
    code, said, _ = churn("replay", silent.prediction_id)
    assert code == 0
    assert said.startswith("asked what if, answered ")
    assert "reasons: none, the explanation failed" in said


def test_an_unknown_id_says_when_to_ask_again(churn, receipt):
    code, said, errors = churn("replay", "nobody")
    assert (code, said) == (1, "")
    assert "error: there is no receipt of this prediction" in errors
    assert "hint:" in errors


def test_a_changed_receipt_is_refused(home, receipt, churn):
    with closing(sqlite3.connect(receipts_path(home))) as connection, connection:
        connection.execute(
            "UPDATE churn_receipts SET content = replace(content, '\"label\"', '\"labe1\"') WHERE prediction_id = ?",
            (receipt.prediction_id,),
        )
    code, said, errors = churn("replay", receipt.prediction_id)
    assert (code, said) == (1, "")
    assert "error: the receipt's signature does not fit" in errors
    assert receipt.customer_id not in errors


def test_a_changed_bundle_is_refused(home, receipt, churn):
    file = bundles_folder(home) / receipt.bundle_digest / "trees.ubj"
    content = file.read_bytes()
    file.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    code, said, errors = churn("replay", receipt.prediction_id)
    file.write_bytes(content)
    assert (code, said) == (1, "")
    assert "error: the bundle that answered can't be used: trees.ubj of bundle" in errors


def test_the_command_itself(home, receipt):
    done = subprocess.run(
        [CHURN, "replay", receipt.prediction_id],
        env={**os.environ, "CHURN_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "agrees"
