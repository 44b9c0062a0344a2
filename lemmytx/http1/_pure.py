"""
The codec in plain Python: the twin that runs where nothing could be compiled, and the one to read first.

A regular expression takes in as much of a head as is well-formed, and all of it where it is whole. Then what was taken
in is understood, line by line and in order; only then is it said what is wrong with the byte at which the expression
stopped. So errors come out in the order in which they stand in the message, as they do from the compiled twin, which
goes through byte by byte.
"""

from __future__ import annotations

import re

from lemmytx.http1 import _stop as stop
from lemmytx.http1 import rules, target
from lemmytx.http1._chunked import ChunkedBody
from lemmytx.http1.rules import (
    CLAIM,
    CLOSE,
    CODING,
    CONNECTION,
    CONNECTION_SIZE,
    DROP,
    EXPECT,
    HOST,
    KEEP_ALIVE,
    LENGTH,
    OTHER,
    PLAIN,
    SWITCH,
    UPGRADE,
)
from lemmytx.message import CHUNKED, UNTIL_CLOSE, ProtocolError, RequestHead, ResponseHead

__all__ = ["ChunkedBody", "request", "response"]

_T = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_FIELDS = rb"((?:" + _T + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+)(\r\n)?+"

# Possessive throughout: no input can make it look twice.
_REQUEST = re.compile(rb"(?:\r\n)?+(" + _T + rb"{1,32}+) ([\x21\x22\x24-\x7e]++) HTTP/1\.([01])\r\n" + _FIELDS)
_RESPONSE = re.compile(rb"HTTP/1\.([0-9]) ([0-9]{3})((?: [\t\x20-\x7e\x80-\xff]*+)?+)\r\n" + _FIELDS)

_LENGTH = re.compile(rb"0|[1-9][0-9]{0,18}")
_UNEVEN = re.compile(rb"[%\\]|//|/\.")
_HOST = re.compile(rb"((?:[a-z0-9\-_]+\.)*[a-z0-9\-_]+)(?::[0-9]{1,4})?")

#: What L{rules.kind} says of the usual spellings, so that most lines need one look.
_KINDS = {
    name: rules.kind(name)
    for lower in (
        *rules.KINDS, b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"accept-ranges", b"age",
        b"authorization", b"cache-control", b"content-disposition", b"content-encoding", b"content-language",
        b"content-range", b"content-security-policy", b"content-type", b"cookie", b"date", b"dnt", b"etag", b"expires",
        b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"last-modified",
        b"link", b"location", b"max-forwards", b"origin", b"pragma", b"priority", b"range", b"referer",
        b"referrer-policy", b"retry-after", b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform", b"sec-fetch-dest",
        b"sec-fetch-mode", b"sec-fetch-site", b"sec-fetch-user", b"sec-websocket-accept",
        b"sec-websocket-extensions", b"sec-websocket-key", b"sec-websocket-protocol", b"sec-websocket-version",
        b"server", b"set-cookie", b"strict-transport-security", b"trailer", b"upgrade-insecure-requests",
        b"user-agent", b"vary", b"via", b"www-authenticate", b"x-content-type-options", b"x-forwarded-for",
        b"x-forwarded-host", b"x-forwarded-proto", b"x-frame-options", b"x-powered-by", b"x-requested-with",
    )
    for name in (lower, lower.title())
}  # fmt: skip
_kind = _KINDS.get

_LARGEST = (1 << 63) - 1
_NEW_REQUEST = RequestHead.__new__
_NEW_RESPONSE = ResponseHead.__new__


