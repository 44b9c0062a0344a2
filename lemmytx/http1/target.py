"""
Request targets and authorities (RFC 9112 §3.2, RFC 3986): whatever in them is not so plain that a twin of the codec
sees through it at a glance.
"""

from __future__ import annotations

import ipaddress
import re

from lemmytx.http1 import rules
from lemmytx.message import ProtocolError

ESCAPE = "a malformed percent escape in the path (RFC 3986 section 2.1)"
ESCAPED_CONTROL = "an escaped control character in the path"
BACKSLASH = "a backslash in the path, which some take for a slash"
ABOVE_ROOT = "a path that leads above its root"

_DIGITS = "0123456789ABCDEFabcdef"
_BYTES = {(one + two).encode(): bytes((int(one + two, 16),)) for one in _DIGITS for two in _DIGITS}
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_ABSOLUTE = re.compile(rb"(https?)://([^/?]*)([^?]*)(\?.*)?", re.IGNORECASE | re.DOTALL)
_PORT = re.compile(rb"(?::([0-9]{0,5}))?")
_NAME = re.compile(rb"((?:[A-Za-z0-9\-_~]+\.)*[A-Za-z0-9\-_~]+)\.?")
_LITERAL = re.compile(rb"\[([0-9A-Fa-f:.]{2,45})\]")
_DEFAULT_PORT = {b"http": b":80", b"https": b":443"}


def normalise(path: bytes) -> bytes:
    """
    A path as routes are written: escapes decoded (once), empty segments merged, dot segments resolved (RFC 3986
    §5.2.4).

    Backends decode and resolve before they look, so a router that does not could be led past its own routes.

    @param path: begins with a slash, without the query.
    @raise ProtocolError: 400 for broken escapes, escaped control characters, a backslash, or a way out above the root.
    """
    if b"\\" in path:
        raise ProtocolError(400, BACKSLASH)
    if b"%" in path:
        parts = path.split(b"%")
        try:
            path = parts[0] + b"".join([_BYTES[part[:2]] + part[2:] for part in parts[1:]])
        except KeyError:
            raise ProtocolError(400, ESCAPE) from None
        if _CONTROL.search(path):
            raise ProtocolError(400, ESCAPED_CONTROL)
    segments: list[bytes] = []
    parts = path.split(b"/")
    for part in parts:
        if part == b"..":
            if not segments:
                raise ProtocolError(400, ABOVE_ROOT)
            segments.pop()
        elif part and part != b".":
            segments.append(part)
    if not segments:
        return b"/"
    if parts[-1] in (b"", b".", b".."):
        segments.append(b"")
    return b"/" + b"/".join(segments)


def authority(value: bytes) -> bytes:
    """
    The host in an authority (C{uri-host [":" port]}, RFC 9110 §7.2), folded for the vhost table.

    Of RFC 3986's reg-name it takes what host names are made of; the rest (escapes, C{!$&'()*+,;=}) never names a host
    and helps only those who want two readers to see two hosts. No user information, no zone ids.

    @return: lower case, without port and one trailing dot; IPv6 in its brackets.
    @raise ProtocolError: 400.
    """
    found = _NAME.match(value)
    if found is not None:
        host = found[1]
        if len(host) > 253:
            raise ProtocolError(400, rules.HOST_BAD)
    else:
        found = _LITERAL.match(value)
        if found is None:
            raise ProtocolError(400, rules.HOST_BAD)
        host = found[0]
        try:
            ipaddress.IPv6Address(found[1].decode("ascii"))
        except ValueError:
            raise ProtocolError(400, rules.HOST_BAD) from None
    port = _PORT.fullmatch(value, found.end())
    if port is None or int(port[1] or 0) > 65535:
        raise ProtocolError(400, rules.HOST_BAD)
    return host.lower()


def absolute(target: bytes, method: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """
    An absolute-form target (RFC 9112 §3.2.2) taken apart.

    @param target: does not begin with a slash, and is not C{*}.
    @return: the target in origin-form (or C{*}), its raw path, the authority, the folded host, and the authority's
        default port with its colon.
    @raise ProtocolError: 400 when it is none, or has no or no valid authority.
    """
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise ProtocolError(400, rules.TARGET_FORM)
    scheme, where, path, query = found.groups()
    host = authority(where)
    if not path and not query and method == b"OPTIONS":
        return b"*", b"*", where, host, _DEFAULT_PORT[scheme.lower()]
    path = path or b"/"
    return path + (query or b""), path, where, host, _DEFAULT_PORT[scheme.lower()]


def same_authority(one: bytes, other: bytes, default_port: bytes) -> bool:
    """Whether two authorities name the same, apart from case and a port that goes without saying."""
    return _with_port(one, default_port) == _with_port(other, default_port)


def _with_port(value: bytes, default_port: bytes) -> bytes:
    value = value.lower()
    bare = value.rpartition(b"]")[2]
    if b":" not in bare:
        return value + default_port
    return value + default_port[1:] if bare.endswith(b":") else value
