"""
What both twins of the codec know: which fields mean something to a proxy, and the rare cases, decided once, here.

The twins (L{lemmytx.http1._pure}, C{_compiled}) must give the same answer for every input. What happens on each message
they do on their own; whatever is seldom enough to be allowed a few microseconds they ask here, and so cannot differ.
"""

from __future__ import annotations

import re

from lemmytx.message import ProtocolError

#: Kinds of fields. L{PLAIN} is forwarded as it is; all others are looked at.
PLAIN = 0
DROP = 1
HOST = 2
LENGTH = 3
CODING = 4
CONNECTION = 5
UPGRADE = 6
EXPECT = 7
CLAIM = 8

#: Fields that a proxy understands, by their names in lower case. The hop-by-hop ones are RFC 9110 §7.6.1 and, for
#: connections that someone before us kept alive, its predecessors. Proxy: a request field of that name becomes the
#: variable HTTP_PROXY in a CGI program ("httpoxy", CVE-2016-5385).
KINDS = {
    b"te": DROP,
    b"proxy": DROP,
    b"keep-alive": DROP,
    b"http2-settings": DROP,
    b"proxy-connection": DROP,
    b"proxy-authenticate": DROP,
    b"proxy-authorization": DROP,
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"expect": EXPECT,
    b"forwarded": CLAIM,
    b"x-real-ip": CLAIM,
    b"x-request-id": CLAIM,
}

#: And every field whose name begins so is a L{CLAIM}.
CLAIM_PREFIX = b"x-forwarded-"

#: What a Connection field can say, as bits; OTHER: it names a field that is to be removed.
CLOSE = 1
KEEP_ALIVE = 2
SWITCH = 4
OTHER = 8

#: Bytes that the values of all Connection fields may have. Ten options are many; ten thousand, which a head has room
#: for, cost milliseconds.
CONNECTION_SIZE = 1024

#: Options of Connection that name fields which go in any case.
_GONE = frozenset(
    (b"te", b"http2-settings", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"proxy")
)

#: Fields of framing, routing and loop detection; naming them in Connection removes them for nobody
#: (RFC 9110 §7.6.1 forbids to name fields that are meant for all recipients). Content-* as well.
_KEPT = frozenset((b"host", b"transfer-encoding", b"expect", b"max-forwards", b"via"))

#: What must not be merged from a trailer (RFC 9110 §6.5.1): framing, routing, modifiers, authentication, content.
#: Content-* and everything in L{KINDS} as well.
_NOT_IN_TRAILERS = frozenset(
    (
        b"accept", b"accept-charset", b"accept-encoding", b"accept-language", b"age", b"authentication-info",
        b"authorization", b"cache-control", b"cookie", b"date", b"expires", b"if-match", b"if-modified-since",
        b"if-none-match", b"if-range", b"if-unmodified-since", b"location", b"max-forwards", b"pragma",
        b"proxy-authentication-info", b"range", b"retry-after", b"set-cookie", b"trailer", b"vary", b"via",
        b"www-authenticate",
    )
)  # fmt: skip

_KNOWN_CODINGS = re.compile(rb"(?:(?:(?:x-)?(?:gzip|compress)|deflate)[ \t]*+,[ \t]*+)++chunked", re.IGNORECASE)

#: Reasons, so that both twins give the same. Where they name no section it is RFC 9112.
BARE_CR = "a CR that is not followed by LF (section 2.2)"
BARE_LF = "a LF without CR before it (section 2.2)"
METHOD_BYTE = "a byte that no method may have"
METHOD_LONG = "a method of more than 32 bytes"
METHOD_EMPTY = "no method at the start of the request line"
METHOD_CASE = "a standard method that is not in upper case (methods are case-sensitive)"
METHOD_CONNECT = "CONNECT, which a reverse proxy does not do"
TARGET_BYTE = "a byte that no request target may have"
TARGET_EMPTY = "no target in the request line"
TARGET_FORM = "a target that is neither a path nor an absolute http or https URL"
TARGET_STAR = "a target of * with a method other than OPTIONS"
VERSION = "a malformed HTTP version"
VERSION_OTHER = "an HTTP version other than 1.0 and 1.1"
LINE_LONG = "a request line that is too long"
HEAD_LONG = "a head that is too long"
FIELDS_MANY = "too many fields"
FOLDED = "a line that begins with a space or tab: folding is obsolete (section 5.2)"
NAME_EMPTY = "a field without a name"
NAME_SPACE = "a space or tab before the colon of a field (section 5.1)"
NAME_BYTE = "a byte that no field name may have"
VALUE_BYTE = "a control character in a field value"
HOST_TWICE = "more than one Host (section 3.2)"
HOST_MISSING = "no Host (section 3.2)"
HOST_BAD = "a malformed Host or authority (section 3.2)"
HOST_OTHER = "a Host that differs from the authority of the target (section 3.2.2)"
LENGTH_TWICE = "more than one Content-Length (section 6.3)"
LENGTH_BAD = "a Content-Length that is not a plain decimal number (RFC 9110 section 8.6)"
LENGTH_CODING = "Content-Length together with Transfer-Encoding (section 6.3)"
CODING_TWICE = "more than one Transfer-Encoding (section 6.1)"
CODING_10 = "Transfer-Encoding in an HTTP/1.0 message (section 6.1)"
CODING_OTHER = "a transfer coding other than chunked alone"
CODING_UNKNOWN = "a Transfer-Encoding that is not chunked (section 6.3)"
CODING_BODILESS = "Transfer-Encoding in a 1xx or 204 response (section 6.1)"
EXPECTATION = "an expectation other than 100-continue (RFC 9110 section 10.1.1)"
STATUS_LINE = "a malformed status line (section 4)"
STATUS_RANGE = "a status outside 100 to 599 (RFC 9110 section 15)"
REASON_BYTE = "a control character in the reason phrase (section 4)"
CONNECTION_LONG = "Connection fields of more than 1024 bytes"
CHUNK_SIZE = "a malformed chunk size (section 7.1)"
CHUNK_LARGE = "a chunk size of 2^63 or more (section 7.1)"
CHUNK_LINE = "a chunk size line of more than 256 bytes"
CHUNK_EXTENSION = "a malformed chunk extension (section 7.1.1)"
CHUNK_OVERHEAD = "more chunk extensions than the data is worth"
CHUNK_END = "a chunk whose data does not end with CRLF (section 7.1)"
TRAILERS_LONG = "a trailer section that is too long"

