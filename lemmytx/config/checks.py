"""
What one setting says about another, and what only those above this layer can tell.

The checks look at the data as the file has it rather than at the model, and pass over whatever has the wrong shape:
so that a typo in one place does not hide a dangling reference in another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pydantic import ValidationError

from lemmytx.addresses import parse_host, parse_url
from lemmytx.config.problems import Path, nearest
from lemmytx.config.reader import Document
from lemmytx.model import Admin, Configuration, HealthCheck, Scheduler, Store, Token, own_check
from lemmytx.patterns import check_match, check_path
from lemmytx.units import shown

#: Is this endpoint description one? The text of what is wrong with it, or L{None}.
EndpointCheck = Callable[[str], str | None]

#: What is wrong with the plugins in these folders (absolute), a text each? Called once, before any L{SchedulerCheck}.
PluginsCheck = Callable[[Sequence[str]], Sequence[str]]

#: Is there a scheduler of this name, and does it take these options?
SchedulerCheck = Callable[[str, Mapping[str, object]], str | None]

#: Is there a health check of this type, does it take these options, and does it fit backends that speak so, where that
#: is known?
HealthCheckCheck = Callable[[str, Mapping[str, object], str | None], str | None]

#: Is there a store of this type, and does it take these options?
StoreCheck = Callable[[str, Mapping[str, object]], str | None]

#: May the admin side be opened at this endpoint with these tokens?
AdminCheck = Callable[[str, tuple[Token, ...]], str | None]

#: Can the files be used that a configuration names? What is wrong with them, each with its setting.
FilesCheck = Callable[[Configuration], Iterable[tuple[Path, str]]]

# Port 0 is another one each time: the system chooses.
_ANY_PORT = re.compile(r"tcp6?:(port=)?0+(:|\Z)")

_FIELD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> Iterator[tuple[int, object]]:
    return enumerate(value if isinstance(value, list) else [])


def check_references(document: Document) -> None:
    """Every cluster that a vhost or a route names exists."""
    data = _mapping(document.data)
    clusters = _mapping(data.get("clusters"))

    def check(path: Path, name: object) -> None:
        if isinstance(name, str) and name not in clusters:
            document.refuse(path, f"there is no cluster {shown(name)}{nearest(name, clusters)}")

    for number, vhost in _items(data.get("vhosts")):
        check(("vhosts", number, "cluster"), _mapping(vhost).get("cluster"))
        for place, route in _items(_mapping(vhost).get("routes")):
            check(("vhosts", number, "routes", place, "cluster"), _mapping(route).get("cluster"))


def check_stand_ins(document: Document) -> None:
    """Every cluster that stands in for another one exists, and in the end there is one for which nobody does."""
    data = _mapping(document.data)
    clusters = _mapping(data.get("clusters"))
    stand_ins: dict[str, list[tuple[Path, str]]] = {}
    sections: list[tuple[Path, str, object]] = [(("defaults",), "", data.get("defaults"))]
    sections += [(("clusters", name), name, rules) for name, rules in clusters.items()]
    for path, name, rules in sections:
        breaker = _mapping(_mapping(rules).get("circuit_breaker"))
        for place, other in (
            ((*path, "failover"), _mapping(rules).get("failover")),
            ((*path, "circuit_breaker", "fallback"), breaker.get("fallback")),
        ):
            if not isinstance(other, str):
                continue
            if other not in clusters:
                document.refuse(place, f"there is no cluster {shown(other)}{nearest(other, clusters)}")
            elif name:
                stand_ins.setdefault(name, []).append((place, other))
    for name, others in stand_ins.items():
        for place, other in others:
            way = _way_back(name, other, stand_ins)
            if way:
                round_trip = " → ".join(repr(cluster) for cluster in (name, *way))
                document.refuse(place, f"the requests would go in a circle: {round_trip}; end it in some cluster")


def _way_back(name: str, begin: str, stand_ins: Mapping[str, list[tuple[Path, str]]]) -> tuple[str, ...]:
    """The clusters by which requests come back to where they were, the first and the last included; or none."""
    ways: list[tuple[str, ...]] = [(begin,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        if way[-1] == name:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [(*way, other) for _, other in stand_ins.get(way[-1], ())]
    return ()


def check_classes(document: Document) -> None:
    """Every bucket that a route names is one of its cluster, and one that a vhost names, of a cluster it leads to."""
    data = _mapping(document.data)
    clusters = _mapping(data.get("clusters"))

    def check(path: Path, name: object, of: Iterable[object]) -> None:
        known = [cluster for cluster in of if isinstance(cluster, str) and isinstance(clusters.get(cluster), dict)]
        if not isinstance(name, str) or not known:
            return
        there = {bucket for cluster in known for bucket in _bucket_names(_mapping(clusters[cluster]).get("buckets"))}
        if name not in there:
            named = " or ".join(repr(cluster) for cluster in dict.fromkeys(known))
            document.refuse(path, f"there is no bucket {shown(name)} in cluster {named}{nearest(name, there)}")

    for number, vhost in _items(data.get("vhosts")):
        routes = [_mapping(route) for _, route in _items(_mapping(vhost).get("routes"))]
        of = [_mapping(vhost).get("cluster"), *(route.get("cluster") for route in routes)]
        check(("vhosts", number, "bucket"), _mapping(vhost).get("bucket"), of)
        for place, route in enumerate(routes):
            check(("vhosts", number, "routes", place, "bucket"), route.get("bucket"), [route.get("cluster")])


def _bucket_names(buckets: object) -> Iterator[str]:
    for name, bucket in _mapping(buckets).items():
        yield name
        yield from _bucket_names(_mapping(bucket).get("buckets"))


def check_subsets(document: Document) -> None:
    """The subset that a route asks for has a backend in the route's cluster."""
    data = _mapping(document.data)
    clusters = _mapping(data.get("clusters"))
    for number, vhost in _items(data.get("vhosts")):
        for place, route in _items(_mapping(vhost).get("routes")):
            wanted, name = _mapping(_mapping(route).get("subset")), _mapping(route).get("cluster")
            if not wanted or not isinstance(name, str) or not isinstance(clusters.get(name), dict):
                continue
            backends = [each for _, each in _items(_mapping(clusters[name]).get("backends"))]
            labels = [_mapping(_mapping(backend).get("labels")) for backend in backends]
            if any(wanted.items() <= each.items() for each in labels if _plain(each)) or not _plain(wanted):
                continue
            subset = ", ".join(f"{label}={value}" for label, value in wanted.items())
            missing = f"has all of these labels: {subset}" if any(labels) else "has labels"
            document.refuse(
                ("vhosts", number, "routes", place, "subset"),
                f"no backend of cluster {shown(name)} {missing}; the route could reach nobody",
            )


