"""
Numbers as people write them: C{250ms}, C{64k}, C{50%}, C{true}.

A L{Rule} turns one value of the configuration file into what the program uses, and knows three things about it: how
to read it, how the reference calls it, and what its JSON Schema is. The model hangs rules on its fields with
C{Annotated}; the same functions serve the admin side, so that a unit means the same in both places.

Every C{parse} here takes whatever YAML or JSON can hold and either returns the value or raises L{ValueError} with one
sentence for the user: what was found and what to write instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

#: What the JSON Schema of every setting that is not text lets through besides: a reference to the environment.
REFERENCE = {"type": "string", "pattern": r"\$\{[^}]*\}"}

#: Seconds in a unit of time. A minute is "m", as in nginx and HAProxy; there are no months to confuse it with.
TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}

#: Bytes in a unit of size; powers of two, as in nginx and HAProxy.
SIZES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "": 1}

_TIME = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|)\Z")
_SIZE = re.compile(r"([0-9]{1,15})([kmgKMG]|)\Z")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%\Z")
_INTEGER = re.compile(r"[-+]?[0-9]{1,15}\Z")

# YAML 1.2.2 §10.3.2. A longer row of digits stays text, and the rules say what they found.
_DECIMAL = re.compile(r"[-+]?[0-9]{1,18}\Z")
_OCTAL = re.compile(r"0o[0-7]{1,18}\Z")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,15}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,4})?\Z")
_NAMED: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

#: More of a value than this does not go into an error message.
SHOWN = 60


class Substituted(str):
    """
    Text that a reference to the environment brought. The environment holds nothing but text, so where a number or
    a boolean is wanted this is read as one; text that the file itself holds in quotes is not.
    """

    __slots__ = ()


def resolve(text: str) -> object:
    """
    What text without quotes means, by YAML 1.2's core schema.

    @return: an integer, a finite or infinite float, a boolean, L{None}, or the text itself.
    """
    if text in _NAMED:
        return _NAMED[text]
    if _DECIMAL.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    if _OCTAL.match(text):
        return int(text[2:], 8)
    if _HEXADECIMAL.match(text):
        return int(text[2:], 16)
    return text


# Up to the last @: a password may have one that ought to be written %40.
_LOGIN = re.compile(r"//.*@", re.DOTALL)


def without_login(text: str) -> str:
    """A URL, or a text with one in it, without user and password."""
    return _LOGIN.sub("//…@", text)


def shown(value: object) -> str:
    """
    A value for an error message: as the file would have it, on one line, cut at L{SHOWN} characters, and a URL without
    user and password.

    @param value: anything that YAML or JSON can hold.
    """
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(without_login(str(value))) if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _plain(number: float) -> str:
    """A bound as people write it: 1, 0.5, 86400."""
    return f"{number:g}" if number < 1e6 else str(int(number))


def short_size(number: int) -> str:
    """A number of bytes in the largest unit that holds it exactly: 64k, 1m, 1000."""
    for unit in "gmk":
        if number and number % SIZES[unit] == 0:
            return f"{number // SIZES[unit]}{unit}"
    return str(number)


def _written(value: object) -> str:
    """A value as YAML has it."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return _plain(value) if isinstance(value, int | float) else str(value)


