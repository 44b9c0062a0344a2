"""
Copies of a server are killed and started again under a steady load: what do the clients see?

Two vhosts have the same three copies behind them. One cluster is as it comes (two attempts), the other says
C{retry: {attempts: 3}}, as many as there are copies. Three kinds of clients:

 - steady: keep-alive connections, a small or middling file each time, at a fixed pace;
 - long, in one of the scenes: a download that takes several seconds, so that some are under way when a copy dies. Of
   those no proxy can make one whole; what it must do is cut the connection, so that the client does not take the part
   for the whole. The client then asks for the rest with a range, as any download program does;
 - whatever else runs at the same time (C{wget -r} does).

The other scene, two copies in the same instant, has no long downloads: those that break off would put a copy out of
use before the first steady request meets it, and the hardest moment would not be seen.
"""

from __future__ import annotations

import collections
import hashlib
import http.client
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import Failed, Process
from benchmarks.programs.common import Finding

#: Steady clients per vhost, and requests per second of each.
_CLIENTS = 10
_PACE = 5.0

#: Long downloads per vhost.
_LONG = 6

#: Seconds a client waits for bytes.
_PATIENCE = 15.0

#: How many requests may get a 502, as a share of those that did not: the retry budget leaves some without a second
#: attempt. Each is in the table; more than this would be another matter.
_UNLUCKY = 0.01

#: What is the best that can come of a long download whose copy died.
_CONTINUED = "cut, continued with a range to the end"

#: A piece of a long download.
_PIECE = 4096


@dataclass(frozen=True)
class Scene:
    """
    @ivar events: when what happens to which copy, in seconds from the start, in that order.
    @ivar long: long downloads per vhost.
    @ivar length: seconds. Long enough for a copy that is out to be tried again (after 10 s) and to be back.
    """

    events: tuple[tuple[float, str, int], ...]
    long: int
    length: float


SCENES = {
    "one after the other": Scene(((3, "kill", 1), (7, "start", 1), (9, "kill", 2), (13, "start", 2)), _LONG, 27),
    "two at once": Scene(((3, "kill", 1), (3, "kill", 2), (8, "start", 1), (8, "start", 2)), 0, 22),
}


class Copies:
    """The copies of one server. Who ends them is who started them."""

    def __init__(self, number: int, start: Callable[[int], Process]) -> None:
        """
        @param number: how many.
        @param start: starts the copy with this number and waits until it serves.
        """
        self._start = start
        self._processes = [start(copy) for copy in range(number)]

    def kill(self, number: int) -> None:
        """SIGKILL for the copy and all its workers."""
        self._processes[number].kill()

    def start(self, number: int) -> None:
        """Start it again, on its port."""
        self._processes[number] = self._start(number)


