"""
A backend with faults, C{python -m benchmarks.balance.backend --name NAME PORT}: an application server that does a
few requests at a time, and lets the others wait.

* C{GET /health} and C{GET /} are answered at once: it is alive.
* Everything else is work, which takes C{--mean} seconds on average, and evenly spread between half and one and a half
  times that. C{--places} requests are worked on at one time, in the order in which they came.
* C{--errors} and C{--resets} are the shares of the requests that are answered with 503, or with the end of the
  connection: at once, which is what makes a failing backend look like a fast one.
* C{--warmup} is how many requests it has to answer before it is as fast as it can be: the first one takes ten times as
  long as the last.
* C{--freeze} is how many seconds it does nothing at all in every C{--every}: not even accept.

On SIGTERM it ends as servers should: it takes no new connections, closes those that are idle, finishes what it has.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import cast

#: How many times longer the first request of a cold backend takes.
_COLD = 10.0


@dataclass(frozen=True)
class Faults:
    """
    What a backend is like; the options of the program are named alike.

    @ivar mean: seconds that a request takes on average.
    @ivar places: how many are worked on at one time.
    @ivar errors: share that is answered with 503.
    @ivar resets: share that is answered with the end of the connection.
    @ivar warmup: answers until it is warm.
    @ivar freeze: seconds of nothing.
    @ivar every: seconds from one beginning of that to the next.
    """

    mean: float = 0.02
    places: int = 4
    errors: float = 0.0
    resets: float = 0.0
    warmup: int = 0
    freeze: float = 0.0
    every: float = 8.0

    def options(self) -> list[str]:
        """Arguments of the program."""
        return [f"--{name}={value}" for name, value in vars(self).items()]


class Work:
    """
    What all connections share.

    @ivar links: the open connections.
    @ivar leaving: whether it is told to end.
    """

    def __init__(self, name: str, faults: Faults, loop: asyncio.AbstractEventLoop) -> None:
        self.links: set[Link] = set()
        self.leaving = False
        self.gone = loop.create_future()
        self._name = name
        self._faults = faults
        self._loop = loop
        self._chance = random.Random(name)
        self._busy = 0
        self._done = 0
        self._waiting: deque[Link] = deque()
        if faults.freeze:
            loop.call_later(faults.every, self._freeze)

    def _freeze(self) -> None:
        time.sleep(self._faults.freeze)
        self._loop.call_later(self._faults.every - self._faults.freeze, self._freeze)

    def asked(self, link: Link, path: bytes) -> None:
        """A request came."""
        faults = self._faults
        if path in (b"/", b"/health"):
            link.answer(b"200 OK", self._fields(), b"alive\n")
            return
        drawn = self._chance.random() if faults.errors or faults.resets else 1.0
        if drawn < faults.errors:
            link.answer(b"503 Service Unavailable", self._fields(), b"failed\n")
        elif drawn < faults.errors + faults.resets:
            link.transport.abort()
        elif self._busy < faults.places:
            self._begin(link)
        else:
            self._waiting.append(link)

    def _begin(self, link: Link) -> None:
        self._busy += 1
        cold = max(0.0, 1.0 - self._done / self._faults.warmup) if self._faults.warmup else 0.0
        seconds = self._faults.mean * (0.5 + self._chance.random()) * (1.0 + (_COLD - 1.0) * cold)
        self._loop.call_later(seconds, self._end, link)

    def _end(self, link: Link) -> None:
        self._busy -= 1
        self._done += 1
        link.answer(b"200 OK", self._fields(), b"worked\n")
        while self._waiting:
            following = self._waiting.popleft()
            if following in self.links:  # whoever has gone does not want it any more
                self._begin(following)
                return

    def _fields(self) -> bytes:
        load = (self._busy + len(self._waiting)) / self._faults.places
        return b"X-Served-By: %b\r\nX-Backend-Load: %.3f\r\n" % (self._name.encode(), load)

    def leave(self) -> None:
        """End when nothing is left to do."""
        self.leaving = True
        for link in list(self.links):
            if not link.busy:
                link.transport.close()
        self.look()

    def look(self) -> None:
        """Whether it is time to go."""
        if self.leaving and not self.links and not self.gone.done():
            self.gone.set_result(None)


class Link(asyncio.Protocol):
    """
    A connection, on which one request follows the other.

    @ivar busy: whether there is one now.
    """

    def __init__(self, work: Work) -> None:
        self.busy = False
        self._work = work
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = cast(asyncio.Transport, transport)
        self._work.links.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self._work.links.discard(self)
        self._work.look()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio. Requests have no bodies here."""
        self._buffer += data
        if not self.busy and b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self.busy = True
            self._work.asked(self, head.split(b" ", 2)[1])

    def answer(self, status: bytes, fields: bytes, body: bytes) -> None:
        """The response; whoever has gone does not get it."""
        if self.transport.is_closing():
            return
        self.busy = False
        leaving = self._work.leaving
        close = b"Connection: close\r\n" if leaving else b""
        self.transport.write(
            b"HTTP/1.1 %b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (status, fields, close, len(body), body)
        )
        if leaving:
            self.transport.close()
        elif self._buffer:
            self.data_received(b"")


async def _serve(port: int, name: str, faults: Faults) -> None:
    loop = asyncio.get_running_loop()
    work = Work(name, faults, loop)
    server = await loop.create_server(lambda: Link(work), "127.0.0.1", port, backlog=1024)

    def leave() -> None:
        server.close()
        work.leave()

    loop.add_signal_handler(signal.SIGTERM, leave)
    await work.gone


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balance.backend")
    parser.add_argument("--name", required=True)
    for name, value in vars(Faults()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("port", type=int)
    found = vars(parser.parse_args())
    port, name = found.pop("port"), found.pop("name")
    asyncio.run(_serve(port, name, Faults(**found)))


if __name__ == "__main__":
    main()
