"""What is right and yet seldom meant: for C{lemmy check}, and for the log when a configuration is put to work."""

from __future__ import annotations

from collections.abc import Iterator

from lemmytx.model import Configuration


def advice(configuration: Configuration) -> list[tuple[str, str]]:
    """
    @return: settings, as in C{clusters.web.sticky}, each with what should be known of it.
    """
    every = (_unsigned, _shared_cookies, _unchecked, _forgotten)
    return [told for each in every for told in each(configuration)]


def _unsigned(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Bindings that nobody but this very run of the program can read."""
    for name, cluster in configuration.clusters.items():
        if cluster.sticky is not None and not cluster.sticky.all_secrets:
            yield (
                f"clusters.{name}.sticky",
                "has no 'secret', so clients are bound until this program ends, and to no other instance's backends",
            )


def _unchecked(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Backends that nobody looks after, and that are to stay out when somebody finds them down."""
    for name, cluster in configuration.clusters.items():
        for backend in cluster.backends:
            sticky = cluster.sticky_offline if backend.sticky_offline is None else backend.sticky_offline
            if sticky and cluster.health_check is None and backend.health_check is None:
                yield (
                    f"clusters.{name}.sticky_offline",
                    f"backend {backend.name!r} has no health_check, so nothing ever finds it down",
                )
                break


def _forgotten(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """What is to hold until somebody says otherwise, and is gone with the program."""
    if configuration.store.type != "memory":
        return
    sections = [("defaults", configuration.defaults.sticky_offline)]
    for name, cluster in configuration.clusters.items():
        sticky = cluster.sticky_offline or any(backend.sticky_offline for backend in cluster.backends)
        sections.append((f"clusters.{name}", sticky))
    for place, sticky in sections:
        if sticky:
            yield (
                f"{place}.sticky_offline",
                "is forgotten at a restart, since the store is in memory; write 'store: {type: file, path: table.db}'",
            )


def _shared_cookies(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Clusters of one vhost that would overwrite each other's cookie all the time."""
    told = set()
    for vhost in configuration.vhosts:
        first: dict[tuple[str, str, str | None], str] = {}
        for route in vhost.all_routes:
            cluster = configuration.clusters.get(route.cluster)
            sticky = None if cluster is None else cluster.sticky
            if sticky is None or sticky.cookie is None:
                continue
            other = first.setdefault((sticky.cookie, sticky.path, sticky.domain), route.cluster)
            if other != route.cluster and (other, route.cluster) not in told:
                told.add((other, route.cluster))
                yield (
                    f"clusters.{route.cluster}.sticky",
                    f"vhost {vhost.name!r} leads to this cluster and to {other!r}, and both have the cookie "
                    f"{sticky.cookie!r} for {sticky.path!r}: each would replace the other's; give them different names",
                )
