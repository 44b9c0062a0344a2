"""
A second request beside one that takes long (a "hedge"), for an exchange of a cluster with C{hedge}.

After the time that L{lemmytx.cluster.hedging} says, a request that may safely be sent twice goes to another backend as
well. What happens then::

    event                             consequence
    the first attempt answers         the hedge is cancelled
    the hedge answers                 the first attempt is cancelled; the exchange goes on with the hedge's connection
    the hedge answers with a status   it is no better than nothing: it is cancelled, and the first attempt goes on
    of fail_on or retry.on
    the hedge fails                   its backend is blamed as ever; the first attempt goes on
    the first attempt fails           its backend is blamed as ever; the exchange goes on with the hedge, wherever it is
    the exchange ends                 the hedge is cancelled

Whoever is cancelled is not blamed. A hedge is a retry in the cluster's budget, and has a token of the exchange's
bucket: without one it is not sent, and as soon as it is a hedge no more it gives it back, since when it takes the place
of the first attempt the exchange has one already. It is sent for GET, HEAD and OPTIONS
without a body, that ask for no upgrade, when nobody waits for a backend to be free, and not for a client that is bound
to a backend.

A L{Hedge} is what the dial and the carrier of the second request know as their exchange, until it takes the place of
the first one: from then on all that they say goes to the exchange itself.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from zope.interface import implementer

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.place import Place
from lemmytx.interfaces import IRequest
from lemmytx.message import ProtocolError, ResponseHead
from lemmytx.proxy.carrier import Carrier
from lemmytx.proxy.dialling import dial
from lemmytx.proxy.retry import Pending

if TYPE_CHECKING:
    from lemmytx.proxy.attempts import Attempts

#: Methods that change nothing, however often (RFC 9110 §9.2.1). TRACE is not for us to repeat.
SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))


def may_hedge(exchange: Attempts) -> bool:
    """Whether a request is one that may be sent twice."""
    head, binding = exchange.head, exchange.binding
    if head.method not in SAFE or head.length or head.upgrade is not None:
        return False
    return binding is None or (not binding.alone and binding.backend is None)


class Hedging:
    """The hedges of one exchange. Made at its first attempt, if it may have any."""

    __slots__ = ("_exchange", "_hedges", "_seconds", "_sent", "_since", "_timer")

    def __init__(self, exchange: Attempts) -> None:
        self._exchange = exchange
        self._hedges: list[Hedge] = []
        self._sent = 0
        self._since: float | None = None  # when the attempt began that a hedge has replaced
        self._timer: IDelayedCall | None = None
        delay = exchange.cluster.hedge
        assert delay is not None
        self._seconds = delay.seconds(exchange.resource.ticker.seconds())
        self._wait()

    def _wait(self) -> None:
        if self._seconds != inf:
            self._timer = self._exchange.resource.ticker.later(self._seconds, self._due)

    def _due(self) -> None:
        """The first attempt takes long."""
        self._timer = None
        try:
            self._send()
        except Exception:
            self._exchange.break_down()

    def _send(self) -> None:
        exchange = self._exchange
        cluster = exchange.cluster
        rules, queue = cluster.rules.hedge, cluster.queue
        if rules is None or not exchange.under_way:
            return
        bucket = None
        if queue is not None:
            bucket = queue.spare(exchange)
            if bucket is None:
                return
        assert exchange.backend is not None
        hedge = Hedge(self, exchange, (*exchange.tried, exchange.backend, *(other.backend for other in self._hedges)))
        backend = cluster.choose(hedge)
        if backend is None or not cluster.may_retry():
            return
        if queue is not None and bucket is not None:
            queue.take(bucket, hedge)
        cluster.retrying += 1
        cluster.hedges += 1
        exchange.attempts += 1
        self._hedges.append(hedge)
        self._sent += 1
        if self._sent < rules.most:
            self._wait()
        hedge.start(backend)

    def answered(self, now: float) -> None:
        """The exchange has its response."""
        exchange = self._exchange
        delay = exchange.cluster.hedge
        if delay is not None:
            since = exchange.delay if self._since is None else self._since
            delay.note(now - exchange.started - since, now)
        self.over()

    def replaced(self) -> None:
        """A hedge takes the place of the attempt; what was waited for that one counts all the same."""
        if self._since is None:
            self._since = self._exchange.delay

    def take_over(self) -> bool:
        """The first attempt has failed, and its backend was told so. The return value says whether a hedge goes on."""
        if not self._hedges:
            return False
        self._exchange.go_on_with(self._hedges[0])
        return True

    @property
    def running(self) -> bool:
        """Whether there is a hedge under way."""
        return bool(self._hedges)

    def over(self) -> None:
        """No more hedges."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._hedges:
            self._hedges[-1].leave()

    def done(self, hedge: Hedge) -> None:
        """One is a hedge no more."""
        self._hedges.remove(hedge)
        self._exchange.cluster.retrying -= 1
        if hedge.place is not None:
            hedge.place.leave()