def request(data: bytes, trusted: bool = False, header_size: int = 32768, headers: int = 100) -> RequestHead | None:
    """
    A request's head at the start of C{data}.

    @param data: what has come, from the first byte after the last message on.
    @param trusted: whether what the peer says about clients before it goes into C{claims}.
    @param header_size: bytes that the head may have, with its empty line.
    @param headers: fields that it may have.
    @return: L{None} while it is not whole. Never for more than C{header_size} bytes.
    @raise ProtocolError: as soon as what is there cannot become a head that we take, with the status to answer.
    """
    end = len(data)
    if end > header_size:
        end = header_size
    found = _REQUEST.match(data, 0, end)
    if found is None:
        stop.request_line(data, header_size)
        return None
    method, line_target, minor_digit, raw, empty = found.groups()
    if found.start(4) > rules.REQUEST_LINE and found.start(4) - found.start(1) > rules.REQUEST_LINE:
        raise ProtocolError(414, rules.LINE_LONG)
    minor = 1 if minor_digit == b"1" else 0
    if method not in rules.METHODS:
        if method.upper() in rules.METHODS:
            raise ProtocolError(400, rules.METHOD_CASE)
    elif method == b"CONNECT":
        raise ProtocolError(501, rules.METHOD_CONNECT)

    authority = b""
    named: bytes | None = None  # the folded host in an absolute-form target
    default_port = b""
    if line_target[0] == 47:
        path = line_target.partition(b"?")[0]
        if _UNEVEN.search(path):
            path = target.normalise(path)
    elif line_target == b"*":
        if method != b"OPTIONS":
            raise ProtocolError(400, rules.TARGET_STAR)
        path = line_target
    else:
        line_target, path, authority, named, default_port = target.absolute(line_target, method)
        if path != b"*":
            path = target.normalise(path)

    host_field: bytes | None = None
    host = b""
    length: int | None = None
    coding = expects_continue = False
    said = connection_size = 0
    nominating: list[bytes] | None = None
    upgrades: list[bytes] | None = None
    claims: dict[bytes, list[bytes]] | None = None
    kept = []
    count = 0
    for line in raw.split(b"\r\n")[:-1]:
        count += 1
        if count > headers:
            raise ProtocolError(431, rules.FIELDS_MANY)
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        kind = _kind(name)
        if kind is None:
            kind = rules.kind(name)
        if kind == PLAIN:
            kept.append(name + b": " + value + b"\r\n")
        elif kind == HOST:
            if host_field is not None:
                raise ProtocolError(400, rules.HOST_TWICE)
            host_field = value
            plain = _HOST.fullmatch(value)
            if plain is not None and len(value) < 254:
                host = plain[1]
            elif value or minor:
                host = target.authority(value)
        elif kind == CONNECTION:
            connection_size += len(value)
            if connection_size > CONNECTION_SIZE:
                raise ProtocolError(400, rules.CONNECTION_LONG)
            option = rules.connection(value)
            said |= option
            if option & OTHER:
                if nominating is None:
                    nominating = []
                nominating.append(value)
        elif kind == LENGTH:
            if length is not None:
                raise ProtocolError(400, rules.LENGTH_TWICE)
            if coding:
                raise ProtocolError(400, rules.LENGTH_CODING)
            if not _LENGTH.fullmatch(value):
                raise ProtocolError(400, rules.LENGTH_BAD)
            length = int(value)
            if length > _LARGEST:
                raise ProtocolError(400, rules.LENGTH_BAD)
            kept.append(name + b": " + value + b"\r\n")
        elif kind == CODING:
            if minor == 0:
                raise ProtocolError(400, rules.CODING_10)
            if coding:
                raise ProtocolError(400, rules.CODING_TWICE)
            if length is not None:
                raise ProtocolError(400, rules.LENGTH_CODING)
            if value.lower() != b"chunked":
                raise rules.refuse_coding(value)
            coding = True
        elif kind == CLAIM:
            if trusted:
                if claims is None:
                    claims = {}
                claims.setdefault(name.lower(), []).append(value)
        elif kind == EXPECT:
            if minor:  # RFC 9110 §10.1.1: in HTTP/1.0 it means nothing, and the backend would answer it
                if value.lower() != b"100-continue":
                    raise ProtocolError(417, rules.EXPECTATION)
                expects_continue = True
                kept.append(name + b": " + value + b"\r\n")
        elif kind == UPGRADE:
            if upgrades is None:
                upgrades = []
            upgrades.append(value)
    if empty is None:
        stop.next_line(data, found.end(4), header_size, count, headers, 0)
        return None

    if host_field is None:
        if minor:
            raise ProtocolError(400, rules.HOST_MISSING)
    elif named is not None and host_field and not target.same_authority(authority, host_field, default_port):
        raise ProtocolError(400, rules.HOST_OTHER)
    block = b"".join(kept)
    if nominating is not None:
        block = rules.without(block, nominating)
    if named is not None:
        host = named
    elif host_field is not None:
        authority = host_field
    head = _NEW_REQUEST(RequestHead)
    head.method = method
    head.target = line_target
    head.path = path
    head.authority = authority
    head.host = host
    head.minor = minor
    head.length = CHUNKED if coding else length or 0
    if said & CLOSE:
        head.keep_alive = False
    else:
        head.keep_alive = bool(minor or said & KEEP_ALIVE)
    head.expects_continue = expects_continue
    if upgrades is not None and said & SWITCH and minor and method == b"GET" and not head.length:
        head.upgrade = rules.upgrade(upgrades)
    else:
        head.upgrade = None
    head.block = block
    head.claims = claims
    head.raw = raw
    head.size = found.end()
    return head


