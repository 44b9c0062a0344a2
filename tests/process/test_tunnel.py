"""
Upgrades: from the 101 on, bytes in both directions, and each direction ends by itself.
"""

from __future__ import annotations

import json
import os

from tests.process.case import ScriptedCase
from tests.process.rig import Lemmy, read
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
