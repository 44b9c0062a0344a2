"""Heads: lists of fields as HTTP/1.1 in bytes, what is none (RFC 9113 §8.2, §8.3), and the way back."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import codec as http1
from lemmytx.http2 import heads
from lemmytx.http2.errors import Declined, Malformed
from lemmytx.http2.heads import Field
from lemmytx.message import CHUNKED
from tests.http2.rig import GET, POST, Fields

_M, _S, _A, _P = GET
_FRONT = b"GET / HTTP/1.1\r\nhost: a.example\r\n"
_OPTIONS: Fields = [(b":method", b"OPTIONS"), _S, _A, (b":path", b"*")]


def _path(value: bytes) -> Fields:
    return [_M, _S, _A, (b":path", value)]


def _authority(value: bytes, *more: Field) -> Fields:
    return [_M, _S, (b":authority", value), _P, *more]


def _with(*more: Field) -> Fields:
    return [*GET, *more]


# What it is; the fields; whether no body follows; the head; the body's length.
TAKEN: list[tuple[str, Fields, bool, bytes, int]] = [
    ("a small request", GET, True, _FRONT + b"\r\n", 0),
    ("another order", [_P, _A, _S, _M], True, _FRONT + b"\r\n", 0),
    ("fields", _with((b"accept", b"*/*"), (b"x-y", b"z")), True, _FRONT + b"accept: */*\r\nx-y: z\r\n\r\n", 0),
    ("a body", POST, False, b"POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n", -1),
    ("a body with its length", [*POST, (b"content-length", b"5")], False,
     b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 5\r\n\r\n", 5),
    ("a body with no bytes", [*POST, (b"content-length", b"0")], True,
     b"POST / HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n", 0),
    ("host in place of :authority", [_M, _S, _P, (b"host", b"b")], True, b"GET / HTTP/1.1\r\nhost: b\r\n\r\n", 0),
    ("host as :authority", _with((b"host", b"a.example")), True, _FRONT + b"\r\n", 0),
    ("host as :authority but for case and port", _with((b"host", b"A.example:80")), True, _FRONT + b"\r\n", 0),
    ("an authority with a port", _authority(b"a.example:8443"), True,
     b"GET / HTTP/1.1\r\nhost: a.example:8443\r\n\r\n", 0),
    ("an IPv6 authority", _authority(b"[::1]:80"), True, b"GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n", 0),
    ("an authority in capitals", _authority(b"A.Example"), True, b"GET / HTTP/1.1\r\nhost: A.Example\r\n\r\n", 0),
    ("crumbs of a cookie", _with((b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c")), True,
     _FRONT + b"cookie: a=1; b=2; c\r\nx: y\r\n\r\n", 0),
    ("te", _with((b"te", b"Trailers")), True, _FRONT + b"te: Trailers\r\n\r\n", 0),
    ("an empty value", _with((b"x", b""), (b"y", b"z")), True, _FRONT + b"x: \r\ny: z\r\n\r\n", 0),
    ("tab and bytes above 127 within a value", _with((b"x", b"a\t\x80\xff b")), True,
     _FRONT + b"x: a\t\x80\xff b\r\n\r\n", 0),
    ("a colon and spaces in a value", _with((b"x", b"a:  b: c")), True, _FRONT + b"x: a:  b: c\r\n\r\n", 0),
    ("a name of odd characters", _with((b"!#$%&'*+-.^_`|~09az", b"v")), True,
     _FRONT + b"!#$%&'*+-.^_`|~09az: v\r\n\r\n", 0),
    ("OPTIONS *", _OPTIONS, True, b"OPTIONS * HTTP/1.1\r\nhost: a.example\r\n\r\n", 0),
    ("a query", _path(b"/a%20b?c=d&e"), True, b"GET /a%20b?c=d&e HTTP/1.1\r\nhost: a.example\r\n\r\n", 0),
    ("every character of a path", _path(b"/!$&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~%\""), True,
     b"GET /!$&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~%\" HTTP/1.1\r\nhost: a.example\r\n\r\n", 0),
    ("https", [_M, (b":scheme", b"https"), _A, _P], True, _FRONT + b"\r\n", 0),
]  # fmt: skip

# What it is; the fields. With a body to come, if it says so.
REFUSED: list[tuple[str, Fields]] = [
    ("nothing", []),
    ("a name in capitals", _with((b"X-Y", b"z"))),
    ("a name that ends in a capital", _with((b"acceptE", b"z"))),
    ("no name", _with((b"", b"z"))),
    ("a name with a space", _with((b"x y", b"z"))),
    ("a name with a space at its end", _with((b"content-length ", b"0"))),
    ("a name with a colon", _with((b"x:y", b"z"))),
    ("a name with a line in it", _with((b"x: y\r\nhost", b"z"))),
    ("a name with a NUL", _with((b"x\0", b"z"))),
    ("a name with a byte above 127", _with((b"x\xe4", b"z"))),
    ("CR LF in a value", _with((b"x", b"y\r\nhost: b"))),
    ("CR in a value", _with((b"x", b"y\rz"))),
    ("LF in a value", _with((b"x", b"y\nz"))),
    ("NUL in a value", _with((b"x", b"y\0z"))),
    ("another control character in a value", _with((b"x", b"y\x01z"))),
    ("DEL in a value", _with((b"x", b"y\x7fz"))),
    ("a space before a value", _with((b"x", b" y"))),
    ("a tab before a value", _with((b"x", b"\ty"))),
    ("a space behind a value", _with((b"x", b"y "))),
    ("a tab behind a value", _with((b"x", b"y\t"))),
    ("a value that is a space", _with((b"x", b" "))),
    ("space around a crumb", _with((b"cookie", b"a=1"), (b"cookie", b" b=2"))),
    ("CR LF in a crumb", _with((b"cookie", b"a=1"), (b"cookie", b"b\r\nx: y"))),
    ("CR LF in host", [_M, _S, _P, (b"host", b"a\r\nx: y")]),
    ("connection", _with((b"connection", b"close"))),
    ("keep-alive", _with((b"keep-alive", b"timeout=1"))),
    ("proxy-connection", _with((b"proxy-connection", b"close"))),
    ("transfer-encoding", _with((b"transfer-encoding", b"chunked"))),
    ("upgrade", _with((b"upgrade", b"h2c"))),
    ("http2-settings", _with((b"http2-settings", b"AAMAAABk"))),
    ("te: gzip", _with((b"te", b"gzip"))),
    ("te: trailers and more", _with((b"te", b"trailers, gzip"))),
    ("te: nothing", _with((b"te", b""))),
    ("two content-length that differ", _with((b"content-length", b"1"), (b"content-length", b"2"))),
    ("two content-length that agree", _with((b"content-length", b"1"), (b"content-length", b"1"))),
    ("content-length with a sign", _with((b"content-length", b"+1"))),
    ("content-length as a list", _with((b"content-length", b"1, 1"))),
    ("content-length with zeros before it", _with((b"content-length", b"01"))),
    ("content-length that is empty", _with((b"content-length", b""))),
    ("content-length of 20 digits", _with((b"content-length", b"1" * 20))),
    ("content-length in hex", _with((b"content-length", b"0x1"))),
    ("an unknown field with a colon", [*GET, (b":x", b"y")]),
    ("a colon as a name", [*GET, (b":", b"y")]),
    (":status", [*GET, (b":status", b"200")]),
    (":protocol with GET", [*GET, (b":protocol", b"websocket")]),
    (":path behind a field", [_M, _S, _A, (b"x", b"y"), _P]),
    (":path behind host", [_M, _S, _A, (b"host", b"a.example"), _P]),
    ("two :path", [*GET, _P]),
    ("two :method", [*GET, _M]),
    ("two :scheme", [*GET, _S]),
    ("two :authority", [*GET, _A]),
    ("no :method", [_S, _A, _P]),
    ("no :scheme", [_M, _A, _P]),
    ("no :path", [_M, _S, _A]),
    ("neither :authority nor host", [_M, _S, _P]),
    ("an empty :method", [(b":method", b""), *GET[1:]]),
    (":method with a space", [(b":method", b"GET /x"), *GET[1:]]),
    (":method with a line", [(b":method", b"GET / HTTP/1.1\r\nx: y"), *GET[1:]]),
    (":method of 33 bytes", [(b":method", b"M" * 33), *GET[1:]]),
    ("an empty :scheme", [_M, (b":scheme", b""), _A, _P]),
    ("another :scheme", [_M, (b":scheme", b"ftp"), _A, _P]),
    (":scheme in capitals", [_M, (b":scheme", b"HTTP"), _A, _P]),
    (":scheme with more", [_M, (b":scheme", b"http://b/"), _A, _P]),
    ("an empty :path", _path(b"")),
    (":path without a slash", _path(b"x")),
    (":path of a whole URL", _path(b"http://b/")),
    (":path of * with GET", _path(b"*")),
    (":path of ** with OPTIONS", [*_OPTIONS[:3], (b":path", b"**")]),
    (":path with a space", _path(b"/ HTTP/1.1")),
    (":path with CR LF", _path(b"/ HTTP/1.1\r\nhost: b\r\n\r\n")),
    (":path with a tab", _path(b"/\tx")),
    (":path with NUL", _path(b"/\0")),
    (":path with a fragment", _path(b"/#x")),
    (":path with a byte above 127", _path(b"/\xe4")),
    (":path with DEL", _path(b"/\x7f")),
    ("an empty :authority", _authority(b"")),
    (":authority with a user", _authority(b"u@a.example")),
    (":authority with a user and a password", _authority(b"u:p@a.example")),
    (":authority with a path", _authority(b"a.example/x")),
    (":authority with a comma", _authority(b"a.example,b.example")),
    (":authority with a space", _authority(b"a.example b")),
    (":authority with CR LF", _authority(b"a\r\nx: y")),
    (":authority with no port behind two colons", _authority(b"a::80")),
    (":authority with a port too high", _authority(b"a:65536")),
    (":authority with a port that is none", _authority(b"a:http")),
    (":authority with an escape", _authority(b"a%2eb")),
    (":authority with broken brackets", _authority(b"[::1")),
    (":authority of 300 bytes", _authority(b"a" * 300)),
    ("host that differs", _with((b"host", b"b.example"))),
    ("host with another port", _with((b"host", b"a.example:81"))),
    ("an empty host beside :authority", _with((b"host", b""))),
    ("two host", _with((b"host", b"a.example"), (b"host", b"a.example"))),
    ("an empty host alone", [_M, _S, _P, (b"host", b"")]),
    ("CONNECT with :path", [(b":method", b"CONNECT"), _A, _P]),
    ("CONNECT with :scheme", [(b":method", b"CONNECT"), _S, _A]),
    ("CONNECT without :authority", [(b":method", b"CONNECT")]),
]

_WEBSOCKET: Fields = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    *GET[1:],
    (b"sec-websocket-version", b"13"),
]


class RequestTests(SynchronousTestCase):
    """Requests on their way in."""

    def test_taken(self) -> None:
        """What is well-formed is the HTTP/1.1 head that means the same, and that codec takes it."""
        for what, fields, ended, head, length in TAKEN:
            self.assertEqual(heads.request(fields, ended, False), (head, length, None), what)
            parsed = http1.request(head)
            assert parsed is not None
            self.assertEqual(parsed.length, CHUNKED if length < 0 else length, what)
            self.assertEqual(parsed.size, len(head), what)

    def test_refused(self) -> None:
        """What is malformed is refused, wherever extended CONNECT is offered or not."""
        for what, fields in REFUSED:
            for extended in (False, True):
                try:
                    found = heads.request(fields, False, extended)
                except Malformed:
                    continue
                self.fail(f"{what}: {found!r}")

    def test_length_without_body(self) -> None:
        """A content-length on a request that has ended is malformed."""
        self.assertRaises(Malformed, heads.request, [*POST, (b"content-length", b"1")], True, False)

    def test_connect(self) -> None:
        """A well-formed CONNECT is declined with 405."""
        error = self.assertRaises(Declined, heads.request, [(b":method", b"CONNECT"), _A], True, False)
        self.assertEqual(error.status, b"405")

    def test_websocket(self) -> None:
        """An extended CONNECT for a WebSocket is the GET that asks for one, with a key of its own each time."""
        head, length, protocol = heads.request(_WEBSOCKET, False, True)
        self.assertEqual((length, protocol), (-1, b"websocket"))
        parsed = http1.request(head)
        assert parsed is not None
        self.assertEqual((parsed.method, parsed.target, parsed.upgrade, parsed.length), (b"GET", b"/", b"websocket", 0))
        key = parsed.field(b"sec-websocket-key")
        assert key is not None
        self.assertEqual(len(key), 24)
        self.assertNotEqual(head, heads.request(_WEBSOCKET, False, True)[0])
        spelled = [(name, value.replace(b"websocket", b"WebSocket")) for name, value in _WEBSOCKET]
        self.assertEqual(heads.request(spelled, False, True)[1:], (-1, b"websocket"))
        forged = [*_WEBSOCKET, (b"sec-websocket-key", b"mine"), (b"x", b"y")]
        again = http1.request(heads.request(forged, False, True)[0])
        assert again is not None
        self.assertNotIn(b"mine", again.field(b"sec-websocket-key") or b"mine")
        self.assertEqual(again.field(b"x"), b"y")

    def test_extended_refused(self) -> None:
        """An extended CONNECT for something else is declined with 501; one that is not offered or none is malformed."""
        other = [(name, b"chat" if name == b":protocol" else value) for name, value in _WEBSOCKET]
        self.assertEqual(self.assertRaises(Declined, heads.request, other, False, True).status, b"501")
        for fields, ended, extended in [
            (_WEBSOCKET, False, False),  # not offered
            (_WEBSOCKET, True, True),
            ([*_WEBSOCKET, (b"content-length", b"0")], False, True),
            ([field for field in _WEBSOCKET if field[0] != b":path"], False, True),
            ([(b":protocol", b"websocket"), *_WEBSOCKET], False, True),
        ]:
            self.assertRaises(Malformed, heads.request, fields, ended, extended)


class ResponseTests(SynchronousTestCase):
    """Responses on their way in."""

    def test_taken(self) -> None:
        """A response is the HTTP/1.1 head that means the same."""
        ok = (b":status", b"200")
        x = (b"x", b"y")
        nine = (b"content-length", b"9")
        for fields, ended, method, expected in [
            ([ok, x], False, b"GET", (b"HTTP/1.1 200 OK\r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n", 200, -1)),
            ([ok], True, b"GET", (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, 0)),
            ([ok], True, b"HEAD", (b"HTTP/1.1 200 OK\r\n\r\n", 200, -1)),
            ([ok, nine], True, b"HEAD", (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 200, -1)),
            ([ok, nine], False, b"GET", (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 200, 9)),
            ([(b":status", b"299")], True, b"HEAD", (b"HTTP/1.1 299 \r\n\r\n", 299, -1)),
            ([(b":status", b"204")], True, b"GET", (b"HTTP/1.1 204 No Content\r\n\r\n", 204, -1)),
            ([(b":status", b"304")], False, b"GET", (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, -1)),
            ([(b":status", b"103"), x], False, b"GET", (b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n", 103, -1)),
            ([(b":status", b"300"), nine], False, b"CONNECT",
             (b"HTTP/1.1 300 Multiple Choices\r\ncontent-length: 9\r\n\r\n", 300, 9)),
            ([ok], False, b"CONNECT", (b"HTTP/1.1 200 OK\r\n\r\n", 200, -1)),
            ([ok, (b"set-cookie", b"a"), (b"set-cookie", b"b")], True, b"HEAD",
             (b"HTTP/1.1 200 OK\r\nset-cookie: a\r\nset-cookie: b\r\n\r\n", 200, -1)),
        ]:  # fmt: skip
            self.assertEqual(heads.response(fields, ended, method), expected)
            parsed = http1.response(expected[0], method == b"HEAD")
            assert parsed is not None
            self.assertEqual((parsed.status, parsed.size), (expected[1], len(expected[0])))

    def test_refused(self) -> None:
        """A control character, space around a value, or a name in capitals is malformed in a response too."""
        for field in [(b"x", b"a\r\nb: c"), (b"x", b"a\0"), (b"x", b" a"), (b"X", b"a"), (b":x", b"a"), (b"", b"a")]:
            self.assertRaises(Malformed, heads.response, [(b":status", b"200"), field], True, b"GET")


class TrailerTests(SynchronousTestCase):
    """Trailers on their way in."""

    def test_taken(self) -> None:
        """Those that may be merged are kept; what frames, routes or authenticates is left out."""
        fields = [
            (b"grpc-status", b"0"), (b"content-length", b"5"), (b"host", b"b"), (b"x", b""), (b"cookie", b"a"),
            (b"te", b"x"),
        ]  # fmt: skip
        self.assertEqual(heads.trailers(fields), b"grpc-status: 0\r\nx: \r\n")
        self.assertEqual(heads.trailers([]), b"")

    def test_refused(self) -> None:
        """Fields with a colon, of connections, in capitals, or with a line in them are malformed."""
        for field in [
            (b":path", b"/"), (b"connection", b"x"), (b"transfer-encoding", b"chunked"), (b"X", b"y"), (b"", b"y"),
            (b"x", b"y\r\nz: a"), (b"x", b" y"), (b"x y", b"z"),
        ]:  # fmt: skip
            self.assertRaises(Malformed, heads.trailers, [field])


class OutTests(SynchronousTestCase):
    """Heads on their way out."""

    def test_request(self) -> None:
        """A request loses what speaks of its connection; Host becomes :authority; trailers are welcome."""
        head = (
            b"POST /x?y HTTP/1.1\r\nHost: a.example:81\r\nX-Y:  z \r\nConnection: close, x\r\n"
            b"Transfer-Encoding: chunked\r\nTE: gzip\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nUpgrade: x\r\n"
            b"HTTP2-Settings: a\r\nCookie: c\r\n\r\n"
        )
        method, fields = heads.request_fields(head, b"https", None)
        self.assertEqual(method, b"POST")
        self.assertEqual(
            fields,
            [
                (b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"a.example:81"), (b":path", b"/x?y"),
                (b"x-y", b"z"), (b"cookie", b"c"), (b"te", b"trailers"),
            ],
        )  # fmt: skip
        self.assertEqual(heads.request_fields(head[:-2], b"https", None)[1], fields)

    def test_request_without_host(self) -> None:
        """A request that names no host has no :authority."""
        names = [name for name, _ in heads.request_fields(b"GET / HTTP/1.1\r\n\r\n", b"http", None)[1]]
        self.assertEqual(names, [b":method", b":scheme", b":path", b"te"])

    def test_websocket(self) -> None:
        """A GET that asks for a WebSocket becomes an extended CONNECT, which the other side takes for the same."""
        head = (
            b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        method, fields = heads.request_fields(head, b"http", b"websocket")
        self.assertEqual(method, b"CONNECT")
        self.assertEqual(set(fields[:5]), {
            (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http"), (b":authority", b"a"),
            (b":path", b"/chat"),
        })  # fmt: skip
        self.assertEqual(fields[5:], [(b"sec-websocket-version", b"13"), (b"te", b"trailers")])
        parsed = http1.request(heads.request(fields, False, True)[0])
        assert parsed is not None
        self.assertEqual((parsed.target, parsed.upgrade), (b"/chat", b"websocket"))

    def test_response(self) -> None:
        """A response loses its reason and what speaks of its connection."""
        head = b"HTTP/1.1 404 Not Found\r\nServer: s\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nX:\r\n\r\n"
        expected = (b"404", [(b":status", b"404"), (b"server", b"s"), (b"x", b"")])
        self.assertEqual(heads.response_fields(head), expected)
        self.assertEqual(heads.response_fields(head[:-2]), expected)

    def test_trailers(self) -> None:
        """Trailer lines become fields; none are none."""
        self.assertEqual(heads.trailer_fields(b"Grpc-Status: 0\r\nX: y\r\n"), [(b"grpc-status", b"0"), (b"x", b"y")])
        self.assertEqual(heads.trailer_fields(b""), [])
