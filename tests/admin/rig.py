"""An admin side on a transport in memory, with a proxy behind it that serves nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from lemmytx.addresses import parse_url
from lemmytx.admin.site import admin_site
from lemmytx.admin.tokens import hash_token
from lemmytx.balance.least_connections import LeastConnections
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.cluster import Cluster, Rules
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.traffic import Traffic
from lemmytx.model import Token
from lemmytx.net.network import Network
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.listener import Connections
from lemmytx.proxy.resource import ReverseProxyResource
from lemmytx.proxy.router import Route, Router, Vhost


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


class Rig:
    """
    The admin side of a proxy with so many vhosts and one cluster of two backends.

    @ivar reason: why the proxy is not ready.
    @ivar transport: of the connection that was opened last.
    """

    def __init__(
        self,
        tokens: Sequence[Token] = (),
        vhosts: Sequence[str] = ("shop.example", "*"),
        ready: Callable[[], str | None] | None = None,
    ) -> None:
        self.clock = Clock()
        self.reason: str | None = None
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
        self.site = admin_site(self.resource, tokens, ready or (lambda: self.reason), self.connections, self.clock)
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
