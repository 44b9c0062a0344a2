"""
Where the admin side listens, as its endpoint's description tells: whether only this machine can reach it, and how
L{lemmytx.admin.terminal} does. Without Twisted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from lemmytx.model import Token

_PART = re.compile(r"((?:[^\\:]|\\.)*)(:|\Z)", re.DOTALL)


class Place:
    """
    What a description says.

    @ivar kind: C{tcp}, C{tcp6}, C{unix} or another word before the first colon.
    @ivar interface: of C{tcp}; empty: all.
    @ivar port: the same, as it stands there; C{path}: of C{unix}.
    """

    __slots__ = ("interface", "kind", "path", "port")

    def __init__(self, description: str) -> None:
        parts = [re.sub(r"\\(.)", r"\1", part) for part in _parts(description)]
        positional = [part for part in parts[1:] if "=" not in part]
        named = dict(part.split("=", 1) for part in parts[1:] if "=" in part)
        self.kind = parts[0]
        first = named.get("address" if self.kind == "unix" else "port")
        # tcp:PORT:INTERFACE is as good as tcp:PORT:interface=INTERFACE.
        listed = positional if first is not None else positional[1:]
        if first is None:
            first = positional[0] if positional else ""
        self.path = first if self.kind == "unix" else ""
        self.port = first if self.kind != "unix" else ""
        self.interface = named.get("interface") or (listed[0] if listed else "")

    @property
    def tcp(self) -> bool:
        """Whether it is TCP, with nothing around it."""
        return self.kind in ("tcp", "tcp4", "tcp6")


def _parts(description: str) -> list[str]:
    """An endpoint description at its colons, those that a backslash escapes left alone."""
    found: list[str] = []
    at = 0
    while True:
        match = _PART.match(description, at)
        if match is None:
            # A backslash at the very end.
            return [*found, description[at:]]
        found.append(match[1])
        if not match[2]:
            return found
        at = match.end()


def is_loopback(name: str) -> bool:
    """Whether a name or an address always means this machine (RFC 6761 §6.3 for names)."""
    folded = name.lower().removesuffix(".")
    if folded == "localhost" or folded.endswith(".localhost"):
        return True
    try:
        return ip_address(folded).is_loopback
    except ValueError:
        return False


def check_endpoint_is_local(description: str) -> bool:
    """
    Whether only this machine can reach an endpoint. In doubt it is not local: C{systemd:} and other plugins can bring
    any socket.

    @param description: of a server endpoint, one that Twisted can parse.
    """
    place = Place(description)
    return place.kind == "unix" or (place.tcp and is_loopback(place.interface))


def check_admin(endpoint: str, tokens: Sequence[Token]) -> str | None:
    """
    @return: why the admin side cannot be served like that, for the user; L{None} when it can.
    """
    if tokens or check_endpoint_is_local(endpoint):
        return None
    return (
        f"{endpoint!r} can be reached from other machines and there are no admin.tokens, so anybody could use it;"
        " make a token with 'lemmy token new', or listen on loopback alone, as in 'tcp:8081:interface=127.0.0.1'"
    )
