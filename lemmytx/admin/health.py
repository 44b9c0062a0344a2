"""Is it there, and can it serve: for supervisors and for the balancer in front. Nobody needs a token to ask."""

from __future__ import annotations

from collections.abc import Callable

from klein import Klein
from twisted.web.http import Request

from lemmytx.admin.answers import answer

#: Paths for which no token is needed.
OPEN = frozenset((b"/health", b"/ready"))


def add_routes(app: Klein, ready: Callable[[], str | None]) -> None:
    """
    @param ready: gives the reason for which it cannot serve now, L{None} when it can.
    """

    @app.route("/health", methods=["GET"])
    def health(request: Request) -> bytes:
        """The process lives."""
        return answer(request, {"status": "OK"})

    @app.route("/ready", methods=["GET"])
    def readiness(request: Request) -> bytes:
        """It can serve, or why not."""
        reason = ready()
        if reason is None:
            return answer(request, {"status": "OK"})
        return answer(request, {"status": "not ready", "reason": reason}, 503)
