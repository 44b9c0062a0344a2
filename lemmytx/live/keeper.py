"""
The newest table of a store, at hand.

A store is asked for its table when it says that something may have changed, and every C{refresh} seconds; never twice
at the same time. While it does not answer the last table stays. That one is also kept in a file
(L{lemmytx.live.spare}), so that it is there after a restart in the middle of an outage.

Trouble is told once: when it begins, when it becomes another, and when it is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lemmytx.interfaces import IBackendStore
from lemmytx.live.spare import Spare
from lemmytx.table import Hint, StoreUnavailable, Table

log = Logger(namespace="lemmytx.store")

#: Seconds that a start waits for a store. One that comes later is heard all the same.
PATIENCE = 2.0

#: Where the table is from.
NOWHERE, STORE, FILE = "", "store", "copy"


class Keeper:
    """
    Looks after one store, which it opens and closes.

    @ivar kind: the type of the store.
    @ivar key: which store it is, with all its settings; set and compared by whoever opens another one.
    @ivar store: the L{IBackendStore}.
    @ivar table: the newest that is known; an empty one before the first.
    @ivar source: C{store}; C{copy}: it is from an outage before the start; empty: nothing is known yet.
    @ivar since: since when the store is away or back, in seconds since 1970; 0: since the start.
    """

    def __init__(
        self,
        kind: str,
        store: IBackendStore,
        reactor: Any,
        spare: Spare | None = None,
        quiet: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        @param spare: where the last good table is kept; L{None}: nowhere.
        @param quiet: another process tells of trouble.
        @param now: the time of day.
        """
        self.kind = kind
        self.key = ""
        self.store = store
        self.table = Table()
        self.source = NOWHERE
        self.since = 0.0
        self._reactor = reactor
        self._spare = spare
        self._quiet = quiet
        self._now = now
        self._take: Callable[[Table], Any] | None = None
        self._hinted: Callable[[Hint], None] | None = None
        self._why = ""
        self._told_problem = ""
        self._loading = False
        self._once_more = False
        self._closed = False
        self._opening = True
        self._timer = LoopingCall(self.look)
        self._timer.clock = reactor
        self._first: Deferred[None] = Deferred()

    @property
    def problem(self) -> str:
        """Why the table may be old; empty: it is not."""
        return str(self.store.problem) or self._why

    def facts(self) -> dict[str, Any]:
        """What the admin side says of it."""
        said: dict[str, Any] = {"type": self.kind, "status": "unavailable" if self.problem else "OK"}
        if self.problem:
            said["problem"] = self.problem
            said["table"] = {NOWHERE: "none", STORE: "the last one", FILE: "the last one before the start"}[self.source]
        return said

    # The beginning

    async def open(self) -> None:
        """
        Open the store, and have a table: its own, or the last that was known. It takes L{PATIENCE} seconds at the most.

        @raise ValueError: this store can never be used; with a text for the user.
        """
        if self._spare is not None:
            # Before the store is asked: whether an empty one is believed depends on what was known before.
            found = await self._spare.read()
            if found is not None:
                self.table, self.source = found, FILE
        opened: Deferred[Any] = Deferred()
        late = self._reactor.callLater(PATIENCE, self._late, opened)
        maybeDeferred(self.store.open, self._told, self._hint).addBoth(_pass_on, opened)
        try:
            await opened
        except BaseException:
            self._closed = True
            raise
        else:
            self.look()
            await self._first
        finally:
            if late.active():
                late.cancel()
        # Not before: whether there is a table to go on with is what people want to know.
        self._opening = False
        self._tell()
        if not self._closed:
            self._timer.start(max(0.05, float(self.store.refresh)), now=False)

    def follow(self, take: Callable[[Table], Any], hinted: Callable[[Hint], None]) -> None:
        """
        @param take: called with each new table; may return a Deferred, and is not called before that has fired.
        @param hinted: called with the L{Hint}s of others.
        """
        self._take = take
        self._hinted = hinted

    def _late(self, opened: Deferred[Any]) -> None:
        """Wait no longer; what comes later is heard all the same."""
        for waiting in (opened, self._first):
            if not waiting.called:
                waiting.callback(None)

    # Looking

    def _told(self) -> None:
        """The store: something may have changed."""
        self._tell()
        self.look()

    def _hint(self, hint: Hint) -> None:
        if self._hinted is not None:
            self._hinted(hint)

    def look(self) -> None:
        """Ask the store. While it is being asked, this means once more after that."""
        if self._closed:
            return
        if self._loading:
            self._once_more = True
            return
        self._loading = True
        self._once_more = False
        Deferred.fromCoroutine(self._load()).addErrback(
            lambda failure: log.failure("the table of the store could not be applied", failure)
        ).addBoth(self._loaded)

    async def _load(self) -> None:
        known = self.table if self.source == STORE else Table(self.table.vhosts, self.table.states)
        try:
            table = await self.store.load(known)
        except StoreUnavailable as error:
            self._why = str(error)
            return
        if self._closed:
            return
        self._why = ""
        before, self.table = self.table, table
        fresh, self.source = self.source != STORE, STORE
        if self._take is not None:
            # Also when nothing has changed: that it could be asked is worth knowing.
            await maybeDeferred(self._take, table)
        if self._spare is not None and (table is not before or fresh):
            self._spare.keep(table)

    def _loaded(self, _: Any) -> None:
        self._loading = False
        self._tell()
        if not self._first.called:
            self._first.callback(None)
        if self._once_more:
            self.look()

    def _tell(self) -> None:
        """One line for each change."""
        problem = self.problem
        if problem == self._told_problem or self._closed or self._opening:
            return
        before, self._told_problem = self._told_problem, problem
        if bool(before) is not bool(problem):
            self.since = self._now()
        if self._quiet:
            return
        if problem:
            log.error(
                "the {kind} store is not available: {why}; {what}",
                kind=self.kind,
                why=problem,
                what="the last table is used" if self.source else "no table is known yet",
            )
        else:
            log.info("the {kind} store is available again", kind=self.kind)

    # The end

    def close(self) -> Deferred[Any]:
        """
        @return: fires when the store is closed, within two seconds.
        """
        if self._closed:
            return Deferred.fromCoroutine(_nothing())
        self._closed = True
        self._take = self._hinted = None
        if self._timer.running:
            self._timer.stop()
        if self._spare is not None:
            self._spare.close()
        if not self._first.called:
            self._first.callback(None)
        return maybeDeferred(self.store.close).addErrback(
            lambda failure: log.failure("the store could not be closed in good order", failure)
        )


async def _nothing() -> None:
    """Nothing is left to do."""


def _pass_on(result: Any, waiting: Deferred[Any]) -> None:
    """What has come goes to whoever still waits for it."""
    if not waiting.called:
        waiting.callback(result)
    elif isinstance(result, Failure):
        log.failure("the store could not be opened", result)
