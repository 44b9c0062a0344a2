"""
Requests whose point is where their body ends: lengths, chunks, trailers, and the ways to smuggle one past another.
"""

from __future__ import annotations

from tests.wire.rows import Row, Sent, chunked, passed, plain, post, posted, refused, request

#: C{limits.body_size} of the proxy that the tables run against.
BODY_LIMIT = 65536

#: A body that a backend which lost its place would take for a request.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: hidden.example\r\n\r\n"

_HELLO = b"5\r\nhello\r\n0\r\n\r\n"
_TE = b"Transfer-Encoding: chunked"


def _length(value: bytes) -> bytes:
    return post(b"Content-Length: " + value)


def _coding(value: bytes, body: bytes = _HELLO) -> bytes:
    return post(b"Transfer-Encoding: " + value, body=body)


_LENGTHS: tuple[Row, ...] = (
    passed("length", "9112 6.2", _length(b"5"), posted()),
    passed("length zero", "9112 6.2", post(b"Content-Length: 0", body=b""), plain(line=b"POST / HTTP/1.1")),
    passed("length with space around", "9110 5.5", post(b"Content-Length:   5 \t"), posted()),
    passed("length with leading zeros", "9110 8.6", _length(b"005"), posted(), refusals=(400,)),
    passed("post without a length", "9112 6.3", post(body=b""), plain(line=b"POST / HTTP/1.1"), refusals=(411,)),
    passed(
        "get with a body",
        "9110 9.3.1",
        request(b"Content-Length: 5", body=b"hello"),
        Sent(b"GET / HTTP/1.1", (), b"hello", "length"),
    ),
    passed(
        "delete with a chunked body",
        "9110 9.3.5",
        request(_TE, start=b"DELETE /x HTTP/1.1", body=_HELLO),
        Sent(b"DELETE /x HTTP/1.1", (), b"hello", "chunked"),
    ),
    passed(
        "body that looks like a request",
        "9112 11.2",
        post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        posted(body=HIDDEN),
    ),
    passed(
        "get whose body looks like a request",
        "9112 11.2",
        request(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN),
        Sent(b"GET / HTTP/1.1", (), HIDDEN, "length"),
    ),
    passed(
        "body of the greatest size",
        "9110 15.5.14",
        post(b"Content-Length: %d" % BODY_LIMIT, body=b"x" * BODY_LIMIT),
        posted(body=b"x" * BODY_LIMIT),
    ),
    refused("length over the limit", "9110 15.5.14", post(b"Content-Length: %d" % (BODY_LIMIT + 1), body=b""), 413),
    refused("length twice alike", "9112 6.3", post(b"Content-Length: 5", b"Content-Length: 5")),
    refused("length twice unlike", "9112 6.3", post(b"Content-Length: 5", b"Content-Length: 6")),
    refused("length list alike", "9112 6.3", _length(b"5, 5")),
    refused("length list unlike", "9112 6.3", _length(b"5, 6")),
    refused("length with trailing comma", "9110 8.6", _length(b"5,")),
    refused("length with plus", "9110 8.6", _length(b"+5")),
    refused("length with minus", "9110 8.6", _length(b"-5")),
    refused("length minus zero", "9110 8.6", _length(b"-0")),
    refused("length hexadecimal", "9110 8.6", _length(b"0x5")),
    refused("length with a letter", "9110 8.6", _length(b"5a")),
    refused("length with space inside", "9110 8.6", _length(b"5 5")),
    refused("length with underscore", "9110 8.6", _length(b"1_0")),
    refused("length decimal", "9110 8.6", _length(b"5.0")),
    refused("length empty", "9110 8.6", _length(b"")),
    refused("length quoted", "9110 8.6", _length(b'"5"')),
    refused("length of digits that are not ascii", "9110 8.6", _length(b"\xd9\xa5")),
    refused("length over 63 bits", "9110 8.6", _length(b"9223372036854775808"), 400, 413),
    refused("length that wraps 64 bits to five", "9110 8.6", _length(b"18446744073709551621"), 400, 413),
    refused("length of thousand digits", "9110 8.6", _length(b"9" * 1000), 400, 413),
    refused("length with space before the colon", "9112 5.1", post(b"Content-Length : 5")),
    refused("length folded", "9112 5.2", post(b"Content-Length:\r\n 5")),
    Row(
        "body cut short",
        "9112 8",
        _length(b"9"),
        frozenset(("none/closed", "none/reset", "400/closed", "408/closed")),
        finish=True,
        started=True,
    ),
    Row(
        "chunked body cut short",
        "9112 8",
        chunked(b"5\r\nhello\r\n"),
        frozenset(("none/closed", "none/reset", "400/closed", "408/closed")),
        finish=True,
        started=True,
    ),
)

