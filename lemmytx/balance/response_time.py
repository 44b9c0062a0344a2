"""
Response time: a peak-sensitive moving average of the time to first byte, times the requests in flight.

As in Finagle's C{p2c_peak_ewma}: a worse time than the average is believed at once, better ones pull it down slowly,
with C{decay} seconds as the constant. A backend that slows down is left at once, and a single bad answer is forgotten
soon. A new backend begins with the cluster's median, so it is neither stampeded nor avoided. Before anyone has answered
everyone is alike, and the first time there is holds for all.

An answer of 500 or more does not make a backend look better: failing is quick.
"""

from __future__ import annotations

from math import exp

from zope.interface import implementer

from lemmytx.balance.costs import Cost, Costs
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IObservingScheduler, IPreviewingScheduler
from lemmytx.message import ResponseHead

#: Seconds. Below it nobody feels a difference, and the measurement is of the proxy more than of the backend.
_QUICK = 0.0002


@implementer(IFollowingScheduler, IObservingScheduler, IPreviewingScheduler)
class ResponseTime(Costs):
    """The quickest for what it has to do."""

    __slots__ = ()

    def update(self, backends: tuple[ICandidate, ...]) -> None:
        """See L{lemmytx.interfaces.IScheduler.update}."""
        super().update(backends)
        middle = self.middle()
        if middle is not None:
            for backend in backends:
                if backend.name not in self.known:
                    self.known[backend.name] = Cost(middle.cost, middle.at, middle.value)

    def answered(self, backend: ICandidate, seconds: float, head: ResponseHead, now: float) -> None:
        """See L{lemmytx.interfaces.IObservingScheduler.answered}."""
        if seconds < 0:
            return
        if seconds < _QUICK:
            seconds = _QUICK
        before = self.known.get(backend.name)
        if before is None:
            first = not self.known
            self.learn(backend, seconds, now)
            if first:
                self.typical(self.known[backend.name].value)
            return
        cost = before.cost
        if seconds > cost:
            cost = seconds
        elif head.status < 500:
            past = exp(-max(now - before.at, 0.0) / self._decay)
            cost = cost * past + seconds * (1.0 - past)
        self.learn(backend, cost, now)
