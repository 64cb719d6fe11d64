from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from bentos.receipts import ReceiptTamperedError
from bentos.receipts.signing import ReceiptRow, sign_receipt, signing_key, verify_row
from tests.support.receipts import RECEIPTS, a_receipt, keeping

KEY = b"k" * 32
FEW = trying(max_examples=50, deadline=None)
FIELDS = sorted(json.loads(sign_receipt(a_receipt(), KEY).content))


@FEW
@given(RECEIPTS)
def test_what_was_signed_is_verified(receipt):
    assert repr(verify_row(sign_receipt(receipt, KEY), receipt.prediction_id, KEY)) == repr(receipt)


@FEW
@given(RECEIPTS, st.data())
def test_any_other_character_anywhere_shows(receipt, data):
    row = sign_receipt(receipt, KEY)
    column = data.draw(st.sampled_from(ReceiptRow._fields))
    text = getattr(row, column)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda each: each != text[place]))
    with pytest.raises(ReceiptTamperedError):
        verify_row(row._replace(**{column: text[:place] + other + text[place + 1 :]}), receipt.prediction_id, KEY)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_under_the_signature(field):
    receipt = a_receipt()
    row = sign_receipt(receipt, KEY)
    content = json.loads(row.content)
    content[field] = "else" if isinstance(content[field], str | None) else 0.5
    changed = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert changed != row.content
    with pytest.raises(ReceiptTamperedError) as refused:
        verify_row(row._replace(content=changed), receipt.prediction_id, KEY)
    assert refused.value.http_status == 409
    assert refused.value.error == "receipt_tampered"
    assert receipt.customer_id not in refused.value.message + refused.value.hint


def test_a_row_in_anothers_place_shows():
    one, other = a_receipt(), a_receipt()
    with pytest.raises(ReceiptTamperedError, match="another's place"):
        verify_row(sign_receipt(other, KEY), one.prediction_id, KEY)
    with pytest.raises(ReceiptTamperedError, match="another's place"):
        verify_row(sign_receipt(other, KEY)._replace(prediction_id=one.prediction_id), one.prediction_id, KEY)


def test_anothers_signature_and_another_spelling_show():
    one, other = (sign_receipt(a_receipt(), KEY) for _ in range(2))
    with pytest.raises(ReceiptTamperedError, match="signature"):
        verify_row(one._replace(signature=other.signature), one.prediction_id, KEY)
    with pytest.raises(ReceiptTamperedError, match="signature"):
        verify_row(one._replace(content=json.dumps(json.loads(one.content))), one.prediction_id, KEY)


@pytest.mark.parametrize("wrong", [None, b"bytes", 7, ""])
@pytest.mark.parametrize("column", ["content", "signature"])
def test_a_cell_of_another_type_shows(column, wrong):
    row = sign_receipt(a_receipt(), KEY)
    with pytest.raises(ReceiptTamperedError):
        verify_row(row._replace(**{column: wrong}), row.prediction_id, KEY)


def test_nobody_without_the_key_can_sign(settings):
    theirs, ours = signing_key(keeping(settings, signing_key="guess")), signing_key(settings)
    row = sign_receipt(a_receipt(), theirs)
    with pytest.raises(ReceiptTamperedError, match="signing_key"):
        verify_row(row, row.prediction_id, ours)


def test_the_secret_itself_signs_nothing_else(settings):
    assert signing_key(settings) != settings.receipts.signing_key.get_secret_value().encode()
    assert signing_key(settings) == signing_key(settings)


def test_signed_content_of_another_form_is_no_crash():
    signature = sign_receipt(a_receipt(), KEY)._replace(content="{}")
    from bentos.receipts.signing import _signature

    with pytest.raises(ReceiptTamperedError, match="form"):
        verify_row(signature._replace(signature=_signature("{}", KEY)), signature.prediction_id, KEY)


@pytest.mark.parametrize("customer_id", ["nul\0", "\ud800", "line\nbreak"])
def test_an_id_that_a_database_may_refuse_is_not_signed(customer_id):
    with pytest.raises(ValueError, match="id"):
        sign_receipt(a_receipt(customer_id=customer_id), KEY)