def _plain(labels: Mapping[str, object]) -> bool:
    """Whether these can be labels at all; the model says so when they cannot."""
    return all(isinstance(value, str) for value in labels.values())


def check_hosts(document: Document) -> None:
    """No host stands in two places, compared as requests are: case, trailing dot and script do not matter."""
    first: dict[str, Path] = {}
    for number, vhost in _items(_mapping(document.data).get("vhosts")):
        for place, host in _items(_mapping(vhost).get("hosts")):
            path = ("vhosts", number, "hosts", place)
            try:
                name = parse_host(host)
            except ValueError:
                continue  # the model says so
            if name in first:
                line = document.line(first[name])
                document.refuse(path, f"{shown(host)} is listed twice; the first is in line {line}")
            else:
                first[name] = path


def check_backends(document: Document) -> None:
    """No two backends of a cluster have one name: the admin side and the statistics could not tell them apart."""
    for cluster, rules in _mapping(_mapping(document.data).get("clusters")).items():
        first: dict[str, Path] = {}
        for place, backend in _items(_mapping(rules).get("backends")):
            path = ("clusters", cluster, "backends", place)
            url = _mapping(backend).get("url") if isinstance(backend, dict) else backend
            name = _mapping(backend).get("name")
            if name is None:
                try:
                    name = parse_url(url).name
                except ValueError:
                    continue  # the model says so
            if not isinstance(name, str):
                continue
            if name in first:
                line = document.line(first[name])
                document.refuse(path, f"{shown(name)} is also the backend in line {line}; give it a name of its own")
            else:
                first[name] = path


def check_routes(document: Document) -> None:
    """Paths and conditions can be compiled, and the names of header fields are such."""
    for number, vhost in _items(_mapping(document.data).get("vhosts")):
        for place, route in _items(_mapping(vhost).get("routes")):
            path = ("vhosts", number, "routes", place)
            pattern = _mapping(route).get("path")
            if isinstance(pattern, str):
                wrong = check_path(pattern)
                if wrong is not None:
                    document.refuse((*path, "path"), wrong)
            for kind in ("headers", "query", "cookies"):
                for name, value in _mapping(_mapping(route).get(kind)).items():
                    wrong = check_match(value) if isinstance(value, str) else None
                    if kind == "headers" and not _FIELD.match(name):
                        wrong = f"{shown(name)} is not the name of a header field"
                    if wrong is not None:
                        document.refuse((*path, kind, name), wrong)


