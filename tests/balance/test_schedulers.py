"""The schedulers that come with lemmytx: who gets the next request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.balance.least_connections import LeastConnections
from lemmytx.balance.lemmy import Lemmy
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.interfaces import ICandidate, IScheduler
from lemmytx.testing import Candidate, Request, check_scheduler

REQUEST = Request()


def picks(scheduler: IScheduler, offer: Sequence[Candidate], times: int) -> str:
    """The names of so many choices in a row, of which none stays in flight."""
    candidates = tuple(offer)
    return "".join(scheduler.choose(candidates, REQUEST).name for _ in range(times))


def backends(**weights: int) -> list[Candidate]:
    """A candidate for each name, with its weight."""
    return [Candidate(name, weight=weight) for name, weight in weights.items()]


def updated(scheduler: IScheduler, members: Sequence[ICandidate]) -> IScheduler:
    """The scheduler, told of its members."""
    scheduler.update(tuple(members))
    return scheduler


def longest_run(text: str) -> int:
    """How often in a row one letter comes at the most."""
    return max(len(list(same)) for _, same in groupby(text))


class ContractTests(SynchronousTestCase):
    """What all of them promise."""

    BUILDS: tuple[Callable[[], IScheduler], ...] = (
        RoundRobin,
        LeastConnections,
        Lemmy,
        lambda: Lemmy(round_robin_after=1),
        lambda: Lemmy(round_robin_after=2, round_robin_for=7),
    )

    def test_contract(self) -> None:
        """Each keeps the contract of its interface in the situations that the public check knows."""
        for build in self.BUILDS:
            check_scheduler(build)

    def test_everyoneInTurn(self) -> None:
        """Idle equal backends are chosen in their order, again and again."""
        for build in self.BUILDS:
            self.assertEqual(picks(updated(build(), abc := backends(a=1, b=1, c=1)), abc, 9), "abcabcabc", build)

    def test_nothingIsKeptOfTheGone(self) -> None:
        """What a scheduler remembers does not grow with every backend that there ever was."""
        for build in self.BUILDS:
            scheduler = build()
            for number in range(50):
                members = backends(**{f"a{number}": 1, f"b{number}": 1})
                picks(updated(scheduler, members), members, 3)
            scheduler.update(())
            kept = [getattr(scheduler, name) for name in ("_picked", "_all") if hasattr(scheduler, name)]
            self.assertEqual(kept, [{}], build)


class RoundRobinTests(SynchronousTestCase):
    """L{RoundRobin}"""

    def test_smooth(self) -> None:
        """Weights 5, 1, 1 give nginx's sequence, and it repeats exactly."""
        members = backends(a=5, b=1, c=1)
        self.assertEqual(picks(updated(RoundRobin(), members), members, 21), "aabacaa" * 3)

    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(st.lists(st.integers(1, 9), min_size=2, max_size=6))
    def test_shares(self, weights: list[int]) -> None:
        """In as many choices as the weights sum up to, each backend is chosen as often as its weight says."""
        members = [Candidate(f"b{n}", weight=weight) for n, weight in enumerate(weights)]
        scheduler = updated(RoundRobin(), members)
        for _ in range(3):
            counted = Counter(scheduler.choose(tuple(members), REQUEST).name for _ in range(sum(weights)))
            self.assertEqual(counted, {member.name: member.weight for member in members})

    def test_goneAndBack(self) -> None:
        """A backend that is not offered for a while gets its share afterwards, and does not make up for lost time."""
        a, b, c = abc = backends(a=1, b=1, c=1)
        scheduler = updated(RoundRobin(), abc)
        picks(scheduler, abc, 4)
        self.assertEqual(Counter(picks(scheduler, [a, b], 100)), {"a": 50, "b": 50})
        after = picks(scheduler, [a, b, c], 30)
        for name, number in Counter(after).items():
            self.assertIn(number, (9, 10, 11), name)  # it may have been owed a part of one when it went
        self.assertLessEqual(longest_run(after), 2)

    def test_membersComeAndGo(self) -> None:
        """A backend that was added gets its share at once, and no one else a burst."""
        members = backends(a=1, b=1)
        scheduler = updated(RoundRobin(), members)
        picks(scheduler, members, 5)
        members += backends(c=2)
        scheduler.update(tuple(members))
        after = picks(scheduler, members, 40)
        self.assertEqual(Counter(after), {"a": 10, "b": 10, "c": 20})
        self.assertLessEqual(longest_run(after), 2)

    def test_noBurstBehindAHeavyOne(self) -> None:
        """When a backend of great weight goes, those that waited behind it share the work evenly at once."""
        _heavy, b, c = members = backends(a=1000, b=1, c=1)
        scheduler = updated(RoundRobin(), members)
        for before in (1, 300, 400):
            picks(scheduler, members, before)
            after = picks(scheduler, [b, c], 20)
            self.assertLessEqual(longest_run(after), 2, after)

    def test_weightChanges(self) -> None:
        """When a great weight becomes a small one, what was saved up under the great one is no fortune."""
        heavy, _b = members = backends(a=1000, b=1)
        scheduler = updated(RoundRobin(), members)
        picks(scheduler, members, 490)
        heavy.weight = 1
        scheduler.update(tuple(members))
        self.assertLessEqual(longest_run(picks(scheduler, members, 20)), 2)
        heavy.weight = 3
        scheduler.update(tuple(members))
        self.assertEqual(Counter(picks(scheduler, members, 40)), {"a": 30, "b": 10})

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(st.sets(st.integers(0, 4), min_size=2), min_size=60, max_size=120))
    def test_anySubsets(self, offers: list[set[int]]) -> None:
        """Whatever subsets are offered, each backend is chosen within two of what it was owed over the whole time."""
        members = [Candidate(f"b{n}", weight=n % 2 + 1) for n in range(5)]
        scheduler = updated(RoundRobin(), members)
        owed: Counter[str] = Counter()
        for offer in offers:
            candidates = tuple(members[n] for n in sorted(offer))
            for candidate in candidates:
                owed[candidate.name] += candidate.weight / sum(c.weight for c in candidates)  # type: ignore[assignment]
            owed[scheduler.choose(candidates, REQUEST).name] -= 1
            self.assertLess(max(abs(value) for value in owed.values()), 3)

    def test_weightZero(self) -> None:
        """A backend of weight 0 is chosen only when there is nothing else."""
        a, _b, c = members = backends(a=0, b=1, c=0)
        scheduler = updated(RoundRobin(), members)
        self.assertEqual(picks(scheduler, members, 5), "bbbbb")
        self.assertEqual(picks(scheduler, [a, c], 4), "acac")


