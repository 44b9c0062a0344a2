"""
Reported load: what backends say of themselves in the heads of their responses.

A report of 0.73 that came while 10 requests were in flight means 0.073 a request; that is the cost, so the measure is
what the backend would report with this request on it, as far as anyone can tell between two reports. It fades when no
other report comes (L{lemmytx.balance.costs}). A backend that does not report counts by its requests in flight, at what
one costs on the others; when nobody reports, that is least connections.

Understood is, in this order:

  - C{endpoint-load-metrics: TEXT cpu_utilization=0.3, mem_utilization=0.8} or C{JSON {"cpu_utilization": 0.3}}, the
    Open Request Cost Aggregation format (gRFC A51). Of it C{application_utilization}, or else C{cpu_utilization} (gRFC
    A58), or the one that the option C{metric} names.
  - C{X-Backend-Load: 0.73}.

They are meant for the proxy, and the client does not get them, understood or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite

from zope.interface import implementer

from lemmytx.balance.costs import Costs
from lemmytx.interfaces import ICandidate, IFollowingScheduler, IObservingScheduler, IPreviewingScheduler
from lemmytx.message import ResponseHead

#: The fields, as they begin in lower case.
_FIELDS = (b"\r\nendpoint-load-metrics:", b"\r\nx-backend-load:")

#: Nobody is so idle that ten more requests would be nothing to it.
_IDLE = 0.01

#: After so many times C{decay} with answers and without a report nothing is known any more.
_SILENT = 3.0

#: How much of a new report goes into what one usually says.
_SHARE = 0.1


def take_reports(head: ResponseHead) -> list[tuple[bytes, bytes]]:
    """
    Take the lines that are meant for the proxy out of what goes to the client.

    @return: their names, in lower case, and values.
    """
    found = []
    lowered = head.block.lower()
    for field in _FIELDS:
        while (at := lowered.find(field)) >= 0:
            block = head.block
            end = block.index(b"\r\n", at + 2)
            found.append((field[2:-1], block[at + len(field) : end].strip(b" \t")))
            head.block = block[:at] + block[end:]
            lowered = lowered[:at] + lowered[end:]
    return found


def read_report(name: bytes, value: bytes, metric: str | None = None) -> float | None:
    """
    @param name: of the field, in lower case.
    @param metric: which one is wanted, as in C{mem_utilization} or C{named_metrics.queue}; L{None}: the usual ones.
    @return: a load, 0 or more; L{None} when there is none that can be understood.
    """
    if name == b"x-backend-load":
        return _number(value.decode("latin-1"))
    form, _, text = value.decode("latin-1").partition(" ")
    found = dict(_json(text) if form == "JSON" else _text(text) if form == "TEXT" else ())
    if metric is not None:
        return _number(found.get(metric))
    # An application that reports nothing of its own says 0 there.
    own, processor = _number(found.get("application_utilization")), _number(found.get("cpu_utilization"))
    return processor if processor is not None and not own else own


def _text(text: str) -> Iterator[tuple[str, object]]:
    for pair in text.split(","):
        name, _, value = pair.partition("=")
        yield name.strip(), value


def _json(text: str) -> Iterator[tuple[str, object]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return
    for name, value in found.items() if isinstance(found, dict) else ():
        if isinstance(value, dict):
            for inner, number in value.items():
                yield f"{name}.{inner}", number
        else:
            yield name, value


def _number(value: object) -> float | None:
    """What can be a load."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return min(number, 1000.0) if isfinite(number) and number >= 0 else None


@implementer(IFollowingScheduler, IObservingScheduler, IPreviewingScheduler)
class ReportedLoad(Costs):
    """The least loaded by its own account."""

    __slots__ = ("_metric", "_usual")

    def __init__(self, decay: float = 10.0, metric: str | None = None) -> None:
        """
        @param decay: seconds after which a report counts for a third.
        @param metric: which one of an ORCA report is the load.
        @raise ValueError: when C{decay} is not above 0, or the metric has no name.
        """
        super().__init__(decay)
        if metric == "":
            raise ValueError("metric: found ''; write a name, as in mem_utilization or named_metrics.queue")
        self._metric = metric
        #: A moving average of what reports say, at the common moment; 0 while there are none.
        self._usual = 0.0

    def answered(self, backend: ICandidate, seconds: float, head: ResponseHead, now: float) -> None:
        """See L{lemmytx.interfaces.IObservingScheduler.answered}."""
        for name, value in take_reports(head):
            load = read_report(name, value, self._metric)
            if load is not None:
                self.learn(backend, max(load, _IDLE) / max(backend.active, 1), now)
                self._compare(self.known[backend.name].value)
                return
        cost = self.known.get(backend.name)
        if cost is not None and now - cost.at > _SILENT * self._decay:
            self.forget(backend)

    def _compare(self, value: float) -> None:
        """What the silent ones count by follows the others, in coarse steps, as each costs a look at all of them."""
        usual = self._usual
        self._usual = usual = usual + (value - usual) * _SHARE if usual else value
        if not 0.8 * usual < self._unknown < 1.25 * usual:
            self.typical(usual)

    def _begin_anew(self, factor: float) -> None:
        super()._begin_anew(factor)
        self._usual *= factor
