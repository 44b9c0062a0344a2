"""
Classes under load: whether a bucket keeps its share when everybody wants more than there is.

C{python -m benchmarks.classes} starts four backends that take ten requests at one time and 0.2 to 0.6 s for each, so
100 requests a second, and a lemmytx with the buckets C{vip} (20 %, at most 40 %) and C{main} (80 %) in front of them.
Then clients ask, on time and however long answers take:

  1. both classes, each for three times what the cluster can do;
  2. C{main} for three times as much, C{vip} for three quarters of what it is ensured.

What counts is what lemmytx's own access log says of each request: its class, status and time in the queue. It takes
less than a minute; the exit status says whether the shares were kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import Failed, free_port

BACKENDS = 4
CAPACITY = 10

#: Seconds for a request, on the average; half as much more or less, lest all end together.
SERVICE = 0.4

#: Places in each queue: more than there are tokens, so that as many may end at once and each finds somebody to go on.
LIMIT = 40

#: Requests a second that the whole can do.
WHOLE = BACKENDS * CAPACITY / SERVICE

SHARE = {"vip": 0.2, "main": 0.8}

#: Seconds of load before it counts, and while it does.
WARMING = 4.0
LASTING = 15.0

#: The phases: how many requests a second of each class, as a multiple of what the cluster can do.
PHASES = (("both at three times", {"vip": 3.0, "main": 3.0}), ("vip within its share", {"vip": 0.15, "main": 3.0}))

#: How much more or less than its share a class may have had: 5 % of it.
TOLERANCE = 0.05

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Backend(asyncio.Protocol):
    """Takes its time for each request, and none more than it should have at one time."""

    busy = 0
    most = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """A request, which is in one piece since it has no body."""
        Backend.busy += 1
        Backend.most = max(Backend.most, Backend.busy)
        asyncio.get_running_loop().call_later(SERVICE * random.uniform(0.5, 1.5), self._answer)

    def _answer(self) -> None:
        Backend.busy -= 1
        assert isinstance(self.transport, asyncio.Transport)
        if not self.transport.is_closing():
            self.transport.write(_ANSWER)


async def serve(ports: list[int]) -> None:
    """The backends, until our parent has enough."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(Backend, "127.0.0.1", port)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(Backend.most, flush=True)


class Client(asyncio.Protocol):
    """A connection that is used again for whoever wants one."""

    def __init__(self, idle: deque[Client]) -> None:
        self._idle = idle
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """An answer, or a part of it."""
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if end:
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if len(body) >= length:
                self._got = b""
                self._idle.append(self)

    def connection_lost(self, reason: Exception | None) -> None:
        """It is over."""
        with contextlib.suppress(ValueError):
            self._idle.remove(self)


async def ask(port: int, wanted: dict[str, float], seconds: float) -> None:
    """
    Requests at a steady rate, each when its time has come.

    @param wanted: requests a second, by class.
    """
    loop = asyncio.get_running_loop()
    idle: deque[Client] = deque()
    began = loop.time()
    sent = dict.fromkeys(wanted, 0)

    async def one(name: str) -> None:
        if idle:
            client = idle.pop()
        else:
            _, client = await loop.create_connection(lambda: Client(idle), "127.0.0.1", port)
        client.transport.write(b"GET /%b HTTP/1.1\r\nHost: a.example\r\n\r\n" % name.encode())

    tasks: set[asyncio.Task[None]] = set()
    while (now := loop.time() - began) < seconds:
        for name, rate in wanted.items():
            while sent[name] < now * rate:
                sent[name] += 1
                task = loop.create_task(one(name))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.005)
    # Whoever closed a connection now would leave a backend busy with what nobody wants.
    await asyncio.sleep(LIMIT / min(SHARE.values()) / WHOLE + 2 * SERVICE)
    for client in list(idle):
        client.transport.close()


