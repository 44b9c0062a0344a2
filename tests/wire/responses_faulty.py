"""
Responses that are broken in their head or later, cut, too long, or too early.
"""

from __future__ import annotations

from tests.wire.answers import (
    CHUNKED,
    CHUNKS,
    GET,
    GET_OLD,
    GET_UPGRADE,
    HEAD,
    HIDDEN,
    LENGTH,
    NONE,
    POST_EARLY,
    TE,
    Answer,
    Got,
    answer,
    hello,
    passed,
)


def _broken(name: str, rfc: str, data: bytes, *, ask: bytes = GET, ending: str = "") -> Answer:
    return Answer(name, rfc, data, frozenset(("502/open", "502/closed")), ask=ask, ending=ending, upstream="closed")


def _start(name: str, start: bytes) -> Answer:
    return _broken(name, "9112 4", answer(LENGTH, start=start, body=b"hello"))


def _line(name: str, rfc: str, line: bytes) -> Answer:
    return _broken(name, rfc, answer(b"A: b", line, LENGTH, body=b"hello"))


def _framing(name: str, *lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> Answer:
    return _broken(name, "9112 6.3", answer(*lines, start=start, body=b"hello"))


_BROKEN: tuple[Answer, ...] = (
    _start("status of letters", b"HTTP/1.1 abc OK"),
    _start("status of two digits", b"HTTP/1.1 20 OK"),
    _start("status of four digits", b"HTTP/1.1 2000 OK"),
    _start("status 000", b"HTTP/1.1 000 OK"),
    _start("status 099", b"HTTP/1.1 099 OK"),
    _start("status 600", b"HTTP/1.1 600 OK"),
    _start("status missing", b"HTTP/1.1 OK"),
    _start("status with a sign", b"HTTP/1.1 +20 OK"),
    _start("two spaces before the status", b"HTTP/1.1  200 OK"),
    _start("tab before the status", b"HTTP/1.1\t200 OK"),
    _start("reason with NUL", b"HTTP/1.1 200 O\x00K"),
    _start("reason with an escape character", b"HTTP/1.1 200 \x1b[2J"),
    _start("reason with bare CR", b"HTTP/1.1 200 O\rK"),
    _start("version 2.0", b"HTTP/2.0 200 OK"),
    _start("version 0.9", b"HTTP/0.9 200 OK"),
    _start("version in small letters", b"http/1.1 200 OK"),
    _start("another protocol", b"ICY 200 OK"),
    _start("space before the version", b" HTTP/1.1 200 OK"),
    _broken("no head at all", "9112 4", b"<html>hello</html>\r\n\r\n", ending="close"),
    _broken("greeting of SSH", "9112 4", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    _broken("alert of TLS", "9112 4", b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"),
    _broken("lines ended by bare LF", "9112 2.2", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    _broken("head ended by bare LF", "9112 2.2", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello"),
    _line("field folded", "9112 5.2", b"X: y\r\n z"),
    _line("space before the colon", "9112 5.1", b"X : y"),
    _line("no colon", "9112 5", b"hidden"),
    _line("no name", "9110 5.1", b": y"),
    _line("name with NUL", "9110 5.1", b"X\x00: y"),
    _line("name not in ascii", "9110 5.1", b"X\xe9: y"),
    _line("value with NUL", "9110 5.5", b"X: y\x00z"),
    _line("value with an escape character", "9110 5.5", b"X: \x1b[2J"),
    _line("value with bare CR", "9112 2.2", b"X: y\rSet-Cookie: a=b"),
    _line("value with bare LF", "9112 2.2", b"X: y\nSet-Cookie: a=b"),
    _framing("length and coding", LENGTH, TE),
    _framing("coding and length", TE, LENGTH),
    _framing("length twice alike", LENGTH, LENGTH),
    _framing("length twice unlike", LENGTH, b"Content-Length: 6"),
    _framing("length list unlike", b"Content-Length: 5, 6"),
    _framing("length with plus", b"Content-Length: +5"),
    _framing("length with minus", b"Content-Length: -5"),
    _framing("length hexadecimal", b"Content-Length: 0x5"),
    _framing("length empty", b"Content-Length:"),
    _framing("length of letters", b"Content-Length: five"),
    _framing("length that wraps 64 bits", b"Content-Length: 18446744073709551621"),
    _framing("coding gzip", b"Transfer-Encoding: gzip"),
    _framing("coding gzip and chunked", b"Transfer-Encoding: gzip, chunked"),
    _framing("coding chunked twice", b"Transfer-Encoding: chunked, chunked"),
    _framing("coding in two fields", TE, b"Transfer-Encoding: identity"),
    _framing("coding behind vertical tab", b"Transfer-Encoding: \x0bchunked"),
    _framing("coding from HTTP 1.0", TE, start=b"HTTP/1.0 200 OK"),
    _broken("head of 70000 bytes", "9110 5.4", answer(b"X: " + b"v" * 70000, LENGTH, body=b"hello")),
    _broken("head without end", "9110 5.4", answer(b"X: y")[:-2] + b"Z: " + b"v" * 70000),
    _broken("300 fields", "9110 5.4", answer(*(b"F: v" for _ in range(300)), LENGTH, body=b"hello")),
    _broken("head cut by the end", "9112 8", answer(LENGTH)[:-4], ending="close"),
    _broken("head cut by a reset", "9112 8", answer(LENGTH)[:-4], ending="reset"),
    _broken(
        "interim one broken",
        "9110 15.2",
        answer(b"X : y", start=b"HTTP/1.1 103 Early Hints") + answer(LENGTH, body=b"hello"),
    ),
    _broken(
        "switch that nobody asked for",
        "9110 15.2.2",
        answer(b"Connection: upgrade", b"Upgrade: websocket", start=b"HTTP/1.1 101 Switching Protocols"),
    ),
    _broken(
        "switch for HEAD",
        "9110 15.2.2",
        answer(b"Connection: upgrade", b"Upgrade: x", start=b"HTTP/1.1 101 Switching Protocols"),
        ask=HEAD,
    ),
    passed(
        "upgrade that was not granted",
        "9110 7.8",
        answer(LENGTH, start=b"HTTP/1.1 403 Forbidden", body=b"hello"),
        hello(status=b"403 Forbidden"),
        ask=GET_UPGRADE,
    ),
)


def _cut(
    name: str, data: bytes, *, ask: bytes = GET, ending: str = "", outcomes: tuple[str, ...] = ("200/cut",)
) -> Answer:
    # A proxy that has not passed the head on yet may still say what happened.
    allowed = frozenset((*outcomes, "502/open", "502/closed"))
    return Answer(name, "9112 8", data, allowed, ask=ask, ending=ending, upstream="closed", varies=True)


def _cut_chunks(name: str, chunks: bytes, ending: str = "") -> Answer:
    return _cut(name, answer(TE, body=chunks), ending=ending)


_CUT: tuple[Answer, ...] = (
    _cut("body cut by the end", answer(b"Content-Length: 9", body=b"hello"), ending="close"),
    _cut("body cut by a reset", answer(b"Content-Length: 9", body=b"hello"), ending="reset"),
    _cut("body of nothing cut by the end", answer(b"Content-Length: 9"), ending="close"),
    _cut("body cut by the end to HTTP 1.0", answer(b"Content-Length: 9", body=b"hello"), ask=GET_OLD, ending="close"),
    _cut("until close cut by a reset", answer(body=b"hello"), ending="reset", outcomes=("200/cut", "200/reset")),
    _cut(
        "until close cut by a reset to HTTP 1.0",
        answer(body=b"hello"),
        ask=GET_OLD,
        ending="reset",
        outcomes=("200/reset",),
    ),
    _cut_chunks("chunks cut by the end", b"5\r\nhello\r\n", "close"),
    _cut_chunks("chunks cut by a reset", b"5\r\nhello\r\n", "reset"),
    _cut_chunks("chunk cut by the end", b"9\r\nhello", "close"),
    _cut_chunks("chunk size cut by the end", b"5\r\nhello\r\n0", "close"),
    _cut_chunks("last chunk cut by the end", b"5\r\nhello\r\n0\r\n", "close"),
    _cut_chunks("trailers cut by the end", b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n", "close"),
    _cut(
        "chunks cut by the end to HTTP 1.0",
        answer(TE, body=b"5\r\nhello\r\n"),
        ask=GET_OLD,
        ending="close",
        outcomes=("200/reset",),
    ),
    _cut("bad chunk to HTTP 1.0", answer(TE, body=b"5\r\nhello\r\nx\r\n"), ask=GET_OLD, outcomes=("200/reset",)),
    _cut_chunks("chunk size of letters", b"5\r\nhello\r\nxyz\r\n"),
    _cut_chunks("chunk size empty", b"5\r\nhello\r\n\r\n\r\n"),
    _cut_chunks("chunk size with minus", b"5\r\nhello\r\n-1\r\nx\r\n0\r\n\r\n"),
    _cut_chunks("chunk size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _cut_chunks("chunk size that wraps 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    _cut_chunks("chunk size ended by bare LF", b"5\nhello\r\n0\r\n\r\n"),
    _cut_chunks("chunk size before space", b"5 \r\nhello\r\n0\r\n\r\n"),
    _cut_chunks("chunk without an end", b"5\r\nhello0\r\n\r\n"),
    _cut_chunks("chunk longer than its size", b"3\r\nhello\r\n0\r\n\r\n"),
    _cut_chunks("extension with NUL", b"5;\x00\r\nhello\r\n0\r\n\r\n"),
    _cut_chunks("trailer folded", b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n"),
    _cut_chunks("trailer with bare LF", b"5\r\nhello\r\n0\r\nA: b\nC: d\r\n\r\n"),
    _cut_chunks("trailers without end", b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 6000),
)


def _extra(name: str, data: bytes, got: Got, ask: bytes = GET) -> Answer:
    return passed(name, "9112 6.3", data, got, ask=ask, upstream="closed")


_EXTRA: tuple[Answer, ...] = (
    _extra("bytes behind a length", answer(LENGTH, body=b"hello more"), hello()),
    _extra("empty line behind a length", answer(LENGTH, body=b"hello\r\n"), hello()),
    _extra("response behind a response", answer(LENGTH, body=b"hello") + HIDDEN, hello()),
    _extra("response behind chunks", answer(TE, body=CHUNKS) + HIDDEN, hello(framing=CHUNKED)),
    _extra(
        "body of no content",
        answer(start=b"HTTP/1.1 204 No Content", body=b"hello"),
        Got(b"204 No Content", framing=NONE),
    ),
    _extra(
        "body of not modified",
        answer(LENGTH, start=b"HTTP/1.1 304 Not Modified", body=b"hello"),
        Got(b"304 Not Modified", framing=NONE, length=b"5"),
    ),
    _extra("body for HEAD", answer(LENGTH, body=b"hello"), Got(framing=NONE, length=b"5"), ask=HEAD),
    _extra("response behind one for HEAD", answer(LENGTH) + HIDDEN, Got(framing=NONE, length=b"5"), ask=HEAD),
)

_EARLY: tuple[Answer, ...] = (
    Answer(
        "answer before the body",
        "9112 9.3",
        answer(LENGTH, start=b"HTTP/1.1 403 Forbidden", body=b"hello"),
        frozenset(("403/closed", "403/open")),
        (hello(status=b"403 Forbidden"),),
        ask=POST_EARLY,
        then=(b"hello",),
        upstream="any",
    ),
    Answer(
        "answer before the body and the end",
        "9112 9.6",
        answer(LENGTH, b"Connection: close", start=b"HTTP/1.1 413 Content Too Large", body=b"hello"),
        frozenset(("413/closed", "413/open")),
        (hello(status=b"413 Content Too Large"),),
        ask=POST_EARLY,
        then=(b"hello",),
        ending="close",
        upstream="closed",
    ),
    Answer(
        "bad answer before the body",
        "9112 4",
        b"nonsense\r\n\r\n",
        frozenset(("502/closed", "502/open")),
        ask=POST_EARLY,
        then=(b"hello",),
        upstream="closed",
    ),
)

ROWS: tuple[Answer, ...] = _BROKEN + _CUT + _EXTRA + _EARLY
