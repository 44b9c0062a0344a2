"""
What a parent asks of its workers: each question has an answer in time, or fails.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost

from lemmytx import commands
from lemmytx.process import Worker
from lemmytx.proxy.pieces import from_pieces
from lemmytx.proxy.snapshot import Snapshot

#: Seconds that a worker has for a configuration. One with 10,000 vhosts takes two.
PATIENCE = 60.0

#: Seconds that statistics wait for a worker that is busy; after that its last figures do.
STATISTICS = 1.0


class Asking:
    """Asks."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def ask(self, worker: Worker, command: Any, patience: float = PATIENCE, **arguments: Any) -> Deferred[Any]:
        """One question. It fails when the worker is gone, or does not answer in time."""
        if worker.control.transport is None or not worker.pid:
            return fail(ConnectionLost(f"{worker} is gone"))
        control: Any = worker.control
        asked: Deferred[Any] = control.callRemote(command, **arguments)
        return asked.addTimeout(patience, self._reactor)

    async def prepare(
        self, worker: Worker, message: tuple[bytes, list[str]], descriptors: dict[str, list[int]]
    ) -> list[str]:
        """
        Have one worker build a configuration.

        @raise CannotStart: it cannot.
        """
        data, folders = message
        for endpoint, numbers in descriptors.items():
            if endpoint not in worker.endpoints:
                worker.endpoints.add(endpoint)
                for number in numbers:
                    await self.ask(worker, commands.Listening, endpoint=endpoint, descriptor=number)
        for start in range(0, len(data), commands.PART):
            await self.ask(worker, commands.Part, data=data[start : start + commands.PART])
        answer = await self.ask(worker, commands.Prepare, folders=folders)
        doubts: list[str] = answer["doubts"]
        return doubts

    async def statistics(self, worker: Worker, patience: float) -> Snapshot:
        """What one has counted."""
        end = self._reactor.seconds() + patience
        await worker.statistics.acquire().addTimeout(patience, self._reactor)
        try:
            parts = []
            more, first = True, True
            while more:
                left = max(0.001, end - self._reactor.seconds())
                answer = await self.ask(worker, commands.Statistics, left, first=first)
                parts.append(answer["piece"])
                more, first = answer["more"], False
        finally:
            worker.statistics.release()
        return from_pieces(parts)
