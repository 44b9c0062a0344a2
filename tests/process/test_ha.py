"""Two instances that share an address by keepalived, as in the recipe, in network namespaces of their own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.ha.failover import Machines, outcome
from benchmarks.ha.network import CannotMake


class SharedAddressTests(SynchronousTestCase):
    """conf/ha/keepalived.conf."""

    def test_killed(self) -> None:
        """When the instance that has the address is killed, the other one gets it and answers from then on."""
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="lemmytx-ha-"))
        try:
            machines = self.enterContext(Machines(Path(folder)))
        except CannotMake as error:
            raise SkipTest(f"network namespaces and keepalived are needed: {error}") from error
        before = machines.holder()
        found = machines.kill(seconds=6.0, rate=50.0)
        self.assertTrue(found.others, found)
        self.assertNotEqual(machines.holder(), before)
        self.assertGreater(found.asked - sum(found.lost.values()), found.asked / 3, found)


class OutcomeTests(SynchronousTestCase):
    """What the client's lines come to."""

    def test_counts(self) -> None:
        """Losses are counted by their kind, and the gap is between the two instances' answers."""
        told = [
            {"at": 0.0, "answer": "a", "why": ""},
            {"at": 0.1, "answer": "", "why": "TimeoutError('timed out')"},
            {"at": 0.2, "answer": "", "why": "TimeoutError('timed out')"},
            {"at": 0.3, "answer": "", "why": "status 503"},
            {"at": 0.5, "answer": "b", "why": ""},
        ]
        found = outcome(told, "a")
        self.assertEqual((found.asked, found.lost, found.gap), (5, {"TimeoutError": 2, "status 503": 1}, 0.5))
        self.assertTrue(found.others)
        self.assertFalse(outcome(told[:4], "a").others, "the other one never answered")
