"""Is it there, and can it serve: for supervisors and for the balancer in front. Nobody needs a token to ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from klein import Klein
from twisted.web.http import Request

from lemmytx.admin.answers import answer

#: Paths for which no token is needed.
OPEN = frozenset((b"/health", b"/ready"))

#: What is told there of the store.
_SHOWN = ("type", "status", "problem", "table")


def add_routes(app: Klein, ready: Callable[[], str | None], store: Callable[[], Mapping[str, Any]]) -> None:
    """
    @param ready: gives the reason for which it cannot serve now, L{None} when it can.
    @param store: gives what there is to say of the store. That it is away is no reason not to be ready: the last table
        serves.
    """

    @app.route("/health", methods=["GET"])
    def health(request: Request) -> bytes:
        """The process lives."""
        return answer(request, {"status": "OK"})

    @app.route("/ready", methods=["GET"])
    def readiness(request: Request) -> bytes:
        """It can serve, or why not."""
        reason = ready()
        facts = store()
        # Whoever may ask needs no token, so it is told no more than whether, and why not.
        about = {"store": {name: facts[name] for name in _SHOWN if name in facts}} if facts else {}
        if reason is None:
            return answer(request, {"status": "OK", **about})
        return answer(request, {"status": "not ready", "reason": reason, **about}, 503)
