"""
Host and path to a route: a dictionary of hosts, then a tree of path segments. Never a scan.

B{The vhost.} A host that a vhost names exactly beats the longest wildcard beats C{*}. C{*.shop.example} stands for
every name below C{shop.example}, at any depth, and not for C{shop.example} itself. The vhost that matches best is the
only one asked: when it has no route for the request, that is a 404, and no lesser vhost is tried.

B{The route.} The most specific path wins: exact, then the longest literal prefix, then regular expressions in the
order of the file, then what stands for everything (C{/*}, or no path at all). Equal ones go in the order of the file.
A route whose conditions (methods, fields, query, cookies, networks) do not hold lets the next one try. A catch-all
comes behind the regular expressions because they could never match otherwise.

Each vhost keeps its paths as a tree with one edge per segment. A walk takes the literal edge first, then globs (the
longest literal part first), then C{*}, and then the C{/*} of the node itself, so what comes first is what is most
specific, and a node is visited at most once. Globs of one node are kept by the lengths of their literal ends, so that
a thousand C{/img-*} cost a dictionary look-up as well. Only regular expressions, and routes that differ in nothing but
their conditions, are tried one by one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from lemmytx.message import RequestHead
from lemmytx.patterns import EVERYTHING, Glob, Match, PathPattern, compile_match, compile_path
from lemmytx.proxy.stored import Stored

#: A host name is no longer (RFC 1035 §2.3.4), so a longer one is not searched label by label for a wildcard.
LONGEST_NAME = 255

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Networks = Sequence[_Network]


class _Asked:
    """What conditions want to know of one request, each part found out when first asked for."""

    __slots__ = ("_cookies", "_fields", "_query", "client", "head")

    def __init__(self, head: RequestHead, client: str) -> None:
        self.head = head
        self.client = client
        self._fields: dict[str, list[str]] | None = None
        self._query: dict[str, list[str]] | None = None
        self._cookies: dict[str, list[str]] | None = None

    def fields(self) -> dict[str, list[str]]:
        if self._fields is None:
            self._fields = _gather(
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in self.head.fields()
            )
        return self._fields

    def query(self) -> dict[str, list[str]]:
        if self._query is None:
            text = self.head.target.partition(b"?")[2].decode("latin-1")
            self._query = _gather(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))
        return self._query

    def cookies(self) -> dict[str, list[str]]:
        if self._cookies is None:
            pairs = (pair.partition("=") for line in self.fields().get("cookie", ()) for pair in line.split(";"))
            self._cookies = _gather((name.strip(), value.strip()) for name, _, value in pairs)
        return self._cookies


def _gather(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


class _Conditions:
    """What a route wants of a request beside its path."""

    __slots__ = ("_cookies", "_fields", "_methods", "_networks", "_query")

    def __init__(
        self,
        methods: Iterable[str],
        headers: Mapping[str, object],
        query: Mapping[str, object],
        cookies: Mapping[str, object],
        client_networks: Iterable[str | _Network],
    ) -> None:
        self._methods = frozenset(method.encode("ascii") for method in methods)
        self._fields = [(name.lower(), compile_match(value)) for name, value in headers.items()]
        self._query = [(name, compile_match(value)) for name, value in query.items()]
        self._cookies = [(name, compile_match(value)) for name, value in cookies.items()]
        self._networks = tuple(ipaddress.ip_network(network) for network in client_networks)

    def __bool__(self) -> bool:
        return bool(self._methods or self._fields or self._query or self._cookies or self._networks)

    def refuse(self, asked: _Asked) -> str | None:
        """
        @return: which condition does not hold, for L{Router.explain}; L{None} when all do.
        """
        if self._methods and asked.head.method not in self._methods:
            return "the method is none of " + ", ".join(sorted(method.decode("ascii") for method in self._methods))
        if self._networks and not near(asked.client, self._networks):
            return "the client is in none of " + ", ".join(str(network) for network in self._networks)
        if self._fields and (lacking := _lacking(self._fields, asked.fields())):
            return f"not so: field {lacking}"
        if self._query and (lacking := _lacking(self._query, asked.query())):
            return f"not so: query parameter {lacking}"
        if self._cookies and (lacking := _lacking(self._cookies, asked.cookies())):
            return f"not so: cookie {lacking}"
        return None


def near(client: str, networks: Networks) -> bool:
    """Whether a client is in one of the networks."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False  # a client on a unix socket has no address, and so is in no network
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # an IPv4 client of a socket that listens on both
    return any(address in network for network in networks)


