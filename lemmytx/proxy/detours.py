"""
What an exchange does when its plain way does not lead to an answer, or not soon enough: another attempt after a bad
answer or a pause, the end of an attempt's time, a hedge in its place, another cluster; and the circuit breakers that it
passes.

The second part of L{lemmytx.proxy.exchange.Exchange}, made of methods for the reason that L{lemmytx.proxy.attempts}
gives. A cluster that asks for none of this has nothing of it called.
"""

from __future__ import annotations

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.breaker import Pass
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.queue import Queue
from lemmytx.message import ResponseHead
from lemmytx.proxy.attempts import Attempts
from lemmytx.proxy.hedge import Hedge
from lemmytx.proxy.retry import Pause, Retry, retry_after

#: How the terminations begin that are the fault of a cluster.
FAULTS = ("backend_", "timeout_connect", "timeout_read")


class Detours(Attempts):
    """See the module."""

    __slots__ = ()

    def _try_instead(self, backend: Backend, head: ResponseHead) -> bool:
        """The answer is one that is worth another attempt (C{retry.on})."""
        if self._hedging is not None and self._hedging.take_over():
            self.tried = (*self.tried, backend)
            return True
        tried = self.tried
        self.tried = (*tried, backend)
        other = self._retries().instead(self, self._replayable(), retry_after(head))
        if other is None:
            self.tried = tried
            return False
        self._drop_upstream(abandon=True)
        self.why = f"{backend.name} answered {head.status}"
        self._go_on(other)
        return True

    def _go_on(self, other: Backend | Pause | Queue) -> None:
        """With another backend, now or when it has room, or with a new pass over all of them in a while."""
        if isinstance(other, Backend):
            self._attempt(other)
            return
        if isinstance(other, Queue):
            other.wait_again(self)
            self._waits()
            return
        if not self._body_ended:
            self.downstream.pause()
        self._dial = other
        other.start(self)

    def try_anew(self) -> None:
        """All backends were tried, and the pause after that is over."""
        self._dial = None
        try:
            self.tried = self._retries().resting(self.resource.ticker.seconds())
            backend = self.cluster.choose(self)
            if backend is not None:
                self._attempt(backend)
            elif self.cluster.failover is not None:
                self._fail_over(self.cluster.failover)
            else:
                self._refuse(502, "no_backend", f"no backend is left to be tried: {self.why}")
        except Exception:
            self.break_down()

    # The time that an attempt has

    def _limit_time(self, seconds: float) -> None:
        """The attempt that begins has so long until a response's head."""
        self._limit = self.resource.ticker.later(seconds, self._took_too_long)

    def _took_too_long(self) -> None:
        """There is no response after C{try_timeout}: others may be quicker. Where none is to be asked, it goes on."""
        self._limit = None
        try:
            backend = self.backend
            assert backend is not None
            if not self._body_ended and self.upstream is not None:
                # It is the client that takes long.
                self._limit_time(self.cluster.rules.try_timeout)
                return
            if self._alone():
                return
            hedging, tried = self._hedging, self.tried
            self.tried = (*tried, backend)
            other: Backend | Pause | Queue | None = None
            if hedging is None or not hedging.running:
                retries, replayable = self._retries(), self._replayable()
                ask = retries.elsewhere if self.upstream is None else retries.instead
                other = ask(self, replayable)
                if other is None:
                    self.tried = tried
                    return
            self.why = f"{backend.name} did not answer within {self.cluster.rules.try_timeout:g} s"
            self.cluster.failed(backend, "timeout", "did not answer in the time that an attempt has")
            if other is None:
                assert hedging is not None
                hedging.take_over()
                return
            if self._dial is not None:
                self._dial.cancel()
                self._dial = None
            self._drop_upstream(abandon=True)
            self._go_on(other)
        except Exception:
            self.break_down()

    # Other ways

    @property
    def under_way(self) -> bool:
        """Whether there is a backend that has the request, or is being connected to."""
        return self._counted

    def go_on_with(self, hedge: Hedge) -> None:
        """A hedge takes the place of the attempt, which has failed or is slower."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        self._drop_upstream(abandon=True)
        self.backend = hedge.backend
        self._counted = True
        if self._hedging is not None:
            self._hedging.replaced()
        self.delay = hedge.delay
        self._reused = hedge.reused
        self._dial = hedge.hand_over()
        self.upstream = hedge.upstream
        if hedge.upstream is not None:
            self.connect_time = hedge.connect_time

    def _fail_over(self, other: Cluster) -> None:
        """The cluster has nobody for it, and another one stands in."""
        self.cluster.failovers += 1
        self._move(other)
        if self._let_in():
            self._attempt()

    def _let_in(self) -> bool:
        """
        Ask the circuit breaker, or those of the clusters that stand in.

        @return: whether the exchange is with a cluster that takes it; else it has ended.
        """
        while (breaker := self.cluster.breaker) is not None:
            now = self.resource.ticker.seconds()
            number = breaker.enter(now)
            if number:
                self._pass = Pass(breaker, number)
                break
            other = self.cluster.fallback
            if other is None:
                why = f"the circuit breaker of cluster {self.cluster.name} is open"
                self._refuse(
                    breaker.rules.reply, "breaker_open", why, b"Retry-After: %d\r\n" % breaker.retry_after(now)
                )
                return False
            self._move(other)
        return True

    def _move(self, cluster: Cluster) -> None:
        """From here on it is another cluster's, as if it had just come. Nobody has it now."""
        if self._retry is not None:
            self._retry.answered()
        self._retry = Retry(cluster, self.attempts) if self.attempts else None
        if self._hedging is not None:
            self._hedging.over()
            self._hedging = None
        if self._pass is not None:
            self._judge(True if self.attempts else None)
        if self.place is not None:
            self.place.leave()
        self.binding = None
        self.backend = None
        self.connect_time = -1.0
        self.cluster = cluster
        self.read_timeout = cluster.rules.read
        self.tried = ()
        self._wire = b""

    def _judge(self, failed: bool | None) -> None:
        """
        The circuit breaker is to know what came of it.

        @param failed: L{None}: nothing can be said.
        """
        passed, self._pass = self._pass, None
        assert passed is not None
        now = self.resource.ticker.seconds()
        if failed is None:
            passed.breaker.left(passed.number)
        else:
            passed.breaker.ended(passed.number, now, failed, now - self.started - max(0.0, self.queue_time))

    def _judge_end(self) -> None:
        """The same, for an exchange that ended without a response from a backend."""
        passed, termination = self._pass, self.termination
        assert passed is not None
        if termination == "client_gone" and self.total - max(0.0, self.queue_time) > passed.breaker.rules.above:
            # Else nobody would notice that a cluster has become slower than the patience of its clients.
            self._judge(False)
        else:
            self._judge(True if termination.startswith(FAULTS) else None)
