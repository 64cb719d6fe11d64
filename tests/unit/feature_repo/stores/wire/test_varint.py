import numpy as np
import pytest
from google.protobuf.internal.encoder import _VarintBytes

from feature_repo.stores.wire.varint import varint, varints

NUMBERS = [0, 1, 127, 128, 300, 16383, 16384, 2**31 - 1, 2**32, 2**56, 2**63 - 1]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_spelt_as_protobuf_does(number):
    assert varint(number) == _VarintBytes(number)


def test_a_column_is_its_numbers_one_after_the_other():
    data, lengths = varints(np.array(NUMBERS))
    assert data.tobytes() == b"".join(map(_VarintBytes, NUMBERS))
    assert lengths.tolist() == [len(_VarintBytes(number)) for number in NUMBERS]


def test_negative_numbers_take_64_bits():
    data, lengths = varints(np.array([-1, -(2**63)], np.int64))
    assert data.tobytes() == _VarintBytes(2**64 - 1) + _VarintBytes(2**63)
    assert lengths.tolist() == [10, 10]


def test_a_tag_stands_before_each():
    data, lengths = varints(np.array([1, 300]), tag=0x20)
    assert data.tobytes() == b"\x20\x01\x20\xac\x02"
    assert lengths.tolist() == [2, 3]


def test_nothing_is_nothing():
    data, lengths = varints(np.array([], np.int64))
    assert (data.tobytes(), lengths.tolist()) == (b"", [])
