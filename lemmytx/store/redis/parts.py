"""Many questions to Redis, in parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")


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
