"""
What is said to Redis, and what a refusal of it means to people.
"""

from __future__ import annotations

import re


class Lost(Exception):
    """
    The connection is no more, or there was none; the text says why, without secrets. What had been asked on it may have
    been done.
    """


class Unsent(Lost):
    """There is no connection; nothing was asked."""


class Refusal(Exception):
    """
    Redis refuses a command.

    @ivar code: the first word of what it said, as in C{OOM}; where that came through a script as well.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        match = _CODE.search(text)
        self.code = match[1] if match else ""

    def __str__(self) -> str:
        """For people, without secrets."""
        return _MEANINGS.get(self.code) or f"it refuses: {' '.join(str(self.args[0]).split())[:200]}"


_MEANINGS = {
    "OOM": "it is out of memory (maxmemory) and takes nothing new",
    "READONLY": "it is a read-only replica",
    "LOADING": "it is loading its data",
    "MASTERDOWN": "it is a replica that has lost its master",
    "MISCONF": "it cannot save its data to disk and takes nothing new (MISCONF)",
    "NOREPLICAS": "it has too few replicas and takes nothing new (NOREPLICAS)",
    "BUSY": "it is busy with a script of somebody else",
    "NOAUTH": "it wants a password",
    "WRONGPASS": "it refuses the user or the password",
    "CLUSTERDOWN": "it is a cluster that is down",
    "MOVED": "it is a node of a cluster, which is not supported",
    "DENIED": "it takes connections from its own machine alone (protected mode)",
}

# Before Redis 7 the code of what a script ran into stands in the middle of the text.
_CODE = re.compile(rf"\b({'|'.join((*_MEANINGS, 'NOPERM', 'NOSCRIPT', 'WRONGTYPE', 'TABLE'))})\b")


def command(*words: bytes) -> bytes:
    """One command, as it is sent (RESP: an array of bulk strings)."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
