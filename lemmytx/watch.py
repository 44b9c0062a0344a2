"""
An eye on the workers: is each still there, and what has it counted?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lemmytx.asking import Asking
from lemmytx.process import Worker
from lemmytx.proxy.snapshot import Totals

log = Logger(namespace="lemmytx.workers")

#: Seconds between two looks at what each has counted, so that little is lost with one that is killed.
LOOK = 5.0

#: Seconds without an answer after which a worker is said to be stuck, and after which it is killed.
STUCK = 10.0
STUCK_FOR_GOOD = 60.0


class Watch:
    """Looks, again and again."""

    def __init__(self, reactor: Any, asking: Asking, members: Callable[[], Sequence[Worker]], totals: Totals) -> None:
        """
        @param members: all workers there are.
        @param totals: what they have counted.
        """
        self._reactor = reactor
        self._asking = asking
        self._members = members
        self._totals = totals
        self._looks = LoopingCall(self.look)
        self._looks.clock = reactor

    def start(self) -> None:
        """From now on."""
        self._looks.start(LOOK, now=False)

    def stop(self) -> None:
        """No more."""
        if self._looks.running:
            self._looks.stop()

    async def hear(self, worker: Worker, patience: float) -> None:
        """Take over what one has counted."""
        said = await self._asking.statistics(worker, patience)
        if worker in self._members():
            self._totals.heard(worker.number, said)

    def look(self) -> None:
        """Called every few seconds: is each still there, and what has it counted?"""
        now = self._reactor.seconds()
        for worker in self._members():
            if not worker.serving:
                continue
            if worker.asked_at is None:
                worker.asked_at = now
                ensureDeferred(self.hear(worker, STUCK_FOR_GOOD)).addBoth(self._heard, worker)
            elif now - worker.asked_at >= STUCK_FOR_GOOD:
                log.error("{worker} has not answered for {seconds:g} s; it is killed", worker=worker,
                          seconds=now - worker.asked_at)  # fmt: skip
                worker.kill()
            elif now - worker.asked_at >= STUCK and not worker.stuck:
                worker.stuck = True
                log.warn("{worker} has not answered for {seconds:g} s", worker=worker, seconds=now - worker.asked_at)

    @staticmethod
    def _heard(result: Any, worker: Worker) -> None:
        worker.asked_at = None
        if worker.stuck and not isinstance(result, Failure):
            worker.stuck = False
            log.info("{worker} answers again", worker=worker)
