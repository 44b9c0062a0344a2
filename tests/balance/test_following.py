"""Schedulers of clusters of many backends, which hear of each change instead of looking at everyone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.balance.chance import Random, TwoChoices
from lemmytx.balance.first import First
from lemmytx.balance.hashing import IpHash
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.balance.least_load import LeastLoad
from lemmytx.balance.lemmy import Lemmy
from lemmytx.balance.reported_load import ReportedLoad
from lemmytx.balance.response_time import ResponseTime
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.testing import Candidate
from tests.balance.rig import REQUEST, following, many, taken
from tests.balance.test_schedulers import longest_run
from tests.profiling import calls

ALL: tuple[Callable[[], Any], ...] = (
    RoundRobin,
    LeastConnections,
    LeastLoad,
    Lemmy,
    lambda: Lemmy(round_robin_after=2),
    First,
    lambda: Random(seed=1),
    lambda: TwoChoices(seed=1),
    ResponseTime,
    ReportedLoad,
    lambda: IpHash(balance_factor=150),
)

#: What may happen to a member: it is admitted or withdrawn, a request begins or ends there; or a request comes.
STEPS = st.lists(st.tuples(st.sampled_from("awbep"), st.integers(0, 19)), max_size=120)


def asked(scheduler: Any, members: Sequence[Candidate], steps: list[tuple[str, int]]) -> Iterator[set[Candidate]]:
    """Do what L{STEPS} say; yield who is admitted, whenever a request comes and somebody is."""
    admitted: set[Candidate] = set()
    for step, number in steps:
        member = members[number]
        if step == "a" and member not in admitted:
            admitted.add(member)
            scheduler.admit(member)
        elif step == "w" and member in admitted:
            admitted.remove(member)
            scheduler.withdraw(member)
        elif step == "b" or (step == "e" and member.active):
            member.active += 1 if step == "b" else -1
            scheduler.moved(member)
        elif step == "p" and admitted:
            yield admitted


class FollowingTests(SynchronousTestCase):
    """What all of them promise."""

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(STEPS, st.sampled_from(ALL))
    def test_onlyTheAdmitted(self, steps: list[tuple[str, int]], build: Callable[[], Any]) -> None:
        """Whatever comes, goes, begins and ends: one that is admitted is picked, and of weight 0 only if all are."""
        members = many(20, 1, 0, 3)
        scheduler = build()
        scheduler.update(members)
        for admitted in asked(scheduler, members, steps):
            picked = scheduler.pick(REQUEST)
            self.assertIn(picked, admitted)
            if not picked.weight:
                self.assertFalse(any(member.weight for member in admitted))

    def test_nobodyIsLookedAtInVain(self) -> None:
        """A choice out of 1,000 calls a few functions, not one for each of them, even for a single key."""
        for build in ALL:
            scheduler = following(build(), many(1000, 1, 2))
            taken(scheduler, 3000, stay=True)

            def act(scheduler: Any = scheduler) -> None:
                taken(scheduler, 100, stay=True)

            self.assertLess(calls(act), 100 * 40, build)

    def test_nothingPilesUp(self) -> None:
        """Members that run full and have room again for hours leave nothing behind."""
        for build in ALL:
            members = many(20, 1)
            scheduler = following(build(), members)
            for number in range(4000):
                member = members[number % 5]
                scheduler.withdraw(member)
                scheduler.admit(member)
                if number % 50 == 0:
                    scheduler.pick(REQUEST)
            held = [getattr(scheduler, name) for name in ("_heap", "_queue", "_moved") if hasattr(scheduler, name)]
            if isinstance(scheduler, RoundRobin):
                held = [scheduler._many._heap]
            self.assertTrue(all(len(some) <= 200 for some in held), (build, held))

    def test_againAFew(self) -> None:
        """When the cluster shrinks the same scheduler chooses among a few, and back."""
        for build in ALL:
            members = many(20, 1)
            scheduler = following(build(), members)
            taken(scheduler, 30)
            scheduler.update(members[:3])
            self.assertIn(scheduler.choose(members[:3], REQUEST), members[:3])
            following(scheduler, members)
            self.assertIn(scheduler.pick(REQUEST), members)


class LeastTests(SynchronousTestCase):
    """Those that look for the least of something."""

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(STEPS, st.sampled_from([LeastConnections, LeastLoad]))
    def test_theSameAsLooking(self, steps: list[tuple[str, int]], build: Callable[[], Any]) -> None:
        """The pick is one that nobody is better than, whatever has happened."""
        members = tuple(Candidate(f"b{n}", weight=n % 3 + 1, capacity=n % 4 * 10) for n in range(20))
        scheduler = build()
        scheduler.update(members)
        for admitted in asked(scheduler, members, steps):
            best = min(scheduler.score(member, member.weight) for member in admitted)
            picked = scheduler.pick(REQUEST)
            self.assertEqual(scheduler.score(picked, picked.weight), best)

    def test_tiesInTurn(self) -> None:
        """Idle equal ones are picked in their order, again and again."""
        members = many(20)
        for build in (LeastConnections, LeastLoad, Lemmy, ResponseTime, ReportedLoad):
            scheduler = following(build(), members)
            picked = [scheduler.pick(REQUEST).name for _ in range(60)]
            self.assertEqual(picked, [member.name for member in members] * 3)

    def test_weights(self) -> None:
        """Filled up one by one, members hold requests in proportion to their weights."""
        scheduler = following(LeastConnections(), many(20, 1, 2, 5, 8))
        counted = taken(scheduler, 800, stay=True)
        self.assertEqual([counted[f"b{number}"] for number in range(4)], [10, 20, 50, 80])

    def test_lemmy(self) -> None:
        """A newcomer gets its run, then the others share as many, each in its turn."""
        members = many(20)
        for member in members:
            member.active = 500
        members[7].active = 0
        scheduler = following(Lemmy(round_robin_after=38), members)
        self.assertEqual(taken(scheduler, 38, stay=True), {"b7": 38})
        others = taken(scheduler, 38, stay=True)
        self.assertEqual(others, {member.name: 2 for member in members if member.name != "b7"})
        self.assertEqual(taken(scheduler, 38, stay=True), {"b7": 38})


class RoundRobinTests(SynchronousTestCase):
    """L{RoundRobin}"""

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(st.integers(1, 9), min_size=17, max_size=40))
    def test_shares(self, weights: list[int]) -> None:
        """In as many picks as the weights sum up to, each is picked as often as its weight says."""
        scheduler = following(RoundRobin(), members := many(len(weights), *weights))
        total = sum(weights)
        counted: Counter[str] = Counter()
        for done in range(1, 3 * total + 1):
            counted[scheduler.pick(REQUEST).name] += 1
            for member in members:
                self.assertLess(abs(counted[member.name] - done * member.weight / total), 2)
        self.assertEqual(counted, {member.name: 3 * member.weight for member in members})

    def test_smooth(self) -> None:
        """A heavy one's picks are spread evenly among the others', as a a b a c a a is for 5, 1, 1."""
        members = tuple(Candidate(chr(97 + number), weight=20 if not number else 1) for number in range(21))
        scheduler = following(RoundRobin(), members)
        picked = "".join(scheduler.pick(REQUEST).name for _ in range(120))
        self.assertEqual(picked.count("a"), 60)
        self.assertLessEqual(longest_run(picked), 2)

    def test_order(self) -> None:
        """Equal ones are picked in the order of the configuration."""
        members = many(20)
        scheduler = following(RoundRobin(), members)
        self.assertEqual([scheduler.pick(REQUEST) for _ in range(40)], [*members, *members])

    def test_goneAndBack(self) -> None:
        """One that was away for a while gets its share afterwards, and does not make up for lost time."""
        members = many(20)
        scheduler = following(RoundRobin(), members)
        taken(scheduler, 33)
        scheduler.withdraw(members[3])
        self.assertEqual(taken(scheduler, 190)["b3"], 0)
        scheduler.admit(members[3])
        self.assertIn(taken(scheduler, 200)["b3"], (10, 11))

    def test_weightChanges(self) -> None:
        """When a great weight becomes a small one it counts at once, and nobody gets a burst."""
        members = many(20)
        members[0].weight = 1000
        scheduler = following(RoundRobin(), members)
        taken(scheduler, 400)
        members[0].weight = 1
        following(scheduler, members)
        after = taken(scheduler, 200)
        self.assertTrue(all(9 <= after[member.name] <= 11 for member in members), after)

    def test_ramp(self) -> None:
        """While a weight grows in small steps, told one after the other, shares follow it."""
        members = many(20)
        scheduler = following(RoundRobin(), members)
        cold = members[4]
        share = []
        for step in range(2, 21):
            cold.weight, cold.warmth = step / 20, step / 20
            following(scheduler, members)
            share.append(taken(scheduler, 400)["b4"])
        self.assertEqual(share, sorted(share))
        self.assertApproximates(share[0], 400 * 0.1 / 19.1, 1.5)
        self.assertApproximates(share[-1], 20, 1.5)
