"""What tests of schedulers share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lemmytx.testing import Candidate, Request

REQUEST = Request()


def many(count: int, *weights: float) -> tuple[Candidate, ...]:
    """So many members; their weights are these, again and again."""
    return tuple(
        Candidate(f"b{number}", weight=weights[number % len(weights)] if weights else 1) for number in range(count)
    )


def following(scheduler: Any, members: Sequence[Candidate]) -> Any:
    """The scheduler, told of its members one by one, all of which may be picked."""
    scheduler.update(tuple(members))
    for member in members:
        scheduler.admit(member)
    return scheduler


def taken(scheduler: Any, times: int, *, stay: bool = False) -> Counter[str]:
    """
    How often each was picked, out of many.

    @param stay: whether the requests stay in flight.
    """
    counted: Counter[str] = Counter()
    for _ in range(times):
        backend = scheduler.pick(REQUEST)
        counted[backend.name] += 1
        if stay:
            backend.active += 1
            scheduler.moved(backend)
    return counted
