"""A thread for what may wait: one thing after the other, and one that comes again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger(namespace="lemmytx.store")

_Result = TypeVar("_Result")

_Job = tuple[Callable[[], Any], "Deferred[Any]"]


class Thread:
    """
    What it is asked to do is done in the order in which it was asked. A program that ends does not wait for it.
    """

    def __init__(self, reactor: Any, name: str, interval: float, regularly: Callable[[], None]) -> None:
        """
        @param interval: seconds from one call of C{regularly} to the next.
        @param regularly: called in the thread, after the first thing that was asked.
        """
        self._reactor = reactor
        self._interval = interval
        self._regularly = regularly
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, job: Callable[[], _Result]) -> Deferred[_Result]:
        """
        @param job: called in the thread.
        @return: fires in the reactor's thread with what it returns or raises.
        """
        answer: Deferred[_Result] = Deferred()
        self._jobs.put((job, answer))
        return answer

    def end(self) -> None:
        """End when all that was asked is done. Nothing may be asked any more."""
        self._jobs.put(None)

    def _run(self) -> None:
        due: float | None = None
        while True:
            try:
                job = self._jobs.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
            except Empty:
                pass
            else:
                if job is None:
                    return
                self._do(*job)
            now = time.monotonic()
            if due is None or due <= now:
                due = now + self._interval
                try:
                    self._regularly()
                except Exception:
                    log.failure("an error of our own, in {thread}", thread=self._thread.name)

    def _do(self, job: Callable[[], Any], answer: Deferred[Any]) -> None:
        try:
            result = job()
        except Exception:
            result = Failure()
        self._reactor.callFromThread(answer.callback, result)