class LeastConnectionsTests(SynchronousTestCase):
    """L{LeastConnections}"""

    def test_least(self) -> None:
        """The backend with the fewest requests in flight is chosen."""
        members = [Candidate("a", active=3), Candidate("b", active=1), Candidate("c", active=2)]
        self.assertEqual(picks(updated(LeastConnections(), members), members, 3), "bbb")

    def test_weights(self) -> None:
        """Filled up one by one, backends hold requests in proportion to their weights."""
        members = tuple(backends(a=1, b=2, c=5))
        scheduler = updated(LeastConnections(), members)
        for _ in range(80):
            chosen = scheduler.choose(members, REQUEST)
            assert isinstance(chosen, Candidate)
            chosen.active += 1
        self.assertEqual([member.active for member in members], [10, 20, 50])

    def test_heavyWhenIdle(self) -> None:
        """Of idle backends the heaviest is chosen, as the request loads it least."""
        members = backends(a=1, b=3, c=2)
        self.assertEqual(picks(updated(LeastConnections(), members), members, 2), "bb")

    def test_tiesOfUnequalWeights(self) -> None:
        """Backends that are equally full for their weights are tied, and go in turn."""
        members = [Candidate("a", active=0, weight=1), Candidate("b", active=2, weight=3)]
        self.assertEqual(picks(updated(LeastConnections(), members), members, 4), "abab")

    def test_tiesBesideABusyOne(self) -> None:
        """Ties go in turn among those tied, whoever stands between them."""
        members = [Candidate("a"), Candidate("b", active=9), Candidate("c"), Candidate("d")]
        self.assertEqual(picks(updated(LeastConnections(), members), members, 6), "acdacd")

    def test_tiesOverSubsets(self) -> None:
        """A backend that always fails, so that each request is offered the others next, leaves none of them out."""
        _a, b, c = members = backends(a=1, b=1, c=1)
        scheduler = updated(LeastConnections(), members)
        served: Counter[str] = Counter()
        for _ in range(60):
            chosen = picks(scheduler, members, 1)
            served[picks(scheduler, [b, c], 1) if chosen == "a" else chosen] += 1
        self.assertEqual(served, {"b": 30, "c": 30})

    def test_weightChanges(self) -> None:
        """A new weight counts from the next choice on."""
        members = backends(a=1, b=2)
        scheduler = updated(LeastConnections(), members)
        self.assertEqual(picks(scheduler, members, 1), "b")
        members[0].weight = 3
        scheduler.update(tuple(members))
        self.assertEqual(picks(scheduler, members, 1), "a")


