"""
What HAProxy's statistics page answers to programs, for those that know how to read it: C{/haproxy;csv} and
C{/haproxy;json}; and C{/haproxy/monitor}, as its C{monitor-uri} answers. docs/haproxy.md.

With many backends that is long: 10,000 are 2.5 MB of CSV and some 90 of JSON. So it is made and sent in slices of some
milliseconds, no faster than it is taken, with the reactor's other work in between.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import deferLater
from twisted.web.http import Request
from zope.interface import implementer

from lemmytx.admin.answers import refuse
from lemmytx.admin.haproxy_fields import HEADER, to_csv, to_json
from lemmytx.admin.haproxy_rows import Rows, usable
from lemmytx.interfaces import IInstance
from lemmytx.proxy.figures import Snapshot

PATH = "/haproxy"
MONITOR = "/haproxy/monitor"

#: Characters after which a slice ends: some two milliseconds' work.
SLICE = 1 << 14

#: Rows after which it ends, however short they are.
ROWS = 16

#: Seconds that a client may take nothing.
PATIENCE = 30

#: What C{monitor-uri} answers, word by word, but for the reason: what looks for words looks for these.
_READY = b"<html><body><h1>200 OK</h1>\nService ready.\n</body></html>\n"
_FAILS = "<html><body><h1>503 Service Unavailable</h1>\n{}\n</body></html>\n"


@implementer(IPushProducer)
class _Tap:
    """
    Says when there may be more.
    """

    def __init__(self, request: Any, clock: IReactorTime) -> None:
        self._request = request
        self._clock = clock
        self._shut = False
        self._waiting: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        """The connection is full."""
        self._shut = True

    def resumeProducing(self) -> None:
        """It is not any more."""
        self._shut = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """The client is gone. klein cancels what waits then."""

    async def turn(self) -> None:
        """Others have theirs, and there is room after that. One that takes nothing for long is not waited for."""
        await deferLater(self._clock, 0)
        if not self._shut:
            return
        self._waiting = Deferred()
        timer = self._clock.callLater(PATIENCE, self._close)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if timer.active():
                timer.cancel()

    def _close(self) -> None:
        """It takes nothing. With the connection goes the request, and klein ends what answers it."""
        self._request.transport.abortConnection()


async def _send(request: Any, parts: Iterator[str], clock: IReactorTime) -> None:
    """Write all of it."""
    if request.channel is None:
        return  # the client left while the figures were taken
    tap = _Tap(request, clock)
    request.registerProducer(tap, True)
    try:
        gathered: list[str] = []
        size = 0
        for part in parts:
            gathered.append(part)
            size += len(part)
            if size >= SLICE or len(gathered) >= ROWS:
                request.write("".join(gathered).encode("utf-8"))
                gathered, size = [], 0
                await tap.turn()
        request.write("".join(gathered).encode("utf-8"))
    finally:
        if request.channel is not None:
            request.unregisterProducer()


def _csv(rows: Iterator[dict[str, int | str]]) -> Iterator[str]:
    yield HEADER
    for row in rows:
        yield to_csv(row)


def _json(rows: Iterator[dict[str, int | str]]) -> Iterator[str]:
    before = "["
    for row in rows:
        yield before + to_json(row)
        before = ","
    yield "]\n"


def _shown(rows: Iterator[dict[str, int | str]], up: bool, no_maint: bool) -> Iterator[dict[str, int | str]]:
    """
    Without servers that are not asked for.

    @param up: without those that are down or in maintenance; C{no_maint}: without the latter.
    """
    for row in rows:
        status = str(row["status"])
        server = row["svname"] != "BACKEND"
        maint, down = status.startswith("MAINT"), server and status == "DOWN"
        if not (maint and (up or no_maint)) and not (down and up):
            yield row


def add_routes(app: Klein, instance: IInstance, clock: IReactorTime, seconds: Callable[[], float] = time.time) -> None:
    """
    Any role may ask.

    @param clock: lets others work in between; C{seconds}: the time of day.
    """
    known = Rows()

    @app.route(f"{PATH};<options>", methods=["GET"])
    async def statistics(request: Request, options: str) -> bytes | None:
        """All of it. Options that are none, and those for the page that is not there, mean nothing, as at HAProxy."""
        given = f";{options}"
        # As HAProxy looks for them: anywhere, also at the beginning of a longer word.
        as_json, as_csv = ";json" in given and ";json-schema" not in given, ";csv" in given
        if not (as_csv or as_json) or ";json-schema" in given or ";typed" in given:
            return _neither(request)
        snapshot: Snapshot = await instance.snapshot()
        rows = _shown(known.of(snapshot, seconds()), ";up" in given, ";no-maint" in given)
        request.setHeader(b"content-type", b"application/json" if as_json else b"text/plain; charset=utf-8")
        await _send(request, _json(rows) if as_json else _csv(rows), clock)
        return b""

    @app.route(PATH, methods=["GET"])
    def page(request: Request) -> bytes:
        """There is none."""
        return _neither(request)

    @app.route(MONITOR, methods=["GET"])
    async def monitor(request: Request) -> bytes:
        """Whether it can serve; with C{cluster} and C{servers} also whether so many backends of one are up."""
        try:
            asked = _condition(request)
        except ValueError as error:
            return refuse(request, 400, str(error))
        reason = instance.ready()
        if reason is None and asked is not None:
            name, least = asked
            snapshot: Snapshot = await instance.snapshot()
            cluster = snapshot.clusters.get(name)
            if cluster is None:
                return refuse(request, 404, f"there is no cluster {name!r}")
            up = sum(map(usable, cluster.backends.values()))
            if up < least:
                reason = f"{up} of {name}'s servers can be used; {least} are wanted"
        body = _READY if reason is None else _FAILS.format(html.escape(reason)).encode("utf-8")
        request.setResponseCode(200 if reason is None else 503)
        request.setHeader(b"content-type", b"text/html; charset=utf-8")
        request.setHeader(b"content-length", b"%d" % len(body))
        return body


def _neither(request: Request) -> bytes:
    return refuse(request, 404, f"there is no page here; ask for {PATH};csv or {PATH};json")


def _condition(request: Any) -> tuple[str, int] | None:
    """
    What a monitor asks for beside readiness.

    @return: a cluster, and how many of its servers must be up; L{None}: nothing.
    @raise ValueError: it cannot be understood.
    """
    given = request.args
    if not given:
        return None
    if (
        set(given) - {b"cluster", b"servers"}
        or b"cluster" not in given
        or any(len(each) > 1 for each in given.values())
    ):
        raise ValueError("write ?cluster=NAME, or ?cluster=NAME&servers=NUMBER")
    number = given.get(b"servers", [b"1"])[0]
    if not number.isdigit() or not 1 <= len(number) <= 6:
        raise ValueError("servers: write how many must be up, as in servers=2")
    return given[b"cluster"][0].decode("utf-8", "replace"), int(number)
