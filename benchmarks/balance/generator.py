"""
The open-loop load generator, C{python -m benchmarks.balance.generator --port PORT SECONDS:RATE …}.

Requests are due at times that were set beforehand, and are sent then, whether or not earlier ones were answered. The
time of each counts from when it was B{due}, so that nothing hides a stall: neither that of a proxy that takes no
connection, nor one of the generator itself, which has it counted against whoever is measured. (A closed loop, of
clients that wait for their answers, sends nothing during a stall and measures nothing of it.)

The clients are many: each key of a request has an address of its own in 127.1/16, and connections are kept per address.
A request that was sent on a kept connection and met its end before a byte of the answer is sent once more on a new one
(RFC 9112 §9.3.1), as browsers do; its time runs on.

When it begins it writes a line with the monotonic clock's time; at the end the answers, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
from collections import deque
from typing import cast

from benchmarks.balance.plan import Answer, Phase, arrivals

#: After so many seconds a client gives up.
PATIENCE = 5.0

#: Keys, each with an address of its own.
KEYS = 60

#: How often the generator looks for those that have waited too long, in seconds.
_SWEEP = 0.1

#: From the start of the program to the first phase, in seconds: those who watch it have to hear of it.
_LEAD = 0.2


class Call:
    """One request."""

    __slots__ = ("at", "key", "link", "repeated")

    def __init__(self, at: float, key: int) -> None:
        """
        @param at: when it is due, by the loop's clock.
        """
        self.at = at
        self.key = key
        self.link: Link | None = None
        self.repeated = False


class Link(asyncio.Protocol):
    """A connection; one request at a time."""

    __slots__ = ("_buffer", "_call", "_fresh", "_generator", "transport")

    def __init__(self, generator: Generator, call: Call) -> None:
        self._generator = generator
        self._call: Call | None = call
        self._buffer = b""
        self._fresh = True
        call.link = self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self.transport = cast(asyncio.Transport, transport)
        if self._call is None or self._call.link is not self:  # given up meanwhile
            self.transport.abort()
        else:
            self._generator.write(self, self._call)

    def send(self, call: Call) -> None:
        """On a connection that was kept."""
        self._fresh = False
        self._call = call
        call.link = self
        self._generator.write(self, call)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        call = self._call
        if call is None:  # nobody asked: HAProxy's 408 on an idle connection
            self.transport.abort()
            return
        self._buffer = buffer = self._buffer + data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = buffer[:end].lower()
        size = int(_field(head, b"content-length") or 0)
        if len(buffer) < end + 4 + size:
            return
        self._buffer = b""
        self._call = None
        self._generator.answered(call, head[9:12].decode("latin-1"), _field(head, b"x-served-by").decode("latin-1"))
        if _field(head, b"connection") == b"close":
            self.transport.close()
        else:
            self._generator.keep(self, call.key)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        call, self._call = self._call, None
        if call is None:
            return
        if not self._buffer and not self._fresh and not call.repeated:
            call.repeated = True
            self._generator.dial(call)
        else:
            self._generator.answered(call, "cut" if self._buffer else "reset", "")

    def give_up(self) -> None:
        """The client goes."""
        self._call = None
        self.transport.abort()


def _field(head: bytes, name: bytes) -> bytes:
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    end = head.find(b"\r\n", at + 2)
    return head[at + len(name) + 3 : end if end >= 0 else len(head)].strip()


class Generator:
    """
    All of it.

    @ivar answers: what became of each request that is over.
    @ivar late: by how many seconds the one was sent that was sent latest: a stall of the generator's own, of which the
        proxy is innocent.
    """

    def __init__(self, port: int, dues: list[float], seed: int = 1, keys: int = KEYS) -> None:
        """
        @param dues: ascending, in seconds from the beginning.
        @param keys: how many clients there are.
        """
        self.answers: list[Answer] = []
        self.late = 0.0
        self._port = port
        self._dues = dues
        self._keys = keys
        self._chance = random.Random(seed)
        self._idle: dict[int, deque[Link]] = {key: deque() for key in range(keys)}
        self._calls: set[Call] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._next = 0

    async def run(self) -> None:
        """Send all, and wait until each is answered or given up."""
        self._loop = loop = asyncio.get_running_loop()
        self._began = began = loop.time() + _LEAD
        print(json.dumps({"began": began}), flush=True)  # asyncio's clock is the monotonic one
        self._over = loop.create_future()
        loop.call_at(began + self._dues[0], self._tick)
        loop.call_at(began + _SWEEP, self._sweep)
        await self._over

    def _tick(self) -> None:
        now = self._loop.time()
        while self._next < len(self._dues):
            at = self._began + self._dues[self._next]
            if at > now:
                self._loop.call_at(at, self._tick)
                return
            self._next += 1
            self.late = max(self.late, now - at)
            call = Call(at, self._chance.randrange(self._keys))
            self._calls.add(call)
            kept = self._idle[call.key]
            while kept:
                link = kept.pop()
                if not link.transport.is_closing():
                    link.send(call)
                    break
            else:
                self.dial(call)
            now = self._loop.time()

    def dial(self, call: Call) -> None:
        """Send it on a new connection."""
        task = self._loop.create_task(self._dial(call))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _dial(self, call: Call) -> None:
        source = (f"127.1.0.{call.key + 1}", 0)
        try:
            await self._loop.create_connection(lambda: Link(self, call), "127.0.0.1", self._port, local_addr=source)
        except OSError:
            self.answered(call, "refused", "")

    def write(self, link: Link, call: Call) -> None:
        """The request itself."""
        link.transport.write(b"GET /item/%d HTTP/1.1\r\nHost: balance.example\r\n\r\n" % call.key)

    def keep(self, link: Link, key: int) -> None:
        """For another request."""
        self._idle[key].append(link)

    def answered(self, call: Call, outcome: str, backend: str) -> None:
        """It is over."""
        if call not in self._calls:
            return
        self._calls.discard(call)
        self.answers.append(Answer(call.at - self._began, self._loop.time() - call.at, outcome, backend))

    def _sweep(self) -> None:
        now = self._loop.time()
        for call in [call for call in self._calls if now - call.at > PATIENCE]:
            self.answered(call, "timeout", "")
            if call.link is not None and hasattr(call.link, "transport"):
                call.link.give_up()
            call.link = None
        if self._next == len(self._dues) and not self._calls:
            self._over.set_result(None)
        else:
            self._loop.call_later(_SWEEP, self._sweep)


def _phase(text: str) -> Phase:
    seconds, _, rate = text.partition(":")
    return Phase(float(seconds), float(rate))


def main() -> None:
    """Send, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balance.generator")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("phases", type=_phase, nargs="+", help="SECONDS:RATE")
    arguments = parser.parse_args()
    generator = Generator(arguments.port, list(arrivals(arguments.phases, arguments.seed)), arguments.seed)
    gc.freeze()  # a collection would look like a stall
    gc.disable()
    asyncio.run(generator.run())
    rows = [[answer.due, answer.seconds, answer.outcome, answer.backend] for answer in generator.answers]
    json.dump({"late": generator.late, "answers": rows}, sys.stdout)


if __name__ == "__main__":
    main()
