"""
The capacities of backends, divided anew among workers by who is busy (L{lemmytx.cluster.shares} says how).

A round asks all what they have in flight and in line, tells those who get less, and gives the rest what has become
free. Never may more be in flight than a backend takes, whatever happens in between:

  - Who gets less answers how many it may I{still} have in flight: those that are when it is told. Only what is left
    of the capacity beside that is given away. The rest is, in a later round, when those have ended.
  - Who does not answer is taken to have all that it ever may have had: what it was given counts from before it is told.
  - A worker begins with no room at all, and gets some before it accepts its first client (L{Division.welcome}).
  - What a worker does not know of yet is not divided, and whoever has more of it than its first part gives that back:
    it may know of it, and have its own first part, a moment later.

There is a round each half a second. While somebody waits and there is something to be moved to whom, there are ten a
second; in those that are between, who waits keeps what it has. It goes from those with a line to those with a longer
one only each half a second: between its old and its new owner a place lies idle for a moment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredLock, ensureDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lemmytx import commands
from lemmytx.cluster.shares import Load, Room, portion, shares
from lemmytx.process import Worker

log = Logger(namespace="lemmytx.workers")

#: Seconds between two divisions of what backends take; and while somebody waits for what another one has.
USUAL = 0.5
SOON = 0.1

#: How many requests each backend of each cluster may have in flight from one worker.
Rooms = dict[str, dict[str, int]]

#: Bytes of what a worker is told at a time; its answer is not much longer, and a box of AMP holds 64 kB.
TOLD = 30_000


class Division:
    """
    Divides, again and again.
    """

    def __init__(
        self,
        reactor: Any,
        members: Callable[[], Sequence[Worker]],
        ask: Callable[..., Deferred[Any]],
        state: Callable[[], object],
        count: Callable[[], int],
    ) -> None:
        """
        @param members: all who may have requests in flight.
        @param ask: asks a worker, with a command and its arguments; fails if that takes long.
        @param state: L{None} while a configuration is on its way; else something that is equal as long as it holds.
        @param count: how many workers there are to be.
        """
        self._reactor = reactor
        self._members = members
        self._ask = ask
        self._state = state
        self._count = count
        self._lock = DeferredLock()
        self._known: dict[Worker, dict[str, Load]] = {}
        self._owed: dict[str, dict[Worker, float]] = {}
        self._call: IDelayedCall | None = None
        self._running = False
        self._at_once = False
        self._began = 0.0
        self._thorough_at = 0.0

    def start(self) -> None:
        """From now on."""
        self._running = True
        self._call = self._reactor.callLater(USUAL, self._due)

    def stop(self) -> None:
        """No more."""
        self._running = False
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def soon(self) -> None:
        """Something has changed that a round should know."""
        if self._call is None:
            self._at_once = True  # as soon as the present one is over
        else:
            self._call.cancel()
            self._call = self._reactor.callLater(0, self._due)

    def _due(self) -> None:
        self._call = None
        now = self._began = self._reactor.seconds()
        thorough = now - self._thorough_at >= USUAL - SOON / 2
        if thorough:
            self._thorough_at = now
        ensureDeferred(self.divide(thorough)).addErrback(self._failed).addCallback(self._again)

    @staticmethod
    def _failed(failure: Failure) -> bool:
        log.failure("capacities stay as shared", failure)
        return False

    def _again(self, soon: bool) -> None:
        at_once, self._at_once = self._at_once, False
        # With ten thousand backends a round takes its time: it is not to be all that anybody does.
        pause = max(SOON, min(USUAL, 4 * (self._reactor.seconds() - self._began))) if soon else USUAL
        if self._running:
            self._call = self._reactor.callLater(0 if at_once else pause, self._due)

    async def welcome(self, worker: Worker) -> None:
        """
        One is about to serve: give it some room. Whether that can be had now or not, it is one of the members then.
        """
        worker.sharing = True
        try:
            await self.divide()
        except Exception:  # it serves all the same, and the next round comes soon
            log.failure("a worker has no part of the capacities yet")

    async def divide(self, thorough: bool = True) -> bool:
        """
        One round.

        @param thorough: whether it may go from those with a line to those with a longer one.
        @return: whether the next one should come soon.
        """
        await self._lock.acquire()
        try:
            return await self._divide(thorough)
        finally:
            self._lock.release()

    async def _divide(self, thorough: bool) -> bool:
        state = self._state()
        members = list(self._members())
        self._known = {worker: loads for worker, loads in self._known.items() if worker in members}
        if state is None or not members:
            return False
        answers: Any = await DeferredList(
            [ensureDeferred(self._load(worker)) for worker in members], consumeErrors=True
        )
        present = []
        for worker, (went_well, loads) in zip(members, answers, strict=True):
            if went_well:
                present.append(worker)
                self._known[worker] = loads
        if not present or self._state() != state:
            return False
        wanted, waited = self._targets(present, thorough)
        less = self._less(present, wanted, waited, thorough)
        await self._tell(less)
        if self._state() != state:
            return False
        more = self._more(present, wanted)
        await self._tell(more)
        moved = {cluster for told in (less, more) for rooms in told.values() for cluster in rooms}
        return any(name in moved or self._on_the_way(name) for name in waited)

    # What each should have

    def _targets(self, present: Sequence[Worker], thorough: bool) -> tuple[dict[str, dict[str, list[int]]], set[str]]:
        """
        @return: by cluster and backend what each of those present should have, and in which clusters anybody waits.
        """
        wanted, waited = {}, set()
        names = dict.fromkeys(name for worker in present for name in self._known[worker])
        self._owed = {name: owed for name, owed in self._owed.items() if name in names}
        for name in names:
            capacities = self._divisible(name, present)
            if not capacities:
                continue
            loads = [
                Load(load.waiting, {each: load.rooms.get(each, Room(0, 0, 0, False)) for each in capacities})
                for load in (self._known[worker].get(name, Load(0, {})) for worker in present)
            ]
            owed = self._owed.get(name, {})
            debts = [owed.get(worker, 0.0) for worker in present]
            wanted[name] = shares(capacities, loads, debts)
            if thorough:
                self._owed[name] = dict(zip(present, debts, strict=True))
            if any(load.waits for load in loads):
                waited.add(name)
        return wanted, waited

    def _divisible(self, cluster: str, present: Sequence[Worker]) -> dict[str, int]:
        """What there is for those present, of each backend that all of them know."""
        rooms = [self._rooms(worker, cluster) for worker in present]
        # One that leaves learns of nothing new.
        for worker, known in zip(present, rooms, strict=True):
            if worker.leaving:
                known.update({name: known.get(name, _NONE) for other in rooms for name in other})
        found = {}
        for name in rooms[0]:
            if all(name in known for known in rooms):
                capacity = min((known[name].capacity for known in rooms if known[name] is not _NONE), default=0)
                found[name] = max(0, capacity - self._absent(cluster, name, capacity, present))
        return found

    def _rooms(self, worker: Worker, cluster: str) -> dict[str, Room]:
        load = self._known[worker].get(cluster)
        return {} if load is None else dict(load.rooms)

    def _absent(self, cluster: str, backend: str, capacity: int, present: Sequence[Worker]) -> int:
        """How many those may have in flight who have not answered."""
        held = 0
        for worker in self._members():
            if worker not in present:
                known = self._known.get(worker)
                load = None if known is None else known.get(cluster)
                room = None if load is None else load.rooms.get(backend)
                # One that began with nothing, and has not been given any, has none.
                # Of one that has never said anything nobody knows what it was given by a reload.
                held += capacity if room is None else room.held
        return held

    def _less(
        self, present: Sequence[Worker], wanted: Mapping[str, Mapping[str, Sequence[int]]], waited: set[str],
        thorough: bool,
    ) -> dict[Worker, Rooms]:  # fmt: skip
        """Who gets less."""
        told: dict[Worker, Rooms] = {}
        self._restrict(present, wanted, told)
        for cluster, backends in wanted.items():
            keeps = [
                not thorough and cluster in waited and bool(self._known[worker].get(cluster, _IDLE).waits)
                for worker in present
            ]
            for backend, given in backends.items():
                for worker, keep, share in zip(present, keeps, given, strict=True):
                    room = self._room(worker, cluster, backend)
                    if room is not None and share < room.room and not keep:
                        told.setdefault(worker, {}).setdefault(cluster, {})[backend] = share
        return told

    def _restrict(
        self,
        present: Sequence[Worker],
        wanted: Mapping[str, Mapping[str, Sequence[int]]],
        told: dict[Worker, Rooms],
    ) -> None:
        """Of what not all know of, each has its first part at the most."""
        for worker in present:
            for cluster, load in self._known[worker].items():
                divided = wanted.get(cluster, {})
                for backend, room in load.rooms.items():
                    if backend not in divided:
                        part = portion(room.capacity, worker.number, self._count())
                        if part < room.room:
                            told.setdefault(worker, {}).setdefault(cluster, {})[backend] = part

    def _more(
        self, present: Sequence[Worker], wanted: Mapping[str, Mapping[str, Sequence[int]]]
    ) -> dict[Worker, Rooms]:
        """Who gets more, of what nobody may have in flight any more."""
        told: dict[Worker, Rooms] = {}
        for cluster, backends in wanted.items():
            capacities = self._divisible(cluster, present)
            for backend, given in backends.items():
                rooms = [self._room(worker, cluster, backend) for worker in present]
                free = capacities[backend] - sum(room.held for room in rooms if room is not None)
                lacking = [
                    0 if room is None else max(0, share - room.room) for share, room in zip(given, rooms, strict=True)
                ]
                for worker, room, gift in zip(present, rooms, _portioned(free, lacking, given), strict=True):
                    if room is not None and gift:
                        told.setdefault(worker, {}).setdefault(cluster, {})[backend] = room.room + gift
        return told

    def _room(self, worker: Worker, cluster: str, backend: str) -> Room | None:
        load = self._known[worker].get(cluster)
        return None if load is None else load.rooms.get(backend)

    def _on_the_way(self, cluster: str) -> bool:
        """Whether anybody has more in flight than it should, so that others will get it."""
        return any(
            room.active > room.room
            for known in self._known.values()
            if cluster in known
            for room in known[cluster].rooms.values()
        )

    # Words

    async def _load(self, worker: Worker) -> dict[str, Load]:
        """How busy one is."""
        parts, first, more = [], True, True
        while more:
            answer = await self._ask(worker, commands.Load, first=first)
            parts.append(answer["piece"])
            more, first = answer["more"], False
        said = json.loads(b"".join(parts))
        return {
            cluster: Load(waiting, {name: Room(*room) for name, room in rooms.items()})
            for cluster, (waiting, rooms) in said.items()
        }

    async def _tell(self, told: Mapping[Worker, Rooms]) -> None:
        """Say what each may have, and take down what it may have in flight by then."""
        asked = [(worker, rooms) for worker, whole in told.items() for rooms in _in_parts(whole)]
        for worker, rooms in asked:
            # Before it hears of it: from then on it may, whether it answers or not.
            self._note(worker, rooms, raised=True)
        answers: Any = await DeferredList(
            [self._ask(worker, commands.Share, room=json.dumps(rooms).encode()) for worker, rooms in asked],
            consumeErrors=True,
        )
        for (worker, rooms), (went_well, answer) in zip(asked, answers, strict=True):
            if went_well and worker in self._known:
                self._note(worker, rooms, held=json.loads(answer["held"]))

    def _note(self, worker: Worker, rooms: Rooms, raised: bool = False, held: Rooms | None = None) -> None:
        known = self._known[worker]
        for cluster, backends in rooms.items():
            load = known[cluster]
            changed = dict(load.rooms)
            for name, share in backends.items():
                room = changed[name]
                if held is not None:
                    # What it does not have any more, it said nothing of.
                    changed[name] = room._replace(room=share, active=held.get(cluster, {}).get(name, 0))
                elif raised and share > room.room:
                    changed[name] = room._replace(room=share)
            known[cluster] = Load(load.waiting, changed)


#: What one has of a backend that it does not know, and of a cluster.
_NONE = Room(0, 0, 0, False)
_IDLE = Load(0, {})


def _portioned(free: int, lacking: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """
    @param free: what there is.
    @param lacking: what each would have, of C{wanted} in all.
    @return: what each gets, by what it lacks; of what does not divide, those first who have least of what they should.
    """
    need = sum(lacking)
    if need <= free:
        return list(lacking)
    if free <= 0:
        return [0] * len(lacking)
    gifts = [free * lack // need for lack in lacking]
    order = sorted(
        (number for number, lack in enumerate(lacking) if lack > gifts[number]),
        key=lambda number: -(lacking[number] - gifts[number]) / max(1, wanted[number]),
    )
    for number in order[: free - sum(gifts)]:
        gifts[number] += 1
    return gifts


def _in_parts(rooms: Rooms) -> Iterator[Rooms]:
    """The same in pieces that are not too long."""
    part: Rooms = {}
    size = 0
    for cluster, backends in rooms.items():
        for name, room in backends.items():
            # As JSON has them, at the worst: six bytes for a character.
            size += 6 * len(name) + 24 + (0 if cluster in part else 6 * len(cluster) + 8)
            part.setdefault(cluster, {})[name] = room
            if size >= TOLD:
                yield part
                part, size = {}, 0
    if part:
        yield part
