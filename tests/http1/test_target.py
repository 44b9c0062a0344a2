"""Paths and authorities, folded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.http1 import target
from lemmytx.message import ProtocolError


class NormaliseTests(SynchronousTestCase):
    """L{target.normalise}."""

    def test_table(self) -> None:
        """Escapes are decoded once, empty and dot segments resolved, a slash at the end stays."""
        for path, expected in (
            (b"/", b"/"),
            (b"//", b"/"),
            (b"/.", b"/"),
            (b"/./", b"/"),
            (b"/a/..", b"/"),
            (b"/a/b/..", b"/a/"),
            (b"/a/b/../", b"/a/"),
            (b"/a/b/.", b"/a/b/"),
            (b"/a/./b", b"/a/b"),
            (b"//a///b//", b"/a/b/"),
            (b"/a%2fb", b"/a/b"),
            (b"/a/%2E%2e/b", b"/b"),
            (b"/%61%2541", b"/a%41"),
            (b"/%C3%A9", b"/\xc3\xa9"),
            (b"/...", b"/..."),
            (b"/.a/..b/c.", b"/.a/..b/c."),
            (b"/%20", b"/ "),
        ):
            self.assertEqual(target.normalise(path), expected, path)

    def test_idempotent(self) -> None:
        """A normal path is its own normal form."""
        for path in (b"/", b"/a", b"/a/b/", b"/a b", b"/\xc3\xa9"):
            self.assertEqual(target.normalise(path), path)

    def test_refused(self) -> None:
        """Broken escapes, controls, backslashes and ways out are refused with 400."""
        for path in (b"/..", b"/a/../..", b"/%2e%2e", b"/a%2f..%2f..", b"/%", b"/%1", b"/%%41", b"/%x1", b"/%00",
                     b"/%7f", b"/%0A", b"/\\", b"/a\\..\\b"):  # fmt: skip
            error = self.assertRaises(ProtocolError, target.normalise, path)
            self.assertEqual(error.status, 400, path)


class AuthorityTests(SynchronousTestCase):
    """L{target.authority} and L{target.same_authority}."""

    def test_table(self) -> None:
        """A host is folded to lower case, without port and one trailing dot."""
        for value, expected in (
            (b"A.Example", b"a.example"),
            (b"a.example.", b"a.example"),
            (b"a.example.:80", b"a.example"),
            (b"a:", b"a"),
            (b"127.0.0.1:8080", b"127.0.0.1"),
            (b"[::1]", b"[::1]"),
            (b"[::FFFF:1.2.3.4]:1", b"[::ffff:1.2.3.4]"),
            (b"xn--a-b_c~d", b"xn--a-b_c~d"),
            (b"a" * 253, b"a" * 253),
        ):
            self.assertEqual(target.authority(value), expected, value)

    def test_refused(self) -> None:
        """What could name two hosts, or none, is refused with 400."""
        for value in (b"", b".", b"a..", b"..a", b"a:65536", b"a:1x", b"a@b", b"a b", b"a/", b"a?", b"a#", b"[v1.a]",
                      b"[]", b"[1.2.3.4]", b"[::1]a", b"a[::1]", b"a%2e", b"a\n", b"a:\n", b"a:80\n",
                      b"a" * 254):  # fmt: skip
            error = self.assertRaises(ProtocolError, target.authority, value)
            self.assertEqual(error.status, 400, value)

    def test_same(self) -> None:
        """Case and the default port make no difference; anything else does."""
        for one, other, port, expected in (
            (b"a", b"A:80", b":80", True),
            (b"a:443", b"a", b":443", True),
            (b"a:", b"a", b":80", True),
            (b"[::1]", b"[::1]:80", b":80", True),
            (b"a", b"a:443", b":80", False),
            (b"a", b"b", b":80", False),
            (b"[::1]", b"[::2]", b":80", False),
        ):
            self.assertEqual(target.same_authority(one, other, port), expected, (one, other))
