"""
C{GET /metrics}: what L{lemmytx.admin.families} has, in prometheus-client's text format, or OpenMetrics' for whoever
asks for it.

Nothing of this is on the way of a request: the counters are those of the statistics, read when somebody asks.

A thousand clusters with ten backends each are some hundred thousand samples, which take seconds to write. So they are
written L{AT_ONCE} at a time, each such part by prometheus-client, with the reactor's other work in between; a thread
would hold the interpreter for longer at a time. And each part is sent when it is there: nothing has the text as a
whole, and a scraper that does not read keeps only itself waiting, L{PATIENCE} seconds at the most.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.web.http import Request
from zope.interface import implementer

from lemmytx.admin.families import GROUPS, Facts, Group
from lemmytx.admin.lag import Lag
from lemmytx.admin.processes import MAIN, look
from lemmytx.admin.readings import Row
from lemmytx.cluster.traffic import Traffic
from lemmytx.interfaces import IInstance
from lemmytx.proxy.snapshot import Slices, Snapshot

if TYPE_CHECKING:
    from klein import Klein  # which installs a reactor; workers choose theirs after they have imported this

log = Logger(namespace="lemmytx.admin")

#: Samples that are written at one go: about a millisecond.
AT_ONCE = 100

#: As much work as a sample: so many entries that a metric has nothing for.
_ENTRIES = 8

#: Seconds that a scraper may take nothing.
PATIENCE = 30.0

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: Names are ours, and none needs an escape; to look at each letter of each for that takes half of the time.
_ENCODERS = {
    TEXT: choose_encoder("text/plain; version=1.0.0; escaping=allow-utf-8")[0],
    OPENMETRICS: choose_encoder("application/openmetrics-text; version=1.0.0; escaping=allow-utf-8")[0],
}

_END = b"# EOF\n"

#: What stands before the samples of a family.
_HEADER = re.compile(rb"(?:# [^\n]*\n)+")


class _Part(Collector):
    """A family, or a part of one, as prometheus-client wants it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """Called once."""
        return (self._family,)


def negotiate(accept: str) -> str:
    """
    @param accept: the field, or empty.
    @return: the media type of the answer.
    """
    for each in accept.lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        if name == "application/openmetrics-text" and not any(_is_zero(parameter) for parameter in parameters):
            return OPENMETRICS
    return TEXT


def _is_zero(parameter: str) -> bool:
    """Whether it says: not this (RFC 9110 §12.4.2)."""
    return re.fullmatch(r"q\s*=\s*0(?:\.0{0,3})?", parameter) is not None


def _shown(label: str) -> str:
    """A label's value, which must be UTF-8."""
    return label if label.isascii() else label.encode("utf-8", "backslashreplace").decode("utf-8")


class Writer:
    """
    Writes a family, part by part, to one text: a header once, and each kind of lines together.

    prometheus-client writes the counts and sums of a gauge histogram behind its buckets, with headers of their own, in
    the text format; these are kept until all buckets are there.
    """

    def __init__(self, encode: Callable[[Collector], bytes]) -> None:
        self._encode = encode
        self._begun = False
        self._kept: dict[bytes, list[bytes]] = {}

    def part(self, family: Metric) -> bytes:
        """
        @param family: with some of its samples.
        @return: the text, as far as it can be sent.
        """
        first, *others = _split(self._encode(_Part(family)).removesuffix(_END))
        header, lines = first
        for name, more in others:
            self._kept.setdefault(name, []).append(more)
        if self._begun or not lines:
            return lines
        self._begun = True
        return header + lines

    def rest(self) -> Iterator[bytes]:
        """What was kept."""
        for header, parts in self._kept.items():
            yield header
            yield from parts


def _split(text: bytes) -> list[tuple[bytes, bytes]]:
    """Headers, each with the lines behind it."""
    headers = list(_HEADER.finditer(text))
    ends = [*(each.start() for each in headers[1:]), len(text)]
    return [(each[0], text[each.end() : end]) for each, end in zip(headers, ends, strict=True)]


def _written(group: Group, row: Row, facts: Facts, encode: Callable[[Collector], bytes]) -> Iterator[tuple[bytes, int]]:
    """A metric: its text in parts, each with how much work it was. No text where it has no samples."""
    writer = Writer(encode)
    family, entries = row.family(), 0
    for values, entry in group.entries(facts):
        row.add(family, dict(zip(group.labels, map(_shown, values), strict=True)), entry)
        entries += 1
        work = len(family.samples) + entries // _ENTRIES
        if work >= AT_ONCE:
            yield (writer.part(family) if family.samples else b""), work
            family, entries = row.family(), 0
    if family.samples:
        yield writer.part(family), len(family.samples) + entries // _ENTRIES
    for text in writer.rest():
        yield text, AT_ONCE // 10  # it is written already


