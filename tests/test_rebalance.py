"""
Capacities among workers, with workers that are not there: what is said takes its time, is lost, or comes too late, and
requests begin and end in between.
"""

from __future__ import annotations

import json
import random
from collections import deque
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import TimeoutError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import commands
from lemmytx.cluster.shares import portion
from lemmytx.rebalance import SOON, USUAL, Division, Rooms, _in_parts, _portioned


class Peer:
    """
    A worker with a cluster C{c}, as much of it as there is to be divided.

    @ivar active: requests in flight, by backend; C{room}: how many may be.
    @ivar line: how many wait.
    @ivar served: how many have begun.
    @ivar mail: what it was asked and has not heard yet.
    """

    leaving = False
    sharing = True
    number = 0

    def __init__(self, capacities: dict[str, int], rooms: dict[str, int] | None = None) -> None:
        self.capacities = capacities
        self.room = rooms or dict.fromkeys(capacities, 0)
        self.active = dict.fromkeys(capacities, 0)
        self.line = 0
        self.served = 0
        self.mail: deque[tuple[Any, dict[str, Any], Deferred[Any]]] = deque()
        self.told = 0

    def serve(self) -> None:
        """Whoever waits goes where there is room."""
        for name in sorted(self.active, key=lambda name: self.active[name]):
            while self.line and self.active[name] < self.room[name]:
                self.line -= 1
                self.active[name] += 1
                self.served += 1

    def end(self, name: str) -> None:
        """A request on a backend has ended, if there is one."""
        if self.active[name]:
            self.active[name] -= 1
            self.serve()

    def configure(self, capacities: dict[str, int], number: int, count: int) -> None:
        """A reload, as L{lemmytx.cluster.backend.Backend.configure} takes it."""
        for name, capacity in capacities.items():
            part = portion(capacity, number, count)
            if name not in self.room:
                self.room[name], self.active[name] = part, 0
            elif capacity < self.capacities[name]:
                self.room[name] = min(self.room[name], part)
        self.capacities = capacities
        self.serve()

    def hear(self) -> None:
        """Take what was said first, and answer."""
        command, arguments, answer = self.mail.popleft()
        if command is commands.Load:
            rooms = {name: (self.active[name], self.room[name], self.capacities[name], True) for name in self.active}
            said: dict[str, Any] = {"piece": json.dumps({"c": (self.line, rooms)}).encode(), "more": False}
        else:
            held = {}
            for name, room in json.loads(arguments["room"])["c"].items():
                self.told += 1
                self.room[name] = room
                held[name] = max(room, self.active[name])
            self.serve()
            said = {"held": json.dumps({"c": held}).encode()}
        if not answer.called:
            answer.callback(said)


