"""Bodies in an encoding, within a limit; and which clients want their answers compressed."""

import gzip
import tracemalloc
import zlib

import pytest

from bentos.churn.errors import ContentEncodingError, RequestInvalidError
from bentos.churn.server.content_codings import coding_of, decompressed, gzipped, offers_gzip

BODY = b'{"customer_id": "7590-VHVEG"}'


def raw_deflate(body):
    pack = zlib.compressobj(wbits=-15)
    return pack.compress(body) + pack.flush()


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([b"gzip"], "gzip"),
        ([b"GZIP "], "gzip"),
        ([b"x-gzip"], "gzip"),
        ([b"deflate"], "deflate"),
        ([b"identity"], "identity"),
        ([b""], "identity"),
        ([b"identity, gzip"], "gzip"),
        ([b"identity", b"deflate"], "deflate"),
    ],
)
def test_which_encoding_a_body_has(values, coding):
    assert coding_of(values) == coding


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([b"br"], "encoding br"),
        ([b"zstd"], "encoding zstd"),
        ([b"compress"], "encoding compress"),
        ([b"gzip, gzip"], "several"),
        ([b"gzip", b"deflate"], "several"),
        ([b"7590-VHVEG"], "unknown"),
        ([b"gzip;7590-VHVEG"], "unknown"),
        ([b"\xff"], "unknown"),
    ],
)
def test_another_encoding_is_named_if_it_is_one(values, says):
    with pytest.raises(ContentEncodingError, match=says) as refused:
        coding_of(values)
    assert "7590" not in str(refused.value.body())


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("gzip", gzip.compress(BODY[:9], mtime=0) + gzip.compress(BODY[9:], mtime=0)),
        ("gzip", gzipped(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
    ],
)
@pytest.mark.parametrize("limit", [len(BODY), 10_000])
def test_a_body_is_decoded(coding, sent, limit):
    assert decompressed(sent, coding, limit) == BODY


@pytest.mark.parametrize(
    ("coding", "sent"),
    [
        ("gzip", BODY),
        ("gzip", b""),
        ("gzip", gzip.compress(BODY, mtime=0)[:-1]),
        ("gzip", gzip.compress(BODY, mtime=0)[:5]),
        ("gzip", gzip.compress(BODY, mtime=0) + b"7590-VHVEG"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-8] + bytes(8)),
        ("gzip", zlib.compress(BODY)),
        ("deflate", BODY),
        ("deflate", b""),
        ("deflate", zlib.compress(BODY) * 2),
        ("deflate", zlib.compress(BODY)[:-1]),
        ("deflate", raw_deflate(BODY)[:-1]),
    ],
)
def test_what_is_not_in_its_encoding_is_refused_without_a_word_of_it(coding, sent):
    with pytest.raises(RequestInvalidError, match=f"valid {coding}") as refused:
        decompressed(sent, coding, 10_000)
    assert "7590" not in str(refused.value.body())


def test_a_gzip_file_of_many_members_is_told_so():
    assert decompressed(gzip.compress(b"x") * 16, "gzip", 10_000) == b"x" * 16
    with pytest.raises(RequestInvalidError, match="more than 16 members"):
        decompressed(gzip.compress(b"x") * 17, "gzip", 10_000)
    with pytest.raises(RequestInvalidError, match="valid gzip"):
        decompressed(gzip.compress(b"x") * 16 + b"7590-VHVEG", "gzip", 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
def test_what_grows_beyond_the_limit_is_not_unpacked(pack):
    coding = "gzip" if pack is gzip.compress else "deflate"
    bomb = pack(bytes(64 * 1024 * 1024))
    tracemalloc.start()
    found = decompressed(bomb, coding, 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 1025
    assert peak < 1024 * 1024
    parts = gzip.compress(bytes(700)) * 3
    assert len(decompressed(parts, "gzip", 1024)) == 1025


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (b"", False),
        (b"gzip", True),
        (b"gzip, deflate, br", True),
        (b"GZip;Q=0.5", True),
        (b"x-gzip", True),
        (b"*", True),
        (b"br;q=1.0, *;q=0.1", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.0", False),
        (b"*;q=0", False),
        (b"gzip;q=0, *;q=1", False),
        (b"identity", False),
        (b"identity;q=1, gzip;q=0.5", False),
        (b"identity;q=0.5, gzip;q=0.5", True),
        (b"identity;q=0, *", True),
        (b"br, zstd", False),
        (b"gzip;q=nonsense", False),
        (b"gzip;q=nan", False),
        (b"gzipped", False),
        (b"gzip," + b"x" * 10_000, False),
        (b"\xff\xfe;q=\xff", False),
    ],
)
def test_who_wants_gzip(accept, wanted):
    assert offers_gzip(accept) is wanted


def test_what_is_compressed_is_what_was():
    assert gzip.decompress(gzipped(BODY * 1000)) == BODY * 1000
