"""
The variables of a CGI program (RFC 3875 §4), as php-fpm expects them.

Which script a request is for is decided by its path alone, decoded and normalised: what files there are is known to
the backend, and to nobody else. The first segment that ends as scripts do (C{.php}) names the script, and what follows
is its PATH_INFO. So C{/a/b.php/c/d.php} is C{/a/b.php} with the path C{/c/d.php}. (A match behind the last one would
let a client choose: C{/a.php/upload/x.php}.) Without such a segment::

    index: index.php     /forum/      /forum/index.php; a path that does not end with a slash is no script's: 404
    index: /index.php    /any/thing   /index.php, the front controller, without PATH_INFO; it looks at REQUEST_URI

That C{/upload/a.jpg/x.php} does not run C{a.jpg} is the backend's to see to, since it alone knows that the one is a
file and the other is not: php-fpm does, by its C{security.limit_extensions}, which is C{.php} unless someone has
changed it.

Of two fields that a program could not tell from each other (C{a-b}, C{a_b} both are C{HTTP_A_B}) only the one with
hyphens is passed on; so are only names of letters, digits and hyphens. There is no HTTP_PROXY (CVE-2016-5385).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from lemmytx.fastcgi.complaints import Allowance
from lemmytx.message import ProtocolError, RequestHead

NO_SCRIPT = "a path that names no script"
UNSAFE = "a path that no script may have"

_NAME = re.compile(rb"[A-Za-z0-9-]+")
_HYPHENS = bytes.maketrans(b"-abcdefghijklmnopqrstuvwxyz", b"_ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PORT = re.compile(rb":([0-9]{1,5})\Z")
_UNSAFE = re.compile(rb"[\x00-\x1f\x7f]|//|/\.\.?(?:/|\Z)")

#: Fields that are no variables of this kind: they are others (RFC 3875 §4.1), about a connection, or a trap.
_NOT_PASSED = frozenset(
    (
        b"connection", b"content-length", b"content-type", b"keep-alive", b"proxy", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip

_VERSIONS = {0: b"HTTP/1.0", 1: b"HTTP/1.1", 2: b"HTTP/2.0"}


@dataclass(frozen=True, slots=True)
class Application:
    """
    What scripts there are and what they are told.

    @ivar root: the folder of the scripts, absolute, on the backend's machine.
    @ivar index: the script for paths that name none: a file's name, for paths that end with a slash; or, with a slash
        before it, the one script for them all. Empty: there is none.
    @ivar split: how a script's name ends. Empty: the program behind is no script's interpreter and is told the whole
        path as PATH_INFO.
    @ivar params: more variables, which go before those made here; an empty value is an empty variable.
    @ivar buffer: bytes of a request's body that are held while its length is not known.
    @ivar allowance: for what is logged of what they write to STDERR.
    """

    root: bytes
    index: bytes = b"index.php"
    split: bytes = b".php"
    params: tuple[tuple[bytes, bytes], ...] = ()
    buffer: int = 1 << 20
    allowance: Allowance = field(default_factory=Allowance, compare=False)

    @classmethod
    def build(
        cls, root: str, index: str = "index.php", split: str = ".php", params: Iterable[tuple[str, str]] = (),
        buffer: int = 1 << 20,
    ) -> Application:  # fmt: skip
        """From text, as it stands in a configuration. A slash at the end of C{root} makes no difference."""
        return cls(
            root.encode().rstrip(b"/"),
            index.encode(),
            split.encode(),
            tuple((name.encode(), value.encode()) for name, value in params),
            buffer,
        )

    def script(self, path: bytes) -> tuple[bytes, bytes]:
        """
        Whom a path is for.

        @param path: decoded and normalised, as in L{RequestHead}.
        @return: SCRIPT_NAME and PATH_INFO.
        @raise ProtocolError: 404, no script's; 400, one that could lead out of the root, which is no normalised one.
        """
        if path == b"*":
            path = b"/"
        if path[:1] != b"/" or _UNSAFE.search(path):
            raise ProtocolError(400, UNSAFE)
        split, index = self.split, self.index
        if not split:
            return b"", path
        # Of a segment that is nothing but the ending, as in /.php, no script is made.
        at = path.find(split)
        while at >= 0:
            end = at + len(split)
            if path[end : end + 1] in (b"", b"/") and path[at - 1] != 47:
                return _safe(path[:end]), path[end:]
            at = path.find(split, at + 1)
        if index[:1] == b"/":
            return index, b""
        if index and path[-1] == 47:
            return _safe(path + index), b""
        raise ProtocolError(404, NO_SCRIPT)


def _safe(script: bytes) -> bytes:
    """Behind the script a backslash is text like any other; php-fpm looks for files at it as well."""
    if b"\\" in script:
        raise ProtocolError(400, UNSAFE)
    return script


def variables(
    application: Application,
    head: RequestHead,
    fields: bytes,
    length: int,
    client: str,
    secure: bool,
    client_port: int = 0,
    server: str = "",
) -> list[tuple[bytes, bytes]]:
    """
    All variables for one request.

    @param head: the request's, for what it wants.
    @param fields: the lines that a backend gets to see, each with its CRLF; other lines and an empty one do no harm.
    @param length: of the body, in bytes.
    @param client: the address of the client, behind trusted proxies the one they tell of; empty on a unix socket.
    @param secure: whether the client's own connection was encrypted.
    @param client_port: of that client; 0 where it is not known.
    @param server: the address that it has connected to; empty where that is not known.
    @return: names and values, each name once.
    @raise ProtocolError: 404 or 400, see L{Application.script}.
    """
    script, info = application.script(head.path)
    root = application.root
    found: dict[bytes, bytes] = {}
    measured = False  # there is a body, be it empty
    for line in fields.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            continue  # a request line, an empty one, or a name that would be ambiguous
        lower = name.lower()
        value = value.strip(b" \t")
        if lower in _NOT_PASSED:
            if lower == b"content-type":
                found[b"CONTENT_TYPE"] = value
            elif lower == b"content-length":
                measured = True
            continue
        key = b"HTTP_" + lower.translate(_HYPHENS)
        if key in found:
            value = found[key] + (b"; " if key == b"HTTP_COOKIE" else b", ") + value
        found[key] = value

    authority = found.get(b"HTTP_HOST", head.authority)
    port = _PORT.search(authority)
    target = head.target
    found[b"GATEWAY_INTERFACE"] = b"CGI/1.1"
    found[b"SERVER_SOFTWARE"] = b"lemmytx"
    found[b"SERVER_PROTOCOL"] = _VERSIONS[head.minor]
    found[b"SERVER_NAME"] = authority[: port.start()] if port else authority.removesuffix(b":")
    found[b"SERVER_PORT"] = port[1] if port else b"443" if secure else b"80"
    found[b"REMOTE_ADDR"] = client.encode() or b"unix:"
    if client_port:
        found[b"REMOTE_PORT"] = b"%d" % client_port
    if server:
        found[b"SERVER_ADDR"] = server.encode()
    found[b"REQUEST_METHOD"] = head.method
    found[b"REQUEST_SCHEME"] = b"https" if secure else b"http"
    found[b"REQUEST_URI"] = target
    found[b"QUERY_STRING"] = target.partition(b"?")[2]
    found[b"DOCUMENT_ROOT"] = root or b"/"
    found[b"DOCUMENT_URI"] = script + info
    found[b"SCRIPT_NAME"] = script
    found[b"SCRIPT_FILENAME"] = root + script
    found[b"PATH_INFO"] = info
    # No PATH_TRANSLATED: with cgi.fix_pathinfo=0, which careful people set, php-fpm takes it for the script to run, and
    # /x.php/upload/a.php would run the upload.
    if length or measured:
        found[b"CONTENT_LENGTH"] = b"%d" % length
    # PHP built with force-cgi-redirect, as it is everywhere, runs nothing without it.
    found[b"REDIRECT_STATUS"] = b"200"
    if secure:
        found[b"HTTPS"] = b"on"
    found.update(application.params)
    return list(found.items())
