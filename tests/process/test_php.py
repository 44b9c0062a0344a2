"""PHP behind the proxy: a real php-fpm, over TCP and over a unix socket."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
from typing import Any, BinaryIO

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority
from tests.process.php import Php, php_fpm
from tests.process.rig import ANY, Lemmy, configuration, program, rest, tcp, until

MB = 1 << 20
HOST = b"Host: shop.example\r\n"


def parted(answer: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body of an answer as it came."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head else 0, head, body


class PhpCase(SynchronousTestCase):
    """Run once for each kind of socket by the classes below."""

    skip = None if php_fpm() is not None else "php-fpm is not installed"
    kind = ""

    def starts(self, php: Php, backend: dict[str, Any] | None = None, **settings: Any) -> Lemmy:
        """
        A proxy in front of it.

        @param backend: more settings of the backend.
        @param settings: of the cluster.
        """
        fastcgi = {"root": php.root, "keep_alive": True, **settings.pop("fastcgi", {})}
        cluster = {"fastcgi": fastcgi, **settings}
        return Lemmy(self, configuration([{"url": php.urls[self.kind], **(backend or {})}], cluster=cluster)).ready()

    def figures(self, lemmy: Lemmy) -> dict[str, Any]:
        """What is counted of the backend."""
        (found,) = lemmy.stats()["clusters"]["c"]["backends"].values()
        return dict(found)

    def quiet(self, lemmy: Lemmy) -> None:
        """Nothing is under way any more, and nothing of our own went wrong."""
        self.assertTrue(until(lambda: self.figures(lemmy)["active"] == 0), self.figures(lemmy))
        self.assertNotIn("Traceback", lemmy.output())

    def ask(self, lemmy: Lemmy, target: str, fields: bytes = b"", method: str = "GET") -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer to a request of its own connection."""
        with tcp(lemmy.port) as link:
            link.sendall(f"{method} {target} HTTP/1.1\r\n".encode() + HOST + fields + b"Connection: close\r\n\r\n")
            return parted(rest(link))

    def begun(self, lemmy: Lemmy, target: str) -> tuple[socket.socket, bytes]:
        """A client that has asked and has the beginning of an answer, and that."""
        link = tcp(lemmy.port)
        self.addCleanup(link.close)
        link.sendall(f"GET {target} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
        return link, link.recv(65536)


class ScriptTests(PhpCase):
    """Which script runs, and what it is told."""

    kind = "tcp"

    def test_variables(self) -> None:
        """A script finds in $_SERVER what PHP programs look for there, and nothing that the client has made up."""
        lemmy = self.starts(Php(self), fastcgi={"params": {"APP_ENV": "production"}})
        fields = (
            b"Proxy: http://evil.example/\r\nX-Forwarded-For: 6.6.6.6\r\nX_A: x\r\nX-A: y\r\n"
            b"Cookie: a=1\r\nCookie: b=2\r\n"
        )
        status, _, body = self.ask(lemmy, "/env.php/a%20b?c=d", fields)
        self.assertEqual(200, status)
        found = json.loads(body)
        expected = {
            "SCRIPT_NAME": "/env.php",
            "PATH_INFO": "/a b",
            "PHP_SELF": "/env.php/a b",
            "QUERY_STRING": "c=d",
            "REQUEST_URI": "/env.php/a%20b?c=d",
            "REQUEST_METHOD": "GET",
            "REMOTE_ADDR": "127.0.0.1",
            "SERVER_NAME": "shop.example",
            "SERVER_PORT": "80",
            "HTTP_HOST": "shop.example",
            "HTTP_X_A": "y",
            "HTTP_X_FORWARDED_FOR": "127.0.0.1",
            "HTTP_COOKIE": "a=1; b=2",
            "APP_ENV": "production",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_ADDR": "127.0.0.1",
        }
        self.assertEqual(expected, {name: found.get(name) for name in expected})
        for name in ("HTTP_PROXY", "HTTPS", "CONTENT_LENGTH", "HTTP_CONNECTION"):
            self.assertNotIn(name, found)
        self.quiet(lemmy)

    def test_paths(self) -> None:
        """Paths lead to the scripts that they name, to none, or to the index; an upload is never run."""
        php = Php(self)
        for index, table in (
            (
                "index.php",
                (
                    ("/", 200, b"front /"),
                    ("/sub/", 200, b"sub"),
                    ("/sub", 404, None),
                    ("/nothing/", 404, b"File not found.\n"),
                    ("/a", 404, None),
                    ("/x.php", 404, b"File not found.\n"),
                    ("/sub/index.php", 200, b"sub"),
                    ("/sub/index.php/a.php/b", 200, b"sub"),
                    ("/sub/%69ndex.ph%70", 200, b"sub"),
                    ("/upload/a.jpg", 404, None),
                    ("/upload/b.php.jpg", 404, None),
                    ("/upload/b.php.jpg/", 403, None),
                    ("/upload/a.jpg/x.php", 403, None),
                    ("/upload/a.jpg%2Fx.php", 403, None),
                    ("/upload/b.php.jpg/x.php", 403, None),
                    ("/upload/a.jpg/", 403, None),
                    ("/upload/a.jpg%00.php", 400, None),
                    ("/upload/a.jpg%5cx.php", 400, None),
                    ("/../sub/index.php", 400, None),
                    ("/%2e%2e/sub/index.php", 400, None),
                ),
            ),
            (
                "/index.php",
                (
                    ("/", 200, b"front /"),
                    ("/sub/", 200, b"front /sub/"),
                    ("/a?b", 200, b"front /a?b"),
                    ("/upload/a.jpg", 200, b"front /upload/a.jpg"),
                    ("/upload/b.php.jpg", 200, b"front /upload/b.php.jpg"),
                    ("/upload/a.jpg/x.php", 403, None),
                    ("/sub/index.php", 200, b"sub"),
                    ("/x.php", 404, b"File not found.\n"),
                ),
            ),
        ):
            lemmy = self.starts(php, fastcgi={"index": index})
            for target, expected, text in table:
                status, _, body = self.ask(lemmy, target)
                self.assertEqual(expected, status, (index, target, body))
                self.assertNotIn(b"upload that was run", body, (index, target))
                if text is not None and status < 300:
                    self.assertEqual(text, unchunked(body), (index, target))
            self.quiet(lemmy)
            self.assertEqual(0, lemmy.stop())

    def test_paths_as_they_are(self) -> None:
        """A php-fpm that does not look for scripts itself (cgi.fix_pathinfo=0) runs the one it is told."""
        lemmy = self.starts(Php(self, fixing=False))
        for target, expected, script in (
            ("/env.php", 200, "/env.php"),
            ("/env.php/a", 200, "/env.php"),
            ("/env.php/sub/index.php", 200, "/env.php"),
            ("/env.php/upload/a.jpg", 200, "/env.php"),
            ("/upload/a.jpg/x.php", 404, None),
        ):
            status, _, body = self.ask(lemmy, target)
            self.assertEqual(expected, status, (target, body))
            if script is not None:
                found = json.loads(unchunked(body))
                self.assertEqual((script, target[8:]), (found["SCRIPT_NAME"], found["PATH_INFO"]))
        self.quiet(lemmy)

    def test_statuses(self) -> None:
        """What a script makes of its status and location is what the client gets; HEAD gets no body."""
        lemmy = self.starts(Php(self))
        for header, status, line in (
            ("HTTP/1.1+418+Teapot", 418, b"HTTP/1.1 418 "),
            ("Status:+410+Gone", 410, b"HTTP/1.1 410 Gone"),
            ("Location:+/x", 302, b"\r\nLocation: /x"),
            ("Location:+http://a.example/", 302, b"HTTP/1.1 302 Found"),
            ("HTTP/1.1+204+x", 204, b"HTTP/1.1 204 "),
            ("Connection:+close", 200, b"HTTP/1.1 200 OK"),
        ):
            found, head, body = self.ask(lemmy, f"/status.php?header={header}")
            self.assertEqual((status, b"" if status == 204 else b"body"), (found, unchunked(body)), header)
            self.assertIn(line, head + b"\r\n")
        self.assertEqual(b"", self.ask(lemmy, "/status.php?header=A:b", method="HEAD")[2])
        self.quiet(lemmy)


class BodyTests(PhpCase):
    """Long bodies, both ways."""

    kind = "tcp"

    def test_upload(self) -> None:
        """An upload of 100 MB arrives as it was, while neither side ever holds more than a little of it."""
        lemmy = self.starts(Php(self))
        piece = bytes(at * 7 % 256 for at in range(MB))
        expected = hashlib.sha256()
        with tcp(lemmy.port) as link:
            link.sendall(
                b"POST /sha.php HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % (100 * MB)
            )
            for _ in range(100):
                link.sendall(piece)
                expected.update(piece)
            status, _, body = parted(rest(link))
        self.assertEqual((200, f"{100 * MB} {expected.hexdigest()}".encode()), (status, unchunked(body)))
        self.assertLess(memory(lemmy.process.pid), 200 * MB)
        self.quiet(lemmy)

    def test_upload_in_chunks(self) -> None:
        """An upload without a length arrives as it was, and gets a length; one that is too long for that is 411."""
        lemmy = self.starts(Php(self), fastcgi={"buffer": "256k"})
        for size, status in ((0, 200), (1, 200), (262144, 200), (262145, 411), (4 * MB, 411)):
            sent = os.urandom(size)
            chunks = b"".join(
                b"%x\r\n%b\r\n" % (len(sent[at : at + 10000]), sent[at : at + 10000]) for at in range(0, size, 10000)
            )
            with tcp(lemmy.port) as link:
                link.sendall(
                    b"POST /sha.php HTTP/1.1\r\n" + HOST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                try:
                    link.sendall(chunks + b"0\r\n\r\n")
                except ConnectionError:
                    self.assertEqual(411, status)
                found, _, body = parted(rest(link))
            self.assertEqual(status, found, size)
            if status == 200:
                self.assertEqual(f"{size} {hashlib.sha256(sent).hexdigest()}".encode(), unchunked(body))
        self.quiet(lemmy)

    def test_output(self) -> None:
        """An output of 100 MB arrives as it was, with and without a length, also when the client is slow at first."""
        lemmy = self.starts(Php(self))
        expected = hashlib.sha256(b"0123456789abcdef" * (100 * MB // 16)).hexdigest()
        for query in ("", "&measured=1"):
            with tcp(lemmy.port) as link:
                link.sendall(f"GET /output.php?pieces=1600{query} HTTP/1.0\r\n".encode() + HOST + b"\r\n")
                self.assertTrue(until(lambda: self.figures(lemmy)["active"] == 1))
                _, head, body = parted(rest(link))
            self.assertEqual((100 * MB, expected), (len(body), hashlib.sha256(body).hexdigest()))
            self.assertEqual(bool(query), b"Content-Length: 104857600" in head)
        self.assertLess(memory(lemmy.process.pid), 200 * MB)
        self.quiet(lemmy)

    def test_kept_connections(self) -> None:
        """Two hundred requests in a row take one connection, bodies or not; without keep_alive, two hundred."""
        php = Php(self)
        for kept, connects in ((True, 1), (False, 200)):
            lemmy = self.starts(php, fastcgi={"keep_alive": kept})
            with tcp(lemmy.port) as link, link.makefile("rb") as answers:
                for number in range(200):
                    body = b"x" * (number * 10)
                    link.sendall(
                        b"POST /sha.php HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
                    )
                    self.assertIn(f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode(), message(answers))
            self.quiet(lemmy)
            figures = self.figures(lemmy)
            self.assertEqual((connects, 200 - connects), (figures["connects"], figures["reused"]))
            self.assertEqual({}, figures["failures"])
            self.assertEqual(0, lemmy.stop())


class FaultTests(PhpCase):
    """Scripts and clients that do not come to a good end."""

    kind = "tcp"

    def test_errors(self) -> None:
        """What a script writes to its error log is in ours, in one line; a flood is bounded."""
        lemmy = self.starts(Php(self))
        self.assertEqual(
            (200, b"fine"), (self.ask(lemmy, "/errors.php")[0], unchunked(self.ask(lemmy, "/errors.php")[2]))
        )
        lemmy.says("for /errors.php: PHP message: first line; PHP message: second\\x1bline | forged")
        self.assertEqual(b"fine", unchunked(self.ask(lemmy, "/flood.php")[2]))
        lemmy.says("bytes more)")
        self.assertLess(len(lemmy.output()), 50_000)
        self.quiet(lemmy)

    def test_fatal(self) -> None:
        """A script that fails before its output is the 500 that PHP makes of it; the next one is served."""
        lemmy = self.starts(Php(self))
        self.assertEqual(500, self.ask(lemmy, "/fatal.php")[0])
        lemmy.says("Call to undefined function there_is_no_such_function()")
        self.assertEqual(b"bye", unchunked(self.ask(lemmy, "/exit.php")[2]))
        self.quiet(lemmy)

    def test_killed(self) -> None:
        """A worker that is killed before its answer is 502, in the middle of it the client is cut; others serve on."""
        php = Php(self)
        lemmy = self.starts(php)
        link, answer = self.begun(lemmy, "/stall.php?late=1")
        self.assertEqual(200, parted(answer)[0])
        self.assertTrue(until(lambda: php.written("stalls") != ""))
        os.kill(int(php.written("stalls")), signal.SIGKILL)
        answer += rest(link)
        self.assertIn(b"begun", answer)
        self.assertFalse(answer.endswith(b"0\r\n\r\n"))
        os.remove(os.path.join(php.root, "stalls"))
        link = tcp(lemmy.port)
        self.addCleanup(link.close)
        link.sendall(b"GET /stall.php HTTP/1.1\r\n" + HOST + b"\r\n")
        self.assertTrue(until(lambda: php.written("stalls") != ""))
        os.kill(int(php.written("stalls")), signal.SIGKILL)
        self.assertEqual(502, parted(link.recv(65536))[0])
        self.assertEqual(b"bye", unchunked(self.ask(lemmy, "/exit.php")[2]))
        self.quiet(lemmy)

    def test_stalled(self) -> None:
        """A script that is silent for timeouts.read is 504 before its answer, and cut in the middle of it."""
        lemmy = self.starts(Php(self), timeouts={"read": 1})
        self.assertEqual(504, self.ask(lemmy, "/stall.php")[0])
        answer = self.ask(lemmy, "/stall.php?late=1")
        self.assertEqual((200, b"5\r\nbegun\r\n"), (answer[0], answer[2]))
        self.quiet(lemmy)

    def test_client_leaves(self) -> None:
        """When the client leaves, the script notices."""
        php = Php(self)
        lemmy = self.starts(php)
        link, answer = self.begun(lemmy, "/endless.php")
        self.assertEqual(200, parted(answer)[0])
        link.close()
        self.assertTrue(until(lambda: php.written("aborted") == "1"), php.output())
        self.quiet(lemmy)
        self.assertEqual({}, self.figures(lemmy)["failures"])

    def test_restarted(self) -> None:
        """While there is no php-fpm requests are 502; when there is one again they are served."""
        php = Php(self)
        lemmy = self.starts(php, max_fails=0)
        self.assertEqual(200, self.ask(lemmy, "/exit.php")[0])
        php.kill()
        self.assertEqual(502, self.ask(lemmy, "/exit.php")[0])
        php.start()
        self.assertEqual(200, self.ask(lemmy, "/exit.php")[0])
        self.quiet(lemmy)


class EncryptedTests(PhpCase):
    """HTTPS and HTTP/2 in front of PHP."""

    kind = "unix"

    def test_curl(self) -> None:
        """curl by HTTPS, with HTTP/2 and HTTP/1.1: scripts know of it, uploads and outputs arrive as they were."""
        php = Php(self)
        authority = Authority()
        certificate = authority.issue(["shop.example"]).write(php.folder)
        settings = configuration(
            [{"url": php.urls[self.kind]}], cluster={"fastcgi": {"root": php.root, "buffer": "4M"}}
        )
        settings["listeners"] = [{"endpoint": ANY, "tls": {"certificates": [certificate]}}]
        lemmy = Lemmy(self, settings).ready()
        upload = os.path.join(php.folder, "upload")
        with open(upload, "wb") as file:
            file.write(os.urandom(3 * MB))
        with open(upload, "rb") as file:
            expected = f"{3 * MB} {hashlib.sha256(file.read()).hexdigest()}"
        common = ("--cacert", authority.write(php.folder), "--resolve", f"shop.example:{lemmy.port}:127.0.0.1")
        url = f"https://shop.example:{lemmy.port}"
        for version, protocol in (("--http2", "HTTP/2.0"), ("--http1.1", "HTTP/1.1")):

            def curl(*words: str, version: str = version) -> bytes:
                return subprocess.run(
                    [program("curl"), "-sS", version, *common, *words], check=True, capture_output=True, timeout=60
                ).stdout

            found = json.loads(curl(f"{url}/env.php/a?b", "-H", "Proxy: x", "-H", "Cookie: a=1"))
            names = (
                "HTTPS",
                "REQUEST_SCHEME",
                "SERVER_PROTOCOL",
                "SERVER_PORT",
                "HTTP_COOKIE",
                "PATH_INFO",
                "HTTP_HOST",
            )
            self.assertEqual(
                ["on", "https", protocol, str(lemmy.port), "a=1", "/a", f"shop.example:{lemmy.port}"],
                [found.get(name) for name in names],
            )
            self.assertNotIn("HTTP_PROXY", found)
            self.assertEqual(expected, curl(f"{url}/sha.php", "--data-binary", f"@{upload}").decode())
            chunked = ("-H", "Transfer-Encoding: chunked") if version == "--http1.1" else ("-H", "Content-Length:")
            self.assertEqual(expected, curl(f"{url}/sha.php", *chunked, "--data-binary", f"@{upload}").decode())
            output = curl(f"{url}/output.php?pieces=320")
            self.assertEqual((20 * MB, b"0123456789abcdef"), (len(output), output[-16:]))
            self.assertIn(b"404", curl(f"{url}/x.php", "-o", os.devnull, "-w", "%{http_code}"))
        self.quiet(lemmy)


class UnixScriptTests(ScriptTests):
    """The same over a unix socket."""

    kind = "unix"


class UnixBodyTests(BodyTests):
    """The same over a unix socket."""

    kind = "unix"


class UnixFaultTests(FaultTests):
    """The same over a unix socket."""

    kind = "unix"


def message(answers: BinaryIO) -> bytes:
    """The body of the next of several answers."""
    length = -1
    while (line := answers.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if length >= 0:
        return answers.read(length)
    body = b""
    while size := int(answers.readline(), 16):
        body += answers.read(size)
        answers.readline()
    answers.readline()
    return body


def unchunked(body: bytes) -> bytes:
    """A body as it is, or out of its chunks where it looks like such."""
    if not body.endswith(b"0\r\n\r\n"):
        return body
    whole = b""
    while (size := int(body.partition(b"\r\n")[0], 16)) > 0:
        body = body.partition(b"\r\n")[2]
        whole += body[:size]
        body = body[size + 2 :]
    return whole


def memory(pid: int) -> int:
    """The most memory that a process has had at a time, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no such figure")
