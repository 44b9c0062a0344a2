"""
One request and its response.

The exchange stands between a downstream (who asks) and an upstream (who answers) and decides: where the request goes,
whether it may be tried again, what the client sees when something fails, whose fault it was, and what is counted. It
knows neither how the client's connection frames a message nor how the backend's does.

Who ends it::

    event                                   before a response head        after it
    response whole                          -                             ok; upstream back to the pool
    backend cannot be reached               another backend, or 502/504   -
    reused connection dies unanswered       the same once more (*), 502   client cut
    fresh connection dies unanswered        502, or another backend (*)   client cut
    malformed response                      502                           client cut
    backend silent for `try_timeout`        another backend, if any       -
    backend silent for `read`               504                           client cut
    a hedge is quicker                      upstream closed, no blame     -
    request broken off or malformed         upstream closed, 400/408      upstream closed, client cut
    client gone                             upstream closed, 499 in the log, nobody is blamed

(*) when the method is idempotent or nothing was sent, and the body is still held; what may be tried again, and where,
is L{lemmytx.proxy.retry}'s to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from lemmytx.cluster.backend import Backend
from lemmytx.cluster.breaker import Pass
from lemmytx.cluster.place import Place
from lemmytx.cluster.sticky import Binding
from lemmytx.cluster.traffic import FULL, Traffic
from lemmytx.interfaces import IRequest
from lemmytx.message import CHUNKED, RequestHead, ResponseHead
from lemmytx.proxy.asker import Asker
from lemmytx.proxy.body import OutgoingBody
from lemmytx.proxy.carrier import Carrier
from lemmytx.proxy.detours import Detours
from lemmytx.proxy.forward import COUNTED, Peer, is_last_hop
from lemmytx.proxy.hedge import Hedging
from lemmytx.proxy.pins import Pinned
from lemmytx.proxy.retry import Pending, Retry
from lemmytx.proxy.router import Route
from lemmytx.proxy.tunnel import Tunnel, WebSocket

log = Logger(namespace="lemmytx.proxy")

#: Why a WebSocket ended that nobody but us wanted to end.
_TOLD = "going away: both sides were sent 1001"

_ALLOW = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"

if TYPE_CHECKING:
    from lemmytx.proxy.resource import ReverseProxyResource


_HSTS = b"\r\nstrict-transport-security:"


def _oblige(head: ResponseHead, line: bytes) -> None:
    """Add Strict-Transport-Security, unless the backend has its own."""
    if _HSTS not in head.block.lower():
        head.block += line


@implementer(IRequest)
class Exchange(Detours):
    """
    @ivar head: the request's.
    @ivar client: the client's address.
    @ivar request_id: by which logs on all sides find each other.
    @ivar binding: what it has to do with one backend in particular, where clients are bound to backends or name one.
    @ivar started: when the head was whole; seconds on the ticker's clock.
    @ivar queue_time: seconds of waiting for a backend to be free; -1 = did not wait.
    @ivar connect_time: seconds until the connection stood; 0 for a reused one, -1 = never.
    @ivar delay: seconds from the start until the backend that has it now was chosen, or had the whole request; 0: at
        once.
    @ivar first_byte: seconds from the start until the response's head, -1 = never.
    @ivar total: seconds from the start to the end.
    @ivar attempts: backends tried.
    @ivar tried: those that failed it.
    @ivar status: what the client saw: 499 when it left before an answer, 0 when it was cut before one.
    @ivar sent: body bytes for the client; in a tunnel all bytes.
    @ivar received: body bytes from the client; in a tunnel all bytes.
    @ivar termination: how it ended, one word; C{why} in a sentence, for the log.
    @ivar tunnel: what it has become, if it has.
    @ivar framed_by_chunks: whether the response goes to the client in chunks.
    @ivar read_timeout: see L{lemmytx.cluster.rules.Rules}.
    """

    __slots__ = (
        "client", "first_byte", "framed_by_chunks", "place", "received", "route", "sent", "status", "total", "vhost",
    )  # fmt: skip

    route: Route

    def __init__(self, resource: ReverseProxyResource, downstream: Asker, head: RequestHead, peer: Peer) -> None:
        self.resource = resource
        self.downstream = downstream
        self.head = head
        self.peer = peer
        self.client = peer.client
        self.started = resource.ticker.seconds()
        self.request_id = b""
        self.vhost: Any = None
        self.backend: Backend | None = None
        self.upstream: Carrier | None = None
        self.queue_time = -1.0
        self.connect_time = -1.0
        self.delay = 0.0
        self.first_byte = -1.0
        self.total = -1.0
        self.read_timeout = 0.0
        self.attempts = 0
        self.tried: tuple[Backend, ...] = ()
        self.status = 0
        self.sent = 0
        self.received = 0
        self.termination = ""
        self.why = ""
        self.tunnel: Tunnel | None = None
        self.responded = False
        self.framed_by_chunks = False
        self._wire = b""
        self._body: OutgoingBody | None = None
        self._body_ended = False
        self._producing = False
        self._dial: Pending | None = None
        self._hedging: Hedging | None = None
        self._limit: IDelayedCall | None = None
        self._pass: Pass | None = None
        self._counted = False
        self._reused = False
        self._retry: Retry | None = None
        self.place: Place | None = None
        self.binding: Binding | Pinned | None = None

    # The request

    def start(self, body: bytes, ended: bool, trailers: bytes = b"") -> None:
        """
        Called once, with the head's arrival.

        @param body: what has come of the body, decoded.
        @param ended: whether that is all of it.
        """
        self.resource.exchanges += 1
        try:
            head = self.head
            resource = self.resource
            forwarding = resource.forwarding
            if head.claims is None:
                self.request_id = next(forwarding.ids)
            else:
                self.request_id = forwarding.request_id(head)
                self.client = forwarding.client(head, self.peer, self.peer.networks)
            if self.peer.redirect:
                self._redirect(self.peer.redirect)
                return
            self.route = route = resource.router.find(head, self.client)
            self.vhost = route.vhost
            if route.cluster is None:
                self._refuse(404, "no_route", "no route")
                return
            if head.method in COUNTED and is_last_hop(head):
                # Reflecting a request, cookies and all, is nothing that a proxy should offer: no TRACE.
                self._refuse(200 if head.method == b"OPTIONS" else 405, "max_forwards", "Max-Forwards is 0", _ALLOW)
                return
            self.cluster = cluster = route.cluster
            self.read_timeout = cluster.rules.read
            self._body_ended = ended
            if head.length:
                self._body = outgoing = OutgoingBody(head.length == CHUNKED, cluster.rules.replay)
                outgoing.add(body, ended, trailers)
                self.received = len(body)
            if (route.pin is None or not route.pin.take(self)) and (cluster.breaker is None or self._let_in()):
                self._attempt()
        except Exception:
            self.break_down()

    def pinned(self, pin: Pinned, backend: Backend) -> None:
        """The client has named the backend: it goes there and nowhere else."""
        self.binding = pin
        self._attempt(backend)

    def not_pinned(self, status: int, termination: str, why: str, fields: bytes) -> None:
        """The client has named a backend, and that cannot be. What it gets is an answer of our own."""
        self._refuse(status, termination, why, fields)

    def request_body(self, body: bytes, ended: bool, trailers: bytes = b"") -> None:
        """More of the request's body."""
        outgoing, upstream = self._body, self.upstream
        assert outgoing is not None
        outgoing.add(body, ended, trailers)
        self.received += len(body)
        self._body_ended = ended
        if upstream is None:
            # Between two attempts: nothing more is wanted until there is somebody to send it to, so what has to be
            # held is one read at the most. One that waits in the queue for long is listened to while that costs little,
            # since a client that is not listened to cannot be seen to leave.
            place = self.place
            if not ended and (place is None or not place.waiting or outgoing.full):
                self.downstream.pause()
            return
        outgoing.sent()
        upstream.send(body, ended, trailers)
        if ended:
            self._request_sent(upstream)

    def _request_sent(self, upstream: Carrier) -> None:
        # A client that sends slowly is not the backend's response time.
        self.delay = self.resource.ticker.seconds() - self.started
        if self._producing:
            self._producing = False
            upstream.feed_from(None)
            # The last piece may have been one too many; from here on nobody else would say that it has gone.
            self.downstream.resume()
        upstream.has_room()
        upstream.await_response(self.read_timeout)

    def body_spliced(self, count: int) -> None:
        """So many bytes of the body went past us, inside the kernel."""
        self.received += count

    def body_ended(self) -> None:
        """… and that was the last of it."""
        self._body_ended = True
        assert self.upstream is not None
        self._request_sent(self.upstream)

    def may_splice(self) -> Carrier | None:
        """Where the rest of the body could go without us; L{None} while it is still held for another attempt."""
        return None if self._replayable() else self.upstream

    # The response

    def inform(self, head: ResponseHead) -> None:
        """An interim response came."""
        self.downstream.inform(head)

    def respond(self, head: ResponseHead, body: bytes, ended: bool, reusable: bool, trailers: bytes = b"") -> bool:
        """
        The final response begins.

        @param ended: it is whole; then this is the last that comes from the upstream.
        @param reusable: whether the upstream may carry another exchange after this.
        @return: whether more of it is wanted.
        """
        status = head.status
        backend = self.backend
        assert backend is not None
        rules = self.cluster.rules
        if status >= 400 and status in rules.fail_on:
            self.cluster.failed(backend, "status", f"answered {status}")
        elif backend.passive.suspect:
            self.cluster.succeeded(backend)
        if status in rules.retry_on and not self._alone() and self._try_instead(backend, head):
            return False
        self.responded = True
        self.status = status
        now = self.resource.ticker.seconds()
        self.first_byte = now - self.started
        observer = self.cluster.observer
        if observer is not None:
            # An answer that comes before the whole request says nothing of how quick the backend is.
            observer(backend, self.first_byte - self.delay if self._body_ended else -1.0, head, now)
        self.sent = len(body)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        if self._hedging is not None:
            self._hedging.answered(now)
        if self._pass is not None:
            self._judge(status in rules.fail_on)
        if self.peer.hsts:
            _oblige(head, self.peer.hsts)
        if self.binding is not None:
            self.binding.tell(self, head, backend)
        if ended:
            self._keep_upstream(reusable, now)
            self._end("ok", "", now)
            try:
                self.downstream.respond(head, body, True, trailers)
                self.downstream.finished(now)
            except Exception:
                # The upstream is no longer ours, so nobody else would notice that the client waits.
                self.break_down()
            return False
        if self._retry is not None:
            self._retry.answered()
        self.framed_by_chunks = head.length < 0 and self.head.minor == 1
        self.downstream.listen_to(self.upstream)
        self.downstream.respond(head, body, False, b"")
        return self.upstream is not None

    def carry_on(self, body: bytes, ended: bool, reusable: bool, trailers: bytes = b"") -> bool:
        """
        More of the response. Parameters and result as for L{respond}.
        """
        self.sent += len(body)
        if not ended:
            self.downstream.send(body, False, b"")
            return self.upstream is not None
        self.downstream.listen_to(None)
        now = self.resource.ticker.seconds()
        self._keep_upstream(reusable, now)
        self._end("ok", "", now)
        try:
            self.downstream.send(body, True, trailers)
            self.downstream.finished()
        except Exception:
            self.break_down()
        return False

    def _keep_upstream(self, reusable: bool, now: float) -> None:
        """The response is whole: the upstream goes back to the pool, if request and response left it in order."""
        upstream, backend = self.upstream, self.backend
        assert upstream is not None
        assert backend is not None
        self.upstream = None
        if reusable and self._body_ended and not upstream.paused:
            upstream.exchange = None
            self._counted = False
            backend.release(upstream, now)
            return
        self._let_go()
        if self._body_ended:
            upstream.close()
        else:
            # The backend has answered without waiting for the rest of the request.
            if self._producing:
                self._producing = False
                upstream.feed_from(None)
            upstream.abandon()

    # Tunnels

    def open_tunnel(self, head: ResponseHead, rest: bytes) -> None:
        """The backend agreed to another protocol: from here on bytes, both ways, until both have ended."""
        assert self._body_ended  # the codec takes no Upgrade from a request with a body
        self.responded = True
        protocol = head.upgrade or self.head.upgrade or b""
        self.tunnel = tunnel = WebSocket(self) if protocol.lower() == b"websocket" else Tunnel(self)
        self.status = 101
        self.first_byte = self.resource.ticker.seconds() - self.started
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        if self._pass is not None:
            self._judge(False)
        if self._retry is not None:
            self._retry.answered()
        upstream = self.upstream
        assert upstream is not None
        assert self.backend is not None
        if self.backend.passive.suspect:
            self.cluster.succeeded(self.backend)
        if self.binding is not None:
            self.binding.tell(self, head, self.backend)
        self.read_timeout = self.resource.timeouts.tunnel
        upstream.await_response(self.read_timeout)
        self._producing = True
        upstream.feed_from(self.downstream.body_source(upstream))
        self.downstream.listen_to(upstream)
        self.downstream.open_tunnel(head)
        if rest and self.upstream is not None:
            tunnel.from_backend(rest)

    def tunnel_ended(self) -> None:
        """Both sides have said all they had to say."""
        self._hang_up("ok", "")
        self.downstream.finished()

    def tunnel_left(self) -> None:
        """Both sides were told that it ends, and had their time to say farewell."""
        self._hang_up("shutdown", _TOLD)
        self.downstream.finished()

    def tunnel_lost(self) -> None:
        """The backend's connection of a tunnel is gone."""
        tunnel = self.tunnel
        assert tunnel is not None
        self._drop_upstream()
        if tunnel.leaving:
            self._end("shutdown", _TOLD)
        else:
            self._end("ok" if tunnel.backend_ended else "backend_gone", "the backend ended the tunnel")
        self.downstream.finished()

    def _hang_up(self, termination: str, why: str) -> None:
        """A tunnel is over: what is queued for the backend still gets out."""
        upstream = self.upstream
        assert upstream is not None
        self._unhook()
        self.upstream = None
        upstream.close()
        self._let_go()
        self._end(termination, why)

    # The end

    def client_gone(self, why: str = "the client closed the connection") -> None:
        """Nobody wants the response any more. That is not the backend's fault."""
        if self.tunnel is not None and self.tunnel.leaving:
            # The backend has been told, and should be able to read that.
            self._hang_up("shutdown", _TOLD)
            return
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        self._drop_upstream(abandon=True)
        if not self.tunnel and not self.responded:
            self.status = 499
        if self.tunnel is not None and self.tunnel.backend_ended:
            self._end("ok", "")
        else:
            self._end("client_gone", why)

    def request_broke(self, status: int, termination: str, why: str) -> None:
        """The rest of the request will not come, or makes no sense."""
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        self._drop_upstream(abandon=True)
        if self.responded:
            self._cut(termination, why)
        else:
            self._refuse(status, termination, why)

    def break_down(self) -> None:
        """
        An exception of our own was caught that nobody can do anything about: tell it, and leave nobody waiting. Called
        inside of the C{except} clause.
        """
        log.failure("{exchange!r} was ended by an error of our own", exchange=self)
        if not self.termination:
            self.request_broke(500, "error", "an error of our own; the log has it")
            return
        # Accounted for, but who knows what of the answer is out.
        self._drop_upstream(abandon=True)
        self.downstream.cut()

    def _redirect(self, port: int) -> None:
        """The same by HTTPS."""
        head = self.head
        if not head.host:
            self._refuse(400, "redirect", "to be redirected to HTTPS, and names no host")
            return
        host = head.host if port == 443 else b"%b:%d" % (head.host, port)
        target = head.target if head.target.startswith(b"/") else b"/"
        # 301 may turn a POST into a GET (RFC 9110 §15.4.2), 308 may not, and old clients know only 301.
        status = 301 if head.method in (b"GET", b"HEAD") else 308
        self._refuse(status, "redirect", "", b"Location: https://%b%b\r\n" % (host, target))

    def _refuse(self, status: int, termination: str, why: str, fields: bytes = b"") -> None:
        """Answer ourselves."""
        self._let_go()
        self.upstream = None
        self.responded = True
        self.status = status
        self._end(termination, why)
        if self.binding is not None:
            fields += self.binding.line
        self.downstream.reply(status, fields + self.peer.hsts)
        self.downstream.finished()

    def _cut(self, termination: str, why: str) -> None:
        """The client has a part of the response and must see that it is one."""
        self._end(termination, why)
        self.downstream.cut()

    def _end(self, termination: str, why: str, now: float | None = None) -> None:
        """Account for it. Called exactly once."""
        assert not self.termination, self
        self.termination = termination
        if why:
            self.why = why
        self.total = total = (self.resource.ticker.seconds() if now is None else now) - self.started
        if self.place is not None and self.place.waiting:
            self._waited(self.place.since, self.started + total)
        if self._retry is not None:
            self._retry.answered()
        if self._hedging is not None:
            self._hedging.over()
        if self._pass is not None:
            self._judge_end()
        if self.place is not None:
            self.place.leave()
        resource = self.resource
        resource.exchanges -= 1
        time = total
        if self.tunnel is not None:
            # What it carried is counted, how long it stood is not: that is no response time.
            time = self.first_byte
            self.tunnel.over()
        vhost, backend, status = self.vhost, self.backend, self.status
        # As in L{Traffic.ended}, written out: this is done twice for each request.
        traffic: Traffic = resource.unrouted if vhost is None else vhost.traffic
        measured = time
        while True:
            traffic.count = count = traffic.count + 1
            traffic.statuses[status] = traffic.statuses.get(status, 0) + 1
            traffic.time += time
            traffic.received += self.received
            traffic.sent += self.sent
            traffic.times.append(measured)
            if not count & FULL:
                traffic.fold(self.started + total)
            if backend is None:
                break
            traffic, backend = backend.traffic, None
            # Neither waiting for it, nor a client that reads slowly, is the backend's response time.
            measured = (time if self.first_byte < 0.0 else self.first_byte) - self.delay
        if resource.record is not None:
            try:
                resource.record(self)
            except Exception:
                # The line is lost; the answer must not be.
                log.failure("{exchange!r} could not be recorded", exchange=self)

    def __repr__(self) -> str:
        where = self.backend.name if self.backend is not None else None
        return f"<Exchange {self.head!r} backend={where} {self.termination or 'running'}>"