_CODINGS: tuple[Row, ...] = (
    passed("chunked", "9112 7.1", _coding(b"chunked"), posted(framing="chunked")),
    passed("chunked in capitals", "9112 7", _coding(b"CHUNKED"), posted(framing="chunked")),
    passed("chunked behind a tab", "9110 5.5", _coding(b"\tchunked"), posted(framing="chunked")),
    passed(
        "field name in capitals",
        "9110 5.1",
        post(b"TRANSFER-ENCODING: chunked", body=_HELLO),
        posted(framing="chunked"),
    ),
    passed(
        "chunked body that looks like a request",
        "9112 11.2",
        chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)),
        posted(body=HIDDEN, framing="chunked"),
    ),
    refused("length and coding", "9112 6.1", post(b"Content-Length: 5", _TE, body=_HELLO)),
    refused("coding and length", "9112 6.1", post(_TE, b"Content-Length: 5", body=_HELLO)),
    refused("coding and length zero", "9112 6.1", post(b"Content-Length: 0", _TE, body=_HELLO)),
    refused("coding far from length", "9112 6.1", post(b"Content-Length: 5", b"A: b", b"C: d", _TE, body=_HELLO)),
    refused("get with length and coding", "9112 6.1", request(b"Content-Length: 5", _TE, body=_HELLO)),
    refused("coding twice alike", "9112 6.1", post(_TE, _TE, body=_HELLO)),
    refused("coding and identity", "9112 6.1", post(_TE, b"Transfer-Encoding: identity", body=_HELLO), 400, 501),
    refused("identity and coding", "9112 6.1", post(b"Transfer-Encoding: identity", _TE, body=_HELLO), 400, 501),
    refused("coding and another with space", "9112 6.1", post(_TE, b"Transfer-encoding: x", body=_HELLO), 400, 501),
    refused("chunked twice in one field", "9112 7.1", _coding(b"chunked, chunked")),
    refused("gzip and chunked", "9112 6.1", _coding(b"gzip, chunked"), 501, 400),
    refused("chunked and gzip", "9112 6.3", _coding(b"chunked, gzip"), 400, 501),
    refused("gzip alone", "9112 6.3", _coding(b"gzip"), 400, 501),
    refused("identity alone", "9112 6.1", _coding(b"identity"), 400, 501),
    refused("unknown coding", "9112 6.1", _coding(b"xchunked"), 400, 501),
    refused("chunked with a parameter", "9112 7", _coding(b"chunked;a=b"), 400, 501),
    refused("chunked quoted", "9112 7", _coding(b'"chunked"'), 400, 501),
    refused("chunked behind vertical tab", "9110 5.5", _coding(b"\x0bchunked")),
    refused("chunked before form feed", "9110 5.5", _coding(b"chunked\x0c")),
    refused("chunked with NUL", "9110 5.5", _coding(b"chunked\x00")),
    refused("chunked behind comma", "9110 5.6.1", _coding(b", chunked"), 400, 501),
    refused("chunked before comma", "9110 5.6.1", _coding(b"chunked,"), 400, 501),
    refused("coding empty", "9112 6.1", _coding(b""), 400, 501),
    refused("coding split by space", "9112 7", _coding(b"chun ked"), 400, 501),
    refused("coding with space before the colon", "9112 5.1", post(b"Transfer-Encoding : chunked", body=_HELLO)),
    refused("coding folded", "9112 5.2", post(b"Transfer-Encoding:\r\n chunked", body=_HELLO)),
    refused("coding in a folded line", "9112 5.2", post(b"A: b\r\n Transfer-Encoding: chunked", body=_HELLO)),
    refused("coding behind a bare LF", "9112 2.2", post(b"A: b\nTransfer-Encoding: chunked", body=_HELLO)),
    refused("coding behind a bare CR", "9112 2.2", post(b"A: b\rTransfer-Encoding: chunked", body=_HELLO)),
    refused("coding with a space in its name", "9110 5.1", post(b"Transfer Encoding: chunked", body=_HELLO)),
    refused("coding with NUL behind its name", "9110 5.1", post(b"Transfer-Encoding\x00: chunked", body=_HELLO)),
    refused("coding in HTTP 1.0", "9112 6.1", request(_TE, start=b"POST / HTTP/1.0", body=_HELLO)),
    passed(
        "coding with underscore is not passed on",
        "9112 6.1",
        post(b"Content-Length: 5", b"Transfer_Encoding: chunked"),
        posted(),
        refusals=(400,),
    ),
    passed(
        "length with underscore is not passed on",
        "9110 8.6",
        post(b"Content-Length: 5", b"Content_Length: 99"),
        posted(),
        refusals=(400,),
    ),
    passed(
        "length nominated by Connection",
        "9110 7.6.1",
        post(b"Connection: Content-Length", b"Content-Length: 5"),
        posted(),
        refusals=(400,),
    ),
    passed(
        "coding nominated by Connection",
        "9110 7.6.1",
        post(b"Connection: Transfer-Encoding", _TE, body=_HELLO),
        posted(framing="chunked"),
        refusals=(400,),
    ),
)


