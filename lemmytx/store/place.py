"""Where a store works."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Any

from zope.interface import implementer

from lemmytx.interfaces import IStorePlace

#: Seconds, where nobody says anything else.
LEASE = 10.0


def new_identity() -> str:
    """
    A name for this process among all that share a table. Each call gives another one.
    """
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@implementer(IStorePlace)
class Place:
    """See L{IStorePlace}."""

    def __init__(self, reactor: Any, folder: str, lease: float = LEASE, identity: str = "") -> None:
        """
        @param folder: where relative paths begin; that of the configuration's file.
        @param identity: a new one unless given.
        """
        self.reactor = reactor
        self.folder = os.path.abspath(folder)
        self.lease = lease
        self.identity = identity or new_identity()

    def __repr__(self) -> str:
        return f"<Place {self.identity} {self.folder}>"
