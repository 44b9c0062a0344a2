"""What binds clients: the value, the cookie and the field that carry it."""

from __future__ import annotations

import base64

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.cluster.sticky import OFFERS, Codec, Cookie, Field, Known
from lemmytx.http1 import codec
from lemmytx.message import RequestHead, ResponseHead
from tests.proxy.rig import ProxyCase

SECRET = b"0123456789abcdef"
NOBODY = (None, False)


def request(*lines: bytes) -> RequestHead:
    """A request's head with these field lines."""
    data = b"GET / HTTP/1.1\r\nHost: a.example\r\n%b\r\n" % b"".join(line + b"\r\n" for line in lines)
    head = codec.request(data, False, 100_000)
    assert head is not None
    return head


def response(*lines: bytes) -> ResponseHead:
    """A response's head with these field lines."""
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%b\r\n" % b"".join(line + b"\r\n" for line in lines)
    head = codec.response(data, False)
    assert head is not None
    return head


class CodecTests(ProxyCase):
    """The value of a binding."""

    def setUp(self) -> None:
        super().setUp()
        self.compose(3)
        self.known = self.knows(SECRET)
        self.value = self.known.written[self.backend]

    def knows(self, *secrets: bytes, cluster: str = "web") -> Known:
        """What a cluster of our backends knows."""
        return Known(Codec(secrets, cluster), self.backends)

    def test_read(self) -> None:
        """What was written means the backend, and no other one."""
        for backend in self.backends:
            self.assertEqual((backend, True), self.known.read(self.known.written[backend]))
        self.assertEqual(3, len(set(self.known.written.values())))

    def test_stable(self) -> None:
        """Another process with the same secret writes the same: bindings outlive a restart, and the next version."""
        self.assertEqual(self.known.written, self.knows(SECRET).written)
        self.assertEqual(b"4YnvVXl00WsRQ0d86KYJ58uNkpQa2wAHsM45", self.value)

    def test_opaque(self) -> None:
        """It holds neither the backend's address nor the cluster's name, in no usual encoding."""
        self.assertRegex(self.value, rb"\A[A-Za-z0-9_-]{36}\Z")
        for hidden in (b"10.0.0.1", b"8000", b"web", b"b1"):
            self.assertNotIn(hidden, self.value)
            self.assertNotIn(hidden, base64.urlsafe_b64decode(self.value))

    def test_foreign(self) -> None:
        """A binding of another cluster, or under another secret, is none."""
        for other in (self.knows(SECRET, cluster="api"), self.knows(b"another secret!!")):
            self.assertEqual(NOBODY, self.known.read(other.written[self.backend]))

    def test_gone(self) -> None:
        """A binding to what is no member is none."""
        self.backends.remove(self.backend)
        self.assertEqual(NOBODY, self.knows(SECRET).read(self.value))
        self.backends.insert(0, self.backend)

    def test_rotation(self) -> None:
        """With an old secret behind the new one, old bindings are read and new ones written."""
        both = self.knows(b"a newer secret !", SECRET)
        self.assertEqual((self.backend, False), both.read(self.value))
        new = both.written[self.backend]
        self.assertEqual((self.backend, True), both.read(new))
        self.assertEqual(NOBODY, self.known.read(new))

    def test_every_bit(self) -> None:
        """A binding with one other bit is none."""
        raw = base64.urlsafe_b64decode(self.value)
        for bit in range(len(raw) * 8):
            changed = bytearray(raw)
            changed[bit // 8] ^= 1 << bit % 8
            self.assertEqual(NOBODY, self.known.read(base64.urlsafe_b64encode(bytes(changed))), bit)

    def test_malformed(self) -> None:
        """What is too short, too long or no base64 is none."""
        value = self.value
        for odd in (b"", value[:-1], value + b"A", value + b"\n", value * 1000, value[:-1] + b"\xff", b"!" * 36):
            self.assertEqual(NOBODY, self.known.read(odd))

    def test_no_secret(self) -> None:
        """There is no codec without a secret, or with an empty one."""
        self.assertRaises(ValueError, Codec, [], "web")
        self.assertRaises(ValueError, Codec, [SECRET, b""], "web")

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.one_of(st.binary(max_size=64), st.from_regex(rb"[A-Za-z0-9_-]{36}", fullmatch=True)))
    def test_anything(self, value: bytes) -> None:
        """Whatever a client says, it is no binding unless we have written it; and nothing is raised."""
        self.assertEqual(NOBODY, self.known.read(value))
        self.assertEqual(NOBODY, self.known.read(self.value[:12] + value))


