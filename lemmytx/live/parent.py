"""
The live table as the parent of workers has it: to show it, to change states in it, and to tell the others how all
workers together are doing. It serves nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from lemmytx import model
from lemmytx.assemble import CannotStart
from lemmytx.finding import PluginError
from lemmytx.live.desk import Desk, Elsewhere
from lemmytx.live.keeper import Keeper
from lemmytx.live.live import table_facts
from lemmytx.live.mold import Parts
from lemmytx.live.telling import Summary, hostname
from lemmytx.live.view import Difference, View, compare
from lemmytx.net.network import Network
from lemmytx.net.slices import Slices
from lemmytx.proxy.snapshot import Snapshot
from lemmytx.states import States
from lemmytx.table import Hint, Report, Table

_Pending = tuple[Keeper | None, Difference, model.Configuration]


class ParentTable:
    """
    @ivar desk: has the store.
    """

    def __init__(self, reactor: Any, states: States, snapshot: Callable[[], Awaitable[Snapshot]]) -> None:
        """
        @param snapshot: what all workers have counted together, as far as it is known; it does not ask them.
        """
        self.desk = Desk(reactor, "parent", writes=False, quiet=True)
        self._reactor = reactor
        self._states = states
        self._snapshot = snapshot
        self._summary = Summary(reactor)
        self._view: View | None = None
        self._pending: _Pending | None = None
        self._configuration = model.Configuration()

    async def prepare(self, configuration: model.Configuration, folders: Sequence[str]) -> None:
        """
        @raise CannotStart: there is a store that cannot be used; with a text for the user.
        """
        self.abort()
        keeper: Keeper | None = None
        try:
            keeper = await self.desk.prepare(configuration, folders)
            # Nothing is built here but what it takes to see what is wrong.
            unbuilt: Any = dict.fromkeys(configuration.clusters)
            parts = Parts(configuration, folders, Network(self._reactor), unbuilt)
            named = {host for vhost in configuration.vhosts for host in vhost.hosts}
            table = self.desk.table if keeper is None else keeper.table
            difference = await compare(self._view, parts, named.__contains__, table, Slices(self._reactor))
        except (ValueError, PluginError) as error:
            self.desk.abort(keeper)
            raise CannotStart(f"store: {error}") from error
        except BaseException:
            self.desk.abort(keeper)
            raise
        self._pending = keeper, difference, configuration

    def abort(self) -> None:
        """Forget what was prepared."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self.desk.abort(pending[0])

    def commit(self) -> None:
        """Put it to work."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        keeper, difference, self._configuration = pending
        self._view = difference.view
        self.desk.commit(keeper, self._take, _nobody, self._report, _nothing)
        if keeper is not None:
            self._states.use(keeper.store)
        self._states.apply(self.desk.table, {})
        if self.desk.keeper is not None and self.desk.table is not self._view.table:
            self.desk.keeper.look()

    async def _take(self, table: Table) -> None:
        """The store has answered, maybe with another table."""
        if self.desk.table is not table:
            return  # a reload has another store by now
        self._states.apply(table, {})
        before = self._view
        if before is not None and before.table is not table:
            view = (await compare(before, before.parts, before.named, table, Slices(self._reactor))).view
            if self._view is before:
                self._view = view

    async def _report(self, stats: bool) -> Report:
        listeners = [listener.endpoint for listener in self._configuration.listeners]
        if not stats:
            return Report(record=self.desk.record(listeners, 0))
        snapshot = await self._snapshot()
        whole, vhosts = await self._summary.make(
            [(name, figures.traffic) for name, figures in snapshot.vhosts.items()],
            lambda name, traffic: snapshot.vhosts[name],
            (snapshot.unrouted.traffic, snapshot.removed),
        )
        return Report(
            record=self.desk.record(listeners, snapshot.exchanges),
            hostname=hostname(),
            stats=whole,
            vhost_stats=vhosts,
        )

    def facts(self) -> dict[str, Any]:
        """What the admin side says of it."""
        view = self._view
        return {**self.desk.facts(), **table_facts(view, [] if view is None else list(view.faults()))}

    def close(self) -> Deferred[Any]:
        """Say goodbye to the others. It takes no longer than two seconds."""
        self._states.use(None)
        return self.desk.close()


def _nobody(hint: Hint) -> None:
    """Nothing is checked here."""


def _nothing(elsewhere: Elsewhere) -> None:
    """Nothing is chosen here."""
