"""The PROXY protocol, for real: HAProxy, nginx and curl at the other end, and a second lemmytx."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
import subprocess
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.proxy_protocol import SIGNATURE
from tests.certificates import Authority
from tests.process.rig import ANY, Lemmy, Process, answers, ask, configuration, folder, program, rest, tcp, until
from tests.process.sites import Site
from tests.wire.rig import START, free_port

#: Where our clients come from: an address of loopback that nobody else has.
CLIENT = "127.0.0.9"

TRUSTED = ["127.0.0.1/32"]


def proxied(**settings: object) -> dict[str, Any]:
    """A listener that wants headers."""
    return {"endpoint": ANY, "proxy_protocol": True, "trusted_proxies": TRUSTED, **settings}


def binary(command: int, family: int, rest: bytes) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


class HAProxy(Process):
    """
    The real one, in front of a server, as a plain TCP proxy.

    @ivar port: where it takes connections that it announces with version 1; C{binary}: with version 2 and all it knows.
    """

    def __init__(self, case: SynchronousTestCase, server: int) -> None:
        where = folder(case)
        self.port, self.binary = free_port(), free_port()
        config = os.path.join(where, "haproxy.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                "global\n maxconn 100\n"
                "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
                " unique-id-format %ci-%cp\n"
                f"listen one\n bind 127.0.0.1:{self.port}\n server s 127.0.0.1:{server} send-proxy\n"
                f"listen two\n bind 127.0.0.1:{self.binary}\n"
                f" server s 127.0.0.1:{server} send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl\n"
            )
        super().__init__(case, [program("haproxy"), "-db", "-f", config], where)
        self.wait(lambda: answers(self.binary), "listening")


def came(port: int) -> socket.socket:
    """A connection from L{CLIENT}."""
    return socket.create_connection(("127.0.0.1", port), START, (CLIENT, 0))


def told(answer: tuple[int, bytes]) -> dict[str, Any]:
    """What the site at the end says that it got."""
    status, body = answer
    assert status == 200, answer
    found: dict[str, Any] = json.loads(body)["fields"]
    return found


class InCase(SynchronousTestCase):
    """A proxy whose listener wants headers."""

    def starts(self, listener: dict[str, Any] | None = None, **settings: object) -> Lemmy:
        """In front of a site that tells what it gets."""
        made = configuration(Site(self).url, access_log={"path": "access", "format": "json"}, **settings)
        return Lemmy(self, {**made, "listeners": [listener or proxied()]}).ready()

    def lines(self, lemmy: Lemmy, count: int) -> list[dict[str, Any]]:
        """The access log, when it has so many lines."""
        path = os.path.join(lemmy.folder, "access")

        def lines() -> list[str]:
            with open(path, encoding="utf-8") as file:
                return file.read().splitlines()

        self.assertTrue(until(lambda: len(lines()) >= count), lines())
        return [json.loads(line) for line in lines()]


class InTests(InCase):
    """Headers that come."""

    def test_haproxy(self) -> None:
        """Behind HAProxy, with either version, backends and the log are told of the client that it has."""
        lemmy = self.starts()
        haproxy = HAProxy(self, lemmy.port)
        for port in (haproxy.port, haproxy.binary):
            fields = told(ask(came(port), "/", "a.example"))
            self.assertEqual((fields["x-forwarded-for"], fields["x-forwarded-proto"]), (CLIENT, "http"))
        first, second = self.lines(lemmy, 2)
        self.assertEqual((first["client"], second["client"]), (CLIENT, CLIENT))
        self.assertNotIn("proxy_protocol", first)
        self.assertEqual(second["proxy_protocol"]["ssl"], "no")
        self.assertTrue(bytes.fromhex(second["proxy_protocol"]["unique_id"]).startswith(f"{CLIENT}-".encode()))

    def test_keepAlive(self) -> None:
        """What the header says holds for each request of its connection."""
        lemmy = self.starts()
        with came(HAProxy(self, lemmy.port).binary) as link:
            for _ in range(3):
                link.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
                answer = link.recv(65536)
                self.assertIn(f'"x-forwarded-for": "{CLIENT}"'.encode(), answer)

    def test_tls(self) -> None:
        """With TLS on the listener the header comes before the handshake."""
        where = folder(self)
        authority = Authority()
        certificate = authority.issue(["a.example"]).write(where)
        lemmy = self.starts(proxied(tls={"certificates": [certificate]}))
        haproxy = HAProxy(self, lemmy.port)
        context = ssl.create_default_context(cafile=authority.write(where))
        for port in (haproxy.port, haproxy.binary):
            with came(port) as link, context.wrap_socket(link, server_hostname="a.example") as secured:
                fields = told(ask(contextlib.nullcontext(secured), "/", "a.example"))
            self.assertEqual((fields["x-forwarded-for"], fields["x-forwarded-proto"]), (CLIENT, "https"))

    def test_curl(self) -> None:
        """What curl sends is taken."""
        lemmy = self.starts()
        done = subprocess.run(
            [program("curl"), "-sS", "--haproxy-protocol", f"http://127.0.0.1:{lemmy.port}/x"],
            capture_output=True,
            timeout=START,
            check=True,
        )
        self.assertEqual(json.loads(done.stdout)["fields"]["x-forwarded-for"], "127.0.0.1")

    def test_pieces(self) -> None:
        """The header may come byte by byte, or in one piece with the first request."""
        lemmy = self.starts()
        header = b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 80\r\n"
        request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        for pieces in ([header + request], [bytes((byte,)) for byte in header + request]):
            with tcp(lemmy.port) as link:
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                for piece in pieces:
                    link.sendall(piece)
                self.assertIn(b'"x-forwarded-for": "2001:db8::7"', rest(link))

    def test_nobody(self) -> None:
        """A header that names nobody leaves the connection's own address: UNKNOWN, LOCAL, a unix socket."""
        lemmy = self.starts()
        for header in (
            b"PROXY UNKNOWN\r\n",
            binary(0x20, 0x00, b""),
            binary(0x20, 0x11, bytes(12)),
            binary(0x21, 0x31, bytes(216)),
        ):
            with tcp(lemmy.port) as link:
                link.sendall(header)
                self.assertEqual(told(ask(contextlib.nullcontext(link), "/", "a"))["x-forwarded-for"], "127.0.0.1")