def _lacking(wanted: Iterable[tuple[str, Match]], found: Mapping[str, list[str]]) -> str | None:
    for name, match in wanted:
        if not match.accepts(found.get(name, ())):
            return f"{name} {match.text}"
    return None


class Route:
    """
    Where the requests of one path go.

    @ivar path: its pattern as written.
    @ivar bucket: the name of the bucket that its requests are in, where it has a say in that.
    @ivar cluster: the runtime cluster; L{None} in the answers of L{Router.find} that mean that there is no route.
    @ivar subset: the labels that a backend of its cluster must have to be offered its requests
        (L{lemmytx.cluster.subsets}).
    @ivar pin: by which its clients name a backend, an L{lemmytx.proxy.pins.Pin}; L{None}: they cannot.
    @ivar vhost: the vhost it is of; L{None} when there is not even a vhost.
    """

    __slots__ = ("bucket", "cluster", "conditions", "path", "pattern", "pin", "subset", "vhost")

    def __init__(
        self,
        path: str = EVERYTHING,
        cluster: Any = None,  # the router only hands it on, so it need not know what a cluster is
        methods: Iterable[str] = (),
        headers: Mapping[str, object] | None = None,
        query: Mapping[str, object] | None = None,
        cookies: Mapping[str, object] | None = None,
        client_networks: Iterable[str | _Network] = (),
        vhost: Vhost | None = None,
        bucket: str | None = None,
        pin: Any = None,  # as the cluster
        subset: Mapping[str, str] | None = None,
    ) -> None:
        """
        @param path: a pattern as L{lemmytx.patterns} describes it.
        @param methods: those it takes, as they stand in a request line; none = all. GET does not imply HEAD.
        @param headers: field name, in any case, to what its value must be, as L{compile_match} has it.
        @param query: the same for parameters of the query, decoded.
        @param cookies: the same for cookies, as received.
        @param client_networks: where the client must be; none = anywhere.
        @raise ValueError: for a pattern, value or network that is none.
        """
        self.path = path
        self.cluster = cluster
        self.vhost = vhost
        self.bucket = bucket
        self.pin = pin
        self.subset = frozenset((subset or {}).items())
        self.pattern: PathPattern = compile_path(path)
        # None where there are none, so that only routes with conditions pay for them.
        self.conditions = _Conditions(methods, headers or {}, query or {}, cookies or {}, client_networks) or None

    def __repr__(self) -> str:
        return f"<Route {self.path} of {self.vhost.name if self.vhost else None}>"


class _Node:
    """A place in the tree of path segments."""

    __slots__ = ("below", "exact", "globs", "literal", "shapes", "star")

    def __init__(self) -> None:
        #: Routes that end here, and those with C{/*} behind here, in file order.
        self.exact: list[Route] = []
        self.below: list[Route] = []
        self.literal: dict[bytes, _Node] = {}
        #: By prefix and suffix, those with the most literal text first.
        self.globs: dict[tuple[bytes, bytes], list[tuple[Glob, _Node]]] = {}
        #: Lengths of prefix and suffix that occur in C{globs}, the most specific first.
        self.shapes: list[tuple[int, int]] = []
        self.star: _Node | None = None

    def child(self, segment: bytes | Glob) -> _Node:
        """The node behind a segment of a pattern, made when it is not there."""
        if isinstance(segment, bytes):
            return self.literal.setdefault(segment, _Node())
        if not segment.literal:
            self.star = self.star or _Node()
            return self.star
        same = self.globs.setdefault((segment.prefix, segment.suffix), [])
        for glob, node in same:
            if glob.middle == segment.middle:
                return node
        node = _Node()
        same.append((segment, node))
        same.sort(key=lambda pair: -pair[0].literal)
        if segment.shape not in self.shapes:
            self.shapes.append(segment.shape)
            self.shapes.sort(reverse=True)
        return node

    def fitting(self, segment: bytes) -> list[_Node]:
        """Where globs lead that fit a segment of a path, the most specific first."""
        nodes = []
        size = len(segment)
        for before, after in self.shapes:
            if before + after <= size:
                for glob, node in self.globs.get((segment[:before], segment[size - after :]), ()):
                    if glob.inner(segment):
                        nodes.append(node)
        return nodes


