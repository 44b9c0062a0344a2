"""
What operators have the whole instance do: reload the configuration, upgrade the program.

Each is logged with the name of the token, when it is asked for and when it has ended. It goes on when whoever asked
has left meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request

from lemmytx.admin.access import Role, role_refused
from lemmytx.admin.answers import answer, refuse
from lemmytx.config import ConfigurationError
from lemmytx.interfaces import Busy, IInstance, Refused
from lemmytx.model import Token
from lemmytx.table import StoreUnavailable

log = Logger(namespace="lemmytx.admin")

T = TypeVar("T")


def lasting(what: Awaitable[T]) -> Deferred[T]:
    """
    What is begun here goes on: klein cancels what it waits for when the client leaves, and that must not reach it.
    """

    async def begun() -> T:
        return await what

    outer: Deferred[T] = Deferred()
    Deferred.fromCoroutine(begun()).addCallbacks(outer.callback, outer.errback)
    return outer


def name_of(token: Token | None) -> str:
    """Who asks, for the log. Without tokens it is whoever can reach the admin side."""
    return "someone on this machine" if token is None else token.name


def _not_plain(request: Any) -> str | None:
    """
    @return: what is wrong with a request that is to carry nothing but its intention; L{None} when it is right.
    """
    types = request.requestHeaders.getRawHeaders(b"content-type") or []
    body = request.content.getvalue().strip()
    if body not in (b"", b"{}") or any(kind.split(b";")[0].strip().lower() != b"application/json" for kind in types):
        return "send no body here (curl -X POST, without -d), or '{}' with 'Content-Type: application/json'"
    return None


class Failed(Exception):
    """A fault of ours, which is in the log already."""


async def told(what: str, name: str, do: Callable[[], Awaitable[T]]) -> T:
    """
    Do it, and log how it ended.

    @raise Failed: for anything unforeseen.
    """
    try:
        done = await do()
    except (Refused, ConfigurationError, StoreUnavailable) as error:
        # The instance itself logs all of it.
        first, *rest = str(error).splitlines() or [""]
        more = f" (and {len(rest)} more)" if rest else ""
        log.warn("{what}, asked for by {name}: refused: {first}{more}", what=what, name=name, first=first, more=more)
        raise
    except Exception:
        # Nobody may be waiting for it any more who would log it.
        log.failure("{what}, asked for by {name}: failed", Failure(), what=what, name=name)
        raise Failed from None
    log.info("{what}, asked for by {name}: done", what=what, name=name)
    return done


def add_routes(app: Klein, instance: IInstance, who: Callable[[Any], Token | None]) -> None:
    """
    @param who: the token that a request has shown; L{None} where none is needed.
    """

    async def act(request: Request, role: Role, what: str, do: Callable[[], Awaitable[Any]], status: int) -> bytes:
        """
        @param what: what it is called in the log.
        @param do: gives the answer's body.
        @param status: of the answer when it was done.
        """
        token = who(request)
        name = name_of(token)
        why = role_refused(token, role)
        if why is not None:
            log.warn("{what}: {name} may not ask for it", what=what, name=name)
            return refuse(request, 403, why)
        why = _not_plain(request)
        if why is not None:
            return refuse(request, 415, why)
        log.info("{what}: {name} asks for it", what=what, name=name)
        try:
            return answer(request, await lasting(told(what, name, do)), status)
        except Busy as error:
            return refuse(request, 409, str(error), error.reasons)
        except ConfigurationError as error:
            found = [str(problem) for problem in error.errors]
            return refuse(request, 422, "the configuration cannot be used; nothing has changed", found)
        except Refused as error:
            return refuse(request, 500 if what == "upgrade" else 422, str(error), error.reasons)
        except Failed:
            return refuse(request, 500, "the log has more")

    @app.route("/api/v1/config/reload", methods=["POST"])
    async def reload(request: Request) -> bytes:
        """Read the configuration again."""

        async def do() -> dict[str, Any]:
            return {"changed": list(await instance.reload())}

        return await act(request, "operate", "reload", do, 200)

    @app.route("/api/v1/upgrade", methods=["POST"])
    async def upgrade(request: Request) -> bytes:
        """Hand everything over to a new process."""

        async def do() -> dict[str, Any]:
            return {"pid": await instance.upgrade()}

        return await act(request, "admin", "upgrade", do, 202)