#: Methods whose lower-case spelling some backends take for the same; letting it through would lead around routes by
#: method.
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))

#: Longest request line, with its CRLF, whatever the head may have. RFC 9112 §3 asks for 8000 or more; nginx has 8k.
REQUEST_LINE = 8192


def kind(name: bytes) -> int:
    """
    What a field is to a proxy. A name that is one of ours but for underscores is to be dropped: CGI and WSGI know no
    difference between C{X_Forwarded_For} and C{X-Forwarded-For}, and would believe the client's.

    @param name: as received.
    """
    folded = name.lower().replace(b"_", b"-")
    found = CLAIM if folded.startswith(CLAIM_PREFIX) else KINDS.get(folded, PLAIN)
    if found and b"_" in name:
        return DROP
    return found


def connection(value: bytes) -> int:
    """
    @param value: of one Connection field.
    @return: L{CLOSE}, L{KEEP_ALIVE}, L{SWITCH}, L{OTHER}, or-ed.
    """
    said = 0
    for option in value.lower().split(b","):
        option = option.strip(b" \t")
        if option == b"close":
            said |= CLOSE
        elif option == b"keep-alive":
            said |= KEEP_ALIVE
        elif option == b"upgrade":
            said |= SWITCH
        elif option and option not in _GONE:
            said |= OTHER
    return said


def without(block: bytes, values: list[bytes]) -> bytes:
    """
    Remove the fields that Connection names (RFC 9110 §7.6.1), except those of framing, routing and content.

    @param block: lines, each with its CRLF; a status line may be the first.
    @param values: of the Connection fields.
    """
    named = {option.strip(b" \t") for value in values for option in value.lower().split(b",")} - _KEPT
    kept = []
    for line in block.split(b"\r\n")[:-1]:
        name = line.partition(b":")[0].lower()
        # A name has no space, a status line has: "Connection: HTTP/1.1 200 OK" must not remove that.
        if name not in named or b" " in name or name.startswith(b"content-"):
            kept.append(line + b"\r\n")
    return b"".join(kept)


def refuse_coding(value: bytes) -> ProtocolError:
    """
    The error for a Transfer-Encoding that is not exactly C{chunked}: 501 where it is well-formed, ends with chunked
    and is merely beyond us (RFC 9112 §6.1), 400 where nobody could say how long the body is.
    """
    if _KNOWN_CODINGS.fullmatch(value):
        return ProtocolError(501, CODING_OTHER)
    return ProtocolError(400, CODING_UNKNOWN)


def upgrade(values: list[bytes]) -> bytes | None:
    """
    @param values: of the Upgrade fields.
    @return: what to ask the backend for; L{None} if nothing is left. A wish for h2c is not passed on: a backend that
        grants it would speak past every check in here.
    """
    value = b", ".join(found for found in values if found)
    for option in value.lower().split(b","):
        if option.strip(b" \t").partition(b"/")[0] == b"h2c":
            return None
    return value or None


def trailers(raw: bytes) -> bytes:
    """
    @param raw: trailer lines that a codec has checked, each with its CRLF.
    @return: those that may be forwarded (RFC 9110 §6.5.1), as C{name: value} lines.
    """
    kept = []
    for line in raw.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        folded = name.lower().replace(b"_", b"-")
        if kind(name) == PLAIN and folded not in _NOT_IN_TRAILERS and not folded.startswith(b"content-"):
            kept.append(name + b": " + value.strip(b" \t") + b"\r\n")
    return b"".join(kept)
