"""Content codings (RFC 9110, 8.4): gzip and deflate bodies within a limit, and gzip answers. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

from bentos.churn.errors import ContentEncodingError, RequestInvalidError

Coding = Literal["identity", "gzip", "deflate"]

ACCEPTED: Final = b"gzip, deflate"
"""Supported codings of a body; the header Accept-Encoding of an answer that refuses another (RFC 7694)."""
COMPRESSED_MIN_BYTES: Final = 16 * 1024
"""Answers from this size on are compressed: below it, handing them to a thread costs more than it saves."""
_ALIASES: Final[dict[str, Coding]] = {"identity": "identity", "gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_NAMED: Final = frozenset({"br", "compress", "dcb", "dcz", "x-compress", "zstd"})
"""Registered codings that an error may name. Any other name is the caller's own text."""
_GZIP, _ZLIB, _RAW = 31, 15, -15
"""wbits of zlib for each container."""
_GZIP_BEGINS: Final = b"\x1f\x8b"
_MEMBERS_MAX: Final = 16
"""Most members of a gzip file: more would only keep the reader busy."""
_LEVEL: Final = 1
_ACCEPT_MAX_BYTES: Final = 512


def coding_of(values: Iterable[bytes]) -> Coding:
    """Return the one coding of the headers Content-Encoding. Raises ContentEncodingError."""
    names = [name.strip().lower() for value in values for name in value.decode("latin-1").split(",")]
    codings = [name for name in names if name not in {"", "identity"}]
    if not codings:
        return "identity"
    if len(codings) > 1:
        raise ContentEncodingError("the body has several content encodings, one is allowed")
    coding = _ALIASES.get(codings[0])
    if coding is None:
        name = codings[0] if codings[0] in _NAMED else "which is unknown"
        raise ContentEncodingError(f"the body has the content encoding {name}")
    return coding


def decompressed(body: bytes, coding: Coding, limit: int) -> bytes:
    """Return the decoded ``body``, cut at ``limit`` + 1 bytes: a longer one shows by its length.

    Raises
    ------
    RequestInvalidError
        If the body is not in ``coding``, is truncated, has bytes after its end, or too many members.
    """
    try:
        if coding == "identity":
            return body
        if coding == "gzip":
            return _unpacked(body, _GZIP, limit, _MEMBERS_MAX)
        try:
            return _unpacked(body, _ZLIB, limit, 1)
        except zlib.error:
            return _unpacked(body, _RAW, limit, 1)  # some clients send a raw stream as deflate
    except zlib.error:
        raise _broken(coding) from None


def _unpacked(body: bytes, wbits: int, limit: int, members: int) -> bytes:
    found: list[bytes] = []
    size = 0
    for _ in range(members):
        unpack = zlib.decompressobj(wbits)
        found.append(unpack.decompress(body, limit + 1 - size))
        size += len(found[-1])
        body = unpack.unused_data
        if size > limit or (unpack.eof and not body):
            return b"".join(found)
        if not unpack.eof:
            raise zlib.error
    if wbits == _GZIP and body.startswith(_GZIP_BEGINS):
        raise RequestInvalidError(f"the gzip body has more than {members} members", "compress it as one")
    raise zlib.error


def _broken(coding: Coding) -> RequestInvalidError:
    return RequestInvalidError(f"the body is not whole and valid {coding}, which its content encoding says it is")


@lru_cache(maxsize=256)
def _offers(accept: bytes) -> bool:
    weights: dict[str, float] = {}
    for each in accept.decode("latin-1").lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        weight = next((part[2:].strip() for part in parameters if part.startswith("q=")), "1")
        try:
            weights[name] = float(weight)
        except ValueError:
            weights[name] = 0.0
    others = weights.get("*", 0.0)
    gzip = max(weights.get("gzip", others), weights.get("x-gzip", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def offers_gzip(accept: bytes) -> bool:
    """Return whether the header Accept-Encoding accepts gzip and does not prefer the identity."""
    return 0 < len(accept) <= _ACCEPT_MAX_BYTES and _offers(accept)


def gzipped(body: bytes) -> bytes:
    """Return ``body`` in gzip."""
    pack = zlib.compressobj(_LEVEL, wbits=_GZIP)
    return pack.compress(body) + pack.flush()
