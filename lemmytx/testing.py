"""
For authors of plugins: doubles, and checks that an implementation keeps the contract of its interface.

Public, and under the same promise of compatibility as L{lemmytx.interfaces}.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from zope.interface import implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from lemmytx.interfaces import ICandidate, IRequest, IScheduler
from lemmytx.message import RequestHead


@implementer(ICandidate)
class Candidate:
    """A backend as schedulers see it, without a network behind it."""

    __slots__ = ("active", "capacity", "name", "weight")

    def __init__(self, name: str, active: int = 0, weight: int = 1, capacity: int = 0) -> None:
        self.name = name
        self.active = active
        self.weight = weight
        self.capacity = capacity

    def __repr__(self) -> str:
        return f"<Candidate {self.name} active={self.active} weight={self.weight} capacity={self.capacity}>"


class _Watched(Candidate):
    """A candidate that no one but the check may change."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AssertionError(f"The scheduler sets {name!r} of a candidate; keep what you want to remember yourself.")

    def set(self, **values: int) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _watched(name: str, weight: int = 1, capacity: int = 0) -> _Watched:
    made = object.__new__(_Watched)
    object.__setattr__(made, "name", name)
    made.set(active=0, weight=weight, capacity=capacity)
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


class _Trial:
    """One scheduler that is put through its paces, and the requests in flight that came of it."""

    def __init__(self, build: Callable[[], IScheduler]) -> None:
        try:
            self.scheduler = build()
        except Exception as error:
            raise AssertionError(f"The scheduler cannot be built: {error!r}") from error
        try:
            verifyObject(IScheduler, self.scheduler)
        except Invalid as error:
            raise AssertionError(f"What was built is no IScheduler: {error}") from error
        # The same at each run: a check that fails now and then would be worth little.
        self.chance = random.Random(1)
        self.flying: list[_Watched] = []

    def update(self, backends: tuple[_Watched, ...]) -> None:
        try:
            self.scheduler.update(backends)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"update({backends!r}) raises {error!r}.") from error

    def choose(self, candidates: tuple[_Watched, ...], case: str) -> _Watched:
        """One choice, with its request in flight from then on and perhaps another one ending."""
        number = self.chance.randrange(256)
        request = Request(f"/shop/{number}?id={number}", client=f"192.0.2.{number}")
        try:
            chosen = self.scheduler.choose(candidates, request)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"{case}: choose raises {error!r}; candidates were {candidates!r}.") from error
        for candidate in candidates:
            if candidate is chosen:
                break
        else:
            raise AssertionError(
                f"{case}: choose returns {chosen!r}, which is none of the candidates {candidates!r}; "
                "it must return one of them, at once."
            )
        candidate.set(active=candidate.active + 1)
        self.flying.append(candidate)
        while self.flying and self.chance.random() < 0.5:
            ended = self.flying.pop(self.chance.randrange(len(self.flying)))
            ended.set(active=ended.active - 1)
        return candidate


def check_scheduler(build: Callable[[], IScheduler]) -> None:
    """
    Check that a scheduler keeps the contract of L{IScheduler}: a few hundred choices in situations that occur.

    Whether it chooses well is for its own tests: this one cannot know what it is after.

    @param build: makes a new scheduler. Called more than once.
    @raise AssertionError: with a sentence that says what it does that it must not.
    """
    trial = _Trial(build)
    if _Trial(build).scheduler is trial.scheduler:
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
    case = "With backends of weight 0"
    for _ in range(40):
        chosen = trial.choose(backends, case)
        if not chosen.weight:
            raise AssertionError(f"{case}: {chosen!r} is chosen; those get traffic only when there is nothing else.")
    _repeat(trial, 20, [backends[:4], backends[1:3], backends[:1]], "With nothing but backends of weight 0")


def _repeat(trial: _Trial, times: int, offers: Sequence[tuple[_Watched, ...]], case: str) -> None:
    for _ in range(times):
        for offer in offers:
            trial.choose(offer, case)