def _chunk(name: str, body: bytes, *statuses: int) -> Row:
    return refused(name, "9112 7.1", chunked(body), *statuses, started=True)


def _chunks(name: str, body: bytes, payload: bytes = b"hello", *, optional: bool = False) -> Row:
    sent = posted(body=payload, framing="chunked")
    return Row(
        name,
        "9112 7.1",
        chunked(body),
        frozenset(("200/open", "400/closed") if optional else ("200/open",)),
        (sent,),
        started=optional,
    )


_CHUNKS: tuple[Row, ...] = (
    _chunks("chunks", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    _chunks("chunk of nothing", b"0\r\n\r\n", b""),
    _chunks("chunk size in small letters", b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    _chunks("chunk size in capitals", b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    _chunks("chunk size with leading zeros", b"0005\r\nhello\r\n0\r\n\r\n", optional=True),
    _chunks("last chunk of several zeros", b"5\r\nhello\r\n000\r\n\r\n", optional=True),
    _chunks("chunk of line ends", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    _chunks("chunk that looks like the end", b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"),
    _chunks("extension with a value", b"5;a=b\r\nhello\r\n0\r\n\r\n"),
    _chunks("extension without a value", b"5;a\r\nhello\r\n0;b\r\n\r\n"),
    _chunks("extension quoted", b'5;a="b;c\\"d"\r\nhello\r\n0\r\n\r\n', optional=True),
    _chunks("extensions", b"5;a=b;c;d=e\r\nhello\r\n0\r\n\r\n"),
    _chunks("extension behind space", b"5 ;a=b\r\nhello\r\n0\r\n\r\n", optional=True),
    _chunk("extension without a name", b"5;\r\nhello\r\n0\r\n\r\n"),
    _chunk("extension with only a value", b"5;=b\r\nhello\r\n0\r\n\r\n"),
    _chunk("extension with NUL", b"5;a\x00\r\nhello\r\n0\r\n\r\n"),
    _chunk("extension with bare CR", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    _chunk("extension ended by bare LF", b"5;a\nhello\r\n0\r\n\r\n"),
    _chunk("extension without end", b"5;" + b"a" * 20000, 400, 413, 431),
    _chunk("chunk size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size with plus", b"+5\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size with minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size minus zero", b"5\r\nhello\r\n-0\r\n\r\n"),
    _chunk("chunk size behind space", b" 5\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size before space", b"5 \r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size before tab", b"5\t\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size with underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size not hexadecimal", b"g\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size empty", b"\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size with NUL", b"5\x00\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size over 63 bits", b"8000000000000000\r\nhello\r\n0\r\n\r\n", 400, 413),
    _chunk("chunk size that wraps 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n", 400, 413),
    _chunk("chunk size of hundred zeros", b"0" * 100 + b"5\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size ended by bare LF", b"5\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size ended by bare CR", b"5\rhello\r\n0\r\n\r\n"),
    _chunk("chunk ended by bare LF", b"5\r\nhello\n0\r\n\r\n"),
    _chunk("chunk ended by bare CR", b"5\r\nhello\r0\r\n\r\n"),
    _chunk("chunk without an end", b"5\r\nhello0\r\n\r\n"),
    _chunk("chunk longer than its size", b"3\r\nhello\r\n0\r\n\r\n"),
    _chunk("last chunk ended by bare LF", b"5\r\nhello\r\n0\n\r\n"),
    _chunk("body ended by bare LF", b"5\r\nhello\r\n0\r\n\n"),
    refused(
        "chunks over the limit",
        "9110 15.5.14",
        chunked(b"4000\r\n" + b"x" * 16384 + b"\r\n") + (b"4000\r\n" + b"x" * 16384 + b"\r\n") * 4 + b"0\r\n\r\n",
        413,
        started=True,
    ),
)


def _trailer(name: str, lines: bytes, *kept: bytes, announced: bytes = b"", refusable: bool = True) -> Row:
    sent = Sent(
        b"POST / HTTP/1.1", (b"Trailer: " + announced,) if announced else (), b"hello", "chunked", trailers=kept
    )
    data = chunked(b"5\r\nhello\r\n0\r\n" + lines + b"\r\n", *((b"Trailer: " + announced,) if announced else ()))
    outcomes = ("200/open", "400/closed") if refusable else ("200/open",)
    return Row(name, "9110 6.5.1", data, frozenset(outcomes), (sent,), started=refusable)


_TRAILERS: tuple[Row, ...] = (
    _trailer("trailer", b"X-Sum: 1\r\n", b"X-Sum: 1", refusable=False),
    _trailer("trailer announced", b"X-Sum: 1\r\n", b"X-Sum: 1", announced=b"X-Sum", refusable=False),
    _trailer(
        "trailers", b"X-Sum: 1\r\nX-Time:2\r\nX-Sum: 3\r\n", b"X-Sum: 1", b"X-Time: 2", b"X-Sum: 3", refusable=False
    ),
    _trailer("trailer with a length is not passed on", b"Content-Length: 9\r\n"),
    _trailer("trailer with a coding is not passed on", b"Transfer-Encoding: chunked\r\n"),
    _trailer("trailer with a host is not passed on", b"Host: hidden.example\r\nX-Sum: 1\r\n", b"X-Sum: 1"),
    _trailer("trailer with credentials is not passed on", b"Authorization: Basic eDp5\r\n"),
    _trailer("trailer with Connection is not passed on", b"Connection: close\r\n"),
    _trailer("trailer with a client address is not passed on", b"X-Forwarded-For: 192.0.2.1\r\n"),
    _trailer("trailer with a content type is not passed on", b"Content-Type: text/html\r\n"),
    refused("trailer folded", "9112 5.2", chunked(b"0\r\nA: b\r\n c\r\n\r\n"), started=True),
    refused("trailer with space before the colon", "9112 5.1", chunked(b"0\r\nA : b\r\n\r\n"), started=True),
    refused("trailer with bare LF", "9112 2.2", chunked(b"0\r\nA: b\nC: d\r\n\r\n"), started=True),
    refused("trailer with NUL", "9110 5.5", chunked(b"0\r\nA: \x00\r\n\r\n"), started=True),
    refused("trailer without a colon", "9112 5", chunked(b"0\r\nhidden\r\n\r\n"), started=True),
    refused("trailer without end", "9112 7.1.2", chunked(b"0\r\n" + b"A: b\r\n" * 6000), 400, 413, 431, started=True),
)

_PIPELINES: tuple[Row, ...] = (
    passed(
        "two requests",
        "9112 9.3.2",
        request(start=b"GET /1 HTTP/1.1") + request(start=b"GET /2 HTTP/1.1"),
        plain(line=b"GET /1 HTTP/1.1"),
        plain(line=b"GET /2 HTTP/1.1"),
    ),
    passed(
        "five requests",
        "9112 9.3.2",
        b"".join(request(start=b"GET /%d HTTP/1.1" % number) for number in range(5)),
        *(plain(line=b"GET /%d HTTP/1.1" % number) for number in range(5)),
    ),
    passed("request behind a body", "9112 9.3.2", _length(b"5") + request(), posted(), plain()),
    passed("request behind chunks", "9112 9.3.2", _coding(b"chunked") + request(), posted(framing="chunked"), plain()),
    passed(
        "request behind an answer to HEAD",
        "9112 9.3.2",
        request(start=b"HEAD / HTTP/1.1") + request(),
        plain(line=b"HEAD / HTTP/1.1"),
        plain(),
        heads=(0,),
    ),
    passed(
        "empty line between requests",
        "9112 2.2",
        request() + b"\r\n" + request(start=b"GET /2 HTTP/1.1"),
        plain(),
        plain(line=b"GET /2 HTTP/1.1"),
        also=("200+400/closed",),
    ),
    Row(
        "bad request behind a good one",
        "9112 9.3.2",
        request() + b"BAD\r\n\r\n",
        frozenset(("200+400/closed",)),
        (plain(),),
    ),
    Row(
        "body that nobody announced",
        "9112 9.3",
        request() + b"hello\r\n\r\n",
        frozenset(("200+400/closed",)),
        (plain(),),
    ),
    Row(
        "request behind the last one",
        "9112 9.6",
        request(b"Connection: close") + HIDDEN,
        frozenset(("200/closed",)),
        (plain(),),
    ),
    refused("request behind a refused one", "9112 11.2", post(b"Content-Length: 5", _TE, body=_HELLO) + HIDDEN),
    refused("request behind a refused chunk", "9112 11.2", chunked(b"5;\r\nhello\r\n0\r\n\r\n") + HIDDEN, started=True),
    Row(
        "request behind HTTP 1.0",
        "9112 9.3",
        request(start=b"GET / HTTP/1.0") + HIDDEN,
        frozenset(("200/closed",)),
        (plain(),),
    ),
)

ROWS: tuple[Row, ...] = _LENGTHS + _CODINGS + _CHUNKS + _TRAILERS + _PIPELINES
