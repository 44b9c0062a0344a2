"""Schedulers of several processes that share the table: what the others have in flight counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.balance.least_connections import LeastConnections
from lemmytx.balance.lemmy import Lemmy
from lemmytx.testing import Candidate
from tests.balance.rig import REQUEST


class Process:
    """One that shares the table: a scheduler, and the backends as it sees them."""

    def __init__(self, scheduler: Any, *names: str, weights: tuple[int, ...], follows: bool = False) -> None:
        """
        @param follows: whether the scheduler is told of each change, as in a cluster of many.
        """
        self.scheduler = scheduler
        self.members = tuple(Candidate(name, weight=weight) for name, weight in zip(names, weights, strict=True))
        self.follows = follows
        scheduler.update(self.members)
        for member in self.members if follows else ():
            scheduler.admit(member)

    def ask(self) -> Candidate:
        """A request comes."""
        if self.follows:
            chosen: Candidate = self.scheduler.pick(REQUEST)
        else:
            chosen = self.scheduler.choose(self.members, REQUEST)
        self.move(chosen, 1)
        return chosen

    def move(self, backend: Candidate, by: int) -> None:
        """A request begins or ends."""
        backend.active += by
        if self.follows:
            self.scheduler.moved(backend)

    def serve(self, count: int) -> str:
        """So many requests: whom they go to."""
        return "".join(self.ask().name for _ in range(count))


def publish(*processes: Process) -> None:
    """Each hears what the others have in flight."""
    for at in range(len(processes[0].members)):
        total = sum(process.members[at].active for process in processes)
        for process in processes:
            member = process.members[at]
            member.elsewhere = total - member.active
            if process.follows:
                process.scheduler.moved(member)


class SharedTests(SynchronousTestCase):
    """C{elsewhere}"""

    def test_noFlood(self) -> None:
        """
        A and B are busy with requests of two processes, and C comes back empty. One process fills it; the other one,
        which has nothing there itself, does not flood it once more.
        """
        for build in (lambda: Lemmy(round_robin_after=100), LeastConnections):
            for follows in (False, True):
                first, second, blind = (
                    Process(build(), "a", "b", "c", weights=(1, 1, 1), follows=follows) for _ in range(3)
                )
                for process in (first, second, blind):
                    process.move(process.members[0], 300)
                    process.move(process.members[1], 300)
                publish(first, second)
                first.serve(2400)
                self.assertEqual([member.active for member in first.members], [900, 900, 1200])
                publish(first, second)
                self.assertEqual(Counter(second.serve(300)), {"a": 100, "b": 100, "c": 100})
                self.assertEqual(blind.serve(100), "c" * 100)

    def test_both(self) -> None:
        """When both fill it at the same time, each hears of the other before it has sent too much."""
        first, second = (Process(Lemmy(round_robin_after=100), "a", "b", "c", weights=(1, 1, 1)) for _ in range(2))
        for process in (first, second):
            process.move(process.members[0], 500)
            process.move(process.members[1], 500)
        for _ in range(100):
            publish(first, second)
            first.serve(20)
            second.serve(20)
        totals = [a.active + b.active for a, b in zip(first.members, second.members, strict=True)]
        # What two send between two looks at the table is as much as it can be off.
        self.assertLess(max(totals) - min(totals), 2 * 2 * 20)

    def test_own(self) -> None:
        """Told not to, a process goes by its own requests alone."""
        process = Process(LeastConnections(shared=False), "a", "b", weights=(1, 1))
        process.members[0].elsewhere = 1000
        self.assertEqual(process.serve(4), "abab")
        self.assertEqual(process.scheduler.preview(process.members, REQUEST), process.members[0])

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        st.booleans(),
        st.lists(st.tuples(st.sampled_from("aaaep"), st.integers(0, 1), st.integers(0, 3)), max_size=120),
    )
    def test_leastOfAll(self, follows: bool, steps: list[tuple[str, int, int]]) -> None:
        """Whoever is chosen has the least in flight, by weight, of all processes, as far as they have said so."""
        processes = [Process(LeastConnections(), *"abcd", weights=(1, 2, 1, 3), follows=follows) for _ in range(2)]
        for step, which, number in steps:
            process = processes[which]
            member = process.members[number]
            if step == "a":
                loads = {each: (each.active + each.elsewhere + 1) / each.weight for each in process.members}
                foretold = process.scheduler.preview(process.members, REQUEST)
                chosen = process.ask()
                self.assertIs(chosen, foretold)
                self.assertEqual(loads[chosen], min(loads.values()))
            elif step == "e" and member.active:
                process.move(member, -1)
            elif step == "p":
                publish(*processes)
