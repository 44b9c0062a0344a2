"""
WebSockets of the C{websockets} package through a proxy process: its server behind, its clients in front, both in the
event loop of one test.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.certificates import Authority
from tests.process.rig import ANY, Lemmy, configuration, folder, read

#: Seconds for a whole test.
PATIENCE = 60.0

#: What C{SO_LINGER} has to be for a close that is a reset.
_RESET = struct.pack("ii", 1, 0)


def memory(lemmy: Lemmy, what: str) -> int:
    """Of the process, in bytes: C{VmRSS} now, C{VmHWM} the most since L{forget_peak}."""
    found = re.search(rf"^{what}:\s+(\d+) kB$", read(f"/proc/{lemmy.process.pid}/status"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def forget_peak(lemmy: Lemmy) -> None:
    """Lets C{VmHWM} count from now on (proc(5), clear_refs)."""
    with open(f"/proc/{lemmy.process.pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def vanish(connection: ClientConnection | ServerConnection) -> None:
    """Ends with a reset, as a machine does that has forgotten everything."""
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.transport.abort()


def half_closed(port: int, authority: str, *words: bytes) -> bytes:
    """
    A client of TLS that says its words, ends its half, and listens: what it hears until the other half has ended in
    order. C{ssl.SSLSocket} cannot do that; the codec underneath it can.

    @param words: what is said; for each but the first an answer is waited for before.
    @raise AssertionError: the other half has not ended in order.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=authority).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    heard = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as link:

        def again(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    link.sendall(outgoing.read())
                    data = link.recv(65536)
                    assert data, "the connection has ended without the end of TLS"
                    incoming.write(data)

        again(tls.do_handshake)
        for number, word in enumerate(words):
            if number:
                heard += again(lambda: tls.read(65536))
            tls.write(word)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        link.sendall(outgoing.read())
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while data := again(lambda: tls.read(65536)):
                heard += data
    return heard


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """
    Looks again and again, in a thread, until C{condition} holds.

    @raise AssertionError: when it does not.
    """
    end = asyncio.get_running_loop().time() + seconds
    while not await asyncio.to_thread(condition):
        assert asyncio.get_running_loop().time() < end, condition
        await asyncio.sleep(0.02)


async def code(connection: ClientConnection | ServerConnection) -> int | None:
    """
    Waits for the end of a connection on which nothing more is said.

    @return: the code that came with it; None when it came without a closing handshake.
    """
    try:
        said = await connection.recv()
    except ConnectionClosed as closed:
        return closed.rcvd and closed.rcvd.code
    raise AssertionError(said)


class WebSocketCase(SynchronousTestCase):
    """
    @ivar secure: whether clients come over TLS.
    @ivar certificate: where L{secure}, the file of the listener's certificate and key.
    @ivar authority: the file of who has signed it.
    @ivar serving: the server's connections of L{backend}, in order.
    """

    secure = False

    def setUp(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.addCleanup(self.listening.close)
        self.serving: list[ServerConnection] = []
        if self.secure:
            where, authority = folder(self), Authority()
            self.certificate = authority.issue(["a.example", "127.0.0.1"]).write(where)
            self.authority = authority.write(where)

    def lemmy(self, **settings: object) -> Lemmy:
        """A proxy in front of L{backend}."""
        given = configuration(self.url(), access_log={"path": "access", "format": "json"}, **settings)
        given["listeners"] = [self.listener()]
        return Lemmy(self, given).ready()

    def url(self, scheme: str = "http") -> str:
        """Of L{backend}."""
        return f"{scheme}://127.0.0.1:{self.listening.getsockname()[1]}"

    def listener(self) -> dict[str, object]:
        """As the configuration has it."""
        if self.secure:
            return {"endpoint": ANY, "tls": {"certificates": [self.certificate]}}
        return {"endpoint": ANY}

    def play(self, scene: Callable[[], Awaitable[None]]) -> None:
        """Runs a scene to its end."""

        async def bounded() -> None:
            await asyncio.wait_for(scene(), PATIENCE)

        asyncio.run(bounded())

    @contextlib.asynccontextmanager
    async def backend(
        self, serves: Callable[[ServerConnection], Awaitable[None]] | None = None, **options: Any
    ) -> AsyncIterator[None]:
        """
        The server, which answers each message with the same one unless told otherwise.

        @param serves: instead of that.
        @param options: of C{websockets.serve}.
        """

        async def noted(connection: ServerConnection) -> None:
            self.serving.append(connection)
            if serves is not None:
                await serves(connection)
                return
            with contextlib.suppress(ConnectionClosed):
                async for message in connection:
                    await connection.send(message)

        async with serve(noted, sock=self.listening.dup(), ping_interval=None, **options):
            yield

    async def connect(self, lemmy: Lemmy, **options: Any) -> ClientConnection:
        """A WebSocket through the proxy."""
        if self.secure:
            options.setdefault("ssl", ssl.create_default_context(cafile=self.authority))
        scheme = "wss" if self.secure else "ws"
        return await connect(f"{scheme}://127.0.0.1:{lemmy.port}/", proxy=None, ping_interval=None, **options)

    async def settled(self, lemmy: Lemmy) -> None:
        """Waits until every counter of what is under way is back at zero; there is no traceback in the log."""

        def over() -> bool:
            stats = lemmy.stats()
            return not (stats["downstreams"] or stats["exchanges"] or stats["upstreams"]["active"])

        await until(over)
        self.assertNotIn("Traceback", lemmy.output())
