"""
Reloads, upgrades and the end, under requests over HTTP/2: GOAWAY says what was not begun, and nothing else is lost.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority
from tests.process.http2_client import Http2Client, Stream
from tests.process.rig import ANY, Lemmy, Nginx, configuration, folder, lives
from tests.process.websocket import PATIENCE, until

#: Clients at one time, and requests at one time of each.
CLIENTS, STREAMS = 4, 5

#: RFC 9113 §7: nothing has been done about this stream; it may be tried again.
REFUSED_STREAM = 7


class Load:
    """
    Clients that ask and ask; a connection with a GOAWAY gets no further request and is followed by another one.

    @ivar seen: how requests ended: C{ok}, C{not begun} (which a client may repeat), or what went wrong.
    @ivar connections: how many there have been.
    """

    def __init__(self, lemmy: Lemmy, authority: str) -> None:
        self.seen: Counter[str] = Counter()
        self.connections = 0
        self._port = lemmy.port
        self._authority = authority
        self._over = False
        self._running = [asyncio.create_task(self._run()) for _ in range(CLIENTS)]

    async def _run(self) -> None:
        while not self._over:
            try:
                client = await Http2Client.connect(self._port, ssl.create_default_context(cafile=self._authority))
            except ConnectionRefusedError:
                return  # nobody listens any more
            except OSError as error:
                self.seen[f"connecting: {error}"] += 1
                return
            self.connections += 1
            while not self._over and client.terminated is None and not client.ended:
                streams = [await client.get(f"/{number}") for number in range(STREAMS)]
                for number, stream in enumerate(streams):
                    self.seen[await self._outcome(stream, b"nginx a.example /%d" % number)] += 1
            if client.ended and client.terminated is None:
                self.seen["closed without GOAWAY"] += 1
            elif client.terminated:
                self.seen[f"GOAWAY with {client.terminated}"] += 1
            await client.close()

    async def _outcome(self, stream: Stream, expected: bytes) -> str:
        ended = await stream.over()
        if ended == "closed" and stream.status == 200 and stream.received == expected:
            return "ok"
        if stream.number > stream.connection.last or stream.code == REFUSED_STREAM:
            return "not begun"
        return f"{ended} {stream.code}, status {stream.status}, {bytes(stream.received)!r}"

    async def more(self) -> None:
        """Waits for a hundred further answers."""
        wanted = self.seen["ok"] + 100
        await until(lambda: self.seen["ok"] >= wanted)

    async def end(self) -> None:
        """Lets all come to their end."""
        self._over = True
        await asyncio.gather(*self._running)


class ChangeTests(SynchronousTestCase):
    """Over TLS."""

    def setUp(self) -> None:
        where, authority = folder(self), Authority()
        self.certificate = authority.issue(["a.example", "127.0.0.1"]).write(where)
        self.authority = authority.write(where)
        self.nginx = Nginx(self)

    def settings(self, **more: object) -> dict[str, object]:
        """Of a proxy in front of the server."""
        given = configuration(self.nginx.url, **more)
        given["listeners"] = [{"endpoint": ANY, "tls": {"certificates": [self.certificate]}}]
        return given

    def none_lost(self, load: Load) -> None:
        """Whatever was asked was answered, or can be asked again."""
        self.assertLessEqual(set(load.seen), {"ok", "not begun"}, load.seen)

    def test_reload(self) -> None:
        """Reloads that change backends, routes and limits leave every connection and every request alone."""
        lemmy = Lemmy(self, self.settings()).ready()

        async def scene() -> None:
            load = Load(lemmy, self.authority)
            for number in range(5):
                await load.more()
                name = f"n{number}"
                changed = self.settings(
                    vhosts=[{"hosts": ["a.example"], "routes": [{"path": "/*", "cluster": name}]}],
                    limits={"headers": 50 + number},
                )
                changed["clusters"] = {name: {"backends": [{"url": self.nginx.url, "name": name}]}}
                await asyncio.to_thread(lemmy.reload, changed)
            await load.more()
            await load.end()
            self.none_lost(load)
            self.assertEqual(CLIENTS, load.connections)

        asyncio.run(asyncio.wait_for(scene(), PATIENCE))
        self.assertNotIn("Traceback", lemmy.output())

    def test_upgrade(self) -> None:
        """Two upgrades: every connection is told by GOAWAY, its clients come anew, and no request is lost."""
        lemmy = Lemmy(self, self.settings()).ready()

        async def scene() -> None:
            load = Load(lemmy, self.authority)
            for _ in range(2):
                await load.more()
                old = (await asyncio.to_thread(lemmy.stats))["pid"]
                os.kill(old, signal.SIGUSR2)
                await until(lambda old=old: not lives(old), 20)
                await load.more()
            await load.end()
            self.none_lost(load)
            self.assertEqual(3 * CLIENTS, load.connections)

        asyncio.run(asyncio.wait_for(scene(), PATIENCE))
        self.assertNotIn("Traceback", lemmy.output())

    def test_stop(self) -> None:
        """SIGTERM: whatever is under way is answered, GOAWAY says what is not, and the process ends by itself."""
        lemmy = Lemmy(self, self.settings(timeouts={"drain": 600})).ready()

        async def scene() -> None:
            load = Load(lemmy, self.authority)
            await load.more()
            lemmy.signal(signal.SIGTERM)
            self.assertEqual(0, await asyncio.to_thread(lemmy.ended))
            await load.end()
            self.none_lost(load)
            self.assertEqual(CLIENTS, load.connections)

        asyncio.run(asyncio.wait_for(scene(), PATIENCE))
        self.assertNotIn("Traceback", lemmy.output())

    def test_workers(self) -> None:
        """The same with two workers, one upgrade and the end."""
        lemmy = Lemmy(self, self.settings(workers=2, timeouts={"drain": 600})).ready()

        async def scene() -> None:
            load = Load(lemmy, self.authority)
            await load.more()
            lemmy.signal(signal.SIGUSR2)
            await until(lambda: not lives(lemmy.process.pid), 20)
            await load.more()
            pid = (await asyncio.to_thread(lemmy.stats))["pid"]
            os.kill(pid, signal.SIGTERM)
            await until(lambda: not lives(pid), 20)
            await load.end()
            self.none_lost(load)

        asyncio.run(asyncio.wait_for(scene(), PATIENCE))
        self.assertNotIn("Traceback", lemmy.output())
