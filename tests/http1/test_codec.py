"""The module that chooses the twin, and the small functions that write."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

import lemmytx
from lemmytx.http1 import codec
from tests.http1 import twins

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(lemmytx.__file__)))


def elsewhere(program: str, **environment: str) -> str:
    """What a fresh interpreter prints for C{program}."""
    variables = {name: value for name, value in os.environ.items() if name != "LEMMYTX_PURE"}
    variables.update(environment, PYTHONPATH=ROOT)
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class ChoiceTests(SynchronousTestCase):
    """Which twin is at work."""

    program = "from lemmytx.http1 import codec; print(codec.compiled, codec.request.__module__)"

    def test_compiled(self) -> None:
        """Where it is built, the compiled twin is taken."""
        self.assertEqual(elsewhere(self.program), "True lemmytx.http1._compiled")

    test_compiled.skip = twins.no_compiled  # type: ignore[attr-defined]  # what trial reads

    def test_pure(self) -> None:
        """LEMMYTX_PURE chooses the twin."""
        self.assertEqual(elsewhere(self.program, LEMMYTX_PURE="1"), "False lemmytx.http1._pure")

    def test_not_built(self) -> None:
        """Where nothing was compiled, the twin is taken."""
        blocked = "import sys; sys.modules['lemmytx.http1._compiled'] = None; "
        self.assertEqual(elsewhere(blocked + self.program), "False lemmytx.http1._pure")

    def test_bare(self) -> None:
        """The codec does not import Twisted."""
        program = "import sys; from lemmytx.http1 import codec; print('twisted.internet' in sys.modules)"
        self.assertEqual(elsewhere(program), "False")


class WriteTests(SynchronousTestCase):
    """Chunks, written."""

    def test_chunk(self) -> None:
        """A chunk is its size in hexadecimal, a line end, its data, a line end."""
        self.assertEqual(codec.chunk(b"x" * 26), b"1a\r\n" + b"x" * 26 + b"\r\n")

    def test_last_chunk(self) -> None:
        """The end of a body carries its trailers."""
        self.assertEqual(codec.last_chunk(b""), codec.LAST_CHUNK)
        self.assertEqual(codec.last_chunk(b"A: b\r\n"), b"0\r\nA: b\r\n\r\n")

    def test_read_back(self) -> None:
        """What is written is read back."""
        body = codec.ChunkedBody()
        self.assertEqual(body.feed(codec.chunk(b"ab") + codec.chunk(b"c") + codec.last_chunk(b"A: b\r\n")), b"abc")
        self.assertEqual((body.done, body.rest, body.trailers), (True, b"", b"A: b\r\n"))
