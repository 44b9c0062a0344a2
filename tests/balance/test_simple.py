"""Least load, the first one, and chance."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.balance.chance import Random, TwoChoices
from lemmytx.balance.first import First
from lemmytx.balance.least_load import LeastLoad
from lemmytx.testing import Candidate, check_scheduler
from tests.balance.rig import REQUEST, following, many


class LeastLoadTests(SynchronousTestCase):
    """L{LeastLoad}"""

    def chosen(self, *members: Candidate) -> str:
        scheduler = LeastLoad()
        scheduler.update(members)
        return str(scheduler.choose(members, REQUEST).name)

    def test_contract(self) -> None:
        """It keeps the contract of its interface in the situations that the public check knows."""
        check_scheduler(LeastLoad)

    def test_capacities(self) -> None:
        """Not who has least is chosen, but who has least for what it can take."""
        self.assertEqual(self.chosen(Candidate("small", 2, capacity=10), Candidate("big", 10, capacity=100)), "big")

    def test_filled(self) -> None:
        """Filled up one by one, members hold requests in proportion to their capacities."""
        members = tuple(Candidate(f"b{capacity}", capacity=capacity) for capacity in (10, 20, 50))
        scheduler = LeastLoad()
        scheduler.update(members)
        for _ in range(40):
            backend: Any = scheduler.choose(members, REQUEST)
            backend.active += 1
        self.assertEqual([member.active for member in members], [5, 10, 25])

    def test_weights(self) -> None:
        """A weight makes it larger than its capacity says."""
        one, two = Candidate("a", 3, 1, capacity=10), Candidate("b", 5, 2, capacity=10)
        self.assertEqual(self.chosen(one, two), "b")

    def test_noCapacity(self) -> None:
        """One without a capacity counts as large as the largest; without any it is least connections."""
        self.assertEqual(
            self.chosen(Candidate("a", 3), Candidate("b", 2, capacity=10), Candidate("c", 3, capacity=20)), "a"
        )
        self.assertEqual(self.chosen(Candidate("a", 3), Candidate("b", 2), Candidate("c", 4)), "b")


class FirstTests(SynchronousTestCase):
    """L{First}"""

    def test_contract(self) -> None:
        """It keeps the contract of its interface in the situations that the public check knows."""
        check_scheduler(First)

    def test_order(self) -> None:
        """The first that is offered is chosen, one of weight 0 only when there is nothing else."""
        a, b, c = members = many(3, 0, 1)
        scheduler = First()
        scheduler.update(members)
        self.assertIs(scheduler.choose(members, REQUEST), b)
        self.assertIs(scheduler.choose((a, c), REQUEST), a)

    def test_outOfMany(self) -> None:
        """Among many too, whoever came last."""
        members = many(20, 1, 0)
        scheduler = following(First(), members)
        for gone in (0, 2, 4):
            self.assertIs(scheduler.pick(REQUEST), members[gone])
            scheduler.withdraw(members[gone])
        scheduler.admit(members[2])
        self.assertIs(scheduler.pick(REQUEST), members[2])
        for number in (2, *range(6, 20, 2)):
            scheduler.withdraw(members[number])
        self.assertIs(scheduler.pick(REQUEST), members[1])


class RandomTests(SynchronousTestCase):
    """L{Random}"""

    def test_contract(self) -> None:
        """It keeps the contract of its interface in the situations that the public check knows."""
        check_scheduler(Random)

    def test_weights(self) -> None:
        """Members are chosen by their weights, at once after these have changed."""
        members = many(4, 1, 2, 0, 5)
        scheduler = Random(seed=7)
        for weight in (5, 0, 1):
            members[3].weight = weight
            scheduler.update(members)
            counted = Counter(scheduler.choose(members, REQUEST).name for _ in range(8000))
            total = 3 + weight
            for member in members:
                self.assertApproximates(counted[member.name] / 8000, member.weight / total, 0.02)

    def test_subsets(self) -> None:
        """Among those that are offered, too, even if that are few of many."""
        members = many(200, 1, 3)
        scheduler = Random(seed=7)
        scheduler.update(members)
        for offer in (members[:150], members[100:104]):
            counted = Counter(scheduler.choose(offer, REQUEST).name for _ in range(8000))
            self.assertEqual(len(counted), len(offer))
            total = sum(member.weight for member in offer)
            heavy = sum(counted[member.name] for member in offer if member.weight == 3)
            self.assertApproximates(heavy / 8000, sum(m.weight for m in offer if m.weight == 3) / total, 0.02)

    def test_seed(self) -> None:
        """The same seed gives the same sequence, another one another."""
        members = many(10)

        def sequence(seed: int | None) -> list[str]:
            scheduler = Random(seed)
            scheduler.update(members)
            return [scheduler.choose(members, REQUEST).name for _ in range(50)]

        self.assertEqual(sequence(3), sequence(3))
        self.assertNotEqual(sequence(3), sequence(4))
        self.assertNotEqual(sequence(None), sequence(None))


class TwoChoicesTests(SynchronousTestCase):
    """L{TwoChoices}"""

    def test_contract(self) -> None:
        """It keeps the contract of its interface in the situations that the public check knows."""
        check_scheduler(TwoChoices)

    def test_avoidsTheBusiest(self) -> None:
        """The busiest of all is chosen only in the rare case that it is drawn more than once."""
        members = many(10)
        members[4].active = 50
        scheduler = TwoChoices(seed=5)
        scheduler.update(members)
        counted = Counter(scheduler.choose(members, REQUEST).name for _ in range(4000))
        self.assertLess(counted["b4"], 4000 * 0.01)
        self.assertEqual(len(counted), 10)

    def test_level(self) -> None:
        """With requests that stay, nobody has many more than another, unlike by chance alone."""
        spread = []
        for build in (Random, TwoChoices):
            members = many(50)
            scheduler = build(seed=5)
            scheduler.update(members)
            for _ in range(5000):
                backend: Any = scheduler.choose(members, REQUEST)
                backend.active += 1
            spread.append(max(member.active for member in members) - min(member.active for member in members))
        self.assertLess(spread[1], 8)
        self.assertGreater(spread[0], 25)

    def test_weightsWhenIdle(self) -> None:
        """While nothing is in flight it is weighted random."""
        members = many(4, 1, 2, 0, 5)
        scheduler = TwoChoices(seed=7)
        scheduler.update(members)
        counted = Counter(scheduler.choose(members, REQUEST).name for _ in range(8000))
        for member in members:
            self.assertApproximates(counted[member.name] / 8000, member.weight / 8, 0.02)

    def test_weightsInFlight(self) -> None:
        """Requests that stay are spread by weight."""
        members = many(4, 1, 2, 5, 2)
        scheduler = TwoChoices(seed=7)
        scheduler.update(members)
        for _ in range(1000):
            backend: Any = scheduler.choose(members, REQUEST)
            backend.active += 1
        for member in members:
            self.assertApproximates(member.active / 1000, member.weight / 10, 0.01)
