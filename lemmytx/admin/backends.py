"""
Single backends: how one is, and taking it out or bringing it back.

What is wanted of a backend stands in the store. So it is answered when it is durable there, and whoever shares the
store does it within a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from klein import Klein
from twisted.logger import Logger
from twisted.web.http import Request

from lemmytx.admin.access import role_refused
from lemmytx.admin.acts import Failed, lasting, name_of, told
from lemmytx.admin.answers import answer, refuse
from lemmytx.admin.stats import backend_facts, state_facts
from lemmytx.interfaces import IInstance, Unknown
from lemmytx.model import Token
from lemmytx.table import State, StoreUnavailable

log = Logger(namespace="lemmytx.admin")

#: What is asked for, and the state that it means.
ACTS: Mapping[str, str] = {"enable": "ready", "drain": "drain", "disable": "disabled"}

#: Characters of a reason.
LONGEST = 200


def reason_in(request: Any) -> str:
    """
    @param request: with nothing in its body, or a JSON object that may have a C{reason}.
    @return: it; empty when there is none.
    @raise BadBody: it is anything else.
    """
    body = request.content.getvalue().strip()
    types = request.requestHeaders.getRawHeaders(b"content-type") or []
    if any(kind.split(b";")[0].strip().lower() != b"application/json" for kind in types) or (
        body not in (b"", b"{}") and not types
    ):
        raise BadBody(415, "send no body here, or JSON with 'Content-Type: application/json'")
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.keys() - {"reason"}:
        raise BadBody(422, 'write {"reason": "…"}, or nothing')
    reason = found.get("reason") or ""
    if not isinstance(reason, str) or len(reason) > LONGEST or not reason.isprintable():
        raise BadBody(422, f"reason: write a line of up to {LONGEST} characters")
    return reason


class BadBody(Exception):
    """
    The body of a request is not what it should be.

    @ivar status: what is answered.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def add_routes(app: Klein, instance: IInstance, who: Callable[[Any], Token | None]) -> None:
    """
    @param who: the token that a request has shown; L{None} where none is needed.
    """

    @app.route("/api/v1/clusters/<cluster>/backends/<name>", methods=["GET"])
    async def look(request: Request, cluster: str, name: str) -> bytes:
        """How it is."""
        try:
            figures = await instance.backend(cluster, name)
        except Unknown as error:
            return refuse(request, 404, str(error))
        return answer(request, {"cluster": cluster, "name": name, **backend_facts(figures)})

    @app.route("/api/v1/clusters/<cluster>/backends/<name>/<any(enable,disable,drain):act>", methods=["POST"])
    async def want(request: Request, cluster: str, name: str, act: str) -> bytes:
        """Something else is wanted of it."""
        token = who(request)
        by, what = name_of(token), f"{act} {name[:100]!r} of cluster {cluster[:100]!r}"
        why = role_refused(token, "operate")
        if why is not None:
            log.warn("{what}: {name} may not ask for it", what=what, name=by)
            return refuse(request, 403, why)
        try:
            reason = reason_in(request)
        except BadBody as error:
            return refuse(request, error.status, str(error))

        async def do() -> State:
            state: State = await instance.want(cluster, name, ACTS[act], reason, by)
            return state

        try:
            state = await lasting(told(what, by, do))
        except Unknown as error:
            return refuse(request, 404, str(error))
        except StoreUnavailable as error:
            return refuse(request, 503, f"the store: {error}")
        except Failed:
            return refuse(request, 500, "the log has more")
        return answer(request, {"cluster": cluster, "name": name, "state": state.state, **state_facts(state)})
