"""An admin side on a transport in memory, with a proxy behind it that serves nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from lemmytx.addresses import parse_url
from lemmytx.admin.site import admin_site
from lemmytx.admin.tokens import hash_token
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.rules import Rules
from lemmytx.cluster.traffic import Traffic
from lemmytx.interfaces import Busy, IInstance, Unknown
from lemmytx.model import Token
from lemmytx.net.network import Network
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.explain import ask, explain
from lemmytx.proxy.figures import BackendFigures
from lemmytx.proxy.listener import Connections
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.router import Route, Router, Vhost
from lemmytx.proxy.snapshot import Snapshot, counters, take, traffics
from lemmytx.proxy.statistics import Recent
from lemmytx.table import State


def token(text: str, role: str = "read") -> Token:
    """A token as the configuration has it."""
    return Token.model_validate({"name": "ops", "hash": hash_token(text), "role": role})


class Answer:
    """
    What came back.

    @ivar fields: names in lower case.
    """

    def __init__(self, raw: bytes) -> None:
        head, _, body = raw.partition(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(start.split()[1])
        self.fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.body = body

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@implementer(IInstance)
class Instance:
    """
    One process, which can be told how what it is asked for ends.

    @ivar reason: why it is not ready.
    @ivar crew: what it says of its workers.
    @ivar asked: what it was asked for; to be fired.
    @ivar removed: what was counted for vhosts that are gone.
    @ivar stray: what is wanted of backends that are not there.
    """

    def __init__(self, rig: Rig) -> None:
        self.reason: str | None = None
        self.crew: list[dict[str, Any]] = []
        self.asked: list[tuple[str, Deferred[Any]]] = []
        self.removed = Traffic()
        self.stray: dict[tuple[str, str], State] = {}
        self._rig = rig

    def ready(self) -> str | None:
        """As it was told."""
        return self.reason

    async def snapshot(self) -> Snapshot:
        """Of the rig's proxy."""
        rig = self._rig
        return await take(rig.resource, rig.connections, rig.recent, rig.clock, self.removed)

    def workers(self) -> list[dict[str, Any]]:
        """As it was told."""
        return self.crew

    def reload(self) -> Deferred[list[str]]:
        """Waits to be told."""
        return self._ask("reload")

    async def backend(self, cluster: str, backend: str) -> BackendFigures:
        """Of the rig's proxy."""
        self._find(cluster, backend)
        return (await self.snapshot()).clusters[cluster].backends[backend]

    def want(self, cluster: str, backend: str, state: str, why: str, by: str) -> Deferred[State]:
        """Waits to be told."""
        self._find(cluster, backend)
        return self._ask(f"{cluster} {backend} {state} {why!r} {by}")

    async def explain(self, url: str, method: str, fields: Sequence[tuple[str, str]], client: str) -> dict[str, Any]:
        """Of the rig's proxy."""
        if self.reason is not None:
            raise Busy(self.reason)
        return explain(self._rig.resource, ask(url, method, fields, client)).as_data()

    def store(self) -> dict[str, Any]:
        """See L{IInstance}."""
        return {}

    def strays(self) -> dict[tuple[str, str], State]:
        """As it was told."""
        return self.stray

    def _find(self, cluster: str, backend: str) -> None:
        known = {each.name for each in self._rig.cluster.backends} if cluster == self._rig.cluster.name else set()
        if backend not in known:
            raise Unknown(f"there is no backend {backend!r} of {cluster!r}")

    def upgrade(self) -> Deferred[int]:
        """Waits to be told."""
        return self._ask("upgrade")

    def _ask(self, what: str) -> Deferred[Any]:
        asked: Deferred[Any] = Deferred()
        self.asked.append((what, asked))
        return asked


class Rig:
    """
    The admin side of a proxy with so many vhosts and one cluster of two backends.

    @ivar instance: what the admin side is of.
    @ivar transport: of the connection that was opened last.
    """

    def __init__(
        self,
        tokens: Sequence[Token] = (),
        vhosts: Sequence[str] = ("shop.example", "*"),
        ready: Callable[[], str | None] | None = None,
    ) -> None:
        self.clock = Clock()
        network = Network(self.clock)
        self.backends = [
            Backend(name, f"http://{name}.example", parse_url(f"http://{name}.example"), network, Passive(), Pool())
            for name in ("web1", "web2")
        ]
        self.cluster = Cluster("web", self.backends, LeastConnections(), Rules(), self.clock.seconds)
        self.vhosts = [Vhost(name, [name], [Route(cluster=self.cluster)]) for name in vhosts]
        for vhost in self.vhosts:
            vhost.traffic = Traffic()
        ticker = Ticker(self.clock, self.clock.seconds)
        self.resource = ReverseProxyResource(Router(self.vhosts), [self.cluster], ticker)
        self.connections = Connections(10)
        self.recent = Recent(lambda: counters(self.resource), self.clock, lambda: traffics(self.resource))
        self.instance = Instance(self)
        if ready is not None:
            self.instance.ready = ready  # type: ignore[method-assign]  # a test's own
        self.site = admin_site(self.instance, tokens, self.clock)
        self.transport = StringTransport()

    def send(self, data: bytes) -> bytes:
        """
        @param data: what a client sends over a connection of its own.
        @return: what it gets.
        """
        channel = self.site.buildProtocol(None)
        self.transport = transport = StringTransport()
        channel.makeConnection(transport)
        channel.dataReceived(data)
        self.clock.pump([0] * 20)
        return transport.value()

    def ask(
        self, path: str, method: str = "GET", host: str | None = "localhost:8081", fields: Sequence[str] = ()
    ) -> Answer:
        """One request and its answer."""
        lines = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), *fields, "", ""]
        return Answer(self.send("\r\n".join(lines).encode("latin-1")))

    def ask_for(self, path: str, fields: Sequence[str] = (), body: str = "") -> Answer | None:
        """
        Have something done.

        @return: the answer; L{None}: the instance was asked, and nothing has come of it yet.
        """
        asked = len(self.instance.asked)
        lines = [f"POST {path} HTTP/1.1", "Host: localhost:8081", *fields, f"Content-Length: {len(body)}", "", body]
        answer = self.send("\r\n".join(lines).encode("latin-1"))
        return Answer(answer) if len(self.instance.asked) == asked else None

    def told(self) -> Answer:
        """What has come of it since."""
        return Answer(self.transport.value())
