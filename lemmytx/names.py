"""
Short texts with a grammar of their own: methods, names of things, hashes of tokens, what a condition wants.

See L{lemmytx.units.Rule} for what the constants at the end are.
"""

from __future__ import annotations

import re
from typing import Literal

from lemmytx.addresses import parse_name
from lemmytx.units import REFERENCE, Rule, Substituted, resolve, shown

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_NAME = re.compile(r"[A-Za-z0-9_.:@\[\]-]{1,100}\Z")
_PSEUDONYM = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(:[0-9]+)?\Z")
_PIN = re.compile(r"[A-Za-z0-9+/]{43}=\Z")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}\Z")
_SUFFIX = re.compile(r"\.[A-Za-z0-9._-]{1,20}\Z")
_UNFIT = re.compile(r"[\x00-\x1f\x7f]")
_COOKIE_PATH = re.compile(r"/[\x21-\x3a\x3c-\x7e]*\Z")  # RFC 6265 §4.1.1: no semicolon, no controls

#: Labels of a backend, and characters of the value of one.
MOST_LABELS = 16
LONGEST_LABEL = 100

#: Shorter ones can be guessed. Characters, for nobody knows how much is in each.
LEAST_SECRET = 16

#: Fields that say how a message is framed or routed, or that are written by us.
_TAKEN = frozenset((
    "accept", "authorization", "cache-control", "connection", "content-encoding", "content-length", "content-type",
    "cookie", "date", "expect", "forwarded", "host", "keep-alive", "location", "proxy-connection", "set-cookie", "te",
    "trailer", "transfer-encoding", "upgrade", "vary", "via", "x-forwarded-for", "x-forwarded-host",
    "x-forwarded-proto", "x-real-ip", "x-request-id",
))  # fmt: skip

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


def _parse_redirect(value: object) -> bool | int:
    """Whether to redirect, or to which port."""
    if isinstance(value, bool):
        return value
    found = resolve(value) if isinstance(value, Substituted) else value
    if isinstance(found, bool) or (isinstance(found, int) and 1 <= found <= 65535):
        return found
    raise ValueError(f"found {shown(value)}; write true, false, or the port of HTTPS")


def _parse_pin(value: object) -> str:
    """SHA-256 of a public key."""
    text = value.removeprefix("sha256/") if isinstance(value, str) else ""
    if not _PIN.match(text):
        raise ValueError(f"found {shown(value)}; write the SHA-256 of the public key (its DER form) in base64")
    return str(text)


def _parse_variable(value: object) -> str:
    if not isinstance(value, str) or not _VARIABLE.match(value) or value == "HTTP_PROXY":
        raise ValueError(f"found {shown(value)}; write the name of a variable, as in APP_ENV")
    return str(value)


def _parse_server_name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"found {shown(value)}; write a host name in quotes, as in 'app.internal'")
    return parse_name(value).strip("[]")


