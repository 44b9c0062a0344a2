"""
How new connections spread over processes that listen on one address: C{python -m benchmarks.accepting}.

Three ways to listen: a socket for each (SO_REUSEPORT), one socket for all, and one socket with the turns of
L{lemmytx.net.turns}. Each is asked the same: many short connections one after the other, many at once that stay, a
trickle of one after the other that stay, and new connections while one of the processes computes. The processes are
real ones with lemmytx's reactor and ports; what they serve is one byte, so that accepting is all that is measured.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lemmytx.net.turns import Board

WAYS = {
    "reuseport": "a socket for each",
    "shared": "one socket",
    "turns": "one socket, turns",
}

#: How many connections each pattern makes, and the seconds between two that trickle or come to a busy process.
SHORT = 600
AT_ONCE = 200
TRICKLE = 80
TRICKLE_EVERY = 0.015
BUSY = 80
BUSY_EVERY = 0.015

#: For how long a process computes, in seconds.
COMPUTING = 1.5

#: How far from even is too far.
BOUND = 0.2

_PATIENCE = 10.0
_LISTEN = 4096


class Worker:
    """One of the processes, as the parent sees it."""

    def __init__(self, way: str, row: int, board: Board, listening: socket.socket) -> None:
        command = [sys.executable, "-m", "benchmarks.accepting", "--serve", way, str(row)]
        command += [str(board.fd), str(listening.fileno())]
        self.row = row
        self.process = subprocess.Popen(
            command, pass_fds=(board.fd, listening.fileno()), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ready(self) -> None:
        """Wait until it listens."""
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise SystemExit(f"a process ended with status {self.process.wait()} before it listened")

    def cpu(self) -> float:
        """Seconds that its main thread has been on a core."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.communicate()


