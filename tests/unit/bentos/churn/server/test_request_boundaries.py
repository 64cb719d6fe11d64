"""Where requests end: whatever the packets, no part reaches from one request into the next."""

from hypothesis import given
from hypothesis import strategies as st

from bentos.churn.server.request_boundaries import RequestBoundaries

CHUNK = st.binary(max_size=8) | st.sampled_from([b"\r\n\r\n", b"\r\n", b"\r", b"0\r\n\r\n"])


@st.composite
def requests(draw):
    """(the request's bytes, its headers)."""
    lines = draw(st.lists(st.sampled_from([b"a: b", b"x:y", b"long: " + b"z" * 20]), max_size=3))
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    head = [b"GET / HTTP/1.1", *lines]
    if kind == "none":
        return b"\r\n".join([*head, b"", b""]), []
    chunks = draw(st.lists(CHUNK.filter(bool), max_size=4))
    if kind == "length":
        body = b"".join(chunks)
        length = str(len(body)).encode()
        return b"\r\n".join([*head, b"content-length: " + length, b"", body]), [(b"content-length", length)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    trailer = draw(st.sampled_from([b"", b"x: y\r\n"]))
    whole = b"\r\n".join([*head, b"transfer-encoding: chunked", b"", framed + b"0\r\n" + trailer + b"\r\n"])
    return whole, [(b"transfer-encoding", b"chunked")]


@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_no_part_reaches_into_the_next_request(sent, data):
    """Parts are taken as the connection takes them; that headers end is told as the parser tells it."""
    stream = b"".join(whole for whole, _ in sent)
    ends, heads, place = [], {}, 0
    for whole, headers in sent:
        heads[place + whole.index(b"\r\n\r\n") + 4] = headers
        place += len(whole)
        ends.append(place)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(stream) - 1, 1)), max_size=20)))
    parts, place, seen = RequestBoundaries(), 0, []
    for packet in (stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)):
        at = 0
        while at < len(packet):
            end = parts.end(packet, at)
            assert end > at
            place += end - at
            at = end
            if place in heads:
                assert parts.begin_body(heads[place])
            seen.append(place)
    # Every request's end, and every head's, is the end of a part.
    assert {*ends, *heads} <= set(seen)
    assert place == len(stream)
