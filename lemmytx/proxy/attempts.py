"""
How an exchange gets to a backend: everything between the route and the response's head.

L{lemmytx.proxy.exchange.Exchange} is made of this and of what a response brings; it is one object all the same, since
another one per request, and calls between the two, would cost more than everything that is decided here. What happens
when an attempt fails is the table of L{lemmytx.proxy.exchange}; whether there may be another, and where, is
L{lemmytx.proxy.retry}'s to say.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.breaker import Pass
from lemmytx.cluster.cluster import Cluster
from lemmytx.cluster.place import Place
from lemmytx.cluster.queue import Queue
from lemmytx.cluster.sticky import Binding
from lemmytx.message import IDEMPOTENT, ProtocolError, RequestHead
from lemmytx.proxy.asker import Asker
from lemmytx.proxy.body import OutgoingBody
from lemmytx.proxy.carrier import Carrier
from lemmytx.proxy.dialling import dial
from lemmytx.proxy.forward import Peer
from lemmytx.proxy.hedge import Hedge, Hedging, may_hedge
from lemmytx.proxy.pins import Pinned
from lemmytx.proxy.retry import Pause, Pending, Retry
from lemmytx.proxy.tunnel import Tunnel

if TYPE_CHECKING:
    from lemmytx.proxy.resource import ReverseProxyResource
    from lemmytx.proxy.router import Route

#: Why nobody took a request.
TURNED_AWAY = {
    "overloaded": "all backends are at capacity",
    "no_backend": "no backend is available",
    "queue_full": "as many requests wait for a backend as may",
    "timeout_queue": "no backend had room for it in time",
}

#: Seconds after which a client may come again, where the queue has nothing else to say.
RETRY_AFTER = 5


class Attempts:
    """
    See the module. The attributes are explained, and set, in L{lemmytx.proxy.exchange.Exchange}.
    """

    __slots__ = (
        "_body", "_body_ended", "_counted", "_dial", "_hedging", "_limit", "_pass", "_producing", "_retry", "_reused",
        "_wire", "attempts", "backend", "binding", "cluster", "connect_time", "delay", "downstream", "head", "peer",
        "queue_time", "read_timeout", "request_id", "resource", "responded", "started", "termination", "tried",
        "tunnel", "upstream", "why",
    )  # fmt: skip

    _body: OutgoingBody | None
    _body_ended: bool
    _counted: bool
    _dial: Pending | None
    _hedging: Hedging | None
    _limit: IDelayedCall | None
    _pass: Pass | None
    _producing: bool
    _retry: Retry | None
    _reused: bool
    _wire: bytes
    attempts: int
    backend: Backend | None
    binding: Binding | Pinned | None
    cluster: Cluster
    connect_time: float
    delay: float
    downstream: Asker
    head: RequestHead
    client: str
    peer: Peer
    place: Place | None
    queue_time: float
    read_timeout: float
    request_id: bytes
    resource: ReverseProxyResource
    responded: bool
    route: Route
    started: float
    termination: str
    total: float
    tried: tuple[Backend, ...]
    tunnel: Tunnel | None
    upstream: Carrier | None
    why: str

    def _attempt(self, backend: Backend | None = None) -> None:
        cluster = self.cluster
        if backend is None:
            gate = cluster.gate
            backend = cluster.choose(self) if gate is None else gate.choose(self)
        if backend is None:
            self._wait()
            return
        if self.attempts:
            self.delay = self.resource.ticker.seconds() - self.started
        self.attempts += 1
        self.backend = backend
        self._counted = True
        if cluster.rules.try_timeout:
            self._limit_time(cluster.rules.try_timeout)
        if cluster.hedge is not None and self._hedging is None and may_hedge(self):
            self._hedging = Hedging(self)
        upstream: Carrier | None = backend.acquire()
        if upstream is not None and self.head.method not in IDEMPOTENT and not upstream.fresh():
            # This request can not be repeated, so it must not meet a connection that the backend has closed.
            upstream.close()
            upstream = None
        if backend.passive.suspect:
            backend.passive.began(self)
        if upstream is None:
            self._connect(backend)
        else:
            self._reused = True
            self.connect_time = 0.0
            first = self.attempts == 1 and self.queue_time < 0
            self._send(upstream, self.started if first else self.resource.ticker.seconds())
            if (self.attempts > 1 or self.queue_time >= 0) and not self._body_ended and self.upstream is upstream:
                # It was paused while the backend before this one was dialled, or while nobody could take it.
                self.downstream.resume()

    def _wait(self) -> None:
        """Nobody can take the request now: wait for somebody, where that is wanted and there is a place."""
        other = self.cluster.failover
        if other is not None and not self.cluster.up(self):
            self._fail_over(other)
            return
        queue = self.cluster.queue
        if queue is None:
            why = "overloaded" if self.cluster.full(self) else "no_backend"
        else:
            why = queue.wait(self)
        if why:
            self.turned_away(why)
        else:
            self._waits()

    def _waits(self) -> None:
        """It has a place in the queue. While what has to be held is little its client is listened to: it may leave."""
        if self._body is not None and not self._body_ended:
            if self._body.full:
                self.downstream.pause()
            elif self.attempts:
                # It was paused while a backend was dialled that could not be reached.
                self.downstream.resume()

    def admitted(self, backend: Backend, since: float) -> None:
        """
        The end of waiting.

        @param backend: one that has room.
        @param since: when it began.
        """
        try:
            now = self.resource.ticker.seconds()
            self._waited(since, now)
            self.delay = now - self.started
            self._attempt(backend)
        except Exception:
            self.break_down()

    def turned_away(self, termination: str, since: float | None = None) -> None:
        """
        There is nobody for it, and will not be in time.

        @param termination: C{overloaded}, C{no_backend}, C{queue_full} or C{timeout_queue}.
        @param since: when it began to wait, if it did.
        """
        if since is not None:
            self._waited(since, self.resource.ticker.seconds())
        cluster = self.cluster
        if termination == "no_backend" and cluster.failover is not None and since is not None:
            try:
                self._fail_over(cluster.failover)
            except Exception:
                self.break_down()
            return
        cluster.turned_away[termination] = cluster.turned_away.get(termination, 0) + 1
        queue = cluster.queue
        seconds = queue.rules.retry_after if queue is not None and termination == "queue_full" else RETRY_AFTER
        status = 504 if termination == "timeout_queue" else 503
        self._refuse(status, termination, TURNED_AWAY[termination], b"Retry-After: %d\r\n" % seconds)

    def _waited(self, since: float, now: float) -> None:
        """So long in a queue. It may be the second one, of another cluster."""
        self.queue_time = max(0.0, self.queue_time) + now - since

    def _connect(self, backend: Backend) -> None:
        self._reused = False
        if not self._body_ended:
            self.downstream.pause()
        dialling = dial(self, backend)
        self._dial = dialling
        dialling.start()

    def connected(self, upstream: Carrier) -> None:
        """The connection that was wanted stands."""
        self._dial = None
        now = self.resource.ticker.seconds()
        self.connect_time = now - self.started
        self._send(upstream, now)
        if not self._body_ended and self.upstream is upstream:
            self.downstream.resume()

    def _send(self, upstream: Carrier, now: float) -> None:
        """Send everything that there is, on a connection that stands."""
        self.upstream = upstream
        wire = self._wire
        if not wire:
            host = self.head.authority
            own_host = self.cluster.rules.own_host
            if own_host or not host:
                # HTTP/1.0 without Host: HTTP/1.1 towards the backend needs one (RFC 9112 §3.2).
                host = upstream.backend.authority
            wire = self.resource.forwarding.compose(self.head, host, self.peer, self.request_id)
            if not own_host:
                self._wire = wire
        upstream.carry(self, wire, self._body, now + self.read_timeout if self._body_ended else inf)
        if self._body is not None:
            self._body.sent()
        if not self._body_ended and self.upstream is upstream:
            self._producing = True
            upstream.feed_from(self.downstream.body_source(upstream))

    def connect_failed(self, timed_out: bool, why: str, kind: str = "refused") -> None:
        """
        No connection to the backend: nothing was sent, so any request may try another.

        @param kind: when it was not a matter of time: C{refused}, or C{tls}.
        """
        self._dial = None
        backend = self.backend
        assert backend is not None
        self.cluster.failed(backend, "timeout" if timed_out else kind, f"connecting: {why}")
        self.why = f"{backend.name}: {why}"
        self._let_go()
        self.tried = (*self.tried, backend)
        if self._hedging is not None and self._hedging.take_over():
            return
        if not self._alone():
            replayable = self._replayable()
            other = self._retries().elsewhere(self, replayable, patient=True)
            if other is not None:
                self._go_on(other)
                return
            if self.cluster.failover is not None and replayable:
                # However many backends there are that were not tried: nobody was to be reached, and the other cluster
                # has nothing to do with these.
                self._fail_over(self.cluster.failover)
                return
        if timed_out:
            self._refuse(504, "timeout_connect", self.why)
        else:
            self._refuse(502, f"backend_{kind}", self.why)

    def cannot_connect(self, why: str) -> None:
        """We have nothing left to make a connection with. That is no backend's fault, and no other could be reached."""
        self._dial = None
        self.resource.starved(why)
        if self._hedging is not None and self._hedging.take_over():
            return
        self._refuse(503, "overloaded", f"no connection could be made: {why}", b"Retry-After: 5\r\n")

    def _alone(self) -> bool:
        """Whether its backend is the only one that it may go to."""
        return self.binding is not None and self.binding.alone

    def _retries(self) -> Retry:
        """Asked only after a failure."""
        retry = self._retry
        if retry is None:
            retry = self._retry = Retry(self.cluster)
        return retry

    def upstream_gone(self, orderly: bool, said: str = "") -> None:
        """
        The connection ended before the response was whole.

        @param said: what is known of the reason, as half a sentence about the backend.
        """
        if self.termination:
            # It is accounted for, and yet the upstream still had it: an error of ours came in between.
            self.upstream = None
            self._let_go()
            self.downstream.cut()
            return
        upstream, backend = self.upstream, self.backend
        assert upstream is not None
        assert backend is not None
        if (
            (self._reused or upstream.refused)
            and not self.responded
            and self._retries().redial(self.head.method, upstream, self._replayable())
        ):
            # Closed while the request was on its way: the keep-alive race, not a fault. The exchange stays with this
            # backend, and counted there.
            self._unhook()
            upstream.exchange = None
            self.upstream = None
            self._connect(backend)
            return
        # Told first what came of it: a backend that was on trial with this has failed it then.
        if self.responded:
            self.cluster.failed(backend, "gone", "closed the connection in the middle of a response")
            self._drop_upstream()
            self._cut("backend_gone", f"{backend.name} closed the connection in the middle of its response")
            return
        how = f"{'closed' if orderly else 'reset'} the connection without an answer"
        if said:
            how = f"{how}: {said}"
        self.cluster.failed(backend, "gone", how)
        self._drop_upstream()
        self.tried = (*self.tried, backend)
        if self._hedging is not None and self._hedging.take_over():
            return
        self.why = f"{backend.name} {how}"
        if self.cluster.rules.retry_reset and not upstream.answered and not self._alone():
            retries, replayable = self._retries(), self._replayable()
            ask = retries.elsewhere if upstream.refused else retries.instead
            other = ask(self, replayable, patient=True)
            if other is not None:
                self._go_on(other)
                return
        self._refuse(502, "backend_gone", self.why)

    def upstream_broke(self, error: ProtocolError) -> None:
        """What the backend sent is no response."""
        backend = self.backend
        assert backend is not None
        self.cluster.failed(backend, "malformed", f"malformed response: {error}")
        self._drop_upstream(abandon=True)
        why = f"{backend.name} sent a malformed response: {error}"
        if self.responded:
            self._cut("backend_malformed", why)
        elif self._hedging is None or not self._hedging.take_over():
            self._refuse(502, "backend_malformed", why)

    def upstream_timed_out(self) -> None:
        """The backend was silent, or took nothing, for too long."""
        backend = self.backend
        assert backend is not None
        if self.tunnel:
            self._drop_upstream(abandon=True)
            self._end("timeout_tunnel", "no bytes in either direction")
            self.downstream.cut()
            return
        self.cluster.failed(backend, "timeout", "did not answer in time")
        self._drop_upstream(abandon=True)
        why = f"{backend.name} did not answer in time"
        if self.responded:
            self._cut("timeout_read", why)
        elif self._hedging is None or not self._hedging.take_over():
            self._refuse(504, "timeout_read", why)

    def _replayable(self) -> bool:
        """Whether the whole request can be sent again."""
        return self._body is None or self._body.replayable

    # Letting go

    def _drop_upstream(self, abandon: bool = False) -> None:
        """The upstream is of no more use."""
        upstream = self.upstream
        if upstream is not None:
            self._unhook()
            self.upstream = None
            if abandon:
                upstream.abandon()
            else:
                upstream.exchange = None
        self._let_go()

    def _unhook(self) -> None:
        """No more flow control between the two connections."""
        if self._producing:
            self._producing = False
            assert self.upstream is not None
            self.upstream.feed_from(None)
        if self.responded:
            self.downstream.listen_to(None)

    def _let_go(self) -> None:
        """The backend is not busy with this any more."""
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        if self._counted:
            self._counted = False
            assert self.backend is not None
            if self.backend.passive.suspect:
                self.backend.passive.left(self)
            self.backend.leave()

    # What the other parts of the exchange do

    def _go_on(self, other: Backend | Pause | Queue) -> None:
        """With another backend, now or when it has room, or with a new pass over all of them in a while."""
        raise NotImplementedError

    def _limit_time(self, seconds: float) -> None:
        """The attempt that begins has so long until a response's head."""
        raise NotImplementedError

    def _fail_over(self, other: Cluster) -> None:
        """The cluster has nobody for it, and another one stands in."""
        raise NotImplementedError

    @property
    def under_way(self) -> bool:
        """Whether there is a backend that has the request, or is being connected to."""
        raise NotImplementedError

    def try_anew(self) -> None:
        """All backends were tried, and the pause after that is over."""
        raise NotImplementedError

    def go_on_with(self, hedge: Hedge) -> None:
        """A hedge takes the place of the attempt, which has failed or is slower."""
        raise NotImplementedError

    def break_down(self) -> None:
        """See L{lemmytx.proxy.exchange.Exchange.break_down}."""
        raise NotImplementedError

    def _refuse(self, status: int, termination: str, why: str, fields: bytes = b"") -> None:
        """Answer ourselves."""
        raise NotImplementedError

    def _cut(self, termination: str, why: str) -> None:
        """The client has a part of the response and must see that it is one."""
        raise NotImplementedError

    def _end(self, termination: str, why: str, now: float | None = None) -> None:
        """Account for it. Called exactly once."""
        raise NotImplementedError