class RefusedTests(InCase):
    """What should be a header and is none."""

    def ended(self, lemmy: Lemmy, link: socket.socket, *pieces: bytes) -> None:
        """The connection ends without a word, and others are served as before."""
        with link:
            for piece in pieces:
                link.sendall(piece)
            self.assertEqual(rest(link), b"")
        with tcp(lemmy.port) as other:
            other.sendall(b"PROXY UNKNOWN\r\n")
            told(ask(contextlib.nullcontext(other), "/", "a"))

    def test_rubbish(self) -> None:
        """Who begins with something else is gone at once: a request, TLS, a broken header, a wrong checksum."""
        lemmy = self.starts()
        v4 = bytes((192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2))
        for data in (
            b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
            b"\x16\x03\x01\x00\xa0\x01",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 70000\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\nGET / HTTP/1.1\r\n\r\n",
            b"PROXY " + b"x" * 200,
            binary(0x21, 0x11, v4[:-1]),
            binary(0x21, 0x13, v4),
            binary(0x21, 0x11, v4 + b"\x03\x00\x04\x00\x00\x00\x00"),
            SIGNATURE + b"\x21\x11\xff\xff",
        ):
            self.ended(lemmy, tcp(lemmy.port), data)
        self.assertNotIn("Traceback", lemmy.output())

    def test_silence(self) -> None:
        """Who says nothing, or only the half of it, has as long as for the head of a request."""
        lemmy = self.starts(timeouts={"header": 0.5})
        for begun in (b"", b"PROXY TCP4 192.0", SIGNATURE[:5]):
            self.ended(lemmy, tcp(lemmy.port), begun)

    def test_vanishes(self) -> None:
        """Who leaves in the middle of a header leaves nothing behind."""
        lemmy = self.starts()
        for begun in (b"", b"PROXY TCP4 192.0", SIGNATURE[:5], b"PROXY UNKNOWN\r\n"):
            for how in (b"\1\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0"):
                with tcp(lemmy.port) as link:
                    link.sendall(begun)
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
        self.assertTrue(until(lambda: lemmy.stats()["downstreams"] == 0))
        self.assertNotIn("Traceback", lemmy.output())

    def test_stranger(self) -> None:
        """From anybody but trusted proxies not even a right header is read."""
        lemmy = self.starts()
        with came(lemmy.port) as link:
            with contextlib.suppress(OSError):  # it may be gone before
                link.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertEqual(rest(link), b"")
        self.assertEqual(lemmy.stats()["total_count"], 0)

    def test_unwanted(self) -> None:
        """Where no header is agreed upon, one is no HTTP: nobody can claim to be somebody by sending it."""
        lemmy = self.starts({"endpoint": ANY, "trusted_proxies": TRUSTED})
        with tcp(lemmy.port) as link:
            link.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertTrue(rest(link).startswith(b"HTTP/1.1 400 "))

    def test_nobodyTrusted(self) -> None:
        """A listener that wants headers and trusts nobody is a mistake, and told as one."""
        lemmy = Lemmy(
            self, {**configuration("http://127.0.0.1:1"), "listeners": [{"endpoint": ANY, "proxy_protocol": True}]}
        )
        self.assertEqual(lemmy.ended(), 1)
        self.assertIn("trusted_proxies", lemmy.output())


