"""Header blocks whose point is what follows them, DATA and trailers, and those that are wrong as HPACK already."""

from __future__ import annotations

from tests.wire.blocks import MALFORMED, Block, Pairs, get, malformed, post, raw, with_body
from tests.wire.frames import integer, literals, string
from tests.wire.rows import HOST, Sent, plain, posted

#: A body that would be a request if anybody took it for one.
HIDDEN = b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: hidden.example\r\n\r\n"

#: Bytes that a body may have, and one row's has.
BODY_LIMIT = 40000


def _length(*values: bytes) -> Pairs:
    return post(*((b"content-length", value) for value in values))


def _bad_length(name: str, rfc: str, *values: bytes) -> Block:
    return malformed(name, rfc, _length(*values), data=(b"hello",))


_LENGTHS: tuple[Block, ...] = (
    with_body("length", "9113 8.1.1", _length(b"5"), (b"hello",), posted()),
    with_body("length and pieces", "9113 8.1.1", _length(b"5"), (b"he", b"", b"llo"), posted()),
    with_body("length and an empty last frame", "9113 8.1.1", _length(b"5"), (b"hello", b""), posted()),
    with_body("length of nothing", "9113 8.1.1", _length(b"0"), (b"",), Sent(b"POST / HTTP/1.1")),
    with_body("no length", "9113 8.1", post(), (b"hel", b"lo"), posted(framing="chunked")),
    with_body("no length and no body", "9113 8.1", post(), (b"",), posted(body=b"", framing="chunked")),
    with_body("get with a body", "9110 9.3.1", get(), (b"hello",), Sent(b"GET / HTTP/1.1", (), b"hello", "chunked")),
    with_body(
        "body that looks like a request",
        "9112 11.2",
        _length(b"%d" % len(HIDDEN)),
        (HIDDEN,),
        posted(body=HIDDEN),
    ),
    with_body(
        "body without length that looks like a request",
        "9112 11.2",
        post(),
        (HIDDEN,),
        posted(body=HIDDEN, framing="chunked"),
    ),
    with_body(
        "get whose body looks like a request",
        "9112 11.2",
        get((b"content-length", b"%d" % len(HIDDEN))),
        (HIDDEN,),
        Sent(b"GET / HTTP/1.1", (), HIDDEN, "length"),
    ),
    malformed("body shorter than its length", "9113 8.1.1", _length(b"9"), data=(b"hello",), started=True),
    malformed("body longer than its length", "9113 8.1.1", _length(b"3"), data=(b"hello",), started=True),
    malformed(
        "body longer by a frame", "9113 8.1.1", _length(b"5"), data=(b"hello", b"!"), started=True, sent=posted()
    ),
    malformed(
        "body longer by a request",
        "9113 8.1.1",
        _length(b"5"),
        data=(b"hello", b"GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"),
        started=True,
        sent=posted(),
    ),
    malformed(
        "body for a length of nothing",
        "9113 8.1.1",
        _length(b"0"),
        data=(b"hello",),
        started=True,
        sent=Sent(b"POST / HTTP/1.1"),
    ),
    malformed("length and no body", "9113 8.1.1", _length(b"5")),
    malformed("get with length and no body", "9113 8.1.1", get((b"content-length", b"5"))),
    _bad_length("length twice alike", "9110 8.6", b"5", b"5"),
    _bad_length("length twice unlike", "9110 8.6", b"5", b"6"),
    _bad_length("length list alike", "9110 8.6", b"5, 5"),
    _bad_length("length with plus", "9110 8.6", b"+5"),
    _bad_length("length with minus", "9110 8.6", b"-5"),
    _bad_length("length hexadecimal", "9110 8.6", b"0x5"),
    _bad_length("length with a space behind", "9110 8.6", b"5 "),
    _bad_length("length with a space before", "9110 8.6", b" 5"),
    _bad_length("length with a zero before", "9110 8.6", b"05"),
    _bad_length("length with underscore inside", "9110 8.6", b"0_5"),
    _bad_length("length empty", "9110 8.6", b""),
    _bad_length("length with a line end", "9110 8.6", b"5\r\nx: y"),
    _bad_length("length of digits that are not ascii", "9110 8.6", b"\xd9\xa5"),
    _bad_length("length that wraps 64 bits to five", "9110 8.6", b"18446744073709551621"),
    malformed(
        "length over the limit",
        "9110 15.5.14",
        _length(b"%d" % (BODY_LIMIT + 1)),
        "413+NO_ERROR/open",
        ended=False,
    ),
    malformed(
        "body over the limit",
        "9110 15.5.14",
        post(),
        "413+NO_ERROR/open",
        data=(b"x" * 16384, b"x" * 16384, b"x" * 16384),
        ended=False,
        started=True,
    ),
    with_body(
        "body of the greatest size",
        "9110 15.5.14",
        _length(b"%d" % BODY_LIMIT),
        (b"x" * 16384, b"x" * 16384, b"x" * (BODY_LIMIT - 32768)),
        posted(body=b"x" * BODY_LIMIT),
    ),
    with_body(
        "expectation",
        "9110 10.1.1",
        post((b"content-length", b"5"), (b"expect", b"100-continue")),
        (b"hello",),
        posted(b"expect: 100-continue"),
        outcome="100+200/open",
        waits=True,
    ),
)


def _trailed(name: str, rfc: str, trailers: Pairs, *kept: bytes) -> Block:
    sent = Sent(b"POST / HTTP/1.1", (), b"hello", "chunked", kept)
    return with_body(name, rfc, post(), (b"hello",), sent, trailers)


