"""What is right and yet seldom meant: for C{lemmy check}, and for the log when a configuration is put to work."""

from __future__ import annotations

from collections.abc import Iterator

from lemmytx.model import Configuration


def advice(configuration: Configuration) -> list[tuple[str, str]]:
    """
    @return: settings, as in C{clusters.web.sticky}, each with what should be known of it.
    """
    return [*_unsigned(configuration), *_shared_cookies(configuration)]


def _unsigned(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """Bindings that nobody but this very run of the program can read."""
    for name, cluster in configuration.clusters.items():
        if cluster.sticky is not None and not cluster.sticky.all_secrets:
            yield (
                f"clusters.{name}.sticky",
                "has no 'secret', so clients are bound until this program ends, and to no other instance's backends",
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
