"""
The clients: wrk for rates and CPU, and our own for what wrk cannot do: many idle connections, slow peers.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import Failed
from benchmarks.peers import ANSWER

_SCRIPT = Path(__file__).with_name("wrk.lua")

#: A request head as a browser sends it: with Host, 11 fields.
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate, br",
    "Referer: http://shop.example/catalogue/page/12?sort=price",
    "Connection: keep-alive",
    "Cookie: visitor=5f0c6c1e8a2b4d77; basket=eyJpdGVtcyI6WzEyLDE1XX0; theme=dark",
    "Upgrade-Insecure-Requests: 1",
    "Cache-Control: max-age=0",
    "DNT: 1",
)

#: How long one read or write of ours may take, in seconds: a proxy that stalls ends the case, not the run.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Burst:
    """
    What one run of wrk saw.

    @ivar requests: answers that came whole.
    @ivar seconds: how long it ran.
    @ivar size: bytes received, those of unfinished answers included.
    @ivar p50: median latency, in milliseconds.
    @ivar p99: of which one answer in a hundred took longer, in milliseconds.
    @ivar failed: connections or answers that went wrong; above 0 the other figures are not to be trusted.
    """

    requests: int
    seconds: float
    size: int
    p50: float
    p99: float
    failed: int


def wrk(port: int, core: str, path: str, connections: int, seconds: float, fields: tuple[str, ...] = ()) -> Burst:
    """Run wrk with one thread on a core."""
    command = ["taskset", "-c", core, "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    command += ["--timeout", "20s", "-s", str(_SCRIPT)]
    for line in ("Host: bench.example", *fields):
        command += ["-H", line]
    command.append(f"http://127.0.0.1:{port}{path}")
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    for line in ran.stdout.splitlines():
        if line.startswith("measured "):
            seen = json.loads(line.removeprefix("measured "))
            return Burst(
                seen["requests"], seen["microseconds"] / 1e6, seen["bytes"], seen["p50"] / 1e3, seen["p99"] / 1e3,
                seen["failed"],
            )  # fmt: skip
    raise Failed(f"wrk ended with status {ran.returncode} and no figures: {ran.stderr.strip() or ran.stdout.strip()}")


def get(client: socket.socket) -> None:
    """One small GET on an open connection, answered in full."""
    client.sendall(b"GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n")
    seen = b""
    while ANSWER not in seen:
        data = client.recv(4096)
        if not data:
            raise Failed(f"a connection was closed instead of answered, after {seen!r}")
        seen += data


@contextlib.contextmanager
def idle(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections with one answered request on each, left open for the body."""
    clients: list[socket.socket] = []
    try:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
            clients.append(client)
            get(client)
        yield clients
    finally:
        for client in clients:
            client.close()


class _Throttle:
    """Sleeps as needed to keep a stream at a rate."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._started = time.monotonic()
        self._size = 0

    def passed(self, size: int) -> None:
        """So many bytes more went through."""
        self._size += size
        ahead = self._size / self._rate - (time.monotonic() - self._started)
        if ahead > 0.002:
            time.sleep(ahead)


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    """A message's head without its empty line, and what of the body came with it; empty at the end."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        data = connection.recv(4096)
        if not data:
            return b"", b""
        seen += data
    head, _, rest = seen.partition(b"\r\n\r\n")
    return head, rest


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def download(port: int, path: str, rate: float) -> int:
    """Read a large body slowly with a small receive buffer; return how many bytes came."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(_PATIENCE)
        client.connect(("127.0.0.1", port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: bench.example\r\n\r\n".encode())
        head, rest = _head(client)
        return len(rest) + _drain(client, _length(head) - len(rest), rate)


def _drain(connection: socket.socket, wanted: int, rate: float) -> int:
    throttle, buffer, received = _Throttle(rate), bytearray(262144), 0
    while received < wanted:
        size = connection.recv_into(buffer, min(len(buffer), wanted - received))
        if not size:
            break
        received += size
        throttle.passed(size)
    return received


def upload(port: int, size: int) -> int:
    """Send a large body as fast as it is taken; return how many bytes the far end says it got."""
    piece = memoryview(bytes(262144))
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as client:
        client.sendall(f"PUT /sink HTTP/1.1\r\nHost: bench.example\r\nContent-Length: {size}\r\n\r\n".encode())
        left = size
        while left:
            left -= client.send(piece[: min(left, len(piece))])
        head, rest = _head(client)
        while len(rest) < _length(head):
            rest += client.recv(4096)
        if b" 200 " not in head:
            raise Failed(f"an upload was answered with {head[:100]!r}")
        return int(rest)


class Sink:
    """A backend that takes request bodies slowly, with a small receive buffer, and answers with their size."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(64)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while True:
                head, rest = _head(connection)
                if not head:
                    return
                wanted = _length(head)
                body = b"%d" % (len(rest) + _drain(connection, wanted - len(rest), self._rate)) if wanted else ANSWER
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def close(self) -> None:
        """Take no further connections."""
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        self._listening.close()
