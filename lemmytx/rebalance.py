"""Backends' capacities, divided anew among workers by who is busy (L{lemmytx.cluster.shares})."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from lemmytx import commands
from lemmytx.cluster.shares import divide
from lemmytx.process import Worker

#: How many requests each backend of each cluster may have in flight from one worker.
_Room = dict[str, dict[str, int]]


async def rebalance(
    capacities: Mapping[tuple[str, str], int],
    workers: Sequence[Worker],
    ask: Callable[..., Deferred[Any]],
    holds: Callable[[], bool],
) -> None:
    """
    Ask all what they have in flight, and tell those whose share is another one now. Those who get less are told first,
    and nobody gets more before they have said that they know: so nobody gets what another one may still use. If one
    does not answer, nothing more is changed: the next time does it.

    @param capacities: by cluster and backend.
    @param ask: asks a worker, with a command and its arguments.
    @param holds: whether the capacities still are what they were.
    """
    answers: Any = await DeferredList([ask(worker, commands.Load) for worker in workers], consumeErrors=True)
    if not holds() or not all(went_well for went_well, _ in answers):
        return
    loads = [json.loads(answer["active"]) for _, answer in answers]
    for rooms in _changes(capacities, loads):
        answers = await DeferredList(
            [
                ask(worker, commands.Share, room=json.dumps(room).encode())
                for worker, room in zip(workers, rooms, strict=True)
                if room
            ],
            consumeErrors=True,
        )
        if not all(went_well for went_well, _ in answers):
            return


def _changes(
    capacities: Mapping[tuple[str, str], int], loads: Sequence[Mapping[str, Mapping[str, tuple[int, int]]]]
) -> tuple[list[_Room], list[_Room]]:
    """
    @param loads: of each worker, by cluster and backend: how many are in flight and how many may be.
    @return: for each worker who gets less, and who gets more.
    """
    less: list[_Room] = [{} for _ in loads]
    more: list[_Room] = [{} for _ in loads]
    for (cluster, backend), capacity in capacities.items():
        found = [load.get(cluster, {}).get(backend, (0, 0)) for load in loads]
        shares = divide(capacity, [active for active, _ in found])
        for number, (share, (_, room)) in enumerate(zip(shares, found, strict=True)):
            if share != room:
                (less if share < room else more)[number].setdefault(cluster, {})[backend] = share
    return less, more
