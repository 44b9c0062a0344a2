"""Header blocks whose point is their fields: names, values, those of one connection, those that a proxy understands."""

from __future__ import annotations

from tests.wire.blocks import MALFORMED, Block, Pairs, forwarded, get, malformed
from tests.wire.rows import Sent

_A = (b"a", b"b")
_C = (b"c", b"d")


def _field(name: str, rfc: str, field: bytes, value: bytes) -> Block:
    """One that goes on as it is."""
    return forwarded(name, rfc, get(_A, (field, value), _C), b"a: b", field + b": " + value, b"c: d")


def _bad(name: str, rfc: str, field: bytes, value: bytes, outcome: str = MALFORMED) -> Block:
    return malformed(name, rfc, get(_A, (field, value), _C), outcome)


def _dropped(name: str, rfc: str, *fields: tuple[bytes, bytes]) -> Block:
    return forwarded(name, rfc, get(_A, *fields, _C), b"a: b", b"c: d")


_NAMES: tuple[Block, ...] = (
    _field("name of odd characters", "9110 5.1", b"!#$%&'*+-.^_`|~9", b"1"),
    _field("name with underscore", "9110 5.1", b"x_tra", b"1"),
    _bad("name in capitals", "9113 8.2.1", b"X-Tra", b"1"),
    _bad("name with one capital", "9113 8.2.1", b"content-Length", b"5"),
    _bad("name that is empty", "9113 8.2.1", b"", b"1"),
    _bad("name with a colon", "9113 8.2.1", b"a:b", b"1"),
    _bad("name with a colon at its end", "9113 8.2.1", b"content-length:", b"5"),
    _bad("name with a space", "9113 8.2.1", b"a b", b"1"),
    _bad("name with a space before", "9113 8.2.1", b" transfer-encoding", b"chunked"),
    _bad("name with a space behind", "9113 8.2.1", b"transfer-encoding ", b"chunked"),
    _bad("name with a tab behind", "9113 8.2.1", b"content-length\t", b"5"),
    _bad("name with NUL", "9113 8.2.1", b"a\0b", b"1"),
    _bad("name with a line feed", "9113 8.2.1", b"a\nb", b"1"),
    _bad("name with CR", "9113 8.2.1", b"a\rb", b"1"),
    _bad("name that is a field", "9113 8.2.1", b"transfer-encoding: chunked\r\nx", b"1"),
    _bad("name that is a request", "9113 8.2.1", b"x: y\r\n\r\nGET /admin HTTP/1.1\r\nhost: a\r\nx", b"1"),
    _bad("name with DEL", "9113 8.2.1", b"a\x7f", b"1"),
    _bad("name not in ascii", "9113 8.2.1", b"a\xc3\xa9", b"1"),
    _bad("name with a slash", "9110 5.1", b"a/b", b"1"),
    _bad("name in brackets", "9110 5.1", b"a[0]", b"1"),
)

_VALUES: tuple[Block, ...] = (
    _field("value that is empty", "9110 5.5", b"x", b""),
    _field("value not in ascii", "9110 5.5", b"x", b"\xe9\xff\x80"),
    _field("value with a tab inside", "9110 5.5", b"x", b"y\tz  z"),
    _field("value with colons", "9110 5.5", b"x", b": y: z:"),
    _field("value of 20000 bytes", "9110 5.4", b"x", b"v" * 20000),
    _bad("value with a line end", "9113 8.2.1", b"x", b"y\r\nz: a"),
    _bad("value with framing", "9113 8.2.1", b"x", b"y\r\ntransfer-encoding: chunked"),
    _bad("value with a request", "9113 8.2.1", b"x", b"y\r\n\r\nGET /admin HTTP/1.1\r\nhost: a.example\r\nz: "),
    _bad("value with a line feed", "9113 8.2.1", b"x", b"y\nz: a"),
    _bad("value with CR", "9113 8.2.1", b"x", b"y\rz: a"),
    _bad("value with a line end behind", "9113 8.2.1", b"x", b"y\r\n"),
    _bad("value with a line end before", "9113 8.2.1", b"x", b"\r\ny"),
    _bad("value that is a line end", "9113 8.2.1", b"x", b"\r\n"),
    _bad("value that folds", "9113 8.2.1", b"x", b"y\r\n z"),
    _bad("value with NUL", "9113 8.2.1", b"x", b"y\0z"),
    _bad("value with a bell", "9110 5.5", b"x", b"y\x07z"),
    _bad("value with DEL", "9110 5.5", b"x", b"y\x7fz"),
    _bad("value with space before", "9113 8.2.1", b"x", b" y"),
    _bad("value with space behind", "9113 8.2.1", b"x", b"y "),
    _bad("value with a tab before", "9113 8.2.1", b"x", b"\ty"),
    _bad("value with a tab behind", "9113 8.2.1", b"x", b"y\t"),
    _bad("value that is a space", "9113 8.2.1", b"x", b" "),
)

