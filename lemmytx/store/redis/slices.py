"""Much work, done so that others have their turn in between."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

#: Seconds of work after which others get their turn.
HELD = 0.002

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")


class Breath:
    """Lets others have their turn."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._since = perf_counter()

    async def take(self) -> None:
        """Called after each piece of work."""
        if perf_counter() - self._since > HELD:
            await deferLater(self._reactor, 0)
            self._since = perf_counter()


def parts_of(whole: Sequence[_Item], length: int) -> Iterator[Sequence[_Item]]:
    """
    @return: what is C{whole} together, each of that length but the last.
    """
    return (whole[at : at + length] for at in range(0, len(whole), length))


async def one_by_one(
    items: Iterable[int],
    ask: Callable[[int], Deferred[_Answer]],
    look: Callable[[int, _Answer], Awaitable[None]],
) -> None:
    """
    Ask for each item and look at the answers in their order, with two under way: while one is looked at, Redis works
    at the next.
    """
    waiting: deque[tuple[int, Deferred[_Answer]]] = deque()
    try:
        for item in items:
            waiting.append((item, ask(item)))
            if len(waiting) == 2:
                first, answer = waiting.popleft()
                await look(first, await answer)
        while waiting:
            first, answer = waiting.popleft()
            await look(first, await answer)
    finally:
        for _, answer in waiting:
            answer.addErrback(lambda _: None)  # the one before it has told why