def _parse_root(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or _UNFIT.search(value) or "/../" in f"{value}/":
        raise ValueError(f"found {shown(value)}; write an absolute path, as in /srv/app")
    return value.rstrip("/") or "/"


def _parse_script(value: object) -> str:
    name = value.removeprefix("/") if isinstance(value, str) else "/"
    if "/" in name or name in (".", "..") or (value and not name) or _UNFIT.search(name):
        raise ValueError(
            f"found {shown(value)}; write the name of a file, as in index.php, or /index.php for all paths"
        )
    return str(value)


def _parse_suffix(value: object) -> str:
    if not isinstance(value, str) or (value and not _SUFFIX.match(value)):
        raise ValueError(f"found {shown(value)}; write the end of a file's name, as in .php")
    return str(value)


def _parse_cookie(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.match(value):
        raise ValueError(f"found {shown(value)}; write the name of a cookie, as in lemmy")
    return str(value)


def _parse_field(value: object) -> str:
    if not isinstance(value, str) or not _TOKEN.match(value):
        raise ValueError(f"found {shown(value)}; write the name of a header field, as in X-Backend")
    if value.lower().replace("_", "-") in _TAKEN:
        raise ValueError(f"found {shown(value)}; that field means something else, choose another name")
    return str(value)


def _parse_parameter(value: object) -> str:
    if not isinstance(value, str) or not value or _UNFIT.search(value):
        raise ValueError(f"found {shown(value)}; write the name of a query parameter, as in backend")
    return str(value)


def _parse_secret(value: object) -> str:
    """The text does not repeat what was found."""
    if not isinstance(value, str) or len(value) < LEAST_SECRET:
        raise ValueError(
            f"found something else (not shown) than text of at least {LEAST_SECRET} characters; 'openssl rand -hex 32' "
            "makes a secret"
        )
    return str(value)


def _parse_cookie_path(value: object) -> str:
    if not isinstance(value, str) or not _COOKIE_PATH.match(value):
        raise ValueError(f"found {shown(value)}; write a path, as in /shop")
    return str(value)


def _parse_cookie_domain(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"found {shown(value)}; write a host name, as in shop.example")
    return parse_name(value.removeprefix("."))


def _parse_labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f'found {shown(value)}; write a mapping: names with their values, as in {{version: "2"}}')
    if len(value) > MOST_LABELS:
        raise ValueError(f"found {len(value)} labels; write up to {MOST_LABELS}")
    for name, text in value.items():
        if not isinstance(name, str) or not _NAME.match(name):
            raise ValueError(f"found the label {shown(name)}; write up to 100 letters, digits and _ . : @ [ ] -")
        if not isinstance(text, str) or not 1 <= len(text) <= LONGEST_LABEL or not text.isprintable():
            raise ValueError(
                f"{name}: found {shown(text)}; write a text of up to {LONGEST_LABEL} characters, a number in quotes"
            )
    return {str(name): str(text) for name, text in value.items()}


METHOD = Rule("method", _parse_method, {"type": "string", "pattern": "^[!-~]+$"})
LABELS = Rule(
    "labels",
    _parse_labels,
    {"type": "object", "maxProperties": MOST_LABELS, "additionalProperties": {"type": "string", "minLength": 1}},
)
NAME = Rule("name", _parse_name, {"type": "string", "minLength": 1})
HASH = Rule("hash", _parse_hash, {"type": "string", "pattern": r"^sha256:[0-9a-f]{64}$|\$\{"})
REDIRECT = Rule(
    "boolean or port",
    _parse_redirect,
    {"anyOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1, "maximum": 65535}, REFERENCE]},
)
ROOT = Rule("absolute path", _parse_root, {"type": "string", "pattern": r"^/|\$\{"})
SCRIPT = Rule("file name", _parse_script, {"type": "string"})
SUFFIX = Rule("suffix", _parse_suffix, {"type": "string", "pattern": r"^$|^\.|\$\{"})
PIN = Rule("pin", _parse_pin, {"type": "string", "pattern": r"^(sha256/)?[A-Za-z0-9+/]{43}=$|\$\{"})
VARIABLE = Rule("variable", _parse_variable, {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"})
SERVER_NAME = Rule("host", _parse_server_name, {"type": "string", "minLength": 1})
COOKIE = Rule("cookie", _parse_cookie, {"type": "string", "minLength": 1})
FIELD = Rule("field", _parse_field, {"type": "string", "minLength": 1})
PARAMETER = Rule("parameter", _parse_parameter, {"type": "string", "minLength": 1})
SECRET = Rule("secret", _parse_secret, {"type": "string", "minLength": 1})
COOKIE_PATH = Rule("path", _parse_cookie_path, {"type": "string", "pattern": r"^/|\$\{"})
COOKIE_DOMAIN = Rule("host", _parse_cookie_domain, {"type": "string", "minLength": 1})
PSEUDONYM = Rule("name or null", _parse_pseudonym, {"type": ["string", "null"], "minLength": 1})
CONDITION = Rule("text or true", _parse_condition, {"anyOf": [{"type": "string"}, {"const": True}]})
