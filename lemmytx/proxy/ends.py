"""The two ends of a client's connection, as a backend is told of them that gets a PROXY protocol header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lemmytx.proxy.entrance import Entrance

#: Source and its port, destination and its port; empty and 0 where there is none.
Ends = tuple[str, int, str, int]


def ends_of(transport: Any, entrance: Entrance | None = None) -> Ends:
    """
    Asked once for each connection to a backend that is introduced so.

    @param entrance: what the connection came through: if it brought a header itself, that is what holds.
    """
    if entrance is not None and entrance.header is not None and entrance.header.source:
        header = entrance.header
        return header.source, header.source_port, header.destination, header.destination_port
    source, destination = transport.getPeer(), transport.getHost()
    return (
        getattr(source, "host", None) or "",
        getattr(source, "port", None) or 0,
        getattr(destination, "host", None) or "",
        getattr(destination, "port", None) or 0,
    )