class _Counts:
    """What clients saw, by kind. Many threads add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kinds: collections.Counter[str] = collections.Counter()

    def add(self, kind: str) -> None:
        with self._lock:
            self.kinds[kind] += 1

    def __str__(self) -> str:
        return ", ".join(f"{number} × {kind}" for kind, number in sorted(self.kinds.items())) or "nothing"


def _link(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)


def _broken(why: Exception) -> str:
    """The kind of an exchange that ended without a whole answer."""
    if isinstance(why, TimeoutError):
        return "timed out"
    if isinstance(why, http.client.IncompleteRead):
        return "cut in the body"
    return f"connection lost ({type(why).__name__})"


def _steadily(port: int, host: str, files: dict[str, bytes], end: float, seed: int, counts: _Counts) -> None:
    """One steady client, until C{end} (monotonic)."""
    choice = random.Random(seed)
    names = sorted(files)
    link = _link(port)
    following = time.monotonic() + choice.random() / _PACE
    while following < end:
        time.sleep(max(0.0, following - time.monotonic()))
        following += 1 / _PACE
        name = choice.choice(names)
        try:
            link.request("GET", f"/load/{name}", headers={"Host": host})
            answer = link.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as why:
            counts.add(_broken(why))
            link.close()
            continue
        if answer.status == 200 and body != files[name]:
            counts.add("200 with wrong contents")
        else:
            counts.add(str(answer.status))
    link.close()


def _long_download(port: int, host: str, path: str, digest: str, counts: _Counts) -> None:
    """One long download, continued with a range wherever it was cut."""
    body = b""
    cuts = 0
    whole = False
    while not whole:
        link = _link(port)
        try:
            link.request("GET", path, headers={"Host": host, **({"Range": f"bytes={len(body)}-"} if body else {})})
            answer = link.getresponse()
            if answer.status != (206 if body else 200):
                counts.add(f"{answer.status} instead of {'the rest' if body else 'the file'}")
                return
            left = int(answer.headers["Content-Length"])
            while left:
                piece = answer.read1(_PIECE)
                if not piece:
                    break
                left -= len(piece)
                body += piece
            whole = not left
            cuts += not whole
        except ConnectionResetError:
            if not body:
                counts.add("connection lost before the first byte")
                return
            cuts += 1
        except (OSError, http.client.HTTPException) as why:
            counts.add(_broken(why))
            return
        finally:
            link.close()
    right = hashlib.sha256(body).hexdigest() == digest
    counts.add((_CONTINUED if cuts else "whole") if right else "wrong contents")


def play(
    name: str,
    copies: Copies,
    port: int,
    hosts: dict[int, str],
    served: Path,
    backend_answers: Callable[[], dict[str, int]],
) -> list[Finding]:
    """
    One scene.

    @param name: of L{SCENES}.
    @param port: lemmytx's.
    @param hosts: a cluster's C{retry.attempts} to its vhost.
    @param served: the folder that the copies serve, with C{load/} and C{slow/}.
    @param backend_answers: how many answers each copy has given so far, by lemmytx's statistics.
    """
    files = {path.name: path.read_bytes() for path in sorted((served / "load").iterdir())}
    slow = next((served / "slow").iterdir())
    digest = hashlib.sha256(slow.read_bytes()).hexdigest()
    scene = SCENES[name]
    began = time.monotonic()
    steady = {attempts: _Counts() for attempts in hosts}
    long = {attempts: _Counts() for attempts in hosts}
    threads = []
    for attempts, host in hosts.items():
        for seed in range(_CLIENTS):
            arguments = (port, host, files, began + scene.length, seed, steady[attempts])
            threads.append(threading.Thread(target=_steadily, args=arguments))
        for _ in range(scene.long):
            arguments_long = (port, host, f"/slow/{slow.name}", digest, long[attempts])
            threads.append(threading.Thread(target=_long_download, args=arguments_long))
    for thread in threads:
        thread.start()
    for at, what, number in scene.events:
        time.sleep(max(0.0, began + at - time.monotonic()))
        (copies.kill if what == "kill" else copies.start)(number)
    time.sleep(max(0.0, began + scene.length - 4 - time.monotonic()))
    before = backend_answers()
    for thread in threads:
        thread.join(scene.length + 4 * _PATIENCE)
        if thread.is_alive():
            raise Failed("a client of the copies did not end")
    after = backend_answers()
    back = sum(after[copy] > before.get(copy, 0) for copy in after)
    found = []
    for attempts in hosts:
        what = f"`retry: {{attempts: {attempts}}}`"
        kinds = steady[attempts].kinds
        # Requests that are refused in the same instant have no more retries between them than the budget (three at
        # least), at each crash; and two attempts can meet two dead copies, until `max_fails` puts one out.
        good = set(kinds) <= {"200", "502"} and kinds["502"] <= _UNLUCKY * kinds["200"]
        found.append(Finding(f"three nginx, {name}", f"steady requests, {what}", str(steady[attempts]), good))
        if scene.long:
            good = {"whole", _CONTINUED} >= set(long[attempts].kinds)
            found.append(Finding(f"three nginx, {name}", f"long downloads, {what}", str(long[attempts]), good))
    found.append(Finding(f"three nginx, {name}", "copies that serve again in the last 4 s", f"{back} of 3", back == 3))
    return found
