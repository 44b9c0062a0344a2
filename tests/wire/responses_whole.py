"""
Responses that reach the client: however they are framed, whatever fields they have, and interim ones before them.
"""

from __future__ import annotations

from tests.wire.answers import (
    CHUNKED,
    CHUNKS,
    EITHER,
    GET,
    GET_OLD,
    GET_OLD_KEPT,
    GET_TRAILERS,
    HEAD,
    HIDDEN,
    LENGTH,
    NONE,
    TE,
    UNTIL_CLOSE,
    Answer,
    Got,
    answer,
    hello,
    passed,
)


def _fields(
    name: str, rfc: str, *lines: bytes, kept: tuple[bytes, ...] | None = None, upstream: str = "kept"
) -> Answer:
    data = answer(b"A: b", *lines, LENGTH, body=b"hello")
    return passed(name, rfc, data, hello(b"A: b", *(lines if kept is None else kept)), upstream=upstream)


def _status(name: str, status: bytes) -> Answer:
    return passed(
        name, "9112 4", answer(LENGTH, start=b"HTTP/1.1 " + status, body=b"hello"), hello(status=status.rstrip())
    )


_WHOLE: tuple[Answer, ...] = (
    passed("length", "9112 6.2", answer(LENGTH, body=b"hello"), hello()),
    passed("length zero", "9112 6.2", answer(b"Content-Length: 0"), Got()),
    passed("length with space around", "9110 5.5", answer(b"Content-Length:  5 \t", body=b"hello"), hello()),
    passed(
        "length of 100000", "9112 6.2", answer(b"Content-Length: 100000", body=b"x" * 100000), Got(body=b"x" * 100000)
    ),
    passed(
        "body that looks like a response",
        "9112 6.2",
        answer(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        Got(body=HIDDEN),
    ),
    passed("chunked", "9112 7.1", answer(TE, body=CHUNKS), hello(framing=CHUNKED)),
    passed("chunked in capitals", "9112 7", answer(b"TRANSFER-ENCODING: CHUNKED", body=CHUNKS), hello(framing=CHUNKED)),
    passed("chunked and empty", "9112 7.1", answer(TE, body=b"0\r\n\r\n"), Got(framing=CHUNKED)),
    passed("chunks", "9112 7.1", answer(TE, body=b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), hello(framing=CHUNKED)),
    passed(
        "chunks with extensions",
        "9112 7.1.1",
        answer(TE, body=b"5;a=b;c\r\nhello\r\n0;d\r\n\r\n"),
        hello(framing=CHUNKED),
    ),
    passed(
        "chunks to HTTP 1.0",
        "9112 7.1",
        answer(TE, body=CHUNKS),
        hello(framing=UNTIL_CLOSE),
        ask=GET_OLD,
        end="closed",
    ),
    passed(
        "chunks to HTTP 1.0 kept alive",
        "9112 7.1",
        answer(TE, body=CHUNKS),
        hello(framing=UNTIL_CLOSE),
        ask=GET_OLD_KEPT,
        end="closed",
    ),
    passed("length to HTTP 1.0", "9112 6.2", answer(LENGTH, body=b"hello"), hello(), ask=GET_OLD, end="closed"),
    passed("length to HTTP 1.0 kept alive", "9112 9.3", answer(LENGTH, body=b"hello"), hello(), ask=GET_OLD_KEPT),
    passed(
        "trailers to one who wants them",
        "9110 6.5",
        answer(TE, body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"),
        Got(body=b"hello", framing=CHUNKED, trailers=((b"X-Sum: 1", b"X-Sum: 2"),)),
        ask=GET_TRAILERS,
    ),
    passed(
        "trailers to one who may want them",
        "9110 6.5.1",
        answer(TE, body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        Got(body=b"hello", framing=CHUNKED, trailers=((b"X-Sum: 1",), ())),
    ),
    passed(
        "trailers to HTTP 1.0",
        "9110 6.5.1",
        answer(TE, body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        hello(framing=UNTIL_CLOSE),
        ask=GET_OLD,
        end="closed",
    ),
    passed(
        "trailers that set framing are not passed on",
        "9110 6.5.1",
        answer(TE, body=b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\n\r\n"),
        hello(framing=CHUNKED),
        ask=GET_TRAILERS,
    ),
    passed(
        "until close",
        "9112 6.3",
        answer(body=b"hello"),
        hello(framing=EITHER),
        ending="close",
        upstream="closed",
        also=("200/closed",),
    ),
    passed(
        "until close and empty",
        "9112 6.3",
        answer(),
        Got(framing=EITHER),
        ending="close",
        upstream="closed",
        also=("200/closed",),
    ),
    passed(
        "until close to HTTP 1.0",
        "9112 6.3",
        answer(body=b"hello"),
        hello(framing=UNTIL_CLOSE),
        ask=GET_OLD,
        end="closed",
        ending="close",
        upstream="closed",
    ),
    passed(
        "until close from HTTP 1.0",
        "9112 6.3",
        answer(start=b"HTTP/1.0 200 OK", body=b"hello"),
        hello(framing=EITHER),
        ending="close",
        upstream="closed",
        also=("200/closed",),
    ),
    passed(
        "length from HTTP 1.0",
        "9112 9.3",
        answer(LENGTH, start=b"HTTP/1.0 200 OK", body=b"hello"),
        hello(),
        upstream="closed",
    ),
    passed(
        "length from HTTP 1.0 kept alive",
        "9112 9.3",
        answer(LENGTH, b"Connection: Keep-Alive", start=b"HTTP/1.0 200 OK", body=b"hello"),
        hello(),
        upstream="any",
    ),
    passed(
        "close announced", "9112 9.6", answer(LENGTH, b"Connection: close", body=b"hello"), hello(), upstream="closed"
    ),
    passed(
        "close announced and done",
        "9112 9.6",
        answer(LENGTH, b"Connection: Close", body=b"hello"),
        hello(),
        ending="close",
        upstream="closed",
    ),
    passed(
        "close not announced and done",
        "9112 9.6",
        answer(LENGTH, body=b"hello"),
        hello(),
        ending="close",
        upstream="closed",
    ),
    passed("head with a length", "9110 9.3.2", answer(LENGTH), Got(framing=NONE, length=b"5"), ask=HEAD),
    passed("head without a length", "9110 9.3.2", answer(b"A: b"), Got(fields=(b"A: b",), framing=NONE), ask=HEAD),
    passed("head with a coding", "9110 9.3.2", answer(TE), Got(framing=NONE), ask=HEAD),
    passed(
        "head not found",
        "9110 9.3.2",
        answer(LENGTH, start=b"HTTP/1.1 404 Not Found"),
        Got(b"404 Not Found", framing=NONE, length=b"5"),
        ask=HEAD,
    ),
    passed(
        "no content",
        "9110 15.3.5",
        answer(b"A: b", start=b"HTTP/1.1 204 No Content"),
        Got(b"204 No Content", (b"A: b",), framing=NONE),
    ),
    passed(
        "no content with a length",
        "9110 8.6",
        answer(b"Content-Length: 0", start=b"HTTP/1.1 204 No Content"),
        Got(b"204 No Content", framing=NONE),
        also=("502/open", "502/closed"),
        upstream="any",
    ),
    passed(
        "not modified",
        "9110 15.4.5",
        answer(b'ETag: "x"', start=b"HTTP/1.1 304 Not Modified"),
        Got(b"304 Not Modified", (b'ETag: "x"',), framing=NONE),
    ),
    passed(
        "not modified with a length",
        "9110 8.6",
        answer(LENGTH, start=b"HTTP/1.1 304 Not Modified"),
        Got(b"304 Not Modified", framing=NONE, length=b"5"),
    ),
    _status("created", b"201 Created"),
    _status("partial", b"206 Partial Content"),
    _status("moved", b"301 Moved Permanently"),
    _status("not found", b"404 Not Found"),
    _status("failed", b"500 Internal Server Error"),
    _status("unavailable", b"503 Service Unavailable"),
    _status("status that nobody knows", b"299 What Now"),
    _status("last status", b"599 End"),
    _status("reason that is empty", b"200 "),
    _status("reason not in ascii", b"200 Sch\xf6n"),
    _status("reason with tabs", b"200 a\tb  c"),
    passed(
        "no reason and no space", "9112 4", answer(LENGTH, start=b"HTTP/1.1 200", body=b"hello"), hello(status=b"200")
    ),
)

_FIELDS: tuple[Answer, ...] = (
    _fields("cookies", "6265 3", b"Set-Cookie: a=b; Path=/", b"Set-Cookie: c=d", b"X: y", b"set-cookie: e=f"),
    _fields("fields in order", "9110 5.3", b"Z: 1", b"B: 2", b"Z: 3", b"y: 4"),
    _fields("names as written", "9110 5.1", b"x-lower: 1", b"X-UPPER: 2"),
    _fields("value not in ascii", "9110 5.5", b"X: \xe9\xff"),
    _fields("space around values", "9110 5.5", b"X:y", b"Z: \t w \t", b"V:", kept=(b"X: y", b"Z: w", b"V: ")),
    _fields(
        "fields about a body", "9110 8", b"Content-Type: text/plain", b'ETag: W/"x"', b"Content-Encoding: identity"
    ),
    _fields("who and when", "9110 10.2.4", b"Date: Fri, 20 Nov 2026 18:00:00 GMT", b"Server: x/1"),
    _fields("range", "9110 14.4", b"Content-Range: bytes 0-4/9", b"Accept-Ranges: bytes"),
    _fields("name with underscore", "9110 5.1", b"X_Y: z"),
    _fields("150 fields", "9110 5.4", *(b"F%d: %d" % (number, number) for number in range(148))),
    _fields("value of 20000 bytes", "9110 5.4", b"X: " + b"v" * 20000),
    _fields("keep alive", "9110 7.6.1", b"Connection: keep-alive", b"Keep-Alive: timeout=5, max=100", kept=()),
    _fields("nominated fields", "9110 7.6.1", b"Connection: X-Hop, x-other", b"X-Hop: 1", b"X-OTHER: 2", kept=()),
    _fields("proxy connection", "9110 7.6.1", b"Proxy-Connection: keep-alive", kept=()),
    _fields("upgrade offered", "9110 7.8", b"Connection: Upgrade", b"Upgrade: h2,h2c", kept=()),
)

_LINK = (b"Link: </a.css>; rel=preload",)


def _interim(name: str, interim: bytes, *got: Got, ask: bytes = GET, end: str = "open") -> Answer:
    return passed(name, "9110 15.2", interim + answer(LENGTH, body=b"hello"), *got, hello(), ask=ask, end=end)


_INTERIM: tuple[Answer, ...] = (
    _interim(
        "early hints", answer(*_LINK, start=b"HTTP/1.1 103 Early Hints"), Got(b"103 Early Hints", _LINK, framing=NONE)
    ),
    _interim(
        "early hints twice",
        answer(*_LINK, start=b"HTTP/1.1 103 Early Hints") * 2,
        *[Got(b"103 Early Hints", _LINK, framing=NONE)] * 2,
    ),
    _interim("processing", answer(start=b"HTTP/1.1 102 Processing"), Got(b"102 Processing", framing=NONE)),
    _interim("interim status that nobody knows", answer(start=b"HTTP/1.1 199 Odd"), Got(b"199 Odd", framing=NONE)),
    _interim("early hints to HTTP 1.0", answer(*_LINK, start=b"HTTP/1.1 103 Early Hints"), ask=GET_OLD, end="closed"),
    Answer(
        "continue that nobody asked for",
        "9110 15.2.1",
        answer(start=b"HTTP/1.1 100 Continue") + answer(LENGTH, body=b"hello"),
        frozenset(("100+200/open", "200/open")),
    ),
    Answer(
        "interim ones without end",
        "9110 15.2",
        answer(*_LINK, start=b"HTTP/1.1 103 Early Hints") * 3,
        frozenset(("103+103+103+502/open", "103+103+103+502/closed", "103+103+103/closed")),
        ending="close",
        upstream="closed",
    ),
)

ROWS: tuple[Answer, ...] = _WHOLE + _FIELDS + _INTERIM
