"""
The data path of one process: what accepts clients and serves them, by a configuration that can be replaced.

Another configuration comes in two steps, so that several processes can take it together or not at all.
L{Serving.prepare} builds, beside what is at work, everything that could fail: plugins, routes, ports, the addresses of
new backends. Of what it gives, L{Prepared.commit} puts it to work between two requests, L{Prepared.abort} forgets it.
The first configuration comes in the same way.

Listening sockets come from outside (L{lemmytx.net.sockets}): several processes accept from the same ones.
"""

from __future__ import annotations

import os
import resource as rlimit
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from lemmytx import model
from lemmytx.assemble import CannotStart, Plan
from lemmytx.checks.rounds import Rounds
from lemmytx.checks.sightings import Sighting, Sightings
from lemmytx.cluster import rooms
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cover import uncovered
from lemmytx.cluster.located import Located
from lemmytx.cluster.shares import Load, portion
from lemmytx.cluster.traffic import Traffic
from lemmytx.config.advice import advice
from lemmytx.doors import Descriptors, Door, Doors
from lemmytx.interfaces import Busy
from lemmytx.live.table import LiveTable, Pending
from lemmytx.net.log_file import LogFile
from lemmytx.net.network import Network
from lemmytx.net.sockets import CannotListen
from lemmytx.net.ticker import Ticker
from lemmytx.net.turns import Turns
from lemmytx.proxy.access_log import appender, rejection_formatter
from lemmytx.proxy.explain import MOST, ask, explain
from lemmytx.proxy.listener import Connections
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.snapshot import Snapshot, counters, take, traffics
from lemmytx.proxy.statistics import Recent
from lemmytx.states import States

log = Logger(namespace="lemmytx")

#: Seconds that a change waits for the addresses of its new backends. Names that are not known by then come later.
RESOLVING = 5.0

#: Seconds that a reload waits, at the most, for the last lines of an access log that it replaces.
LAST_LINES = 0.5

#: Seconds between two looks at the files of certificates.
LOOK_AT_FILES = 10.0


class Prepared:
    """A configuration that L{Serving} could take."""

    def __init__(self, serving: Serving, plan: Plan, located: dict[Backend, Located], doors: dict[str, Door]) -> None:
        self._serving = serving
        self.plan = plan
        self.located = located
        self.doors = doors
        self.pending: Pending | None = None

    def doubts(self) -> list[str]:
        """What should be known of it, one sentence each: classes that it leaves without what they are ensured now."""
        resource, plan = self._serving.resource, self.plan
        removed = set(plan.removed)
        found: list[str] = []
        for name, cluster in {} if resource is None else resource.clusters.items():
            settings = plan.configuration.clusters.get(name)
            if settings is not None and settings.buckets and plan.clusters.get(name) is cluster:
                coming = [backend for where, backend in plan.added if where == name]
                found.extend(f"clusters.{name}: {reason}" for reason in uncovered(cluster, removed, coming))
        return found

    def commit(self) -> None:
        """Put it to work: everything holds from the next request on."""
        self._serving._commit(self)

    def abort(self) -> None:
        """Forget it: nothing has changed."""
        for located in self.located.values():
            located.stop()
        for door in self.doors.values():
            door.close()
        if self.pending is not None:
            self.pending.abort()


