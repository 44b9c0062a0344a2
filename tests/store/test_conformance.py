"""The tests for authors of stores: that they find what they are there to find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase, TestCase

from lemmytx.interfaces import IStorePlace
from lemmytx.store.file import FileStore
from lemmytx.store.memory import MemoryStore
from lemmytx.store.whole import Contents
from lemmytx.table import DropVhost, Entry, Hint, Report, StoreUnavailable, Table
from lemmytx.testing.shared_stores import SharedConformance
from lemmytx.testing.stores import DurableConformance


class Forgetful(MemoryStore):
    """Gives new objects each time."""

    async def load(self, known: Table) -> Table:
        """A new table."""
        return await super().load(Table())


class Trusting(MemoryStore):
    """Believes that what it is told is known is from itself."""

    async def load(self, known: Table) -> Table:
        """Its table with what is known left in it."""
        table = await super().load(known)
        return table if table is known else Table({**known.vhosts, **table.vhosts}, table.states, table.faults)


class Mutable(MemoryStore):
    """Changes the table that it gave."""

    async def load(self, known: Table) -> Table:
        """The same table with other contents."""
        table = await super().load(Table())
        vhosts: Any = known.vhosts
        vhosts.clear()
        vhosts.update(table.vhosts)
        return known


class Hasty(MemoryStore):
    """Makes changes one by one."""

    async def change(self, changes: Sequence[Any]) -> None:
        """Each for itself."""
        for change in changes:
            await super().change([change])


class Sorted(MemoryStore):
    """Does not keep the order of changes."""

    async def change(self, changes: Sequence[Any]) -> None:
        """First what goes."""
        await super().change(sorted(changes, key=lambda change: not isinstance(change, DropVhost)))


class Credulous(MemoryStore):
    """Looks at nothing that it gives out."""

    async def load(self, known: Table) -> Table:
        """All of it, good or bad."""
        stored = await self.fetch()
        vhosts = {
            name: Entry(name, tuple(each.values()), stored.settings[name]) for name, each in stored.members.items()
        }
        return Table(vhosts, stored.states)


class Silent(MemoryStore):
    """Tells nothing."""

    def _tell(self) -> None:
        """Keep it to itself."""


class Talkative(MemoryStore):
    """Tells each thing at once."""

    async def open(self, told: Callable[[], None], hinted: Callable[[Hint], None]) -> None:
        """Remember whom to tell."""
        await super().open(told, hinted)
        self._tell = told  # type: ignore[method-assign]  # that is what is tested


class Undead(MemoryStore):
    """Answers when it is closed."""

    def _opened(self) -> None:
        """Always."""


class Anonymous(MemoryStore):
    """Does not say who it is."""

    async def instances(self) -> Sequence[Any]:
        """Nobody."""
        return []


class Lossy(MemoryStore):
    """Forgets settings with each member."""

    async def keep(self, contents: Contents) -> None:
        """Without settings."""
        contents.settings = dict.fromkeys(contents.settings, "")
        await super().keep(contents)


class Volatile(MemoryStore):
    """Says that it is durable."""


class Alone(FileStore):
    """Says that it is shared."""

    def __init__(self, place: IStorePlace, path: str) -> None:
        super().__init__(place, f"{place.identity}-{path}")


class Selfish(FileStore):
    """Counts itself among the others."""

    async def publish(self, report: Report) -> Mapping[tuple[str, str], int]:
        """With its own."""
        return {**report.active, **await super().publish(report)}


class Clinging(FileStore):
    """Does not say goodbye."""

    async def close(self) -> None:
        """Leave everything as it is."""
        self._database.leave = self._database.disconnect  # type: ignore[method-assign]  # that is what is tested
        await super().close()


class Deaf(FileStore):
    """Hears no hints."""

    async def hint(self, hint: Hint) -> None:
        """Keep it."""


class Immortal(FileStore):
    """Takes nobody for dead."""

    def __init__(self, place: IStorePlace, path: str) -> None:
        super().__init__(place, path)
        self._database._lease = 1000.0


class Blind(FileStore):
    """Does not notice what others write."""

    def _look(self) -> None:
        """Do nothing."""


class Broken(FileStore):
    """Cannot be loaded."""

    async def load(self, known: Table) -> Table:
        """No."""
        raise StoreUnavailable("no")


#: Stores with one fault each, and a test that finds it.
ROWS: tuple[tuple[type[Any], str], ...] = (
    (Forgetful, "test_unchanged"), (Forgetful, "test_sameObjects"), (Forgetful, "test_another"),
    (Trusting, "test_another"), (Trusting, "test_older"), (Trusting, "test_dropVhost"),
    (Mutable, "test_sameObjects"),
    (Hasty, "test_allOrNothing"),
    (Sorted, "test_inOrder"),
    (Credulous, "test_order"), (Credulous, "test_badMember"), (Credulous, "test_badVhost"),
    (Credulous, "test_sameName"), (Credulous, "test_badState"),
    (Silent, "test_tellsOwn"),
    (Talkative, "test_notTooOften"),
    (Undead, "test_closed"), (Undead, "test_neverOpened"),
    (Anonymous, "test_instances"),
    (Lossy, "test_settings"), (Lossy, "test_putVhost"), (Lossy, "test_putMember"),
    (Volatile, "test_durable"),
    (Alone, "test_shared"), (Alone, "test_noneLost"), (Alone, "test_countsChange"), (Alone, "test_counts"),
    (Selfish, "test_counts"),
    (Clinging, "test_countsGo"),
    (Deaf, "test_hints"),
    (Immortal, "test_lease"),
    (Blind, "test_tellsOthers"),
    (Broken, "test_empty"), (Broken, "test_atOnce"),
)  # fmt: skip


class FaultTests(SynchronousTestCase):
    """L{lemmytx.testing.stores.StoreConformance} and what builds upon it."""


def _finds(faulty: type[Any], test: str) -> Callable[[FaultTests], None]:
    class Conformance(SharedConformance, DurableConformance, TestCase):
        """The tests, less patient."""

        within = 0.4
        lease = 0.2

        def make(self, place: IStorePlace) -> Any:
            """The store with the fault."""
            return faulty(place, "table.db") if issubclass(faulty, FileStore) else faulty(place)

    def finds(self: FaultTests) -> None:
        result = TestResult()
        Conformance(test).run(result)
        self.assertEqual(result.skips, [])
        self.assertFalse(result.wasSuccessful())
        self.flushLoggedErrors()

    finds.__doc__ = f"A store that is {faulty.__name__.lower()} does not pass {test}: {faulty.__doc__}"
    return finds


for _faulty, _test in ROWS:
    setattr(FaultTests, f"test_{_faulty.__name__}_{_test.removeprefix('test_')}", _finds(_faulty, _test))
