"""
What checks say of a backend, in HAProxy's words: its codes for the outcome of a check, and how long it was down.

HAProxy knows on which layer a check has failed. Here a check says in a sentence what it saw (L{lemmytx.checks}), and
from that sentence the code is found; tests hold it against the sentences. One that a plugin says, and that is none of
them, is an answer that is not as it should be, or an answer that is.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from lemmytx.proxy.figures import BackendFigures

#: What HAProxy says of each code (src/check.c).
DESCRIPTIONS = {
    "INI": "Initializing",
    "CHECKED": "No status change",
    "L4OK": "Layer4 check passed",
    "L4CON": "Layer4 connection problem",
    "L6RSP": "Layer6 invalid response",
    "L7OK": "Layer7 check passed",
    "L7TOUT": "Layer7 timeout",
    "L7RSP": "Layer7 invalid response",
    "L7STS": "Layer7 wrong status",
    "PROCERR": "External check error",
    "PROCOK": "External check passed",
}

#: Which sentence means what, of checks that failed; the first that fits. A number in it is the status.
_FAILED = (
    (re.compile("no connection: |no address of it is known|connecting: "), "L4CON"),
    (re.compile("TLS: "), "L6RSP"),
    (re.compile("no outcome within |its last check still hangs"), "L7TOUT"),
    (re.compile(r"it answered (\d{3})\b"), "L7STS"),
    (re.compile(r"\S+ (?:ended with \d+|was killed by SIG\w+)(?:: |\Z)"), "PROCERR"),
)

#: The same of those that passed.
_PASSED = (
    (re.compile(r"it answered (\d{3})\b"), "L7OK"),
    (re.compile(r"it takes connections\Z"), "L4OK"),
    (re.compile(r"the program ended with 0\Z"), "PROCOK"),
)


def verdict(backend: BackendFigures) -> tuple[str, int | None, str]:
    """
    What the check said that brought a backend into its present state.

    @return: code, status (L{None}: there is none) and sentence; code and sentence are empty where it is not checked.
        C{CHECKED}: it has been, and is as it was taken to be from the start, or requests have put it out.
    """
    checks = backend.checks
    if not checks:
        return "", None, ""
    if not (checks["passed"] or checks["failed"] or len(checks) > 2):
        return "INI", None, ""
    if len(checks) == 2 or backend.health in ("ejected", "unknown"):
        return "CHECKED", None, ""
    rules, other = (_PASSED, "L7OK") if backend.health in ("up", "going_up") else (_FAILED, "L7RSP")
    for pattern, code in rules:
        match = pattern.match(backend.reason)
        if match is not None:
            return code, int(match[1]) if match.re.groups else None, backend.reason
    return other, None, backend.reason


class Downtimes:
    """
    For how long backends were down, by what was seen of them.

    What is down knows since when, and so does what is up again; so the sum is right, but for what went down and came
    back between two looks.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        #: Since when (0: it is not down now), and for how long before that.
        self._known: dict[tuple[str, str], tuple[float, float]] = {}

    def seen(self, key: tuple[str, str], down: bool, since: float, now: float) -> int:
        """
        It was looked at.

        @param key: cluster and backend.
        @param since: when it came into its state (seconds since 1970; 0: that is not known).
        @return: how many seconds it was down in all.
        """
        known = self._known.get(key)
        if known is None and not down:
            return 0
        began, total = known or (0.0, 0.0)
        if down:
            began = began or since or now
            self._known[key] = began, total
            return int(total + max(0.0, now - began))
        if began:
            # What says when it came back may be older than that: an ejection ends, and checks had seen nothing wrong.
            total += max(0.0, (since if since > began else now) - began)
            self._known[key] = 0.0, total
        return int(total)

    def keep(self, keys: Collection[tuple[str, str]]) -> None:
        """Forget all but these."""
        for key in [key for key in self._known if key not in keys]:
            del self._known[key]
