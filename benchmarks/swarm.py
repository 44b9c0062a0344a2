"""
C{python -m benchmarks.swarm}: instances that share a table in Redis start and die at random, under load; at the end
every score is zero, and while some live, the scores are what they have in flight.

Half of them are ended with SIGTERM, half with SIGKILL. Everything is on loopback and ends by itself.
"""

from __future__ import annotations

import argparse
import http.client
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.machine import Failed, free_port

#: Seconds that a backend takes for an answer, so that there is something in flight.
SLOW = 0.2

#: Seconds without a sign of life until an instance counts as dead.
LEASE = 3.0

#: The vhosts of the table, each with both backends.
VHOSTS = ("a.example", "b.example")

CONFIGURATION = """
listeners: [{{endpoint: "tcp:{port}:interface=127.0.0.1"}}]
store: {{type: redis, url: "redis://127.0.0.1:{redis}/0", vhost_refresh_rate: 1, lease: {lease}}}
admin: {{endpoint: "unix:{folder}/admin"}}
access_log: {{format: off}}
"""


class _Answer(BaseHTTPRequestHandler):
    """A backend that takes its time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Called by the standard library."""
        time.sleep(SLOW)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def log_message(self, format: str, *arguments: object) -> None:
        """Called by the standard library: it need not tell."""


