"""
The clients of the drills, in a process of their own: C{python -m benchmarks.drills.clients --help}.

A client sends a request again only where HTTP lets it (RFC 9112 §9.3.1, RFC 9110 §9.2.2): a GET on a connection that
had carried an exchange before and was closed before any byte of the response. Those count as reconnects, by what was
seen:

* C{asked}: a response said C{Connection: close};
* C{idle}: the connection ended while nothing was asked;
* C{crossed}: it ended as a request was on its way, which had reached no backend.

A request that had reached a backend and is not answered is C{lost}, although the second attempt succeeds: whoever
stops in order ends what it has begun. Every other trouble is a failure by its kind, see
L{benchmarks.drills.tally.KINDS}. A WebSocket that is closed with 1001 counts as C{away}, which is fine; its end in any
other way is a failure.

The process is told what to do in lines of JSON on its standard input: C{targets} says where to connect to. It answers
each line with what was seen since the last one.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.drills.origin import PIECE, pieces
from benchmarks.drills.tally import Tally, Trouble
from benchmarks.drills.wire import CLOSE, GOING_AWAY, TEXT, Ended, Head, Link, Malformed, accept_key, frame

#: Seconds until an answer, a connection or a piece of a download counts as not coming.
PATIENCE = 15.0

#: Seconds between two questions whether a target is ready, where there are several.
_LOOK = 0.1


class Targets:
    """
    Where to connect to: of several, those that say of themselves that they are ready, in turn.

    @ivar aim: how often they have become others. Those before are ended by whoever says so.
    """

    def __init__(self) -> None:
        self.aim = 0
        self._all: list[tuple[int, str]] = []
        self._ready: list[int] = []
        self._turn = 0

    def become(self, targets: list[tuple[int, str]]) -> None:
        """
        @param targets: the port of each, and the unix socket of its admin side.
        """
        self.aim += 1
        self._all = targets
        self._ready = [port for port, _ in targets]

    def next(self) -> int:
        """The port for the next connection."""
        self._turn += 1
        # When none says that it is ready they are all tried: that is a failure worth to be seen.
        ports = self._ready or [port for port, _ in self._all]
        return ports[self._turn % len(ports)]

    async def watch(self) -> None:
        """Ask them, for ever."""
        while True:
            await asyncio.sleep(_LOOK)
            targets = self._all
            if len(targets) > 1:
                answers = [await self._is_ready(admin) for _, admin in targets]
                if targets is self._all:
                    self._ready = [port for (port, _), ready in zip(targets, answers, strict=True) if ready]

    async def _is_ready(self, admin: str) -> bool:
        try:
            async with asyncio.timeout(2.0):
                _, link = await asyncio.get_running_loop().create_unix_connection(Link, admin)
                try:
                    head = await link.ask(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                finally:
                    link.close()
        except (OSError, Ended, TimeoutError):
            return False
        return head.status == 200


class Client:
    """What all of them do."""

    def __init__(self, name: str, targets: Targets, tally: Tally, pause: float) -> None:
        """
        @param name: in the paths of its requests.
        @param pause: seconds between two exchanges.
        """
        self.name = name
        self.tally = tally
        self.pause = pause
        self._targets = targets
        self._number = 0

    async def connect(self) -> Link:
        """
        A new connection.

        @raise Trouble: none could be had.
        """
        port = self._targets.next()
        try:
            _, link = await asyncio.get_running_loop().create_connection(Link, "127.0.0.1", port)
        except OSError as error:
            raise Trouble("refused", str(error)) from error
        return link

    async def run(self) -> None:
        """For ever."""
        # Not all at one moment.
        await asyncio.sleep(self.pause * (hash(self.name) % 100) / 100)
        while True:
            aim = self._targets.aim
            try:
                await self.once()
            except Trouble as trouble:
                # A slow reader sees the end of an instance when the drill has long gone on to the next one.
                if aim == self._targets.aim:
                    self.tally.failed(trouble)
            await asyncio.sleep(self.pause)

    async def once(self) -> None:
        """
        What it does again and again.

        @raise Trouble: it did not go as it should.
        """
        raise AssertionError("each kind of client says what it does")

    def next_path(self) -> str:
        """Of a request that nobody has sent yet."""
        self._number += 1
        return f"/r/{self.name}/{self._number}"

    async def in_time(self, link: Link, work: Awaitable[Any]) -> Any:
        """
        Wait, but not for ever.

        @raise Trouble: whatever went wrong, other than that the connection ended.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await work
        except TimeoutError:
            link.close()
            raise Trouble("timeout", f"nothing for {PATIENCE:.0f} s", link.port) from None
        except Malformed as error:
            link.close()
            raise Trouble("wrong", str(error), link.port) from error

    async def exchange(self, link: Link, request: bytes) -> tuple[Head, bytes]:
        """
        One request and its whole answer, which is 200.

        @raise Ended: before the first byte of the answer.
        @raise Trouble: it went wrong.
        """
        try:
            head: Head = await self.in_time(link, link.ask(request))
            body: bytes = await self.in_time(link, link.exactly(head.length))
        except Ended as how:
            if not link.began:
                raise
            raise Trouble("cut", f"{how} within the answer", link.port) from how
        if head.status != 200:
            link.close()
            raise Trouble("5xx" if head.status >= 500 else "wrong", f"{head.start}: {body[:200]!r}", link.port)
        return head, body

    def check(self, link: Link, path: str, body: bytes, sent: bytes) -> None:
        """
        The answer is that to this request.

        @raise Trouble: it is another's.
        """
        if body.partition(b" ")[2] != f"{path} ".encode() + sent:
            link.close()
            raise Trouble("wrong", f"{path} was answered with {body[:200]!r}", link.port)


