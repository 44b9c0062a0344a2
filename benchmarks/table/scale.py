"""
How large a table may be: 10,000 vhosts with 10 backends each, in a process that serves them.

C{python -m benchmarks.table.scale file PATH} or C{… redis URL}: the store is filled if it is empty, then a process's
data path is put together in front of it, without listeners, and what that takes is written to standard output as JSON.
How long the reactor is held is seen by a timer that is due every millisecond.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from lemmytx.net.reactor import install

install()

from twisted.internet import reactor as installed  # noqa: E402 - what was installed
from twisted.internet.defer import Deferred  # noqa: E402
from twisted.internet.task import LoopingCall, deferLater, react  # noqa: E402

from lemmytx import config  # noqa: E402
from lemmytx.plugin import build_store, find_stores  # noqa: E402
from lemmytx.serving import Serving  # noqa: E402
from lemmytx.store.place import Place  # noqa: E402
from lemmytx.table import Member, PutMember, Table  # noqa: E402

reactor: Any = installed

VHOSTS = 10_000
BACKENDS = 10

#: Members that are put at once when the store is filled.
BATCH = 5000


def host(number: int) -> str:
    """A vhost's name."""
    return f"v{number}.example"


def member(number: int, backend: int, generation: int = 0) -> Member:
    """A member's."""
    return Member(f"10.{number // 250}.{number % 250}.{backend + 1}:8{generation:03}")


def rss() -> float:
    """Megabytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


class Gaps:
    """The longest time for which the reactor did nothing else, in CPU of its thread: others may use the machine."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.thread_time()
        self._timer = LoopingCall(self._tick)
        self._timer.start(0.001)

    def _tick(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def taken(self) -> float:
        """Milliseconds; begins anew."""
        longest, self.longest = self.longest, 0.0
        return round(longest * 1000, 1)


async def measured(gaps: Gaps, work: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    """Seconds, seconds of CPU, and for how many milliseconds of CPU the reactor was held."""
    await deferLater(reactor, 0.1)
    gaps.taken()
    began, cpu = time.perf_counter(), time.process_time()
    await work()
    took, used = time.perf_counter() - began, time.process_time() - cpu
    await deferLater(reactor, 0.05)
    return {"seconds": round(took, 3), "cpu": round(used, 3), "held_ms": gaps.taken()}


async def fill(options: dict[str, object], kind: str) -> None:
    """Has the store hold the table."""
    other = build_store(find_stores(), kind, options, Place(reactor, os.getcwd()))
    await other.open(lambda: None, lambda hint: None)
    if not (await other.load(Table())).vhosts:
        changes = [PutMember(host(n), member(n, b)) for n in range(VHOSTS) for b in range(BACKENDS)]
        for begin in range(0, len(changes), BATCH):
            await other.change(changes[begin : begin + BATCH])
    await other.close()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for it, half a minute at the most."""
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("it did not happen")
        await deferLater(reactor, 0.001)


async def main(kind: str, where: str) -> None:
    """All of it."""
    options: dict[str, object] = {"path": where} if kind == "file" else {"url": where}
    await fill(options, kind)
    store = {"type": kind, "outage_copy": os.path.join(os.getcwd(), "copy"), **options}
    configuration = config.read(json.dumps({"clusters": {}, "store": store}).encode(), "x.yaml")
    serving = Serving(reactor)
    gaps = Gaps()
    said: dict[str, Any] = {"store": kind, "vhosts": VHOSTS, "backends": VHOSTS * BACKENDS}
    said["memory_before_mb"] = round(rss())

    async def first() -> None:
        (await serving.prepare(configuration, (), {})).commit()
        await until(lambda: len(serving.table.live.stored) == VHOSTS)

    said["first_load"] = await measured(gaps, first)
    said["memory_mb"] = round(rss())
    await deferLater(reactor, 4)  # the copy is written
    keeper = serving.table.desk.keeper
    assert keeper is not None
    gaps.taken()

    async def refresh() -> None:
        await keeper.store.load(keeper.table)

    said["refresh_unchanged"] = await measured(gaps, refresh)
    other = build_store(find_stores(), kind, options, Place(reactor, os.getcwd()))
    await other.open(lambda: None, lambda hint: None)
    generation = int(time.time()) % 900 + 1
    changed = [PutMember(host(n * 97 % VHOSTS), Member(f"10.200.{n}.1:8{generation:03}")) for n in range(100)]

    def there() -> bool:
        view = serving.table.live.view
        return view is not None and changed[-1].member in view.table.vhosts[changed[-1].vhost].members

    # In a file what others write is noticed by looking four times a second; what it writes itself at once.
    writer = keeper.store if kind == "file" else other

    async def changes() -> None:
        await writer.change(changed)
        await until(there)

    said["change_100_backends"] = await measured(gaps, changes)

    async def build() -> None:
        stored = serving.table.live.stored
        for number in range(VHOSTS):
            stored.find(host(number).encode())
            if not number % 10:
                await deferLater(reactor, 0)

    said["build_all"] = await measured(gaps, build)
    said["memory_all_built_mb"] = round(rss())
    for each in range(100):
        changed[each] = PutMember(changed[each].vhost, Member(f"10.201.{each}.1:8{generation:03}"))
    said["change_100_backends_built"] = await measured(gaps, changes)
    await until(lambda: not serving.table.live.settling)
    said["telling"] = await measured(gaps, lambda: Deferred.fromCoroutine(serving.table._telling.requests()))
    await other.close()
    await serving.table.close()
    serving.end()
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    react(lambda _: Deferred.fromCoroutine(main(sys.argv[1], sys.argv[2])))
