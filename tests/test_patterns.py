"""Path patterns and wanted values, as the configuration checks them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.patterns import Glob, check_match, check_path, compile_match, compile_path


class CheckPathTests(SynchronousTestCase):
    """L{check_path}"""

    def test_accepts(self) -> None:
        """Exact paths, trailing and inner stars, regular expressions and other scripts are path patterns."""
        for pattern in (
            "/",
            "/*",
            "/a",
            "/a/",
            "/a/b.html",
            "/a/*",
            "/*/a",
            "/a*/b/*",
            "/*.php",
            "/café/*",
            "~^/v[12]/",
        ):
            self.assertIsNone(check_path(pattern), pattern)

    def test_refuses(self) -> None:
        """What can never match, or does not mean what it seems to, is refused with what to write instead."""
        for pattern, hint in (
            ("", "write '/'"),
            ("api/*", "write '/api/*'"),
            ("*", "begin with '/'"),
            ("/a//b", "empty segment"),
            ("//*", "empty segment"),
            ("/a/../b", "dot segment"),
            ("/./*", "dot segment"),
            ("/a%20b", "percent escape"),
            ("/a?b=c", "'query'"),
            ("/a/**", "'**'"),
            ("/a\n", "control character"),
            ("~", "right behind"),
            ("~^/(", "not a regular expression"),
        ):
            self.assertIn(hint, str(check_path(pattern)), pattern)
            self.assertRaises(ValueError, compile_path, pattern)


class CheckMatchTests(SynchronousTestCase):
    """L{check_match} and L{compile_match}"""

    def test_refuses(self) -> None:
        """Numbers, false and broken expressions are no wanted values."""
        for value, hint in (
            (2, "in quotes"),
            (False, "or true"),
            (None, "or true"),
            ("~(", "not a regular expression"),
        ):
            self.assertIn(hint, str(check_match(value)))

    def test_present(self) -> None:
        """True and a star want the thing to be there, whatever it says."""
        for value in (True, "*"):
            self.assertIsNone(check_match(value))
            self.assertTrue(compile_match(value).accepts([""]))
            self.assertFalse(compile_match(value).accepts([]))

    def test_exact(self) -> None:
        """Text wants a value that is the same, not one that has it in it."""
        match = compile_match("ops")
        self.assertTrue(match.accepts(["dev", "ops"]))
        self.assertFalse(match.accepts(["devops", "OPS"]))

    def test_expression(self) -> None:
        """A regular expression is searched for and anchored only where it says so."""
        self.assertTrue(compile_match("~ops").accepts(["devops"]))
        self.assertFalse(compile_match("~^ops").accepts(["devops"]))


class GlobTests(SynchronousTestCase):
    """L{Glob}"""

    def test_inner(self) -> None:
        """The middle parts of a glob must occur in order between its ends."""
        glob = Glob(b"a*b*c*d")
        self.assertEqual(glob.shape, (1, 1))
        for segment, fits in ((b"abcd", True), (b"axbxxcxd", True), (b"acbd", False), (b"abd", False)):
            self.assertEqual(glob.inner(segment), fits, segment)

    def test_middleAndSuffixDoNotShare(self) -> None:
        """A middle part is not found in what belongs to the suffix."""
        self.assertFalse(Glob(b"*ab*b").inner(b"xab"))
        self.assertTrue(Glob(b"*ab*b").inner(b"xabb"))
