import hiredis
import pyarrow as pa
import pytest

from feature_repo.stores.wire import redis_protocol
from feature_repo.stores.wire.value_encoder import BINARY

KEYS = pa.array([b"k", b"key-2"], BINARY)
PLAIN = pa.array([b"", b"x" * 1000], BINARY)
REPEATING = pa.array([b"same", b"same"], BINARY).dictionary_encode()


def commands(spelt):
    """Return the words of each command, parsed by another implementation of the protocol."""
    reader = hiredis.Reader()
    reader.feed(bytes(redis_protocol.stream(spelt)))
    return list(iter(reader.gets, False))


def test_a_hash_a_row():
    spelt = redis_protocol.hset(
        redis_protocol.bulks(KEYS), {b"a": PLAIN, b"%d": PLAIN, b"c": REPEATING, b"d": REPEATING}
    )
    words = [dict(zip(row[2::2], row[3::2], strict=True)) for row in commands(spelt)]
    assert [row[:2] for row in commands(spelt)] == [[b"HSET", b"k"], [b"HSET", b"key-2"]]
    assert words == [{b"a": v, b"%d": v, b"c": b"same", b"d": b"same"} for v in PLAIN.to_pylist()]


@pytest.mark.parametrize("values", [PLAIN, REPEATING], ids=["plain", "repeating"])
def test_a_life_for_each_key(values):
    spelt = redis_protocol.hset(redis_protocol.bulks(KEYS), {b"a": values}, expire_s=60)
    assert commands(spelt)[1::2] == [[b"EXPIRE", b"k", b"60"], [b"EXPIRE", b"key-2", b"60"]]
    assert len(commands(spelt)) == 4


def test_many_combinations_are_spelt_in_groups():
    texts = [b"%d" % number for number in range(100)]
    fields = {b"f%d" % place: pa.array(texts[place:] + texts[:place], BINARY).dictionary_encode() for place in range(5)}
    keys = redis_protocol.bulks(pa.array(texts, BINARY))
    found = [dict(zip(row[2::2], row[3::2], strict=True)) for row in commands(redis_protocol.hset(keys, fields))]
    assert found == [{b"f%d" % place: texts[(row + place) % 100] for place in range(5)} for row in range(100)]


def test_questions():
    assert commands(redis_protocol.hmget(redis_protocol.bulks(KEYS), [b"_ts:v", b"_ts:w"])) == [
        [b"HMGET", key, b"_ts:v", b"_ts:w"] for key in KEYS.to_pylist()
    ]


def test_the_stream_of_a_slice_is_its_rows():
    spelt = redis_protocol.hmget(redis_protocol.bulks(KEYS), [b"f"])
    assert bytes(redis_protocol.stream(spelt)) == b"".join(spelt.to_pylist())
    assert bytes(redis_protocol.stream(spelt.slice(1))) == spelt.to_pylist()[1]
    assert bytes(redis_protocol.stream(spelt.slice(0, 0))) == b""