class LemmyTests(SynchronousTestCase):
    """L{Lemmy}"""

    def test_flood(self) -> None:
        """A and B at 500 and a new C at 0: 100 to C, 100 shared by A and B, and so on until the scores are level."""
        a, b, c = members = (Candidate("a", active=500), Candidate("b", active=500), Candidate("c"))
        scheduler = updated(Lemmy(round_robin_after=100), members)
        chosen = []
        for _ in range(2400):
            backend = scheduler.choose(members, REQUEST)
            assert isinstance(backend, Candidate)
            backend.active += 1
            chosen.append(backend.name)
        hundreds = [Counter(chosen[n : n + 100]) for n in range(0, 2400, 100)]
        # Each pair of hundreds brings C 50 nearer to the others: level after ten of them.
        self.assertEqual(hundreds[:18], [{"c": 100}, {"a": 50, "b": 50}] * 9)
        for before, after in pairwise(chosen[100:200]):
            self.assertNotEqual(before, after)
        scores = [a.active, b.active, c.active]
        self.assertLessEqual(max(scores) - min(scores), 1)
        self.assertLess(longest_run("".join(chosen[2100:])), 3)

    def test_lengths(self) -> None:
        """The others have their turn for as many requests as the option says."""
        members = [Candidate("a"), Candidate("b", active=9), Candidate("c", active=9), Candidate("d", active=9)]
        scheduler = updated(Lemmy(round_robin_after=3, round_robin_for=4), members)
        self.assertEqual(picks(scheduler, members, 14), "aaabcdbaaacdbc")

    def test_interrupted(self) -> None:
        """A pick of another backend begins the count anew."""
        a, _b = members = [Candidate("a"), Candidate("b", active=1)]
        scheduler = updated(Lemmy(round_robin_after=3), members)
        self.assertEqual(picks(scheduler, members, 2), "aa")
        a.active = 2
        self.assertEqual(picks(scheduler, members, 1), "b")
        a.active = 0
        self.assertEqual(picks(scheduler, members, 6), "aaabbb")

    def test_aLoneOne(self) -> None:
        """With one backend there is nothing to skip to, and it is no run either."""
        a, _b = members = [Candidate("a"), Candidate("b", active=1)]
        scheduler = updated(Lemmy(round_robin_after=2), members)
        self.assertEqual(picks(scheduler, [a], 5), "aaaaa")
        self.assertEqual(picks(scheduler, members, 5), "aabba")

    def test_theOthersWeighNothing(self) -> None:
        """A backend of weight 0 is not what the others' turn is for."""
        members = [Candidate("a"), Candidate("b", weight=0)]
        self.assertEqual(picks(updated(Lemmy(round_robin_after=2), members), members, 6), "aaaaaa")

    def test_theFloodedOneGoes(self) -> None:
        """When the backend to skip is gone, the rule starts again."""
        _a, b, c = members = [Candidate("a"), Candidate("b", active=4), Candidate("c", active=5)]
        scheduler = updated(Lemmy(round_robin_after=2, round_robin_for=100), members)
        self.assertEqual(picks(scheduler, members, 3), "aab")
        scheduler.update((b, c))
        self.assertEqual(picks(scheduler, [b, c], 3), "bbc")

    def test_weights(self) -> None:
        """The score is active connections by weight."""
        members = [Candidate("a", active=4, weight=4), Candidate("b", active=2, weight=1)]
        self.assertEqual(picks(updated(Lemmy(), members), members, 2), "aa")

    def test_options(self) -> None:
        """Numbers below 1 are refused with the name of the option."""
        error = self.assertRaises(ValueError, Lemmy, round_robin_after=0)
        self.assertEqual(str(error), "round_robin_after: found 0; write a whole number from 1 up")
        self.assertIn("round_robin_for", str(self.assertRaises(ValueError, Lemmy, 5, -1)))
