"""Request heads: what is taken and how it is understood, what is refused and with which status; on both twins."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.message import CHUNKED, ProtocolError
from tests.http1 import twins

NEXT = b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"


def get(*lines: bytes, target: bytes = b"/", method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    """A request with a Host and these lines."""
    return b"\r\n".join((method + b" " + target + b" " + version, b"Host: a.example", *lines, b"", b""))


# What it is; the bytes; what must come out of them.
TAKEN: list[tuple[str, bytes, dict[str, Any]]] = [
    (
        "a small request",
        b"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\n\r\n",
        {
            "method": b"GET", "target": b"/a?b=c", "path": b"/a", "authority": b"shop.example", "host": b"shop.example",
            "minor": 1, "length": 0, "keep_alive": True, "expects_continue": False, "upgrade": None,
            "block": b"Accept: */*\r\n", "claims": None, "raw": b"Host: shop.example\r\nAccept: */*\r\n", "size": 56,
        },
    ),
    ("one empty line before it", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", {"size": 29, "host": b"a"}),
    ("no field but Host", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", {"block": b""}),
    ("HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", {"minor": 0, "authority": b"", "host": b"", "raw": b""}),
    ("HTTP/1.0 closes", get(version=b"HTTP/1.0"), {"keep_alive": False}),
    ("HTTP/1.0 may keep", get(b"Connection: Keep-Alive", version=b"HTTP/1.0"), {"keep_alive": True, "block": b""}),
    ("close wins", get(b"Connection: keep-alive", b"Connection: foo, Close"), {"keep_alive": False}),
    ("HTTP/1.0 with an empty Host", b"GET / HTTP/1.0\r\nHost:\r\n\r\n", {"authority": b"", "host": b""}),
    ("an unknown method", get(method=b"PROPFIND"), {"method": b"PROPFIND"}),
    ("the longest method", get(method=b"M" * 32), {"method": b"M" * 32}),
    # Hosts
    ("a host in capitals, a port, a dot", b"GET / HTTP/1.1\r\nHost: A.Example.:8080\r\n\r\n",
     {"authority": b"A.Example.:8080", "host": b"a.example"}),
    ("an IPv6 host", b"GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n", {"host": b"[2001:db8::1]"}),
    ("a host with an underscore and a port", b"GET / HTTP/1.1\r\nHost: a_b:1\r\n\r\n", {"host": b"a_b"}),
    ("the highest port", b"GET / HTTP/1.1\r\nHost: a:65535\r\n\r\n", {"host": b"a", "authority": b"a:65535"}),
    ("an empty port", b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", {"host": b"a"}),
    # Targets
    ("the bytes of the target survive", get(target=b"/%7Ea//b/./c?x=%zz|{}"),
     {"target": b"/%7Ea//b/./c?x=%zz|{}", "path": b"/~a/b/c"}),
    ("dot segments within the root", get(target=b"/a/../b/"), {"path": b"/b/"}),
    ("a dot file is no dot segment", get(target=b"/.well-known/x"), {"path": b"/.well-known/x"}),
    ("a backslash in the query", get(target=b"/?a\\b"), {"target": b"/?a\\b", "path": b"/"}),
    ("an absolute target", b"GET HTTP://B.example/x?y HTTP/1.1\r\nHost: b.example:80\r\n\r\n",
     {"target": b"/x?y", "path": b"/x", "authority": b"B.example", "host": b"b.example"}),
    ("an absolute target without a path", get(target=b"https://a.example?q"), {"target": b"/?q", "path": b"/"}),
    ("an absolute target without Host in HTTP/1.0", b"GET http://b/ HTTP/1.0\r\n\r\n", {"host": b"b"}),
    ("OPTIONS *", get(target=b"*", method=b"OPTIONS"), {"target": b"*", "path": b"*"}),
    ("OPTIONS for a whole absolute host", get(target=b"http://a.example", method=b"OPTIONS"),
     {"target": b"*", "path": b"*"}),
    # Bodies
    ("a length", get(b"Content-Length: 12", method=b"POST"), {"length": 12, "block": b"Content-Length: 12\r\n"}),
    ("the largest length", get(b"Content-Length: 9223372036854775807"), {"length": 2**63 - 1}),
    ("chunks", get(b"Transfer-Encoding: Chunked", method=b"POST"), {"length": CHUNKED, "block": b""}),
    ("an expectation", get(b"Expect: 100-Continue", b"Content-Length: 1"),
     {"expects_continue": True, "block": b"Expect: 100-Continue\r\nContent-Length: 1\r\n"}),
    ("an expectation in HTTP/1.0 means nothing", get(b"Expect: 100-continue", version=b"HTTP/1.0"),
     {"expects_continue": False, "block": b""}),
    # Fields
    ("space around values goes, within stays", get(b"A:b", b"C: \t d\t e \t", b"F:", b"G: ", b"H:\t\xff"),
     {"block": b"A: b\r\nC: d\t e\r\nF: \r\nG: \r\nH: \xff\r\n"}),
    ("order, case and duplicates survive", get(b"b: 1", b"A: 2", b"B: 3"), {"block": b"b: 1\r\nA: 2\r\nB: 3\r\n"}),
    ("hop-by-hop fields go", get(b"X: 1", b"Keep-Alive: 5", b"Y: 2", b"TE: trailers", b"Proxy-Connection: a",
                                 b"Proxy-Authorization: x", b"proxy-authenticate: y", b"HTTP2-Settings: z", b"Proxy: q",
                                 b"Trailer: T", b"Z: 3"), {"block": b"X: 1\r\nY: 2\r\nTrailer: T\r\nZ: 3\r\n"}),
    ("fields that Connection names go", get(b"X-A: 1", b"Connection: x-a, close,, x-b", b"X-B: 2", b"X-C: 3"),
     {"block": b"X-C: 3\r\n", "keep_alive": False}),
    ("Connection fields of 1024 bytes", get(b"Connection: " + b"a," * 400, b"Connection: " + b"b" * 224),
     {"block": b""}),
    ("what carries the message cannot be named away", get(b"Connection: Content-Length, content-type, Host, x-a",
                                                          b"Content-Length: 1", b"Content-Type: t", b"X-A: 1"),
     {"block": b"Content-Length: 1\r\nContent-Type: t\r\n", "length": 1, "host": b"a.example"}),
    ("underscored look-alikes go", get(b"Content_Length: 5", b"X_Forwarded_For: 1", b"Transfer_Encoding: chunked",
                                       b"X-Forwarded_Proto: https", b"A_B: 1"), {"block": b"A_B: 1\r\n", "length": 0}),
    ("an upgrade", get(b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"),
     {"upgrade": b"websocket", "block": b"", "keep_alive": True}),
    ("an upgrade that Connection does not name", get(b"Upgrade: websocket"), {"upgrade": None, "block": b""}),
    ("an upgrade to h2c", get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: websocket, H2C"), {"upgrade": None}),
    ("an upgrade with POST", get(b"Connection: Upgrade", b"Upgrade: x", method=b"POST"), {"upgrade": None}),
    ("an upgrade with a body", get(b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 1"), {"upgrade": None}),
    ("an upgrade in HTTP/1.0", get(b"Connection: Upgrade", b"Upgrade: x", version=b"HTTP/1.0"), {"upgrade": None}),
    ("what proxies tell of clients, from anyone", get(b"X-Forwarded-For: 1", b"A: b", b"Forwarded: for=1",
                                                      b"X-Real-IP: 1", b"x-request-id: 2"),
     {"block": b"A: b\r\n", "claims": None}),
]  # fmt: skip

# What is wrong; the bytes; the status.
REFUSED: list[tuple[str, bytes, int]] = [
    ("two empty lines first", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a bare CR first", b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a bare LF first", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("space first", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("a method that is no token", get(method=b"G@T"), 400),
    ("a method that is too long", get(method=b"M" * 33), 400),
    ("a standard method in lower case", get(method=b"get"), 400),
    ("CONNECT", get(target=b"a.example:443", method=b"CONNECT"), 501),
    ("two spaces before the target", get(target=b" /"), 400),
    ("two spaces behind the target", get(target=b"/ "), 400),
    ("a tab for a space", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("no target", b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("HTTP/0.9", b"GET /\r\n", 400),
    ("a space in the target", get(target=b"/a b"), 400),
    ("a fragment", get(target=b"/a#b"), 400),
    ("NUL in the target", get(target=b"/\0"), 400),
    ("DEL in the target", get(target=b"/\x7f"), 400),
    ("a byte beyond ASCII in the target", get(target=b"/\xc3\xa9"), 400),
    ("a broken escape", get(target=b"/%4"), 400),
    ("an escape that is none", get(target=b"/%g0"), 400),
    ("an escaped NUL", get(target=b"/a%00.png"), 400),
    ("an escaped CRLF", get(target=b"/a%0d%0aSet-Cookie:x"), 400),
    ("a backslash in the path", get(target=b"/a\\..\\b"), 400),
    ("a way above the root", get(target=b"/a/../../b"), 400),
    ("an escaped way above the root", get(target=b"/%2e%2E/"), 400),
    ("* with GET", get(target=b"*"), 400),
    ("a target in authority form", get(target=b"a.example:80"), 400),
    ("another scheme", get(target=b"ftp://a.example/"), 400),
    ("user information in the target", get(target=b"http://u@a.example/"), 400),
    ("an absolute target without a host", get(target=b"http:///x"), 400),
    ("a target for another host than Host", get(target=b"http://b.example/"), 400),
    ("a target for another port than Host", get(target=b"http://a.example:81/"), 400),
    ("HTTP/2", get(version=b"HTTP/2.0"), 505),
    ("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("HTTP/1.2", get(version=b"HTTP/1.2"), 505),
    ("http in lower case", get(version=b"http/1.1"), 400),
    ("a version without minor", get(version=b"HTTP/1"), 400),
    ("a version of two digits", get(version=b"HTTP/1.10"), 400),
    ("a bare LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("Host twice", get(b"host: a.example"), 400),
    *((f"a Host of {bad!r}", b"GET / HTTP/1.1\r\nHost: " + bad + b"\r\n\r\n", 400)
      for bad in (b"u@a", b"a/b", b"a,b", b"a b", b"a:b", b"a:99999", b"a:1:2", b".a", b"a..b", b"a%41", b"[::1",
                  b"[::g]", b"::1", b"[::1]x", b"[fe80::1%25eth0]", b"a\xe9", b":80", b"x" * 254)),
    ("a space before the colon", get(b"A : b"), 400),
    ("a tab before the colon", get(b"A\t: b"), 400),
    ("no colon", get(b"AB"), 400),
    ("an empty name", get(b": b"), 400),
    ("a name that is no token", get(b"A[: b"), 400),
    ("a name beyond ASCII", get(b"\xc3\xa9: b"), 400),
    ("a folded line", get(b"A: b", b" c"), 400),
    ("a folded first line", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    ("NUL in a value", get(b"A: b\0"), 400),
    ("a control in a value", get(b"A: \x0b"), 400),
    ("DEL in a value", get(b"A: \x7f"), 400),
    ("a bare CR in a value", get(b"A: b\rc"), 400),
    ("a bare LF in a value", get(b"A: b\nc: d"), 400),
    ("a bare LF for a name", get(b"\nA: b"), 400),
    ("CR at the end", get(b"A: b")[:-2] + b"\rX", 400),
    *((f"a Content-Length of {bad!r}", get(b"Content-Length: " + bad), 400)
      for bad in (b"", b"+5", b"-0", b"5, 5", b"5 5", b"0x5", b"05", b"1_0", b"5a", b"9223372036854775808",
                  b"99999999999999999999", b"\xb2")),
    ("Content-Length twice, alike", get(b"Content-Length: 5", b"Content-Length: 5"), 400),
    ("Content-Length, then Transfer-Encoding", get(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    ("Transfer-Encoding, then Content-Length", get(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
    ("Transfer-Encoding twice", get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    ("Transfer-Encoding in HTTP/1.0", get(b"Transfer-Encoding: chunked", version=b"HTTP/1.0"), 400),
    ("gzip, chunked", get(b"Transfer-Encoding: gzip, chunked"), 501),
    *((f"a Transfer-Encoding of {bad!r}", get(b"Transfer-Encoding: " + bad), 400)
      for bad in (b"", b"gzip", b"identity", b"xchunked", b"chunked, chunked", b", chunked", b"chunked,",
                  b"chunked;a=b", b"chunked, gzip", b'"chunked"')),
    ("Connection fields of 1025 bytes", get(b"Connection: " + b"a," * 400, b"Connection: " + b"b" * 225), 400),
    ("an unknown expectation", get(b"Expect: 200-ok"), 417),
    ("a second, unknown expectation", get(b"Expect: 100-continue", b"Expect: x"), 417),
]  # fmt: skip


class RequestTests:
    """Run on each twin by the classes below."""

    codec: ModuleType
    if True:  # trial's assertions, which the classes below bring
        assertEqual: Any
        assertIsNone: Any
        assertRaises: Any
        assertLess: Any

    def test_taken(self) -> None:
        """A good head is understood as the table says, and is not taken before its last byte is there."""
        for what, data, expected in TAKEN:
            found, size = twins.growing(self.codec.request, data)
            assert isinstance(found, dict), (what, found)
            self.assertEqual({name: found[name] for name in expected}, expected, what)
            self.assertEqual((size, found["size"]), (len(data), len(data)), what)

    def test_tail(self) -> None:
        """What follows a head, a body or another request, changes nothing in how it is understood."""
        for what, data, _ in TAKEN:
            alone = twins.outcome(self.codec.request, data)
            self.assertEqual(twins.outcome(self.codec.request, data + NEXT), alone, what)
            self.assertEqual(twins.outcome(self.codec.request, data + b"\0\r\n\n"), alone, what)

    def test_refused(self) -> None:
        """A bad head is refused with the status in the table."""
        for what, data, status in REFUSED:
            found = twins.outcome(self.codec.request, data)
            assert isinstance(found, tuple), (what, found)
            self.assertEqual(found[0], status, what)

    def test_refused_as_soon_as_seen(self) -> None:
        """A head that arrives byte by byte is refused for the same reason, at the latest with its last byte."""
        for what, data, _ in REFUSED:
            found, _ = twins.growing(self.codec.request, data)
            self.assertEqual(found, twins.outcome(self.codec.request, data + NEXT), what)

    def test_refused_early(self) -> None:
        """A bare LF is refused when it comes, not when the head ends."""
        self.assertEqual(twins.growing(self.codec.request, b"GET / HTTP/1.1\r\nA: b\nC: d")[1], 21)

    def test_claims(self) -> None:
        """What a trusted peer tells of clients comes by lower-case name, in order, and leaves the block."""
        data = get(b"X-Forwarded-For: 1", b"A: b", b"x-forwarded-FOR:2", b"X-Forwarded-Proto: https", b"Forwarded: f",
                   b"X-Real-IP: 3", b"X-Request-ID: 4", b"X_Forwarded_Host: evil")  # fmt: skip
        found = self.codec.request(data, True)
        self.assertEqual(found.block, b"A: b\r\n")
        self.assertEqual(
            found.claims,
            {
                b"x-forwarded-for": [b"1", b"2"],
                b"x-forwarded-proto": [b"https"],
                b"forwarded": [b"f"],
                b"x-real-ip": [b"3"],
                b"x-request-id": [b"4"],
            },
        )
        self.assertIsNone(self.codec.request(get(b"A: b"), True).claims)

    def test_fields(self) -> None:
        """Looking at the fields of a head gives names in lower case and joined values."""
        found = self.codec.request(get(b"A: 1", b"a:2"))
        self.assertEqual(found.fields(), [(b"host", b"a.example"), (b"a", b"1"), (b"a", b"2")])
        self.assertEqual(found.field(b"a"), b"1, 2")

    def test_header_size(self) -> None:
        """A head may have header_size bytes and not one more; beyond it nobody waits any longer."""
        data = get(b"A: " + b"b" * 100)
        self.assertEqual(self.codec.request(data, False, len(data)).size, len(data))
        self.assertEqual(twins.outcome(self.codec.request, data, False, len(data) - 1), self.too_long(431))
        self.assertIsNone(self.codec.request(data[:-1], False, len(data) - 1))
        self.assertEqual(twins.growing(self.codec.request, data, False, 60), (self.too_long(431), 61))

    def test_request_line_size(self) -> None:
        """A request line of 8192 bytes is taken, one of 8193 answered with 414, and not waited for."""
        fits = get(target=b"/" + b"a" * 8176)
        self.assertEqual(len(fits.split(b"\r\n")[0]), 8190)
        self.assertEqual(self.codec.request(fits).size, len(fits))
        self.assertEqual(self.codec.request(b"\r\n" + fits).size, len(fits) + 2)
        for long in (get(target=b"/" + b"a" * 8177), b"GET /" + b"a" * 8188):
            with self.assertRaises(ProtocolError) as caught:
                self.codec.request(long)
            self.assertEqual(caught.exception.status, 414)
        self.assertIsNone(self.codec.request(b"GET /" + b"a" * 8187))

    def test_fields_number(self) -> None:
        """A head may have as many fields as allowed and not one more, whatever that one is."""
        data = get(*[b"A: b"] * 4)
        self.assertEqual(self.codec.request(data, False, 32768, 5).size, len(data))
        for long in (data, data[:-2] + b" bad"):
            with self.assertRaises(ProtocolError) as caught:
                self.codec.request(long, False, 32768, 4)
            self.assertEqual((caught.exception.status, str(caught.exception)), (431, "too many fields"))

    def test_reason_is_ours(self) -> None:
        """A reason for the log never has bytes of the message in it."""
        for what, data, _ in REFUSED:
            found = twins.outcome(self.codec.request, data.replace(b"a.example", b"MARK"))
            assert isinstance(found, tuple), what
            self.assertLess(found[1].find("MARK"), 0, what)

    def too_long(self, status: int) -> tuple[int, str]:
        """The refusal of a long head."""
        return status, "a head that is too long"


class PureRequestTests(RequestTests, SynchronousTestCase):
    """The pure Python twin."""

    codec = twins.pure


class CompiledRequestTests(RequestTests, SynchronousTestCase):
    """The compiled twin."""

    codec = twins.compiled  # type: ignore[assignment]  # skipped when it is None
    skip = twins.no_compiled
