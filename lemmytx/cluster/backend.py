"""
One backend: where it is, how it is, and the connections to it that wait for work.

The upstreams themselves are made a layer above. A backend keeps the idle ones, newest first: the one used last is the
least likely to have been timed out by the other side, and the oldest can run out in peace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IConnector
from twisted.internet.protocol import ClientFactory
from zope.interface import implementer

from lemmytx.addresses import Location
from lemmytx.cluster.health import Checkup, Health
from lemmytx.cluster.passive import Passive
from lemmytx.cluster.subsets import UNLABELLED, Labels
from lemmytx.cluster.traffic import Traffic
from lemmytx.cluster.way import PLAIN, Way
from lemmytx.interfaces import ICandidate
from lemmytx.net.network import Network
from lemmytx.net.ticker import Ticker, Timed
from lemmytx.table import State


class Pooled(Timed, Protocol):
    """
    An upstream, as far as a pool knows it.

    @ivar served: how many exchanges it has carried.
    @ivar ticker: what tells it that it has been idle for too long; then it closes itself.
    """

    served: int
    ticker: Ticker

    def close(self) -> None:
        """It is not needed any more."""


class Pool:
    """
    How idle upstreams are kept.

    @ivar limit: how many idle ones at the most; 0 = each connection carries one request.
    @ivar idle_time: seconds without work after which one is closed.
    @ivar requests: how many exchanges one carries at the most; 0 = no limit.
    """

    __slots__ = ("idle_time", "limit", "requests")

    def __init__(self, limit: int = 1024, idle_time: float = 30.0, requests: int = 0) -> None:
        self.limit = limit
        self.idle_time = idle_time
        self.requests = requests


@implementer(ICandidate)
class Backend:
    """
    A backend of a cluster.

    @ivar name: unique in its cluster.
    @ivar url: as configured, for people.
    @ivar role: C{active}, C{backup} or C{standby} (semantics of each in L{lemmytx.cluster.cluster}).
    @ivar way: how it is spoken to.
    @ivar weight: the one that is in force: what is configured, or what there is of it yet
        (L{lemmytx.cluster.warming}). C{warmth} says how much of it that is.
    @ivar full_weight: as configured.
    @ivar state: what is wanted of it: C{ready}, C{drain}, C{disabled}; C{wanted}: the L{State} of the store that says
        so, with its reason; L{None}: that says nothing, and C{configured}, the configuration's word, holds.
    @ivar labels: names and values by which routes choose among the members of a cluster (L{lemmytx.cluster.subsets}).
    @ivar room: how many exchanges of this process it takes at one time, where it has a capacity: all of that, or this
        process's share.
    @ivar addresses: what to connect to, best first; empty while a name has not been resolved.
    @ivar active: exchanges (and tunnels) on it now, C{elsewhere}: those of other processes that share the table, as
        they last said.
    @ivar idle: upstreams without work, oldest first.
    @ivar connects: connections made, C{reused}: exchanges that found an idle one.
    @ivar failures: by kind, since the start.
    @ivar freed: called when an exchange has left it; the queue of its cluster sets this while somebody waits.
    @ivar checkup: how it is checked, C{checked}: what came of it; L{None}: it is not. Whoever checks it tells both
        C{checked} and, by C{changed}, the cluster.
    @ivar ejections: how often requests that failed have put it out, since the start.
    @ivar ejection: when it was ejected for the last time (seconds since 1970), and why.
    """

    __slots__ = (
        "active", "addresses", "capacity", "changed", "checked", "checkup", "configured", "connects", "ejection",
        "ejections", "elsewhere", "failures", "freed", "full_weight", "idle", "labels", "location", "name", "network",
        "passive", "pool", "reused", "role", "room", "state", "suspected", "traffic", "url", "wanted", "warmth",
        "watch", "way", "weight",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        url: str,
        location: Location,
        network: Network,
        passive: Passive,
        pool: Pool,
        weight: int = 1,
        capacity: int = 0,
        role: str = "active",
        way: Way = PLAIN,
        state: str = "ready",
    ) -> None:
        self.name = name
        self.url = url
        self.location = location
        self.network = network
        self.passive = passive
        self.pool = pool
        self.weight: float = weight
        self.full_weight: float = weight
        self.warmth = 1.0
        self.capacity = self.room = capacity
        self.role = role
        self.way = way
        self.state = self.configured = state
        self.wanted: State | None = None
        self.labels: Labels = UNLABELLED
        self.addresses: tuple[str, ...] = ()
        self.active = 0
        self.elsewhere = 0
        # An empty deque takes ten times as much memory, and there may be a hundred thousand backends.
        self.idle: list[Any] = []
        self.traffic = Traffic()
        self.connects = 0
        self.reused = 0
        self.failures: dict[str, int] = {}
        self.ejections = 0
        self.freed: Callable[[], None] | None = None
        self.checkup: Checkup | None = None
        self.checked: Health | None = None
        self.ejection = 0.0, ""
        #: Called when a request has failed by its fault, with the reason. Whoever checks it sets this, if he minds.
        self.suspected: Callable[[str], None] | None = None
        #: Called when something changed that decides whether it can be chosen. The cluster sets it.
        self.changed: Callable[[], None] = _nothing
        #: Called when C{active} or C{elsewhere} has changed, if anyone wants to know. The cluster sets it.
        self.watch: Callable[[Backend], None] | None = None

    @property
    def authority(self) -> bytes:
        """What stands in a Host field that names the backend itself. Unix sockets have no name: C{localhost}."""
        return self.location.authority.removesuffix(f":{self.location.usual_port}").encode("ascii") or b"localhost"

    @property
    def health(self) -> str:
        """For people: C{unknown} while its name has no address; what checks say of it, as L{Health} has it, or C{up}
        where there are none; C{ejected} when they see nothing wrong and requests do."""
        return self._told()[0]

    @property
    def told(self) -> tuple[float, str]:
        """Since when its health is as it is (seconds since 1970), and why; 0 and no reason where there is none."""
        return self._told()[1:]

    def _told(self) -> tuple[str, float, str]:
        checked, ejected = self.checked, self.passive.ejected
        if not self.located:
            return "unknown", 0.0, ""
        if ejected and (checked is None or checked.available):
            return "ejected", *self.ejection
        if checked is None:
            return "up", 0.0, ""
        return checked.state, checked.since, checked.reason

    def well(self, now: float) -> bool:
        """Whether its health lets requests go to it; on trial is well enough."""
        return (self.checked is None or self.checked.available) and (
            not self.passive.ejected or self.passive.until <= now
        )

    @property
    def located(self) -> bool:
        """Whether it is known where to connect to."""
        return bool(self.addresses or self.location.path)

    def moved(self, addresses: tuple[str, ...]) -> None:
        """Its name means other addresses now. Connections to the old ones end when they are idle."""
        gone = set(self.addresses) - set(addresses)
        self.addresses = addresses
        if gone:
            self.close_idle()
        self.changed()

    def check_by(self, checkup: Checkup) -> None:
        """It is going to be checked. Called before it is at work."""
        self.checkup = checkup
        self.checked = Health(checkup.rise, checkup.fall, checkup.up, time.time)

    def configure(self, other: Backend) -> None:
        """
        Take the settings of another object for the same address, and keep everything that is known. The cluster is to
        be told after that.
        """
        self.name = other.name
        self.url = other.url
        self.full_weight = other.weight  # a new object's, so all of it
        self.warm(self.warmth)
        if self.capacity != other.capacity:
            if not self.capacity or other.room == other.capacity:
                self.room = other.room
            elif other.capacity < self.capacity:
                # A share is given out anew by and by; all shares together are never more than there is.
                self.room = min(self.room, other.room)
            self.capacity = other.capacity
        self.role = other.role
        self.labels = other.labels
        self.configured = other.configured
        if self.wanted is None:
            self.state = other.configured
        self.pool = other.pool
        if self.way is not other.way:
            # What was agreed upon on the connections that there are holds no more.
            self.way = other.way
            self.close_idle()
        passive = other.passive
        self.passive.configure(passive.max_fails, passive.fail_window, passive.retry_interval)
        self._configure_checks(other)

    def _configure_checks(self, other: Backend) -> None:
        """Checks that begin at a backend that has been at work begin with what it is: up."""
        self.checkup = checkup = other.checkup
        if checkup is None:
            self.checked = None
        elif self.checked is None:
            self.checked = Health(checkup.rise, checkup.fall, True, time.time)
        else:
            self.checked.configure(checkup.rise, checkup.fall)

    def warm(self, warmth: float) -> None:
        """
        So much of its weight is in force. Schedulers are to be told after that.

        @param warmth: above 0; 1 is all of it.
        """
        self.warmth = warmth
        self.weight = self.full_weight if warmth >= 1 else self.full_weight * warmth

    def retire(self) -> None:
        """It is in no cluster any more: what runs on it comes to its end, and no connection is kept after that."""
        self.changed = _nothing
        self.watch = None
        self.pool = Pool(0)
        self.close_idle()

    def acquire(self) -> Any | None:
        """
        An exchange begins here.

        @return: the idle upstream that was used last; L{None} when a new one must be made. Either way the exchange
            is counted as active until L{release} or L{leave}.
        """
        self.active += 1
        if self.watch is not None:
            self.watch(self)
        if self.idle:
            self.reused += 1
            return self.idle.pop()
        return None

    def occupy(self) -> None:
        """Something else than an exchange takes a place, until L{leave}."""
        self.active += 1
        if self.watch is not None:
            self.watch(self)

    def release(self, upstream: Pooled, now: float) -> None:
        """
        An exchange ended and left its upstream in order, ready for the next.

        @param now: the time on the upstream's ticker.
        """
        self.active -= 1
        if self.watch is not None:
            self.watch(self)
        pool = self.pool
        if len(self.idle) < pool.limit and (not pool.requests or upstream.served < pool.requests):
            self.idle.append(upstream)
            upstream.deadline = deadline = now + pool.idle_time
            if deadline < upstream.check_at:
                upstream.ticker.watch(upstream)
        else:
            upstream.close()
        if self.freed is not None:
            self.freed()

    def leave(self) -> None:
        """An exchange ended, or went elsewhere, and there is no upstream to keep."""
        self.active -= 1
        if self.watch is not None:
            self.watch(self)
        if self.freed is not None:
            self.freed()

    def lost(self, upstream: Pooled) -> None:
        """An idle upstream was closed by the other side, or by its own timeout."""
        try:
            self.idle.remove(upstream)
        except ValueError:
            # It closed while it was being handed out or before it was ever in the pool.
            return

    def close_idle(self) -> None:
        """Close every idle upstream."""
        while self.idle:
            self.idle.pop().close()

    def connect(self, factory: ClientFactory[Any], address: str, timeout: float) -> IConnector:
        """
        Open a connection.

        @param address: one of C{addresses}; ignored for a unix socket.
        @param timeout: seconds.
        """
        self.connects += 1
        if self.location.path:
            return self.network.connectUNIX(self.location.path, factory, timeout)
        return self.network.connectTCP(address, self.location.port, factory, timeout)

    def prefer(self, address: str) -> None:
        """A connection to this address succeeded after others had failed: try it first from now on."""
        if self.addresses and self.addresses[0] != address and address in self.addresses:
            rest = tuple(other for other in self.addresses if other != address)
            self.addresses = (address, *rest)

    def __repr__(self) -> str:
        return f"<Backend {self.name} {self.state} {self.health} active={self.active} idle={len(self.idle)}>"


def _nothing() -> None:
    """No cluster yet."""