class OutTests(SynchronousTestCase):
    """Headers that we send."""

    def test_nginx(self) -> None:
        """nginx understands both versions, and finds the client's connection in them: both ends of it."""
        where = folder(self)
        port = free_port()
        config = os.path.join(where, "nginx.conf")
        temporary = "".join(
            f"{kind}_temp_path {where}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                f"daemon off; master_process off; pid {where}/pid; error_log {where}/errors;\n"
                "events { worker_connections 512; }\n"
                f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port} proxy_protocol;\n"
                "location / { return 200 '$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr "
                "$proxy_protocol_server_port'; } } }\n"
            )
        nginx = Process(self, [program("nginx"), "-p", where, "-e", f"{where}/errors", "-c", config], where)
        nginx.wait(lambda: answers(port), "listening")
        for version in ("v1", "v2"):
            settings = configuration(f"http://127.0.0.1:{port}", cluster={"proxy_protocol": version})
            lemmy = Lemmy(self, settings).ready()
            links = [came(lemmy.port) for _ in range(3)]
            ports = [link.getsockname()[1] for link in links]
            for link, own in zip(links, ports, strict=True):
                answer = ask(link, "/", "a.example")
                self.assertEqual(answer, (200, f"{CLIENT} {own} 127.0.0.1 {lemmy.port}".encode()))

    def test_notKept(self) -> None:
        """A connection that was made for one client carries no other's request."""

        class Told(Site):
            """It tells what it was told."""

            def serve(self, sock: Any) -> None:
                line = b""
                while not line.endswith(b"\r\n"):
                    line += sock.recv(1)
                self.line = line.decode()
                super().serve(sock)

            def told(self, sock: Any, lines: list[str]) -> dict[str, Any]:
                return {"line": self.line}

        site = Told(self)
        lemmy = Lemmy(self, configuration(site.url, cluster={"proxy_protocol": "v1"})).ready()
        for source in (CLIENT, "127.0.0.1", CLIENT, "127.0.0.1"):
            link = came(lemmy.port) if source == CLIENT else tcp(lemmy.port)
            own = link.getsockname()[1]
            found = json.loads(ask(link, "/", "a")[1])["line"]
            self.assertEqual(found, f"PROXY TCP4 {source} 127.0.0.1 {own} {lemmy.port}\r\n")
        self.assertEqual((site.connections, site.requests), (4, 4))

    def test_twoOfUs(self) -> None:
        """One lemmytx behind another, with TLS between: the second one knows the client of the first."""
        where = folder(self)
        authority = Authority()
        issued = authority.issue(["127.0.0.1"])
        for version in ("v1", "v2"):
            second = Lemmy(
                self,
                {
                    **configuration(Site(self).url),
                    "listeners": [proxied(tls={"certificates": [issued.write(where)]})],
                },
            ).ready()
            first = Lemmy(
                self,
                configuration(
                    f"https://127.0.0.1:{second.port}",
                    cluster={"proxy_protocol": version, "tls": {"ca": authority.write(where)}},
                    forwarding={"x_forwarded": False},
                ),
            ).ready()
            for _ in range(3):
                fields = told(ask(came(first.port), "/", "a.example"))
                self.assertEqual((fields["x-forwarded-for"], fields["x-forwarded-proto"]), (CLIENT, "https"))