class Keeper(Client):
    """Keeps one connection and asks for something small."""

    def __init__(self, name: str, targets: Targets, tally: Tally, pause: float) -> None:
        super().__init__(name, targets, tally, pause)
        self._link: Link | None = None

    async def once(self) -> None:
        """One GET."""
        began = time.monotonic()
        link, self._link = self._link, None
        if link is not None and link.ended:
            self.tally.reconnects["idle"] += 1
            link = None
        path = self.next_path()
        request = f"GET {path} HTTP/1.1\r\nHost: drill.example\r\n\r\n".encode()
        left: Link | None = None
        if link is not None:
            try:
                head, body = await self.exchange(link, request)
            except Ended:
                left, link = link, None
        if link is None:
            link = await self.connect()
            try:
                head, body = await self.exchange(link, request)
            except Ended as how:
                raise Trouble("reset", f"{how} without an answer", link.port) from how
        self.check(link, path, body, b"")
        if head.fields.get("connection", "").lower() == "close":
            link.close()
            self.tally.reconnects["asked"] += 1
        else:
            self._link = link
        self.tally.slowest = max(self.tally.slowest, time.monotonic() - began)
        if left is not None:
            if "x-before" in head.fields:
                raise Trouble("lost", f"{left.ended} after {path} had reached a backend", left.port)
            self.tally.reconnects["crossed"] += 1
        self.tally.done["GET"] += 1


