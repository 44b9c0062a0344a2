"""lemmytx as the drills run it: with a configuration that changes, watched by its log, its admin side and C{/proc}."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.drills.watch import Sight, client_ports, look, of_session, state
from benchmarks.machine import Failed, free_port

#: Seconds that a start, a reload, an upgrade or an end may take, on a machine that is busy with the load.
PATIENCE = 60.0


class _Unix(http.client.HTTPConnection):
    """To a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Called by the library."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def until(what: str, condition: Callable[[], bool], seconds: float = PATIENCE, pause: float = 0.01) -> float:
    """
    Look again and again.

    @return: how many seconds it took.
    @raise Failed: it did not come to that.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(pause)
    return time.monotonic() - began


class Instance:
    """
    One lemmytx, with all of its processes, and those that an upgrade puts in its place.

    @ivar port: of the listener that is always there.
    @ivar second: of one that some configurations have.
    @ivar admin: the unix socket of its admin side.
    @ivar pid: of the process that signals go to.
    """

    def __init__(self, folder: Path, workers: int, origins: list[int], delay: float, drain: float) -> None:
        """
        @param folder: where it runs.
        @param origins: the ports of the backends, five of them.
        @param delay: seconds from SIGTERM until listeners close.
        @param drain: seconds that exchanges get to end.
        """
        folder.mkdir()
        self._folder = folder
        self._workers = workers
        self._origins = origins
        self._delay = delay
        self._drain = drain
        self.port = free_port()
        self.second = free_port()
        self.admin = str(folder / "admin")
        self.pid = 0
        self._log = folder / "log"
        self._sessions: list[subprocess.Popen[bytes]] = []

    # Configurations

    def configuration(self, kind: int) -> dict[str, Any]:
        """One of three that differ in routes, backends, weights, timeouts, networks and listeners."""
        urls = [f"http://127.0.0.1:{port}" for port in self._origins]
        one, two, three, four, five = ({"url": url} for url in urls)
        main: dict[str, Any] = {"backends": [one, two]}
        routes: list[dict[str, Any]] = [
            {"path": "/socket", "cluster": "sockets"},
            {"path": "/large", "cluster": "large"},
            {"cluster": "main"},
        ]
        listeners: list[dict[str, Any]] = [{"endpoint": f"tcp:{self.port}:interface=127.0.0.1"}]
        large = [one, four]
        keepalive = 60
        if kind == 1:
            main = {"backends": [one, {**two, "weight": 3}, four], "scheduler": "round_robin"}
            routes.insert(0, {"path": "/extra/*", "cluster": "extra"})
            keepalive = 55
            large = [one]
        elif kind == 2:
            main = {"backends": [two, four], "timeouts": {"read": 29}}
            listeners[0]["trusted_proxies"] = ["10.0.0.0/8"]
            listeners.append({"endpoint": f"tcp:{self.second}:interface=127.0.0.1"})
            large = [four]
        return {
            "workers": self._workers,
            "listeners": listeners,
            "vhosts": [{"hosts": ["*"], "routes": routes}],
            "clusters": {
                "main": main,
                "extra": {"backends": [five]},
                "sockets": {"backends": [three]},
                "large": {"backends": large},
            },
            "admin": {"endpoint": f"unix:{self.admin}"},
            "access_log": {"path": str(self._folder / "access"), "format": "json"},
            "timeouts": {"drain": self._drain, "keepalive": keepalive},
            "shutdown": {"delay": self._delay},
        }

    def write(self, kind: int) -> None:
        """Put a configuration where the next reload or start finds it."""
        path = self._folder / "lemmy.yaml"
        new = self._folder / "lemmy.yaml.new"
        new.write_text(json.dumps(self.configuration(kind)))  # JSON is YAML
        new.rename(path)

    def works_by(self, kind: int) -> str:
        """
        Whether what serves is this configuration, seen from outside: by a route and by a listener.

        @return: empty, or what is not so.
        """
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as client:
            client.request("GET", "/extra/check")
            answered = client.getresponse().read().split()[0]
        extra = answered == str(self._origins[4]).encode()
        if extra != (kind == 1):
            return f"/extra/* {'is' if extra else 'is not'} routed to its cluster under configuration {kind}"
        with contextlib.closing(socket.socket()) as probe:
            listens = probe.connect_ex(("127.0.0.1", self.second)) == 0
        if listens != (kind == 2):
            return f"the second listener is {'open' if listens else 'closed'} under configuration {kind}"
        return ""

    # What runs

    def start(self) -> float:
        """
        Start it, with the configuration that was written last.

        @return: seconds until it was ready.
        """
        with self._log.open("ab") as output:
            # A session of its own: what an upgrade leaves behind is found by it, and Ctrl-C reaches the drills alone.
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("lemmy")), "run", "--config", str(self._folder / "lemmy.yaml")],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._sessions.append(process)
        self.pid = process.pid
        return until("the start", lambda: self._lives(process) and self.ready())

    def _lives(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise Failed(f"lemmytx ended with status {process.returncode}: {self.tail()}")
        return True

    def signal(self, number: int) -> None:
        """Send it one."""
        os.kill(self.pid, number)

    def gone(self, pid: int) -> bool:
        """Whether a process has ended. One that we started is asked for its end, too."""
        for process in self._sessions:
            if process.pid == pid:
                return process.poll() is not None
        return not state(pid)

    def replaced(self, old: int) -> bool:
        """Whether the admin side is another process than it was; if so, that is the one to signal from now on."""
        try:
            pid = int(self.stats()["pid"])
        except (OSError, http.client.HTTPException, Failed):
            return False
        if pid == old:
            return False
        self.pid = pid
        return True

    def close(self) -> None:
        """End whatever is left of it, all sessions of it."""
        for process in self._sessions:
            for pid in of_session(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    # What it says

    def ask(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """Ask its admin side: status and body."""
        with contextlib.closing(_Unix(self.admin)) as client:
            fields = {} if method == "GET" else {"Content-Type": "application/json"}
            client.request(method, path, headers=fields)
            answer = client.getresponse()
            return answer.status, answer.read()

    def ready(self) -> bool:
        """Whether it says so."""
        try:
            return self.ask("/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def stats(self) -> dict[str, Any]:
        """
        Its statistics.

        @raise Failed: it gives none.
        """
        status, body = self.ask("/stats")
        if status != 200:
            raise Failed(f"/stats answered {status}: {body[:200]!r}")
        found: dict[str, Any] = json.loads(body)
        return found

    def workers(self) -> dict[int, int]:
        """Process ids of its workers, by number; empty when it has none."""
        return {int(row["id"]): int(row["pid"]) for row in self.stats().get("workers", ()) if row["pid"]}

    def age(self, number: int) -> float:
        """For how long a worker has lived, in seconds."""
        return next(float(row["uptime_sec"]) for row in self.stats()["workers"] if row["id"] == number)

    def sights(self) -> list[Sight]:
        """Every process of it."""
        workers = self.workers()
        found = [look("parent" if workers else "process", self.pid)]
        return found + [look(f"worker {number}", pid) for number, pid in sorted(workers.items())]

    def clients_of(self, pid: int) -> set[int]:
        """The ports of the clients whose connections one of its processes holds."""
        return client_ports(pid, self.port) | client_ports(pid, self.second)

    @property
    def logged(self) -> int:
        """How many bytes its log has."""
        return self._log.stat().st_size

    def log(self, since: int = 0) -> str:
        """Its log, from a byte on."""
        with self._log.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    def tail(self) -> str:
        """The last lines of its log."""
        return " / ".join(self.log().splitlines()[-6:])