class Clients:
    """Connections to one address, and how long each waited for its byte."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._selector = selectors.DefaultSelector()
        self._began: dict[socket.socket, float] = {}
        self.here: list[socket.socket] = []
        self.waits: list[float] = []

    def open(self) -> None:
        """Begin one more."""
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(self._address)
        self._began[client] = time.monotonic()
        self._selector.register(client, selectors.EVENT_READ)

    def look(self, seconds: float) -> None:
        """See which have got their byte, within so many seconds."""
        for key, _ in self._selector.select(max(0.0, seconds)):
            client: Any = key.fileobj
            if not client.recv(1):
                raise SystemExit("a connection was closed instead of served")
            self.waits.append(time.monotonic() - self._began.pop(client))
            self._selector.unregister(client)
            self.here.append(client)

    def settle(self) -> None:
        """Wait for all that have begun."""
        end = time.monotonic() + _PATIENCE
        while self._began:
            self.look(end - time.monotonic())
            if time.monotonic() > end:
                raise SystemExit(f"{len(self._began)} connections were not served within {_PATIENCE:g} s")

    def every(self, seconds: float, count: int) -> None:
        """Begin one after the other at fixed times."""
        start = time.monotonic()
        for number in range(count):
            while time.monotonic() < start + number * seconds:
                self.look(start + number * seconds - time.monotonic())
            self.open()
        self.settle()

    def close(self) -> None:
        """End all."""
        for client in self.here:
            client.close()
        self.here.clear()
        self._selector.close()


def short(clients: Clients) -> None:
    """Each ends before the next begins."""
    for _ in range(SHORT):
        clients.open()
        clients.settle()
        clients.here.pop().close()


def at_once(clients: Clients) -> None:
    """All begin in the same moment, and stay."""
    for _ in range(AT_ONCE):
        clients.open()
    clients.settle()


def trickle(clients: Clients) -> None:
    """Now and then one that stays."""
    clients.every(TRICKLE_EVERY, TRICKLE)


def busy(clients: Clients) -> None:
    """One process computes; the connections come now and then."""
    clients.open()
    clients.settle()
    clients.here[0].send(b"c")
    clients.waits.clear()
    clients.every(BUSY_EVERY, BUSY)


PATTERNS: dict[str, Callable[[Clients], None]] = {"short": short, "at once": at_once, "trickle": trickle, "busy": busy}


def spread(counts: Sequence[int]) -> float:
    """How far from even the farthest is, as a part of an even share."""
    even = sum(counts) / len(counts)
    return max(abs(count - even) for count in counts) / even


def row(way: str, count: int, pattern: str, port: int, board: Board, workers: list[Worker]) -> str:
    """Run one pattern; what it was like, as a line of the table."""
    before = [each.accepted for each in board.rows()]
    cpu = sum(worker.cpu() for worker in workers)
    clients = Clients(port)
    PATTERNS[pattern](clients)
    time.sleep(0.02)
    cpu = sum(worker.cpu() for worker in workers) - cpu
    counts = [each.accepted - past for each, past in zip(board.rows(), before, strict=True)]
    waits = sorted(clients.waits)
    clients.close()
    while board.connections():
        time.sleep(0.01)
    far = spread(counts)
    computes = pattern == "busy"
    return (
        f"| {WAYS[way]:<17} | {count} | {pattern:<7} | {' '.join(map(str, counts)):>15} "
        f"| {'' if computes else format(far, '.0%'):>4}{'!' if far > BOUND and not computes else ' '} "
        f"| {waits[len(waits) // 2] * 1e3:6.2f} | {waits[int(len(waits) * 0.95)] * 1e3:7.2f} | {waits[-1] * 1e3:7.1f} "
        f"| {'' if computes else format(cpu / sum(counts) * 1e6, '.0f'):>4} |"
    )


def measure(way: str, count: int) -> None:
    """All patterns for one way to listen and so many processes, printed."""
    board = Board(count)
    listening: list[socket.socket] = []
    for _ in range(count if way == "reuseport" else 1):
        created = socket.socket()
        created.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, way == "reuseport")
        created.bind(listening[0].getsockname() if listening else ("127.0.0.1", 0))
        created.listen(_LISTEN)
        created.setblocking(False)
        listening.append(created)
    port = listening[0].getsockname()[1]
    workers: list[Worker] = []
    try:
        for number in range(count):
            workers.append(Worker(way, number, board, listening[number % len(listening)]))
        for worker in workers:
            worker.ready()
        for created in listening:
            # Else what comes to one whose process has not taken it over would wait for ever.
            created.close()
        for pattern in PATTERNS:
            print(row(way, count, pattern, port, board, workers), flush=True)
    finally:
        for worker in workers:
            worker.stop()
        board.close()


def serve(way: str, number: int, board_fd: int, fd: int) -> None:
    """Be one of the processes: a byte for whoever connects, and a long computation for whoever asks."""
    from lemmytx.net import reactor as own

    own.install()
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    from lemmytx.net.network import Network
    from lemmytx.net.turns import Turns

    running: Any = reactor
    turns = Turns(Board(fd=board_fd), number, running)
    present = 0

    class Byte(Protocol):
        def connectionMade(self) -> None:
            nonlocal present
            present += 1
            turns.connected(present)
            if way != "turns":
                turns.accepted()
            assert self.transport is not None
            self.transport.write(b".")

        def dataReceived(self, data: bytes) -> None:
            end = time.monotonic() + COMPUTING
            while time.monotonic() < end:
                pass

        def connectionLost(self, reason: object = None) -> None:
            nonlocal present
            present -= 1
            turns.connected(present)

    factory = Factory.forProtocol(Byte)
    factory.noisy = False
    port: Any = Network(running).adoptStreamPort(fd, socket.AF_INET, factory)
    if way == "turns":
        port.share(turns)
    os.close(fd)
    running.callWhenRunning(print, "listening", flush=True)
    running.run()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accepting", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4], help="how many processes")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        way, *numbers = arguments.serve
        serve(way, *map(int, numbers))
        return
    print(f"{len(os.sched_getaffinity(0))} cores; far: the farthest from even; waits for the first byte in ms")
    print("| way               | N | pattern |        accepted |   far | median |    95 % | longest |  µs* |")
    print("|-------------------|---|---------|-----------------|-------|--------|---------|---------|------|")
    for count in arguments.workers:
        for way in arguments.ways:
            measure(way, count)
    print("*: CPU of all processes for each connection")


if __name__ == "__main__":
    main()
