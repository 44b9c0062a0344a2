"""The variables of CGI programs: which script a path is for, and what it is told."""

from __future__ import annotations

import posixpath

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.fastcgi import parameters
from lemmytx.fastcgi.parameters import Application, variables
from lemmytx.http1 import codec
from lemmytx.message import ProtocolError
from lemmytx.proxy.forward import Forwarding

DIRECTORY = Application.build("/srv/www/")
FRONT = Application.build("/srv/www", "/index.php")
NOTHING = Application.build("/srv/www", "")
WHOLE = Application.build("/srv/www", split="")

#: A path as the codec gives it; script and path info in each of the four.
SCRIPTS: list[tuple[bytes, bytes | None, bytes, bytes | None]] = [
    # path, with index.php (script + "|" + info), with /index.php, without an index
    (b"/", b"/index.php|", b"/index.php|", None),
    (b"/a", None, b"/index.php|", None),
    (b"/a/", b"/a/index.php|", b"/index.php|", None),
    (b"/a/b/", b"/a/b/index.php|", b"/index.php|", None),
    (b"/x.php", b"/x.php|", b"/x.php|", b"/x.php|"),
    (b"/x.php/", b"/x.php|/", b"/x.php|/", b"/x.php|/"),
    (b"/x.php/a/b", b"/x.php|/a/b", b"/x.php|/a/b", b"/x.php|/a/b"),
    (b"/x.php/a/b/", b"/x.php|/a/b/", b"/x.php|/a/b/", b"/x.php|/a/b/"),
    (b"/a/b/x.php/c", b"/a/b/x.php|/c", b"/a/b/x.php|/c", b"/a/b/x.php|/c"),
    (b"/x.php/y.php", b"/x.php|/y.php", b"/x.php|/y.php", b"/x.php|/y.php"),
    (b"/x.php/y.php/z", b"/x.php|/y.php/z", b"/x.php|/y.php/z", b"/x.php|/y.php/z"),
    (b"/upload/a.jpg/x.php", b"/upload/a.jpg/x.php|", b"/upload/a.jpg/x.php|", b"/upload/a.jpg/x.php|"),
    (b"/x.phpx", None, b"/index.php|", None),
    (b"/x.phpx/", b"/x.phpx/index.php|", b"/index.php|", None),
    (b"/x.phpx/y.php", b"/x.phpx/y.php|", b"/x.phpx/y.php|", b"/x.phpx/y.php|"),
    (b"/x.php.jpg", None, b"/index.php|", None),
    (b"/x.php.php/a", b"/x.php.php|/a", b"/x.php.php|/a", b"/x.php.php|/a"),
    (b"/x.php~", None, b"/index.php|", None),
    (b"/x.php ", None, b"/index.php|", None),
    (b"/x.php.", None, b"/index.php|", None),
    (b"/x.php;a=b", None, b"/index.php|", None),
    (b"/x.PHP", None, b"/index.php|", None),
    (b"/x.php5", None, b"/index.php|", None),
    (b"/xphp", None, b"/index.php|", None),
    (b"/php", None, b"/index.php|", None),
    (b"/.php", None, b"/index.php|", None),
    (b"/.php/x.php", b"/.php/x.php|", b"/.php/x.php|", b"/.php/x.php|"),
    (b"/a/.php/b", None, b"/index.php|", None),
    (b"/...php", b"/...php|", b"/...php|", b"/...php|"),
    (b"/\xc3\xa4 b.php/c d", b"/\xc3\xa4 b.php|/c d", b"/\xc3\xa4 b.php|/c d", b"/\xc3\xa4 b.php|/c d"),
    (b"/x.php?y", None, b"/index.php|", None),
    (b"*", b"/index.php|", b"/index.php|", None),
]

#: What no codec gives; nor may anything come of it if one did.
UNSAFE = (
    b"", b"x.php", b"/../x.php", b"/a/../x.php", b"/x.php/..", b"/x.php/../", b"/./x.php", b"/x.php/.", b"//x.php",
    b"/x.php//a", b"/x.php\0", b"/x\0.php", b"/x.php\0.jpg", b"/x.jpg\0.php", b"/x.php/\n", b"/x\r.php", b"/x.php/\x7f",
)  # fmt: skip

#: Fields that could be taken for other variables.
NAMES = (
    b"Proxy", b"HTTPS", b"Content-Length", b"Content_Length", b"Script-Filename", b"Script_Filename", b"Remote-Addr",
    b"PHP-VALUE", b"PHP_ADMIN_VALUE", b"Http-Proxy", b"Redirect-Status", b"Host",
)  # fmt: skip


