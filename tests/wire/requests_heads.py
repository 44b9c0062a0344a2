"""
Requests whose point is how their head is written: the request line, its target, Host, the fields, and their sizes.
"""

from __future__ import annotations

from tests.wire.rows import Row, passed, plain, refused, request


def _line(name: str, rfc: str, start: bytes, *statuses: int) -> Row:
    return refused(name, rfc, request(start=start), *statuses)


def _method(name: str, method: bytes, *refusals: int) -> Row:
    start = method + b" / HTTP/1.1"
    heads = (0,) if method == b"HEAD" else ()
    return passed(name, "9110 9", request(start=start), plain(line=start), refusals=refusals, heads=heads)


_LINES: tuple[Row, ...] = (
    _method("get", b"GET"),
    _method("head", b"HEAD"),
    _method("options", b"OPTIONS"),
    _method("delete", b"DELETE"),
    _method("put without a body", b"PUT"),
    _method("method of an extension", b"PURGE"),
    _method("method of odd characters", b"!#$%&'*+-.^_`|~9A"),
    _method("method in small letters", b"get", 400, 405, 501),
    _method("method of 64 letters", b"M" * 64, 400, 405, 501),
    passed("empty line before", "9112 2.2", b"\r\n" + request(), plain()),
    passed("empty lines before", "9112 2.2", b"\r\n\r\n" + request(), plain(), refusals=(400,)),
    refused("bare LF before", "9112 2.2", b"\n" + request()),
    refused("bare CR before", "9112 2.2", b"\r" + request()),
    refused("space before", "9112 3", b" " + request()),
    refused("tab before", "9112 3", b"\t" + request()),
    _line("two spaces before the target", "9112 3", b"GET  / HTTP/1.1"),
    _line("two spaces behind the target", "9112 3", b"GET /  HTTP/1.1"),
    _line("tabs in the line", "9112 3", b"GET\t/\tHTTP/1.1"),
    _line("space behind the version", "9112 3", b"GET / HTTP/1.1 "),
    _line("something behind the version", "9112 3", b"GET / HTTP/1.1 x"),
    _line("no method", "9112 3.1", b" / HTTP/1.1"),
    _line("no target", "9112 3.2", b"GET HTTP/1.1"),
    _line("empty target", "9112 3.2", b"GET  HTTP/1.1"),
    _line("no version", "9112 3", b"GET /", 400, 505),
    _line("no version and no target", "9112 3", b"GET"),
    _line("method with a bracket", "9110 5.6.2", b"GE(T / HTTP/1.1"),
    _line("method with a colon", "9110 5.6.2", b"GET: / HTTP/1.1"),
    _line("method not in ascii", "9110 5.6.2", b"G\xc3\x89T / HTTP/1.1"),
    _line("method with NUL", "9110 5.6.2", b"GET\x00 / HTTP/1.1"),
    _line("version 0.9", "9112 2.3", b"GET / HTTP/0.9", 400, 505),
    _line("version 1.2", "9110 2.5", b"GET / HTTP/1.2", 400, 505),
    _line("version 1.10", "9112 2.3", b"GET / HTTP/1.10", 400, 505),
    _line("version 2.0", "9110 15.6.6", b"GET / HTTP/2.0", 505, 400),
    _line("version in small letters", "9112 2.3", b"GET / http/1.1", 400, 505),
    _line("version without a slash", "9112 2.3", b"GET / HTTP1.1", 400, 505),
    _line("version with space", "9112 2.3", b"GET / HTTP/ 1.1", 400, 505),
    _line("version without a point", "9112 2.3", b"GET / HTTP/11", 400, 505),
    _line("another protocol", "9112 2.3", b"GET / FTP/1.1", 400, 505),
    _line("CR in the line", "9112 2.2", b"GET /\r HTTP/1.1"),
    _line("connect", "9110 9.3.6", b"CONNECT a.example:443 HTTP/1.1", 501, 405, 400),
    refused("preface of HTTP 2", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 505),
    refused("greeting of TLS", "9112 3", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"),
    refused("lines ended by bare LF", "9112 2.2", b"GET / HTTP/1.1\nHost: a.example\n\n"),
    refused("first line ended by bare LF", "9112 2.2", b"GET / HTTP/1.1\nHost: a.example\r\n\r\n"),
    refused("head ended by bare LF", "9112 2.2", b"GET / HTTP/1.1\r\nHost: a.example\r\n\n"),
    refused("lines ended by bare CR", "9112 2.2", b"GET / HTTP/1.1\rHost: a.example\r\r"),
    refused("line ended by two CR", "9112 2.2", b"GET / HTTP/1.1\r\r\nHost: a.example\r\n\r\n"),
)


def _target(name: str, rfc: str, target: bytes, *refusals: int, forwarded: bytes = b"") -> Row:
    line = b"GET " + (forwarded or target) + b" HTTP/1.1"
    return passed(name, rfc, request(start=b"GET " + target + b" HTTP/1.1"), plain(line=line), refusals=refusals)


def _bad_target(name: str, rfc: str, target: bytes, *statuses: int) -> Row:
    return _line(name, rfc, b"GET " + target + b" HTTP/1.1", *statuses)


_TARGETS: tuple[Row, ...] = (
    _target("path and query", "9112 3.2.1", b"/a/b?c=d&e=f"),
    _target("query that is empty", "3986 3.4", b"/a?"),
    _target("query with question marks", "3986 3.4", b"/a?b?c??"),
    _target("query with dots", "3986 3.4", b"/a?../../b"),
    _target("query that holds an address", "3986 3.4", b"/a?to=http://b.example/c"),
    _target("path with parameters", "3986 3.3", b"/a;v=1/b;c"),
    _target("path with all kinds of characters", "3986 3.3", b"/-._~!$&'()*+,;=:@"),
    _target("path escaped needlessly", "9112 3.2.1", b"/%7Ea/%62%2fc"),
    _target("escapes in small letters", "9112 3.2.1", b"/%e2%82%ac"),
    _target("path with empty segments", "9112 3.2.1", b"//a///b"),
    _target("path with a dot segment", "9112 3.2.1", b"/a/./b"),
    _target("path with dot segments that stay inside", "9112 3.2.1", b"/a/b/../c"),
    _target("path with escaped dot segments that stay inside", "9112 3.2.1", b"/a/%2e%2E/c"),
    _target("path that only looks like dot segments", "9112 3.2.1", b"/a/.../..b/c.."),
    _target("path of 8000 bytes", "9112 3", b"/" + b"a" * 7999, 414),
    _target("absolute", "9112 3.2.2", b"http://a.example/a?b=c", forwarded=b"/a?b=c"),
    _target("absolute in capitals", "3986 3.1", b"HTTP://a.example/", 400, forwarded=b"/"),
    _target("absolute without a path", "9112 3.2.1", b"http://a.example", forwarded=b"/"),
    _target("absolute with a query and no path", "9112 3.2.1", b"http://a.example?a=b", 400, forwarded=b"/?a=b"),
    passed(
        "absolute with a port",
        "9112 3.2.2",
        request(start=b"GET http://a.example:81/x HTTP/1.1", host=b"a.example:81"),
        plain(line=b"GET /x HTTP/1.1", host=b"a.example:81"),
    ),
    passed(
        "absolute that Host contradicts",
        "9112 3.2.2",
        request(start=b"GET http://b.example/ HTTP/1.1"),
        plain(host=b"b.example"),
        refusals=(400,),
    ),
    passed("asterisk", "9112 3.2.4", request(start=b"OPTIONS * HTTP/1.1"), plain(line=b"OPTIONS * HTTP/1.1")),
    passed(
        "absolute for asterisk",
        "9112 3.2.4",
        request(start=b"OPTIONS http://a.example HTTP/1.1"),
        plain(line=b"OPTIONS * HTTP/1.1"),
    ),
    _bad_target("asterisk with get", "9112 3.2.4", b"*"),
    _bad_target("absolute with a user", "9110 4.2.4", b"http://u@a.example/"),
    _bad_target("absolute of another scheme", "9112 3.2.2", b"ftp://a.example/"),
    _bad_target("absolute without a host", "9110 4.2.1", b"http:///a"),
    _bad_target("absolute with a bad port", "9110 4.2.1", b"http://a.example:8x/"),
    _bad_target("scheme without slashes", "9112 3.2", b"http:/a"),
    _bad_target("authority", "9112 3.2.3", b"a.example:80"),
    _bad_target("path without a slash", "9112 3.2.1", b"a/b"),
    _bad_target("query without a path", "9112 3.2.1", b"?a=b"),
    _bad_target("fragment", "9112 3.2", b"/a#b"),
    _bad_target("space in the target", "9112 3.2", b"/a b"),
    _bad_target("target not in ascii", "9112 3.2", b"/\xc3\xa9"),
    _bad_target("target with NUL", "9112 3.2", b"/a\x00b"),
    _bad_target("target with DEL", "9112 3.2", b"/a\x7fb"),
    _bad_target("target with an escape character", "9112 3.2", b"/a\x1b[2J"),
    _bad_target("target with a tab", "9112 3.2", b"/a\tb"),
    _bad_target("escape that is not hexadecimal", "3986 2.1", b"/%zz"),
    _bad_target("escape that is cut", "3986 2.1", b"/a%4"),
    _bad_target("escape of nothing", "3986 2.1", b"/a%"),
    _bad_target("escaped NUL", "3986 7.3", b"/a%00b"),
    _bad_target("dot segments that leave the root", "3986 5.2.4", b"/../a"),
    _bad_target("dot segments that leave the root later", "3986 5.2.4", b"/a/../../b"),
    _bad_target("escaped dot segments that leave the root", "3986 6.2.2", b"/%2e%2e/a"),
    _bad_target("target of 9000 bytes", "9110 15.5.15", b"/" + b"a" * 8999, 414),
    _bad_target("target of 70000 bytes", "9110 15.5.15", b"/" + b"a" * 69999, 414),
)


def _host(name: str, value: bytes, *refusals: int) -> Row:
    return passed(name, "9110 7.2", request(host=value), plain(host=value.strip()), refusals=refusals)


def _bad_host(name: str, value: bytes) -> Row:
    return refused(name, "9112 3.2", request(host=value))


_HOSTS: tuple[Row, ...] = (
    _host("host with a port", b"a.example:8080"),
    _host("host in capitals", b"A.Example"),
    _host("host with a trailing dot", b"a.example."),
    _host("host with underscore", b"a_b.example", 400),
    _host("host that is an address", b"192.0.2.1"),
    _host("host that is an IPv6 address", b"[2001:db8::1]:80"),
    _host("host with space around", b"  a.example\t"),
    _host("host with an empty port", b"a.example:", 400),
    _host("host with a port over 65535", b"a.example:99999", 400),
    _host("host that is empty", b"", 400),
    passed("host in HTTP 1.0", "9112 3.2", request(start=b"GET / HTTP/1.0"), plain(), end="closed"),
    passed(
        "no host in HTTP 1.0", "9112 3.2", request(start=b"GET / HTTP/1.0", host=None), plain(host=None), end="closed"
    ),
    refused("no host", "9112 3.2", request(host=None)),
    refused("no fields", "9112 3.2", b"GET / HTTP/1.1\r\n\r\n"),
    refused("host twice alike", "9112 3.2", request(b"Host: a.example")),
    refused("host twice unlike", "9112 3.2", request(b"Host: b.example")),
    refused("host twice in HTTP 1.0", "9112 3.2", request(b"Host: b.example", start=b"GET / HTTP/1.0")),
    refused("host again in small letters", "9112 3.2", request(b"a: b", b"host: b.example")),
    refused("absolute without the field", "9112 3.2", request(start=b"GET http://a.example/ HTTP/1.1", host=None)),
    refused("host with space before the colon", "9112 5.1", request(b"Host : a.example", host=None)),
    refused("host folded", "9112 5.2", request(b"Host:\r\n a.example", host=None)),
    _bad_host("host with space inside", b"a.example b.example"),
    _bad_host("host list", b"a.example, b.example"),
    _bad_host("host list without space", b"a.example,b.example"),
    _bad_host("host with a path", b"a.example/b"),
    _bad_host("host with a scheme", b"http://a.example"),
    _bad_host("host with a user", b"u@a.example"),
    _bad_host("host with a user and password", b"u:p@a.example"),
    _bad_host("host with a port of letters", b"a.example:http"),
    _bad_host("host with two ports", b"a.example:80:81"),
    _bad_host("host with a negative port", b"a.example:-80"),
    _bad_host("host that is a bare IPv6 address", b"2001:db8::1"),
    _bad_host("host with a bracket open", b"[2001:db8::1"),
    _bad_host("host with something behind the bracket", b"[2001:db8::1]x"),
    _bad_host("host with a query", b"a.example?b"),
    _bad_host("host with a fragment", b"a.example#b"),
    _bad_host("host not in ascii", b"\xc3\xa9.example"),
    _bad_host("host with backslash", b"a.example\\b"),
    _bad_host("host with NUL", b"a.example\x00"),
)


def _field(name: str, rfc: str, *lines: bytes, kept: tuple[bytes, ...] | None = None) -> Row:
    return passed(name, rfc, request(*lines), plain(*(lines if kept is None else kept)))


def _bad_field(name: str, rfc: str, line: bytes, *statuses: int) -> Row:
    return refused(name, rfc, request(b"A: b", line, b"C: d"), *statuses)


_FIELDS: tuple[Row, ...] = (
    _field("fields in order", "9110 5.3", b"B: 1", b"A: 2", b"C: 3"),
    _field("field twice", "9110 5.3", b"A: 1", b"B: 2", b"A: 3", b"a: 1"),
    _field("names as written", "9110 5.1", b"x-lower: 1", b"X-UPPER: 2", b"x-MiXeD: 3"),
    _field("names of odd characters", "9110 5.1", b"!#$%&'*+-.^_`|~9: 1"),
    _field("value that is empty", "9110 5.5", b"A:", b"B: ", b"C: \t ", kept=(b"A: ", b"B: ", b"C: ")),
    _field("space around a value", "9110 5.5", b"A:b", b"B: \t c d \t", kept=(b"A: b", b"B: c d")),
    _field("space inside a value", "9110 5.5", b"A: b  c\td"),
    _field("value not in ascii", "9110 5.5", b"A: \xe9\xff\x80"),
    _field("value of all kinds of characters", "9110 5.5", b"A: " + bytes(range(0x21, 0x7F))),
    _field("value with colons", "9110 5.5", b"A: b: c:: d"),
    _field("cookies in two fields", "9110 5.3", b"Cookie: a=b", b"Cookie: c=d"),
    _field("name of 200 bytes", "9110 5.4", b"n" * 200 + b": v"),
    _field("value of 20000 bytes", "9110 5.4", b"A: " + b"v" * 20000),
    _field("name with underscore", "9110 5.1", b"X_Tra: 1"),
    _field("hundred fields", "9110 5.4", *(b"F%d: %d" % (number, number) for number in range(99))),
    refused("fields over the limit", "6585 5", request(*(b"F%d: v" % number for number in range(100))), 431),
    refused("fields by thousands", "6585 5", request(*(b"F: v" for _ in range(3000))), 431),
    refused("field over the limit", "6585 5", request(b"A: " + b"v" * 40000), 431),
    refused(
        "fields over the limit together", "6585 5", request(*(b"F%02d: " % n + b"v" * 500 for n in range(80))), 431
    ),
    refused("name over the limit", "6585 5", request(b"n" * 40000 + b": v"), 431),
    refused("head without end", "6585 5", request(b"A: b")[:-2] + b"B: " + b"v" * 33000, 431),
    refused("space before the first field", "9112 2.2", b"GET / HTTP/1.1\r\n Host: a.example\r\n\r\n"),
    refused("space before a field behind Host", "9112 5.2", request(b" A: b")),
    _bad_field("folded with space", "9112 5.2", b"X: y\r\n z"),
    _bad_field("folded with a tab", "9112 5.2", b"X: y\r\n\tz"),
    _bad_field("folded with nothing", "9112 5.2", b"X: y\r\n "),
    _bad_field("space before the colon", "9112 5.1", b"X : y"),
    _bad_field("tab before the colon", "9112 5.1", b"X\t: y"),
    _bad_field("space inside the name", "9110 5.1", b"X Y: z"),
    _bad_field("no colon", "9112 5", b"hidden"),
    _bad_field("no name", "9110 5.1", b": y"),
    _bad_field("only a colon", "9110 5.1", b":"),
    _bad_field("name with a bracket", "9110 5.1", b"X[0]: y"),
    _bad_field("name with a slash", "9110 5.1", b"X/Y: z"),
    _bad_field("name in quotes", "9110 5.1", b'"X": y'),
    _bad_field("name not in ascii", "9110 5.1", b"X\xc3\xa9: y"),
    _bad_field("name with NUL", "9110 5.1", b"X\x00: y"),
    _bad_field("name with DEL", "9110 5.1", b"X\x7f: y"),
    _bad_field("value with NUL", "9110 5.5", b"X: y\x00z"),
    _bad_field("value with a bell", "9110 5.5", b"X: y\x07z"),
    _bad_field("value with an escape character", "9110 5.5", b"X: \x1b[2J"),
    _bad_field("value with DEL", "9110 5.5", b"X: y\x7fz"),
    _bad_field("value with a vertical tab", "9110 5.5", b"X: y\x0bz"),
    _bad_field("value with a form feed", "9110 5.5", b"X: y\x0cz"),
    _bad_field("value with bare CR", "9112 2.2", b"X: y\rz"),
    _bad_field("value with bare LF", "9112 2.2", b"X: y\nz"),
    _bad_field("value with CR before its end", "9112 2.2", b"X: y\r"),
    _bad_field("another request line", "9112 5", b"GET /hidden HTTP/1.1"),
)

ROWS: tuple[Row, ...] = _LINES + _TARGETS + _HOSTS + _FIELDS