class Vhost:
    """
    The routes of one or more hosts.

    @ivar name: for logs and statistics.
    @ivar hosts: those it answers for: lower-case A-labels, C{*.} and a name, or C{*}.
    @ivar routes: in file order.
    @ivar traffic: counters of its requests; whoever builds the vhost sets it.
    @ivar always: the route that takes every request whatever its path, where that can be told beforehand.
    @ivar nothing: the answer when no route takes a request: a route of this vhost without a cluster.
    """

    __slots__ = ("_everything", "_expressions", "_root", "always", "hosts", "name", "nothing", "routes", "traffic")

    def __init__(self, name: str, hosts: Iterable[str], routes: Iterable[Route]) -> None:
        self.name = name
        self.hosts = tuple(hosts)
        self.routes = tuple(routes)
        self.traffic: Any = None
        self.nothing = Route(vhost=self)
        self._root = _Node()
        self._expressions: list[tuple[re.Pattern[str], Route]] = []
        self._everything: list[Route] = []
        for route in self.routes:
            route.vhost = self
            self._add(route)
        first = self._everything[0] if self._everything else None
        plain = not self._expressions and all(route.path == EVERYTHING for route in self.routes)
        self.always = first if plain and first is not None and first.conditions is None else None

    def _add(self, route: Route) -> None:
        pattern = route.pattern
        if pattern.expression is not None:
            self._expressions.append((pattern.expression, route))
        elif not pattern.segments:
            self._everything.append(route)
        else:
            node = self._root
            for segment in pattern.segments:
                node = node.child(segment)
            (node.below if pattern.below else node.exact).append(route)

    def candidates(self, path: bytes) -> Iterator[Route]:
        """
        The routes whose path pattern fits, the most specific first.

        @param path: decoded and normalised.
        """
        node: _Node | None = self._root
        segments = path.split(b"/")
        depth = len(segments)
        at = 1  # before the first slash stands nothing
        # What is left to try, the last first: a node to walk on from, or the routes of a "/*" passed on the way.
        later: list[tuple[_Node | None, int, list[Route]]] = []
        while True:
            while node is not None:
                if at == depth:
                    if node.exact:
                        yield from node.exact
                    if node.below:
                        yield from node.below
                    break
                segment = segments[at]
                at += 1
                if node.below:
                    later.append((None, at, node.below))
                if node.star is not None and segment:
                    later.append((node.star, at, []))
                if node.shapes:
                    for fit in reversed(node.fitting(segment)):
                        later.append((fit, at, []))
                node = node.literal.get(segment)
            if not later:
                break
            node, at, routes = later.pop()
            if routes:
                yield from routes
        if self._expressions:
            text = path.decode("utf-8", "surrogateescape")
            for expression, route in self._expressions:
                if expression.search(text):
                    yield route
        yield from self._everything

    def choose(self, head: RequestHead, client: str) -> Route:
        """
        The route for a request, C{nothing} when there is none.

        @param client: the client's address.
        """
        asked: _Asked | None = None
        for route in self.candidates(head.path):
            if route.conditions is None:
                return route
            if asked is None:
                asked = _Asked(head, client)
            if route.conditions.refuse(asked) is None:
                return route
        return self.nothing

    def __repr__(self) -> str:
        return f"<Vhost {self.name} hosts={','.join(self.hosts)} routes={len(self.routes)}>"