class CookieTests(SynchronousTestCase):
    """The cookie in requests and responses."""

    def taken(self, *lines: bytes, name: bytes = b"lemmy") -> tuple[list[bytes], bytes]:
        """The values in a request, and what the backend sees of it."""
        head = request(*lines)
        found = Cookie(name).take(head)
        return found, head.block

    def test_alone(self) -> None:
        """A Cookie line with nothing else in it goes as a whole."""
        self.assertEqual(([b"v"], b"Accept: */*\r\n"), self.taken(b"Cookie: lemmy=v", b"Accept: */*"))

    def test_between(self) -> None:
        """Its neighbours stay, as they are written and in their order."""
        self.assertEqual(([b"v"], b'Cookie: a=1;  b="2"\r\n'), self.taken(b'Cookie: a=1; lemmy=v;  b="2"'))
        self.assertEqual(([b"v"], b"cookie: b=2\r\n"), self.taken(b"cookie: lemmy = v ; b=2"))
        self.assertEqual(([b"v"], b"Cookie: a=1\r\n"), self.taken(b"Cookie: a=1; lemmy=v"))

    def test_others(self) -> None:
        """Names are compared whole, with their case; values are not looked into."""
        line = b"Cookie: xlemmy=1; lemmyx=2; Lemmy=3; a=lemmy=4; lemmy"
        self.assertEqual(([], line + b"\r\n"), self.taken(line))

    def test_several(self) -> None:
        """Of several, in one line or more, some are looked at and all are taken out."""
        lines = [b"Cookie: %b; x=%d" % (b"; ".join([b"lemmy=%d" % n] * 2), n) for n in range(5)]
        found, block = self.taken(*lines)
        self.assertEqual([b"0", b"0", b"1", b"1"], found)
        self.assertEqual(OFFERS, len(found))
        self.assertEqual(b"".join(b"Cookie: x=%d\r\n" % n for n in range(5)), block)

    def test_no_expression(self) -> None:
        """A name is a name, whatever its characters mean in expressions."""
        self.assertEqual(([b"v"], b"Cookie: axb=w\r\n"), self.taken(b"Cookie: a.b=v; axb=w", name=b"a.b"))
        self.assertEqual(([b"v"], b""), self.taken(b"Cookie: a%b*=v", name=b"a%b*"))

    def test_other_fields(self) -> None:
        """What looks like the cookie in another field is left alone."""
        line = b"X-Cookie: lemmy=v"
        self.assertEqual(([], line + b"\r\n"), self.taken(line))

    def test_put(self) -> None:
        """Set-Cookie has the attributes that are configured."""
        for cookie, secure, line in (
            (Cookie(b"c"), False, b"Set-Cookie: c=v; Path=/; HttpOnly; SameSite=Lax\r\n"),
            (Cookie(b"c"), True, b"Set-Cookie: c=v; Path=/; HttpOnly; SameSite=Lax; Secure\r\n"),
            (Cookie(b"c", secure=False), True, b"Set-Cookie: c=v; Path=/; HttpOnly; SameSite=Lax\r\n"),
            (
                Cookie(b"c", b"/shop", b"a.example", 60, b"None", False, True),
                False,
                b"Set-Cookie: c=v; Path=/shop; Domain=a.example; Max-Age=60; SameSite=None; Secure\r\n",
            ),
        ):
            head = response()
            before = head.block
            cookie.put(head, b"v", secure)
            self.assertEqual(before + line + b"Cache-Control: private\r\n", head.block)

    def test_cached(self) -> None:
        """Where that is wanted, the response stays as good for caches as it was."""
        head = response()
        Cookie(b"c", cached=True).put(head, b"v", False)
        self.assertNotIn(b"Cache-Control", head.block)

    def test_clear(self) -> None:
        """What the backend sets under the name is taken out, and nothing else."""
        head = response(b"Set-Cookie: c=x; Path=/", b"set-cookie: d=c=1", b"Set-Cookie: C=y", b"SET-COOKIE:c=z")
        Cookie(b"c").clear(head)
        self.assertEqual(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nset-cookie: d=c=1\r\nSet-Cookie: C=y\r\n", head.block
        )

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.lists(st.text('alemy=; "x', max_size=20).map(str.encode), max_size=4))
    def test_any_cookies(self, values: list[bytes]) -> None:
        """The backend sees the crumbs that are not ours, all of them, in their order."""
        head = request(*(b"Cookie: " + value for value in values))
        Cookie(b"lemmy").take(head)
        after = [value for line in head.block.split(b"\r\n") if line for value in line.partition(b":")[2].split(b";")]
        wanted = [
            crumb.strip()
            for value in values
            for crumb in value.split(b";")
            if not (b"=" in crumb and crumb.partition(b"=")[0].strip() == b"lemmy")
        ]
        self.assertEqual([each for each in wanted if each], [each.strip() for each in after if each.strip()])


class FieldTests(SynchronousTestCase):
    """The field in requests and responses."""

    def test_take(self) -> None:
        """All fields of the name are taken out, whatever their case."""
        head = request(b"X-Bound: one", b"x-bound:two", b"X-Bound-To: three")
        self.assertEqual([b"one", b"two"], Field(b"X-Bound").take(head))
        self.assertEqual(b"X-Bound-To: three\r\n", head.block)

    def test_put(self) -> None:
        """It takes the place of what the backend has said under the name."""
        head = response(b"x-bound: mine")
        field = Field(b"X-Bound")
        field.clear(head)
        field.put(head, b"v", True)
        self.assertEqual(
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Bound: v\r\nCache-Control: private\r\n", head.block
        )
