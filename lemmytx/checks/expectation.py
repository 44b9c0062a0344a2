"""
What an answer has to be like: its status, and what stands in it.

C{expect} is written short as statuses, C{200}, C{200-299} or a list of these, or as a mapping::

    status: [200-299, 404]     what it may be; 200-399 unless written
    body: "^OK"                a regular expression that is found in the body
    json: {Result: true}       the body is JSON, an object has at least these members, with these values

A body is looked at up to L{LONGEST} bytes. The expression is the operator's, the text is the backend's: one that takes
time without end on text that somebody has made for it (C{(a+)+$}) stops the whole process, so it is given no more than
L{SEARCHED} bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lemmytx.cluster.health import printable
from lemmytx.interfaces import Unhealthy

#: How much of an answer's body is read.
LONGEST = 64 * 1024

#: How much of it an expression is searched for in.
SEARCHED = 16 * 1024

_RANGE = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?\Z")

#: What is fine unless something else is written.
USUAL = "200-399"


def _ranges(value: object) -> list[tuple[int, int]]:
    found = []
    for each in value if isinstance(value, list | tuple) else [value]:
        match = None if isinstance(each, bool) or not isinstance(each, int | str) else _RANGE.match(str(each))
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"expect: found {each!r}; write a status, as in 200, or a range, as in 200-299")
        found.append((int(match[1]), int(match[2] or match[1])))
    if not found:
        raise ValueError("expect: found no status; write one, as in 200, or a range, as in 200-299")
    return found


class Expectation:
    """
    See the module.

    @ivar looks: whether it looks into the body.
    """

    def __init__(self, expect: object) -> None:
        """
        @raise ValueError: with a text for the user.
        """
        wanted: Mapping[str, object] = expect if isinstance(expect, Mapping) else {"status": expect}
        unknown = [name for name in wanted if name not in ("status", "body", "json")]
        if unknown:
            raise ValueError(f"expect: found {unknown[0]!r}; there are status, body and json")
        self._statuses = _ranges(wanted.get("status", USUAL))
        body = wanted.get("body")
        self._body: re.Pattern[str] | None = None
        if body is not None:
            if not isinstance(body, str) or not body:
                raise ValueError(f"expect.body: found {body!r}; write a regular expression in quotes")
            try:
                self._body = re.compile(body)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"expect.body: {body!r} is not a regular expression: {error}") from None
        self._json = wanted.get("json")
        self._has_json = "json" in wanted
        self.looks = self._has_json or self._body is not None

    def judge_status(self, status: int) -> None:
        """
        @raise Unhealthy: it is another one.
        """
        if not any(least <= status <= most for least, most in self._statuses):
            raise Unhealthy(f"it answered {status}")

    def judge_body(self, body: bytes, whole: bool) -> None:
        """
        @param whole: whether that is all of it.
        @raise Unhealthy: it does not hold what it should.
        """
        if self._body is not None:
            text = body[:SEARCHED].decode("utf-8", "replace")
            if self._body.search(text) is None:
                raise Unhealthy(f"{self._body.pattern!r} is not found in its answer {_quoted(text)}")
        if self._has_json:
            if not whole:
                raise Unhealthy(f"its answer is longer than {LONGEST} bytes, too long to be looked at as JSON")
            try:
                found = json.loads(body)
            except (ValueError, RecursionError):
                raise Unhealthy(f"its answer is no JSON: {_quoted(body.decode('utf-8', 'replace'))}") from None
            where = _missing(self._json, found, "")
            if where is not None:
                raise Unhealthy(where)


def _missing(wanted: Any, found: Any, place: str) -> str | None:
    """
    What of the wanted is not in the found; L{None}: all of it is there. An object may have more members, everything
    else is the same or is not.
    """
    where = f"{place or 'the JSON'} of its answer"
    if isinstance(wanted, Mapping):
        if not isinstance(found, dict):
            return f"{where} is no object"
        for name, value in wanted.items():
            inner = f"{place}.{name}" if place else str(name)
            if name not in found:
                return f"{inner} is not in its answer"
            wrong = _missing(value, found[name], inner)
            if wrong is not None:
                return wrong
        return None
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return f"{where} is not {json.dumps(wanted)}"
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            wrong = _missing(one, other, f"{place}[{number}]")
            if wrong is not None:
                return wrong
        return None
    # True is 1 in Python, and in no JSON.
    same = wanted == found and isinstance(wanted, bool) is isinstance(found, bool)
    return None if same else f"{where} is {_quoted(json.dumps(found))}, not {json.dumps(wanted)}"


def _quoted(text: str) -> str:
    """The beginning of what a backend has said."""
    text = printable(text)
    return repr(text if len(text) <= 60 else text[:60] + "…")
