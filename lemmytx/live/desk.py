"""
The store of one process: opened as the configuration wants it, told once a second what this process does, and exchanged
when another one is wanted.

Each process of an instance has its own: a parent of workers serves no requests, but changes states for operators, and
tells the others how the instance as a whole is doing.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from lemmytx import __version__, model
from lemmytx.interfaces import IBackendStore
from lemmytx.live import spare
from lemmytx.live.keeper import NOWHERE, Keeper
from lemmytx.live.spare import Spare
from lemmytx.plugin import build_store, find_stores
from lemmytx.store.place import Place
from lemmytx.store.private import effective
from lemmytx.table import Hint, Record, Report, StoreUnavailable, Table

log = Logger(namespace="lemmytx.store")

#: Seconds between two reports.
BEAT = 1.0

#: Hints that go out in a second. More would be a storm, and the others look by themselves anyway.
MOST_HINTS = 20

#: Stores that are on this machine: what they have is as much at hand as a copy of it.
LOCAL = ("memory", "file")

#: How many other processes are shown.
MOST_SHOWN = 100

#: User and password in a URL.
_LOGIN = re.compile(r"//[^/@\s]*@")

#: What others have in flight, by vhost and member text.
Elsewhere = Mapping[tuple[str, str], int]


class Desk:
    """
    @ivar folder: of the configuration's file.
    @ivar private: a folder for the processes of this instance alone; empty: there is but one, or it has none.
    @ivar keeper: of the store at work; L{None} before the first.
    @ivar others: all processes that share the table, as they last said.
    """

    def __init__(self, reactor: Any, role: str, writes: bool = True, quiet: bool = False) -> None:
        """
        @param role: what this process is to its instance, for people: C{alone}, C{worker 1}, C{parent}.
        @param writes: whether it is the one that keeps the copy of the table.
        @param quiet: another one tells of trouble.
        """
        self.folder = os.getcwd()
        self.private = ""
        self.keeper: Keeper | None = None
        self.others: Sequence[Record] = ()
        self._reactor = reactor
        self._role = role
        self._writes = writes
        self._quiet = quiet
        self._started = reactor.seconds()
        self._start = 0
        self._report: Callable[[bool], Awaitable[Report]] | None = None
        self._heard: Callable[[Elsewhere], None] | None = None
        self._beats = LoopingCall(self._beat)
        self._beats.clock = reactor
        self._busy = False
        self._next_stats = 0.0
        self._hints = 0
        self._closing: list[Deferred[Any]] = []
        self._ended = False

    @property
    def store(self) -> IBackendStore | None:
        """The one at work."""
        return None if self.keeper is None else self.keeper.store

    @property
    def table(self) -> Table:
        """The newest that is known."""
        return Table() if self.keeper is None else self.keeper.table

    async def prepare(self, configuration: model.Configuration, folders: Sequence[str]) -> Keeper | None:
        """
        Open the store that is wanted, and have its table. It takes two seconds at the most.

        @param folders: of drop-in plugins, absolute.
        @return: who looks after it; L{None}: it is the present one.
        @raise ValueError: it cannot be used, or not with these options; with a text for the user.
        @raise lemmytx.finding.PluginError: it is a plugin's, and that is of no use.
        """
        settings = effective(configuration.store, self.private)
        kind, options = settings.type, dict(settings.options)
        what = repr((kind, sorted(options.items(), key=repr), self.folder))
        key = repr((what, settings.lease, settings.outage_copy, tuple(folders)))
        if self.keeper is not None and self.keeper.key == key:
            return None
        place = Place(self._reactor, self.folder, settings.lease)
        store = build_store(find_stores(folders), kind, options, place)
        copy = None
        wanted = settings.outage_copy
        if kind not in LOCAL and wanted != "off":
            wanted = os.path.join(self.folder, os.path.expanduser(wanted)) if wanted else ""
            # Who has another password from now on still has the same table.
            which = _LOGIN.sub("//", what)
            copy = Spare(spare.place(wanted, which, dict(os.environ)), kind, self._reactor, self._writes)
        keeper = Keeper(configuration.store.type, store, self._reactor, copy, self._quiet)
        keeper.key = key
        await keeper.open()
        if self.keeper is not None and keeper.source == NOWHERE:
            # There is a table at work, and none here: whoever wrote that did not mean that all should be gone.
            why = keeper.problem or "it does not answer"
            self._close(keeper)
            raise ValueError(f"not available: {why}; the present one goes on")
        return keeper

    def commit(
        self,
        keeper: Keeper | None,
        take: Callable[[Table], Any],
        hinted: Callable[[Hint], None],
        report: Callable[[bool], Awaitable[Report]],
        heard: Callable[[Elsewhere], None],
    ) -> None:
        """
        Put what was prepared to work.

        @param take: see L{Keeper.follow}, C{hinted} too.
        @param report: says what this process does; it is asked for statistics, too, or not.
        @param heard: called with what others have in flight.
        """
        self._report, self._heard = report, heard
        if keeper is not None:
            former, self.keeper = self.keeper, keeper
            self.others = ()
            self._next_stats = 0.0
            if former is not None:
                self._close(former)
        if self.keeper is not None:
            self.keeper.follow(take, hinted)
        if not self._beats.running and not self._ended:
            self._beats.start(BEAT, now=False)

    def abort(self, keeper: Keeper | None) -> None:
        """What was prepared is not wanted."""
        if keeper is not None:
            self._close(keeper)

    def _close(self, keeper: Keeper) -> Deferred[Any]:
        closing: Deferred[Any] = keeper.close()
        self._closing = [*(each for each in self._closing if not each.called), closing]
        return closing

    # What it says to others

    def _beat(self) -> None:
        self._hints = 0
        if not self._busy and self.keeper is not None and self._report is not None:
            self._busy = True
            Deferred.fromCoroutine(self._publish(self.keeper)).addErrback(
                lambda failure: log.failure("the store could not be told what this process does", failure)
            ).addBoth(self._published)

    def _published(self, _: Any) -> None:
        self._busy = False

    async def _publish(self, keeper: Keeper) -> None:
        report, heard, store = self._report, self._heard, keeper.store
        assert report is not None and heard is not None
        now = self._reactor.seconds()
        due = now >= self._next_stats
        if not store.shared and not due:
            return
        if due:
            self._next_stats = now + max(BEAT, min(float(store.refresh), 30.0))
        try:
            elsewhere = await store.publish(await report(due))
            if keeper is self.keeper:
                heard(elsewhere)
            if due:
                others = await store.instances()
                if keeper is self.keeper:
                    self.others = others
        except StoreUnavailable:
            pass  # the store's problem says so, and the next report makes it right

    def record(self, listeners: Sequence[str], load: int) -> dict[str, Any]:
        """
        What others are told of this process, for people.

        @param listeners: where it serves.
        @param load: how many exchanges are under way.
        """
        if not self._start:
            self._start = int(time.time() - (self._reactor.seconds() - self._started))
        return {
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "process": self._role,
            "address": list(listeners),
            "version": __version__,
            "start": self._start,
            "load": load,
        }

    def hint(self, hint: Hint) -> None:
        """Others may want to look at a backend."""
        keeper = self.keeper
        if keeper is None or not keeper.store.shared or keeper.problem or self._hints >= MOST_HINTS:
            return
        self._hints += 1
        Deferred.fromCoroutine(_hinted(keeper.store, hint)).addErrback(
            lambda failure: log.failure("a hint could not be given", failure)
        )

    # What is shown

    def facts(self) -> dict[str, Any]:
        """What the admin side says of it."""
        if self.keeper is None:
            return {}
        shown = [
            {"identity": record.identity, "lease": round(record.lease, 1), **dict(record.about)}
            for record in self.others[:MOST_SHOWN]
        ]
        return {**self.keeper.facts(), "processes": shown}

    # The end

    def close(self) -> Deferred[Any]:
        """
        @return: fires when all is closed, within two seconds or so.
        """
        self._ended = True
        if self._beats.running:
            self._beats.stop()
        if self.keeper is not None:
            self._close(self.keeper)
        return DeferredList(list(self._closing))


async def _hinted(store: IBackendStore, hint: Hint) -> None:
    try:
        await store.hint(hint)
    except StoreUnavailable:
        pass  # it gets there or not
