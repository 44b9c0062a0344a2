"""What programs write to STDERR, on its way into the log."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.fastcgi.complaints import Allowance, readable


class ReadableTests(SynchronousTestCase):
    """Text for one line."""

    def test_lines(self) -> None:
        """Several lines become one, empty ones go."""
        self.assertEqual(readable(b"one\ntwo\r\n\n  three \n", 19), "one | two | three")

    def test_controls(self) -> None:
        """Nothing can colour, overwrite or imitate other lines; tabs and letters of all languages stay."""
        text = "a\tb\x00\x1b[31m\x7f\x9b\u2028ä日\r2026 forged".encode()
        self.assertEqual(readable(text, len(text)), "a\tb\\x00\\x1b[31m\\x7f\\x9b | ä日 | 2026 forged")

    def test_not_utf8(self) -> None:
        """What is no UTF-8 is readable, too."""
        self.assertEqual(readable(b"a\xff\xc3", 3), "a\\xff\\xc3")

    def test_cut(self) -> None:
        """It says how much is missing."""
        self.assertEqual(readable(b"abc", 10), "abc (and 7 bytes more)")

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.binary(max_size=100))
    def test_rubbish(self, errors: bytes) -> None:
        """Whatever is written makes one line without control characters."""
        text = readable(errors, len(errors))
        self.assertLessEqual(len(text.splitlines()), 1)
        self.assertFalse([one for one in text if one != "\t" and not one.isprintable() and ord(one) < 0xA0])


class AllowanceTests(SynchronousTestCase):
    """How many lines there may be."""

    def test_second(self) -> None:
        """So many in a second; the next second has its own; those between are counted."""
        allowance = Allowance(2)
        self.assertEqual([allowance.take(5.0 + at / 10) for at in range(4)], [True, True, False, False])
        self.assertEqual(allowance.dropped, 2)
        self.assertTrue(allowance.take(6.0))
        self.assertEqual(allowance.dropped, 2)
