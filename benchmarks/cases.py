"""
What is measured: the cases, and the figures that a run of each gives per proxy.

A figure is one number of one proxy in one case, always where less is better except for C{rate}; the names are those of
L{FIGURES}, and the keys of the JSON file.
"""

from __future__ import annotations

import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.doors import CLEAR_HTTP2, HTTP2, PLAIN, TLS, Door
from benchmarks.load import BROWSER, Burst, Sink, download, get, h2load, handshakes, idle, upload, wrk
from benchmarks.machine import Failed, Process, free_port, running
from benchmarks.peers import Peer

#: Name of a figure to its heading and unit in a table.
FIGURES = {
    "rate": "requests/s",
    "p50": "p50, ms",
    "p99": "p99, ms",
    "cpu": "CPU, µs/request",
    "cpu_ms": "CPU, ms/body",
    "peak": "peak memory, MB",
    "idle": "bytes/connection",
    "upload": "growth at upload, MB",
    "download": "growth at download, MB",
}

MEGABYTE = 1_000_000

Figures = dict[str, float]


@dataclass
class Settings:
    """
    How much is done.

    @ivar rounds: how often each proxy has its turn in a case under load.
    @ivar seconds: length of a turn.
    @ivar connections: how many idle ones are held.
    @ivar body: size of the slow upload and download, in bytes.
    @ivar seed: for the order of turns.
    """

    rounds: int = 5
    seconds: float = 3.0
    connections: int = 10_000
    body: int = 1000 * MEGABYTE
    seed: int = 1


@dataclass
class Bench:
    """
    What every case needs.

    @ivar folder: the run's temporary one.
    @ivar core: the proxies'.
    @ivar other: the core of the backend and the clients.
    @ivar origin: the backend's port.
    @ivar peers: the proxies to compare.
    @ivar said: called with a line about the run's progress.
    @ivar broken: proxy and case to why there is no figure.
    @ivar stillborn: proxies that did not start; they are not tried again.
    """

    folder: Path
    core: str
    other: str
    origin: int
    peers: list[Peer]
    settings: Settings
    said: Callable[[str], None]
    broken: dict[str, str] = field(default_factory=dict)
    stillborn: set[tuple[str, Door]] = field(default_factory=set)

    def start(self, peer: Peer, started: list[Process], backend: int, door: Door = PLAIN) -> tuple[Process, int]:
        """
        Start a proxy in a folder of its own and wait for its first answer; it is added to C{started} at once.

        @raise Failed: it does not start, or did not in an earlier case with the same door.
        """
        if (peer.name, door) in self.stillborn:
            raise Failed("did not start in an earlier case")
        folder = Path(tempfile.mkdtemp(prefix="peer", dir=self.folder))
        folder.chmod(0o755)  # nginx's worker, which is another user under root, reads here
        port = free_port()
        process = peer.start(folder, self.core, port, backend, door)
        started.append(process)
        try:
            process.wait_until_serving(port, door.answer)
        except Failed:
            self.stillborn.add((peer.name, door))
            raise
        return process, port

    def fails(self, case: str, peer: Peer, why: Exception) -> None:
        """Note that a proxy gave no figures in a case."""
        self.broken[f"{peer.name}, {case}"] = str(why)
        self.said(f"  {peer.name}: {why}")


@dataclass(frozen=True)
class Case:
    """
    One comparison.

    @ivar title: what it is, for a heading.
    @ivar peers: who takes part.
    @ivar figures: which figures it gives, in the order of a table's columns.
    @ivar run: gives each proxy's figures: one list of one entry per round.
    """

    title: str
    peers: tuple[str, ...]
    figures: tuple[str, ...]
    run: Callable[[str, Bench], dict[str, list[Figures]]]


def _turns(bench: Bench, peers: list[Peer]) -> list[list[Peer]]:
    """Each round's order: all proxies, shuffled, so that whatever else the machine does falls on all alike."""
    chance = random.Random(bench.settings.seed)
    return [chance.sample(peers, len(peers)) for _ in range(bench.settings.rounds)]


#: Given the port, the clients' core and the seconds.
Load = Callable[[int, str, float], Burst]