def check_endpoints(document: Document, check: EndpointCheck | None) -> None:
    """Every endpoint description can be parsed, and none is listed twice: the second could not be opened."""
    data = _mapping(document.data)
    found: list[tuple[Path, object]] = [
        (("listeners", number, "endpoint"), _mapping(listener).get("endpoint"))
        for number, listener in _items(data.get("listeners"))
    ]
    admin = _mapping(data.get("admin")).get("endpoint")
    found.append((("admin", "endpoint"), Admin().endpoint if admin is None else admin))
    first: dict[str, Path] = {}
    for path, endpoint in found:
        if not isinstance(endpoint, str):
            continue
        if endpoint in first and not _ANY_PORT.match(endpoint):
            line = document.line(first[endpoint])
            document.refuse(path, f"{shown(endpoint)} is listed twice; the first is in line {line}")
            continue
        first[endpoint] = path
        wrong = check(endpoint) if check is not None else None
        if wrong is not None:
            document.refuse(path, wrong)


def check_admin(document: Document, check: AdminCheck | None) -> None:
    """What the admin side asks of its endpoint and tokens together."""
    if check is None:
        return
    try:
        admin = Admin.model_validate(_mapping(document.data).get("admin") or {})
    except ValidationError:
        return  # the model says what is wrong
    wrong = check(admin.endpoint, admin.tokens)
    if wrong is not None:
        document.refuse(("admin", "endpoint"), wrong)


def check_plugins(
    document: Document,
    folders: Sequence[str],
    plugins: PluginsCheck | None,
    scheduler: SchedulerCheck | None,
    health: HealthCheckCheck | None = None,
    store: StoreCheck | None = None,
) -> None:
    """
    Plugins can be loaded, and every scheduler, every health check and the store exists and takes its options.

    @param folders: those that C{plugins} names, absolute.
    """
    broken = plugins(folders) if plugins is not None else ()
    for text in broken:
        document.refuse(("plugins",), text)
    if broken:
        return  # what a broken folder would have brought cannot be told from what does not exist
    data = _mapping(document.data)
    sections: list[tuple[Path, object]] = [(("defaults",), data.get("defaults"))]
    sections += [(("clusters", name), rules) for name, rules in _mapping(data.get("clusters")).items()]
    for path, rules in sections:
        if scheduler is not None:
            _check_scheduler(document, path, _mapping(rules).get("scheduler"), scheduler)
        if health is not None:
            _check_health(document, path, _mapping(rules), health)
    if store is not None:
        _check_store(document, data.get("store"), store)


def _check_store(document: Document, section: object, check: StoreCheck) -> None:
    try:
        wanted = Store.model_validate({} if section is None else section)
    except ValidationError:
        return  # the model says what is wrong
    wrong = check(wanted.type, wanted.options)
    if wrong is not None:
        document.refuse(("store",), wrong)


def _check_scheduler(document: Document, path: Path, chosen: object, check: SchedulerCheck) -> None:
    try:
        asked = Scheduler.model_validate(chosen)
    except ValidationError:
        return  # left out, or the model says what is wrong
    wrong = check(asked.name, asked.options)
    if wrong is not None:
        document.refuse((*path, "scheduler"), wrong)


def _check_health(document: Document, path: Path, rules: dict[str, object], check: HealthCheckCheck) -> None:
    """What a cluster says of checks, and its backends; what is wrong for all of them is said once."""
    shared = rules.get("health_check")
    wrong = _wrong_with(shared, None, check)
    if wrong is not None:
        document.refuse((*path, "health_check"), wrong)
        return
    told: set[str] = set()
    for place, backend in _items(rules.get("backends")):
        url = _mapping(backend).get("url") if isinstance(backend, dict) else backend
        try:
            protocol = parse_url(url).protocol
        except ValueError:
            continue  # the model says so
        own = _mapping(backend).get("health_check")
        wrong = _wrong_with(shared if own is None else own_check(shared, own), protocol, check)
        if wrong is None:
            continue
        if own is not None:
            document.refuse((*path, "backends", place, "health_check"), wrong)
        elif wrong not in told:
            told.add(wrong)
            document.refuse((*path, "health_check"), wrong)


def _wrong_with(settings: object, protocol: str | None, check: HealthCheckCheck) -> str | None:
    try:
        asked = HealthCheck.model_validate(settings)
    except ValidationError:
        return None  # left out, or the model says what is wrong
    return check(asked.type, asked.options, protocol)