@implementer(IRequest)
class Hedge:
    """
    One hedge. See the module.

    @ivar tried: the backends that it must not go to.
    @ivar connect_time: seconds from the exchange's start until its connection stood; 0 for a reused one.
    @ivar delay: seconds from the exchange's start until it was sent on its way.
    @ivar place: its token, where tokens are counted.
    @ivar reused: whether it went over a connection that stood already.
    @ivar total: below 0: it is not counted as served, the exchange is.
    @ivar upstream: what carries it; L{None} while it is being connected.
    """

    __slots__ = (
        "_dial", "_exchange", "_hedging", "_promoted", "backend", "client", "cluster", "connect_time", "delay",
        "downstream", "head", "peer", "place", "read_timeout", "request_id", "resource", "reused", "route", "total",
        "tried", "tunnel", "upstream",
    )  # fmt: skip

    backend: Backend

    def __init__(self, hedging: Hedging, exchange: Attempts, tried: tuple[Backend, ...]) -> None:
        self._hedging = hedging
        self._exchange = exchange
        self._dial: Pending | None = None
        self._promoted = False
        self.client = exchange.client
        self.cluster = exchange.cluster
        self.downstream = exchange.downstream
        self.head = exchange.head
        self.peer = exchange.peer
        self.read_timeout = exchange.read_timeout
        self.request_id = exchange.request_id
        self.resource = exchange.resource
        self.route = exchange.route
        self.connect_time = 0.0
        self.delay = exchange.resource.ticker.seconds() - exchange.started
        self.place: Place | None = None
        self.reused = False
        self.total = -1.0
        self.tried = tried
        self.tunnel = None
        self.upstream: Carrier | None = None

    def start(self, backend: Backend) -> None:
        """Send the request there."""
        self.backend = backend
        carrier: Carrier | None = backend.acquire()
        if backend.passive.suspect:
            backend.passive.began(self)
        if carrier is None:
            connecting = dial(self, backend)
            self._dial = connecting
            connecting.start()
        else:
            self.reused = True
            self.connected(carrier)

    def leave(self, abandon: bool = True) -> None:
        """It is over, without a word about its backend."""
        self._hedging.done(self)
        self.cancel()
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            if abandon:
                upstream.abandon()
            else:
                upstream.exchange = None
        if self.backend.passive.suspect:
            self.backend.passive.left(self)
        self.backend.leave()

    def cancel(self) -> None:
        """Nobody waits for its connection any more."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None

    def hand_over(self) -> Pending | None:
        """
        The exchange goes on with it: with the backend, where it is counted, and with C{upstream}.

        @return: what it waits for, where there is no upstream yet.
        """
        exchange: Any = self._exchange
        self._hedging.done(self)
        self._promoted = True
        passive = self.backend.passive
        if passive.suspect:
            passive.left(self)
            passive.began(exchange)
        if self.upstream is None:
            return self
        self.upstream.exchange = exchange
        return None

    def _fail(self, kind: str, why: str, abandon: bool) -> None:
        """By its backend's fault."""
        self.cluster.failed(self.backend, kind, why)
        self._exchange.tried = (*self._exchange.tried, self.backend)
        self.leave(abandon)

    # What the dial calls

    def connected(self, carrier: Carrier) -> None:
        """The connection stands."""
        self._dial = None
        if self._promoted:
            self._exchange.connected(carrier)
            return
        self.upstream = carrier
        now = self.resource.ticker.seconds()
        if not self.reused:
            self.connect_time = now - self._exchange.started
        host = self.head.authority
        if self.cluster.rules.own_host or not host:
            host = self.backend.authority
        wire = self.resource.forwarding.compose(self.head, host, self.peer, self.request_id)
        carrier.carry(self, wire, None, now + self.read_timeout)

    def connect_failed(self, timed_out: bool, why: str, kind: str = "refused") -> None:
        """There is no connection."""
        self._dial = None
        if self._promoted:
            self._exchange.connect_failed(timed_out, why, kind)
        else:
            self._fail("timeout" if timed_out else kind, f"connecting: {why}", False)

    def cannot_connect(self, why: str) -> None:
        """We have nothing left to make a connection with. The first attempt needs none."""
        self._dial = None
        if self._promoted:
            self._exchange.cannot_connect(why)
        else:
            self.resource.starved(why)
            self.leave()

    # What the carrier calls

    def inform(self, head: ResponseHead) -> None:
        """An interim response: whose final one comes first is not known yet."""

    def respond(self, head: ResponseHead, body: bytes, ended: bool, reusable: bool, trailers: bytes = b"") -> bool:
        """The final response begins. As L{lemmytx.proxy.exchange.Exchange.respond}."""
        exchange: Any = self._exchange
        status, rules = head.status, self.cluster.rules
        if (status in rules.fail_on or status in rules.retry_on) and exchange.under_way:
            if status in rules.fail_on:
                self.cluster.failed(self.backend, "status", f"answered {status}")
            self.leave()
            return False
        self.cluster.hedge_wins += 1
        exchange.go_on_with(self)
        answer: bool = exchange.respond(head, body, ended, reusable, trailers)
        return answer

    def upstream_gone(self, orderly: bool, said: str = "") -> None:
        """The connection ended without an answer."""
        if self.reused:
            self.leave(False)  # no fault: see the keep-alive race in L{lemmytx.proxy.attempts}
            return
        how = f"{'closed' if orderly else 'reset'} the connection without an answer"
        self._fail("gone", f"{how}: {said}" if said else how, False)

    def upstream_broke(self, error: ProtocolError) -> None:
        """What the backend sent is no response."""
        self._fail("malformed", f"malformed response: {error}", True)

    def upstream_timed_out(self) -> None:
        """The backend was silent for too long."""
        self._fail("timeout", "did not answer in time", True)

    def request_broke(self, status: int, termination: str, why: str) -> None:
        """The carrier cannot put the request into its backend's words. The first attempt's has."""
        self.leave()

    def break_down(self) -> None:
        """Called inside of an C{except} clause: an error of our own."""
        self._exchange.break_down()

    def __repr__(self) -> str:
        return f"<Hedge of {self._exchange!r}>"