def _loaded(load: Load, size: int = 0, door: Door = PLAIN) -> Callable[[str, Bench], dict[str, list[Figures]]]:
    """
    A case under load. Each round has processes of its own: where the parts of one lie in memory is a matter of
    chance that makes a difference of several per cent for as long as it runs.

    @param size: of a large body: then CPU is counted by the bytes that arrived, since a turn that ends within bodies
        has cost more than its whole ones; 0 for small answers.
    """

    def run(case: str, bench: Bench) -> dict[str, list[Figures]]:
        found: dict[str, list[Figures]] = {}
        for turn in _turns(bench, _wanted(case, bench)):
            with running([]) as started:
                serving: dict[str, tuple[Process, int]] = {}
                for peer in turn:
                    try:
                        serving[peer.name] = bench.start(peer, started, bench.origin, door)
                        load(serving[peer.name][1], bench.other, 1)  # warm, not counted
                    except Failed as why:
                        serving.pop(peer.name, None)
                        bench.fails(case, peer, why)
                for peer in turn:
                    if peer.name not in serving:
                        continue
                    process, port = serving[peer.name]
                    before = process.cpu()
                    try:
                        burst = load(port, bench.other, bench.settings.seconds)
                    except Failed as why:
                        bench.fails(case, peer, why)
                        continue
                    if not burst.requests or burst.failed:
                        bench.fails(case, peer, Failed(f"{burst.requests} answers, {burst.failed} failures in a turn"))
                        continue
                    figures = _figures(burst, process.cpu() - before, process.peak(), size)
                    found.setdefault(peer.name, []).append(figures)
                    bench.said(f"  {peer.name}: {_said(figures)}")
        return found

    return run


def _wrk(path: str, connections: int, fields: tuple[str, ...] = (), door: Door = PLAIN) -> Load:
    return lambda port, core, seconds: wrk(port, core, path, connections, seconds, fields, door)


def _h2load(connections: int, streams: int, door: Door) -> Load:
    return lambda port, core, seconds: h2load(port, core, connections, streams, seconds, door)


def _handshakes(clients: int) -> Load:
    return lambda port, core, seconds: handshakes(port, core, clients, seconds)


def _figures(burst: Burst, cpu: float, peak: int, size: int) -> Figures:
    answers = burst.size / size if size else burst.requests
    return {
        "rate": answers / burst.seconds,
        "p50": burst.p50,
        "p99": burst.p99,
        **({"cpu_ms": cpu / answers * 1e3} if size else {"cpu": cpu / answers * 1e6}),
        "peak": peak / MEGABYTE,
    }


def _said(figures: Figures) -> str:
    return ", ".join(f"{FIGURES[name]} {value:,.1f}" for name, value in figures.items())


def _wanted(case: str, bench: Bench) -> list[Peer]:
    return [peer for peer in bench.peers if peer.name in CASES[case].peers]


def _idling(door: Door, most: int | None = None) -> Callable[[str, Bench], dict[str, list[Figures]]]:
    """
    Memory that connections cost that wait for their next request, after a first one on each.

    @param most: connections, if the settings say more.
    """

    def run(case: str, bench: Bench) -> dict[str, list[Figures]]:
        count = min(bench.settings.connections, most or bench.settings.connections)
        return _idle(case, bench, count, door)

    return run


