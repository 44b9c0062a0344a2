"""
Who serves, as an instance sees them: L{Alone}, one process that does it itself, or L{lemmytx.crew.Crew}, workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from lemmytx import model
from lemmytx.doors import Descriptors
from lemmytx.proxy.snapshot import Snapshot
from lemmytx.serving import Prepared, Serving
from lemmytx.states import States
from lemmytx.table import State

#: Header fields.
Fields = Sequence[tuple[str, str]]


class Members(Protocol):
    """Who serves."""

    def begins_at(self, folder: str) -> None:
        """The folder of the configuration's file, where relative paths begin. Called before anything else."""

    def start(self) -> None:
        """The reactor runs, or is about to."""

    async def prepare(
        self, configuration: model.Configuration, folders: Sequence[str], descriptors: Descriptors
    ) -> list[str]:
        """
        Build a configuration beside the one at work.

        @return: what should be known of it, one sentence each.
        @raise CannotStart: somebody cannot; nothing has changed then.
        """

    async def commit(self) -> None:
        """Put it to work."""

    async def abort(self) -> None:
        """Forget what was prepared."""

    async def forget(self, endpoint: str) -> None:
        """The sockets of an endpoint are about to be closed."""

    def ready(self) -> str | None:
        """Why nobody serves; L{None} when somebody does."""

    @property
    def exchanges(self) -> int:
        """How many are under way, as far as is known."""

    async def snapshot(self) -> Snapshot:
        """The statistics of all."""

    def workers(self) -> list[dict[str, Any]]:
        """What the statistics say of each process, where there are several."""

    def store(self) -> dict[str, Any]:
        """What there is to say of the store."""

    @property
    def states(self) -> States:
        """What is wanted of backends; of this process's, or of none."""

    async def want(self, cluster: str, backend: str, state: str, why: str, by: str) -> State:
        """
        Take a backend out, or bring it back.

        @raise StoreUnavailable: see L{States.want}.
        """

    async def explain(self, url: str, method: str, fields: Fields, client: str) -> dict[str, Any]:
        """See L{lemmytx.interfaces.IInstance.explain}."""

    def resize(self, count: int) -> None:
        """Another number of processes, from the next commit on."""

    def reopen_logs(self) -> None:
        """Log files were moved away."""

    def drain(self) -> Deferred[Any]:
        """Accept nobody any more; fires when what was under way has ended or its time is over."""

    def hurry(self) -> None:
        """While it drains: wait no longer."""

    def end(self) -> None:
        """Cut what is left."""


class Alone:
    """One process that does everything itself."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._prepared: Prepared | None = None

    def begins_at(self, folder: str) -> None:
        """See L{Members}."""
        self._serving.folder = folder

    def start(self) -> None:
        """See L{Members}."""
        self._serving.start()

    async def prepare(
        self, configuration: model.Configuration, folders: Sequence[str], descriptors: Descriptors
    ) -> list[str]:
        """See L{Members}."""
        self._prepared = await self._serving.prepare(configuration, folders, descriptors)
        return self._prepared.doubts()

    async def commit(self) -> None:
        """See L{Members}."""
        prepared, self._prepared = self._prepared, None
        assert prepared is not None
        prepared.commit()

    async def abort(self) -> None:
        """See L{Members}."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.abort()

    async def forget(self, endpoint: str) -> None:
        """See L{Members}: ports have descriptors of their own."""

    def ready(self) -> str | None:
        """See L{Members}."""
        return None

    @property
    def exchanges(self) -> int:
        """See L{Members}."""
        return self._serving.exchanges

    async def snapshot(self) -> Snapshot:
        """See L{Members}."""
        return await self._serving.snapshot()

    def workers(self) -> list[dict[str, Any]]:
        """See L{Members}: there are none."""
        return []

    def store(self) -> dict[str, Any]:
        """See L{Members}."""
        return self._serving.table.facts()

    @property
    def states(self) -> States:
        """See L{Members}."""
        return self._serving.states

    async def want(self, cluster: str, backend: str, state: str, why: str, by: str) -> State:
        """See L{Members}."""
        resource = self._serving.resource
        clusters = {} if resource is None else resource.clusters
        return await self.states.want(cluster, backend, state, why, by, clusters)

    async def explain(self, url: str, method: str, fields: Fields, client: str) -> dict[str, Any]:
        """See L{Members}."""
        return self._serving.explain(url, method, fields, client)

    def resize(self, count: int) -> None:
        """See L{Members}: it is one."""

    def reopen_logs(self) -> None:
        """See L{Members}."""
        self._serving.reopen_logs()

    def drain(self) -> Deferred[Any]:
        """See L{Members}."""
        return self._serving.drain()

    def hurry(self) -> None:
        """See L{Members}."""
        self._serving.hurry()

    def end(self) -> None:
        """See L{Members}."""
        self._serving.end()