class Poster(Client):
    """Sends a body on a new connection each time: nothing that could be sent again."""

    async def once(self) -> None:
        """One POST."""
        began = time.monotonic()
        path, sent = self.next_path(), os.urandom(1000).hex().encode()
        request = (
            f"POST {path} HTTP/1.1\r\nHost: drill.example\r\nConnection: close\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        link = await self.connect()
        try:
            head, body = await self.exchange(link, request.encode() + sent)
        except Ended as how:
            raise Trouble("reset", f"{how} without an answer", link.port) from how
        link.close()
        self.check(link, path, body, sent)
        if "x-before" in head.fields:
            raise Trouble("doubled", path, link.port)
        self.tally.slowest = max(self.tally.slowest, time.monotonic() - began)
        self.tally.done["POST"] += 1


class Downloader(Client):
    """Fetches the long body, not faster than it is told to."""

    def __init__(self, name: str, targets: Targets, tally: Tally, pause: float, size: int, rate: float) -> None:
        """
        @param rate: bytes per second.
        """
        super().__init__(name, targets, tally, pause)
        self._size = size
        self._rate = rate
        whole = hashlib.sha256()
        for piece in pieces(size):
            whole.update(piece)
        self._digest = whole.digest()

    async def once(self) -> None:
        """One download."""
        link = await self.connect()
        began = time.monotonic()
        left, digest = self._size, hashlib.sha256()
        try:
            head: Head = await self.in_time(
                link, link.ask(b"GET /large HTTP/1.1\r\nHost: drill.example\r\nConnection: close\r\n\r\n")
            )
            if head.status != 200 or head.length != self._size:
                raise Trouble("5xx" if head.status >= 500 else "wrong", head.start, link.port)
            while left:
                if not link.buffer:
                    await self.in_time(link, link.more())
                data = link.take(min(PIECE, left))
                digest.update(data)
                left -= len(data)
                await asyncio.sleep((self._size - left) / self._rate - (time.monotonic() - began))
        except Ended as how:
            raise Trouble(
                "cut" if link.began else "reset", f"{how} with {left:,} of {self._size:,} bytes to come", link.port
            ) from how
        finally:
            link.close()
        if digest.digest() != self._digest:
            raise Trouble("wrong", "the download has other contents", link.port)
        self.tally.done["download"] += 1


class Talker(Client):
    """Keeps a WebSocket on which everything comes back."""

    _messages = itertools.count(1)

    async def once(self) -> None:
        """One WebSocket, to its end."""
        link = await self.connect()
        try:
            await self._open(link)
            while True:
                await asyncio.sleep(self.pause)
                sent = f"{self.name} {next(self._messages)}".encode()
                if not link.buffer:
                    await link.write(frame(TEXT, sent, True))
                opcode, payload = await self.in_time(link, link.frame())
                if opcode == CLOSE:
                    await self._leave(link, payload)
                    return
                if (opcode, payload) != (TEXT, sent):
                    raise Trouble("wrong", f"instead of {sent!r} came {opcode} {payload[:200]!r}", link.port)
                self.tally.done["echo"] += 1
        except Ended as how:
            raise Trouble("socket", f"{how} without a Close frame", link.port) from how
        finally:
            link.close()

    async def _open(self, link: Link) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        head: Head = await self.in_time(
            link,
            link.ask(
                f"GET /socket HTTP/1.1\r\nHost: drill.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            ),
        )
        if head.status != 101 or head.fields.get("sec-websocket-accept") != accept_key(key):
            raise Trouble("5xx" if head.status >= 500 else "wrong", f"{head.start} for a WebSocket", link.port)

    async def _leave(self, link: Link, payload: bytes) -> None:
        """A Close frame came: answer it, and see the connection end (RFC 6455 §7.1.1: the server closes first)."""
        code = int.from_bytes(payload[:2], "big")
        if code != GOING_AWAY:
            raise Trouble("socket", f"closed with {code} {payload[2:]!r}", link.port)
        await link.write(frame(CLOSE, payload[:2], True))
        try:
            while True:
                await self.in_time(link, link.more())
        except Ended:
            self.tally.away += 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--keepers", type=int, default=200, help="keep-alive connections")
    parser.add_argument("--posters", type=int, default=4, help="clients with a new connection for each request")
    parser.add_argument("--talkers", type=int, default=20, help="WebSockets")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two requests on a connection")
    parser.add_argument("--size", type=int, default=200_000_000, help="bytes of the download")
    parser.add_argument("--rate", type=float, default=25e6, help="bytes per second of the download")
    return parser.parse_args()


async def _commands(act: Callable[[dict[str, Any]], None]) -> None:
    """Do what the lines on the standard input say, to their end."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        act(json.loads(line))


async def _main(arguments: argparse.Namespace) -> None:
    targets, tally = Targets(), Tally()
    pause = arguments.pause
    clients: list[Client] = [
        *(Keeper(f"keeper-{number}", targets, tally, pause) for number in range(arguments.keepers)),
        *(Poster(f"poster-{number}", targets, tally, pause) for number in range(arguments.posters)),
        *(Talker(f"talker-{number}", targets, tally, pause) for number in range(arguments.talkers)),
        Downloader("downloader", targets, tally, pause, arguments.size, arguments.rate),
    ]
    running: list[asyncio.Task[None]] = []

    def act(command: dict[str, Any]) -> None:
        if "targets" in command:
            targets.become([(port, admin) for port, admin in command["targets"]])
            if not running:
                running.extend(asyncio.ensure_future(client.run()) for client in clients)
        print(json.dumps(tally.take()), flush=True)

    commands = asyncio.ensure_future(_commands(act))
    watching = asyncio.ensure_future(targets.watch())
    while not commands.done():
        done, _ = await asyncio.wait([commands, watching, *running], return_when=asyncio.FIRST_COMPLETED, timeout=1.0)
        for task in done:
            # None of them ends by itself: what it raised is a fault of ours, and ends the drills.
            task.result()


if __name__ == "__main__":
    asyncio.run(_main(_arguments()))
