"""
The workers of an instance, as their parent sees them: started, told, watched, started again.

A worker is a process of its own (L{lemmytx.worker}). It gets its listening sockets and its configuration over the
control connection, as soon as it is there and in the same words as at a reload later. One that ends is replaced, after
a pause that doubles each time until one has served for a while. One that was away during a reload comes up with the
configuration that holds by then.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
import zlib
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, TimeoutError, ensureDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from lemmytx import __version__, commands, model
from lemmytx.asking import PATIENCE, STATISTICS, Asking
from lemmytx.assemble import CannotStart
from lemmytx.doors import Descriptors
from lemmytx.interfaces import Busy, Refused
from lemmytx.live.parent import ParentTable
from lemmytx.model.waiting import bucket_names
from lemmytx.net.notify import VARIABLES
from lemmytx.net.turns import Board
from lemmytx.process import Worker
from lemmytx.proxy.snapshot import Snapshot, Totals
from lemmytx.rebalance import Division
from lemmytx.states import States
from lemmytx.store.private import PrivateFolder
from lemmytx.table import State
from lemmytx.watch import Watch
from lemmytx.worker import BOARD, CONTROL

log = Logger(namespace="lemmytx.workers")

#: Seconds before a worker that ended is replaced: at first, and at most. Each time in a row it is twice as long.
AGAIN = 0.1
AGAIN_MOST = 30.0

#: Seconds of service after which the next end is the first in a row again.
SETTLED = 10.0

#: Seconds that a worker has to end after it should have.
GRACE = 10.0


#: A configuration on its way: as it is, as it is sent, the sockets for it, and who has been asked to prepare it.
_Next = tuple[model.Configuration, tuple[bytes, list[str]], dict[str, list[int]], list[Worker]]


class Crew:
    """
    All workers.

    @ivar configuration: the one that holds.
    @ivar private: what the workers share where the store is C{memory}.
    @ivar states: what is wanted of backends.
    """

    def __init__(self, reactor: Any, reactor_name: str, count: int) -> None:
        """
        @param reactor_name: Twisted's short name of the reactor that the workers run on.
        @param count: how many.
        """
        self._reactor = reactor
        self._reactor_name = reactor_name
        self._count = count
        self._board = Board()
        self._secret = os.urandom(48)
        self._workers: dict[int, Worker] = {}
        self._waiting: dict[int, Any] = {}
        self._in_a_row: dict[int, int] = {}
        self._restarts: dict[int, int] = {}
        self._totals = Totals()
        self._generation = -1
        self._message: tuple[bytes, list[str]] = (b"", [])
        self._descriptors: dict[str, list[int]] = {}
        self._next: _Next | None = None
        self._held: list[Worker] = []
        self._ending = False
        self._late: Any = None
        self._asking = Asking(reactor)
        self._watch = Watch(reactor, self._asking, self._present, self._totals)
        self._division = Division(
            reactor,
            lambda: [worker for worker in self._present() if worker.sharing],
            lambda worker, command, **arguments: self._asking.ask(worker, command, STATISTICS, **arguments),
            lambda: self._generation if self._next is None else None,
            lambda: self._count,
        )
        self._first: Deferred[None] | None = None
        self._untried: set[int] = set()
        self.states = States(reactor)
        self.configuration = model.Configuration()
        self.private = PrivateFolder()
        self._table = ParentTable(reactor, self.states, lambda: self._totals.merged(reactor))

    # What an instance asks of its members

    def begins_at(self, folder: str) -> None:
        """The folder of the configuration's file."""
        self._table.desk.folder = folder

    def store(self) -> dict[str, Any]:
        """What there is to say of the store."""
        return self._table.facts()

    def start(self) -> None:
        """The reactor runs, or is about to."""
        self._watch.start()
        self._division.start()

    async def prepare(
        self, configuration: model.Configuration, folders: Sequence[str], descriptors: Descriptors
    ) -> list[str]:
        """
        Have all workers build a configuration.

        @return: what should be known of it, and which worker says so.
        @raise CannotStart: one of them cannot. Nothing has changed then.
        """
        private = self.private.wanted(configuration.store)
        message = (pickle.dumps((configuration, self._secret, private, self._table.desk.folder)), list(folders))
        self._table.desk.private = private
        await self._table.prepare(configuration, folders)
        known = {endpoint: list(numbers) for endpoint, numbers in descriptors.items()}
        asked = [worker for worker in self._present() if worker.told and not worker.leaving]
        self._next = (configuration, message, known, asked)
        answers: Any = await DeferredList(
            [ensureDeferred(self._hold(worker, message, known)) for worker in asked], consumeErrors=True
        )
        refused = [answer.value for went_well, answer in answers if not went_well]
        for worker, (went_well, answer) in zip(asked, answers, strict=True):
            # One that has ended comes up again with whatever holds then; all others must be able to.
            if not went_well and not isinstance(answer.value, CannotStart) and worker.serving:
                log.error("{worker} did not answer: {why!r}; it is replaced", worker=worker, why=answer.value)
                worker.kill()
        reasons = [error for error in refused if isinstance(error, CannotStart)]
        if reasons:
            await self.abort()
            raise reasons[0]
        return [
            f"{doubt} (worker {worker.name})"
            for worker, (went_well, doubts) in zip(asked, answers, strict=True)
            if went_well
            for doubt in doubts
        ]

    async def _hold(
        self, worker: Worker, message: tuple[bytes, list[str]], descriptors: dict[str, list[int]]
    ) -> list[str]:
        """Have one prepare, and nobody else configure it before this is committed or given up."""
        await worker.configuring.acquire().addTimeout(PATIENCE, self._reactor)
        self._held.append(worker)
        return await self._asking.prepare(worker, message, descriptors)

    def _release(self) -> None:
        held, self._held = self._held, []
        for worker in held:
            worker.configuring.release()

    async def commit(self) -> None:
        """Put to work what was prepared, everywhere."""
        assert self._next is not None
        configuration, self._message, self._descriptors, asked = self._next
        self._next = None
        self.configuration = configuration
        self._table.commit()
        self._generation += 1
        generation = self._generation
        self._totals.keep(
            [vhost.name for vhost in configuration.vhosts],
            {name: [b.name for b in cluster.backends] for name, cluster in configuration.clusters.items()},
            {name: list(bucket_names(cluster.buckets)) for name, cluster in configuration.clusters.items()},
        )
        self._resize()
        first = self._first is None
        if first:
            self._first = Deferred()
            self._untried = set(self._workers)
        answers: Any = await DeferredList(
            [self._asking.ask(worker, commands.Commit) for worker in asked], consumeErrors=True
        )
        for worker, (went_well, answer) in zip(asked, answers, strict=True):
            if went_well:
                worker.generation = generation
            elif worker.serving and not answer.check(ConnectionLost, ConnectionDone):
                log.error("{worker} could not take it: {why!r}; it is replaced", worker=worker, why=answer.value)
                worker.kill()
        self._release()
        self._division.soon()
        for worker in self._present():
            if worker.serving and worker.generation != generation and worker not in asked:
                # It came up while the others were preparing, with what held until now.
                ensureDeferred(self._bring_up(worker)).addErrback(self._not_up, worker)
        if first and self._first is not None and self._untried:
            await self._first

    async def abort(self) -> None:
        """Forget what was prepared, everywhere."""
        self._table.abort()
        if self._next is None:
            return
        asked, self._next = self._next[3], None
        await DeferredList([self._asking.ask(worker, commands.Abort) for worker in asked], consumeErrors=True)
        self._release()

    async def forget(self, endpoint: str) -> None:
        """The sockets of an endpoint are not needed any more."""
        self._descriptors.pop(endpoint, None)
        for worker in self._present():
            worker.endpoints.discard(endpoint)
        await DeferredList(
            [self._asking.ask(worker, commands.Forget, endpoint=endpoint) for worker in self._present()],
            consumeErrors=True,
        )

    def ready(self) -> str | None:
        """Why nobody serves; L{None} when somebody does."""
        return None if any(worker.serving for worker in self._workers.values()) else "no worker serves"

    @property
    def exchanges(self) -> int:
        """How many were under way when each was last asked."""
        return sum(said.exchanges for said in map(self._totals.of, self._workers) if said is not None)

    async def snapshot(self) -> Snapshot:
        """The statistics of all: of one that is busy, its last ones."""
        await DeferredList(
            [ensureDeferred(self._watch.hear(worker, STATISTICS)) for worker in self._present() if worker.serving],
            consumeErrors=True,
        )
        return await self._totals.merged(self._reactor)

    def workers(self) -> list[dict[str, Any]]:
        """What the statistics say of each."""
        found = []
        for number, worker in sorted(self._workers.items()):
            said = self._totals.of(number)
            found.append(
                {
                    "id": worker.name,
                    "pid": worker.pid,
                    "uptime_sec": round(self._reactor.seconds() - worker.since, 3),
                    "downstreams": 0 if said is None else said.downstreams,
                    "exchanges": 0 if said is None else said.exchanges,
                    "restarts": self._restarts.get(number, 0),
                }
            )
        return found

    async def want(self, cluster: str, backend: str, state: str, why: str, by: str) -> State:
        """Have the store tell all workers."""
        return await self.states.want(cluster, backend, state, why, by, {})

    async def explain(self, url: str, method: str, fields: Sequence[tuple[str, str]], client: str) -> dict[str, Any]:
        """What one of them says that serves; C{worker} is its name."""
        asked = json.dumps([url, method, list(fields), client], ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(asked) > commands.PART:
            raise Refused("that is too long for a request")
        for _, worker in sorted(self._workers.items()):
            if worker.serving and not worker.leaving:
                try:
                    answer = await self._asking.ask(worker, commands.Explain, STATISTICS, asked=asked)
                except (ConnectionLost, ConnectionDone, TimeoutError):
                    continue
                told: dict[str, Any] = json.loads(zlib.decompress(answer["answer"]))
                return {"worker": worker.name, **told}
        raise Busy("no worker answers")

    def reopen_logs(self) -> None:
        """Log files were moved away."""
        for worker in self._present():
            self._asking.ask(worker, commands.Reopen).addErrback(lambda _: None)

    def drain(self) -> Deferred[Any]:
        """
        Let all workers go in good order.

        @return: fires when all are gone.
        """
        self._end_restarts()
        for worker in self._present():
            worker.leaving = True
            self._asking.ask(worker, commands.Drain).addErrback(lambda _: None)
        self._kill_in(self.configuration.timeouts.drain + GRACE)
        gone = DeferredList([_fired(worker.ended) for worker in self._present()])
        return gone.addCallback(lambda _: self._table.close())

    def hurry(self) -> None:
        """While they go: have them go now."""
        self._end_restarts()
        for worker in self._present():
            worker.leaving = True
            self._asking.ask(worker, commands.Hurry).addErrback(lambda _: None)
        self._kill_in(GRACE)

    def _kill_in(self, seconds: float) -> None:
        """End those who have not ended by then."""
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._late = self._reactor.callLater(seconds, self._kill)

    def end(self) -> None:
        """Nothing is left to do."""
        self._end_restarts()
        self._table.close()
        self.states.close()
        self._kill()
        if self._late is not None and self._late.active():
            self._late.cancel()
        self.private.end()
        self._division.stop()
        self._watch.stop()

    # Processes

    def _resize(self) -> None:
        """As many workers as are wanted."""
        count = self._count
        for number in range(count):
            if number not in self._workers and number not in self._waiting:
                self._spawn(number)
        for number in list(self._waiting):
            if number >= count:
                self._waiting.pop(number).cancel()
        for number, worker in self._workers.items():
            if number >= count and not worker.leaving:
                worker.leaving = True
                self._asking.ask(worker, commands.Drain).addErrback(lambda _: None)

    def resize(self, count: int) -> None:
        """Another number of workers, from the next commit on."""
        self._count = count

    def _spawn(self, number: int) -> None:
        self._waiting.pop(number, None)
        ours, theirs = socket.socketpair()
        nothing = os.open(os.devnull, os.O_RDONLY)
        worker = Worker(number, self._gone, self._seen)
        try:
            transport = self._reactor.spawnProcess(
                worker,
                sys.executable,
                [sys.executable, "-m", "lemmytx.worker", self._reactor_name, str(number), __version__],
                {name: value for name, value in os.environ.items() if name not in VARIABLES},
                childFDs={0: nothing, 1: 1, 2: "r", CONTROL: theirs.fileno(), BOARD: self._board.fd},
            )
        except OSError as error:
            log.error("worker {name} could not be started: {why}", name=worker.name, why=error.strerror or str(error))
            ours.close()
            self._again(number)
            self._tried(number)
            return
        finally:
            os.close(nothing)
            theirs.close()
        worker.pid = transport.pid
        worker.since = self._reactor.seconds()
        self._workers[number] = worker
        ours.setblocking(False)
        self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: worker.control))
        ours.close()
        ensureDeferred(self._bring_up(worker)).addErrback(self._not_up, worker)

    async def _bring_up(self, worker: Worker) -> None:
        """Give it what it needs to serve. A reload that comes meanwhile is given to it, too."""
        while worker.generation != self._generation:
            await worker.configuring.acquire().addTimeout(PATIENCE, self._reactor)
            try:
                generation = self._generation
                if worker.generation == generation:
                    break
                await self._asking.prepare(worker, self._message, self._descriptors)
                if generation != self._generation:
                    continue
                if not worker.sharing:
                    await self._division.welcome(worker)
                    if generation != self._generation:
                        continue
                # From here on a reload has to ask it as well; it waits until this is done.
                worker.told = True
                await self._asking.ask(worker, commands.Commit)
                worker.generation = generation
            finally:
                worker.configuring.release()
        worker.serving = True
        log.info("{worker} serves", worker=worker)
        self._tried(worker.number)

    def _tried(self, number: int) -> None:
        """One of those that the start waits for serves, or has failed once: others must not wait for it."""
        self._untried.discard(number)
        if not self._untried and self._first is not None and not self._first.called:
            self._first.callback(None)

    def _not_up(self, failure: Any, worker: Worker) -> None:
        if worker.leaving or self._workers.get(worker.number) is not worker:
            return
        if failure.check(ConnectionLost, ConnectionDone):
            return  # it has ended, and that is told with the reason
        log.error("{worker} could not be made to serve: {why}", worker=worker, why=_reason(failure.value))
        worker.kill()

    def _gone(self, worker: Worker, why: str) -> None:
        """A process has ended."""
        number = worker.number
        worker.serving = False
        del self._workers[number]
        self._board.clear(number)
        self._totals.gone(number)
        if self._reactor.seconds() - worker.since >= SETTLED:
            self._in_a_row[number] = 0
        if worker.leaving or self._ending:
            log.info("{worker} has ended: {why}", worker=worker, why=why)
            if not self._ending and number < self._count:
                self._spawn(number)  # the number of workers went down and up again
            return
        pause = self._again(number)
        self._tried(number)
        log.error("{worker} ended: {why}; another one starts in {pause:g} s", worker=worker, why=why, pause=pause)

    def _again(self, number: int) -> float:
        """Start another one, later. Return in how many seconds."""
        times = self._in_a_row.get(number, 0)
        self._in_a_row[number] = times + 1
        self._restarts[number] = self._restarts.get(number, 0) + 1
        pause = min(AGAIN_MOST, AGAIN * 2 ** min(times, 20))
        self._waiting[number] = self._reactor.callLater(pause, self._spawn, number)
        return float(pause)

    def _end_restarts(self) -> None:
        self._ending = True
        for call in self._waiting.values():
            call.cancel()
        self._waiting.clear()
        if self._first is not None and not self._first.called:
            self._first.callback(None)

    def _kill(self) -> None:
        for worker in list(self._workers.values()):
            log.error("{worker} does not end; it is killed", worker=worker)
            worker.kill()

    # Who is there

    def _present(self) -> list[Worker]:
        return list(self._workers.values())

    def _seen(self, worker: Worker, changes: bytes) -> None:
        """The checks of one see backends in another state: the others may want to look for themselves."""
        for other in self._present():
            control: Any = other.control
            if other is not worker and other.serving and control.transport is not None:
                control.callRemote(commands.Look, changes=changes)


def _fired(original: Deferred[None]) -> Deferred[None]:
    """One that fires when the other does, whatever becomes of it then."""
    copy: Deferred[None] = Deferred()

    def fired(result: Any) -> Any:
        copy.callback(None)
        return result

    original.addBoth(fired)
    return copy


def _reason(error: BaseException) -> str:
    """An error, for people."""
    return str(error) or repr(error)
