"""
Requests whose client names the backend: to try one before it gets its share of the traffic.

A route with a pin looks at one cookie, field or query parameter of each request. What stands there is the name of a
backend of the route's cluster, from a client out of the networks that may say so; or that name, a dot, and the proof
that whoever wrote it has the pin's secret, from anywhere. Anything else is as good as nothing there, so a stranger
learns neither that there is a pin nor which names exist.

A pinned request goes to that backend once, past the scheduler, the queue and the buckets, and is not tried again
anywhere; what the client gets::

    the backend                                        the client gets
    is no member of the cluster                        400
    is not ready, or not well                          503
    is at its capacity, and the pin minds              503
    cannot be reached, breaks, is silent               502 or 504, as ever
    answers                                            the answer

Each of these but the first says in X-Backend which backend it is about.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.cluster import Cluster
from lemmytx.message import RequestHead, ResponseHead
from lemmytx.proxy.router import Networks, near

if TYPE_CHECKING:
    from lemmytx.proxy.exchange import Exchange

#: Longer than any name of a backend and its proof.
LONGEST = 256


def sign(secret: bytes, cluster: str, backend: str) -> str:
    """
    The name with which anybody is let in: C{NAME.PROOF}. The proof is what C{openssl dgst -sha256 -hmac SECRET} prints
    for C{CLUSTER/NAME}.
    """
    told = f"{cluster}/{backend}".encode("utf-8", "surrogateescape")  # strangers' names may be no text at all
    return f"{backend}.{hmac.new(secret, told, 'sha256').hexdigest()}"


class Pin:
    """
    How the clients of a route name a backend.
    """

    __slots__ = ("_capacity", "_kind", "_name", "_networks", "_secret")

    def __init__(
        self,
        kind: Literal["cookie", "header", "query"],
        name: str,
        networks: Networks = (),
        secret: bytes = b"",
        capacity: bool = False,
    ) -> None:
        """
        @param kind: where it stands, under which C{name}.
        @param networks: whose clients may name a backend as it is.
        @param secret: what a name is signed with; empty: no name can be.
        @param capacity: whether a backend that is at its capacity is left alone.
        """
        self._kind = kind
        self._name = name.lower() if kind == "header" else name
        self._networks = networks
        self._secret = secret
        self._capacity = capacity

    def take(self, exchange: Exchange) -> bool:
        """
        Called once for each request of the route, before a backend is chosen.

        @return: whether the request is pinned. Then everything has been seen to.
        """
        given = self._given(exchange.head)
        if not given:
            return False
        cluster = exchange.cluster
        name = self._allowed(given, cluster.name, exchange.client)
        if name is None:
            return False
        backend = next((backend for backend in cluster.backends if backend.name == name), None)
        if backend is None:
            why = f"pinned to {name[:100]!r}, which is no backend of {cluster.name}"
            exchange.not_pinned(400, "pin_unknown", why, b"")
            return True
        obstacle = cluster.obstacle(backend)
        if obstacle and (obstacle != "full" or self._capacity):
            why = f"pinned to {backend.name}, {_why(backend, obstacle)}"
            exchange.not_pinned(503, "pin_unavailable", why, _line(backend))
        else:
            exchange.pinned(Pinned(cluster, backend, exchange.head), backend)
        return True

    def _given(self, head: RequestHead) -> str:
        """What stands there: the first, if there are several; as it is, or decoded in a query."""
        if self._kind == "query":
            text = head.target.partition(b"?")[2].decode("latin-1")
            pairs: Sequence[tuple[str, str]] = parse_qsl(text, errors="surrogateescape") if self._name in text else ()
        else:
            wanted = b"cookie" if self._kind == "cookie" else self._name.encode("ascii")
            values = [value.decode("latin-1") for name, value in head.fields() if name == wanted]
            if self._kind == "header":
                return values[0] if values else ""
            crumbs = (crumb.partition("=") for value in values for crumb in value.split(";"))
            pairs = [(name.strip(), value.strip()) for name, _, value in crumbs]
        return next((value for name, value in pairs if name == self._name), "")

    def _allowed(self, given: str, cluster: str, client: str) -> str | None:
        """The name, if whoever has sent it may; L{None}: he may not."""
        if self._secret and len(given) <= LONGEST:
            name = given.rpartition(".")[0]
            if name and hmac.compare_digest(
                sign(self._secret, cluster, name).encode("utf-8", "surrogateescape"),
                given.encode("utf-8", "surrogateescape"),
            ):
                return name
        return given if near(client, self._networks) else None


def _why(backend: Backend, obstacle: str) -> str:
    if obstacle == "state":
        return f"which is in {backend.state}" if backend.state == "drain" else f"which is {backend.state}"
    return "which is at its capacity" if obstacle == "full" else f"which is {backend.health}"


def _line(backend: Backend) -> bytes:
    return b"X-Backend: %b\r\n" % backend.name.encode("ascii")


class Pinned:
    """
    What an exchange knows of its pin.

    @ivar backend: the one that the client has named.
    @ivar line: for the answers that we give in the backend's place.
    @cvar alone: whether the backend that it was given is the only one for it: nothing is tried elsewhere, neither
        after a failure nor beside it.
    """

    __slots__ = ("_sticky", "backend", "line")

    alone = True

    def __init__(self, cluster: Cluster, backend: Backend, head: RequestHead) -> None:
        self.backend = backend
        self.line = _line(backend)
        self._sticky = sticky = cluster.rules.sticky
        if sticky is not None:
            # A try is no reason to be bound to another backend; and what binds the client is none of the backend's.
            sticky.strip(head)

    def tell(self, exchange: Exchange, head: ResponseHead, backend: Backend) -> None:
        """See L{lemmytx.cluster.sticky.Binding.tell}: the answer says who gave it."""
        if self._sticky is not None:
            self._sticky.clear(head)
        lines = head.block.split(b"\r\n")
        if any(line.lower().startswith(b"x-backend:") for line in lines):
            head.block = b"\r\n".join(line for line in lines if not line.lower().startswith(b"x-backend:"))
        head.block += self.line
