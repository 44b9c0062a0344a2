"""
Another configuration while it serves: all of it holds from the next request on, or none of it, and nobody is cut off.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
from typing import Any

from tests.process.case import GET, ScriptedCase
from tests.process.rig import ANY, Lemmy, answers, ask, configuration, folder, script, tcp, unix
from tests.process.test_faults import SCHEDULER
from tests.process.test_start import NOWHERE
from tests.process.test_tunnel import SWITCH, UPGRADE
from tests.wire.reading import Message
from tests.wire.rig import START, free_port
from tests.wire.sockets import PLAIN, Backend, Client, Peer, Side, serve

OTHER = GET.replace(b"/ ", b"/other/ ", 1)

#: What a server says on a WebSocket that it gives up: a Close frame with 1001 (RFC 6455 §5.5.1, §7.4.1).
GOING_AWAY = b"\x03\xe9"


def endpoint(port: int) -> dict[str, str]:
    """A listener on loopback."""
    return {"endpoint": f"tcp:{port}:interface=127.0.0.1"}


class ReloadCase(ScriptedCase):
    """
    A proxy with two backends, of which it has the first in its configuration.

    @cvar workers: how many processes serve.
    @ivar settings: what the proxy has; a test changes it and reloads.
    """

    workers = 1

    def setUp(self) -> None:
        super().setUp()
        self.second = Backend(self.loop)
        self.addCleanup(self.second.close)
        self.settings: dict[str, Any] = {}

    def url(self, backend: Backend) -> str:
        """For a configuration."""
        return f"http://127.0.0.1:{backend.port}"

    def starts(self, **settings: Any) -> Lemmy:
        """A proxy that has what C{self.settings} says from now on."""
        self.settings = configuration(self.url(self.backend), workers=self.workers, **settings)
        where = folder(self)
        lemmy = Lemmy(self, copy.deepcopy(self.settings), where=where).ready()
        if self.workers > 1:
            lemmy.manned(self.workers)
        return lemmy

    def clients(self, lemmy: Lemmy, count: int = 6) -> list[Client]:
        """So many that each worker has at least one, in all likelihood; each has had an answer."""
        found = [self.client(lemmy, GET) for _ in range(count)]
        for client in found:
            self.answered(client, 200)
        return found

    def served_on(self, path: str) -> None:
        """A new client on a unix socket is answered by the backend."""
        client = Peer(self.loop, unix(path))
        self.addCleanup(client.close)
        client.write(GET)
        self.until(lambda: client.received.endswith(b"OK"))

    def with_route(self) -> dict[str, Any]:
        """The settings with one route more, to the second backend."""
        changed = copy.deepcopy(self.settings)
        changed["vhosts"][0] = {"hosts": ["*"], "routes": [{"path": "/other/*", "cluster": "d"}, {"cluster": "c"}]}
        changed["clusters"]["d"] = {"backends": [self.url(self.second)]}
        return changed

    def moved(self) -> dict[str, Any]:
        """The settings with the second backend instead of the first."""
        changed = copy.deepcopy(self.settings)
        changed["clusters"]["c"]["backends"] = [self.url(self.second)]
        return changed

    def socket(self, lemmy: Lemmy) -> tuple[Client, Side]:
        """A WebSocket, and the backend's side of it."""
        opened: list[Side] = []

        def script(side: Side, _request: Message) -> None:
            opened.append(side)
            side.write(SWITCH)

        self.backend.script = script
        client = self.client(lemmy, UPGRADE)
        self.answered(client, 101)
        self.backend.script = serve
        side = opened[0]
        # What comes now is for the test to look at, not for the strict reader of requests.
        side.came = lambda: None  # type: ignore[method-assign]  # instead of a subclass
        return client, side

    def download(self, lemmy: Lemmy) -> tuple[Client, Side]:
        """An answer of 8 bytes of which 4 have come, and the backend's side of it."""
        began: list[Side] = []

        def script(side: Side, _request: Message) -> None:
            began.append(side)
            side.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")

        self.backend.script = script
        client = self.client(lemmy, GET)
        self.until(lambda: client.received.endswith(b"half"))
        self.backend.script = serve
        return client, began[0]


