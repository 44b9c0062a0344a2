"""
Answers of a backend that speaks HTTP/2, in raw HPACK, and what a client gets for them over HTTP/1.1 and over HTTP/2.

The outcome of a row is what a client of HTTP/1.1 sees, as in L{tests.wire.talk.Seen}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.wire.answers import CHUNKED, NONE, Got
from tests.wire.answers import GET as ASK
from tests.wire.answers import HEAD as ASK_HEAD
from tests.wire.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    PUSH_PROMISE,
    Fields,
    frame,
    headers,
    literals,
    reset,
    string,
)

#: What comes to a client when the backend makes no sense from the start; and when it stops making sense later.
BAD = frozenset(("502/open", "502/closed"))
CUT = frozenset(("200/cut", "200/reset"))

_OK = (b":status", b"200")
_FIVE = (b"content-length", b"5")
_SET = (b"a", b"b")


@dataclass(frozen=True, slots=True)
class Framed:
    """
    An answer and what must come of it.

    @ivar frames: makes what the backend sends, for a stream.
    @ivar outcomes: any of them.
    @ivar got: the responses that a client must get then, if it gets what the backend said.
    @ivar ask: what a client of HTTP/1.1 sends.
    """

    name: str
    rfc: str
    frames: Callable[[int], bytes]
    outcomes: frozenset[str]
    got: tuple[Got, ...] = ()
    ask: bytes = ASK


def _answer(fields: Fields, data: tuple[bytes, ...] = (), trailers: Fields | None = None) -> Callable[[int], bytes]:
    """HEADERS, DATA and trailers."""
    block = literals(fields)
    last = literals(trailers) if trailers is not None else None

    def frames(stream: int) -> bytes:
        out = headers(stream, block, not data and last is None)
        for number, piece in enumerate(data, 1):
            out += frame(DATA, END_STREAM if last is None and number == len(data) else 0, stream, piece)
        return out + (headers(stream, last, True) if last is not None else b"")

    return frames


def _raw(block: bytes) -> Callable[[int], bytes]:
    return lambda stream: headers(stream, block, True)


def _passed(name: str, rfc: str, frames: Callable[[int], bytes], *got: Got, ask: bytes = ASK) -> Framed:
    statuses = "+".join(one.status[:3].decode() for one in got)
    return Framed(name, rfc, frames, frozenset((statuses + "/open",)), got, ask)


def _bad(name: str, rfc: str, *fields: tuple[bytes, bytes], data: tuple[bytes, ...] = (b"hello",)) -> Framed:
    return Framed(name, rfc, _answer(fields, data), BAD)


def _field(name: str, rfc: str, field: bytes, value: bytes) -> Framed:
    return _bad(name, rfc, _OK, _SET, (field, value))


def _status(name: str, value: bytes) -> Framed:
    return _bad(name, "9113 8.3.2", (b":status", value))


def _cut(name: str, rfc: str, frames: Callable[[int], bytes]) -> Framed:
    # The head may not have been sent yet when the rest turns out to be wrong.
    return Framed(name, rfc, frames, CUT | BAD)


def _trailer(name: str, rfc: str, field: bytes, value: bytes) -> Framed:
    return _cut(name, rfc, _answer([_OK], (b"hello",), [_SET, (field, value)]))


_WHOLE: tuple[Framed, ...] = (
    _passed("length", "9113 8.1", _answer([_OK, _SET, _FIVE], (b"hello",)), Got(b"200 OK", (b"a: b",), b"hello")),
    _passed(
        "no length", "9113 8.1", _answer([_OK, _SET], (b"hel", b"lo")), Got(b"200 OK", (b"a: b",), b"hello", CHUNKED)
    ),
    _passed("no body", "9113 8.1", _answer([_OK, _SET]), Got(b"200 OK", (b"a: b",))),
    _passed(
        "trailers",
        "9113 8.1",
        _answer([_OK], (b"hello",), [(b"x-sum", b"1")]),
        Got(b"200 OK", (), b"hello", CHUNKED, trailers=((), (b"x-sum: 1",))),
    ),
    _passed(
        "trailers that must not go on",
        "9110 6.5.1",
        _answer([_OK], (b"hello",), [(b"content-length", b"9"), (b"set-cookie", b"a=b"), (b"x-sum", b"1")]),
        Got(b"200 OK", (), b"hello", CHUNKED, trailers=((), (b"x-sum: 1",))),
    ),
    _passed(
        "an informational one before",
        "9113 8.1",
        lambda stream: headers(stream, literals([(b":status", b"103"), (b"link", b"</a>")]), False)
        + _answer([_OK, _FIVE], (b"hello",))(stream),
        Got(b"103 Early Hints", (b"link: </a>",), framing=NONE),
        Got(b"200 OK", (), b"hello"),
    ),
    _passed(
        "cookies", "9113 8.2.3", _answer([_OK, (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]),
        Got(b"200 OK", (b"set-cookie: a=b", b"set-cookie: c=d")),
    ),
    _passed(
        "value not in ascii", "9110 5.5", _answer([_OK, (b"x", b"\xe9\xff")]), Got(b"200 OK", (b"x: \xe9\xff",))
    ),
    _passed(
        "204", "9110 15.3.5", _answer([(b":status", b"204"), _SET]),
        Got(b"204 No Content", (b"a: b",), framing=NONE),
    ),
    _passed(
        "304 with a length", "9110 15.4.5", _answer([(b":status", b"304"), _FIVE]),
        Got(b"304 Not Modified", (), framing=NONE, length=b"5"),
    ),
    _passed(
        "head", "9110 9.3.2", _answer([_OK, _FIVE]), Got(b"200 OK", (), framing=NONE, length=b"5"), ask=ASK_HEAD
    ),
    _passed(
        "block in pieces",
        "9113 6.10",
        lambda stream: headers(stream, (block := literals([_OK, _SET, _FIVE]))[:3], False, 0)
        + frame(CONTINUATION, 0, stream, block[3:9])
        + frame(CONTINUATION, END_HEADERS, stream, block[9:])
        + frame(DATA, END_STREAM, stream, b"hello"),
        Got(b"200 OK", (b"a: b",), b"hello"),
    ),
)  # fmt: skip

_BROKEN: tuple[Framed, ...] = (
    _bad("no status", "9113 8.3.2", _SET),
    _bad("status twice", "9113 8.3.2", _OK, _OK),
    _bad("two statuses", "9113 8.3.2", _OK, (b":status", b"404")),
    _bad("status behind a field", "9113 8.3", _SET, _OK),
    _bad("pseudo field of requests", "9113 8.3", _OK, (b":path", b"/")),
    _bad("pseudo field nobody knows", "9113 8.3", _OK, (b":foo", b"bar")),
    _status("status that is empty", b""),
    _status("status of two digits", b"20"),
    _status("status of four digits", b"2000"),
    _status("status with a sign", b"+20"),
    _status("status with a space", b"200 "),
    _status("status with a reason", b"200 OK"),
    _status("status with a field", b"200\r\nset-cookie: a=b"),
    _status("status of letters", b"abc"),
    _status("status 099", b"099"),
    _status("status 600", b"600"),
    _status("status 101", b"101"),
    _status("status of digits that are not ascii", b"\xd9\xa2\xd9\xa0\xd9\xa0"),
    Framed("informational one that ends", "9113 8.1", _answer([(b":status", b"103")]), BAD),
    _field("value with a field", "9113 8.2.1", b"x", b"y\r\nset-cookie: a=b"),
    _field("value with a whole response", "9113 8.2.1", b"x", b"y\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    _field("value with a line feed", "9113 8.2.1", b"x", b"y\nset-cookie: a=b"),
    _field("value with CR", "9113 8.2.1", b"x", b"y\rset-cookie: a=b"),
    _field("value with a line end behind", "9113 8.2.1", b"x", b"y\r\n"),
    _field("value with NUL", "9113 8.2.1", b"x", b"y\0z"),
    _field("value with an escape character", "9110 5.5", b"x", b"\x1b[2J"),
    _field("value with space before", "9113 8.2.1", b"x", b" y"),
    _field("value with space behind", "9113 8.2.1", b"x", b"y "),
    _field("location with a line end", "9113 8.2.1", b"location", b"/a\r\nset-cookie: a=b"),
    _field("cookie with a line end", "9113 8.2.1", b"set-cookie", b"a=b\r\nx: y"),
    _field("name in capitals", "9113 8.2.1", b"X-A", b"1"),
    _field("name that is empty", "9113 8.2.1", b"", b"1"),
    _field("name with a colon", "9113 8.2.1", b"set-cookie: a=b; x", b"1"),
    _field("name with a line end", "9113 8.2.1", b"x\r\nset-cookie", b"a=b"),
    _field("name with a space behind", "9113 8.2.1", b"content-length ", b"1"),
    _field("name with NUL", "9113 8.2.1", b"x\0", b"1"),
    _field("name not in ascii", "9113 8.2.1", b"x\xe9", b"1"),
    _field("transfer encoding", "9113 8.2.2", b"transfer-encoding", b"chunked"),
    _field("connection", "9113 8.2.2", b"connection", b"close"),
    _field("keep alive", "9113 8.2.2", b"keep-alive", b"timeout=5"),
    _field("proxy connection", "9113 8.2.2", b"proxy-connection", b"close"),
    _field("upgrade", "9113 8.2.2", b"upgrade", b"websocket"),
    _bad("length twice alike", "9110 8.6", _OK, _FIVE, _FIVE),
    _bad("length twice unlike", "9110 8.6", _OK, _FIVE, (b"content-length", b"6")),
    _bad("length list", "9110 8.6", _OK, (b"content-length", b"5, 5")),
    _bad("length with plus", "9110 8.6", _OK, (b"content-length", b"+5")),
    _bad("length hexadecimal", "9110 8.6", _OK, (b"content-length", b"0x5")),
    _bad("length empty", "9110 8.6", _OK, (b"content-length", b"")),
    _bad("length with a field", "9110 8.6", _OK, (b"content-length", b"5\r\nx: y")),
    _bad("length and no body", "9113 8.1.1", _OK, _FIVE, data=()),
    _bad("list over the limit", "9113 10.5.1", _OK, *((b"f", b"v" * 120) for _ in range(520))),
    Framed("index of nothing", "7541 2.3.3", _raw(b"\x88\xbe"), BAD),
    Framed("index 0", "7541 6.1", _raw(b"\x88\x80"), BAD),
    Framed("block that is cut", "7541 5.2", _raw(b"\x88\x00" + string(b"x") + b"\x05y"), BAD),
    Framed("Huffman code with EOS", "7541 5.2", _raw(b"\x88\x00" + string(b"x") + b"\x84\xff\xff\xff\xff"), BAD),
    Framed("size of the table behind a field", "7541 4.2", _raw(b"\x88\x20"), BAD),
    Framed("data before the head", "9113 8.1", lambda stream: frame(DATA, END_STREAM, stream, b"hello"), BAD),
    Framed("reset", "9113 8.1", lambda stream: reset(stream, 2), BAD),
    Framed(
        "promise",
        "9113 8.4",
        lambda stream: frame(PUSH_PROMISE, END_HEADERS, stream, b"\0\0\0\2\x82\x86\x84\x01" + string(b"a.example")),
        BAD,
    ),
    Framed("HTTP/1.1", "9113 3.4", lambda _stream: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", BAD),
)  # fmt: skip

_LATER: tuple[Framed, ...] = (
    _cut("body shorter than its length", "9113 8.1.1", _answer([_OK, (b"content-length", b"9")], (b"hello",))),
    _cut("body longer than its length", "9113 8.1.1", _answer([_OK, (b"content-length", b"3")], (b"hello",))),
    _cut(
        "body that is reset",
        "9113 8.1",
        lambda stream: (
            headers(stream, literals([_OK, _FIVE]), False) + frame(DATA, 0, stream, b"he") + reset(stream, 8)
        ),
    ),
    _cut(
        "body without length that is reset",
        "9113 8.1",
        lambda stream: headers(stream, literals([_OK]), False) + frame(DATA, 0, stream, b"he") + reset(stream, 8),
    ),
    _cut(
        "a second head",
        "9113 8.1",
        lambda stream: headers(stream, literals([_OK]), False) + _answer([_OK, _FIVE], (b"hello",))(stream),
    ),
    _trailer("trailer that is a status", "9113 8.1", b":status", b"200"),
    _trailer("trailer in capitals", "9113 8.2.1", b"X-Sum", b"1"),
    _trailer("trailer with a line end", "9113 8.2.1", b"x-sum", b"1\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n"),
    _trailer("trailer with a line end in its name", "9113 8.2.1", b"x\r\ny", b"1"),
    _trailer("trailer that is a transfer encoding", "9113 8.2.2", b"transfer-encoding", b"chunked"),
)

ROWS: tuple[Framed, ...] = _WHOLE + _BROKEN + _LATER
