"""
Requests whose point is what a proxy does with them: which fields end at it, which it adds, what it answers itself,
how long a connection lives, and how a tunnel comes to be.
"""

from __future__ import annotations

from tests.wire.rows import Row, Sent, passed, plain, post, posted, refused, request


def _dropped(name: str, rfc: str, *lines: bytes, kept: tuple[bytes, ...] = (b"A: b", b"C: d")) -> Row:
    return passed(name, rfc, request(b"A: b", *lines, b"C: d"), plain(*kept))


_HOPS: tuple[Row, ...] = (
    _dropped("connection", "9110 7.6.1", b"Connection: keep-alive"),
    _dropped("keep alive", "9110 7.6.1", b"Keep-Alive: timeout=5"),
    _dropped("te", "9110 7.6.1", b"TE: trailers", b"Connection: TE"),
    _dropped("te not nominated", "9110 10.1.4", b"TE: trailers"),
    _dropped("proxy authorization", "9110 11.7.2", b"Proxy-Authorization: Basic eDp5"),
    _dropped("proxy authenticate", "9110 11.7.1", b"Proxy-Authenticate: Basic"),
    _dropped("proxy connection", "9110 7.6.1", b"Proxy-Connection: keep-alive"),
    _dropped("proxy", "3875 4.1.18", b"Proxy: http://192.0.2.1/"),
    _dropped("upgrade not nominated", "9110 7.8", b"Upgrade: websocket"),
    _dropped("settings of HTTP 2", "7540 3.2.1", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
    _dropped("nominated field", "9110 7.6.1", b"Connection: X-Hop", b"X-Hop: 1"),
    _dropped(
        "nominated fields", "9110 7.6.1", b"X-Hop: 1", b"Connection: x-other ,, X-HOP", b"X-Other: 2", b"x-hop: 3"
    ),
    _dropped(
        "nominated in two fields",
        "9110 7.6.1",
        b"Connection: X-Hop",
        b"X-Hop: 1",
        b"Connection: X-Other",
        b"X-Other: 2",
    ),
    _dropped("nominated that is not there", "9110 7.6.1", b"Connection: X-Hop, keep-alive"),
    _dropped(
        "nominated only by part of its name",
        "9110 7.6.1",
        b"Connection: X-Ho",
        b"X-Hop: 1",
        kept=(b"A: b", b"X-Hop: 1", b"C: d"),
    ),
    _dropped("host nominated", "9110 7.6.1", b"Connection: Host"),
    _dropped("forwarding fields nominated", "9110 7.6.1", b"Connection: X-Forwarded-For, X-Request-ID, Via"),
)

_CLAIMS: tuple[Row, ...] = (
    _dropped("client address claimed", "9110 7.6", b"X-Forwarded-For: 192.0.2.1"),
    _dropped("client address claimed twice", "9110 7.6", b"X-Forwarded-For: 192.0.2.1", b"x-forwarded-for: 192.0.2.2"),
    _dropped("host claimed", "9110 7.6", b"X-Forwarded-Host: spoofed.example"),
    _dropped("scheme claimed", "9110 7.6", b"X-Forwarded-Proto: https"),
    _dropped("port claimed", "9110 7.6", b"X-Forwarded-Port: 443"),
    _dropped("anything claimed", "9110 7.6", b"X-FORWARDED-Anything: 1"),
    _dropped("forwarded claimed", "7239 8.1", b"Forwarded: for=192.0.2.1;host=spoofed.example"),
    _dropped("real address claimed", "9110 7.6", b"X-Real-IP: 192.0.2.1"),
    _dropped("request id claimed", "9110 7.6", b"X-Request-ID: spoofed-0123456789"),
    _dropped("client address claimed with underscores", "9110 7.6", b"X_Forwarded_For: 192.0.2.1"),
    _dropped("request id claimed with underscore", "9110 7.6", b"X_Request-ID: spoofed"),
    _dropped("host claimed with nothing", "9110 7.6", b"X-Forwarded-Host:"),
    passed(
        "via",
        "9110 7.6.3",
        request(b"A: b", b"Via: 1.0 first, 1.1 second (x)", b"C: d"),
        Sent(b"GET / HTTP/1.1", (b"A: b", b"C: d"), via=(b"1.0 first", b"1.1 second (x)")),
    ),
)

_KEPT: tuple[Row, ...] = (
    passed(
        "fields of a browser",
        "9110 7.6",
        request(
            *(
                browser := (
                    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
                    b"Accept: text/html,application/xhtml+xml,*/*;q=0.8",
                    b"Accept-Language: en-GB,en;q=0.5",
                    b"Accept-Encoding: gzip, deflate, br",
                    b"Referer: http://a.example/b",
                    b"Cookie: a=b; c=d",
                    b"Upgrade-Insecure-Requests: 1",
                    b"Sec-Fetch-Mode: navigate",
                )
            )
        ),
        plain(*browser),
    ),
    _dropped(
        "range",
        "9110 14.2",
        b"Range: bytes=0-4,9-",
        b'If-Range: "x"',
        kept=(b"A: b", b"Range: bytes=0-4,9-", b'If-Range: "x"', b"C: d"),
    ),
    _dropped(
        "conditions", "9110 13.1", b'If-None-Match: W/"a", "b"', kept=(b"A: b", b'If-None-Match: W/"a", "b"', b"C: d")
    ),
    _dropped(
        "credentials",
        "9110 11.6.2",
        b"Authorization: Basic eDp5",
        kept=(b"A: b", b"Authorization: Basic eDp5", b"C: d"),
    ),
    passed(
        "fields about a body",
        "9110 8",
        post(b"Content-Type: text/plain", b"Content-Length: 5", b"Content-Encoding: identity"),
        posted(b"Content-Type: text/plain", b"Content-Encoding: identity"),
    ),
)

_TRACE = request(b"Max-Forwards: 0", start=b"TRACE / HTTP/1.1")

_FORWARDS: tuple[Row, ...] = (
    passed(
        "forwards left",
        "9110 7.6.2",
        request(b"A: b", b"Max-Forwards: 10", start=b"OPTIONS / HTTP/1.1"),
        plain(b"A: b", b"Max-Forwards: 9", line=b"OPTIONS / HTTP/1.1"),
    ),
    passed(
        "forwards left for asterisk",
        "9110 7.6.2",
        request(b"Max-Forwards: 1", start=b"OPTIONS * HTTP/1.1"),
        plain(b"Max-Forwards: 0", line=b"OPTIONS * HTTP/1.1"),
    ),
    passed(
        "forwards in a get",
        "9110 7.6.2",
        request(b"Max-Forwards: 0"),
        plain(b"Max-Forwards: 0"),
    ),
    Row(
        "no forwards left",
        "9110 7.6.2",
        request(b"Max-Forwards: 0", start=b"OPTIONS / HTTP/1.1"),
        frozenset(("200/open", "204/open", "200/closed", "204/closed")),
    ),
    Row(
        "no forwards left for asterisk",
        "9110 7.6.2",
        request(b"Max-Forwards: 0", start=b"OPTIONS * HTTP/1.1"),
        frozenset(("200/open", "204/open", "200/closed", "204/closed")),
    ),
    Row(
        "no forwards left for trace",
        "9110 7.6.2",
        _TRACE,
        frozenset(f"{status}/{end}" for status in (200, 405, 501) for end in ("open", "closed")),
    ),
)

_LIFE: tuple[Row, ...] = (
    passed("close", "9112 9.6", request(b"Connection: close"), plain(), end="closed"),
    passed("close in capitals", "9112 9.6", request(b"Connection: CLOSE"), plain(), end="closed"),
    passed("close among others", "9112 9.6", request(b"Connection: X-Hop , close"), plain(), end="closed"),
    passed("close and keep alive", "9112 9.3", request(b"Connection: keep-alive, close"), plain(), end="closed"),
    passed(
        "close in a second field",
        "9112 9.6",
        request(b"Connection: keep-alive", b"Connection: close"),
        plain(),
        end="closed",
    ),
    passed("close only as part of a name", "9112 9.6", request(b"Connection: closed"), plain()),
    passed("HTTP 1.0", "9112 9.3", request(start=b"GET /x HTTP/1.0"), plain(line=b"GET /x HTTP/1.1"), end="closed"),
    passed("HTTP 1.0 kept alive", "9112 9.3", request(b"Connection: Keep-Alive", start=b"GET / HTTP/1.0"), plain()),
    passed(
        "HTTP 1.0 kept alive and closed",
        "9112 9.3",
        request(b"Connection: keep-alive, close", start=b"GET / HTTP/1.0"),
        plain(),
        end="closed",
    ),
    passed(
        "HTTP 1.0 with a body",
        "9112 6.3",
        request(b"Content-Length: 5", start=b"POST / HTTP/1.0", body=b"hello"),
        posted(),
        end="closed",
    ),
)

_EXPECTING = (b"Content-Length: 5", b"Expect: 100-continue")
_EXPECTED = posted(b"Expect: 100-continue")

_EXPECT: tuple[Row, ...] = (
    Row(
        "expectation",
        "9110 10.1.1",
        post(*_EXPECTING, body=b""),
        frozenset(("100+200/open",)),
        (_EXPECTED,),
        then=(b"hello",),
    ),
    Row(
        "expectation in capitals",
        "9110 10.1.1",
        post(b"Content-Length: 5", b"EXPECT: 100-CONTINUE", body=b""),
        frozenset(("100+200/open",)),
        (posted(b"EXPECT: 100-CONTINUE"),),
        then=(b"hello",),
    ),
    Row(
        "expectation with a chunked body",
        "9110 10.1.1",
        post(b"Transfer-Encoding: chunked", b"Expect: 100-continue", body=b""),
        frozenset(("100+200/open",)),
        (posted(b"Expect: 100-continue", framing="chunked"),),
        then=(b"5\r\nhello\r\n0\r\n\r\n",),
    ),
    Row(
        "expectation and the body at once",
        "9110 10.1.1",
        post(*_EXPECTING),
        frozenset(("200/open", "100+200/open")),
        (_EXPECTED,),
        varies=True,
    ),
    Row(
        "expectation in HTTP 1.0",
        "9110 10.1.1",
        request(*_EXPECTING, start=b"POST / HTTP/1.0", body=b"hello"),
        frozenset(("200/closed",)),
        # Passed on as HTTP/1.1 it would become an expectation.
        (posted(),),
    ),
    Row(
        "another expectation",
        "9110 10.1.1",
        post(b"Content-Length: 5", b"Expect: the-moon"),
        frozenset(("417/closed",)),
    ),
)

_SOCKET = (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
_UPGRADED = Sent(b"GET / HTTP/1.1", _SOCKET, upgrade=b"websocket")

_UPGRADES: tuple[Row, ...] = (
    Row(
        "websocket",
        "9110 7.8",
        request(b"Connection: Upgrade", b"Upgrade: websocket", *_SOCKET),
        frozenset(("101/tunnel",)),
        (_UPGRADED,),
    ),
    Row(
        "websocket as Firefox asks for it",
        "9110 7.8",
        request(b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", *_SOCKET),
        frozenset(("101/tunnel",)),
        (_UPGRADED,),
    ),
    passed(
        "websocket in HTTP 1.0",
        "9110 7.8",
        request(b"Connection: Upgrade", b"Upgrade: websocket", start=b"GET / HTTP/1.0"),
        plain(),
        end="closed",
    ),
    passed(
        "HTTP 2 by upgrade",
        "9113 3.1",
        request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        plain(),
    ),
    passed("HTTP 2 by upgrade in capitals", "9113 3.1", request(b"Connection: upgrade", b"Upgrade: H2C"), plain()),
    passed("HTTP 2 by upgrade among others", "9113 3.1", request(b"Connection: upgrade", b"Upgrade: x, h2c"), plain()),
    passed(
        "upgrade with a body",
        "9110 7.8",
        post(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 5"),
        posted(),
    ),
    passed("upgrade nominated and missing", "9110 7.8", request(b"Connection: upgrade"), plain()),
    refused("upgrade with a bad field", "9110 5.5", request(b"Connection: upgrade", b"Upgrade: web\x00socket")),
)

ROWS: tuple[Row, ...] = _HOPS + _CLAIMS + _KEPT + _FORWARDS + _LIFE + _EXPECT + _UPGRADES