@dataclass(frozen=True, slots=True)
class Rule:
    """
    How one kind of value is read. Goes into C{Annotated}, where pydantic finds it.

    @ivar label: what the reference calls it: "duration".
    @ivar parse: reads a value; raises L{ValueError} with a text for the user.
    @ivar schema: its JSON Schema.
    @ivar write: how the reference shows a value that has been read.
    @ivar as_text: whether JSON holds what C{write} gives, because it could not hold the value or would not be read
        again.
    """

    label: str
    parse: Callable[[Any], Any]
    schema: dict[str, Any]
    write: Callable[[Any], str] = _written
    as_text: bool = False

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic: how to validate. Called once per field, when the model's class is made."""
        if not self.as_text:
            return core_schema.no_info_plain_validator_function(self.parse)
        as_text = core_schema.plain_serializer_function_ser_schema(self.write, when_used="json")
        return core_schema.no_info_plain_validator_function(self.parse, serialization=as_text)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Pydantic: how to describe it."""
        return dict(self.schema)


def or_none(rule: Rule) -> Rule:
    """The same for a setting that may be null, which means that it is left out."""
    return replace(rule, schema={"anyOf": [rule.schema, {"type": "null"}]})


def _within(number: float, least: float, most: float, unit: str, value: object) -> None:
    """Raises L{ValueError} for a number outside of the bounds."""
    if not least <= number <= most:
        raise ValueError(f"found {shown(value)}; write from {_plain(least)} to {_plain(most)}{unit}")


def _number(value: object) -> float | None:
    """The value if it is a number: an int or a finite float. Booleans are none, although Python has them as ints."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def count(least: int, most: int) -> Rule:
    """
    A whole number.

    @param least: the smallest that is accepted.
    @param most: the largest that is accepted.
    """

    def parse(value: object) -> int:
        if isinstance(value, Substituted) and _INTEGER.match(value):
            number = int(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        else:
            raise ValueError(f"found {shown(value)}; write a whole number from {least} to {most}")
        _within(number, least, most, "", value)
        return number

    label = f"number, {least} to {most}"
    return Rule(label, parse, {"anyOf": [{"type": "integer", "minimum": least, "maximum": most}, REFERENCE]})


def duration(least: float, most: float) -> Rule:
    """
    A length of time: a number of seconds, or text with a unit out of L{TIMES}. Read into seconds.

    @param least: the shortest that is accepted, in seconds.
    @param most: the longest that is accepted, in seconds.
    """

    def parse(value: object) -> float:
        seconds = _number(value)
        if seconds is None and isinstance(value, str):
            match = _TIME.match(value)
            if match is not None:
                seconds = float(match[1]) * TIMES[match[2]]
        if seconds is None:
            raise ValueError(f"found {shown(value)}; write a duration: seconds as a number, or as in 250ms, 2s, 1m, 1h")
        _within(seconds, least, most, " seconds", value)
        return float(seconds)

    schema = {
        "anyOf": [
            {"type": "number", "minimum": least, "maximum": most},
            {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)?$"},
            REFERENCE,
        ]
    }
    return Rule("duration", parse, schema)


def size(least: int, most: int) -> Rule:
    """
    A number of bytes, plain or as text with a unit out of L{SIZES}.

    @param least: the smallest that is accepted, in bytes.
    @param most: the largest that is accepted, in bytes.
    """

    def parse(value: object) -> int:
        found = value if isinstance(value, int) and not isinstance(value, bool) else None
        if isinstance(value, str):
            match = _SIZE.match(value)
            if match is not None:
                found = int(match[1]) * SIZES[match[2].lower()]
        if found is None:
            raise ValueError(f"found {shown(value)}; write a size: bytes as a whole number, or as in 64k, 1m, 1g")
        _within(found, least, most, " bytes", value)
        return found

    schema = {
        "anyOf": [
            {"type": "integer", "minimum": least, "maximum": most},
            {"type": "string", "pattern": "^[0-9]+[kmgKMG]?$"},
            REFERENCE,
        ]
    }
    return Rule("size", parse, schema, short_size)


def _parse_share(value: object) -> float:
    """Only text with a percent sign: whether a bare 1 means one percent or all of it, nobody should have to guess."""
    match = _SHARE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"found {shown(value)}; write a percentage, as in 50%")
    percent = float(match[1])
    _within(percent, 0, 100, "%", value)
    return percent / 100


def _parse_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, Substituted) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(f"found {shown(value)}; write true or false")


#: A part of a whole, written as a percentage and read into a fraction from 0 to 1.
SHARE = Rule(
    "percentage",
    _parse_share,
    {"anyOf": [{"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$"}, REFERENCE]},
    lambda value: f"{value:.6%}".rstrip("%").rstrip("0").rstrip(".") + "%",
    as_text=True,
)

#: True or false.
FLAG = Rule("boolean", _parse_flag, {"anyOf": [{"type": "boolean"}, REFERENCE]})