def ask(
    request: bytes = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    application: Application = FRONT,
    length: int | None = None,
    client: str = "192.0.2.7",
    secure: bool = False,
    forwarding: Forwarding | None = None,
    minor: int | None = None,
) -> dict[bytes, bytes]:
    """The variables for a request as it comes in, with what the proxy makes of it on the way."""
    head = codec.request(request)
    assert head is not None
    if minor is not None:
        head.minor = minor
    rules = forwarding or Forwarding(x_forwarded=False, via=None, request_id=False)
    wire = rules.compose(head, head.authority, rules.peer(client, b"https" if secure else b"http", ()), b"id-1")
    found = variables(application, head, wire, max(head.length, 0) if length is None else length, client, secure)
    assert len(dict(found)) == len(found), "a name that is there twice"
    return dict(found)


def with_fields(*lines: bytes) -> dict[bytes, bytes]:
    """The HTTP_* variables, without the Host, for these fields."""
    found = ask(b"\r\n".join((b"GET / HTTP/1.1", b"Host: a.example", *lines, b"", b"")))
    return {name: value for name, value in found.items() if name.startswith(b"HTTP_") and name != b"HTTP_HOST"}


class ScriptTests(SynchronousTestCase):
    """Which script a path is for."""

    def test_table(self) -> None:
        """Script and path info are what the table says, or there is no script and the answer is 404."""
        for path, *expected in SCRIPTS:
            for application, wanted in zip((DIRECTORY, FRONT, NOTHING), expected, strict=True):
                try:
                    found: bytes | None = b"|".join(application.script(path))
                except ProtocolError as error:
                    self.assertEqual((error.status, error.reason), (404, parameters.NO_SCRIPT), path)
                    found = None
                self.assertEqual(found, wanted, (path, application))

    def test_whole_path(self) -> None:
        """A program that is no script's interpreter gets the whole path as PATH_INFO."""
        for path in (b"/", b"/a/x.php/b", b"/a/"):
            self.assertEqual(WHOLE.script(path), (b"", path))
        self.assertEqual(WHOLE.script(b"*"), (b"", b"/"))

    def test_unsafe(self) -> None:
        """What could lead out of the root, or be cut in the middle by the other side, is a 400 in any case."""
        for path in UNSAFE:
            for application in (DIRECTORY, FRONT, NOTHING, WHOLE):
                with self.assertRaises(ProtocolError) as caught:
                    application.script(path)
                self.assertEqual(caught.exception.status, 400, path)

    def test_backslashes(self) -> None:
        """A backslash, which php-fpm takes for a slash where it looks for files, may only stand behind the script."""
        self.assertEqual(FRONT.script(b"/x.php/a\\b"), (b"/x.php", b"/a\\b"))
        self.assertEqual(FRONT.script(b"/App\\Shop"), (b"/index.php", b""))
        for application, path in ((FRONT, b"/a\\x.php"), (DIRECTORY, b"/a\\x.php/b"), (DIRECTORY, b"/a\\b/")):
            with self.assertRaises(ProtocolError) as caught:
                application.script(path)
            self.assertEqual(caught.exception.status, 400, path)

    def test_escapes(self) -> None:
        """Escapes are no way around: what counts is the path as the codec has decoded and resolved it, once."""
        for target, expected in (
            (b"/%78.php/%61", (b"/x.php", b"/a")),
            (b"/x.ph%70", (b"/x.php", b"")),
            (b"/x.php%2Fa", (b"/x.php", b"/a")),
            (b"/x%2ephp/a", (b"/x.php", b"/a")),
            (b"/a/%2e%2e/x.php", (b"/x.php", b"")),
            (b"/x.php/../y.php", (b"/y.php", b"")),
            (b"/x.php%3Fy", (b"/index.php", b"")),
            (b"/x.php%2500", (b"/index.php", b"")),
            (b"//x.php//a", (b"/x.php", b"/a")),
            (b"/y?/x.php", (b"/index.php", b"")),
        ):
            head = codec.request(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            assert head is not None
            self.assertEqual(FRONT.script(head.path), expected, target)
        for target in (b"/x.php%00", b"/x.php%00.jpg", b"/x.jpg%00.php", b"/%2e%2e/x.php"):
            with self.assertRaises(ProtocolError, msg=target):
                codec.request(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")

    @settings(deadline=None, derandomize=True, max_examples=500)
    @given(st.lists(st.sampled_from((b"/", b"..", b".", b".php", b"x", b"%2e", b"%2F", b"%5c", b"%00", b"a.jpg"))))
    def test_never_out_of_the_root(self, words: list[bytes]) -> None:
        """No target at all makes a script that lies outside of the root or does not end as scripts do."""
        try:
            head = codec.request(b"GET /" + b"".join(words) + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        except ProtocolError:
            return
        assert head is not None
        for application in (DIRECTORY, FRONT):
            try:
                found = dict(variables(application, head, b"", 0, "", False))
            except ProtocolError as error:
                self.assertTrue((error.status == 400 and b"\\" in head.path) or application is DIRECTORY, error)
                continue
            script = found[b"SCRIPT_FILENAME"].decode()
            self.assertEqual(posixpath.normpath(script), script)
            self.assertTrue(script.startswith("/srv/www/") and script.endswith(".php"), script)
            info = found[b"PATH_INFO"]
            self.assertFalse(info and (info[:1] != b"/" or b"/../" in info + b"/"), info)


class VariablesTests(SynchronousTestCase):
    """What a script is told."""

    def test_all(self) -> None:
        """A plain request has these variables and no others."""
        found = ask(b"GET /blog/?q=1&r=%20?x HTTP/1.1\r\nHost: Shop.example:8080\r\nAccept: */*\r\n\r\n", DIRECTORY)
        self.assertEqual(found, {
            b"HTTP_HOST": b"Shop.example:8080", b"HTTP_ACCEPT": b"*/*",
            b"GATEWAY_INTERFACE": b"CGI/1.1", b"SERVER_SOFTWARE": b"lemmytx", b"SERVER_PROTOCOL": b"HTTP/1.1",
            b"SERVER_NAME": b"Shop.example", b"SERVER_PORT": b"8080", b"REMOTE_ADDR": b"192.0.2.7",
            b"REQUEST_METHOD": b"GET", b"REQUEST_SCHEME": b"http", b"REQUEST_URI": b"/blog/?q=1&r=%20?x",
            b"QUERY_STRING": b"q=1&r=%20?x", b"DOCUMENT_ROOT": b"/srv/www", b"DOCUMENT_URI": b"/blog/index.php",
            b"SCRIPT_NAME": b"/blog/index.php", b"SCRIPT_FILENAME": b"/srv/www/blog/index.php", b"PATH_INFO": b"",
            b"REDIRECT_STATUS": b"200",
        })  # fmt: skip

    def test_path(self) -> None:
        """The script gets its own name, the path behind it, decoded, and the target as the client wrote it."""
        found = ask(b"GET /a%20b.php/c%2Fd?e HTTP/1.1\r\nHost: a.example\r\n\r\n")
        self.assertEqual(
            [found[name] for name in (b"SCRIPT_FILENAME", b"SCRIPT_NAME", b"PATH_INFO")],
            [b"/srv/www/a b.php", b"/a b.php", b"/c/d"],
        )
        self.assertEqual((found[b"DOCUMENT_URI"], found[b"REQUEST_URI"]), (b"/a b.php/c/d", b"/a%20b.php/c%2Fd?e"))

    def test_no_other_file(self) -> None:
        """No variable names a file but the script: php-fpm with cgi.fix_pathinfo=0 would run PATH_TRANSLATED."""
        found = ask(b"GET /a.php/upload/b.php HTTP/1.1\r\nHost: a.example\r\n\r\n")
        self.assertNotIn(b"PATH_TRANSLATED", found)
        files = {value for value in found.values() if value.startswith(b"/srv/www/")}
        self.assertEqual(files, {b"/srv/www/a.php"})

    def test_root(self) -> None:
        """A slash at the end of the root makes no difference, and the root may be that of the machine."""
        for root, folder in (("/srv", b"/srv"), ("/srv/", b"/srv"), ("/", b"")):
            found = ask(application=Application.build(root, "/i.php"))
            self.assertEqual(found[b"SCRIPT_FILENAME"], folder + b"/i.php")
            self.assertEqual(found[b"DOCUMENT_ROOT"], folder or b"/")

    def test_encrypted(self) -> None:
        """HTTPS, the scheme and the port say whether the client's connection is encrypted; a field cannot."""
        found = ask(secure=True)
        self.assertEqual((found[b"HTTPS"], found[b"REQUEST_SCHEME"], found[b"SERVER_PORT"]), (b"on", b"https", b"443"))
        found = ask(b"GET / HTTP/1.1\r\nHost: a.example\r\nHTTPS: on\r\nX-Forwarded-Proto: https\r\n\r\n")
        self.assertEqual((found.get(b"HTTPS"), found[b"REQUEST_SCHEME"], found[b"SERVER_PORT"]), (None, b"http", b"80"))
        self.assertNotIn(b"HTTP_X_FORWARDED_PROTO", found)

    def test_authority(self) -> None:
        """Name and port of the server are those that the client asked for."""
        for host, name, port in (
            (b"a.example", b"a.example", b"80"),
            (b"a.example:81", b"a.example", b"81"),
            (b"a.example:", b"a.example", b"80"),
            (b"[::1]", b"[::1]", b"80"),
            (b"[::1]:81", b"[::1]", b"81"),
        ):
            found = ask(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            self.assertEqual((found[b"SERVER_NAME"], found[b"SERVER_PORT"]), (name, port), host)

    def test_versions(self) -> None:
        """The protocol is the client's."""
        self.assertEqual(ask(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")[b"SERVER_PROTOCOL"], b"HTTP/1.0")
        self.assertEqual(ask(minor=2)[b"SERVER_PROTOCOL"], b"HTTP/2.0")

    def test_client(self) -> None:
        """REMOTE_ADDR is the client's address; on a unix socket there is none."""
        self.assertEqual(ask(client="2001:db8::7")[b"REMOTE_ADDR"], b"2001:db8::7")
        self.assertEqual(ask(client="")[b"REMOTE_ADDR"], b"unix:")

    def test_body(self) -> None:
        """A body has a length and, where it is given, a type, once each; without a body there is neither."""
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: a/b; c=d\r\n"
        found = ask(post + b"Content-Length: 7\r\n\r\n")
        self.assertEqual((found[b"CONTENT_LENGTH"], found[b"CONTENT_TYPE"]), (b"7", b"a/b; c=d"))
        self.assertEqual([name for name in found if b"CONTENT" in name], [b"CONTENT_TYPE", b"CONTENT_LENGTH"])
        self.assertEqual(ask(post + b"Content-Length: 0\r\n\r\n")[b"CONTENT_LENGTH"], b"0")
        chunked = ask(post + b"Transfer-Encoding: chunked\r\n\r\n", length=12)
        self.assertEqual(chunked[b"CONTENT_LENGTH"], b"12")
        self.assertNotIn(b"HTTP_TRANSFER_ENCODING", chunked)
        self.assertFalse([name for name in ask() if b"CONTENT" in name])

    def test_fields(self) -> None:
        """Fields become variables; values of one that came more than once are joined, cookies as cookies are."""
        self.assertEqual(
            with_fields(b"X-Test-1: a", b"accept: b", b"x-TEST-1:  c ", b"Cookie: d=1", b"Cookie: e=2", b"Empty:"),
            {b"HTTP_X_TEST_1": b"a, c", b"HTTP_ACCEPT": b"b", b"HTTP_COOKIE": b"d=1; e=2", b"HTTP_EMPTY": b""},
        )

    def test_fields_that_are_none(self) -> None:
        """What is ambiguous, a trap, or about the connection does not become a variable."""
        self.assertEqual(
            with_fields(
                b"Proxy: http://evil.example", b"proxy: x", b"Content_Length: 5", b"Content_Type: x", b"X_Real_IP: x",
                b"A_B: x", b"A.B: x", b"A!B: x", b"Connection: X-Gone, upgrade", b"X-Gone: x", b"TE: trailers",
                b"Upgrade: websocket", b"Keep-Alive: x", b"Trailer: x", b"Proxy-Authorization: x", b"A-B: good",
            ),
            {b"HTTP_A_B": b"good"},
        )  # fmt: skip

    def test_what_the_proxy_tells(self) -> None:
        """What the proxy tells a backend in fields a script finds in variables, and cannot be told by the client."""
        found = ask(
            b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n",
            forwarding=Forwarding(),
        )
        self.assertEqual(found[b"HTTP_X_FORWARDED_FOR"], b"192.0.2.7")
        self.assertEqual(found[b"HTTP_X_FORWARDED_PROTO"], b"http")
        self.assertEqual(found[b"HTTP_X_FORWARDED_HOST"], b"a.example")
        self.assertEqual(found[b"HTTP_X_REQUEST_ID"], b"id-1")
        self.assertEqual(found[b"HTTP_VIA"], b"1.1 lemmytx")

    def test_own_variables(self) -> None:
        """Configured variables are added, and go before those that would be made."""
        params = (("APP_ENV", "production"), ("SERVER_SOFTWARE", "x"), ("HTTP_ACCEPT", ""), ("NAME", "ä"))
        found = ask(
            b"GET / HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\n", Application.build("/srv", "/i.php", params=params)
        )
        self.assertEqual(
            [found[name] for name in (b"APP_ENV", b"SERVER_SOFTWARE", b"HTTP_ACCEPT", b"NAME")],
            [b"production", b"x", b"", "ä".encode()],
        )

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(NAMES),
                st.sampled_from((b"1", b"on", b"/etc/passwd", b"a.example")),
            )
        )
    )
    def test_fields_stay_apart(self, fields: list[tuple[bytes, bytes]]) -> None:
        """No field changes a variable that is not its own: all of them begin with HTTP_, and none is HTTP_PROXY."""
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        try:
            found = ask(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + lines + b"\r\n", length=0)
        except ProtocolError:
            return
        plain = ask()
        for name, value in found.items():
            if not name.startswith(b"HTTP_"):
                self.assertEqual((name, value), (name, plain.get(name, b"0")))
        self.assertNotIn(b"HTTP_PROXY", found)
        self.assertNotIn(b"HTTP_CONTENT_LENGTH", found)
