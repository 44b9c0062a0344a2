"""
A table in a file, for the processes of one machine: it is there again after a restart.

Why SQLite, and not a file that is replaced as a whole: several processes may change it, people and scripts with the
C{sqlite3} command too; a change costs what changes, not the size of the table; and that a kill or a power failure
leaves all of a change or nothing is what it has been tested for more than anything else.

SQLite blocks, so one thread per store does all of it (L{lemmytx.store.database}). There it is also asked, four times a
second, whether another process has written anything; SQLite has a counter in shared memory for that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger
from zope.interface import implementer

from lemmytx.interfaces import IBackendStore, IStorePlace
from lemmytx.store.database import Database
from lemmytx.store.shared import Unusable
from lemmytx.store.telling import Telling
from lemmytx.store.thread import Thread
from lemmytx.table import Change, Hint, Record, Report, StoreUnavailable, Table

log = Logger(namespace="lemmytx.store")

#: Seconds between two looks at whether others have written.
LOOK = 0.25

#: Of so many looks one tries again what failed.
AGAIN = 4

#: Seconds that closing may take.
CLOSING = 1.8

_Result = TypeVar("_Result")


@implementer(IBackendStore)
class FileStore:
    """See L{IBackendStore}."""

    shared = True
    refresh = 5.0

    def __init__(self, place: IStorePlace, path: str) -> None:
        """
        @param path: of the file; a relative one begins at the folder of the configuration's file.
        """
        if not path or "\0" in path or path.endswith("/"):
            raise ValueError(f"path: found {path!r}; write the path of a file, as in table.db")
        self.path = os.path.normpath(os.path.join(place.folder, os.path.expanduser(path)))
        self._reactor = place.reactor
        self._database = Database(self.path, place.identity, place.lease)
        self._thread: Thread | None = None
        self._telling: Telling | None = None
        self._hinted: Callable[[Hint], None] = _ignored
        # What does not work, by what was tried: that reading works says nothing about writing.
        self._troubles: dict[str, str] = {}
        self._looks_wrong = ""
        self._looks = 0

    def __repr__(self) -> str:
        return f"<FileStore {self.path} {self.problem or 'well'}>"

    @property
    def problem(self) -> str:
        """See L{IBackendStore}."""
        return next(iter(self._troubles.values()), "")

    # In the reactor's thread

    async def open(self, told: Callable[[], None], hinted: Callable[[Hint], None]) -> None:
        """See L{IBackendStore}."""
        self._telling = Telling(self._reactor, told)
        self._hinted = hinted
        self._thread = thread = Thread(self._reactor, f"store {self.path}", LOOK, self._look)
        try:
            await thread.ask(self._database.look)
        except StoreUnavailable as error:
            self._looks_wrong = str(error)
            self._trouble("look", str(error))
        except Unusable:
            self._stop()
            thread.end()
            raise

    async def close(self) -> None:
        """See L{IBackendStore}."""
        thread = self._thread
        self._stop()
        if thread is None:
            return
        left = thread.ask(self._database.leave)
        thread.end()
        try:
            await left.addTimeout(CLOSING, self._reactor)
        except (StoreUnavailable, TimeoutError) as error:
            log.warn("{path} could not be left in good order: {error!s}", path=self.path, error=error)

    def _stop(self) -> None:
        self._thread = None
        self._hinted = _ignored
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.stop()

    def _trouble(self, what: str, text: str) -> None:
        """What became of one thing. Who listens is told when C{problem} is another one now."""
        before = self.problem
        self._troubles.pop(what, None)
        if text:
            self._troubles[what] = text
        if self.problem != before:
            self._tell()

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.tell()

    async def _ask(self, what: str, job: Callable[[], _Result]) -> _Result:
        """
        Do something in the thread.

        @raise StoreUnavailable: it could not be done.
        """
        if self._thread is None:
            raise StoreUnavailable(f"{self.path} is not open")
        asked: Deferred[_Result] = self._thread.ask(job)
        try:
            result = await asked
        except (StoreUnavailable, Unusable) as error:
            self._trouble(what, str(error))
            raise StoreUnavailable(str(error)) from error
        self._trouble(what, "")
        return result

    async def load(self, known: Table) -> Table:
        """See L{IBackendStore}."""
        return await self._ask("read", lambda: self._database.load(known))

    async def change(self, changes: Sequence[Change]) -> None:
        """See L{IBackendStore}."""
        asked = tuple(changes)
        await self._ask("write", lambda: self._database.change(asked))
        self._tell()

    async def publish(self, report: Report) -> Mapping[tuple[str, str], int]:
        """See L{IBackendStore}. Statistics are for Redis: here they are in the admin side."""
        return await self._ask("publish", lambda: self._database.publish(report))

    async def instances(self) -> Sequence[Record]:
        """See L{IBackendStore}."""
        return await self._ask("read", self._database.instances)

    async def hint(self, hint: Hint) -> None:
        """See L{IBackendStore}."""
        try:
            await self._ask("hint", lambda: self._database.hint(hint))
        except StoreUnavailable:
            pass  # it is in problem

    def _looked(self, wrong: str, changed: bool, hints: Sequence[Hint]) -> None:
        """There was something to be seen."""
        self._trouble("look", wrong)
        if changed:
            self._tell()
        for hint in hints:
            self._hinted(hint)

    # In the other thread

    def _look(self) -> None:
        """Called several times a second."""
        self._looks += 1
        if self._looks_wrong and self._looks % AGAIN:
            return
        changed, wrong = False, ""
        hints: list[Hint] = []
        try:
            changed, hints = self._database.look()
        except (StoreUnavailable, Unusable) as error:
            wrong = str(error)
        if changed or hints or wrong != self._looks_wrong:
            self._looks_wrong = wrong
            self._reactor.callFromThread(self._looked, wrong, changed, hints)


def _ignored(hint: Hint) -> Any:
    """The one who gets hints when nobody does."""
