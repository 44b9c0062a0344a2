"""
Heads: from lists of fields to HTTP/1.1 in bytes, and back.

Here is where RFC 9113 §8.2 and §8.3 are kept. On its way in, a list is gone through once: each name must be one that
HTTP/1.1 can carry, in lower case, and none that speaks of a connection; what has a colon must be known, come first and
come once. The values are then looked at all at once, in the text that they have become: whatever is no character of a
field value is counted there, and must be just the line ends that were put in.

What makes a list malformed is an error of the stream and never gets further (§8.1.1). What is merely wrong in a way
that HTTP/1.1 knows too, such as a broken escape in a path, is left for that codec, which answers 400.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from http import HTTPStatus

from lemmytx.http1 import rules, target
from lemmytx.http2.errors import Declined, Malformed
from lemmytx.message import ProtocolError

Field = tuple[bytes, bytes]

_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_method = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}").fullmatch
_host = re.compile(rb"(?:[a-z0-9\-_]+\.)*[a-z0-9\-_]+(?::[0-9]{1,4})?").fullmatch
_length = re.compile(rb"0|[1-9][0-9]{0,17}").fullmatch
_code = re.compile(rb"[1-5][0-9][0-9]").fullmatch

#: What may stand in a field value, and in a path with its query. translate() takes these out and leaves the others.
_TEXT = bytes((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
_PATH = bytes(byte for byte in range(0x21, 0x7F) if byte != 0x23)

#: What a field is to us. Those known to be nothing special need no look at their names.
_PLAIN, _METHOD, _SCHEME, _AUTHORITY, _TARGET, _PROTOCOL, _STATUS, _HOST, _LENGTH, _COOKIE, _TE, _NEVER = range(12)

_PLAIN_NAMES = (
    b"accept accept-charset accept-encoding accept-language accept-ranges access-control-allow-origin age allow "
    b"alt-svc authorization cache-control content-disposition content-encoding content-language content-location "
    b"content-range content-security-policy content-type date dnt etag expect expires from grpc-accept-encoding "
    b"grpc-encoding grpc-message grpc-status grpc-timeout if-match if-modified-since if-none-match if-range "
    b"if-unmodified-since last-modified link location max-forwards origin pragma priority proxy-authenticate "
    b"proxy-authorization range referer referrer-policy retry-after sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform "
    b"sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc sec-websocket-accept "
    b"sec-websocket-extensions sec-websocket-protocol sec-websocket-version server set-cookie "
    b"strict-transport-security trailer upgrade-insecure-requests user-agent vary via www-authenticate "
    b"x-content-type-options x-forwarded-for x-forwarded-host x-forwarded-proto x-frame-options x-request-id "
    b"x-requested-with"
).split()

#: Fields that speak of one connection (§8.2.2).
_OF_CONNECTIONS = (
    b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings",
)  # fmt: skip

_REQUEST_KINDS = {
    **dict.fromkeys(_PLAIN_NAMES, _PLAIN),
    **dict.fromkeys(_OF_CONNECTIONS, _NEVER),
    b":method": _METHOD,
    b":scheme": _SCHEME,
    b":authority": _AUTHORITY,
    b":path": _TARGET,
    b":protocol": _PROTOCOL,
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"cookie": _COOKIE,
    b"te": _TE,
}
_RESPONSE_KINDS = {
    **dict.fromkeys((*_PLAIN_NAMES, b"cookie", b"host"), _PLAIN),
    **dict.fromkeys((*_OF_CONNECTIONS, b"te"), _NEVER),
    b":status": _STATUS,
    b"content-length": _LENGTH,
}

#: What we do not send on: those, and what we set ourselves.
_NOT_SENT = frozenset((*_OF_CONNECTIONS, b"te", b"host"))

_COLON = b": "
_CRLF = b"\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_SPACES = b" \t"
_TE_TRAILERS = (b"te", b"trailers")
_DEFAULT_PORT = {b"http": b":80", b"https": b":443"}

_STATUS_LINES = {b"%d" % status: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


def request(fields: list[Field], ended: bool, extended: bool) -> tuple[bytes, int, bytes | None]:
    """
    A request's list of fields as a head.

    @param ended: whether no body follows.
    @param extended: whether we have offered extended CONNECT (RFC 8441).
    @return: the head with its empty line; how long the body is said to be, -1 where it is not said; the protocol that
        an extended CONNECT asks for.
    @raise Malformed: it is none.
    @raise Declined: it is a plain CONNECT (405), or one for a protocol that we do not know (501).
    """
    method = scheme = authority = path = protocol = host = length = cookies = None
    crumbs_at = 0
    lines: list[bytes] = []
    kind_of = _REQUEST_KINDS.get
    for name, value in fields:
        kind = kind_of(name)
        if not kind:
            if kind is None and not _token(name):
                raise Malformed("a field name that is none, or not in lower case")
            lines += (name, _COLON, value, _CRLF)
        elif kind <= _PROTOCOL:
            if lines or host is not None:
                raise Malformed("a field with a colon behind one without")
            if kind == _METHOD and method is None:
                method = value
            elif kind == _TARGET and path is None:
                path = value
            elif kind == _AUTHORITY and authority is None:
                authority = value
            elif kind == _SCHEME and scheme is None:
                scheme = value
            elif kind == _PROTOCOL and protocol is None and extended:
                # Its letters' case means nothing (RFC 9110 §7.8), and clients pass on what they were asked for.
                protocol = value.lower()
            else:
                raise Malformed("a field with a colon that is there twice, or unknown")
        elif kind == _COOKIE:
            if cookies is None:
                cookies = [value]
                crumbs_at = len(lines) + 2
                lines += (name, _COLON, value, _CRLF)
            else:
                cookies.append(value)
        elif kind == _HOST:
            if host is not None:
                raise Malformed("more than one host")
            host = value
        elif kind == _LENGTH:
            if length is not None or not _length(value):
                raise Malformed("more than one content-length, or one that is no number")
            length = int(value)
            lines += (name, _COLON, value, _CRLF)
        elif kind == _TE:
            if value.lower() != b"trailers":
                raise Malformed("te with something else than trailers")
            lines += (name, _COLON, value, _CRLF)
        else:
            raise Malformed("a field that speaks of a connection")
    if cookies is not None and len(cookies) > 1:  # §8.2.3
        for crumb in cookies:
            if crumb != crumb.strip(_SPACES):
                raise Malformed("space around a field value")
        lines[crumbs_at] = b"; ".join(cookies)
    text = _checked(lines)

    if method is None or not _method(method):
        raise Malformed("no method, or one that is none")
    if authority is None:
        authority = host
    elif (
        host is not None
        and host != authority
        and not target.same_authority(host, authority, _DEFAULT_PORT.get(scheme or b"", b":"))
    ):
        raise Malformed("a host that differs from :authority")
    if not authority:
        raise Malformed("neither :authority nor host, or an empty one")
    if not _host(authority) or len(authority) > 253:
        try:
            target.authority(authority)
        except ProtocolError:
            raise Malformed("an :authority or host that is none") from None
    if method == b"CONNECT" and protocol is None:
        if scheme is not None or path is not None:
            raise Malformed("CONNECT with :scheme or :path")
        raise Declined(b"405")
    if scheme != b"https" and scheme != b"http":
        raise Malformed("no :scheme, or another than http and https")
    if not path or path.translate(None, _PATH) or (path[0] != 47 and (path != b"*" or method != b"OPTIONS")):
        raise Malformed("no :path, or one that is none")
    if protocol is not None:
        return _tunnel(method, authority, path, protocol, text, length, ended), -1, protocol
    if length is None:
        if ended:
            return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method, path, authority, text), 0, None
        return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n" % (method, path, authority, text, _CHUNKED), -1, None
    if ended and length:
        raise Malformed("a content-length without a body")
    return b"%b %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (method, path, authority, text), length, None


def _tunnel(
    method: bytes, authority: bytes, path: bytes, protocol: bytes, text: bytes, length: int | None, ended: bool
) -> bytes:
    """
    An extended CONNECT (RFC 8441 §5) as the request to upgrade that it stands for.

    @raise Malformed: it is none.
    @raise Declined: 501, for another protocol than WebSocket.
    """
    if method != b"CONNECT" or ended or length is not None or path == b"*":
        raise Malformed("an extended CONNECT that is none")
    if protocol != b"websocket":
        raise Declined(b"501")
    if b"sec-websocket-key:" in text:
        kept = [line for line in text.splitlines(True) if not line.startswith(b"sec-websocket-key:")]
        text = b"".join(kept)
    # The key is for an intermediary that replays what it has kept; between two that speak HTTP/2 there is none.
    return (
        b"GET %b HTTP/1.1\r\nhost: %b\r\n%bconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: %b\r\n\r\n"
        % (path, authority, text, b64encode(os.urandom(16)))
    )


def response(fields: list[Field], ended: bool, method: bytes) -> tuple[bytes, int, int]:
    """
    A response's list of fields as a head.

    @param ended: whether no body follows.
    @param method: what the request's was.
    @return: the head with its empty line; the status; how long the body is said to be, -1 where it is not said.
    @raise Malformed: it is none.
    """
    code = length = None
    lines: list[bytes] = []
    kind_of = _RESPONSE_KINDS.get
    for name, value in fields:
        kind = kind_of(name)
        if not kind:
            if kind is None and not _token(name):
                raise Malformed("a field name that is none, or not in lower case")
            lines += (name, _COLON, value, _CRLF)
        elif kind == _STATUS:
            if lines or code is not None:
                raise Malformed("a :status behind other fields")
            code = value
        elif kind == _LENGTH:
            if length is not None or not _length(value):
                raise Malformed("more than one content-length, or one that is no number")
            length = int(value)
            lines += (name, _COLON, value, _CRLF)
        else:
            raise Malformed("a field that speaks of a connection")
    text = _checked(lines)
    if code is None:
        raise Malformed("no :status")
    line = _STATUS_LINES.get(code)
    if line is None:
        if not _code(code):
            raise Malformed("a :status that is none")
        line = b"HTTP/1.1 %b \r\n" % code
    status = int(code)
    if status < 200:
        if ended or status == 101:  # §8.6
            raise Malformed("an informational response that ends the stream, or 101")
        return b"%b%b\r\n" % (line, text), status, -1
    if status == 204 or status == 304 or method == b"HEAD" or (method == b"CONNECT" and status < 300):
        return b"%b%b\r\n" % (line, text), status, -1
    if length is None:
        if ended:
            return b"%b%bcontent-length: 0\r\n\r\n" % (line, text), status, 0
        return b"%b%b%b\r\n" % (line, text, _CHUNKED), status, -1
    if ended and length:
        raise Malformed("a content-length without a body")
    return b"%b%b\r\n" % (line, text), status, length


def trailers(fields: list[Field]) -> bytes:
    """
    A list of trailer fields as lines, those alone that may be forwarded.

    @raise Malformed: it is none.
    """
    lines: list[bytes] = []
    for name, value in fields:
        if not _token(name) or name in _OF_CONNECTIONS:
            raise Malformed("a trailer with a colon, or with a name that no trailer has")
        lines += (name, _COLON, value, _CRLF)
    return rules.trailers(_checked(lines))


def _checked(lines: list[bytes]) -> bytes:
    """
    The text of a head.

    @param lines: name, colon, value, line end, and so on. The names have been looked at.
    @raise Malformed: a value has in it what cannot be in one, or space around it (§8.2.1).
    """
    text = b"".join(lines)
    # What is left are control characters: our own line ends, two bytes for each four pieces, or more.
    if len(text.translate(None, _TEXT)) * 2 != len(lines):
        raise Malformed("a control character in a field value")
    if b" \r\n" in text or b"\t\r\n" in text or b":  " in text or b": \t" in text:  # or it is empty, or has such in it
        for value in lines[2::4]:
            if value != value.strip(_SPACES):
                raise Malformed("space around a field value")
    return text


def request_fields(head: bytes, scheme: bytes, protocol: bytes | None) -> tuple[bytes, list[Field]]:
    """
    A request's head as a list of fields, without those that speak of the connection.

    @param head: request line in origin-form, field lines, perhaps the empty line.
    @param protocol: to ask for by extended CONNECT, in place of the method and what a WebSocket's GET has for HTTP/1.1.
    @return: the method, and the list.
    """
    lines = head.split(_CRLF)
    method, path, _ = lines[0].split(b" ")
    authority = b""
    fields: list[Field] = []
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in _NOT_SENT:
            if name and (protocol is None or name != b"sec-websocket-key"):
                fields.append((name, value.strip(_SPACES)))
        elif name == b"host":
            authority = value.strip(_SPACES)
    fields.append(_TE_TRAILERS)
    if protocol is not None:
        method = b"CONNECT"
        fields.insert(0, (b":protocol", protocol))
    # An HTTP/1.0 client may have named no host, and then there is nothing to put there (§8.3.1).
    front = [(b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", path)]
    if not authority:
        del front[2]
    return method, front + fields


def response_fields(head: bytes) -> tuple[bytes, list[Field]]:
    """
    A response's head as a list of fields, without those that speak of the connection.

    @param head: status line, field lines, perhaps the empty line.
    @return: the status, and the list.
    """
    status_line, _, lines = head.partition(_CRLF)
    status = status_line[9:12]
    return status, [(b":status", status), *trailer_fields(lines)]


def trailer_fields(lines: bytes) -> list[Field]:
    """
    Field lines as a list of fields, without those that speak of the connection.

    @param lines: each with its CRLF, perhaps the empty line; may be empty.
    """
    fields: list[Field] = []
    for line in lines.split(_CRLF):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in _NOT_SENT and name:
            fields.append((name, value.strip(_SPACES)))
    return fields