@contextlib.contextmanager
def lemmytx(folder: Path, ports: list[int]) -> Iterator[tuple[int, Path]]:
    """One that runs, its port and its access log."""
    port, log = free_port(), folder / "access.log"
    configuration = {
        "listeners": [{"endpoint": f"tcp:{port}:interface=127.0.0.1"}],
        "vhosts": [{"hosts": ["*"], "routes": [{"path": "/vip", "cluster": "c", "bucket": "vip"}, {"cluster": "c"}]}],
        "clusters": {
            "c": {
                "backends": [{"url": f"http://127.0.0.1:{each}", "capacity": CAPACITY} for each in ports],
                "buckets": {"vip": {"rate": "20%", "ceil": "40%"}, "main": {"rate": "80%"}},
                "queue": {"limit": LIMIT},
                "retry": {"attempts": 1},
            }
        },
        "admin": {"endpoint": f"unix:{folder / 'admin'}"},
        "access_log": {"path": str(log), "format": "json"},
    }
    file = folder / "lemmy.yaml"
    file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
    command = [str(Path(sys.executable).with_name("lemmy")), "run", "--config", str(file)]
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 20
        while not os.path.exists(folder / "admin"):
            if process.poll() is not None or time.monotonic() > until:
                raise Failed(f"lemmytx does not run: {(folder / 'output').read_text()}")
            time.sleep(0.05)
        yield port, log
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def quantile(values: list[float], share: float) -> float:
    """One of the values, in seconds; 0 when there are none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def report(title: str, records: list[dict[str, object]], load: dict[str, float]) -> dict[str, tuple[int, float]]:
    """
    Print what a phase came to.

    @return: by class: requests that were served, and the 99th percentile of their time in the queue.
    """
    print(f"\n{title}")
    print(f"  {'class':6}{'asked/s':>9}{'served/s':>10}{'share':>8}{'503':>7}{'504':>7}{'queue p50':>11}{'p99':>9}")
    found = {}
    served = sum(record["status"] == 200 for record in records)
    for name in SHARE:
        mine = [record for record in records if record["target"] == f"/{name}"]
        good = [max(0.0, float(str(record["queue_time"] or 0))) for record in mine if record["status"] == 200]
        found[name] = len(good), quantile(good, 0.99)
        refused, late = (sum(record["status"] == status for record in mine) for status in (503, 504))
        print(
            f"  {name:6}{load[name]:9.0f}{len(good) / LASTING:10.1f}{len(good) / max(1, served):8.1%}{refused:7}"
            f"{late:7}{quantile(good, 0.5):9.3f} s{found[name][1]:7.3f} s"
        )
    return found


def main() -> int:
    """Run it."""
    if sys.argv[1:2] == ["--backends"]:
        asyncio.run(serve([int(port) for port in sys.argv[2:]]))
        return 0
    ports = [free_port() for _ in range(BACKENDS)]
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        backends = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.classes", "--backends", *map(str, ports)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert backends.stdin is not None
        assert backends.stdout is not None
        try:
            backends.stdout.readline()
            with lemmytx(Path(name), ports) as (port, log):
                print(
                    f"{BACKENDS} backends of capacity {CAPACITY}, {SERVICE} s for each request: {WHOLE:.0f} requests/s"
                )
                for title, load in PHASES:
                    wanted = {each: share * WHOLE for each, share in load.items()}

                    async def phase(port: int = port, wanted: dict[str, float] = wanted) -> tuple[int, int]:
                        running = asyncio.create_task(ask(port, wanted, WARMING + LASTING))
                        await asyncio.sleep(WARMING)
                        first = os.path.getsize(log)
                        await asyncio.sleep(LASTING)
                        last = os.path.getsize(log)
                        await running
                        return first, last

                    first, last = asyncio.run(phase())
                    with open(log, "rb") as file:
                        file.seek(first)
                        lines = file.read(last - first).split(b"\n")[1:-1]
                    found = report(title, [json.loads(line) for line in lines], wanted)
                    total = sum(count for count, _ in found.values())
                    for each, share in SHARE.items():
                        asked, (count, late) = wanted[each] / WHOLE, found[each]
                        due = min(share, asked) * WHOLE * LASTING
                        if count < due * (1 - TOLERANCE):
                            wrong.append(f"{title}: {each} was served {count} times, and {due:.0f} were due")
                        # A full queue takes as long as its class needs for that many.
                        bound = LIMIT / (share * WHOLE) * (1 + TOLERANCE) + 2 * SERVICE
                        if late > bound:
                            wrong.append(f"{title}: {each} waited {late:.3f} s, and {bound:.3f} s is the bound")
                    if total > WHOLE * LASTING * (1 + TOLERANCE):
                        wrong.append(f"{title}: {total} were served, and {WHOLE * LASTING:.0f} can be")
                    time.sleep(1.0)
            backends.stdin.close()
            most = int(backends.stdout.readline())
            print(f"\nat one time on all backends: {most} of {BACKENDS * CAPACITY}")
            if most > BACKENDS * CAPACITY:
                wrong.append("more requests at one time than the backends take")
        finally:
            backends.kill()
            backends.wait()
    print("\n".join(wrong) or "shares kept")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