class Metrics:
    """
    What C{/metrics} answers.
    """

    def __init__(self, instance: IInstance, clock: IReactorTime, seconds: Callable[[], float] = time.monotonic) -> None:
        """
        @param clock: lets others work between two parts; what takes system calls is done in its threads, where it has
            any.
        @param seconds: measures the lag of the event loop; does not go back.
        """
        self._instance = instance
        self._clock = clock
        self._lag = Lag(clock, seconds)

    async def parts(self, media_type: str) -> AsyncIterator[bytes]:
        """
        All of it, in parts of some ten thousand bytes.

        @param media_type: what L{negotiate} gave.
        """
        encode = _ENCODERS[media_type]
        facts = await self._facts()
        texts: list[bytes] = []
        done = 0
        for group in GROUPS:
            for row in group.rows:
                for text, work in _written(group, row, facts, encode):
                    texts.append(text)
                    done += work
                    if done >= AT_ONCE:
                        yield b"".join(texts)
                        texts, done = [], 0
                        await deferLater(self._clock, 0)
        if media_type == OPENMETRICS:
            texts.append(_END)
        yield b"".join(texts)

    async def _facts(self) -> Facts:
        self._lag.want()
        snapshot: Snapshot = await self._instance.snapshot()
        slices = Slices(self._clock)
        whole = Traffic()
        whole.add(snapshot.removed)
        whole.add(snapshot.unrouted.traffic)
        for figures in snapshot.vhosts.values():
            whole.add(figures.traffic)
            if slices.full():
                await slices.turn()
        workers = self._instance.workers()
        pids = {MAIN: os.getpid(), **{str(each["id"]): each["pid"] for each in workers if each["pid"]}}
        processes: Mapping[str, Mapping[str, float]]
        if IReactorThreads.providedBy(self._clock):
            reactor: Any = self._clock
            processes = await deferToThreadPool(reactor, reactor.getThreadPool(), look, pids)
        else:
            processes = look(pids)
        ready = self._instance.ready() is None
        return Facts(snapshot, whole, ready, workers, self._instance.store(), processes, self._lag)


@implementer(IPushProducer)
class Sending:
    """
    An answer that is sent in parts, as fast as they are taken.
    """

    def __init__(self, request: Any, clock: IReactorTime) -> None:
        self._request = request
        self._clock = clock
        self._waiting: Deferred[None] | None = None
        self._paused = False
        self._late: IDelayedCall | None = None

    async def send(self, parts: AsyncIterator[bytes]) -> None:
        """
        Send all of them. It ends with a cancellation when whoever asked hangs up (klein sees to that), or takes nothing
        for L{PATIENCE} seconds.
        """
        self._request.registerProducer(self, True)
        try:
            async for part in parts:
                self._request.write(part)
                if self._paused:
                    self._waiting = Deferred()
                    await self._waiting
        finally:
            self.stopProducing()
            if self._request.channel is not None:  # the connection is still there
                self._request.unregisterProducer()

    def pauseProducing(self) -> None:
        """Called when enough waits to be taken."""
        self._paused = True
        if self._late is None:
            self._late = self._clock.callLater(PATIENCE, self._too_late)

    def resumeProducing(self) -> None:
        """Called when all of it has been taken."""
        self.stopProducing()
        self._paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """Called when nothing more is wanted; klein ends what makes the parts."""
        late, self._late = self._late, None
        if late is not None:
            late.cancel()

    def _too_late(self) -> None:
        self._late = None
        self.abort()

    def abort(self) -> None:
        """End the connection in the middle of the body, which whoever reads it sees."""
        if self._request.channel is not None:
            self._request.channel.transport.abortConnection()


def add_routes(app: Klein, metrics: Metrics, clock: IReactorTime) -> None:
    """The route of C{/metrics}."""

    @app.route("/metrics", methods=["GET"])
    async def scrape(request: Request) -> bytes:
        """All metrics."""
        media_type = negotiate(request.getHeader("accept") or "")
        request.setHeader(b"content-type", media_type.encode("ascii"))
        request.setHeader(b"vary", b"accept")
        if request.method == b"HEAD":
            return b""
        sending = Sending(request, clock)
        try:
            await sending.send(metrics.parts(media_type))
        except CancelledError:
            raise  # whoever asked is gone
        except Exception:
            if not request.startedWriting:
                raise  # it can still be told
            log.failure("metrics could not be written to their end")
            sending.abort()
            await Deferred()  # klein would write an end, and cancels this once the connection is lost
        return b""