_CONNECTIONS: tuple[Block, ...] = (
    _bad("transfer encoding", "9113 8.2.2", b"transfer-encoding", b"chunked"),
    _bad("transfer encoding of nothing", "9113 8.2.2", b"transfer-encoding", b"identity"),
    _bad("transfer encoding that is empty", "9113 8.2.2", b"transfer-encoding", b""),
    _bad("transfer encoding with a list", "9113 8.2.2", b"transfer-encoding", b"gzip, chunked"),
    malformed(
        "transfer encoding and length and a body",
        "9113 8.2.2",
        get((b"transfer-encoding", b"chunked"), (b"content-length", b"5"), method=b"POST"),
        data=(b"0\r\n\r\n",),
    ),
    malformed(
        "transfer encoding and a body that looks like another request",
        "9113 8.2.2",
        get((b"transfer-encoding", b"chunked"), method=b"POST"),
        data=(b"0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a.example\r\n\r\n",),
    ),
    _bad("connection", "9113 8.2.2", b"connection", b"keep-alive"),
    _bad("connection that closes", "9113 8.2.2", b"connection", b"close"),
    _bad("connection that names a field", "9113 8.2.2", b"connection", b"a"),
    _bad("connection that is empty", "9113 8.2.2", b"connection", b""),
    _bad("keep alive", "9113 8.2.2", b"keep-alive", b"timeout=5"),
    _bad("proxy connection", "9113 8.2.2", b"proxy-connection", b"keep-alive"),
    _bad("upgrade", "9113 8.2.2", b"upgrade", b"websocket"),
    _bad("upgrade to HTTP 2", "9113 8.2.2", b"upgrade", b"h2c"),
    _bad("settings for an upgrade", "9113 8.2.2", b"http2-settings", b"AAMAAABkAAQAAP__"),
    _dropped("te", "9113 8.2.2", (b"te", b"trailers")),
    _bad("te with something else", "9113 8.2.2", b"te", b"gzip"),
    _bad("te with more", "9113 8.2.2", b"te", b"trailers, deflate"),
    _bad("te with a weight", "9113 8.2.2", b"te", b"trailers;q=0.5"),
    _bad("te that is empty", "9113 8.2.2", b"te", b""),
    _dropped("transfer encoding with underscore", "9110 5.1", (b"transfer_encoding", b"chunked")),
    _dropped("length with underscore", "9110 5.1", (b"content_length", b"5")),
)

