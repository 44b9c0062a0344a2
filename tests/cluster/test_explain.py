"""Why a request goes where it goes, told without sending it there."""

from __future__ import annotations

from typing import Any

from lemmytx.balance.chance import Random
from lemmytx.balance.lemmy import Lemmy
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.health import Health
from tests.cluster.test_cluster import Request
from tests.cluster.test_followed import ManyCase


class ExplainTests(ManyCase):
    """L{Cluster.explain}"""

    def dropped(self, cluster: Cluster, *tried: Backend) -> list[tuple[str, str, str]]:
        return [(why.filter, why.backend.name, why.reason) for why in cluster.explain(Request(*tried)).dropped]

    def test_reasons(self) -> None:
        """Each backend that does not come into question is there with the filter that dropped it, and why."""
        cluster = self.cluster(8, capacity=2, others=("standby", "backup"))
        drained, nowhere, ejected, trial, down, full, tried, fine = cluster.backends[:8]
        drained.state = "drain"
        nowhere.addresses = ()
        self.eject(cluster, trial)
        self.now += 10.1
        trial.passive.began(self)
        self.eject(cluster, ejected)
        down.checked = Health(fall=1)
        down.checked.failed("connection refused")
        full.acquire()
        full.acquire()
        cluster.changed()
        self.assertEqual(
            self.dropped(cluster, tried),
            [
                ("state", "a0", "an operator set it to drain"),
                ("address", "a1", "10.0.0.2 has no address"),
                ("health", "a2", "ejected for another 10.0 s: no"),
                ("health", "a3", "ejected, and another request is its trial"),
                ("health", "a4", "down: connection refused"),
                ("capacity", "a5", "2 of 2 requests are in flight"),
                ("tried", "a6", "this request was there before"),
                ("role", "s8", "standby: an active one can take it"),
                ("role", "b9", "backup: an active one can take it"),
            ],
        )
        found = cluster.explain(Request(tried))
        self.assertEqual((found.candidates, found.pick), ((fine,), fine))

    def test_standIns(self) -> None:
        """When all active ones are full the standby one is the pick; a backup one is none while any is available."""
        cluster = self.cluster(2, capacity=1, others=("standby", "backup"))
        for backend in cluster.backends[:2]:
            backend.acquire()
        found = cluster.explain(Request())
        self.assertEqual(found.candidates, cluster.backends[2:3])
        cluster.backends[2].acquire()
        found = cluster.explain(Request())
        self.assertEqual((found.candidates, found.pick), ((), None))
        self.assertEqual(found.dropped[-1][2], "backup: only when no active one is available, and one is")
        for backend in cluster.backends[:3]:
            backend.state = "disabled"
        cluster.changed()
        self.assertIs(cluster.explain(Request()).pick, cluster.backends[3])

    def test_foretells(self) -> None:
        """The pick is whom the next choice takes, however often one asks, among a few and among many."""
        for build in (RoundRobin, lambda: Lemmy(round_robin_after=3)):
            for count in (4, 20):
                cluster = self.cluster(count, capacity=3, scheduler=build())
                for _ in range(count * 3):
                    foretold = {cluster.explain(Request()).pick for _ in range(3)}
                    self.assertEqual(foretold, {self.begin(cluster)})
                self.assertIsNone(cluster.explain(Request()).pick)

    def test_chance(self) -> None:
        """When it is left to chance, or the scheduler does not say, there are candidates and no pick."""

        class Silent:
            def update(self, backends: object) -> None:
                pass

            def choose(self, candidates: tuple[Any, ...], request: object) -> Any:
                return candidates[0]

        for scheduler in (Random(seed=1), Silent()):
            found = self.cluster(3, scheduler=scheduler).explain(Request())
            self.assertEqual((len(found.candidates), found.pick, found.dropped), (3, None, []))

    def test_failing(self) -> None:
        """A preview that raises is no harm."""

        class Failing(RoundRobin):
            def preview(self, candidates: object, request: object) -> Any:
                raise RuntimeError("no")

        cluster = self.cluster(3, scheduler=Failing())
        self.assertIsNone(cluster.explain(Request()).pick)
        self.assertEqual(cluster.scheduler_failures, 0)
