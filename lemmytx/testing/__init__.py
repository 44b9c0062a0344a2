"""
For authors of plugins: doubles, and checks that an implementation keeps the contract of its interface.

Public, and under the same promise of compatibility as L{lemmytx.interfaces}.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from zope.interface import implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from lemmytx.interfaces import (
    ICandidate,
    ICheckConnection,
    ICheckTarget,
    IFollowingScheduler,
    IHealthCheck,
    IObservingScheduler,
    IPreviewingScheduler,
    IRequest,
    IScheduler,
    Unhealthy,
)
from lemmytx.message import RequestHead, ResponseHead


@implementer(ICandidate)
class Candidate:
    """A backend as schedulers see it, without a network behind it."""

    __slots__ = ("active", "capacity", "elsewhere", "name", "warmth", "weight")

    def __init__(
        self,
        name: str,
        active: int = 0,
        weight: float = 1,
        capacity: int = 0,
        warmth: float = 1.0,
        elsewhere: int = 0,
    ) -> None:
        """
        @param weight: the one that is in force: during a slow start C{warmth} times what is configured.
        """
        self.name = name
        self.active = active
        self.weight = weight
        self.capacity = capacity
        self.warmth = warmth
        self.elsewhere = elsewhere

    def __repr__(self) -> str:
        return f"<Candidate {self.name} active={self.active} weight={self.weight} capacity={self.capacity}>"


class _Watched(Candidate):
    """A candidate that no one but the check may change."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AssertionError(f"The scheduler sets {name!r} of a candidate; keep what you want to remember yourself.")

    def set(self, **values: float) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _watched(name: str, weight: int = 1, capacity: int = 0) -> _Watched:
    made = object.__new__(_Watched)
    object.__setattr__(made, "name", name)
    made.set(active=0, weight=weight, capacity=capacity, warmth=1.0, elsewhere=0)
    return made


@implementer(IRequest)
class Request:
    """A request as schedulers see it."""

    __slots__ = ("client", "head")

    def __init__(
        self,
        path: str = "/",
        host: str = "shop.example",
        client: str = "192.0.2.1",
        method: str = "GET",
        fields: Iterable[tuple[str, str]] = (),
    ) -> None:
        """
        @param path: with its query, as in a request line, and without percent escapes.
        @param fields: beside Host.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
        head = RequestHead()
        head.method = method.encode("ascii")
        head.target = path.encode("utf-8")
        head.path = head.target.partition(b"?")[0]
        head.authority = host.encode("ascii")
        head.host = head.authority.lower()
        head.minor = 1
        head.length = 0
        head.keep_alive = True
        head.expects_continue = False
        head.upgrade = None
        head.block = lines
        head.claims = None
        head.raw = b"Host: " + head.authority + b"\r\n" + lines
        head.size = len(head.method) + len(head.target) + len(head.raw) + len("  HTTP/1.1\r\n\r\n")
        self.head = head
        self.client = client


def response(status: int = 200, fields: Iterable[tuple[str, str]] = ()) -> ResponseHead:
    """The head of an answer without a body, as schedulers that learn from answers see it."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
    head = ResponseHead()
    head.status = status
    head.minor = 1
    head.length = 0
    head.keep_alive = True
    head.dated = False
    head.upgrade = None
    head.block = b"HTTP/1.1 %d Whatever\r\n" % status + lines
    head.raw = lines
    head.size = len(head.block) + len("\r\n")
    return head