_UNDERSTOOD: tuple[Block, ...] = (
    _dropped("proxy authorization", "9110 11.7.2", (b"proxy-authorization", b"Basic eDp5")),
    _dropped("proxy", "3875 4.1.18", (b"proxy", b"http://192.0.2.1/")),
    _dropped("client address claimed", "9110 7.6", (b"x-forwarded-for", b"192.0.2.1")),
    _dropped("host claimed", "9110 7.6", (b"x-forwarded-host", b"spoofed.example")),
    _dropped("scheme claimed", "9110 7.6", (b"x-forwarded-proto", b"https")),
    _dropped("forwarded claimed", "7239 8.1", (b"forwarded", b"for=192.0.2.1;host=spoofed.example")),
    _dropped("real address claimed", "9110 7.6", (b"x-real-ip", b"192.0.2.1")),
    _dropped("request id claimed", "9110 7.6", (b"x-request-id", b"spoofed-0123456789")),
    _dropped("client address claimed with underscores", "9110 7.6", (b"x_forwarded_for", b"192.0.2.1")),
    _dropped("proxy connection with underscore", "9110 7.6", (b"proxy_connection", b"close")),
    forwarded(
        "via",
        "9110 7.6.3",
        get(_A, (b"via", b"2 first, 1.1 second (x)"), _C),
        b"a: b",
        b"c: d",
        via=(b"2 first", b"1.1 second (x)"),
    ),
    forwarded("cookie", "9113 8.2.3", get((b"cookie", b"a=b; c=d")), b"cookie: a=b; c=d"),
    forwarded(
        "cookie in crumbs",
        "9113 8.2.3",
        get((b"cookie", b"a=b"), _A, (b"cookie", b"c=d"), (b"cookie", b"e=f")),
        b"cookie: a=b; c=d; e=f",
        b"a: b",
    ),
    malformed("crumb with a line end", "9113 8.2.1", get((b"cookie", b"a=b"), (b"cookie", b"c\r\nx: y"))),
    malformed("crumb with space behind", "9113 8.2.1", get((b"cookie", b"a=b"), (b"cookie", b"c=d "))),
    malformed("crumb with space before", "9113 8.2.1", get((b"cookie", b"a=b"), (b"cookie", b" c=d"))),
    malformed("crumb with NUL", "9113 8.2.1", get((b"cookie", b"a=b\0"), (b"cookie", b"c=d"))),
    _field("credentials", "9110 11.6.2", b"authorization", b"Basic eDp5"),
    _field("trailer announced", "9110 6.6.2", b"trailer", b"x-sum"),
    malformed("another expectation", "9110 10.1.1", get((b"expect", b"the-moon")), "417/open"),
    forwarded(
        "forwards left",
        "9110 7.6.2",
        get((b"max-forwards", b"10"), method=b"OPTIONS"),
        b"Max-Forwards: 9",
        line=b"OPTIONS / HTTP/1.1",
    ),
    malformed("no forwards left", "9110 7.6.2", get((b"max-forwards", b"0"), method=b"OPTIONS"), "200/open"),
    forwarded(
        "fields of a browser",
        "9110 7.6",
        get(*(_BROWSER := (
            (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
            (b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),
            (b"accept-encoding", b"gzip, deflate, br"),
            (b"referer", b"http://a.example/b"),
            (b"upgrade-insecure-requests", b"1"),
            (b"sec-fetch-mode", b"navigate"),
            (b"priority", b"u=1"),
        ))),
        *(name + b": " + value for name, value in _BROWSER),
    ),
)  # fmt: skip


def _many(count: int) -> Pairs:
    return tuple((b"f%d" % number, b"v") for number in range(count))


_SIZES: tuple[Block, ...] = (
    forwarded("many fields", "6585 5", get(*_many(96)), *(name + b": v" for name, _ in _many(96))),
    malformed("too many fields", "6585 5", get(*_many(101)), "431/open"),
    malformed("fields by thousands", "6585 5", get(*_many(3000)), "431/open"),
    malformed("value over the limit", "6585 5", get((b"x", b"v" * 33000)), "431/open"),
    malformed("name over the limit", "6585 5", get((b"n" * 33000, b"v")), "431/open"),
    malformed("fields over the limit together", "6585 5", get(*((b"f", b"v" * 500) for _ in range(62))), "431/open"),
    malformed(
        "post over the limit",
        "6585 5",
        get((b"x", b"v" * 33000), method=b"POST"),
        "431+NO_ERROR/open",
        ended=False,
    ),
    malformed("block far over the limit", "9113 10.5.1", get((b"x", b"v" * 300000)), "ENHANCE_YOUR_CALM/closed"),
)

_WEBSOCKET: tuple[Block, ...] = (
    Block(
        "websocket by extended connect",
        "8441 5",
        (
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            *get((b"sec-websocket-version", b"13"), (b"origin", b"http://a.example"), method=None, path=b"/socket"),
        ),
        b"",
        "tunnel/open",
        # The key is the proxy's own, so it is held against its form by the test.
        Sent(
            b"GET /socket HTTP/1.1",
            (b"sec-websocket-version: 13", b"origin: http://a.example"),
            upgrade=b"websocket",
        ),
        ended=False,
    ),
)

ROWS: tuple[Block, ...] = _NAMES + _VALUES + _CONNECTIONS + _UNDERSTOOD + _SIZES + _WEBSOCKET