class Serving:
    """
    @ivar resource: what serves; L{None} before the first configuration.
    @ivar connections: of the clients.
    @ivar configuration: the one at work.
    @ivar sightings: what other processes should know of the backends that this one checks.
    @ivar states: what is wanted of backends, whatever their health.
    @ivar table: the store, and what is served of it.
    @ivar secret: what all processes of the instance have in common. Session tickets are made with it.
    @ivar folder: of the configuration's file.
    @ivar private: the folder in which they share what is only in memory (L{lemmytx.store.private}); empty: there is
        only this process.
    """

    def __init__(
        self, reactor: Any, turns: Turns | None = None, log_lock: int | None = None, number: int | None = None
    ) -> None:
        """
        @param turns: by which processes that accept from the same sockets take turns; L{None}: there is only this one.
        @param log_lock: a descriptor by which processes that write to one pipe take turns.
        @param number: which of the processes this is, from 0; L{None}: there is only this one.
        """
        self._number = number
        self._reactor = reactor
        self._turns = turns
        self._log_lock = log_lock
        self._network = Network(reactor)
        self.ticker = Ticker(reactor, time.monotonic)
        self.resource: ReverseProxyResource | None = None
        self.connections = Connections(0, turns)
        self._doors = Doors(reactor, self._network, self.ticker, self.connections)
        self.recent = Recent(
            lambda: [] if self.resource is None else counters(self.resource),
            reactor,
            lambda: traffics(self.resource),
            self.ticker.seconds,
        )
        self.sightings = Sightings(reactor)
        self.states = States(reactor, quiet=bool(number))
        self._rounds = Rounds(reactor, told=self._health_changed)
        self.table = LiveTable(
            reactor, self._network, self.states, self.recent, number, self._doors.end_on, self._health_changed
        )
        self.table.look = self._rounds.look
        self.configuration = model.Configuration()
        self.secret = os.urandom(48)
        self.private = ""
        self.folder = os.getcwd()
        self._files = task.LoopingCall(self._doors.look_at_files)
        self._files.clock = reactor
        self._located: dict[Backend, Located] = {}
        self._log_file: LogFile | None = None
        self._descriptors = inf
        self._removed = Traffic()
        self._hurried = False
        self._fresh = True

    def start(self) -> None:
        """The reactor runs, or is about to."""
        self._descriptors = raise_descriptor_limit()
        self.ticker.start()
        self.recent.start()
        self._files.start(LOOK_AT_FILES, now=False)

    # Another configuration

    async def prepare(
        self, configuration: model.Configuration, folders: Sequence[str], descriptors: Descriptors
    ) -> Prepared:
        """
        Build what a configuration wants.

        @param folders: of drop-in plugins, absolute.
        @param descriptors: the sockets of all its listeners. They stay the caller's.
        @raise CannotStart: with all that cannot be had. Nothing has changed then.
        """
        before = None if self.resource is None else (self.configuration, self.resource)
        portion_of, terms = self._portion(configuration), self._doors.terms()
        plan = Plan(configuration, folders, self._network, before, portion_of, terms, self.secret)
        prepared = Prepared(self, plan, {}, {})
        try:
            resource = plan.resource(self.ticker) if self.resource is None else self.resource
            await self._open(prepared, resource, descriptors)
            await self._locate(prepared)
            place = None if self._number is None else (self._number, workers(configuration))
            self.table.desk.folder, self.table.desk.private = self.folder, self.private
            prepared.pending = await self.table.prepare(plan, folders, self.secret, place)
        except BaseException:
            prepared.abort()
            raise
        if self.resource is None:
            self.resource = resource
        return prepared

    def _portion(self, configuration: model.Configuration) -> Callable[[int], int] | None:
        """
        How much of a capacity is ours while nobody knows who is busy. Nothing before the first configuration is at
        work: others may be at work already, and use all of it.
        """
        number, fresh = self._number, self._fresh
        if number is None:
            return None
        return lambda capacity: 0 if fresh else portion(capacity, number, workers(configuration))

    async def _open(self, prepared: Prepared, resource: ReverseProxyResource, descriptors: Descriptors) -> None:
        """Adopt the sockets of new listeners."""
        for settings in prepared.plan.configuration.listeners:
            description = settings.endpoint
            if description in self._doors or description not in descriptors:
                continue
            terms = prepared.plan.terms[description]
            try:
                door = await self._doors.prepare(description, descriptors[description], resource, terms)
            except CannotListen as error:
                raise CannotStart(str(error)) from error
            prepared.doors[description] = door

    async def _locate(self, prepared: Prepared) -> None:
        """Begin to look after the addresses of new backends, and wait for them a little."""
        waiting = []
        for cluster, backend in prepared.plan.added:
            if not backend.location.path:
                located = prepared.located[backend] = Located(self._reactor, cluster, backend)
                located.start()
                waiting.append(located.first)
        if all(first.called for first in waiting):
            return
        done: Deferred[Any] = gatherResults([_copied(first) for first in waiting])
        # What they have to say comes later then, and is heard all the same.
        await done.addTimeout(RESOLVING, self._reactor, lambda result, seconds: None)

    def _commit(self, prepared: Prepared) -> None:
        resource = self.resource
        assert resource is not None
        old, new = self.configuration, prepared.plan.configuration
        self.configuration = new
        self._doors.drain = new.timeouts.drain
        self._fresh = False
        for name, backend in prepared.plan.added:
            self.states.mark(name, backend)
        prepared.plan.commit(resource, self._removed)
        assert prepared.pending is not None
        self.table.commit(prepared.pending, prepared.plan, resource, self._removed)
        self.states.admit(resource.clusters)
        for backend in prepared.plan.removed:
            located = self._located.pop(backend, None)
            if located is not None:
                located.stop()
        self._located.update(prepared.located)
        self._rounds.follow(prepared.plan.clusters.values(), (self._number or 0, workers(new)))
        self._take_log(old, new)
        self._fit(new.limits.connections)
        gone = self._doors.commit(prepared.doors, prepared.plan.terms)
        self._warn(prepared)
        for door in prepared.doors.values():
            if not self.connections.full:
                door.listener.resume()
        self._doors.take_away(gone)
        if gone or prepared.plan.removed:
            self._doors.end_on(prepared.plan.removed, gone)

    def _warn(self, prepared: Prepared) -> None:
        """What is as it was asked for, and should be known all the same. Workers leave that to the first of them."""
        if self._number:
            return
        said = [
            (description, warning)
            for description, terms in prepared.plan.terms.items()
            if terms.tls is not None
            for warning in terms.tls.warnings()
        ]
        for name, cluster in prepared.plan.clusters.items():
            ways = {backend.way.tls for backend in cluster.backends if backend.way.tls is not None}
            said.extend((f"cluster {name}", warning) for tls in ways for warning in tls.warnings())
        said.extend(advice(prepared.plan.configuration))
        for what, warning in said:
            log.warn("{what}: {about}", what=what, about=warning)

    def _take_log(self, old: model.Configuration, new: model.Configuration) -> None:
        resource = self.resource
        assert resource is not None
        if self._log_file is not None and old.access_log == new.access_log:
            return
        former, self._log_file = self._log_file, None
        resource.record = resource.reject_record = None
        if new.access_log.format != "off":
            self._log_file = log_file = LogFile(
                new.access_log.path, self._reactor, self._reactor.callFromThread, lock=self._log_lock
            )
            log_file.start()
            rejection = rejection_formatter(new.access_log.format)
            resource.record = log_file.recorder(appender(new.access_log.format))
            resource.reject_record = lambda rejected: log_file.append(rejection(rejected))
        if former is not None:
            former.close(LAST_LINES)

    def _fit(self, wanted: int) -> None:
        """Each client may need an upstream too: those whom that leaves nothing wait in the kernel's queue."""
        own = int(min(wanted, self._descriptors // 2))
        if own < wanted and self.connections.limit != wanted:
            log.warn(
                "limits.connections is {wanted}, but with {descriptors} file descriptors (ulimit -Hn) only {limit}"
                " clients can be served at one time{by}; more have to wait",
                wanted=wanted,
                descriptors=self._descriptors,
                limit=own,
                by="" if self._turns is None else " by one worker",
            )
        self.connections.bound(wanted, own)

    # While it serves

    @property
    def exchanges(self) -> int:
        """How many are under way."""
        return 0 if self.resource is None else self.resource.exchanges

    def missing(self) -> list[str]:
        """The listeners that the configuration wants and that are not open."""
        return [each.endpoint for each in self.configuration.listeners if each.endpoint not in self._doors]

    async def snapshot(self) -> Snapshot:
        """The statistics."""
        assert self.resource is not None
        return await take(
            self.resource,
            self.connections,
            self.recent,
            self._reactor,
            self._removed,
            self._doors.refusals(),
            self._doors.certificates(),
        )

    def load(self) -> dict[str, Load]:
        """How busy it is. It may be asked as soon as the first configuration has been prepared."""
        return {} if self.resource is None else rooms.loads(self.resource.clusters.values())

    def share(self, wanted: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
        """See L{rooms.share}."""
        return {} if self.resource is None else rooms.share(self.resource.clusters, wanted)

    def _health_changed(self, cluster: str, backend: Backend) -> None:
        """A check has changed what is known of a backend."""
        self.states.checked(cluster, backend)
        self.table.health_changed(cluster, backend)
        checked = backend.checked
        if checked is not None:
            self.sightings.saw(cluster, backend.name, checked.state in ("up", "going_up"))

    def look(self, changes: Iterable[Sighting]) -> None:
        """Another process sees backends otherwise than before: see for ourselves."""
        for cluster, backend, better in changes:
            self._rounds.look(cluster, backend, better)
            self.table.look_at(cluster, backend, better)

    def explain(
        self, url: str, method: str, fields: Sequence[tuple[str, str]], client: str, most: int = MOST
    ) -> dict[str, Any]:
        """
        What would become of a request.

        @param most: so many backends of a cluster are told one by one.
        @raise BadQuestion: there can be no such request.
        @raise Busy: there is no configuration yet.
        """
        if self.resource is None:
            raise Busy("it is starting")
        return explain(self.resource, ask(url, method, fields, client, self.resource.limits)).as_data(most)

    def reopen_logs(self) -> None:
        """Log files were moved away: write to new ones."""
        if self._log_file is not None:
            self._log_file.reopen()

    # The end

    def drain(self) -> Deferred[None]:
        """
        Accept nobody any more, and let what is under way end, for C{timeouts.drain} seconds.

        @return: fires when it has ended, or the time is over.
        """
        self._doors.close()
        for listener in self._doors.listeners():
            listener.drain()
        end = self._reactor.seconds() + self.configuration.timeouts.drain

        def over() -> bool:
            # Idle connections have a moment to send one more request, and answers may be on their way to slow clients.
            busy = self.exchanges or any(listener.downstreams for listener in self._doors.listeners())
            return not busy or self._hurried or self._reactor.seconds() >= end

        loop = task.LoopingCall(lambda: loop.stop() if over() else None)
        loop.clock = self._reactor
        # The others are to know that it is gone, and not to find it out.
        return loop.start(0.1).addCallback(lambda _: self.table.close()).addCallback(lambda _: None)

    def hurry(self) -> None:
        """While it drains, or about to: wait for nothing."""
        self._hurried = True

    def end(self) -> None:
        """Cut what is left. It blocks until the access log is written, for a few seconds at the most."""
        self._doors.end()
        for located in self._located.values():
            located.stop()
        self._rounds.stop()
        self.table.end()
        self.states.close()
        self.sightings.stop()
        if self.resource is not None:
            for cluster in self.resource.clusters.values():
                for backend in cluster.backends:
                    backend.close_idle()
        self.recent.stop()
        self.ticker.stop()
        if self._files.running:
            self._files.stop()
        if self._log_file is not None:
            self._log_file.close()
            self._log_file = None


def _copied(original: Deferred[None]) -> Deferred[None]:
    """One that fires when the other does, and can be given up without it."""
    copy: Deferred[None] = Deferred()

    def fired(result: None) -> None:
        copy.callback(result)

    original.addCallback(fired)
    return copy


def raise_descriptor_limit() -> float:
    """
    Ask for as many file descriptors as we may have: each client takes one, and so does each upstream.

    @return: how many that are.
    """
    soft, hard = rlimit.getrlimit(rlimit.RLIMIT_NOFILE)
    if soft != hard:
        rlimit.setrlimit(rlimit.RLIMIT_NOFILE, (hard, hard))
    return inf if hard == rlimit.RLIM_INFINITY else hard


def workers(configuration: model.Configuration) -> int:
    """How many processes serve by a configuration; C{auto} is one for each core that this process may run on."""
    return len(os.sched_getaffinity(0)) if configuration.workers == model.AUTO else configuration.workers
