"""
The small languages of a route: paths, and values of fields, query parameters and cookies.

The configuration checks them (L{check_path}, L{check_match}), the router compiles and uses them (L{compile_path},
L{compile_match}). All of it is pure.

A path pattern is one of

  - C{/exact}: that path alone;
  - C{/api/*}: C{/api}, C{/api/} and everything below, by whole segments;
  - a C{*} elsewhere: any text within one segment (C{/u/*/photo}, C{/img-*.png});
  - C{~expression}: a regular expression, searched for in the path, anchored only where it says so.

Patterns are matched against the decoded, normalised path, so they are written decoded: C{/café}, not C{/caf%C3%A9}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: The pattern of a route that says nothing about the path.
EVERYTHING = "/*"

_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Glob:
    """
    A path segment with at least one C{*} in it.

    Not a regular expression: C{*a*a*a*a*b} as one would take polynomial time on a path that a client chose. The
    leftmost place of each middle part is as good as any other, so a search from part to part decides.

    @ivar prefix: what stands before the first C{*}.
    @ivar middle: what stands between the stars, in order, without empty parts.
    @ivar suffix: what stands behind the last C{*}.
    @ivar shape: lengths of prefix and suffix.
    """

    __slots__ = ("middle", "prefix", "shape", "suffix", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.prefix, *middle, self.suffix = text.split(b"*")
        self.middle = tuple(part for part in middle if part)
        self.shape = (len(self.prefix), len(self.suffix))

    @property
    def literal(self) -> int:
        """How many bytes of it are no stars."""
        return len(self.text) - self.text.count(b"*")

    def inner(self, segment: bytes) -> bool:
        """
        Whether the part of a segment between prefix and suffix fits.

        @param segment: one that begins with the prefix and ends with the suffix, the two not overlapping.
        """
        place = len(self.prefix)
        end = len(segment) - len(self.suffix)
        for part in self.middle:
            place = segment.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True

    def __repr__(self) -> str:
        return f"<Glob {self.text!r}>"


@dataclass(frozen=True, slots=True)
class PathPattern:
    """
    A path pattern, taken apart.

    @ivar text: as written.
    @ivar segments: what stands between the slashes, without the trailing C{/*}; empty for C{/*}.
    @ivar below: whether it ended in C{/*}.
    @ivar expression: the regular expression; C{segments} and C{below} mean nothing then.
    """

    text: str
    segments: tuple[bytes | Glob, ...]
    below: bool
    expression: re.Pattern[str] | None


def _expression(text: str) -> re.Pattern[str]:
    """
    @param text: a regular expression behind its C{~}.
    @raise ValueError: it is none, or it is empty.
    """
    if len(text) == 1:
        raise ValueError("'~' without a regular expression; write it right behind, as in '~^/v[12]/'")
    try:
        return re.compile(text[1:])
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from error


def compile_path(pattern: str) -> PathPattern:
    """
    @raise ValueError: with a text for the user, when it is no path pattern.
    """
    if not pattern:
        raise ValueError("an empty path; write '/' for the root alone or '/*' for everything")
    if pattern.startswith("~"):
        return PathPattern(pattern, (), False, _expression(pattern))
    if not pattern.startswith("/"):
        raise ValueError(f"{pattern!r} does not begin with '/'; write '/{pattern}', or '~' before a regular expression")
    if "?" in pattern:
        raise ValueError(f"{pattern!r} has a '?', and a path has no query; use the route's 'query' setting for it")
    if _ESCAPE.search(pattern):
        raise ValueError(f"{pattern!r} has a percent escape; paths are matched decoded, so write the character itself")
    if _CONTROL.search(pattern):
        raise ValueError(f"{pattern!r} has a control character in it; write a path without")
    if "**" in pattern:
        raise ValueError(f"{pattern!r} has '**'; '*' matches within one segment, a trailing '/*' everything below")
    below = pattern.endswith("/*")
    names = pattern.removesuffix("/*").split("/")[1:]
    for name in names[:-1] if not below else names:
        if not name:
            raise ValueError(f"{pattern!r} has an empty segment, which no path has after normalising; write one '/'")
    if "." in names or ".." in names:
        raise ValueError(f"{pattern!r} has a dot segment, which no path has after normalising; write it resolved")
    segments = [name.encode("utf-8", "surrogateescape") for name in names]
    return PathPattern(pattern, tuple(Glob(name) if b"*" in name else name for name in segments), below, None)


def check_path(pattern: str) -> str | None:
    """
    @return: what is wrong with a path pattern, for the user; L{None} when nothing is.
    """
    try:
        compile_path(pattern)
    except ValueError as error:
        return str(error)
    return None


class Match:
    """
    What a route wants of the values of a field, query parameter or cookie.

    @ivar text: what the configuration says, in words.
    """

    __slots__ = ("_exact", "_expression", "text")

    def __init__(self, exact: str | None, expression: re.Pattern[str] | None) -> None:
        self._exact = exact
        self._expression = expression
        if expression is not None:
            self.text = f"matches {expression.pattern!r}"
        else:
            self.text = "is present" if exact is None else f"is {exact!r}"

    def accepts(self, values: Iterable[str]) -> bool:
        """Whether one of the values will do: what came twice may say so once."""
        if self._expression is not None:
            search = self._expression.search
            return any(search(value) for value in values)
        if self._exact is not None:
            return self._exact in values
        return any(True for _ in values)

    def __repr__(self) -> str:
        return f"<Match {self.text}>"


def compile_match(value: object) -> Match:
    """
    @param value: C{True} or C{"*"} (present, whatever it says), C{"~expression"} (searched for), or the exact text.
    @raise ValueError: with a text for the user, when it is none of these.
    """
    if value is True or value == "*":
        return Match(None, None)
    if not isinstance(value, str):
        raise ValueError(f"found {value!r}; write the value as text in quotes, '~' and an expression, or true")
    if value.startswith("~"):
        return Match(None, _expression(value))
    return Match(value, None)


def check_match(value: object) -> str | None:
    """
    @return: what is wrong with a wanted value, for the user; L{None} when nothing is.
    """
    try:
        compile_match(value)
    except ValueError as error:
        return str(error)
    return None
