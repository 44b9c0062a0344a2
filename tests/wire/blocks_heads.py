"""Header blocks whose point is their pseudo fields: method, scheme, authority, path, and where they stand."""

from __future__ import annotations

from tests.wire.blocks import MALFORMED, Block, Pairs, forwarded, get, malformed
from tests.wire.rows import HOST

_A = (b"a", b"b")


def _with(fields: Pairs, at: int, *more: tuple[bytes, bytes]) -> Pairs:
    return (*fields[:at], *more, *fields[at:])


_ORDER: tuple[Block, ...] = (
    forwarded("nothing special", "9113 8.3.1", get()),
    forwarded("fields in order", "9113 8.2", get((b"b", b"1"), (b"a", b"2"), (b"c", b"3")), b"b: 1", b"a: 2", b"c: 3"),
    forwarded("pseudo fields in another order", "9113 8.3", tuple(reversed(get()))),
    malformed("no fields at all", "9113 8.3.1", (_A,)),
    malformed("no method", "9113 8.3.1", get(method=None)),
    malformed("no scheme", "9113 8.3.1", get(scheme=None)),
    malformed("no path", "9113 8.3.1", get(path=None)),
    malformed("method twice", "9113 8.3.1", _with(get(), 1, (b":method", b"GET"))),
    malformed("two methods", "9113 8.3.1", _with(get(), 1, (b":method", b"POST"))),
    malformed("scheme twice", "9113 8.3.1", _with(get(), 1, (b":scheme", b"http"))),
    malformed("path twice", "9113 8.3.1", _with(get(), 1, (b":path", b"/"))),
    malformed("two paths", "9113 8.3.1", _with(get(), 1, (b":path", b"/admin"))),
    malformed("authority twice", "9113 8.3.1", _with(get(), 1, (b":authority", HOST))),
    malformed("two authorities", "9113 8.3.1", _with(get(), 1, (b":authority", b"b.example"))),
    malformed("pseudo field behind a field", "9113 8.3", (_A, *get())),
    malformed("path behind a field", "9113 8.3", get(_A, (b":path", b"/"), path=None)),
    malformed("path again behind a field", "9113 8.3", get(_A, (b":path", b"/admin"))),
    malformed("authority behind host", "9113 8.3", get((b"host", HOST), (b":authority", HOST), authority=None)),
    malformed("authority behind a cookie", "9113 8.3", get((b"cookie", b"a"), (b":authority", HOST), authority=None)),
    malformed("a pseudo field nobody knows", "9113 8.3", _with(get(), 1, (b":foo", b"bar"))),
    malformed("a pseudo field without a name", "9113 8.3", _with(get(), 1, (b":", b"bar"))),
    malformed("a pseudo field of responses", "9113 8.3", _with(get(), 1, (b":status", b"200"))),
    malformed("a pseudo field in capitals", "9113 8.3", ((b":METHOD", b"GET"), *get(method=None))),
    malformed("protocol without connect", "8441 4", _with(get(), 1, (b":protocol", b"websocket"))),
)

_METHODS: tuple[Block, ...] = (
    forwarded("method of an extension", "9110 9", get(method=b"PURGE"), line=b"PURGE / HTTP/1.1"),
    forwarded("head", "9110 9.3.2", get(method=b"HEAD"), line=b"HEAD / HTTP/1.1"),
    forwarded("delete", "9110 9.3.5", get(method=b"DELETE"), line=b"DELETE / HTTP/1.1"),
    malformed("method that is empty", "9110 9", get(method=b"")),
    malformed("method with a space", "9110 9", get(method=b"GET /admin")),
    malformed("method that is a request line", "9113 8.2.1", get(method=b"GET /admin HTTP/1.1\r\nx: ")),
    malformed("method that is a request", "9113 8.2.1", get(method=b"GET /admin HTTP/1.1\r\nhost: a\r\n\r\nGET")),
    malformed("method with a tab", "9110 9", get(method=b"GET\t")),
    malformed("method with NUL", "9110 9", get(method=b"GET\0")),
    malformed("method with a line feed", "9110 9", get(method=b"G\nET")),
    malformed("method with a colon", "9110 9", get(method=b"X: y")),
    malformed("method not in ascii", "9110 9", get(method=b"G\xc3\x89T")),
    malformed("method that is long", "9110 9", get(method=b"M" * 64)),
    malformed("method in small letters", "9110 9.1", get(method=b"get"), "400/open"),
    malformed("plain connect", "9113 8.5", get(method=b"CONNECT", path=None, scheme=None), "405/open"),
    malformed("plain connect with a path", "9113 8.5", get(method=b"CONNECT")),
    malformed("plain connect with a scheme", "9113 8.5", get(method=b"CONNECT", path=None)),
    malformed(
        "connect for a protocol that is none of ours",
        "8441 4",
        ((b":method", b"CONNECT"), (b":protocol", b"sandwich"), *get(method=None)),
        "501+NO_ERROR/open",
        ended=False,
    ),
    malformed(
        "connect for a protocol with a line end",
        "8441 4",
        ((b":method", b"CONNECT"), (b":protocol", b"websocket\r\nx: y"), *get(method=None)),
        "501+NO_ERROR/open",
        ended=False,
    ),
    malformed(
        "extended connect without a path",
        "8441 4",
        ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *get(method=None, path=None)),
        ended=False,
    ),
    malformed(
        "extended connect with a length",
        "8441 5",
        ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *get((b"content-length", b"5"), method=None)),
        ended=False,
    ),
)


