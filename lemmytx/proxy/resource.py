"""
The piece that is composed: vhosts, routes and clusters in one object.

Our own listeners hand their requests to it directly. Mounted in a C{twisted.web} site it is a resource like any other::

    root = Resource()
    root.putChild(b"shop", ReverseProxyResource(router, clusters, network, ticker))

and the request goes through the same exchange, the same clusters and the same counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.web.resource import IResource
from zope.interface import implementer

from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.traffic import Traffic
from lemmytx.message import RequestHead
from lemmytx.model import Limits, Timeouts
from lemmytx.net.ticker import Ticker
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.forward import Forwarding
from lemmytx.proxy.router import Router, Vhost
from lemmytx.proxy.stored import Stored

if TYPE_CHECKING:
    from twisted.web.server import Request

log = Logger(namespace="lemmytx.proxy")

#: A response's head may be so many times as long as a request's, and have so many times as many fields: backends are
#: trusted more than clients, and one that sets forty cookies should be served.
HEAD_SHARE = 2

#: Seconds without such trouble after which it is told again that there is nothing left to connect with.
STARVED_AGAIN = 60.0


class Rejection:
    """
    A request that never became an exchange, for the access log: the head could not be read.

    @ivar status: what was answered.
    @ivar why: for the log.
    @ivar client: the peer's address.
    @ivar head: what was understood of the request, if anything.
    """

    __slots__ = ("client", "head", "status", "why")

    def __init__(self, status: int, why: str, client: str, head: RequestHead | None) -> None:
        self.status = status
        self.why = why
        self.client = client
        self.head = head


@implementer(IResource)
class ReverseProxyResource:
    """
    @ivar router: finds the route of a request.
    @ivar clusters: by name: those of the configuration, and those of the store that have been asked for.
    @ivar stored: the vhosts of the store; L{None}: there is none.
    @ivar response_size: bytes that a response's head may have, C{response_fields}: fields.
    @ivar exchanges: how many are under way.
    @ivar unrouted: the traffic of requests that no vhost is for, and of those that were no HTTP.
    @ivar record: called with each L{Exchange} that has ended, for the access log; L{None} = nobody wants to know.
    @ivar reject_record: the same for each L{Rejection}.
    """

    isLeaf = True

    def __init__(
        self,
        router: Router,
        clusters: Iterable[Cluster],
        ticker: Ticker,
        forwarding: Forwarding | None = None,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.ticker = ticker
        self.stored: Stored | None = None
        self.configure(router, clusters, forwarding or Forwarding(), limits or Limits(), timeouts or Timeouts())
        self.exchanges = 0
        self.unrouted = Traffic()
        self._starved_until = -inf
        self.record: Callable[[Exchange], None] | None = None
        self.reject_record: Callable[[Rejection], None] | None = None

    def configure(
        self, router: Router, clusters: Iterable[Cluster], forwarding: Forwarding, limits: Limits, timeouts: Timeouts
    ) -> None:
        """
        Other vhosts, clusters and settings, from the next request on. What is under way keeps its route. Listeners
        are to be told after this.
        """
        self.router = router
        router.stored = self.stored
        self.clusters = {cluster.name: cluster for cluster in clusters}
        for name, cluster in ({} if self.stored is None else self.stored.clusters).items():
            self.clusters.setdefault(name, cluster)
        self.forwarding = forwarding
        self.limits = limits
        self.timeouts = timeouts
        self.response_size = HEAD_SHARE * limits.header_size
        self.response_fields = HEAD_SHARE * limits.headers
        for vhost in router.vhosts:
            if vhost.traffic is None:
                vhost.traffic = Traffic()

    @property
    def vhosts(self) -> tuple[Vhost, ...]:
        """All vhosts, in the order of the configuration; then those of the store that have been asked for."""
        if self.stored is None:
            return self.router.vhosts
        return (*self.router.vhosts, *self.stored.vhosts.values())

    @property
    def configured(self) -> dict[str, Cluster]:
        """The clusters of the configuration, by name."""
        stored = {} if self.stored is None else self.stored.clusters
        return {name: cluster for name, cluster in self.clusters.items() if stored.get(name) is not cluster}

    def hold(self, stored: Stored) -> None:
        """There is a store from now on."""
        self.stored = self.router.stored = stored

    def rejected(self, status: int, why: str, client: str, head: RequestHead | None) -> None:
        """Count a request that was refused before it was one."""
        self.unrouted.ended(status, 0.0, 0, 0)
        if self.reject_record is not None:
            self.reject_record(Rejection(status, why, client, head))

    def starved(self, why: str) -> None:
        """
        There is no descriptor (or memory) for a connection to a backend: idle ones give up theirs. Told once a minute.
        """
        for cluster in self.clusters.values():
            for backend in cluster.backends:
                backend.close_idle()
        now = self.ticker.seconds()
        if now >= self._starved_until:
            log.error("no connections to backends can be made: {why} (ulimit -n; told once a minute)", why=why)
        self._starved_until = now + STARVED_AGAIN

    # IResource

    def getChildWithDefault(self, name: bytes, request: Request) -> ReverseProxyResource:
        """C{twisted.web} asks only where L{isLeaf} is false."""
        return self

    def putChild(self, path: bytes, child: object) -> None:
        """
        @raise TypeError: always: what is below is a backend's.
        """
        raise TypeError("a ReverseProxyResource has no children; what is below it is on its backends")

    def render(self, request: Request) -> int:
        """Called by C{twisted.web}, with the whole request in hand."""
        from lemmytx.proxy.mounted import render

        return render(self, request)