class _Trial:
    """One scheduler that is put through its paces, and the requests in flight that came of it."""

    def __init__(self, build: Callable[[], IScheduler], strict: bool) -> None:
        self.strict = strict
        try:
            self.scheduler: Any = build()
        except Exception as error:
            raise AssertionError(f"The scheduler cannot be built: {error!r}") from error
        for interface in (IScheduler, IPreviewingScheduler, IObservingScheduler, IFollowingScheduler):
            if interface is IScheduler or interface.providedBy(self.scheduler):
                try:
                    verifyObject(interface, self.scheduler)
                except Invalid as error:
                    raise AssertionError(f"What was built is no {interface.__name__}: {error}") from error
        self.previews = IPreviewingScheduler.providedBy(self.scheduler)
        self.observes = IObservingScheduler.providedBy(self.scheduler)
        self.follows = IFollowingScheduler.providedBy(self.scheduler)
        self.counts = self.follows and bool(getattr(self.scheduler, "counts", False))
        self.now = 1000.0
        # The same at each run: a check that fails now and then would be worth little.
        self.chance = random.Random(1)
        self.flying: list[_Watched] = []

    def call(self, case: str, method: str, *arguments: object) -> Any:
        """What a method returns."""
        try:
            return getattr(self.scheduler, method)(*arguments)
        except AssertionError:
            raise
        except BaseException as error:  # sys.exit() too
            told = ", ".join(repr(argument) for argument in arguments if not isinstance(argument, Request))
            what = f"{method} raises {error!r}; called with {told}." if case else f"{method}({told}) raises {error!r}."
            raise AssertionError(case + what) from error

    def update(self, backends: tuple[_Watched, ...]) -> None:
        self.call("", "update", backends)

    def choose(self, candidates: tuple[_Watched, ...], case: str, pick: bool = False) -> None:
        """
        One choice, with its request in flight from then on and perhaps another one ending.

        @param pick: whether the scheduler follows, and the candidates are those that it has admitted.
        """
        number = self.chance.randrange(256)
        request = Request(f"/shop/{number}?id={number}", client=f"192.0.2.{number}")
        foretold = self.call(f"{case}: ", "preview", candidates, request) if self.previews else None
        if pick:
            chosen = self.call(f"{case}, candidates {candidates!r}: ", "pick", request)
        else:
            chosen = self.call(f"{case}: ", "choose", candidates, request)
        for candidate in candidates:
            if candidate is chosen:
                break
        else:
            raise AssertionError(
                f"{case}: {'pick' if pick else 'choose'} returns {chosen!r}, which is none of the candidates "
                f"{candidates!r}; it must return one of them, at once."
            )
        if self.strict and foretold is not None and foretold is not chosen:
            raise AssertionError(f"{case}: preview says {foretold!r}, and then {chosen!r} is chosen.")
        if self.strict and not candidate.weight and any(other.weight for other in candidates):
            raise AssertionError(f"{case}: {chosen!r} is chosen; those get traffic only when there is nothing else.")
        self.moved(candidate, 1, pick)
        self.flying.append(candidate)
        self.end_some(case, pick)

    def end_some(self, case: str, pick: bool) -> None:
        """Perhaps other requests end."""
        while self.flying and self.chance.random() < 0.5:
            ended = self.flying.pop(self.chance.randrange(len(self.flying)))
            if self.observes:
                self.now += self.chance.random()
                head = response(self.chance.choice((200, 404, 503)), [("X-Backend-Load", "0.5"), ("Vary", "Cookie")])
                self.call(f"{case}: ", "answered", ended, self.chance.choice((0.01, 2.0, -1.0)), head, self.now)
                if not head.block.startswith(b"HTTP/1.1 ") or b"\r\nVary: Cookie\r\n" not in head.block:
                    raise AssertionError(f"{case}: answered makes {head.block!r} of the head of a response.")
            self.moved(ended, -1, pick)

    def moved(self, backend: _Watched, by: int, told: bool) -> None:
        """A request began or ended."""
        backend.set(active=backend.active + by)
        if told and self.counts:
            self.call("", "moved", backend)

    def follow(self, backends: tuple[_Watched, ...], times: int, case: str) -> None:
        """A scheduler that follows hears who comes and goes."""
        self.update(backends)
        for backend in self.flying:
            backend.set(active=0)
        self.flying.clear()
        admitted: list[_Watched] = []
        for _ in range(times):
            for backend in self.chance.sample(backends, self.chance.randrange(3)):
                if backend in admitted:
                    admitted.remove(backend)
                    self.call(f"{case}: ", "withdraw", backend)
                else:
                    admitted.append(backend)
                    self.call(f"{case}: ", "admit", backend)
            if admitted:
                self.choose(tuple(backend for backend in backends if backend in admitted), case, pick=True)


