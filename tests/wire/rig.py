"""
Starts lemmytx as a user does, in a process of its own, with a backend of ours behind it, and holds it to its end.

One process serves all tests of a class: a table of hundreds of rows cannot start one for each. It is started by the
first test that wants it and ended, by its process id, when the interpreter ends or a test calls L{Proxy.stop}.
"""

from __future__ import annotations

import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.sockets import LIMIT, Backend, Loop

#: Seconds for a process to become ready, or to end. Generous: on a busy machine the imports alone take a while.
START = 30.0

#: What a log must not hold.
TROUBLE = re.compile(rb"Traceback|Unhandled|CRITICAL|Exception ignored|was never awaited")

#: Counters that are above zero exactly while something is under way.
COUNTERS = ("active", "downstreams", "exchanges", "retrying")


def free_port() -> int:
    """A port that the system chose and nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def counters(stats: object, found: dict[str, list[int]] | None = None) -> dict[str, list[int]]:
    """Every value of each of L{COUNTERS}, wherever in the statistics it stands."""
    found = {} if found is None else found
    if isinstance(stats, dict):
        for key, value in stats.items():
            if key in COUNTERS and isinstance(value, int):
                found.setdefault(key, []).append(value)
            else:
                counters(value, found)
    elif isinstance(stats, list):
        for value in stats:
            counters(value, found)
    return found


class Proxy:
    """
    A running C{lemmy run}.

    @ivar port: where its listener is.
    @ivar admin: where its admin side is.
    """

    def __init__(self, backend: int, **settings: object) -> None:
        """
        Starts it; L{ready} waits until it serves.

        @param backend: the port of the one backend behind it.
        @param settings: top-level settings beside the usual ones; C{cluster} adds to the cluster's own, C{listener} to
            the listener's, C{scheme} is the backend's.
        """
        self.folder = tempfile.mkdtemp(prefix="lemmytx-wire-")
        self.port = free_port()
        self.admin = free_port()
        self.log = os.path.join(self.folder, "log")
        self.access_log = os.path.join(self.folder, "access")
        self._checked = 0
        atexit.register(self.stop)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command(backend, settings),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def command(self, backend: int, settings: dict[str, object]) -> list[str]:
        """Writes the configuration and says how to start the program with it."""
        cluster: dict[str, object] = {
            "backends": [{"url": f"{settings.pop('scheme', 'http')}://127.0.0.1:{backend}"}],
            # The tables make it fail thousands of times on purpose.
            "max_fails": 0,
        }
        cluster.update(settings.pop("cluster", {}))  # type: ignore[call-overload]  # the caller's dictionary
        listener: dict[str, object] = {"endpoint": f"tcp:{self.port}:interface=127.0.0.1"}
        listener.update(settings.pop("listener", {}))  # type: ignore[call-overload]  # likewise
        config = {
            "listeners": [listener],
            "vhosts": [{"hosts": ["*"], "cluster": "c"}],
            "clusters": {"c": cluster},
            "admin": {"endpoint": f"tcp:{self.admin}:interface=127.0.0.1"},
            "access_log": {"format": "json", "path": self.access_log},
            **settings,
        }
        path = os.path.join(self.folder, "lemmy.yaml")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)  # JSON is YAML
        return [os.path.join(os.path.dirname(sys.executable), "lemmy"), "run", "--config", path]

    def ask(self, path: str) -> tuple[int, bytes]:
        """Asks the admin side: status and body."""
        link = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=LIMIT)
        try:
            link.request("GET", path)
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()

    def ready(self) -> Proxy:
        """
        Waits until the admin side says that it can serve.

        @raise AssertionError: when it ends instead, or does not in time; with its log.
        """
        end = time.monotonic() + START
        while time.monotonic() < end:
            try:
                if self.ask("/ready")[0] == 200:
                    return self
            except OSError:
                pass  # not listening yet
            try:
                # The pause between two questions ends at once when the process does.
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"lemmytx did not become ready:\n{self.lines().decode('utf-8', 'replace')}")

    def lines(self) -> bytes:
        """Its whole log."""
        with open(self.log, "rb") as file:
            return file.read()

    def trouble(self) -> bytes:
        """What was logged since the last call, if there is anything in it that should not be there; else empty."""
        with open(self.log, "rb") as file:
            file.seek(self._checked)
            new = file.read()
        self._checked += len(new)
        return new if TROUBLE.search(new) else b""

    def stats(self) -> dict[str, Any]:
        """The statistics."""
        status, body = self.ask("/stats")
        if status != 200:
            raise AssertionError(f"/stats answered {status}: {body[:200]!r}")
        stats: dict[str, Any] = json.loads(body)
        return stats

    def left(self) -> dict[str, list[int]]:
        """Those of L{COUNTERS} that are not zero. One that is nowhere in the statistics is C{[-1]}."""
        found = counters(self.stats())
        return {name: found.get(name, [-1]) for name in COUNTERS if any(found.get(name, [-1]))}

    def stop(self) -> int:
        """
        Ends it: asks, waits, and if need be insists.

        @return: its exit status.
        """
        atexit.unregister(self.stop)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(START)
            except subprocess.TimeoutExpired:
                self.process.kill()
        status = self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return status


class WireCase(SynchronousTestCase):
    """
    A test with a running proxy and a backend that does what the test says. It ends with L{assert_nothing_left}.

    @cvar settings: of the proxy, beside the usual ones.
    """

    settings: ClassVar[dict[str, object]] = {}
    _rigs: ClassVar[dict[type, tuple[Loop, Backend, Proxy]]] = {}

    def setUp(self) -> None:
        kind = type(self)
        if kind not in self._rigs:
            loop = Loop()
            backend = self.make_backend(loop)
            self._rigs[kind] = (loop, backend, Proxy(backend.port, **self.settings).ready())
        self.loop, self.backend, self.proxy = self._rigs[kind]
        self.backend.forget()
        self._settled = False

    def make_backend(self, loop: Loop) -> Backend:
        """What is behind the proxy, in a class for others than HTTP/1.1."""
        return Backend(loop)

    def tearDown(self) -> None:
        if not self._settled:
            # Whatever is left of a test that failed is not to be found by the next one.
            del self._rigs[type(self)]
            self.backend.close()
            self.proxy.stop()

    def assert_nothing_left(self) -> None:
        """No connection, exchange or count is left in the proxy, it lives, and its log holds no trouble."""
        left: dict[str, list[int]] = {}

        def settled() -> bool:
            left.clear()
            left.update(self.proxy.left())
            return not left

        self.assertIsNone(self.proxy.process.poll(), "the proxy ended")
        settled_in_time = self.loop.until(settled, step=0.02)
        self.assertTrue(settled_in_time, f"left behind: {left}")
        self.assertEqual(self.proxy.trouble(), b"")
        self._settled = True
