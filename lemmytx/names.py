"""
Short texts with a grammar of their own: methods, names of things, hashes of tokens, what a condition wants.

See L{lemmytx.units.Rule} for what the constants at the end are.
"""

from __future__ import annotations

import re
from typing import Literal

from lemmytx.units import Rule, shown

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_NAME = re.compile(r"[A-Za-z0-9_.:@\[\]-]{1,100}\Z")
_PSEUDONYM = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(:[0-9]+)?\Z")
_HASH = re.compile(r"sha256:[0-9a-f]{64}\Z")


def _parse_method(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.match(value):
        raise ValueError(f"found {shown(value)}; write the name of a method, as in GET")
    if value.upper() != value and value.upper() in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        raise ValueError(f"found {shown(value)}; case matters (RFC 9110 §9.1): did you mean {value.upper()}?")
    return str(value)


def _parse_name(value: object) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        raise ValueError(f"found {shown(value)}; write a name of up to 100 letters, digits and _ . : @ [ ] -")
    return str(value)


def _parse_hash(value: object) -> str:
    """The text does not repeat what was found: it may well be the token itself."""
    if not isinstance(value, str) or not _HASH.match(value):
        raise ValueError(
            "found something that is not a token's hash (not shown, it may be the token itself); "
            "make both with 'lemmy token new' and write the hash, as in 'sha256:…'"
        )
    return str(value)


def _parse_pseudonym(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _PSEUDONYM.match(value):
        raise ValueError(f"found {shown(value)}; write a name without spaces (RFC 9110 §7.6.3), or null for no Via")
    return str(value)


def _parse_condition(value: object) -> str | Literal[True]:
    """What a field, parameter or cookie must be: text as it is, C{~} and an expression, or true."""
    if isinstance(value, str):
        return str(value)
    if value is True:
        return True
    raise ValueError(f"found {shown(value)}; write the value in quotes, '~' and a regular expression, or true")


METHOD = Rule("method", _parse_method, {"type": "string", "pattern": "^[!-~]+$"})
NAME = Rule("name", _parse_name, {"type": "string", "minLength": 1})
HASH = Rule("hash", _parse_hash, {"type": "string", "pattern": r"^sha256:[0-9a-f]{64}$|\$\{"})
PSEUDONYM = Rule("name or null", _parse_pseudonym, {"type": ["string", "null"], "minLength": 1})
CONDITION = Rule("text or true", _parse_condition, {"anyOf": [{"type": "string"}, {"const": True}]})
