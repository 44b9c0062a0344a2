"""
Upgrades: from the 101 on, bytes in both directions, and each direction ends by itself.
"""

from __future__ import annotations

import json
import os
import signal
import threading

from twisted.trial.unittest import SynchronousTestCase
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.process.case import ScriptedCase
from tests.process.rig import Lemmy, configuration, read, until
from tests.wire.reading import Message
from tests.wire.sockets import Client, Side

UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class TunnelTests(ScriptedCase):
    """A tunnel whose two ends the test speaks for."""

    def opened(self, early: bytes = b"", **settings: object) -> tuple[Lemmy, Client, Side]:
        """A tunnel; C{early} comes with the 101."""
        sides: list[Side] = []

        def script(side: Side, _request: Message) -> None:
            sides.append(side)
            side.write(SWITCH + early)

        self.backend.script = script
        lemmy = self.starts(access_log={"path": "access", "format": "json"}, **settings)
        client = self.client(lemmy, UPGRADE)
        self.answered(client, 101)
        # What comes now is for the test to look at, not for the strict reader of requests.
        sides[0].came = lambda: None  # type: ignore[method-assign]  # instead of a subclass
        return lemmy, client, sides[0]

    def ends_as(self, lemmy: Lemmy, termination: str) -> None:
        """The exchange is over, and the log says how."""
        self.nothing_left(lemmy)
        path = os.path.join(lemmy.folder, "access")
        self.until(lambda: read(path).endswith("\n"))
        line = json.loads(read(path))
        self.assertEqual((101, termination), (line["status"], line["termination"]))

    def test_client_ends_first(self) -> None:
        """The client's half close reaches the backend, whose words still reach the client until it has ended, too."""
        lemmy, client, side = self.opened(b"early")
        self.until(lambda: client.rest == b"early")
        client.write(b"question")
        client.finish()
        self.until(lambda: side.rest == b"question" and side.ended == "closed")
        side.write(b" answer")
        self.until(lambda: client.rest == b"early answer")
        self.assertEqual("", client.ended)
        side.close()
        self.until(lambda: client.ended == "closed")
        self.ends_as(lemmy, "ok")

    def test_backend_ends_first(self) -> None:
        """The backend's half close reaches the client, whose words still reach the backend until it has ended, too."""
        lemmy, client, side = self.opened()
        side.write(b"greeting")
        side.finish()
        self.until(lambda: client.rest == b"greeting" and client.ended == "closed")
        client.write(b"thanks")
        self.until(lambda: side.rest == b"thanks")
        self.assertEqual("", side.ended)
        client.close()
        self.until(lambda: side.ended == "closed")
        self.ends_as(lemmy, "ok")

    def test_much(self) -> None:
        """Megabytes in both directions at one time arrive whole."""
        lemmy, client, side = self.opened()
        there, back = os.urandom(3_000_000), os.urandom(3_000_000)
        client.write(there)
        side.write(back)
        self.until(lambda: len(side.rest) == len(there) and len(client.rest) == len(back))
        self.assertTrue(side.rest == there and client.rest == back)
        client.close()
        self.until(lambda: bool(side.ended))
        side.close()
        self.nothing_left(lemmy)

    def test_reset(self) -> None:
        """When one end vanishes the other one's connection ends: nobody is left talking to nobody."""
        lemmy, client, side = self.opened()
        client.reset()
        self.until(lambda: bool(side.ended))
        self.nothing_left(lemmy)

    def test_silent(self) -> None:
        """A tunnel in which nobody speaks ends after timeouts.tunnel."""
        lemmy, client, side = self.opened(timeouts={"tunnel": "300ms"})
        self.until(lambda: bool(client.ended and side.ended))
        self.ends_as(lemmy, "timeout_tunnel")


class WebSocketTests(SynchronousTestCase):
    """Both ends are what others use: the C{websockets} package, with compressed messages."""

    def setUp(self) -> None:
        self.codes: list[tuple[int | None, bool]] = []
        server = serve(self.echo, "127.0.0.1", 0)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        self.backend = f"http://127.0.0.1:{server.socket.getsockname()[1]}"

    def echo(self, connection: ServerConnection) -> None:
        """The backend, in a thread for each connection: notes how it ended, and whether that was a handshake."""
        try:
            for message in connection:
                connection.send(message)
            connection.recv(0)
        except ConnectionClosed as closed:
            self.codes.append((closed.rcvd and closed.rcvd.code, closed.sent is not None))

    def client(self, lemmy: Lemmy) -> ClientConnection:
        """A WebSocket through the proxy that has been used."""
        made = connect(f"ws://127.0.0.1:{lemmy.port}/", proxy=None)
        self.addCleanup(made.close)
        for message in ("hello " * 100, b"x" * 100_000, ["in ", "pieces"]):
            made.send(message)
            self.assertEqual(made.recv(10), "".join(message) if isinstance(message, list) else message)
        return made

    def closed(self, client: ClientConnection) -> tuple[int | None, bool]:
        """How the client's end closes: the code that it gets, and whether it could answer."""
        try:
            said = client.recv(10)
        except ConnectionClosed as closed:
            return closed.rcvd and closed.rcvd.code, closed.sent is not None
        raise AssertionError(said)

    def test_stop(self) -> None:
        """SIGTERM: every WebSocket gets 1001 on both sides, answers, and the process ends long before its patience."""
        lemmy = Lemmy(
            self,
            configuration(self.backend, timeouts={"drain": 600}, access_log={"path": "access", "format": "json"}),
        ).ready()
        clients = [self.client(lemmy) for _ in range(5)]
        lemmy.signal(signal.SIGTERM)
        self.assertEqual([(1001, True)] * 5, [self.closed(client) for client in clients])
        self.assertEqual(0, lemmy.ended())
        self.assertTrue(until(lambda: len(self.codes) == 5))
        self.assertEqual([(1001, True)] * 5, self.codes)
        lines = [json.loads(line) for line in read(os.path.join(lemmy.folder, "access")).splitlines()]
        self.assertEqual([(101, "shutdown")] * 5, [(line["status"], line["termination"]) for line in lines])
        self.assertNotIn("Traceback", lemmy.output())

    def test_ends(self) -> None:
        """A WebSocket whose client closes it ends with the client's own code, as without a proxy."""
        lemmy = Lemmy(self, configuration(self.backend)).ready()
        self.client(lemmy).close(4001, "enough")
        self.assertTrue(until(lambda: bool(self.codes)))
        self.assertEqual([(4001, True)], self.codes)
        self.assertEqual(0, lemmy.stop())
