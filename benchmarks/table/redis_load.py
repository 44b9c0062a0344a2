"""
What a large table in Redis costs: C{python -m benchmarks.table.redis_load [VHOSTS [BACKENDS]]}.

Starts a redis-server of its own, fills it, opens one store and loads: everything, nothing changed, a hundred changed
backends. For each: the time it took, CPU of this process and of Redis, and the longest that the reactor was held, as
CPU time between two beats of a timer (so that other programs on the machine do not count).
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from lemmytx.store.place import Place
from lemmytx.store.redis.said import command
from lemmytx.store.redis.store import RedisStore
from lemmytx.table import Report, Table


class Server:
    """A redis-server on loopback."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="redis")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        program = shutil.which("redis-server")
        assert program is not None, "there is no redis-server on the PATH"
        arguments = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                self.connection = socket.create_connection(("127.0.0.1", self.port))
                break
            except OSError:
                time.sleep(0.01)

    def send(self, commands: list[tuple[str, ...]]) -> None:
        """Send many commands; none may be refused."""
        for at in range(0, len(commands), 1000):
            part = commands[at : at + 1000]
            self.connection.sendall(b"".join(command(*(word.encode() for word in one)) for one in part))
            said = b""
            while said.count(b"\r\n") < len(part):
                said += self.connection.recv(1 << 16)
            assert b"-" not in said[:1], said

    def cpu(self) -> float:
        """Seconds that it has used."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def remove(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


class Beats:
    """The longest time between two beats."""

    def __init__(self, clock: Any) -> None:
        self.longest = 0.0
        self._clock = clock
        self._last = time.thread_time()
        self._going = True
        self._beat()

    def _beat(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        if self._going:
            self._clock.callLater(0.0005, self._beat)

    def stop(self) -> float:
        """@return: it, in seconds."""
        self._going = False
        return self.longest


async def measure(clock: Any, vhosts: int, backends: int) -> None:
    """Print a line for each."""
    server = Server()
    try:
        names = [f"shop-{n}.example" for n in range(vhosts)]
        commands: list[tuple[str, ...]] = []
        for n, name in enumerate(names):
            commands.append(("SADD", "lemmy:vhosts", name))
            members = (("0", f"10.{n % 250}.{n // 250}.{m}:8080") for m in range(backends))
            commands.append(("ZADD", f"lemmy:backends:{name}", *(word for pair in members for word in pair)))
        server.send(commands)
        store = RedisStore(Place(clock, "."), f"redis://127.0.0.1:{server.port}/0", vhost_refresh_rate=60)
        await store.open(lambda: None, lambda hint: None)
        print(f"{vhosts} vhosts, {backends} backends each; ms")
        print(f"{'':34}{'time':>8}{'CPU':>8}{'Redis':>8}{'held':>8}")
        table = Table()

        async def timed(what: str, again: bool = True) -> None:
            nonlocal table
            for beating in (False, True) if again else (True,):
                redis, mine, began = server.cpu(), time.process_time(), time.perf_counter()
                beats = Beats(clock) if beating else None
                if what == "publish":
                    await store.publish(report)
                else:
                    table = await store.load(table)
                took, used = time.perf_counter() - began, time.process_time() - mine
                if beats is None:
                    figures = took, used, server.cpu() - redis
                else:
                    held = beats.stop()
                    if not again:
                        figures = took, used, server.cpu() - redis
            print(f"{what:34}" + "".join(f"{1000 * figure:8.1f}" for figure in (*figures, held)))

        report = Report()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await timed("first load", again=False)
        print(f"memory: {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f} MB")
        await timed("nothing changed")
        await deferLater(clock, 0.2)
        server.send([("ZADD", f"lemmy:backends:{name}", "0", "10.255.0.1:80") for name in names[:100]])
        await timed("100 changed, not announced", again=False)
        server.send([("ZADD", f"lemmy:backends:{name}", "0", "10.255.0.2:80") for name in names[:100]])
        server.send([("PUBLISH", "lemmy:changes", name) for name in names[:100]])
        await deferLater(clock, 0.2)
        await timed("100 changed, announced", again=False)
        firsts = {name: table.vhosts[name].members[0].text for name in names}
        report = Report({(name, firsts[name]): 3 for name in names[:1000]}, frozenset(names[:1000]))
        await timed("publish")
        assert sum(len(entry.members) for entry in table.vhosts.values()) == vhosts * backends + 200
        await store.close()
    finally:
        server.remove()


def main(clock: Any, vhosts: str = "10000", backends: str = "10") -> Deferred[None]:
    """See the module."""
    return Deferred.fromCoroutine(measure(clock, int(vhosts), int(backends)))


if __name__ == "__main__":
    assert reactor is not None
    react(main, sys.argv[1:])