def _path(name: str, rfc: str, path: bytes) -> Block:
    return forwarded(name, rfc, get(path=path), line=b"GET " + path + b" HTTP/1.1")


def _bad_path(name: str, rfc: str, path: bytes, outcome: str = MALFORMED) -> Block:
    return malformed(name, rfc, get(path=path), outcome)


_PATHS: tuple[Block, ...] = (
    _path("path and query", "9113 8.3.1", b"/a/b?c=d&e=/../f"),
    _path("path with all kinds of characters", "3986 3.3", b"/-._~!$&'()*+,;=:@"),
    _path("path with escapes", "9112 3.2.1", b"/%7Ea/%62%2fc"),
    _path("path with empty segments", "9112 3.2.1", b"//a///b"),
    _path("path with dot segments that stay inside", "9112 3.2.1", b"/a/b/../c"),
    _path("path of 8000 bytes", "9112 3", b"/" + b"a" * 7999),
    forwarded("asterisk", "9113 8.3.1", get(method=b"OPTIONS", path=b"*"), line=b"OPTIONS * HTTP/1.1"),
    _bad_path("path that is empty", "9113 8.3.1", b""),
    malformed("path that is empty with options", "9113 8.3.1", get(method=b"OPTIONS", path=b"")),
    _bad_path("asterisk with get", "9113 8.3.1", b"*"),
    _bad_path("path without a slash", "9113 8.3.1", b"a/b"),
    _bad_path("query without a path", "9113 8.3.1", b"?a=b"),
    _bad_path("absolute", "9113 8.3.1", b"http://a.example/"),
    _bad_path("absolute for somebody else", "9113 8.3.1", b"http://b.example/"),
    _bad_path("authority for a path", "9113 8.3.1", b"a.example:80"),
    _bad_path("path with a space", "9113 8.3.1", b"/a b"),
    _bad_path("path with a version", "9113 8.2.1", b"/a HTTP/1.0"),
    _bad_path("path that is a request", "9113 8.2.1", b"/ HTTP/1.1\r\nhost: a\r\n\r\nGET /admin"),
    _bad_path("path with a field", "9113 8.2.1", b"/ HTTP/1.1\r\ntransfer-encoding: chunked\r\nx: "),
    _bad_path("path with a line feed", "9113 8.2.1", b"/ HTTP/1.1\nx: y"),
    _bad_path("path with CR", "9113 8.2.1", b"/a\rb"),
    _bad_path("path with NUL", "9113 8.2.1", b"/a\0b"),
    _bad_path("path with a tab", "9113 8.2.1", b"/a\tb"),
    _bad_path("path with DEL", "9113 8.2.1", b"/a\x7fb"),
    _bad_path("path with space before", "9113 8.2.1", b" /a"),
    _bad_path("path not in ascii", "9113 8.3.1", b"/\xc3\xa9"),
    _bad_path("fragment", "9113 8.3.1", b"/a#b"),
    _bad_path("fragment in a query", "9113 8.3.1", b"/a?b#c"),
    _bad_path("escape that is not hexadecimal", "3986 2.1", b"/%zz", "400/open"),
    _bad_path("escape that is cut", "3986 2.1", b"/a%4", "400/open"),
    _bad_path("escaped NUL", "3986 7.3", b"/a%00b", "400/open"),
    _bad_path("escaped line end", "3986 7.3", b"/a%0d%0ab", "400/open"),
    _bad_path("backslash", "3986 3.3", b"/a\\..\\b", "400/open"),
    _bad_path("dot segments that leave the root", "3986 5.2.4", b"/../a", "400/open"),
    _bad_path("escaped dot segments that leave the root", "3986 6.2.2", b"/%2e%2e/a", "400/open"),
    _bad_path("path of 9000 bytes", "9110 15.5.15", b"/" + b"a" * 8999, "414/open"),
)


