"""The live table of a serving process, whole: its store, what comes of it, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from lemmytx import model
from lemmytx.assemble import CannotStart, Plan
from lemmytx.checks.rounds import Rounds
from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.traffic import Traffic
from lemmytx.finding import PluginError
from lemmytx.live.desk import Desk
from lemmytx.live.keeper import Keeper
from lemmytx.live.live import Live
from lemmytx.live.mold import Parts
from lemmytx.live.telling import Summary, Telling, hostname
from lemmytx.live.view import Difference
from lemmytx.net.network import Network
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.snapshot import figures_of
from lemmytx.proxy.statistics import Recent
from lemmytx.states import States
from lemmytx.table import Hint, Report, Table


class Pending:
    """
    A store and what its table would change, prepared.
    """

    def __init__(self, desk: Desk, keeper: Keeper | None, difference: Difference) -> None:
        self.keeper = keeper
        self.difference = difference
        self._desk = desk

    def abort(self) -> None:
        """Forget it."""
        self._desk.abort(self.keeper)


class LiveTable:
    """
    @ivar desk: has the store.
    @ivar live: serves its vhosts.
    """

    def __init__(
        self,
        reactor: Any,
        network: Network,
        states: States,
        recent: Recent,
        number: int | None,
        leaving: Callable[[Iterable[Backend]], None],
        health_changed: Callable[[str, Backend], None],
    ) -> None:
        """
        @param number: which of the processes of the instance this is; L{None}: there is only this one.
        @param leaving: called with backends that are in no cluster any more and not idle.
        @param health_changed: called when a check has changed what is known of a backend of the store.
        """
        self.desk = Desk(reactor, "alone" if number is None else f"worker {number + 1}", not number, bool(number))
        self._rounds = Rounds(reactor, told=health_changed)
        self.live = Live(reactor, states, self._rounds, leaving, self.ejected, bool(number))
        self._reactor = reactor
        self._network = network
        self._states = states
        self._recent = recent
        self._number = number
        self._telling = Telling(self.live, reactor)
        self._summary = Summary(reactor)
        self._resource: ReverseProxyResource | None = None
        self._removed = Traffic()
        self._configuration = model.Configuration()

    # Another configuration

    async def prepare(
        self, plan: Plan, folders: Sequence[str], secret: bytes, place: tuple[int, int] | None
    ) -> Pending:
        """
        @param plan: the configuration, built.
        @param folders: of drop-in plugins, absolute.
        @param place: which of how many processes this is that share capacities; L{None}: there is only this one.
        @raise CannotStart: there is a store that cannot be used; with a text for the user.
        """
        keeper: Keeper | None = None
        try:
            keeper = await self.desk.prepare(plan.configuration, folders)
            parts = Parts(plan.configuration, folders, self._network, plan.clusters, secret, place)
            table = self.desk.table if keeper is None else keeper.table
            difference = await self.live.prepare(parts, plan.router, table)
        except (ValueError, PluginError) as error:
            self.desk.abort(keeper)
            raise CannotStart(f"store: {error}") from error
        except BaseException:
            self.desk.abort(keeper)
            raise
        return Pending(self.desk, keeper, difference)

    def commit(self, pending: Pending, plan: Plan, resource: ReverseProxyResource, removed: Traffic) -> None:
        """
        Put it to work. The plan has just been.

        @param removed: takes the counts of vhosts that are there no more.
        """
        self._resource, self._removed, self._configuration = resource, removed, plan.configuration
        for cluster in plan.clusters.values():
            cluster.ejected = self.ejected
        if self._number is not None:
            self._rounds.place((self._number, plan.configuration.workers or 1))
        self.desk.commit(pending.keeper, self._take, self._hinted, self._report, self._telling.heard)
        if pending.keeper is not None:
            self._states.use(pending.keeper.store)
        self.live.commit(pending.difference, self.desk.table, resource, removed)
        self._states.apply(self.desk.table, resource.clusters)
        if self.live.view is not None and self.desk.table is not self.live.view.table and self.desk.keeper is not None:
            self.desk.keeper.look()

    async def _take(self, table: Table) -> None:
        """The store has answered, maybe with another table."""

        def wanted() -> bool:
            # A reload may have another store by now.
            return self.desk.table is table

        await self.live.take(table, wanted)
        if self._resource is not None and wanted():
            self._states.apply(table, self._resource.clusters)

    # What others see

    def ejected(self, cluster: str, backend: Backend) -> None:
        """Requests that failed have put a backend out."""
        self.desk.hint(Hint(cluster, backend.name, "down", backend.ejection[1]))

    def health_changed(self, cluster: str, backend: Backend) -> None:
        """A check has found a backend up or down."""
        checked = backend.checked
        if checked is not None and checked.state in ("up", "down"):
            self.desk.hint(Hint(cluster, backend.name, "up" if checked.state == "up" else "down", checked.reason))

    #: What hints are passed on to; whoever has checks of its own sets it.
    look: Callable[[str, str, bool], None] | None = None

    def _hinted(self, hint: Hint) -> None:
        better = hint.outcome == "up"
        self._rounds.look(hint.cluster, hint.backend, better)
        if self.look is not None:
            self.look(hint.cluster, hint.backend, better)

    def look_at(self, cluster: str, backend: str, better: bool) -> None:
        """Another worker sees a backend otherwise than before: see for ourselves."""
        self._rounds.look(cluster, backend, better)

    async def _report(self, stats: bool) -> Report:
        resource = self._resource
        said = await self._telling.requests()
        if resource is None:
            return said
        record = self.desk.record([listener.endpoint for listener in self._configuration.listeners], resource.exchanges)
        if not stats or self._number is not None:
            # The parent tells of all workers together.
            return Report(said.active, said.asked, record)
        now = resource.ticker.seconds
        whole, vhosts = await self._summary.make(
            [(vhost.name, vhost.traffic) for vhost in resource.vhosts],
            lambda name, traffic: figures_of(self._recent, name, traffic, now()),
            (resource.unrouted, self._removed),
        )
        return Report(said.active, said.asked, record, hostname(), whole, vhosts)

    def facts(self) -> dict[str, Any]:
        """What the admin side says of it."""
        return {**self.desk.facts(), **self.live.facts()}

    @property
    def clusters(self) -> Iterable[Cluster]:
        """Those that have been built."""
        return self.live.clusters.values()

    # The end

    def close(self) -> Deferred[Any]:
        """Say goodbye to the others. It takes no longer than two seconds."""
        self._states.use(None)
        return self.desk.close()

    def end(self) -> None:
        """The end."""
        self.desk.close()
        self.live.stop()
        self._rounds.stop()
