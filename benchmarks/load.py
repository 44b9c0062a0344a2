"""
The clients: wrk for rates and CPU, h2load for those over HTTP/2, C{openssl s_time} for handshakes, and our own for what
they cannot do: many idle connections, slow peers.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.doors import PLAIN, Door
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
    What one run of a client saw.

    @ivar requests: answers that came whole.
    @ivar seconds: how long it ran.
    @ivar size: bytes received, those of unfinished answers included.
    @ivar p50: median latency, in milliseconds; 0 where the client does not say.
    @ivar p99: of which one answer in a hundred took longer, in milliseconds; 0 as well.
    @ivar failed: connections or answers that went wrong; above 0 the other figures are not to be trusted.
    """

    requests: int
    seconds: float
    size: int
    p50: float
    p99: float
    failed: int


def wrk(
    port: int, core: str, path: str, connections: int, seconds: float, fields: tuple[str, ...] = (), door: Door = PLAIN
) -> Burst:
    """Run wrk with one thread on a core."""
    command = ["taskset", "-c", core, "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    command += ["--timeout", "20s", "-s", str(_SCRIPT)]
    for line in ("Host: bench.example", *fields):
        command += ["-H", line]
    command.append(door.url(port) + path)
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    for line in ran.stdout.splitlines():
        if line.startswith("measured "):
            seen = json.loads(line.removeprefix("measured "))
            return Burst(
                seen["requests"], seen["microseconds"] / 1e6, seen["bytes"], seen["p50"] / 1e3, seen["p99"] / 1e3,
                seen["failed"],
            )  # fmt: skip
    raise Failed(f"wrk ended with status {ran.returncode} and no figures: {ran.stderr.strip() or ran.stdout.strip()}")


_H2LOAD = re.compile(
    r"finished in ([\d.]+)(m?s),.*?(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout"
    r".*?traffic: .*?\((\d+)\) total",
    re.DOTALL,
)


def h2load(port: int, core: str, connections: int, streams: int, seconds: float, door: Door) -> Burst:
    """Run h2load with one thread on a core: so many streams at once on each connection."""
    command = ["taskset", "-c", core, "h2load", "-t1", f"-c{connections}", f"-m{streams}"]
    command += [f"-D{max(1, round(seconds))}", door.url(port) + "/"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    found = _H2LOAD.search(ran.stdout)
    if found is None:
        said = ran.stderr.strip() or ran.stdout[-300:]
        raise Failed(f"h2load ended with status {ran.returncode} and no figures: {said}")
    took = float(found[1]) / (1000 if found[2] == "ms" else 1)
    done, succeeded, failed, errored, timeout, size = (int(value) for value in found.groups()[2:])
    return Burst(succeeded, took, size, 0, 0, done - succeeded + failed + errored + timeout)


_S_TIME = re.compile(r"(\d+) connections in \d+ real seconds, (\d+) bytes read per connection")


def handshakes(port: int, core: str, clients: int, seconds: float) -> Burst:
    """
    New TLS connections with one request on each and never a session that is resumed, which wrk does not let itself be
    kept from: C{openssl s_time}, several of them on one core, each with one connection at a time.
    """
    command = ["taskset", "-c", core, "openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-www", "/"]
    command += ["-time", str(max(1, round(seconds)))]
    began = time.monotonic()
    running: list[subprocess.Popen[str]] = []
    try:
        for _ in range(clients):
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        said = [client.communicate(timeout=seconds + 60)[0] for client in running]
    except subprocess.TimeoutExpired:
        raise Failed(f"openssl s_time did not end within {seconds + 60:.0f} s") from None
    finally:
        for client in running:
            if client.poll() is None:
                client.kill()
                client.wait()
    took = time.monotonic() - began
    count = size = failed = 0
    for client, text in zip(running, said, strict=True):
        found = _S_TIME.search(text)
        if found is None:
            raise Failed(f"openssl s_time ended with status {client.returncode} and no figures: {text[-300:]}")
        count += int(found[1])
        size += int(found[1]) * int(found[2])
        failed += client.returncode != 0 or int(found[2]) < len(ANSWER)
    return Burst(count, took, size, 0, 0, failed)


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
def idle(port: int, count: int, door: Door = PLAIN) -> Iterator[list[socket.socket]]:
    """Connections with one answered request on each, left open for the body."""
    clients: list[socket.socket] = []
    try:
        for _ in range(count):
            client = door.connect(port, _PATIENCE)
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
