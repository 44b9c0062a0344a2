"""What the clients of the drills have seen: what went well, what did not, and of what kind that was."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

#: The kinds of failure, and what each is.
KINDS = {
    "refused": "no connection",
    "reset": "a new connection ended without an answer",
    "lost": "a request reached a backend and its answer was lost",
    "cut": "an answer ended before its end",
    "wrong": "another status, length or content than it should have been",
    "5xx": "an answer of the proxy's own, or a backend's failure",
    "timeout": "no answer in time",
    "doubled": "a POST came to a backend twice",
    "socket": "a WebSocket ended in another way than by 1001",
}

#: How many failures are told one by one.
_TOLD = 2000


class Trouble(Exception):
    """Something that should not have been; of one of L{KINDS}."""

    def __init__(self, kind: str, what: str, port: int = 0) -> None:
        """
        @param port: the client's own port of the connection on which it was.
        """
        super().__init__(what)
        self.kind = kind
        self.port = port


class Tally:
    """What was seen since the last L{take}."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.done: Counter[str] = Counter()
        self.reconnects: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.told: list[dict[str, Any]] = []
        self.away = 0
        self.slowest = 0.0

    def failed(self, trouble: Trouble) -> None:
        """One failure more."""
        self.failures[trouble.kind] += 1
        if len(self.told) < _TOLD:
            self.told.append({"kind": trouble.kind, "what": str(trouble), "port": trouble.port, "at": time.time()})

    def take(self) -> dict[str, Any]:
        """All of it; begins anew."""
        seen = dict(vars(self))
        self._begin()
        return seen