def _bad_trailer(name: str, rfc: str, field: bytes, value: bytes) -> Block:
    return malformed(name, rfc, post(), data=(b"hello",), trailers=((b"a", b"b"), (field, value)), started=True)


_TRAILERS: tuple[Block, ...] = (
    _trailed("trailers", "9113 8.1", ((b"x-sum", b"1"), (b"y", b"2")), b"x-sum: 1", b"y: 2"),
    _trailed(
        "trailers that must not go on",
        "9110 6.5.1",
        (
            (b"content-length", b"5"), (b"host", b"b.example"), (b"x-sum", b"1"), (b"authorization", b"a"),
            (b"x-forwarded-for", b"192.0.2.1"), (b"content_length", b"5"), (b"te", b"gzip"), (b"cookie", b"a"),
        ),
        b"x-sum: 1",
    ),
    with_body("trailers behind a length", "9113 8.1", _length(b"5"), (b"hello",), posted(), ((b"x-sum", b"1"),)),
    malformed(
        "trailers that do not end",
        "9113 8.1",
        post(),
        data=(b"hello",),
        trailers=((b"x-sum", b"1"),),
        ended=False,
        started=True,
    ),
    malformed(
        "trailers before all of the length",
        "9113 8.1.1",
        _length(b"9"),
        data=(b"hello",),
        trailers=((b"x-sum", b"1"),),
        started=True,
    ),
    _bad_trailer("trailer with a pseudo field", "9113 8.1", b":path", b"/admin"),
    _bad_trailer("trailer that is a status", "9113 8.1", b":status", b"200"),
    _bad_trailer("trailer in capitals", "9113 8.2.1", b"X-Sum", b"1"),
    _bad_trailer("trailer with a line end", "9113 8.2.1", b"x-sum", b"1\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n"),
    _bad_trailer("trailer with a line end in its name", "9113 8.2.1", b"x\r\ny", b"1"),
    _bad_trailer("trailer with a colon", "9113 8.2.1", b"x: y", b"1"),
    _bad_trailer("trailer with NUL", "9113 8.2.1", b"x", b"\0"),
    _bad_trailer("trailer that is a transfer encoding", "9113 8.2.2", b"transfer-encoding", b"chunked"),
    _bad_trailer("trailer that is a connection", "9113 8.2.2", b"connection", b"close"),
)  # fmt: skip

_GET = b"\x82\x86\x84" + b"\x01" + string(HOST)  # by index: GET, http, / ; :authority
_BROKEN = "COMPRESSION_ERROR/closed"
#: "\r\nx" as a Huffman code: 30, 30 and 7 bits, and five of padding.
_LINE_END = b"\xff\xff\xff\xf7\xff\xff\xff\xcf\x3f"


def _broken(name: str, rfc: str, block: bytes) -> Block:
    return raw(name, rfc, block, _BROKEN)


_HPACK: tuple[Block, ...] = (
    raw("fields by index", "7541 6.1", _GET, "200/open", plain()),
    raw("size of the table", "7541 6.3", b"\x20\x3f\xe1\x1f" + _GET, "200/open", plain()),
    raw(
        "entry used at once",
        "7541 6.2.1",
        _GET + literals([(b"x", b"y")], 0x40) + b"\xbe\xbe",
        "200/open",
        plain(b"x: y", b"x: y", b"x: y"),
    ),
    raw("second method by the index of its name", "9113 8.3.1", _GET + b"\x02" + string(b"POST"), MALFORMED),
    raw("field never to be indexed", "7541 6.2.3", _GET + literals([(b"x", b"y")], 0x10), "200/open", plain(b"x: y")),
    raw(
        "line end as a Huffman code",
        "9113 8.2.1",
        _GET + b"\x00" + string(b"x") + bytes((0x80 | len(_LINE_END),)) + _LINE_END,
        MALFORMED,
    ),
    raw("transfer encoding by index", "9113 8.2.2", _GET + b"\x0f\x2a" + string(b"chunked"), MALFORMED),
    raw("host by index that says something else", "9113 8.3.1", _GET + b"\x0f\x17" + string(b"b.example"), MALFORMED),
    _broken("index 0", "7541 6.1", _GET + b"\x80"),
    _broken("index of nothing", "7541 2.3.3", _GET + b"\xbe"),
    _broken("index far beyond", "7541 2.3.3", _GET + b"\xff\xff\xff\x7f"),
    _broken("name of nothing", "7541 2.3.3", _GET + b"\x7e" + string(b"y")),
    _broken("index that does not end", "7541 5.1", _GET + b"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
    _broken("block that is cut in a value", "7541 5.2", _GET + b"\x00" + string(b"x") + b"\x05y"),
    _broken("block that is cut in a name", "7541 5.2", _GET + b"\x00\x05x"),
    _broken("block that is cut behind a name", "7541 6.2.2", _GET + b"\x00" + string(b"x")),
    _broken("Huffman code with EOS", "7541 5.2", _GET + b"\x00" + string(b"x") + b"\x84\xff\xff\xff\xff"),
    _broken("Huffman code with long padding", "7541 5.2", _GET + b"\x00" + string(b"x") + b"\x82\xf8\xff"),
    _broken("Huffman code with padding of zeros", "7541 5.2", _GET + b"\x00" + string(b"x") + b"\x81\x18"),
    _broken("size of the table behind a field", "7541 4.2", _GET + b"\x20"),
    _broken("size of the table that is too large", "7541 6.3", integer(0x20, 5, 4097) + _GET),
    _broken("length of a string that wraps", "7541 5.1", _GET + b"\x00\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
)  # fmt: skip

ROWS: tuple[Block, ...] = _LENGTHS + _TRAILERS + _HPACK
