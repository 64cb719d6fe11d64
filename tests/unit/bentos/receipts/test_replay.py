from __future__ import annotations

from dataclasses import replace

import pytest

from bentos.bundle.manifest import bundles_folder
from bentos.receipts.replay import ReceiptBundleError, Replayer
from configs.settings import load_settings
from feature_repo.contract import CORE_SERVICE, SERVICES_OF
from tests.support.receipts import receipts_of, replayable


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The settings of a home with one bundle, and receipts of its answers."""
    home = tmp_path_factory.mktemp("replaying")
    return load_settings(home=home), receipts_of(replayable(home), 70)


@pytest.fixture
def replayer(world):
    return Replayer(world[0])


@pytest.fixture
def receipt(world):
    """One with three reasons."""
    return next(each for each in world[1] if len(each.reasons) == 3)


def test_an_honest_receipt_agrees(world, replayer):
    for receipt in world[1]:
        again = replayer.replay(receipt)
        assert again.agrees
        assert again.difference <= 1e-12
        assert (again.label, again.features) == (receipt.label, SERVICES_OF[CORE_SERVICE])
    assert {receipt.label for receipt in world[1]} == {"churn", "stay"}


@pytest.mark.parametrize(("by", "agrees"), [(5e-10, True), (-5e-10, True), (2e-9, False), (-0.1, False)])
def test_the_probability_is_compared_to_a_billionth(replayer, receipt, by, agrees):
    again = replayer.replay(replace(receipt, probability=receipt.probability + by))
    assert again.agrees == agrees
    assert again.difference == pytest.approx(abs(by), rel=1e-3)


def test_the_label_follows_the_threshold_of_the_answer(replayer, receipt):
    moved = replayer.replay(replace(receipt, threshold=0.0 if receipt.label == "stay" else 1.0))
    assert not moved.same_label
    assert moved.label != receipt.label
    assert not moved.agrees
    other = "stay" if receipt.label == "churn" else "churn"
    assert not replayer.replay(replace(receipt, label=other)).agrees


def test_the_reasons_are_compared_by_code_order_and_size(replayer, receipt):
    first, second, third = receipt.reasons
    code, contribution = first
    assert replayer.replay(replace(receipt, reasons=((code, contribution + 5e-7), second, third))).agrees
    for changed in (
        (second, first, third),
        (first, second, ("INVENTED", third[1])),
        ((code, contribution + 1e-5), second, third),
        (first, second, third, ("ONE_MORE", 0.01)),
    ):
        again = replayer.replay(replace(receipt, reasons=changed))
        assert not again.same_reasons
        assert not again.agrees


def test_fewer_reasons_of_another_setting_agree(replayer, receipt):
    assert replayer.replay(replace(receipt, reasons=receipt.reasons[:1])).agrees


def test_an_answer_whose_explanation_failed_is_replayed_without_one(replayer, receipt):
    again = replayer.replay(replace(receipt, reasons=None))
    assert again.reasons is None
    assert again.agrees


def test_another_value_gives_another_probability(replayer, receipt):
    place = SERVICES_OF[CORE_SERVICE].index("tenure_months")
    changed = (*receipt.values[:place], receipt.values[place] + 24, *receipt.values[place + 1 :])
    assert not replayer.replay(replace(receipt, values=changed)).agrees


def test_a_bundle_that_is_gone_is_told(replayer, receipt):
    with pytest.raises(ReceiptBundleError, match="no bundle at") as refused:
        replayer.replay(replace(receipt, bundle_digest="ab" * 32))
    assert (refused.value.error, refused.value.http_status) == ("receipt_bundle_invalid", 409)


def test_a_bundle_without_words_has_those_of_the_configs(tmp_path):
    bundle = replayable(tmp_path)
    receipt = receipts_of(bundle, 1)[0]
    silent = replace(bundle, reason_codes="").save(tmp_path)
    assert Replayer(load_settings(home=tmp_path)).replay(replace(receipt, bundle_digest=silent.digest)).agrees


def test_bundles_stay_loaded_and_are_verified_when_they_are_loaded(tmp_path):
    bundle = replayable(tmp_path)
    (receipt,) = receipts_of(bundle, 1)
    replayer = Replayer(load_settings(home=tmp_path))
    assert replayer.replay(receipt).agrees
    for file in (bundles_folder(tmp_path) / bundle.digest).iterdir():
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(ReceiptBundleError, match=file.name):
            Replayer(load_settings(home=tmp_path)).replay(receipt)
        file.write_bytes(content)
    assert replayer.replay(receipt).agrees
