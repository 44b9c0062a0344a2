"""
The table of raw responses: what the backend sends, what the client must get of it, and what becomes of the upstream.

A malformed head is a 502. A body that turns out to be broken or cut, when its head is long gone to the client, can
only be shown by cutting the client's connection, so that a part is never taken for the whole. In both cases, and
whenever there is a byte too many, that upstream is not used again.
"""

from __future__ import annotations

from tests.wire.answers import (
    GET,
    GET_OLD,
    GET_OLD_KEPT,
    GET_TRAILERS,
    GET_UPGRADE,
    HEAD,
    POST_EARLY,
    Answer,
    Got,
    answer,
)

_LENGTH = b"Content-Length: 5"
_TE = b"Transfer-Encoding: chunked"
_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
_NONE = frozenset(("none",))
_CHUNKED = frozenset(("chunked",))
_UNTIL_CLOSE = frozenset(("close",))
_EITHER = frozenset(("chunked", "close"))
#: Another complete response, which nobody asked for.
_HIDDEN = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden"


def passed(
    name: str,
    rfc: str,
    data: bytes,
    *got: Got,
    ask: bytes = GET,
    end: str = "open",
    ending: str = "",
    upstream: str = "kept",
    also: tuple[str, ...] = (),
) -> Answer:
    """A row whose response must reach the client whole."""
    statuses = "+".join(one.status[:3].decode("ascii") for one in got)
    return Answer(name, rfc, data, frozenset((f"{statuses}/{end}", *also)), got, ask, (), ending, upstream)


def _hello(*fields: bytes, status: bytes = b"200 OK", framing: frozenset[str] = frozenset(("length",))) -> Got:
    return Got(status, fields, b"hello", framing)


def _fields(
    name: str, rfc: str, *lines: bytes, kept: tuple[bytes, ...] | None = None, upstream: str = "kept"
) -> Answer:
    data = answer(b"A: b", *lines, _LENGTH, body=b"hello")
    return passed(name, rfc, data, _hello(b"A: b", *(lines if kept is None else kept)), upstream=upstream)


def _status(name: str, status: bytes) -> Answer:
    return passed(
        name, "9112 4", answer(_LENGTH, start=b"HTTP/1.1 " + status, body=b"hello"), _hello(status=status.rstrip())
    )


