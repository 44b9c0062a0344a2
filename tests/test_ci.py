"""How CI deals the tests out and reads what came of them."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

_SOURCE = Path(__file__).parent.parent / ".ci" / "summary.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("ci_summary", _SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


class SummaryTests(SynchronousTestCase):
    """The parts, and the counts."""

    summary = _load()

    def test_every_module_once(self) -> None:
        """Each module of tests is in one part that runs on the compiled codec, and in no other."""
        here = Path(__file__).parent
        wanted = [
            ".".join(("tests", *file.relative_to(here).with_suffix("").parts)) for file in here.rglob("test_*.py")
        ]
        self.chdir()
        made = self.summary.parts(["tests"], "tests.process", ["tests.http1"])
        dealt = [name for part in made if not part.pure for name in part.tests]
        self.assertEqual(sorted(dealt), sorted(wanted))
        self.assertEqual([part.tests for part in made if part.pure], [["tests.http1"]])

    def chdir(self) -> None:
        """As make does: everything is relative to the project's folder."""
        before = os.getcwd()
        os.chdir(_SOURCE.parent.parent)
        self.addCleanup(os.chdir, before)

    def test_processes_apart(self) -> None:
        """What waits for processes shares no part with what computes."""
        self.chdir()
        for part in self.summary.parts(["tests"], "tests.process", []):
            self.assertEqual(len({name.startswith("tests.process.") for name in part.tests}), 1, part)

    def test_counts(self) -> None:
        """Passed, failed and skipped are read from the last line of trial; without one there is no result."""
        read = self.summary.read
        outcome = read(["x", "FAILED (skips=1, failures=2, errors=3, successes=40)"])
        self.assertEqual((outcome.passed, outcome.failed, outcome.skipped), (40, 5, 1))
        self.assertEqual(read(["PASSED (successes=7)"]).passed, 7)
        self.assertIsNone(read(["Ran 7 tests", "Killed"]))
