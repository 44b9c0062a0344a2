"""
A table beside a configuration: which of its vhosts are served, by which settings, and what is wrong with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from lemmytx.addresses import parse_member
from lemmytx.live.mold import Mold, Parts, build_mold
from lemmytx.net.slices import Slices
from lemmytx.table import Entry, Fault, Table


class View:
    """
    Never changed, but replaced.

    @ivar parts: of the configuration; C{named}: whether that has a vhost of a name.
    @ivar molds: by the text of the settings; C{""} is always there.
    @ivar broken: settings that cannot be used: text and reason.
    @ivar refused: vhosts that are not served: name and reason.
    @ivar unfit: of each vhost, members that cannot be used.
    @ivar backends: how many members the table has.
    """

    __slots__ = ("backends", "broken", "molds", "named", "parts", "refused", "table", "unfit")

    def __init__(self, parts: Parts, named: Callable[[str], bool], table: Table) -> None:
        self.parts = parts
        self.named = named
        self.table = table
        self.molds: dict[str, Mold] = {}
        self.broken: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.unfit: dict[str, list[Fault]] = {}
        self.backends = 0

    def mold(self, entry: Entry, present: Mold | None) -> Mold:
        """
        By which settings a vhost is served. Where those of the store cannot be used it is those that it had, or
        C{defaults}.

        @param present: the one that it has.
        """
        mold = self.molds.get(entry.settings)
        if mold is not None:
            return mold
        return present if present is not None and present.parts is self.parts else self.molds[""]

    def faults(self) -> Iterator[Fault]:
        """All that is wrong in the table."""
        yield from self.table.faults
        for name, why in self.refused.items():
            yield Fault(name, "", why)
        if self.broken:
            for name, entry in self.table.vhosts.items():
                if entry.settings in self.broken:
                    yield Fault(name, "", self.broken[entry.settings])
        for faults in self.unfit.values():
            yield from faults


class Difference(NamedTuple):
    """
    Between what is served and what is to be.

    @ivar before: what is served, C{view}: what is to be.
    @ivar changed: names of vhosts that are there and are new, or others than before.
    @ivar gone: those that were served, and are not to be any more.
    """

    before: View | None
    view: View
    changed: list[str]
    gone: list[str]


async def compare(
    before: View | None, parts: Parts, named: Callable[[str], bool], table: Table, slices: Slices | None
) -> Difference:
    """
    @param before: what is served.
    @param slices: turns for others; L{None}: it must be done at once.
    @raise ValueError: C{defaults} cannot be used; with a text for the user.
    """
    view = View(parts, named, table)
    old = View(parts, named, Table()) if before is None else before
    if old.parts is parts:
        view.molds.update(old.molds)
        view.broken.update(old.broken)
    if "" not in view.molds:
        view.molds[""] = build_mold("", parts)
    same = old.parts is parts and old.named == named
    known = old.table.vhosts
    changed: list[str] = []
    gone = [name for name in known if name not in table.vhosts and name not in old.refused]
    for name, entry in table.vhosts.items():
        present = known.get(name)
        if same and present is entry:
            continue
        if slices is not None and slices.full():
            await slices.turn()
        why = _collision(name, parts, named)
        if why:
            view.refused[name] = why
            if present is not None and name not in old.refused:
                gone.append(name)
            continue
        mold = _mold(view, entry.settings)
        if present is None or name in old.refused or present != entry or mold is not old.molds.get(entry.settings):
            changed.append(name)
        unfit = _unfit(entry, mold or view.molds[""])
        if unfit:
            view.unfit[name] = unfit
    if same:
        # What was passed over above is as it was.
        for name, why in old.refused.items():
            if table.vhosts.get(name) is known[name]:
                view.refused[name] = why
        for name, faults in old.unfit.items():
            if table.vhosts.get(name) is known[name]:
                view.unfit[name] = faults
    if changed or gone:
        wanted = {entry.settings for entry in table.vhosts.values()}
        for text in [text for text in view.molds if text and text not in wanted]:
            del view.molds[text]
        for text in [text for text in view.broken if text not in wanted]:
            del view.broken[text]
    view.backends = sum(len(entry.members) for entry in table.vhosts.values())
    return Difference(before, view, changed, gone)


def _collision(name: str, parts: Parts, named: Callable[[str], bool]) -> str:
    if named(name):
        return "the configuration's file has a vhost for this host, which is the one that serves"
    if name in parts.clusters:
        return "the configuration's file has a cluster of this name, so this one could not be told from it"
    return ""


def _mold(view: View, settings: str) -> Mold | None:
    mold = view.molds.get(settings)
    if mold is None and settings not in view.broken:
        try:
            mold = view.molds[settings] = build_mold(settings, view.parts)
        except ValueError as error:
            view.broken[settings] = str(error)
    return mold


def _unfit(entry: Entry, mold: Mold) -> list[Fault]:
    """Members that are right and do not go with the settings. That plain HTTP does not is rare."""
    found = []
    for member in entry.members:
        if mold.choosy or "://" in member.text:
            why = mold.refuse(member, parse_member(member.text))
            if why:
                found.append(Fault(entry.name, member.text, why))
    return found