_WHOLE: tuple[Answer, ...] = (
    passed("length", "9112 6.2", answer(_LENGTH, body=b"hello"), _hello()),
    passed("length zero", "9112 6.2", answer(b"Content-Length: 0"), Got()),
    passed("length with space around", "9110 5.5", answer(b"Content-Length:  5 \t", body=b"hello"), _hello()),
    passed(
        "length of 100000", "9112 6.2", answer(b"Content-Length: 100000", body=b"x" * 100000), Got(body=b"x" * 100000)
    ),
    passed(
        "body that looks like a response",
        "9112 6.2",
        answer(b"Content-Length: %d" % len(_HIDDEN), body=_HIDDEN),
        Got(body=_HIDDEN),
    ),
    passed("chunked", "9112 7.1", answer(_TE, body=_CHUNKS), _hello(framing=_CHUNKED)),
    passed(
        "chunked in capitals", "9112 7", answer(b"TRANSFER-ENCODING: CHUNKED", body=_CHUNKS), _hello(framing=_CHUNKED)
    ),
    passed("chunked and empty", "9112 7.1", answer(_TE, body=b"0\r\n\r\n"), Got(framing=_CHUNKED)),
    passed("chunks", "9112 7.1", answer(_TE, body=b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), _hello(framing=_CHUNKED)),
    passed(
        "chunks with extensions",
        "9112 7.1.1",
        answer(_TE, body=b"5;a=b;c\r\nhello\r\n0;d\r\n\r\n"),
        _hello(framing=_CHUNKED),
    ),
    passed(
        "chunks to HTTP 1.0",
        "9112 7.1",
        answer(_TE, body=_CHUNKS),
        _hello(framing=_UNTIL_CLOSE),
        ask=GET_OLD,
        end="closed",
    ),
    passed(
        "chunks to HTTP 1.0 kept alive",
        "9112 7.1",
        answer(_TE, body=_CHUNKS),
        _hello(framing=_UNTIL_CLOSE),
        ask=GET_OLD_KEPT,
        end="closed",
    ),
    passed("length to HTTP 1.0", "9112 6.2", answer(_LENGTH, body=b"hello"), _hello(), ask=GET_OLD, end="closed"),
    passed("length to HTTP 1.0 kept alive", "9112 9.3", answer(_LENGTH, body=b"hello"), _hello(), ask=GET_OLD_KEPT),
    passed(
        "trailers to one who wants them",
        "9110 6.5",
        answer(_TE, body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"),
        Got(body=b"hello", framing=_CHUNKED, trailers=((b"X-Sum: 1", b"X-Sum: 2"),)),
        ask=GET_TRAILERS,
    ),
    passed(
        "trailers to one who may want them",
        "9110 6.5.1",
        answer(_TE, body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        Got(body=b"hello", framing=_CHUNKED, trailers=((b"X-Sum: 1",), ())),
    ),
    passed(
        "trailers to HTTP 1.0",
        "9110 6.5.1",
        answer(_TE, body=b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        _hello(framing=_UNTIL_CLOSE),
        ask=GET_OLD,
        end="closed",
    ),
    passed(
        "trailers that set framing are not passed on",
        "9110 6.5.1",
        answer(_TE, body=b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\n\r\n"),
        _hello(framing=_CHUNKED),
        ask=GET_TRAILERS,
    ),
    passed(
        "until close",
        "9112 6.3",
        answer(body=b"hello"),
        _hello(framing=_EITHER),
        ending="close",
        upstream="closed",
        also=("200/closed",),
    ),
    passed(
        "until close and empty",
        "9112 6.3",
        answer(),
        Got(framing=_EITHER),
        ending="close",
        upstream="closed",
        also=("200/closed",),
    ),
    passed(
        "until close to HTTP 1.0",
        "9112 6.3",
        answer(body=b"hello"),
        _hello(framing=_UNTIL_CLOSE),
        ask=GET_OLD,
        end="closed",
        ending="close",
        upstream="closed",
    ),
    passed(
        "until close from HTTP 1.0",
        "9112 6.3",
        answer(start=b"HTTP/1.0 200 OK", body=b"hello"),
        _hello(framing=_EITHER),
        ending="close",
        upstream="closed",
        also=("200/closed",),
    ),
    passed(
        "length from HTTP 1.0",
        "9112 9.3",
        answer(_LENGTH, start=b"HTTP/1.0 200 OK", body=b"hello"),
        _hello(),
        upstream="closed",
    ),
    passed(
        "length from HTTP 1.0 kept alive",
        "9112 9.3",
        answer(_LENGTH, b"Connection: Keep-Alive", start=b"HTTP/1.0 200 OK", body=b"hello"),
        _hello(),
        upstream="any",
    ),
    passed(
        "close announced", "9112 9.6", answer(_LENGTH, b"Connection: close", body=b"hello"), _hello(), upstream="closed"
    ),
    passed(
        "close announced and done",
        "9112 9.6",
        answer(_LENGTH, b"Connection: Close", body=b"hello"),
        _hello(),
        ending="close",
        upstream="closed",
    ),
    passed(
        "close not announced and done",
        "9112 9.6",
        answer(_LENGTH, body=b"hello"),
        _hello(),
        ending="close",
        upstream="closed",
    ),
    passed("head with a length", "9110 9.3.2", answer(_LENGTH), Got(framing=_NONE, length=b"5"), ask=HEAD),
    passed("head without a length", "9110 9.3.2", answer(b"A: b"), Got(fields=(b"A: b",), framing=_NONE), ask=HEAD),
    passed("head with a coding", "9110 9.3.2", answer(_TE), Got(framing=_NONE), ask=HEAD),
    passed(
        "head not found",
        "9110 9.3.2",
        answer(_LENGTH, start=b"HTTP/1.1 404 Not Found"),
        Got(b"404 Not Found", framing=_NONE, length=b"5"),
        ask=HEAD,
    ),
    passed(
        "no content",
        "9110 15.3.5",
        answer(b"A: b", start=b"HTTP/1.1 204 No Content"),
        Got(b"204 No Content", (b"A: b",), framing=_NONE),
    ),
    passed(
        "no content with a length",
        "9110 8.6",
        answer(b"Content-Length: 0", start=b"HTTP/1.1 204 No Content"),
        Got(b"204 No Content", framing=_NONE),
        also=("502/open", "502/closed"),
        upstream="any",
    ),
    passed(
        "not modified",
        "9110 15.4.5",
        answer(b'ETag: "x"', start=b"HTTP/1.1 304 Not Modified"),
        Got(b"304 Not Modified", (b'ETag: "x"',), framing=_NONE),
    ),
    passed(
        "not modified with a length",
        "9110 8.6",
        answer(_LENGTH, start=b"HTTP/1.1 304 Not Modified"),
        Got(b"304 Not Modified", framing=_NONE, length=b"5"),
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
        "no reason and no space", "9112 4", answer(_LENGTH, start=b"HTTP/1.1 200", body=b"hello"), _hello(status=b"200")
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
    return passed(name, "9110 15.2", interim + answer(_LENGTH, body=b"hello"), *got, _hello(), ask=ask, end=end)


_INTERIM: tuple[Answer, ...] = (
    _interim(
        "early hints", answer(*_LINK, start=b"HTTP/1.1 103 Early Hints"), Got(b"103 Early Hints", _LINK, framing=_NONE)
    ),
    _interim(
        "early hints twice",
        answer(*_LINK, start=b"HTTP/1.1 103 Early Hints") * 2,
        *[Got(b"103 Early Hints", _LINK, framing=_NONE)] * 2,
    ),
    _interim("processing", answer(start=b"HTTP/1.1 102 Processing"), Got(b"102 Processing", framing=_NONE)),
    _interim("interim status that nobody knows", answer(start=b"HTTP/1.1 199 Odd"), Got(b"199 Odd", framing=_NONE)),
    _interim("early hints to HTTP 1.0", answer(*_LINK, start=b"HTTP/1.1 103 Early Hints"), ask=GET_OLD, end="closed"),
    Answer(
        "continue that nobody asked for",
        "9110 15.2.1",
        answer(start=b"HTTP/1.1 100 Continue") + answer(_LENGTH, body=b"hello"),
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


def _broken(name: str, rfc: str, data: bytes, *, ask: bytes = GET, ending: str = "") -> Answer:
    return Answer(name, rfc, data, frozenset(("502/open", "502/closed")), ask=ask, ending=ending, upstream="closed")


def _start(name: str, start: bytes) -> Answer:
    return _broken(name, "9112 4", answer(_LENGTH, start=start, body=b"hello"))


def _line(name: str, rfc: str, line: bytes) -> Answer:
    return _broken(name, rfc, answer(b"A: b", line, _LENGTH, body=b"hello"))


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
    _framing("length and coding", _LENGTH, _TE),
    _framing("coding and length", _TE, _LENGTH),
    _framing("length twice alike", _LENGTH, _LENGTH),
    _framing("length twice unlike", _LENGTH, b"Content-Length: 6"),
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
    _framing("coding in two fields", _TE, b"Transfer-Encoding: identity"),
    _framing("coding behind vertical tab", b"Transfer-Encoding: \x0bchunked"),
    _framing("coding from HTTP 1.0", _TE, start=b"HTTP/1.0 200 OK"),
    _broken("head of 70000 bytes", "9110 5.4", answer(b"X: " + b"v" * 70000, _LENGTH, body=b"hello")),
    _broken("head without end", "9110 5.4", answer(b"X: y")[:-2] + b"Z: " + b"v" * 70000),
    _broken("300 fields", "9110 5.4", answer(*(b"F: v" for _ in range(300)), _LENGTH, body=b"hello")),
    _broken("head cut by the end", "9112 8", answer(_LENGTH)[:-4], ending="close"),
    _broken("head cut by a reset", "9112 8", answer(_LENGTH)[:-4], ending="reset"),
    _broken(
        "interim one broken",
        "9110 15.2",
        answer(b"X : y", start=b"HTTP/1.1 103 Early Hints") + answer(_LENGTH, body=b"hello"),
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
        answer(_LENGTH, start=b"HTTP/1.1 403 Forbidden", body=b"hello"),
        _hello(status=b"403 Forbidden"),
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
    return _cut(name, answer(_TE, body=chunks), ending=ending)


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
        answer(_TE, body=b"5\r\nhello\r\n"),
        ask=GET_OLD,
        ending="close",
        outcomes=("200/reset",),
    ),
    _cut("bad chunk to HTTP 1.0", answer(_TE, body=b"5\r\nhello\r\nx\r\n"), ask=GET_OLD, outcomes=("200/reset",)),
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
    _extra("bytes behind a length", answer(_LENGTH, body=b"hello more"), _hello()),
    _extra("empty line behind a length", answer(_LENGTH, body=b"hello\r\n"), _hello()),
    _extra("response behind a response", answer(_LENGTH, body=b"hello") + _HIDDEN, _hello()),
    _extra("response behind chunks", answer(_TE, body=_CHUNKS) + _HIDDEN, _hello(framing=_CHUNKED)),
    _extra(
        "body of no content",
        answer(start=b"HTTP/1.1 204 No Content", body=b"hello"),
        Got(b"204 No Content", framing=_NONE),
    ),
    _extra(
        "body of not modified",
        answer(_LENGTH, start=b"HTTP/1.1 304 Not Modified", body=b"hello"),
        Got(b"304 Not Modified", framing=_NONE, length=b"5"),
    ),
    _extra("body for HEAD", answer(_LENGTH, body=b"hello"), Got(framing=_NONE, length=b"5"), ask=HEAD),
    _extra("response behind one for HEAD", answer(_LENGTH) + _HIDDEN, Got(framing=_NONE, length=b"5"), ask=HEAD),
)

_EARLY: tuple[Answer, ...] = (
    Answer(
        "answer before the body",
        "9112 9.3",
        answer(_LENGTH, start=b"HTTP/1.1 403 Forbidden", body=b"hello"),
        frozenset(("403/closed", "403/open")),
        (_hello(status=b"403 Forbidden"),),
        ask=POST_EARLY,
        then=(b"hello",),
        upstream="any",
    ),
    Answer(
        "answer before the body and the end",
        "9112 9.6",
        answer(_LENGTH, b"Connection: close", start=b"HTTP/1.1 413 Content Too Large", body=b"hello"),
        frozenset(("413/closed", "413/open")),
        (_hello(status=b"413 Content Too Large"),),
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

ROWS: tuple[Answer, ...] = _WHOLE + _FIELDS + _INTERIM + _BROKEN + _CUT + _EXTRA + _EARLY