class _Backend(ThreadingHTTPServer):
    """Whoever asks may be killed in the middle of it."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Called by the standard library."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it came


class Redis:
    """A server with the table, asked by C{redis-cli} as an operator would."""

    def __init__(self, folder: Path) -> None:
        for program in ("redis-server", "redis-cli"):
            if shutil.which(program) is None:
                raise Failed(f"there is no program {program}")
        self.port = free_port()
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, *words: str) -> list[str]:
        """
        @return: the lines of the answer.
        """
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.split("\n")[:-1]

    def scores(self) -> dict[tuple[str, str], int]:
        """By vhost and member."""
        found = {}
        for vhost in VHOSTS:
            lines = self.ask("ZRANGE", f"lemmy:backends:{vhost}", "0", "-1", "WITHSCORES")
            found.update({(vhost, member): int(score) for member, score in zip(lines[::2], lines[1::2], strict=True)})
        return found

    def end(self) -> None:
        """It is our child."""
        self.process.kill()
        self.process.wait()


class Instance:
    """One lemmytx, and a client that keeps some requests in flight on it."""

    def __init__(self, folder: Path, redis: int, clients: int) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        self.answers: dict[int, int] = {}
        file = folder / "lemmy.yaml"
        file.write_text(CONFIGURATION.format(port=self.port, redis=redis, lease=LEASE, folder=folder))
        lemmy = str(Path(sys.executable).with_name("lemmy"))
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([lemmy, "run", "--config", str(file)], stdout=log, stderr=log)
        self._over = False
        self._threads = [threading.Thread(target=self._load, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def serves(self) -> bool:
        """Whether it has the table."""
        return 200 in self.answers

    def _load(self, number: int) -> None:
        vhost = VHOSTS[number % len(VHOSTS)]
        while not self._over:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                while not self._over:
                    connection.request("GET", "/", headers={"Host": vhost})
                    response = connection.getresponse()
                    response.read()
                    self.answers[response.status] = self.answers.get(response.status, 0) + 1
                    if response.status != 200:
                        time.sleep(0.1)  # not ready yet
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)  # it starts, or it is gone
            finally:
                connection.close()

    def quiet(self) -> None:
        """Nothing is asked any more."""
        self._over = True
        for thread in self._threads:
            thread.join()

    def end(self, kind: signal.Signals) -> None:
        """With its clients."""
        self.process.send_signal(kind)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"an instance did not end: {self.log.read_text()[-2000:]}") from None
        finally:
            self.quiet()


def _until(what: str, condition: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


class Swarm:
    """Redis, two backends, and the instances. A context manager."""

    def __init__(self, folder: Path, clients: int = 3, seed: int = 1) -> None:
        """
        @param folder: for files, empty.
        @param clients: of each instance.
        """
        self._folder = folder
        self._clients = clients
        self._random = random.Random(seed)
        self._begun = 0
        self.living: list[Instance] = []
        self.endings = {signal.SIGTERM: 0, signal.SIGKILL: 0}
        self.answers: dict[int, int] = {}
        self.redis = Redis(folder)
        self._backends = [_Backend(("127.0.0.1", 0), _Answer) for _ in range(2)]

    def __enter__(self) -> Swarm:
        for backend in self._backends:
            threading.Thread(target=backend.serve_forever, daemon=True).start()
        _until("Redis answers", lambda: self.redis.ask("PING") == ["PONG"], 10)
        for vhost in VHOSTS:
            self.redis.ask("SADD", "lemmy:vhosts", vhost)
            for backend in self._backends:
                self.redis.ask("ZADD", f"lemmy:backends:{vhost}", "0", f"127.0.0.1:{backend.server_port}")
        return self

    def __exit__(self, *raised: object) -> None:
        for instance in self.living:
            instance.process.kill()
            instance.process.wait()
            instance.quiet()
        for backend in self._backends:
            backend.shutdown()
            backend.server_close()
        self.redis.end()

    def begin(self) -> None:
        """One more."""
        self._begun += 1
        self.living.append(Instance(self._folder / str(self._begun), self.redis.port, self._clients))

    def end(self, instance: Instance, kind: signal.Signals) -> None:
        """One less."""
        self.living.remove(instance)
        instance.end(kind)
        self.endings[kind] += 1
        self._count(instance)

    def _count(self, instance: Instance) -> None:
        for status, count in instance.answers.items():
            self.answers[status] = self.answers.get(status, 0) + count

    def storm(self, count: int, seconds: float) -> None:
        """So many at a time, for so long: each lives for 5 to 35 s on the average, and is replaced."""
        while len(self.living) < count:
            self.begin()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(20 / count)
            instance = self._random.choice(self.living)
            self.end(instance, self._random.choice([signal.SIGTERM, signal.SIGKILL]))
            self.begin()

    def settle(self) -> float:
        """
        Nobody asks any more, and all but one are killed.

        @return: seconds until every score is zero.
        """
        _until("an instance serves", lambda: any(map(Instance.serves, self.living)), 30)
        survivor = next(filter(Instance.serves, self.living))
        while self.busiest() == 0:  # what is killed now has something in flight
            time.sleep(0.05)
        for instance in [one for one in self.living if one is not survivor]:
            self.end(instance, signal.SIGKILL)
        survivor.quiet()
        return _until(f"every score is zero: {self.redis.scores()}", lambda: self.busiest() == 0, 4 * LEASE)

    def busiest(self) -> int:
        """The score that is farthest from zero."""
        return max(map(abs, self.redis.scores().values()))

    def true(self) -> bool:
        """Whether the scores come to what the clients of all that live have in flight."""
        return 0 <= sum(self.redis.scores().values()) <= len(self.living) * self._clients


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip())
    parser.add_argument("--instances", type=int, default=20, help="how many live at a time")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long they come and go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lemmytx-swarm-") as folder, Swarm(Path(folder)) as swarm:
        swarm.storm(arguments.instances, arguments.seconds)
        sensible = swarm.true()
        took = swarm.settle()
        ended = f"{swarm.endings[signal.SIGTERM]} by SIGTERM, {swarm.endings[signal.SIGKILL]} by SIGKILL"
        print(f"{swarm._begun} instances began, {sum(swarm.endings.values())} ended ({ended})")
        print("answers: " + ", ".join(f"{count} × {status}" for status, count in sorted(swarm.answers.items())))
        print(f"the scores were {'' if sensible else 'NOT '}within what was in flight")
        print(f"every score was zero {took:.1f} s after the last was killed (lease: {LEASE:g} s)")
    return 0 if sensible else 1


if __name__ == "__main__":
    socket.setdefaulttimeout(10)
    sys.exit(main())