def _idle(case: str, bench: Bench, count: int, door: Door) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {}
    for peer in _wanted(case, bench):
        with running([]) as started:
            try:
                process, port = bench.start(peer, started, bench.origin, door)
                with idle(port, 100, door):  # what the first connections bring with them is not theirs
                    pass
                before = process.memory()
                with idle(port, count, door) as clients:
                    time.sleep(0.5)
                    held = process.memory() - before
                    for client in clients[:: max(1, count // 100)]:
                        get(client)  # still open, and still served
                found[peer.name] = [{"idle": held / count, "peak": process.peak() / MEGABYTE}]
            except (Failed, OSError) as why:
                bench.fails(case, peer, why)
                continue
            bench.said(f"  {peer.name}: {_said(found[peer.name][-1])}")
    return found


#: How fast the slow peers take a body, in bytes a second: well under what any of the proxies can bring.
_SLOW = 200 * MEGABYTE


def _slow(case: str, bench: Bench) -> dict[str, list[Figures]]:
    """How much memory grows while a large body waits for the side that receives it."""
    found: dict[str, list[Figures]] = {}
    size = bench.settings.body
    sink = Sink(_SLOW)
    try:
        for peer in _wanted(case, bench):
            try:
                figures = {
                    "upload": _growth(bench, peer, sink.port, lambda port: upload(port, size)),
                    "download": _growth(bench, peer, bench.origin, lambda port: download(port, "/slow", _SLOW)),
                }
            except (Failed, OSError) as why:
                bench.fails(case, peer, why)
                continue
            found[peer.name] = [figures]
            bench.said(f"  {peer.name}: {_said(figures)}")
    finally:
        sink.close()
    return found


def _growth(bench: Bench, peer: Peer, backend: int, transfer: Callable[[int], int]) -> float:
    """
    Peak memory during a transfer over the memory before it, in MB.

    @raise Failed: not all of the body arrived.
    """
    with running([]) as started:
        process, port = bench.start(peer, started, backend)
        with idle(port, 10):
            pass
        process.forget_peak()
        before = process.memory()
        arrived = transfer(port)
        if arrived != bench.settings.body:
            raise Failed(f"{arrived} of {bench.settings.body} bytes arrived")
        return (process.peak() - before) / MEGABYTE


_MAIN = ("lemmytx", "lemmytx, pure twin", "nginx", "HAProxy", "Caddy", "twisted.web")
_VARIANTS = (*_MAIN, "lemmytx, JSON access log", "lemmytx, 2 workers")
_BODIES = ("lemmytx", "nginx", "nginx, 64 kB buffers", "HAProxy", "Caddy", "twisted.web")
_IDLE = ("lemmytx", "nginx", "HAProxy", "Caddy", "twisted.web")
_SECURE = ("lemmytx", "nginx", "HAProxy")
_HTTP2 = ("lemmytx", "lemmytx, pure twin", "nginx", "HAProxy")
_LOAD = ("rate", "p50", "p99", "cpu", "peak")
_LARGE = ("rate", "p50", "p99", "cpu_ms", "peak")
_NO_LATENCY = ("rate", "cpu", "peak")

#: In the order of the run. twisted.web takes no part in the slow case: it holds all of a body in memory.
CASES = {
    "small": Case("Small keep-alive GET, 32 connections", _VARIANTS, _LOAD, _loaded(_wrk("/", 32))),
    "browser": Case(
        "The same with a browser's head of 11 fields", _MAIN, _LOAD, _loaded(_wrk("/", 32, BROWSER))
    ),
    "tls": Case(
        "Small keep-alive GET over TLS 1.3, 32 connections", _SECURE, _LOAD, _loaded(_wrk("/", 32, door=TLS), door=TLS)
    ),
    "handshake": Case(
        "A new TLS 1.3 connection for each GET, never resumed, 4 clients", _SECURE, _NO_LATENCY,
        _loaded(_handshakes(4), door=TLS),
    ),
    "http2": Case(
        "Small GET over HTTP/2 within TLS, 8 connections of 100 streams", _HTTP2, _NO_LATENCY,
        _loaded(_h2load(8, 100, HTTP2), door=HTTP2),
    ),
    "h2c": Case(
        "The same without TLS", _HTTP2, _NO_LATENCY, _loaded(_h2load(8, 100, CLEAR_HTTP2), door=CLEAR_HTTP2)
    ),
    "1m": Case("Bodies of 1 MB, 8 connections", _BODIES, _LARGE, _loaded(_wrk("/1m", 8), MEGABYTE)),
    "100m": Case("Bodies of 100 MB, 2 connections", _BODIES, _LARGE, _loaded(_wrk("/100m", 2), 100 * MEGABYTE)),
    "1m tls": Case(
        "Bodies of 1 MB over TLS 1.3, 8 connections", _SECURE, _LARGE,
        _loaded(_wrk("/1m", 8, door=TLS), MEGABYTE, TLS),
    ),
    "idle": Case("Idle keep-alive connections", _IDLE, ("idle", "peak"), _idling(PLAIN)),
    "idle tls": Case("Idle keep-alive connections over TLS 1.3", _SECURE, ("idle", "peak"), _idling(TLS, 1000)),
    "slow": Case(
        "A large body through slow peers (200 MB/s)", ("lemmytx", "nginx", "HAProxy", "Caddy"), ("upload", "download"),
        _slow,
    ),
}  # fmt: skip


def make_files(folder: Path, settings: Settings) -> None:
    """The bodies that the backend serves. They are holes: page cache is all they use."""
    folder.mkdir(mode=0o755)
    for name, size in (("1m", MEGABYTE), ("100m", 100 * MEGABYTE), ("slow", settings.body)):
        with (folder / name).open("wb") as file:
            file.truncate(size)


def medians(rounds: dict[str, list[Figures]]) -> dict[str, Figures]:
    """Each proxy's median of each figure over the rounds."""
    return {
        name: {figure: statistics.median(turn[figure] for turn in turns) for figure in turns[0]}
        for name, turns in rounds.items()
        if turns
    }


def forget(folder: Path) -> None:
    """Remove the run's folder."""
    shutil.rmtree(folder, ignore_errors=True)
