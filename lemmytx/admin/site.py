"""
The admin side as a web site, on its own listener: L{admin_site} is what is assembled.

A request first meets the guard, which knows nothing of what there is: it looks at the host, the token and the form of
the request, so that nothing behind it can be reached, or even be found to exist, without leave. Then klein finds the
route. Routes are in modules of their own, each with an C{add_routes(app, …)}.

This is not the data path: C{twisted.web} is good enough for it, within the bounds that are set here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from lemmytx.admin import acts, backends, explain, haproxy, health, metrics, stats
from lemmytx.admin.access import SAFE, Access, check_admin, role_refused
from lemmytx.admin.answers import prepare, refuse
from lemmytx.interfaces import IInstance
from lemmytx.model import Token

__all__ = ["AdminSite", "Door", "admin_site", "check_admin"]

log = Logger(namespace="lemmytx.admin")

#: Seconds that a connection may be silent.
TIMEOUT = 30

#: Connections at one time.
CONNECTIONS = 200

#: The longest body of a request, in bytes. Nothing here takes long ones.
BODY = 64 * 1024

#: Methods are case-sensitive (RFC 9110 §9.1), which werkzeug forgets, and all that anybody uses are like this.
_METHOD = re.compile(rb"[A-Z]{1,32}\Z")


class Guard(Resource):
    """What stands before all routes."""

    isLeaf = True

    def __init__(self, access: Access, inner: Any) -> None:
        """
        @param inner: the resource of the routes.
        """
        super().__init__()  # type: ignore[no-untyped-call]  # twisted.web has few annotations
        self._access = access
        self._inner = inner

    def render(self, request: Any) -> Any:
        """Called by C{twisted.web}, with the whole request in hand."""
        prepare(request)
        if not _METHOD.match(request.method):
            return _finish(request, refuse(request, 400, "a method consists of capital letters, as in GET"))
        why = self._access.host_refused(request)
        if why is not None:
            return _finish(request, refuse(request, 421, why))
        why = self._access.page_refused(request)
        if why is not None:
            return _finish(request, refuse(request, 403, why))
        if request.path not in health.OPEN:
            found = self._access.who(request)
            if isinstance(found, str):
                request.setHeader(b"www-authenticate", b'Bearer realm="lemmytx"')
                return _finish(request, refuse(request, 401, found))
            request.token = found
            # Which role it takes is for the route to say. That it takes more than reading is certain.
            why = None if request.method in SAFE else role_refused(found, "operate")
            if why is not None:
                return _finish(request, refuse(request, 403, why))
        if not _is_path(request.path, request.postpath or ()):
            return _finish(request, refuse(request, 404, "there is nothing at this path"))
        # The host has been looked at and plays no further part; werkzeug fails on one that is no host name.
        request.requestHeaders.setRawHeaders(b"host", [b"localhost"])
        return self._inner.render(request)


def _is_path(path: bytes, segments: Sequence[bytes]) -> bool:
    """
    Whether there could be a route. klein takes two slashes for one and an escaped slash for a plain one, and logs what
    is no UTF-8 as a failure of ours.

    @param segments: the path's, with their percent escapes undone.
    """
    if b"//" in path or any(b"/" in segment for segment in segments):
        return False
    try:
        b"".join(segments).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _finish(request: Request, body: bytes) -> int:
    """An answer that is not klein's. A request with HEAD writes only the head of it."""
    request.write(body)
    request.finish()
    return int(NOT_DONE_YET)


class AdminRequest(Request):
    """
    A request whose body is bounded: C{twisted.web} would take any, and keep it on the disk.

    @ivar token: what it has shown; L{None} where none is needed.
    """

    content: BytesIO
    token: Token | None = None
    _size = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """Called by the channel when the head is there. L{None}: the body comes in chunks."""
        self.content = BytesIO()
        if length is not None and length > BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Called by the channel with a part of the body."""
        self._size += len(data)
        if self._size > BODY:
            self._refuse()
        elif not self._refused:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Called by the channel when the request is whole."""
        if not self._refused:
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]  # as above

    def _refuse(self) -> None:
        """Answer at once, and read no more."""
        if not self._refused:
            self._refused = True
            transport: Any = self.channel.transport
            transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\n")
            self.channel.loseConnection()


class AdminSite(Site):
    """
    The site.

    @ivar access: who may use it. Its tokens may be replaced.
    """

    displayTracebacks = False
    noisy = False  # that it begins to listen is told by whoever made it

    def __init__(self, resource: Resource, access: Access, reactor: IReactorTime) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # as above
            resource, AdminRequest, timeout=TIMEOUT, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.access = access

    def startFactory(self) -> None:
        """Called by Twisted when it begins to listen. The site's own access log, with its timer, is left out."""

    def stopFactory(self) -> None:
        """Called by Twisted when it listens no more."""

    def log(self, request: Any) -> None:
        """Called by C{twisted.web} after each request: a scraper every few seconds is no news."""


class Door(WrappingFactory):
    """
    Lets a bounded number of connections in at a time: whoever holds more than that open has no business here, and must
    not take the descriptors that clients need.
    """

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Called by Twisted for each connection. L{None} closes it."""
        if len(self.protocols) >= CONNECTIONS:
            return None
        return super().buildProtocol(addr)


def _add_errors(app: Klein) -> None:
    """Whatever goes wrong is told in JSON, and nothing of what is inside."""

    @app.handle_errors(HTTPException)
    def refused(request: Any, failure: Failure) -> bytes:
        """No such route, or not with this method."""
        error = failure.value
        if isinstance(error, MethodNotAllowed):
            allowed = ", ".join(sorted(error.valid_methods or ()))
            request.setHeader(b"allow", allowed.encode("ascii"))
            return refuse(request, 405, f"this path takes {allowed}")
        # werkzeug raises redirects as well; there is none that we would want.
        return refuse(request, 404, "there is nothing at this path")

    @app.handle_errors(Exception)
    def failed(request: Any, failure: Failure) -> bytes:
        """A fault of ours."""
        log.failure("the admin side failed on {path}", failure, path=request.path)
        return refuse(request, 500, "the log has more")


def admin_site(instance: IInstance, tokens: Sequence[Token], reactor: IReactorTime) -> AdminSite:
    """
    The admin side, to be listened with, on any number of endpoints one after the other. Whether that may be done on a
    given one, L{check_admin} tells.

    @param tokens: who may use it; empty: whoever can reach it. L{Access.tokens} replaces them.
    @param reactor: the clock. What is now is taken for the start of the instance.
    """
    access = Access(tokens)
    app = Klein()
    _add_errors(app)
    health.add_routes(app, instance.ready, instance.store)
    stats.add_routes(app, stats.Statistics(instance, reactor))
    metrics.add_routes(app, metrics.Metrics(instance, reactor), reactor)
    haproxy.add_routes(app, instance, reactor)
    acts.add_routes(app, instance, lambda request: request.token)
    backends.add_routes(app, instance, lambda request: request.token)
    explain.add_routes(app, instance)
    return AdminSite(Guard(access, app.resource()), access, reactor)
