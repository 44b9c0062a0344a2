"""What the tests of the codec share: both twins, what came out of one, and the three ways of feeding it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from lemmytx.http1 import _pure
from lemmytx.message import ProtocolError

compiled: ModuleType | None
try:
    from lemmytx.http1 import _compiled as compiled
except ImportError:  # a build without a compiler: its tests are skipped, and say so
    compiled = None

#: Why tests of the compiled twin are not run; None: they are.
no_compiled = None if compiled is not None else "the codec is not compiled here"

pure = _pure

#: A refusal: status and reason. A head: its attributes. None: not whole.
Outcome = dict[str, Any] | tuple[int, str] | None


def outcome(parse: Callable[..., Any], data: bytes, *arguments: Any, **keywords: Any) -> Outcome:
    """What C{parse} makes of C{data}; anything raised but ProtocolError goes through."""
    try:
        head = parse(data, *arguments, **keywords)
    except ProtocolError as error:
        return error.status, error.reason
    return None if head is None else {name: getattr(head, name) for name in head.__slots__}


def growing(parse: Callable[..., Any], data: bytes, *arguments: Any, **keywords: Any) -> tuple[Outcome, int]:
    """
    Feed byte by byte, as a buffer grows.

    @return: the first outcome that is not None, and how many bytes it took.
    """
    for size in range(len(data) + 1):
        found = outcome(parse, data[:size], *arguments, **keywords)
        if found is not None:
            return found, size
    return None, len(data)


def body(make: Callable[..., Any], pieces: list[bytes], limit: int = 8192) -> tuple[Any, ...]:
    """
    What a ChunkedBody makes of C{pieces}.

    @return: payload, done, rest and trailers; or status, reason and the payload before the piece with the error.
    """
    chunked = make(limit)
    payload = b""
    try:
        for piece in pieces:
            payload += chunked.feed(piece)
    except ProtocolError as error:
        return error.status, error.reason, payload
    return payload, chunked.done, chunked.rest, chunked.trailers


def single(data: bytes) -> list[bytes]:
    """C{data} in pieces of one byte."""
    return [data[place : place + 1] for place in range(len(data))]
