"""The checks for authors: that they find what they are there to find."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from lemmytx.balance.least_connections import LeastConnections
from lemmytx.balance.response_time import ResponseTime
from lemmytx.balance.round_robin import RoundRobin
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IRequest, IScheduler
from lemmytx.testing import Candidate, Request, check_scheduler

Choice = Callable[["Bad", tuple[ICandidate, ...], IRequest], object]


@implementer(IScheduler)
class Bad:
    """A scheduler that does what a test wants, and otherwise what is right."""

    choice: Choice | None = None
    on_update: Callable[[tuple[ICandidate, ...]], None] | None = None

    def __init__(self) -> None:
        self.members: tuple[ICandidate, ...] = ()

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        self.members = self.members or backends
        if self.on_update is not None:
            self.on_update(backends)

    def choose(self, candidates: tuple[ICandidate, ...], request: IRequest) -> ICandidate:
        if self.choice is not None:
            return self.choice(self, candidates, request)  # type: ignore[return-value]  # that is what is tested
        return max(candidates, key=lambda candidate: candidate.weight)


def building(choice: Choice) -> Callable[[], IScheduler]:
    """What builds a scheduler that chooses like this."""

    def build() -> IScheduler:
        made = Bad()
        made.choice = choice
        return made

    return build


class CheckSchedulerTests(SynchronousTestCase):
    """L{check_scheduler}"""

    def found(self, build: Callable[[], IScheduler]) -> str:
        return str(self.assertRaises(AssertionError, check_scheduler, build))

    def test_good(self) -> None:
        """A scheduler that keeps the contract passes."""
        check_scheduler(Bad)

    def test_noScheduler(self) -> None:
        """Something that is no scheduler is found out before it is asked."""
        self.assertIn("no IScheduler", self.found(object))  # type: ignore[arg-type]  # that is what is tested

    def test_cannotBeBuilt(self) -> None:
        """A factory that raises is reported."""

        def build() -> IScheduler:
            raise RuntimeError("boom")

        self.assertIn("cannot be built: RuntimeError('boom')", self.found(build))

    def test_shared(self) -> None:
        """A factory that gives the same scheduler twice is reported."""
        one = Bad()
        self.assertIn("the same scheduler", self.found(lambda: one))

    def test_noCandidate(self) -> None:
        """Whoever returns nothing, a Deferred, a name or an index is told what to return."""
        for choice in (
            lambda self, candidates, request: None,
            lambda self, candidates, request: succeed(candidates[0]),
            lambda self, candidates, request: candidates[0].name,
            lambda self, candidates, request: 0,
        ):
            self.assertIn("none of the candidates", self.found(building(choice)))

    def test_notOffered(self) -> None:
        """Whoever goes by the members of update alone chooses one that was not offered."""
        text = self.found(building(lambda self, candidates, request: self.members[0]))
        self.assertIn("A single candidate", text)

    def test_gone(self) -> None:
        """Whoever remembers a backend by its name returns one that was replaced."""
        known: dict[str, ICandidate] = {}

        def choice(self: Bad, candidates: tuple[ICandidate, ...], request: IRequest) -> object:
            best = max(candidates, key=lambda candidate: candidate.weight)
            return known.setdefault(best.name, best)

        self.assertIn("replaced by others of the same names", self.found(building(choice)))

    def test_raises(self) -> None:
        """An exception is reported with the case and the candidates."""
        text = self.found(building(lambda self, candidates, request: candidates[1]))
        self.assertIn("A single candidate: choose raises IndexError", text)
        self.assertIn("<Candidate b2", text)

    def test_updateRaises(self) -> None:
        """An update that cannot do without backends is reported."""

        def build() -> IScheduler:
            made = Bad()
            made.on_update = lambda backends: [][: len(backends)] or backends[0].name
            return made

        self.assertIn("update(()) raises IndexError", self.found(build))

    def test_writes(self) -> None:
        """Whoever sets an attribute of a candidate is told to keep it elsewhere."""

        def choice(self: Bad, candidates: tuple[ICandidate, ...], request: IRequest) -> object:
            candidates[0].active += 1
            return candidates[0]

        self.assertIn("sets 'active' of a candidate", self.found(building(choice)))

    def test_weightZero(self) -> None:
        """Whoever does not look at weights chooses a backend of weight 0 although there are others."""
        text = self.found(building(lambda self, candidates, request: candidates[0]))
        self.assertIn("only when there is nothing else", text)


class MoreInterfacesTests(SynchronousTestCase):
    """L{check_scheduler} and what a scheduler may do besides"""

    def found(self, base: type[Any], **methods: object) -> str:
        """What is found of one that is right but for these."""
        return str(self.assertRaises(AssertionError, check_scheduler, type("Wrong", (base,), methods)))

    def test_good(self) -> None:
        """Those that come with lemmytx and do all of it pass."""
        check_scheduler(LeastConnections)
        check_scheduler(ResponseTime)

    def test_incomplete(self) -> None:
        """Whoever says that it follows, and lacks a method for it, is told which."""

        @implementer(IFollowingScheduler)
        class Half(Bad):
            counts = False

        text = str(self.assertRaises(AssertionError, check_scheduler, Half))
        self.assertIn("no IFollowingScheduler", text)
        self.assertIn("admit", text)

    def test_previews(self) -> None:
        """A preview that is not what comes, or that raises, is reported."""
        self.assertIn("preview says", self.found(RoundRobin, preview=lambda self, candidates, request: candidates[-1]))
        self.assertIn("preview raises", self.found(RoundRobin, preview=lambda self, candidates, request: 1 // 0))

    def test_previewThatChooses(self) -> None:
        """So is one that has its effect on the choice."""
        self.assertIn("preview says", self.found(RoundRobin, preview=RoundRobin.choose))

    def test_withdrawn(self) -> None:
        """Whoever picks one that was withdrawn is told."""
        text = self.found(LeastConnections, withdraw=lambda self, backend: None)
        self.assertIn("When it follows", text)
        self.assertIn("none of the candidates", text)

    def test_answers(self) -> None:
        """Whoever raises at an answer, or takes from its head what is the client's, is told."""

        def spoil(self: object, backend: object, seconds: float, head: Any, now: float) -> None:
            head.block = head.block[:-6]

        self.assertIn("answered raises", self.found(ResponseTime, answered=lambda self, *arguments: 1 // 0))
        self.assertIn("answered makes", self.found(ResponseTime, answered=spoil))

    def test_exits(self) -> None:
        """One that wants to end the process does not end the check."""
        self.assertIn("raises SystemExit(3)", self.found(RoundRobin, choose=lambda self, *arguments: sys.exit(3)))

    def test_weightsAtTheStart(self) -> None:
        """What is checked of plugins at the start leaves out the rule about weights of 0, and nothing else."""
        first = building(lambda self, candidates, request: candidates[0])
        check_scheduler(first, strict=False)
        self.assertRaises(AssertionError, check_scheduler, first)
        other = building(lambda self, candidates, request: self.members[0])
        self.assertRaises(AssertionError, check_scheduler, other, strict=False)


class DoubleTests(SynchronousTestCase):
    """L{Candidate} and L{Request}"""

    def test_complete(self) -> None:
        """The doubles have all that their interfaces promise."""
        self.assertTrue(verifyObject(ICandidate, Candidate("a")))
        self.assertTrue(verifyObject(IRequest, Request()))

    def test_request(self) -> None:
        """A request's head is what the codec would make of it."""
        head = Request("/shop?a=b", "Shop.Example", fields=[("X-Team", "ops")]).head
        self.assertEqual((head.target, head.path, head.host), (b"/shop?a=b", b"/shop", b"shop.example"))
        self.assertEqual(head.field(b"x-team"), b"ops")
        self.assertEqual(head.size, len(b"GET /shop?a=b HTTP/1.1\r\nHost: Shop.Example\r\nX-Team: ops\r\n\r\n"))
