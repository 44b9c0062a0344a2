"""
Clients that stay with their backend.

The first answer that a client gets from a cluster carries a binding, in a cookie or in a field of its own, and the
client's next requests go to the same backend for as long as that can take them.

B{The binding} is 36 characters, cut from HMAC-SHA256 of the backend's location under a key that is derived from the
secret and the cluster's name. So it tells nobody what the backend is called or where it is, nobody can make one who
does not have the secret, and it outlives a reload, a restart, another name or weight of the backend, and holds in every
process that has the secret. Since each backend has only one, those that are right are known beforehand: the first
characters find the only one that it can be, and the rest, which is proof enough, is compared in a time that does not
depend on how near it comes. What is malformed, forged or another cluster's is as good as none: the request goes where
the scheduler says, and the client gets a binding that is right.

B{What becomes of a binding}, by what the backend is::

    the bound backend is            the request goes       and the binding
    ready, with or without a role   there                  stays
    draining                        there                  stays
    at its capacity                 to another             stays: this one request had bad luck
    down, ejected, on another's     to another             is rewritten
        trial, disabled, gone
    found unreachable by this very  to another, if it may  is rewritten by whoever answers
        request                     be retried

A request that is bound goes past the scheduler, and so past weights and roles: a client that was sent to a backup
stays there, as with HAProxy.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lemmytx.cluster.backend import Backend
from lemmytx.message import RequestHead, ResponseHead

if TYPE_CHECKING:
    from lemmytx.cluster.cluster import Cluster

#: Bytes of a binding.
SIZE = 27

#: Characters by which it is looked up. The others hold 18 bytes (RFC 2104 §5: not less than half of the hash).
FOUND_BY = 12

#: How many values a client may offer: one per path and domain that the cookie was ever set for.
OFFERS = 4

#: In which administrative states a backend keeps its clients.
_KEEPS = ("ready", "drain")


class Codec:
    """
    Writes the bindings of one cluster. Knows no backend: only their locations, as text.
    """

    __slots__ = ("_keys",)

    def __init__(self, secrets: Sequence[bytes], cluster: str) -> None:
        """
        @param secrets: the first one writes, each of them is believed.
        @param cluster: its name: a binding of another cluster with the same secret is none.
        """
        if not secrets or not all(secrets):
            raise ValueError("a binding without a secret proves nothing")
        told = b"lemmytx sticky\0" + cluster.encode("utf-8", "surrogatepass")
        self._keys = tuple(hmac.digest(secret, told, "sha256") for secret in secrets)

    def write(self, location: str) -> tuple[bytes, ...]:
        """The bindings to a backend: the one that is written, and those under older secrets."""
        told = location.encode("utf-8", "surrogatepass")
        return tuple(urlsafe_b64encode(hmac.digest(key, told, "sha256")[:SIZE]) for key in self._keys)


class Known:
    """
    The bindings to the members of a cluster.

    @ivar written: by member.
    """

    __slots__ = ("_by_beginning", "written")

    def __init__(self, codec: Codec, members: Iterable[Backend]) -> None:
        self._by_beginning: dict[bytes, tuple[bytes, Backend | None, bool]] = {}
        self.written: dict[Backend, bytes] = {}
        for backend in members:
            values = codec.write(backend.location.url)
            self.written[backend] = values[0]
            for value in values:
                self._by_beginning.setdefault(value[:FOUND_BY], (value, backend, value is values[0]))

    def read(self, value: bytes) -> tuple[Backend | None, bool]:
        """
        Takes whatever a client says.

        @return: the backend that it means, L{None} for nobody; and whether we would write the same today.
        """
        right, backend, current = self._by_beginning.get(value[:FOUND_BY], _NOBODY)
        return (backend, current) if hmac.compare_digest(right, value) else (None, False)


#: Compared with what cannot be right: it should take as long as any other.
_NOBODY: tuple[bytes, Backend | None, bool] = b"!" * (SIZE * 4 // 3), None, False


class Cookie:
    """
    A binding in a cookie.

    @ivar cached: whether a response with a binding may be cached by others than the client itself.
    """

    __slots__ = ("_attributes", "_crumb", "_name", "_own", "_secure", "cached")

    def __init__(
        self,
        name: bytes,
        path: bytes = b"/",
        domain: bytes = b"",
        max_age: int = 0,
        same_site: bytes = b"Lax",
        http_only: bool = True,
        secure: bool | None = None,
        cached: bool = False,
    ) -> None:
        """
        @param domain: empty: the host that was asked, and no other.
        @param max_age: seconds; 0: until the client is closed.
        @param same_site: C{Lax}, C{Strict} or C{None}; empty: the attribute is not there.
        @param secure: L{None}: if the client came by TLS.
        """
        self.cached = cached
        self._name = name
        self._crumb = re.compile(rb"(?:\A|;)[ \t]*%b[ \t]*=([^;]*)" % re.escape(name))
        self._own = re.compile(rb"(?im)^set-cookie:[ \t]*(?-i:%b)[ \t]*=[^\r\n]*\r\n" % re.escape(name))
        parts = [b"Path=%b" % path]
        if domain:
            parts.append(b"Domain=%b" % domain)
        if max_age:
            parts.append(b"Max-Age=%d" % max_age)
        if http_only:
            parts.append(b"HttpOnly")
        if same_site:
            parts.append(b"SameSite=%b" % same_site)
        self._attributes = b"; ".join(parts)
        self._secure = secure

    def take(self, head: RequestHead) -> list[bytes]:
        """
        Takes the cookie out of what a backend will see.

        @return: its values, as the client sent them: up to L{OFFERS}.
        """
        if self._name not in head.block:
            return []
        found: list[bytes] = []

        def without(line: re.Match[bytes]) -> bytes:
            values = self._crumb.findall(line[2])
            if not values:
                return line[0]
            found.extend(value.strip(b" \t") for value in values[: OFFERS - len(found)])
            rest = self._crumb.sub(b"", line[2]).strip(b"; \t")
            return line[1] + rest + b"\r\n" if rest else b""

        head.block = _COOKIES.sub(without, head.block)
        return found

    def put(self, head: ResponseHead, value: bytes, secure: bool) -> None:
        """Add it to a response."""
        wanted = secure if self._secure is None else self._secure
        head.block += b"Set-Cookie: %b=%b; %b%b\r\n" % (
            self._name, value, self._attributes, b"; Secure" if wanted else b"",
        )  # fmt: skip
        if not self.cached:
            head.block += b"Cache-Control: private\r\n"

    def clear(self, head: ResponseHead) -> None:
        """Take out what the backend has under this name."""
        if self._name in head.block:
            head.block = self._own.sub(b"", head.block)


_COOKIES = re.compile(rb"(?im)^(cookie:[ \t]*)([^\r\n]*)\r\n")


class Field:
    """A binding in a field of its own, by the same name in requests and responses: for clients that are programs."""

    __slots__ = ("_line", "_name", "cached")

    def __init__(self, name: bytes, cached: bool = False) -> None:
        self.cached = cached
        self._name = name
        self._line = re.compile(rb"(?im)^%b:[ \t]*([^\r\n]*)\r\n" % re.escape(name))

    def take(self, head: RequestHead) -> list[bytes]:
        """See L{Cookie.take}."""
        found = [value.strip(b" \t") for value in self._line.findall(head.block)[:OFFERS]]
        if found:
            head.block = self._line.sub(b"", head.block)
        return found

    def put(self, head: ResponseHead, value: bytes, secure: bool) -> None:
        """See L{Cookie.put}."""
        head.block += b"%b: %b\r\n" % (self._name, value)
        if not self.cached:
            head.block += b"Cache-Control: private\r\n"

    def clear(self, head: ResponseHead) -> None:
        """See L{Cookie.clear}."""
        head.block = self._line.sub(b"", head.block)


class Sticky:
    """
    What binds the clients of a cluster.
    """

    __slots__ = ("_carrier", "_codec", "_known", "_members")

    def __init__(self, codec: Codec, carrier: Cookie | Field) -> None:
        self._codec = codec
        self._carrier = carrier
        self._members: tuple[Backend, ...] = ()
        self._known = Known(codec, ())

    def know(self, members: tuple[Backend, ...]) -> None:
        """The cluster has these members. Found out when a request comes, unless somebody has said so before."""
        if members is not self._members:
            self._members = members
            self._known = Known(self._codec, members)

    def bound(self, cluster: Cluster, exchange: Any) -> Backend | None:
        """
        Called by the cluster before it chooses for a request that has been nowhere yet; more than once if that has to
        wait.

        @param exchange: an L{lemmytx.interfaces.IRequest} with the attribute C{binding}, which is set here.
        @return: the backend that the client is bound to, if it can take the request now.
        """
        binding: Binding | None = exchange.binding
        self.know(cluster.backends)
        if binding is None:
            binding = exchange.binding = Binding(self, *self._read(exchange.head))
        binding.spilled = False
        backend = binding.backend
        if backend is None or backend not in self._known.written:
            return None
        obstacle = cluster.obstacle(backend, _KEEPS)
        binding.spilled = obstacle == "full"
        return None if obstacle else backend

    def _read(self, head: RequestHead) -> tuple[Backend | None, bool]:
        """The backend of the first value that means one, and whether that is as we would write it today."""
        for value in self._carrier.take(head):
            read = self._known.read(value)
            if read[0] is not None:
                return read
        return None, False

    def preview(self, cluster: Cluster, request: Any) -> tuple[Backend | None, str]:
        """
        Whom the client is bound to, and why the request could not go there now, as C{Cluster.obstacle} says it. For
        people; nothing changes by it.

        @param request: an L{lemmytx.interfaces.IRequest}.
        """
        self.know(cluster.backends)
        head = request.head
        block = head.block
        backend = self._read(head)[0]
        head.block = block
        return backend, "" if backend is None else cluster.obstacle(backend, _KEEPS)

    def strip(self, head: RequestHead) -> None:
        """Take out of a request what binds its client, whatever it says."""
        self._carrier.take(head)

    def clear(self, head: ResponseHead) -> None:
        """Take out of a response what the backend has under the name of the binding."""
        self._carrier.clear(head)

    def tell(self, head: ResponseHead, backend: Backend, binding: Binding, secure: bool) -> None:
        """See L{Binding.tell}."""
        carrier = self._carrier
        carrier.clear(head)
        if binding.spilled or (backend is binding.backend and binding.current):
            return
        value = self._known.written.get(backend)
        if value is not None:  # else a reload has taken it away meanwhile
            carrier.put(head, value, secure)


class Binding:
    """
    What an exchange knows of its client's binding.

    @ivar backend: whom the client is bound to; L{None}: nobody.
    @ivar current: whether the binding is written with the secret that writes.
    @ivar spilled: whether the backend had no room, so that the binding is to stay although another one answers.
    @cvar alone: see L{lemmytx.proxy.pins.Pinned}; C{line} too.
    """

    __slots__ = ("_sticky", "backend", "current", "spilled")

    alone = False
    line = b""

    def __init__(self, sticky: Sticky, backend: Backend | None = None, current: bool = False) -> None:
        self._sticky = sticky
        self.backend = backend
        self.current = current
        self.spilled = False

    def tell(self, exchange: Any, head: ResponseHead, backend: Backend) -> None:
        """
        Called once for each exchange that is answered by a backend, before the client sees the head: the client is told
        if it is bound to another one than before.

        @param exchange: an L{lemmytx.proxy.exchange.Exchange}.
        @param head: the final response's, or that of a 101.
        """
        self._sticky.tell(head, backend, self, came_by_tls(exchange))


def came_by_tls(exchange: Any) -> bool:
    """Whether the client itself has a connection with TLS, to us or to a proxy that we believe."""
    claims = exchange.head.claims
    if claims is not None:
        told = claims.get(b"x-forwarded-proto")
        if told:
            return bool(told[0].partition(b",")[0].strip().lower() == b"https")
    return bool(exchange.peer.scheme == b"https")
