"""
A request of C{twisted.web} as the asking side of an exchange.

C{twisted.web} hands a request over when its whole body is there, in a file if it is long. From there on it is as with
our own listeners: the head goes through the codec, so that nothing is forwarded that we would not have accepted
ourselves, the body goes out in pieces as the backend takes them, and the response comes back in pieces as the client
takes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

from twisted.internet.interfaces import IPushProducer
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from lemmytx.http1 import codec
from lemmytx.message import ProtocolError, ResponseHead, fields
from lemmytx.proxy.carrier import Carrier
from lemmytx.proxy.ends import Ends, ends_of
from lemmytx.proxy.exchange import Exchange
from lemmytx.proxy.replies import reply

if TYPE_CHECKING:
    from lemmytx.proxy.resource import ReverseProxyResource

#: How much of a body is read from its file at a time, bytes.
PIECE = 64 * 1024

_FRAMING = frozenset((b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"keep-alive"))


def render(resource: ReverseProxyResource, request: Request) -> int:
    """Begin the exchange of a request that a C{twisted.web} site has received."""
    Mounted(resource, request).start()
    return int(NOT_DONE_YET)


@implementer(IPushProducer)
class Mounted:
    """One request of C{twisted.web}, an L{lemmytx.proxy.asker.Asker}."""

    def __init__(self, resource: ReverseProxyResource, request: Request) -> None:
        self._resource = resource
        self._request = request
        self._exchange: Exchange | None = None
        self._left = 0
        self._paused = False
        self._reading = False
        self._gone = False
        self._watched: Carrier | None = None
        self._content: Any = None

    def start(self) -> None:
        """Hand the request to an exchange."""
        request = self._request
        request.notifyFinish().addErrback(self._lost)
        content = self._content = request.content
        assert content is not None
        content.seek(0, 2)
        self._left = content.tell()
        content.seek(0)
        peer = self._resource.forwarding.peer(
            getattr(request.client, "host", "") or "", b"https" if request.isSecure() else b"http", ()
        )
        try:
            head = codec.request(self._wire(), False, self._resource.limits.header_size * 2)
        except ProtocolError as error:
            self._resource.rejected(error.status, str(error), peer.client, None)
            self._answer(reply(error.status))
            return
        assert head is not None
        self._exchange = exchange = Exchange(self._resource, self, head, peer)
        exchange.start(b"", self._left == 0)
        self._send_body()

    def _wire(self) -> bytes:
        """The request's head as it would have come over a socket, with a plain length in the place of its framing."""
        request = self._request
        target = quote_from_bytes(request.uri, safe="/?#[]@!$&'()*+,;=:%~").encode()
        lines = [b"%b %b HTTP/1.1" % (request.method, target)]
        for name, values in request.requestHeaders.getAllRawHeaders():
            if name.lower() not in _FRAMING:
                lines.extend(b"%b: %b" % (name, value) for value in values)
        if not request.requestHeaders.hasHeader(b"host"):
            lines.append(b"Host: %b" % request.getRequestHostname())
        if self._left or request.requestHeaders.hasHeader(b"content-length"):
            lines.append(b"Content-Length: %d" % self._left)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _send_body(self) -> None:
        """Read the body from its file for as long as the backend takes it."""
        if self._reading:
            return
        self._reading = True
        while self._left and not self._paused and self._exchange is not None and not self._exchange.termination:
            piece = self._content.read(min(PIECE, self._left))
            self._left -= len(piece)
            self._exchange.request_body(piece, self._left == 0)
        self._reading = False

    def _lost(self, reason: Any) -> None:
        self._gone = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.termination:
            exchange.client_gone()

    def _answer(self, response: bytes) -> None:
        """Send a whole response that we made ourselves."""
        head = codec.response(response, self._request.method == b"HEAD")
        assert head is not None
        self._begin(head)
        body = response[head.size :]
        if body:
            self._request.write(body)
        self._request.finish()

    def _begin(self, head: ResponseHead) -> None:
        request = self._request
        start, _, rest = head.block.partition(b"\r\n")
        request.setResponseCode(head.status, start.split(b" ", 2)[2] or None)
        # What twisted.web has put there is the backend's to say.
        request.defaultContentType = None
        request.responseHeaders.removeHeader(b"server")
        if head.dated:
            request.responseHeaders.removeHeader(b"date")
        for name, value in fields(rest):
            request.responseHeaders.addRawHeader(name, value)

    # What the exchange calls (lemmytx.proxy.asker.Asker)

    def ends(self) -> Ends:
        """See L{lemmytx.proxy.asker.Asker}."""
        return ends_of(self._request.transport)

    def inform(self, head: ResponseHead) -> None:
        """C{twisted.web} has no way to send an interim response."""

    def respond(self, head: ResponseHead, body: bytes, ended: bool, trailers: bytes) -> None:
        """See L{lemmytx.proxy.asker.Asker}. C{twisted.web} sends no trailers."""
        if self._gone:
            return
        self._begin(head)
        self.send(body, ended, trailers)

    def send(self, body: bytes, ended: bool, trailers: bytes) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        if self._gone:
            return
        if body:
            self._request.write(body)
        if ended:
            self._request.finish()

    def reply(self, status: int, fields: bytes = b"") -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        exchange = self._exchange
        if self._gone or exchange is None:
            return
        self._answer(
            reply(status, exchange.head.field(b"accept"), exchange.request_id, fields, exchange.head.method == b"HEAD")
        )

    def cut(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self._exchange = None
        if not self._gone and self._request.channel is not None:
            self._request.channel.forceAbortClient()

    def open_tunnel(self, head: ResponseHead) -> None:
        """Cannot come: Upgrade is not forwarded from here."""
        raise AssertionError("a tunnel without an upgrade")

    def write(self, data: bytes) -> None:
        """See L{open_tunnel}."""
        raise AssertionError("a tunnel without an upgrade")

    def half_close(self) -> None:
        """See L{open_tunnel}."""
        raise AssertionError("a tunnel without an upgrade")

    def finished(self, now: float | None = None) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self._exchange = None

    def listen_to(self, upstream: Carrier | None) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        if self._watched is not None:
            self._watched = None
            if not self._gone:
                self._request.unregisterProducer()
        if upstream is not None and not self._gone:
            self._watched = upstream
            self._request.registerProducer(upstream, True)

    def stalled(self, stalled: bool) -> None:
        """The site has timeouts of its own."""

    def body_sink(self) -> Any | None:
        """See L{lemmytx.proxy.asker.Asker}. The site may frame or encrypt."""
        return None

    def body_source(self, upstream: Carrier) -> Any:
        """See L{lemmytx.proxy.asker.Asker}."""
        return self

    def pause(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self._paused = True

    def resume(self) -> None:
        """See L{lemmytx.proxy.asker.Asker}."""
        self._paused = False
        self._send_body()

    # As the producer of an upstream

    def pauseProducing(self) -> None:
        """The backend does not keep up."""
        self.pause()
        exchange = self._exchange
        if exchange is not None and exchange.upstream is not None:
            exchange.upstream.await_room(exchange.cluster.rules.write)

    def resumeProducing(self) -> None:
        """The backend has taken what there was."""
        exchange = self._exchange
        if exchange is not None and exchange.upstream is not None:
            exchange.upstream.has_room()
        self.resume()

    def stopProducing(self) -> None:
        """The backend's connection is lost; its protocol is told the same and decides."""
