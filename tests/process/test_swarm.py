"""Instances that share a table in Redis, and come and go."""

from __future__ import annotations

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.swarm import Swarm
from tests.process.rig import until


class SwarmTests(SynchronousTestCase):
    """The short form of C{python -m benchmarks.swarm}."""

    def test_scores(self) -> None:
        """While instances start and are killed the scores are within what is in flight, and zero when all are gone."""
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="lemmytx-swarm-"))
        swarm = self.enterContext(Swarm(Path(folder)))
        swarm.storm(3, 7)
        self.assertTrue(swarm.true(), swarm.redis.scores())
        swarm.settle()
        self.assertEqual(set(swarm.redis.scores().values()), {0})
        self.assertGreater(swarm.answers.get(200, 0), 0)
        forgotten = until(lambda: swarm.redis.ask("ZCARD", "lemmy:instances") == ["1"])
        self.assertTrue(forgotten, swarm.redis.ask("ZRANGE", "lemmy:instances", "0", "-1", "WITHSCORES"))