def check_scheduler(build: Callable[[], IScheduler], strict: bool = True) -> None:
    """
    Check that a scheduler keeps the contract of L{IScheduler}: a few hundred choices in situations that occur.

    Whether it chooses well is for its own tests: this one cannot know what it is after.

    @param build: makes a new scheduler. Called more than once.
    @param strict: whether that backends of weight 0 wait until there is nothing else is checked too, and that a preview
        is right. Without it, which is how plugins are checked at the start, only what would break requests is found.
    @raise AssertionError: with a sentence that says what it does that it must not.
    """
    trial = _Trial(build, strict)
    if _Trial(build, strict).scheduler is trial.scheduler:
        raise AssertionError("Two builds give the same scheduler; each cluster needs one of its own.")
    backends = tuple(_watched(f"b{n}", weight=n % 3 + 1, capacity=n * 10) for n in range(6))
    trial.update(backends)
    _repeat(trial, 60, [backends], "All backends, the same tuple again and again")
    _repeat(trial, 10, [backends[2:3]], "A single candidate")
    subsets = [tuple(trial.chance.sample(backends, size)) for size in (1, 2, 3, 4, 5, 6) for _ in range(6)]
    _repeat(trial, 1, subsets, "A subset of the backends")
    _repeat(trial, 1, [(*backends[:3], *backends[3:]) for _ in range(20)], "A new tuple of the same backends")

    fewer = backends[1:4]
    trial.update(fewer)
    _repeat(trial, 30, [fewer, fewer[:2]], "After backends have gone")
    more = (*fewer, _watched("new"), _watched("newer", weight=5))
    trial.update(more)
    _repeat(trial, 30, [more, more[2:]], "After backends have come")
    again = tuple(_watched(backend.name) for backend in more)
    trial.update(again)
    _repeat(trial, 30, [again], "After backends were replaced by others of the same names")
    trial.update(())
    trial.update(backends)
    _repeat(trial, 30, [backends], "After there was no backend for a while")

    for weight in (100, 1):
        backends[0].set(weight=weight)
        trial.update(backends)
        _repeat(trial, 20, [backends], "After a weight was changed")
    for backend in backends[:4]:
        backend.set(weight=0)
    trial.update(backends)
    _repeat(trial, 40, [backends], "With backends of weight 0")
    _repeat(trial, 20, [backends[:4], backends[1:3], backends[:1]], "With nothing but backends of weight 0")
    for number, backend in enumerate(backends):
        backend.set(weight=number, warmth=1.0)
    backends[4].set(weight=0.4, warmth=0.1)
    trial.update(backends)
    _repeat(trial, 20, [backends, backends[:5]], "With a backend that has a tenth of its weight, in a slow start")
    if trial.follows:
        trial.follow(backends, 60, "When it follows")
        many = tuple(_watched(f"m{number}", weight=number % 4, capacity=number % 3) for number in range(40))
        trial.follow(many, 300, "When it follows many")
        for backend in many:
            backend.set(weight=0)
        trial.follow(many, 60, "When it follows many of weight 0")
        trial.update(backends)
        _repeat(trial, 20, [backends], "When it does not follow any more")


def _repeat(trial: _Trial, times: int, offers: Sequence[tuple[_Watched, ...]], case: str) -> None:
    for _ in range(times):
        for offer in offers:
            trial.choose(offer, case)


@implementer(ICheckTarget, ICheckConnection)
class CheckTarget:
    """
    A backend as health checks see it, without a network behind it, and every connection to it.

    @ivar sent: all that the check has sent.
    @ivar connections: how many it has made.
    """

    def __init__(self, *answers: bytes, protocol: str = "http") -> None:
        """
        @param answers: what is received, in pieces; then the connection ends.
        """
        self.cluster = "cluster"
        self.name = "backend"
        self.url = f"{protocol}://192.0.2.1:8000"
        self.protocol = protocol
        self.authority = "192.0.2.1:8000"
        self.address = "192.0.2.1"
        self.port = 8000
        self.timeout = 1.0
        self.reactor: Any = None
        self.sent = b""
        self.connections = 0
        self._answers = list(answers)

    async def connect(self) -> CheckTarget:
        """See L{ICheckTarget}."""
        self.connections += 1
        return self

    def write(self, data: bytes) -> None:
        """See L{ICheckConnection}."""
        if not self.connections:
            raise AssertionError("The check writes without a connection; it must await target.connect() before.")
        self.sent += data

    async def receive(self) -> bytes:
        """See L{ICheckConnection}."""
        return self._answers.pop(0) if self._answers else b""


class Outcome:
    """
    Of a health check.

    @ivar passed: whether the backend is well.
    @ivar reason: why the backend is not well; of one that is, what the check says, if anything.
    @ivar sent: all that the check has sent.
    """

    __slots__ = ("passed", "reason", "sent")

    def __init__(self, passed: bool, reason: str, sent: bytes) -> None:
        self.passed = passed
        self.reason = reason
        self.sent = sent

    def __repr__(self) -> str:
        return f"<Outcome {'passed' if self.passed else 'failed'}: {self.reason}>"


def checked(check: IHealthCheck, *answers: bytes, protocol: str = "http") -> Outcome:
    """
    Try a health check.

    @param answers: what the backend says, in pieces; then it closes the connection.
    @return: what comes of it.
    @raise AssertionError: it waits for something else than its connection, which cannot be tried in this way; or what
        it returns cannot be waited for, or is no text.
    """
    try:
        verifyObject(IHealthCheck, check)
    except Invalid as error:
        raise AssertionError(f"{check!r} is no IHealthCheck: {error}") from error
    target = CheckTarget(*answers, protocol=protocol)
    waited = check.check(target)
    if not inspect.iscoroutine(waited):
        raise AssertionError(f"check returns {waited!r}; only a coroutine (async def) can be tried here.")
    try:
        waited.send(None)
    except StopIteration as end:
        said = end.value
        if said is not None and not isinstance(said, str):
            raise AssertionError(f"check returns {said!r}; it must be text, or nothing.") from None
        return Outcome(True, said or "", target.sent)
    except Unhealthy as error:
        return Outcome(False, str(error), target.sent)
    waited.close()
    raise AssertionError("check waits for something else than its connection.")
