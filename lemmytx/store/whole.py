"""
Stores that read and write the table as a whole: a base for small ones, whose authors say how to do these two things.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from lemmytx.interfaces import IBackendStore, IStorePlace
from lemmytx.store import reading
from lemmytx.store.telling import Telling
from lemmytx.table import (
    Change,
    DropMember,
    DropState,
    DropVhost,
    Entry,
    Fault,
    Hint,
    Member,
    PutMember,
    PutState,
    PutVhost,
    Record,
    Report,
    State,
    StoreUnavailable,
    Table,
)


class Contents:
    """
    What is stored.

    @ivar settings: of vhosts, by name.
    @ivar members: of vhosts, by name and by text.
    @ivar states: by cluster and backend.
    """

    __slots__ = ("members", "settings", "states")

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}
        self.members: dict[str, dict[str, Member]] = {}
        self.states: dict[tuple[str, str], State] = {}

    def changed(self, changes: Sequence[Change]) -> Contents:
        """
        @return: what is stored after these changes. This one stays as it is.
        @raise TypeError: one of them is no change.
        """
        after = Contents()
        after.settings, after.members, after.states = dict(self.settings), dict(self.members), dict(self.states)
        for vhost in {change.vhost for change in changes if isinstance(change, PutMember | DropMember)}:
            if vhost in after.members:
                after.members[vhost] = dict(after.members[vhost])
        for change in changes:
            after._apply(change)
        return after

    def _apply(self, change: Change) -> None:
        match change:
            case PutVhost(name, settings):
                self.settings[name] = settings
                self.members.setdefault(name, {})
            case DropVhost(name):
                self.settings.pop(name, None)
                self.members.pop(name, None)
            case PutMember(vhost, member):
                self.settings.setdefault(vhost, "")
                self.members.setdefault(vhost, {})[member.text] = member
            case DropMember(vhost, text):
                self.members.get(vhost, {}).pop(text, None)
            case PutState(cluster, backend, state):
                self.states[cluster, backend] = state
            case DropState(cluster, backend):
                self.states.pop((cluster, backend), None)
            case _:
                raise TypeError(f"{change!r} is no change of the table")

    def table(self, known: Table) -> Table:
        """See L{IBackendStore.load}."""
        vhosts: dict[str, Entry] = {}
        faults: list[Fault] = []
        for name, settings in self.settings.items():
            entry, wrong = reading.entry(name, settings, self.members.get(name, {}).values())
            faults.extend(wrong)
            if entry is not None:
                vhosts[name] = entry
        states, wrong = reading.states(self.states.items())
        return reading.again(known, vhosts, states, [*faults, *wrong])

    def to_json(self) -> str:
        """All of it as text."""
        vhosts = {
            name: {
                "settings": settings,
                "members": [member._asdict() for member in self.members.get(name, {}).values()],
            }
            for name, settings in self.settings.items()
        }
        states = [
            {"cluster": cluster, "backend": backend, **state._asdict()}
            for (cluster, backend), state in self.states.items()
        ]
        return json.dumps({"vhosts": vhosts, "states": states}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Contents:
        """
        @param text: as L{to_json} makes it. What is said nowhere holds as in L{Member} and L{State}.
        @raise ValueError: it is something else.
        """
        made = cls()
        found = json.loads(text)
        try:
            for name, vhost in found.get("vhosts", {}).items():
                made.settings[name] = vhost.get("settings", "")
                members = [Member(**member) for member in vhost.get("members", ())]
                made.members[name] = {member.text: member for member in members}
            for state in found.get("states", ()):
                cluster, backend = state.pop("cluster"), state.pop("backend")
                made.states[cluster, backend] = State(**state)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"it is not the table of a store: {type(error).__name__}: {error}") from error
        return made


@implementer(IBackendStore)
class WholeStore:
    """
    See L{IBackendStore}. For a subclass to say: L{fetch} and L{keep}; and C{refresh}, where others change what it
    fetches. Processes do not know of each other here, so C{shared} is not for it to say.
    """

    shared = False
    refresh = 60.0

    def __init__(self, place: IStorePlace) -> None:
        self.place = place
        self.problem = ""
        self._telling: Telling | None = None
        self._record: Mapping[str, Any] | None = None
        self._changing = DeferredLock()

    async def fetch(self) -> Contents:
        """
        For subclasses: what is stored now. It is not changed.

        @raise StoreUnavailable: it cannot be had; so L{OSError} and L{ValueError} are taken, too.
        """
        raise NotImplementedError

    async def keep(self, contents: Contents) -> None:
        """
        For subclasses: store this in the place of what was there; durably, and all of it or nothing. Not called again
        before it has ended.

        @raise StoreUnavailable: it cannot be done; so L{OSError} is taken, too.
        """
        raise NotImplementedError

    async def open(self, told: Callable[[], None], hinted: Callable[[Hint], None]) -> None:
        """See L{IBackendStore}. There is nobody who gives hints."""
        self._telling = Telling(self.place.reactor, told)
        try:
            await self._watched(self.fetch())
        except StoreUnavailable:
            pass  # it is in problem

    async def close(self) -> None:
        """See L{IBackendStore}."""
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.stop()

    def _opened(self) -> None:
        if self._telling is None:
            raise StoreUnavailable("the store is not open")

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.tell()

    async def _watched(self, asked: Awaitable[Any]) -> Any:
        """
        @raise StoreUnavailable: in the place of whatever else says that it cannot be had.
        """
        problem = ""
        try:
            return await asked
        except (OSError, ValueError, StoreUnavailable) as error:
            problem = str(error)
            raise StoreUnavailable(problem) from error
        finally:
            if problem != self.problem:
                self.problem = problem
                self._tell()

    async def load(self, known: Table) -> Table:
        """See L{IBackendStore}."""
        self._opened()
        contents: Contents = await self._watched(self.fetch())
        return contents.table(known)

    async def change(self, changes: Sequence[Change]) -> None:
        """See L{IBackendStore}."""
        self._opened()
        await self._changing.acquire()
        try:
            before: Contents = await self._watched(self.fetch())
            await self._watched(self.keep(before.changed(changes)))
        finally:
            self._changing.release()
        self._tell()

    async def publish(self, report: Report) -> Mapping[tuple[str, str], int]:
        """See L{IBackendStore}: there is nobody else."""
        self._opened()
        self._record = report.record
        return {}

    async def instances(self) -> Sequence[Record]:
        """See L{IBackendStore}."""
        self._opened()
        if self._record is None:
            return []
        return [Record(self.place.identity, self.place.lease, self._record)]

    async def hint(self, hint: Hint) -> None:
        """See L{IBackendStore}: there is nobody to be told."""
