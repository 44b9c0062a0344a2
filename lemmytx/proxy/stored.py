"""
Vhosts that come from the store, as the router and the statistics see them.

There may be ten thousand of them, with ten backends each, and most are never asked for in an hour. So one is only a
name here until the first request for it comes: it I{sleeps}. Then somebody builds its vhost and its cluster (C{wake}),
in a third of a millisecond, and from there on it is a vhost like any other. One that has changed is put to sleep, which
is one assignment: all changes of a table hold from one moment on, whatever the time that building takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any


class Stored:
    """
    The vhosts of the store.

    @ivar names: all, in the form in which hosts are compared, with their vhosts; L{None}: it sleeps.
    @ivar vhosts: those that have been built, by name: each a L{lemmytx.proxy.router.Vhost}; C{clusters}: theirs.
    """

    __slots__ = ("_wake", "_wild", "clusters", "names", "vhosts")

    def __init__(self, wake: Callable[[str], Any]) -> None:
        """
        @param wake: builds the vhost of a name, or brings it up to date; L{None}: it cannot be had after all.
        """
        self._wake = wake
        self.names: dict[bytes, Any] = {}
        self._wild = 0
        self.vhosts: dict[str, Any] = {}
        self.clusters: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def wild(self) -> bool:
        """Whether there may be a name that stands for others."""
        return self._wild > 0

    def find(self, host: bytes) -> Any:
        """
        Called for requests that no vhost of the configuration is for.

        @param host: a name, or a wildcard with its star.
        @return: the vhost with that very name; L{None}: there is none.
        """
        try:
            vhost = self.names[host]
        except KeyError:
            return None
        if vhost is None:
            vhost = self._wake(host.decode("ascii"))
            if vhost is not None:
                self.names[host] = vhost
        return vhost

    def change(self, asleep: Collection[bytes], gone: Iterable[bytes]) -> None:
        """
        From the next request on.

        @param asleep: these names are there, and are to be built when they are asked for; those that are known, anew.
        @param gone: these are not.
        """
        names = self.names
        for name in gone:
            if name in names:
                del names[name]
                self._wild -= name.startswith(b"*")
        self._wild += sum(name not in names for name in asleep if name.startswith(b"*"))
        names.update(dict.fromkeys(asleep))

    def sleeps(self, name: bytes) -> bool:
        """Whether it is there and not built, or not up to date."""
        return name in self.names and self.names[name] is None

    def __repr__(self) -> str:
        return f"<Stored {len(self.names)} names, {len(self.vhosts)} built>"
