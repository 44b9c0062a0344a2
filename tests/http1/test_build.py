"""The build: with a compiler the wheel carries what is compiled, without one it is built all the same and says so."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile

from twisted.trial.unittest import SynchronousTestCase

import lemmytx
from tests.http1 import twins

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(lemmytx.__file__)))
BUILDABLE = os.path.exists(os.path.join(ROOT, "hatch_build.py")) and importlib.util.find_spec("hatchling") is not None


class WheelTests(SynchronousTestCase):
    """C{hatch_build.py}, through hatchling itself."""

    skip = None if BUILDABLE else "no source tree, or no hatchling"

    def build(self, **environment: str) -> tuple[str, list[str], str]:
        """
        Build a wheel from this tree.

        @return: its name, the compiled files in it, and what was said on standard error.
        """
        folder = self.mktemp()
        variables = {name: value for name, value in os.environ.items() if name not in ("LEMMYTX_PURE", "CC")}
        done = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", os.path.abspath(folder)],
            cwd=ROOT, env={**variables, **environment}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        (name,) = os.listdir(folder)
        with zipfile.ZipFile(os.path.join(folder, name)) as wheel:
            names = wheel.namelist()
        self.assertIn("lemmytx/http1/_pure.py", names)
        self.assertIn("lemmytx/proxy/access_log.py", names)
        self.assertNotIn("twisted/__init__.py", names)
        self.assertNotIn("twisted/plugins/__init__.py", names)
        self.assertFalse([found for found in names if found.startswith("tests/")])
        return name, [found for found in names if found.endswith((".so", ".pyd"))], done.stderr

    def test_no_compiler(self) -> None:
        """Without a C compiler the wheel is a pure one, and the build says why."""
        name, compiled, said = self.build(CC="/bin/false")
        self.assertTrue(name.endswith("-py3-none-any.whl"), name)
        self.assertEqual(compiled, [])
        self.assertIn("the compiled modules are left out (it could not be compiled", said)

    def test_not_wanted(self) -> None:
        """With LEMMYTX_PURE nothing is compiled, and the build says why."""
        name, compiled, said = self.build(LEMMYTX_PURE="1")
        self.assertTrue(name.endswith("-py3-none-any.whl"), name)
        self.assertEqual(compiled, [])
        self.assertIn("the compiled modules are left out (LEMMYTX_PURE is set)", said)

    def test_compiled(self) -> None:
        """With a compiler all compiled modules are in the wheel, and the wheel is for this platform only."""
        name, compiled, said = self.build()
        self.assertFalse(name.endswith("-none-any.whl"), name)
        self.assertEqual(
            sorted(found.partition(".")[0] for found in compiled),
            [
                "lemmytx/http1/_compiled",
                "lemmytx/http2/_hpack_compiled",
                "lemmytx/net/_calls",
                "lemmytx/proxy/_access_line",
            ],
        )
        self.assertNotIn("left out", said)

    test_compiled.skip = twins.no_compiled  # type: ignore[attr-defined]  # what trial reads
