"""Slow start: whose weight grows, when, and how evenly."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lemmytx.balance.round_robin import RoundRobin
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.health import Health
from lemmytx.cluster.rules import Rules
from tests.cluster.test_cluster import Request
from tests.cluster.test_followed import ManyCase


class WarmingTests(ManyCase):
    """L{lemmytx.cluster.warming}"""

    def made(self, count: int = 3, slow_start: float = 18.0, scheduler: Any = None) -> Cluster:
        cluster = self.cluster(count, scheduler=scheduler or RoundRobin())
        cluster.configure(cluster.backends, cluster.scheduler, Rules(slow_start=slow_start))
        return cluster

    def disable_and_enable(self, cluster: Cluster, backend: Backend) -> None:
        for state in ("disabled", "ready"):
            backend.state = state
            cluster.changed()

    def weights(self, cluster: Cluster) -> list[float]:
        """They are looked at at a choice."""
        cluster.choose(Request())
        return [round(backend.weight, 6) for backend in cluster.backends]

    def test_start(self) -> None:
        """When the process starts everyone has all of its weight."""
        self.assertEqual(self.weights(self.made()), [1, 1, 1])

    def test_ramp(self) -> None:
        """One that comes back begins with a tenth, and has 5 % more after each eighteenth of the time."""
        cluster = self.made()
        self.disable_and_enable(cluster, cluster.backends[1])
        self.assertEqual(self.weights(cluster), [1, 0.1, 1])
        self.now += 0.99
        self.assertEqual(self.weights(cluster), [1, 0.1, 1])
        self.now -= 0.99
        for step in range(1, 19):
            self.now += 1
            self.assertEqual(self.weights(cluster), [1, round(0.1 + 0.05 * step, 6), 1])
        self.assertIsInstance(cluster.backends[1].weight, int)
        self.assertEqual(cluster.backends[1].warmth, 1.0)

    def test_quiet(self) -> None:
        """Without requests meanwhile it has what it would have had."""
        cluster = self.made()
        self.disable_and_enable(cluster, cluster.backends[1])
        self.now += 9
        self.assertEqual(self.weights(cluster), [1, 0.55, 1])
        self.now += 1000
        self.assertEqual(self.weights(cluster), [1, 1, 1])

    def test_shares(self) -> None:
        """The shares of requests follow, smoothly, and add up to half of them over the whole ramp."""
        cluster = self.made(2)
        self.disable_and_enable(cluster, cluster.backends[1])
        share = []
        for _ in range(18):
            served = Counter(cluster.choose(Request()) for _ in range(200))
            share.append(served[cluster.backends[1]])
            self.now += 1
        self.assertEqual(share, sorted(share))
        self.assertApproximates(share[0], 200 * 0.1 / 1.1, 1)
        self.assertApproximates(share[9], 200 * 0.55 / 1.55, 1)

    def test_ejected(self) -> None:
        """One that was ejected warms up from the trial that succeeds on, not before."""
        cluster = self.made()
        bad = cluster.backends[0]
        self.eject(cluster, bad)
        self.now += 10.1
        self.assertEqual(self.weights(cluster), [1, 1, 1])
        bad.passive.began(self)
        cluster.succeeded(bad)
        self.assertEqual(self.weights(cluster), [0.1, 1, 1])

    def test_added(self) -> None:
        """One that a reload adds warms up; those that were there do not."""
        cluster = self.made()
        cluster.configure([*cluster.backends, self.backend(7)], cluster.scheduler, cluster.rules)
        self.assertEqual(self.weights(cluster), [1, 1, 1, 0.1])
        self.now += 18
        self.assertEqual(self.weights(cluster), [1, 1, 1, 1])

    def test_checked(self) -> None:
        """One that checks took down warms up when they find it well; one that was never checked was not away."""
        cluster = self.made()
        fell, fresh, _ = cluster.backends
        fell.checked, fresh.checked = Health(1, 1), Health(1, 1, up=False)
        fell.checked.failed("no")
        cluster.changed()
        for backend in (fell, fresh):
            assert backend.checked is not None
            backend.checked.passed()
            cluster.changed()
        self.assertEqual(self.weights(cluster), [0.1, 1, 1])

    def test_again(self) -> None:
        """One that goes again while it warms up begins anew."""
        cluster = self.made()
        self.disable_and_enable(cluster, cluster.backends[0])
        self.now += 9
        self.assertEqual(self.weights(cluster), [0.55, 1, 1])
        self.disable_and_enable(cluster, cluster.backends[0])
        self.assertEqual(self.weights(cluster), [0.1, 1, 1])

    def test_none(self) -> None:
        """Without a slow start it has all of its weight at once; a reload that takes it away ends all there are."""
        cluster = self.made(slow_start=0)
        self.disable_and_enable(cluster, cluster.backends[0])
        self.assertEqual(self.weights(cluster), [1, 1, 1])
        cluster = self.made()
        self.disable_and_enable(cluster, cluster.backends[0])
        cluster.configure(cluster.backends, cluster.scheduler, Rules())
        self.assertEqual(self.weights(cluster), [1, 1, 1])

    def test_otherWeight(self) -> None:
        """Another configured weight holds for the rest of the ramp, and 0 stays 0."""
        cluster = self.made()
        backend, settings = cluster.backends[0], self.backend(0)
        self.disable_and_enable(cluster, backend)
        settings.weight = 10
        backend.configure(settings)
        cluster.configure(cluster.backends, cluster.scheduler, cluster.rules)
        self.assertEqual(self.weights(cluster), [1, 1, 1])
        self.now += 9
        self.assertEqual(self.weights(cluster), [5.5, 1, 1])
        settings.weight = 0
        backend.configure(settings)
        cluster.configure(cluster.backends, cluster.scheduler, cluster.rules)
        self.assertEqual(self.weights(cluster), [0, 1, 1])

    def test_fewUpdates(self) -> None:
        """However many warm up at once, the scheduler hears of weights eighteen times, not so often per backend."""
        updates = []

        class Counting(RoundRobin):
            def update(self, backends: Any) -> None:
                updates.append(self)
                super().update(backends)

        for count in (10, 40):
            cluster = self.made(count, scheduler=Counting())
            for backend in cluster.backends[1:]:
                backend.state = "disabled"
            cluster.changed()
            for backend in cluster.backends[1:]:
                backend.state = "ready"
            updates.clear()
            cluster.changed()
            for _ in range(400):
                self.now += 0.05
                cluster.choose(Request())
            self.assertIn(len(updates), (19, 20), count)
            self.assertEqual({backend.weight for backend in cluster.backends}, {1})

    def test_outOfMany(self) -> None:
        """Among many it is the same."""
        cluster = self.made(40)
        cold = cluster.backends[3]
        self.disable_and_enable(cluster, cold)
        share = []
        for _ in range(19):
            share.append(Counter(cluster.choose(Request()) for _ in range(800))[cold])
            self.now += 1
        self.assertApproximates(share[0], 2, 1.1)
        self.assertApproximates(share[9], 11, 1.5)
        self.assertApproximates(share[18], 20, 1)
