"""What would become of a request: C{GET /api/v1/explain}. C{lemmy explain} asks it (L{lemmytx.admin.telling})."""

from __future__ import annotations

from typing import Any

from klein import Klein
from twisted.web.http import Request

from lemmytx.admin.answers import answer, refuse
from lemmytx.interfaces import Busy, IInstance, Refused

PATH = "/api/v1/explain"

#: What can be said of the request; C{header} more than once.
_PARAMETERS = ("url", "method", "client", "header")


class _Bad(Exception):
    """The question is none; the text says why."""


def add_routes(app: Klein, instance: IInstance) -> None:
    """Any role may ask: nothing changes by it."""

    @app.route(PATH, methods=["GET"])
    async def explain(request: Request) -> bytes:
        """What would become of it."""
        try:
            url, method, fields, client = _read(request)
        except _Bad as error:
            return refuse(request, 400, str(error))
        try:
            return answer(request, await instance.explain(url, method, fields, client))
        except Busy as error:
            return refuse(request, 503, str(error))
        except Refused as error:
            return refuse(request, 400, str(error))


def _read(request: Any) -> tuple[str, str, list[tuple[str, str]], str]:
    """URL, method, fields and client."""
    given: dict[str, list[str]] = {}
    for name, values in request.args.items():
        try:
            given[name.decode("utf-8")] = [value.decode("utf-8") for value in values]
        except UnicodeDecodeError:
            raise _Bad("the query is not UTF-8") from None
    for name, texts in given.items():
        if name not in _PARAMETERS:
            raise _Bad(f"no such parameter: {name!r}; there are {', '.join(_PARAMETERS)}")
        if name != "header" and len(texts) > 1:
            raise _Bad(f"{name}: is there more than once")
    if "url" not in given:
        raise _Bad("url: is missing; write one, as in ?url=http://shop.example/cart")
    fields = []
    for text in given.get("header", ()):
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise _Bad(f"header: found {text!r}; write name and value, as in Cookie: a=b")
        fields.append((name.strip(), value.strip()))
    return given["url"][0], given.get("method", ["GET"])[0], fields, given.get("client", ["127.0.0.1"])[0]