def _host(name: str, authority: bytes) -> Block:
    return forwarded(name, "9113 8.3.1", get(authority=authority), host=authority)


def _bad_host(name: str, authority: bytes) -> Block:
    return malformed(name, "9113 8.3.1", get(authority=authority))


_HOSTS: tuple[Block, ...] = (
    _host("authority with a port", b"a.example:8080"),
    _host("authority with a trailing dot", b"a.example."),
    _host("authority that is an IPv6 address", b"[2001:db8::1]:80"),
    forwarded("host alone", "9113 8.3.1", get((b"host", HOST), authority=None)),
    forwarded("host that says the same", "9113 8.3.1", get((b"host", HOST))),
    forwarded("host that says the same with the port", "9113 8.3.1", get((b"host", b"a.example:80"))),
    forwarded("host that says the same in capitals", "9113 8.3.1", get((b"host", b"A.Example"))),
    malformed("host that says something else", "9113 8.3.1", get((b"host", b"b.example"))),
    malformed("host with another port", "9113 8.3.1", get((b"host", b"a.example:81"))),
    malformed("host that is empty", "9113 8.3.1", get((b"host", b""))),
    malformed("host twice alike", "9112 3.2", get((b"host", HOST), (b"host", HOST))),
    malformed(
        "host twice without authority", "9112 3.2", get((b"host", HOST), (b"host", b"b.example"), authority=None)
    ),
    malformed("host list", "9112 3.2", get((b"host", b"a.example, b.example"), authority=None)),
    malformed("host with a user", "9113 8.3.1", get((b"host", b"u@a.example"), authority=None)),
    malformed("host with a line end", "9113 8.2.1", get((b"host", b"a.example\r\nx: y"), authority=None)),
    malformed("neither authority nor host", "9112 3.2", get(authority=None)),
    malformed("authority that is empty and a host", "9113 8.3.1", get((b"host", HOST), authority=b"")),
    _bad_host("authority that is empty", b""),
    _bad_host("authority with a user", b"u@a.example"),
    _bad_host("authority with a user and password", b"u:p@a.example"),
    _bad_host("authority that is a list", b"a.example,b.example"),
    _bad_host("authority with a space", b"a.example b.example"),
    _bad_host("authority with space before", b" a.example"),
    _bad_host("authority with space behind", b"a.example "),
    _bad_host("authority with a path", b"a.example/b"),
    _bad_host("authority with a scheme", b"http://a.example"),
    _bad_host("authority with a query", b"a.example?b"),
    _bad_host("authority with a fragment", b"a.example#b"),
    _bad_host("authority with a backslash", b"a.example\\b"),
    _bad_host("authority with a port of letters", b"a.example:http"),
    _bad_host("authority with a port over 65535", b"a.example:99999"),
    _bad_host("authority with a negative port", b"a.example:-80"),
    _bad_host("authority with two ports", b"a.example:80:81"),
    _bad_host("authority with a port and a request", b"a.example:80\r\n\r\nGET /admin HTTP/1.1\r\nhost: a"),
    _bad_host("authority with a line feed", b"a.example\nx: y"),
    _bad_host("authority with NUL", b"a.example\0"),
    _bad_host("authority with an escape", b"a%2eexample"),
    _bad_host("authority not in ascii", b"\xc3\xa9.example"),
    _bad_host("authority that is a bare IPv6 address", b"2001:db8::1"),
    _bad_host("authority with a bracket open", b"[2001:db8::1"),
    _bad_host("authority that is long", b"a." * 150 + b"example"),
)

_SCHEMES: tuple[Block, ...] = (
    # Somebody in front who took off the TLS may say so; who is asked is the same.
    forwarded("another scheme that is HTTP's", "9113 8.3.1", get(scheme=b"https")),
    malformed("scheme that is empty", "9113 8.3.1", get(scheme=b"")),
    malformed("scheme that is not HTTP's", "9113 8.3.1", get(scheme=b"ftp")),
    malformed("scheme with a path", "9113 8.3.1", get(scheme=b"http://b.example/?")),
    malformed("scheme with a line end", "9113 8.2.1", get(scheme=b"http\r\nx: y")),
    malformed("scheme with a space", "9113 8.3.1", get(scheme=b"http ")),
)

ROWS: tuple[Block, ...] = _ORDER + _METHODS + _PATHS + _HOSTS + _SCHEMES