def response(
    data: bytes, head_request: bool = False, header_size: int = 65536, headers: int = 200
) -> ResponseHead | None:
    """
    A response's head at the start of C{data}.

    @param data: what has come, from the first byte after the last message on.
    @param head_request: whether it answers a HEAD, so that no body follows whatever the fields say.
    @param header_size: bytes that the head may have, with its empty line.
    @param headers: fields that it may have.
    @return: L{None} while it is not whole. Never for more than C{header_size} bytes.
    @raise ProtocolError: 502, as soon as what is there cannot become a head that we take.
    """
    end = len(data)
    if end > header_size:
        end = header_size
    found = _RESPONSE.match(data, 0, end)
    if found is None:
        stop.status_line(data, header_size)
        return None
    minor_digit, code, reason, raw, empty = found.groups()
    minor = 0 if minor_digit == b"0" else 1
    status = int(code)
    if not 100 <= status <= 599:
        raise ProtocolError(502, rules.STATUS_RANGE)
    bodiless = status < 200 or status == 204

    length: int | None = None
    coding = dated = False
    said = connection_size = 0
    nominating: list[bytes] | None = None
    upgrades: list[bytes] | None = None
    kept = [b"HTTP/1.1 " + code + (reason or b" ") + b"\r\n"]
    count = 0
    for line in raw.split(b"\r\n")[:-1]:
        count += 1
        if count > headers:
            raise ProtocolError(502, rules.FIELDS_MANY)
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        kind = _kind(name)
        if kind is None:
            kind = rules.kind(name)
        if kind == PLAIN:
            if len(name) == 4 and name.lower() == b"date":
                dated = True
            kept.append(name + b": " + value + b"\r\n")
        elif kind == LENGTH:
            if length is not None:
                raise ProtocolError(502, rules.LENGTH_TWICE)
            if coding:
                raise ProtocolError(502, rules.LENGTH_CODING)
            if not _LENGTH.fullmatch(value):
                raise ProtocolError(502, rules.LENGTH_BAD)
            length = int(value)
            if length > _LARGEST:
                raise ProtocolError(502, rules.LENGTH_BAD)
            if not bodiless:  # RFC 9110 §8.6: must not stand there
                kept.append(name + b": " + value + b"\r\n")
        elif kind == CONNECTION:
            connection_size += len(value)
            if connection_size > CONNECTION_SIZE:
                raise ProtocolError(502, rules.CONNECTION_LONG)
            option = rules.connection(value)
            said |= option
            if option & OTHER:
                if nominating is None:
                    nominating = []
                nominating.append(value)
        elif kind == CODING:
            if minor == 0:
                raise ProtocolError(502, rules.CODING_10)
            if coding:
                raise ProtocolError(502, rules.CODING_TWICE)
            if length is not None:
                raise ProtocolError(502, rules.LENGTH_CODING)
            if value.lower() != b"chunked":
                raise ProtocolError(502, rules.CODING_OTHER)
            if bodiless:
                raise ProtocolError(502, rules.CODING_BODILESS)
            coding = True
        elif kind == UPGRADE:
            if upgrades is None:
                upgrades = []
            upgrades.append(value)
        elif kind != DROP or name.lower() not in rules.KINDS:
            # What tells of clients, hosts and expectations means nothing in a response: the backend's own business.
            kept.append(name + b": " + value + b"\r\n")
    if empty is None:
        stop.next_line(data, found.end(4), header_size, count, headers, 502)
        return None

    block = b"".join(kept)
    if nominating is not None:
        block = rules.without(block, nominating)
    head = _NEW_RESPONSE(ResponseHead)
    head.status = status
    head.minor = minor
    head.keep_alive = not said & CLOSE and bool(minor or said & KEEP_ALIVE)
    if bodiless:
        head.length = 0
        if length:  # a body may follow that must not be there: what comes next cannot be told from it
            head.keep_alive = False
    elif head_request or status == 304:
        head.length = 0
    elif coding:
        head.length = CHUNKED
    elif length is not None:
        head.length = length
    else:
        head.length = UNTIL_CLOSE
        head.keep_alive = False
    head.dated = dated
    head.upgrade = None
    if upgrades is not None and status == 101 and said & SWITCH:
        head.upgrade = rules.upgrade(upgrades)
    head.block = block
    head.raw = raw
    head.size = found.end()
    return head