class Router:
    """
    Finds the route of a request. Built once from what is configured, never changed: a reload builds another. What comes
    from the store is beside it, and the configuration wins where both name the same.

    @ivar vhosts: all of the configuration, in file order.
    @ivar nothing: the answer when no vhost matches: a route with neither cluster nor vhost.
    @ivar stored: the vhosts of the store; L{None}: there is none.
    """

    __slots__ = ("_default", "_hosts", "_wildcards", "nothing", "stored", "vhosts")

    def __init__(self, vhosts: Iterable[Vhost] = ()) -> None:
        """
        @raise ValueError: when two vhosts are for one host.
        """
        self.vhosts = tuple(vhosts)
        self.nothing = Route()
        self.stored: Stored | None = None
        self._hosts: dict[bytes, Vhost] = {}
        self._wildcards: dict[bytes, Vhost] = {}
        self._default: Vhost | None = None
        taken: dict[str, Vhost] = {}
        for vhost in self.vhosts:
            for host in vhost.hosts:
                other = taken.setdefault(host, vhost)
                if other is not vhost:
                    raise ValueError(f"host {host!r} is in two vhosts, {other.name!r} and {vhost.name!r}; keep one")
                if host == "*":
                    self._default = vhost
                elif host.startswith("*."):
                    self._wildcards[host[2:].encode("ascii")] = vhost
                else:
                    self._hosts[host.encode("ascii")] = vhost

    def find(self, head: RequestHead, client: str) -> Route:
        """
        Called once per request.

        @param client: the client's address, behind trusted proxies the one they tell of.
        @return: the route. Its C{cluster} is L{None} when nothing is configured for the request; then C{vhost} says
            whether at least a vhost matches.
        """
        vhost = self._hosts.get(head.host)
        if vhost is None:
            stored = self.stored
            if stored is not None and stored.names:
                vhost = stored.names.get(head.host) or self._fallback(head.host)
            else:
                vhost = self._fallback(head.host) if self._wildcards else self._default
            if vhost is None:
                return self.nothing
        return vhost.always or vhost.choose(head, client)

    def names(self, host: str) -> bool:
        """Whether the configuration has a vhost of that very name, which may be a wildcard."""
        if host == "*":
            return self._default is not None
        name = host.encode("ascii")
        return name[2:] in self._wildcards if name.startswith(b"*.") else name in self._hosts

    def _fallback(self, host: bytes) -> Vhost | None:
        """
        For a host that the configuration does not name: the store's vhost, else the one with the longest wildcard,
        else the one for C{*}.
        """
        stored = self.stored
        if stored is not None:
            vhost: Vhost | None = stored.find(host)
            if vhost is not None:
                return vhost
            if not stored.wild:
                stored = None
        wildcards = self._wildcards
        if (wildcards or stored is not None) and len(host) <= LONGEST_NAME:
            dot = host.find(b".", 1)
            while dot >= 0:
                vhost = wildcards.get(host[dot + 1 :])
                if vhost is None and stored is not None:
                    vhost = stored.find(b"*" + host[dot:])
                if vhost is not None:
                    return vhost
                dot = host.find(b".", dot + 1)
        if self._default is None and stored is not None:
            return stored.find(b"*")  # type: ignore[no-any-return]  # a Vhost; its module knows ours only by name
        return self._default

    def explain(self, head: RequestHead, client: str) -> tuple[Route, list[str]]:
        """
        L{find}, with its reasons: what was looked at in which order, one sentence each.
        """
        host = head.host.decode("latin-1")
        vhost = self._hosts.get(head.host)
        if vhost is None and self.stored is not None:
            vhost = self.stored.find(head.host)
        steps = [f"a vhost names the host {host!r}" if vhost else f"no vhost names the host {host!r}"]
        if vhost is None:
            vhost = self._fallback(head.host)
            if vhost is None:
                return self.nothing, [*steps, "no wildcard matches it, and there is no vhost for '*'"]
            steps.append(f"vhost {vhost.name!r} matches it as a wildcard")
        asked = _Asked(head, client)
        for route in vhost.candidates(head.path):
            why = route.conditions.refuse(asked) if route.conditions is not None else None
            if why is None:
                return route, [*steps, f"route {route.path} of vhost {vhost.name!r} takes it"]
            steps.append(f"route {route.path} does not: {why}")
        return vhost.nothing, [*steps, f"vhost {vhost.name!r} has no other route for the path"]

    def __repr__(self) -> str:
        return f"<Router vhosts={len(self.vhosts)}>"