class Case(SynchronousTestCase):
    """A division among peers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.peers: list[Any] = []
        self.state: object = 1
        self.count = 2
        self.prompt = True
        self.division = Division(self.clock, lambda: self.peers, self.ask, lambda: self.state, lambda: self.count)

    def ask(self, peer: Any, command: Any, **arguments: Any) -> Deferred[Any]:
        """Say something to a peer."""
        if peer not in self.peers:
            return _late()
        answer: Deferred[Any] = Deferred()
        peer.mail.append((command, arguments, answer))
        if self.prompt:
            peer.hear()
        return answer

    def round(self, thorough: bool = True) -> bool:
        """A round in which all answer at once."""
        return bool(self.successResultOf(Deferred.fromCoroutine(self.division.divide(thorough))))

    def join(self, count: int, **capacities: int) -> None:
        """So many peers begin to serve, one after the other."""
        for _ in range(count):
            peer = Peer(dict(capacities))
            peer.number = len(self.peers)
            self.peers.append(peer)
            self.successResultOf(Deferred.fromCoroutine(self.division.welcome(peer)))  # type: ignore[arg-type]  # a double

    def rooms(self, name: str = "a") -> list[int]:
        """Of all peers."""
        return [peer.room[name] for peer in self.peers]


class DivisionTests(Case):
    """All answer at once."""

    def test_welcome(self) -> None:
        """The first has all; whoever comes gets a part before it serves, of what the others can do without."""
        self.join(1, a=10)
        self.assertEqual(self.rooms(), [10])
        self.peers[0].active["a"] = 8
        self.join(1, a=10)
        self.assertEqual(self.rooms(), [9, 1])

    def test_line(self) -> None:
        """Who has a line gets the room of those who are idle, and all have their parts again when it is gone."""
        self.join(3, a=10, b=10)
        first = self.peers[0]
        first.line = 30
        first.serve()
        self.assertEqual(first.line, 22)
        self.assertTrue(self.round())
        self.assertEqual((first.active, first.line), ({"a": 10, "b": 10}, 10))
        first.line = 0
        first.active.update(a=0, b=1)
        self.round()
        self.assertEqual((self.rooms("a"), self.rooms("b")), ([4, 3, 3], [4, 3, 3]))

    def test_inFlight(self) -> None:
        """What a busy one has to give comes when it has ended, and meanwhile rounds are soon after each other."""
        self.join(2, a=10)
        one, two = self.peers
        one.line = 40
        self.round()
        self.assertEqual(self.rooms(), [10, 0])
        two.line = 40
        self.assertTrue(self.round())
        self.assertEqual(self.rooms()[1], 0)
        self.assertLess(self.rooms()[0], 8)
        for _ in range(10):
            one.end("a")
            self.round(False)
        self.assertEqual(sum(self.rooms()), 10)
        self.assertEqual(two.active["a"], self.rooms()[1])
        self.assertGreaterEqual(two.active["a"], 3)
        self.assertFalse(self.round(False))

    def test_between(self) -> None:
        """Between the thorough rounds it does not go from line to line, but from who has none to who has one."""
        self.join(3, a=12)
        one, two, three = self.peers
        one.line, two.line = 100, 5
        for each in self.peers:
            each.serve()
        self.round(False)
        self.assertEqual(three.room["a"], 0)
        self.assertGreaterEqual(two.room["a"], 4)
        self.assertEqual(sum(self.rooms()), 12)

    def test_unknown(self) -> None:
        """A backend that one does not know of is not divided yet: it will begin with a part of it."""
        self.join(2, a=10)
        self.peers[0].configure({"a": 10, "b": 10}, 0, 2)
        self.peers[0].line = 50
        self.round()
        self.assertEqual(self.peers[0].room, {"a": 10, "b": 5})
        self.peers[1].configure({"a": 10, "b": 10}, 1, 2)
        self.round()
        self.assertEqual((self.rooms("a"), self.rooms("b")), ([10, 0], [10, 0]))

    def test_comesBack(self) -> None:
        """One that has died, and knows of a backend only when it is asked for it, finds its part of it."""
        self.join(2, a=10)
        first, second = self.peers
        first.line = 10
        self.round()
        self.assertEqual(self.rooms(), [10, 0])
        self.peers.remove(second)
        self.join(1)
        self.assertEqual(first.room, {"a": 5})
        self.peers[1].configure({"a": 10}, 1, 2)
        self.assertEqual(self.rooms(), [5, 5])

    def test_leaving(self) -> None:
        """One that leaves learns of nothing new, and that holds nobody up."""
        self.join(2, a=10)
        self.peers[1].leaving = True
        self.peers[0].configure({"a": 10, "b": 10}, 0, 1)
        self.peers[0].line = 50
        self.round()
        self.assertEqual(self.peers[0].room, {"a": 10, "b": 10})

    def test_silent(self) -> None:
        """One that does not answer keeps what it had, and the others divide the rest."""
        self.join(3, a=12)
        silent, one, two = self.peers
        self.division._ask = lambda peer, command, **arguments: (
            self.ask(peer, command, **arguments) if peer is not silent else _late()
        )
        one.line = 50
        self.round()
        self.assertEqual(self.rooms(), [4, 8, 0])
        self.peers.remove(silent)
        self.round()
        self.assertEqual(self.rooms(), [12, 0])
        two.end("a")

    def test_raised(self) -> None:
        """A capacity that was raised is there for all, one that was lowered is never used by two."""
        self.join(2, a=10)
        self.peers[0].line = 50
        self.round()
        for number, peer in enumerate(self.peers):
            peer.configure({"a": 20}, number, 2)
        self.assertEqual(self.rooms(), [10, 0])
        self.round()
        self.assertEqual(self.rooms(), [20, 0])
        for number, peer in enumerate(self.peers):
            peer.configure({"a": 6}, number, 2)
        self.peers[1].line = 5
        self.round()
        self.assertEqual((self.rooms()[1], self.peers[1].active["a"]), (0, 0))

    def test_reload(self) -> None:
        """While a configuration is on its way nothing changes; nor when it came during a round."""
        self.join(2, a=10)
        self.peers[0].line = 50
        self.state = None
        self.assertFalse(self.round())
        self.state = 1
        self.prompt = False
        waiting = Deferred.fromCoroutine(self.division.divide())
        self.state = 2
        for peer in self.peers:
            peer.hear()
        self.assertFalse(self.successResultOf(waiting))
        self.assertEqual(self.rooms(), [5, 5])

    def test_many(self) -> None:
        """What does not fit into one message goes in several."""
        whole: Rooms = {f"cluster {number}": {"b" * 200: 1, "c" * 200: 2} for number in range(200)}
        parts = list(_in_parts(whole))
        self.assertGreater(len(parts), 2)
        self.assertLess(max(len(json.dumps(part)) for part in parts), 40_000)
        together: Rooms = {}
        for part in parts:
            for cluster, rooms in part.items():
                together.setdefault(cluster, {}).update(rooms)
        self.assertEqual(together, whole)

    def test_portioned(self) -> None:
        """Of too little each gets by what it lacks; who has next to nothing of its own first."""
        self.assertEqual(_portioned(5, [2, 3], [9, 9]), [2, 3])
        self.assertEqual(_portioned(0, [2, 3], [9, 9]), [0, 0])
        self.assertEqual(_portioned(1, [5, 1], [20, 1]), [0, 1])
        self.assertEqual(_portioned(6, [8, 4], [8, 4]), [4, 2])


def _late() -> Deferred[Any]:
    answer: Deferred[Any] = Deferred()
    answer.errback(TimeoutError())
    return answer


class RhythmTests(Case):
    """When there is a round."""

    def setUp(self) -> None:
        super().setUp()
        self.times: list[float] = []
        self.thorough: list[bool] = []
        self.busy: list[bool] = []

        async def divide(thorough: bool = True) -> bool:
            self.times.append(self.clock.seconds())
            self.thorough.append(thorough)
            return self.busy.pop(0) if self.busy else False

        self.division.divide = divide  # type: ignore[method-assign]  # this test's own
        self.division.start()

    def pass_by(self, seconds: float) -> None:
        """Time goes on."""
        self.clock.pump([1 / 64] * round(seconds * 64))

    def test_usual(self) -> None:
        """Twice a second, from the beginning to the end."""
        self.pass_by(2.2)
        self.assertEqual(self.times, [USUAL, 2 * USUAL, 3 * USUAL, 4 * USUAL])
        self.division.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_soon(self) -> None:
        """As long as there is something to be moved, ten times a second, and every fifth time thoroughly."""
        self.busy = [True] * 10
        self.pass_by(3)
        steps = [later - earlier for earlier, later in pairwise(self.times)]
        self.assertTrue(all(SOON <= step < SOON + 1 / 64 for step in steps[:10]), steps)
        self.assertTrue(all(step >= USUAL for step in steps[10:]), steps)
        self.assertEqual([number for number, thorough in enumerate(self.thorough) if thorough][:3], [0, 5, 10])
        self.division.stop()

    def test_change(self) -> None:
        """After a change there is one at once."""
        self.pass_by(0.25)
        self.division.soon()
        self.pass_by(1 / 64)
        self.assertEqual(len(self.times), 1)
        self.division.stop()

    def test_error(self) -> None:
        """An error of ours is told, and the next round comes all the same."""

        async def divide(thorough: bool = True) -> bool:
            raise ZeroDivisionError

        self.division.divide = divide  # type: ignore[method-assign]  # this test's own
        self.pass_by(1.1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.division.stop()


class AnyOrderTests(Case):
    """Nothing comes when it should."""

    CAPACITIES = ({"a": 7, "b": 3}, {"a": 1}, {"a": 40, "b": 40, "c": 2})

    def successor(self, peer: Peer, capacities: dict[str, int]) -> Peer:
        """Who comes when one has died."""
        new = Peer(dict(capacities))
        new.number = peer.number
        return new

    def play(self, seed: int, steps: int = 500) -> None:
        """Random things happen, and never is more in flight than there may be."""
        chance = random.Random(seed)
        self.setUp()
        self.prompt = False
        capacities = dict(self.CAPACITIES[seed % len(self.CAPACITIES)])
        under_way: Deferred[Any] = succeed(None)
        self.count = 2 + seed % 3
        for number in range(self.count):
            self.peers.append(Peer(dict(capacities)))
            self.peers[-1].number = number
        largest = dict(capacities)
        for _ in range(steps):
            peer = chance.choice(self.peers)
            name = chance.choice(list(capacities))
            what = chance.random()
            if what < 0.25:
                peer.line += chance.randint(1, 8)
                peer.serve()
            elif what < 0.5:
                peer.end(name)
            elif what < 0.85:
                if peer.mail:
                    peer.hear()
            elif what < 0.88:
                if peer.mail:  # too late for who asked; it is heard all the same, some time
                    late = chance.choice(peer.mail)[2]
                    if not late.called:
                        late.errback(TimeoutError())
            elif what < 0.885 and len(self.peers) > 1:
                self.peers.remove(peer)
                for _, _, answer in peer.mail:
                    if not answer.called:
                        answer.errback(TimeoutError())
                self.peers.append(self.successor(peer, capacities))
            elif under_way.called:
                under_way = Deferred.fromCoroutine(self.division.divide(chance.random() < 0.5))
            for name, capacity in largest.items():
                self.assertLessEqual(sum(each.active[name] for each in self.peers), capacity, (seed, name))
        # And when all is well again, everybody who waits is served.
        for peer in self.peers:
            while peer.mail:
                peer.hear()
        self.prompt = True
        for _ in range(100):
            if under_way.called:
                break
            for peer in self.peers:
                while peer.mail:
                    peer.hear()
        self.successResultOf(under_way)
        before = [peer.served for peer in self.peers]
        for _ in range(30 * len(self.peers)):
            for peer in self.peers:
                peer.line = max(peer.line, 20)
                for name in capacities:
                    for _ in range(50):
                        peer.end(name)
            self.round()
            for name, capacity in capacities.items():
                self.assertLessEqual(sum(each.active[name] for each in self.peers), capacity, seed)
        for peer, served in zip(self.peers, before, strict=True):
            self.assertGreater(peer.served, served, seed)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_neverMore(self) -> None:
        """Never is more in flight than the capacity, whatever is late or lost; and nobody who waits is forgotten."""
        for seed in range(60):
            self.play(seed)
