"""
The drills themselves. Each runs against an instance under load and gives a L{Scene}: what was done, what the clients
saw, how long it took each time, and what the processes held before and after.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.drills.instance import Instance, until
from benchmarks.drills.load import Load, Seen
from benchmarks.drills.watch import Sight, state
from benchmarks.machine import Failed

#: What a process may have grown by in a drill, in bytes: what lies about of garbage not collected yet and of buffers.
MEMORY = 8_000_000

#: What all of them together may grow by in the second half of as many reloads as there are in the long form, in bytes.
LATER = 2_000_000

#: How many more descriptors a process may have, connections left aside: pipes of a download, somebody who asks it.
DESCRIPTORS = 10

#: How many more connections all of them may have: each client's may have one to a backend beside it, or not.
CONNECTIONS = 200

#: The last line of a reload.
_RELOADED = re.compile("(reloaded: |reload refused).*\n")

#: Seconds that clients get to notice something.
_NOTICE = 0.4

#: Seconds between two reloads: every client asks for something meanwhile.
_BETWEEN = 0.1

#: A worker that lives shorter than this is started again after longer and longer pauses, which is not what is measured.
_SETTLED = 10.5


@dataclass
class Scene:
    """
    What came of a drill.

    @ivar name: what was done.
    @ivar workers: of the instance.
    @ivar wanted: how often it was to be done.
    @ivar what: what its durations measure.
    @ivar seconds: how long each took.
    @ivar whole: how long all of it took, in seconds.
    @ivar before: the processes when a tenth of it was over, and what is kept for the next time was there.
    @ivar after: the processes at its end.
    @ivar course: the memory of all processes together at each tenth of the drill, in bytes.
    @ivar broken: the bounds that were not kept, in words.
    """

    name: str
    workers: int
    wanted: int
    what: str
    seconds: list[float] = field(default_factory=list)
    whole: float = 0.0
    seen: Seen = field(default_factory=Seen)
    before: list[Sight] = field(default_factory=list)
    after: list[Sight] = field(default_factory=list)
    course: list[int] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """For tables."""
        return f"{self.wanted:,} × {self.name}, {self.workers} worker{'s' if self.workers > 1 else ''}"

    @property
    def median(self) -> float:
        """Of the durations, in seconds."""
        return statistics.median(self.seconds) if self.seconds else 0.0

    @property
    def longest(self) -> float:
        """The longest of them."""
        return max(self.seconds, default=0.0)

    def hold(self, good: bool, what: str) -> None:
        """A bound, and what to say where it is not kept."""
        if not good and what not in self.broken:
            self.broken.append(what)

    def no_failures(self) -> None:
        """The bound of what is done in order."""
        for failure in self.seen.told[:5]:
            self.broken.append(f"{failure['kind']}: {failure['what']}")
        total = self.seen.failures.total()
        self.hold(not total, f"{total} failed requests where there should be none")

    def no_growth(self) -> None:
        """The bound on what processes hold, where they are the same in number."""
        for old, new in zip(self.before, self.after, strict=False):
            grown = new.memory - old.memory
            self.hold(grown <= MEMORY, f"{new.role} grew by {grown / 1e6:.1f} MB")
            more = new.descriptors - old.descriptors
            self.hold(more <= DESCRIPTORS, f"{new.role} has {more} more descriptors")
            self.hold(new.threads <= old.threads + 10, f"{new.role} has {new.threads - old.threads} more threads")
        more = sum(sight.connections for sight in self.after) - sum(sight.connections for sight in self.before)
        self.hold(more <= CONNECTIONS, f"{more} more connections")
        self.hold(len(self.before) == len(self.after), f"{len(self.before)} processes became {len(self.after)}")


def _play(scene: Scene, load: Load, instances: Sequence[Instance], one: Callable[[int], None]) -> Scene:
    """Do C{one} as often as wanted, watch, and count; what fails ends the drill and is a bound broken."""

    def sights() -> list[Sight]:
        return [sight for instance in instances for sight in instance.sights()]

    began = time.monotonic()
    logged = [instance.logged for instance in instances]
    load.count()
    try:
        tenths = {max(1, scene.wanted * tenth // 10) for tenth in range(1, 10)}
        scene.before = sights()
        for number in range(scene.wanted):
            if number in tenths:
                scene.course.append(sum(sight.memory for sight in sights()))
            if number == min(tenths):
                scene.before = sights()
            one(number)
        time.sleep(_NOTICE)
        scene.after = sights()
        scene.course.append(sum(sight.memory for sight in scene.after))
    except (Failed, OSError, http.client.HTTPException) as why:
        scene.broken.append(f"ended after {len(scene.seconds)}: {type(why).__name__}: {why}")
    seen = load.count()
    scene.seen.add(vars(seen))
    scene.whole = time.monotonic() - began
    for instance, since in zip(instances, logged, strict=True):
        scene.hold("Traceback" not in instance.log(since), "a traceback in the log")
    for kind in ("GET", "POST", "echo"):
        scene.hold(scene.seen.done[kind] > 0, f"there was no load: not one {kind}")
    # One takes that long when nothing comes in between, and begins anew when a worker is killed under it.
    if scene.whole > 5 * load.amount.size / load.amount.rate:
        scene.hold(scene.seen.done["download"] > 0, "not one download came to its end")
    return scene


def reloads(instance: Instance, load: Load, count: int, workers: int) -> Scene:
    """Reloads between three configurations, by SIGHUP and by the API in turn, each seen to be at work."""
    scene = Scene("reload", workers, count, "until the reload is done")

    def one(number: int) -> None:
        kind = (number + 1) % 3
        instance.write(kind)
        since = instance.logged
        if number % 2:
            began = time.monotonic()
            status, body = instance.ask("/api/v1/config/reload", "POST")
            scene.seconds.append(time.monotonic() - began)
            if status != 200:
                raise Failed(f"POST /api/v1/config/reload was answered {status}: {body[:500]!r}")
        else:
            instance.signal(signal.SIGHUP)
            scene.seconds.append(
                until("a reload", lambda: _RELOADED.search(instance.log(since)) is not None, pause=0.002)
            )
            if "reload refused" in instance.log(since):
                raise Failed(f"reload refused: {instance.tail()}")
        wrong = instance.works_by(kind)
        if wrong:
            raise Failed(wrong)
        time.sleep(_BETWEEN)

    _play(scene, load, [instance], one)
    scene.no_failures()
    scene.no_growth()
    if len(scene.course) == 10:
        later = scene.course[9] - scene.course[4]
        scene.hold(later <= LATER, f"memory grew by {later / 1e6:.1f} MB in the second half")
    scene.hold(not scene.seen.away, f"{scene.seen.away} WebSockets were closed whose backend was never taken away")
    return scene


def upgrades(instance: Instance, load: Load, count: int, workers: int) -> Scene:
    """The program is replaced, by SIGUSR2 and by the API in turn, until the former one has gone."""
    scene = Scene("upgrade", workers, count, "until the new program is ready")

    def one(number: int) -> None:
        old = instance.pid
        began = time.monotonic()
        if number % 2:
            status, body = instance.ask("/api/v1/upgrade", "POST")
            if status != 202:
                raise Failed(f"POST /api/v1/upgrade was answered {status}: {body[:500]!r}")
        else:
            instance.signal(signal.SIGUSR2)

        until("another process on the admin side", lambda: instance.replaced(old))
        scene.seconds.append(time.monotonic() - began)
        until(f"the end of {old}", lambda: instance.gone(old))

    _play(scene, load, [instance], one)
    scene.no_failures()
    scene.no_growth()
    return scene


def kills(instance: Instance, load: Load, count: int, workers: int) -> Scene:
    """
    Workers are killed one after the other. Each is stopped first (SIGSTOP), so that what it holds at its end is known:
    nothing but exchanges on its own connections may fail.
    """
    scene = Scene("kill -9", workers, count, "until another worker serves in its place")
    expected: set[tuple[int, float]] = set()

    def one(number: int) -> None:
        alive = instance.workers()
        row = sorted(alive)[number % len(alive)]
        victim = alive[row]
        if number >= 2 * workers:
            until("a worker that has settled", lambda: instance.age(row) > _SETTLED, pause=0.1)
        os.kill(victim, signal.SIGSTOP)
        until("the victim's standstill", lambda: state(victim) == "T", pause=0.001)
        own = instance.clients_of(victim)
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()

        def back() -> bool:
            found = instance.workers()
            return found.get(row, victim) != victim and bool(instance.clients_of(found[row]))

        until(f"another worker {row}", back, pause=0.02)
        scene.seconds.append(time.monotonic() - began)
        time.sleep(_NOTICE)
        seen = load.count()
        scene.seen.add(vars(seen))
        expected.update((failure["port"], failure["at"]) for failure in seen.told if failure["port"] in own)

    _play(scene, load, [instance], one)
    for failure in scene.seen.told:
        if (failure["port"], failure["at"]) not in expected:
            scene.broken.append(f"not on a connection of the killed worker's: {failure['kind']}: {failure['what']}")
    scene.no_growth()
    return scene


def stops(pair: Sequence[Instance], load: Load, count: int, workers: int) -> Scene:
    """One of two instances is stopped in order and started again, in turn; clients go by C{/ready}."""
    scene = Scene("stop", workers, count, "from SIGTERM to its end")

    def one(number: int) -> None:
        instance = pair[number % 2]
        old = instance.pid
        began = time.monotonic()
        instance.signal(signal.SIGTERM)
        until(f"the end of {old}", lambda: instance.gone(old))
        scene.seconds.append(time.monotonic() - began)
        instance.start()
        # The clients need a moment to find out.
        time.sleep(_NOTICE)

    _play(scene, load, pair, one)
    scene.no_failures()
    scene.no_growth()
    return scene