class ReloadTests(ReloadCase):
    """SIGHUP, with one process."""

    def test_route(self) -> None:
        """A new route holds for the next request, on connections that are there as well as on new ones."""
        lemmy = self.starts()
        clients = self.clients(lemmy)
        lemmy.reload(self.with_route())
        clients += self.clients(lemmy)
        for client in clients:
            client.write(OTHER)
            self.answered(client, 200)
        self.assertEqual((12, 12), (len(self.backend.requests), len(self.second.requests)))
        lemmy.says("reload: clusters.d: added")
        self.assertNotIn("Traceback", lemmy.output())

    def test_backend_removed(self) -> None:
        """A backend that is taken away gets nothing new; a download and a WebSocket on it live on."""
        lemmy = self.starts(timeouts={"drain": 600})
        socket, socket_side = self.socket(lemmy)
        download, download_side = self.download(lemmy)
        clients = self.clients(lemmy)
        self.backend.requests.clear()
        lemmy.reload(self.moved())
        for client in [*clients, *self.clients(lemmy)]:
            client.write(GET)
            self.answered(client, 200)
        self.assertEqual([], self.backend.requests)
        self.assertEqual(18, len(self.second.requests))
        socket.write(b"\x81\x80mask")
        self.until(lambda: socket_side.rest == b"\x81\x80mask")
        socket_side.write(b"\x81\x02hi")
        self.until(lambda: socket.rest == b"\x81\x02hi")
        download_side.write(b"done")
        self.answered(download, 200)
        # The connection is as good as before: only the backend has gone.
        download.write(GET)
        self.answered(download, 200)
        self.assertEqual([], self.backend.requests)

    def test_patience_ends(self) -> None:
        """After timeouts.drain a WebSocket on a backend that was taken away hears 1001, on both sides."""
        lemmy = self.starts(timeouts={"drain": "300ms"})
        changed = self.with_route()
        lemmy.reload(changed)
        socket, side = self.socket(lemmy)
        stays = self.client(lemmy, OTHER)
        self.answered(stays, 200)
        changed["clusters"]["c"]["backends"] = [self.url(self.second)]
        lemmy.reload(changed)
        self.until(lambda: len(socket.rest) >= 4)
        self.assertEqual((b"\x88", GOING_AWAY), (socket.rest[:1], socket.rest[2:4]))
        self.until(lambda: side.rest[:1] == b"\x88")
        socket.write(b"\x88\x82\0\0\0\0" + GOING_AWAY)
        side.write(b"\x88\x02" + GOING_AWAY)
        self.until(lambda: bool(socket.ended))
        side.close()
        stays.write(OTHER)
        self.answered(stays, 200)

    def test_listeners(self) -> None:
        """
        A new listener accepts. One that is taken away does not, its idle connections end and its busy ones after their
        exchange; those of the listener that stays are not touched.
        """
        lemmy = self.starts(timeouts={"drain": 600})
        stays = self.clients(lemmy)
        port = free_port()
        changed = copy.deepcopy(self.settings)
        changed["listeners"].append(endpoint(port))
        lemmy.reload(changed)
        idle, busy = (Client(self.loop, port) for _ in range(2))
        for client in (idle, busy):
            self.addCleanup(client.close)
        idle.write(GET)
        self.answered(idle, 200)
        self.hold()
        busy.write(GET)
        self.until(lambda: len(self.held) == 1)
        lemmy.reload(self.settings)
        self.until(lambda: idle.ended == "closed")
        self.until(lambda: not answers(port))
        self.held[0].write(PLAIN)
        self.until(lambda: bool(busy.answers))
        self.assertEqual([b"close"], busy.answers[0].values(b"connection"))
        self.until(lambda: busy.ended == "closed")
        self.backend.script = serve
        for client in stays:
            client.write(GET)
            self.answered(client, 200)
        self.assertEqual(200, lemmy.ask("/ready")[0])

    def test_broken_file(self) -> None:
        """A file with errors changes nothing, and the log tells every one; with the next good file it goes on."""
        lemmy = self.starts()
        client = self.client(lemmy, GET)
        self.answered(client, 200)
        broken = self.with_route()
        broken["clusters"]["d"]["wieght"] = 1
        broken["vhosts"][0]["routes"][1]["cluster"] = "nowhere"
        lemmy.refuses(broken, "wieght", "'nowhere'")
        lemmy.refuses("listeners: [", "lemmy.yaml")
        client.write(OTHER)
        self.answered(client, 200)
        self.assertEqual([], self.second.requests)
        self.assertEqual(200, lemmy.ask("/ready")[0])
        lemmy.reload(self.with_route())
        client.write(OTHER)
        self.answered(client, 200)
        self.assertEqual(1, len(self.second.requests))

    def test_cannot_listen(self) -> None:
        """A new listener whose port is taken has the whole reload refused: its other changes do not come either."""
        lemmy = self.starts()
        client = self.client(lemmy, GET)
        self.answered(client, 200)
        port = free_port()
        changed = self.with_route()
        changed["listeners"] += [endpoint(port), endpoint(self.second.port)]
        lemmy.refuses(changed, f"cannot listen on 'tcp:{self.second.port}:interface=127.0.0.1': Address already in use")
        client.write(OTHER)
        self.answered(client, 200)
        self.assertEqual([], self.second.requests)
        self.assertFalse(answers(port), "the listener that could be opened stays closed")
        self.assertEqual(200, lemmy.ask("/ready")[0])

    def test_plugin_gone(self) -> None:
        """A plugin that cannot be loaded any more has the reload refused; what was loaded before goes on."""
        self.settings = configuration(
            self.url(self.backend), workers=self.workers, plugins=["drop-ins"], cluster={"scheduler": "mine"}
        )
        where = folder(self)
        plugins = os.path.join(where, "drop-ins")
        os.mkdir(plugins)
        with open(os.path.join(plugins, "mine.py"), "w", encoding="utf-8") as file:
            file.write(SCHEDULER % "return candidates[0]")
        lemmy = Lemmy(self, self.settings, where=where).ready()
        if self.workers > 1:
            lemmy.manned(self.workers)
        shutil.rmtree(plugins)
        changed = self.with_route()
        changed["plugins"] = ["drop-ins"]
        lemmy.refuses(changed, "drop-ins: no such folder")
        for client in self.clients(lemmy):
            client.write(OTHER)
            self.answered(client, 200)
        self.assertEqual([], self.second.requests)
        self.assertEqual(0, lemmy.stats()["clusters"]["c"]["scheduler_failures"])

    def test_counts_stay(self) -> None:
        """What was counted before a reload is still there after it, also of a backend with another weight."""
        lemmy = self.starts()
        self.clients(lemmy)
        changed = self.with_route()
        changed["clusters"]["c"]["backends"] = [{"url": self.url(self.backend), "weight": 5}]
        lemmy.reload(changed)
        stats = lemmy.stats()
        (backend,) = stats["clusters"]["c"]["backends"].values()
        self.assertEqual((6, 6), (stats["total_count"], backend["total_count"]))
        lemmy.reload({**changed, "vhosts": [{"hosts": ["b.example"], "cluster": "d"}]})
        self.assertEqual(6, lemmy.stats()["total_count"])

    def test_health_stays(self) -> None:
        """A backend that is out stays out, whatever else a reload changes."""
        self.settings = configuration(
            [self.url(self.backend), NOWHERE],
            workers=self.workers,
            cluster={"max_fails": 1, "backend_retry_interval": 600, "scheduler": "round_robin"},
        )
        lemmy = Lemmy(self, self.settings, where=folder(self)).ready()

        def healths() -> set[str]:
            self.answered(self.client(lemmy, GET), 200)
            self.answered(self.client(lemmy, GET), 200)
            return {backend["health"] for backend in lemmy.stats()["clusters"]["c"]["backends"].values()}

        self.until(lambda: "ejected" in healths())
        changed = self.with_route()
        changed["clusters"]["c"]["timeouts"] = {"read": 20}
        lemmy.reload(changed)
        self.assertIn("ejected", healths())

    def test_twice(self) -> None:
        """A SIGHUP that comes while a reload is under way is not lost: what holds at the end is the last file."""
        lemmy = self.starts()
        for _ in range(5):
            lemmy.write(self.settings)
            lemmy.signal(signal.SIGHUP)
            lemmy.write(self.with_route())
            lemmy.signal(signal.SIGHUP)

        def routed() -> bool:
            self.answered(self.client(lemmy, OTHER), 200)
            return bool(self.second.requests)

        self.until(routed)
        lemmy.reload(self.settings)

        def back() -> bool:
            # What "reloaded" was heard of may have been the one before.
            self.second.requests.clear()
            for client in self.clients(lemmy):
                client.write(OTHER)
                self.answered(client, 200)
            return not self.second.requests

        self.until(back)

    def test_limits(self) -> None:
        """Another limit holds for the next request of a connection that is there."""
        lemmy = self.starts()
        post = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nbody"
        clients = self.clients(lemmy)
        for client in clients:
            client.write(post)
            self.answered(client, 200)
        lemmy.reload({**self.settings, "limits": {"body_size": 3}})
        for client in clients:
            client.write(post)
            self.answered(client, 413)

    def test_admin(self) -> None:
        """The admin side reloads, says what has changed and, of a broken file, every error."""
        lemmy = self.starts()
        lemmy.write(self.with_route())
        status, body = lemmy.post("/api/v1/config/reload")
        self.assertEqual(200, status, body)
        self.assertIn("clusters.d: added", json.loads(body)["changed"])
        lemmy.write({**self.settings, "listners": [], "limits": {"headers": 0}})
        status, body = lemmy.post("/api/v1/config/reload")
        self.assertEqual(422, status, body)
        self.assertEqual(2, len(json.loads(body)["errors"]), body)
        self.answered(self.client(lemmy, OTHER), 200)
        self.assertEqual(1, len(self.second.requests))

    def test_command(self) -> None:
        """C{lemmy reload} prints what has changed and ends with 0; of a broken file every error, and ends with 1."""
        lemmy = self.starts()

        def run(settings: object) -> tuple[int, str]:
            lemmy.write(settings)  # type: ignore[arg-type]  # as the callers below have it
            done = subprocess.run(
                [script("lemmy"), "reload", "--config", lemmy.config],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=START,
                check=False,
            )
            return done.returncode, done.stdout

        status, said = run(self.with_route())
        self.assertEqual(0, status, said)
        self.assertIn("clusters.d: added", said)
        status, said = run({**self.with_route(), "listners": [], "limits": {"headers": 0}})
        self.assertEqual(1, status, said)
        for part in ("listners", "limits.headers"):
            self.assertIn(part, said)
        self.assertNotIn("Traceback", said)

    def test_nothing_changed(self) -> None:
        """The same file again is a reload that says so."""
        lemmy = self.starts()
        clients = self.clients(lemmy)
        lemmy.reload(self.settings)
        lemmy.says("reloaded: nothing has changed")
        for client in clients:
            client.write(GET)
            self.answered(client, 200)

    def test_unix_listener(self) -> None:
        """A listener on a unix socket comes and goes, with its file."""
        lemmy = self.starts()
        path = os.path.join(lemmy.folder, "door")
        lemmy.reload({**self.settings, "listeners": [{"endpoint": ANY}, {"endpoint": f"unix:{path}"}]})
        self.served_on(path)
        lemmy.reload(self.settings)
        self.until(lambda: not os.path.exists(path))

    def test_another_admin_side(self) -> None:
        """The admin side moves to another address."""
        lemmy = self.starts()
        port = free_port()
        lemmy.reload({**self.settings, "admin": endpoint(port)})
        self.assertEqual((200, b'{"status": "OK"}\n'), ask(tcp(port), "/health", "localhost"))
        self.until(lambda: not os.path.exists(lemmy.admin))


class ReloadOfWorkersTests(ReloadTests):
    """The same with two workers: everywhere or nowhere."""

    workers = 2
