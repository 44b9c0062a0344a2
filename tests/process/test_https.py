"""HTTPS as users have it: a process, its certificates on the disk, and clients with Python's own TLS."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.net.tls import _openssl
from tests.certificates import Authority, Issued
from tests.process.rig import ANY, Lemmy, configuration, folder, rest, tcp, until
from tests.wire.rig import free_port

NAMES = ["shop.example", "*.shop.example"]


@cache
def authority() -> Authority:
    """One for all tests: keys take time."""
    return Authority()


@cache
def other() -> Authority:
    """One whom nobody believes."""
    return Authority("Another")


class _Echo(BaseHTTPRequestHandler):
    """Answers with the fields of the request, as JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any path."""
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class HttpsCase(SynchronousTestCase):
    """
    A proxy with a certificate for L{NAMES} in front of a server that tells what it got.

    @ivar where: the folder of the certificates.
    """

    def setUp(self) -> None:
        self.where = folder(self)
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.backend = f"http://127.0.0.1:{server.server_port}"

    def starts(
        self, tls: Mapping[str, Any] | None = None, listener: Mapping[str, Any] | None = None, **settings: Any
    ) -> Lemmy:
        """A proxy with TLS."""
        self.settings = configuration(self.backend, **settings)
        certificates = os.path.join(self.where, "certs")
        self.settings["listeners"] = [
            {"endpoint": ANY, "tls": {"certificates": [certificates], **(tls or {})}, **(listener or {})}
        ]
        if not os.path.exists(certificates):
            os.mkdir(certificates)
            self.install(authority().issue(NAMES))
        return Lemmy(self, self.settings, where=folder(self)).ready()

    def install(self, issued: Issued, name: str = "site.pem") -> None:
        """Put a certificate in its place, in one step."""
        temporary = issued.write(self.where, "new.pem")
        os.replace(temporary, os.path.join(self.where, "certs", name))

    def context(self, *protocols: str) -> ssl.SSLContext:
        """A client that believes the authority."""
        context = ssl.create_default_context(cadata=authority().cert_pem.decode())
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def connect(
        self, lemmy: Lemmy, name: str = "shop.example", context: ssl.SSLContext | None = None, session: Any = None
    ) -> ssl.SSLSocket:
        """A connection whose handshake is over."""
        raw = tcp(lemmy.port)
        try:
            secure = (context or self.context()).wrap_socket(raw, server_hostname=name, session=session)
        except BaseException:
            raw.close()
            raise
        self.addCleanup(secure.close)
        return secure

    def fields(self, link: socket.socket, fields: str = "") -> dict[str, str]:
        """One request, the last on its connection: what the backend got."""
        link.sendall(f"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n{fields}\r\n".encode())
        answer, _, body = rest(link).partition(b"\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        found: dict[str, str] = json.loads(body)
        return found

    def shown(self, lemmy: Lemmy, name: str = "shop.example") -> int:
        """The serial number of the certificate that a client gets."""
        link = self.connect(lemmy, name)
        certificate = link.getpeercert()
        assert certificate is not None
        return int(str(certificate["serialNumber"]), 16)

    def refused(self, lemmy: Lemmy, context: ssl.SSLContext, name: str = "shop.example") -> None:
        """A client that does not get in: with TLS 1.3 it may learn that only when it reads."""
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            link = self.connect(lemmy, name, context)
            link.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
            self.assertEqual(b"", link.recv(100))


class CertificateTests(HttpsCase):
    """What clients are shown, and what happens when the files change."""

    def test_names(self) -> None:
        """The name that is asked for decides; the first certificate is for all others."""
        first, second = authority().issue(NAMES), authority().issue(["other.example"], key="rsa")
        os.mkdir(os.path.join(self.where, "certs"))
        self.install(first, "a.pem")
        self.install(second, "b.pem")
        lemmy = self.starts()
        self.assertEqual(first.serial, self.shown(lemmy))
        self.assertEqual(first.serial, self.shown(lemmy, "www.shop.example"))
        self.assertEqual(second.serial, self.shown(lemmy, "other.example"))
        stranger = self.context()
        stranger.check_hostname = False
        self.assertEqual("TLSv1.3", self.connect(lemmy, "stranger.example", stranger).version())

    def test_strict(self) -> None:
        """With strict_sni there is nothing for an unknown name."""
        lemmy = self.starts({"strict_sni": True})
        self.shown(lemmy)
        with self.assertRaises(ssl.SSLError) as caught:
            self.connect(lemmy, "stranger.example")
        self.assertIn("UNRECOGNIZED_NAME", str(caught.exception))

    def test_versions(self) -> None:
        """Nothing older than the minimum, and nothing below 1.2 in any case."""
        lemmy = self.starts({"minimum_version": "1.3"})
        context = self.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises(ssl.SSLError):
            self.connect(lemmy, context=context)
        self.assertEqual("TLSv1.3", self.connect(lemmy).version())

    def test_renewed(self) -> None:
        """A certificate that was replaced is shown after a reload; connections that there were live on."""
        lemmy = self.starts()
        before = self.connect(lemmy)
        renewed = authority().issue(NAMES)
        self.install(renewed)
        lemmy.reload(self.settings)
        self.assertEqual(renewed.serial, self.shown(lemmy))
        self.assertEqual("https", self.fields(before)["x-forwarded-proto"])

    def test_noticed(self) -> None:
        """Nobody has to say that a file has changed."""
        lemmy = self.starts()
        renewed = authority().issue(NAMES)
        self.install(renewed)
        self.assertTrue(until(lambda: self.shown(lemmy) == renewed.serial, 25))

    def test_broken(self) -> None:
        """A broken new file leaves the old certificate where it was, and that is said, in the log and in /stats."""
        lemmy = self.starts()
        served = self.shown(lemmy)
        path = os.path.join(self.where, "certs", "site.pem")
        with open(path, "w", encoding="utf-8") as file:
            file.write("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
        lemmy.wait(lambda: path in lemmy.output().partition("serves on")[2], "a word about it", 25)
        self.assertEqual(served, self.shown(lemmy))
        lemmy.refuses(self.settings, path)
        self.assertEqual(served, self.shown(lemmy))
        [certificate] = lemmy.stats()["certificates"]
        self.assertIn(path, certificate["problem"])

    def test_expiry(self) -> None:
        """The statistics have every certificate's end, and the log warns two weeks before."""
        os.mkdir(os.path.join(self.where, "certs"))
        self.install(authority().issue(NAMES, days=10))
        lemmy = self.starts()
        [certificate] = lemmy.stats()["certificates"]
        self.assertEqual(NAMES, certificate["names"])
        self.assertTrue(9 < certificate["days_left"] <= 10, certificate)
        self.assertRegex(certificate["expires"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")
        self.assertIn("expires on", lemmy.output())

    def test_checked(self) -> None:
        """lemmy check says what is wrong with the files, each with its setting; a start ends with the same."""
        lemmy = self.starts()
        shutil.rmtree(os.path.join(self.where, "certs"))
        os.mkdir(os.path.join(self.where, "certs"))
        lemmy.refuses(self.settings, "listeners[0].tls: ")
        broken = dict(self.settings)
        broken["clusters"] = {"c": {"backends": ["https://127.0.0.1:1"], "tls": {"ca": "/nowhere/ca.pem"}}}
        lemmy.refuses(broken, "listeners[0].tls: ", "clusters.c.tls: ")


class ClientCertificateTests(HttpsCase):
    """Certificates of clients."""

    def setUp(self) -> None:
        super().setUp()
        self.ca = authority().write(self.where)
        self.person = authority().issue(["alice.example"], client=True)
        self.revoked = authority().issue(["mallory.example"], client=True)
        self.stranger = other().issue(["eve.example"], client=True)

    def showing(self, issued: Issued) -> ssl.SSLContext:
        """A client with a certificate."""
        context = self.context()
        context.load_cert_chain(issued.write(folder(self)))
        return context

    def test_required(self) -> None:
        """Only who shows a good one gets in, and the backend hears whose it is."""
        crl = authority().write_revocations(self.where, [self.revoked])
        lemmy = self.starts({"client_ca": self.ca, "client_crl": crl})
        told = self.fields(self.connect(lemmy, context=self.showing(self.person)))
        self.assertIn("alice.example", told["x-forwarded-tls-client-cert-info"])
        self.assertTrue(told["x-forwarded-tls-client-cert"].startswith("MII"), told)
        for context in (self.context(), self.showing(self.revoked), self.showing(self.stranger)):
            self.refused(lemmy, context)

    def test_optional(self) -> None:
        """Who shows none gets in too, and cannot pretend to have shown one."""
        lemmy = self.starts({"client_ca": self.ca, "client_auth": "optional"})
        pretends = "X-Forwarded-Tls-Client-Cert: MIIxyz\r\nX-Forwarded-Tls-Client-Cert-Info: Subject=root\r\n"
        told = self.fields(self.connect(lemmy), pretends)
        self.assertNotIn("x-forwarded-tls-client-cert", told)
        self.assertNotIn("x-forwarded-tls-client-cert-info", told)
        told = self.fields(self.connect(lemmy, context=self.showing(self.person)), pretends)
        self.assertIn("alice.example", told["x-forwarded-tls-client-cert-info"])
        self.assertNotIn("root", told["x-forwarded-tls-client-cert-info"])
        self.refused(lemmy, self.showing(self.stranger))


class SessionTests(HttpsCase):
    """Sessions that go on."""

    def resumes(self, lemmy: Lemmy, context: ssl.SSLContext, session: ssl.SSLSession) -> bool:
        """Whether a new connection goes on with a session."""
        return bool(self.connect(lemmy, context=context, session=session).session_reused)

    def session(self, lemmy: Lemmy, context: ssl.SSLContext) -> ssl.SSLSession:
        """One that has begun. In TLS 1.3 it is there when something was read."""
        link = self.connect(lemmy, context=context)
        self.fields(link)
        assert link.session is not None
        return link.session

    def test_workers(self) -> None:
        """Any worker goes on with what another one has begun, also one that came later."""
        if not _openssl.available:
            self.assertIn("tickets", self.starts(workers=2).output())
            return
        lemmy = self.starts(workers=2)
        lemmy.manned(2)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context()
            context.maximum_version = version
            session = self.session(lemmy, context)
            self.assertEqual([True] * 8, [self.resumes(lemmy, context, session) for _ in range(8)], version)
        old = lemmy.workers()
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        lemmy.wait(
            lambda: not set(old.values()) & set(lemmy.workers().values()) and len(lemmy.workers()) == 2, "new ones"
        )
        self.assertTrue(self.resumes(lemmy, context, session))

    def test_reload(self) -> None:
        """A reload is no reason for whole handshakes."""
        lemmy = self.starts()
        context = self.context()
        session = self.session(lemmy, context)
        self.install(authority().issue(NAMES))
        lemmy.reload(self.settings)
        self.assertEqual(_openssl.available, self.resumes(lemmy, context, session))

    def test_off(self) -> None:
        """Without session_tickets there is nothing to go on with."""
        lemmy = self.starts({"session_tickets": False})
        context = self.context()
        link = self.connect(lemmy, context=context)
        self.fields(link)
        session = link.session
        self.assertFalse(session is not None and session.has_ticket)


class ListenerTests(HttpsCase):
    """What else belongs to a listener of HTTPS."""

    def test_redirect(self) -> None:
        """A listener that sends everybody to HTTPS."""
        lemmy = self.starts()
        port, plain = lemmy.port, free_port()
        self.settings["listeners"].append({"endpoint": f"tcp:{plain}:interface=127.0.0.1", "redirect_https": port})
        lemmy.reload(self.settings)
        link = tcp(plain)
        with link:
            link.sendall(b"GET /a?b HTTP/1.1\r\nHost: shop.example:80\r\nConnection: close\r\n\r\n")
            answer = rest(link)
        self.assertTrue(answer.startswith(b"HTTP/1.1 301 "), answer)
        self.assertIn(f"\r\nLocation: https://shop.example:{port}/a?b\r\n".encode(), answer)

    def test_hsts(self) -> None:
        """Strict-Transport-Security, as it was asked for."""
        lemmy = self.starts({"hsts": {"max_age": "1d", "include_subdomains": True, "preload": True}})
        link = self.connect(lemmy)
        link.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
        self.assertIn(b"\r\nStrict-Transport-Security: max-age=86400; includeSubDomains; preload\r\n", rest(link))

    def test_protocols(self) -> None:
        """HTTP/2 is agreed upon with who offers it, unless it is switched off."""
        lemmy = self.starts()
        self.assertEqual("h2", self.connect(lemmy, context=self.context("h2", "http/1.1")).selected_alpn_protocol())
        self.assertEqual("http/1.1", self.connect(lemmy, context=self.context("http/1.1")).selected_alpn_protocol())
        self.assertIsNone(self.connect(lemmy).selected_alpn_protocol())
        without = self.starts(listener={"http2": False})
        self.assertEqual(
            "http/1.1", self.connect(without, context=self.context("h2", "http/1.1")).selected_alpn_protocol()
        )

    def test_endpoint(self) -> None:
        """TLS in the endpoint's description does the same: backends hear of HTTPS, and HTTP/2 is spoken."""
        certificate = authority().issue(NAMES).write(self.where)
        self.settings = configuration(self.backend)
        description = rf"lemmytls:tcp\:0\:interface\=127.0.0.1:certificates={certificate}:alpn=h2,http/1.1"
        self.settings["listeners"] = [{"endpoint": description}]
        lemmy = Lemmy(self, self.settings, where=folder(self)).ready()
        self.assertEqual("https", self.fields(self.connect(lemmy))["x-forwarded-proto"])
        self.assertEqual("h2", self.connect(lemmy, context=self.context("h2")).selected_alpn_protocol())

    def test_handshakes(self) -> None:
        """Peers that stall or send rubbish are cut off and counted; others are served meanwhile."""
        lemmy = self.starts({"handshake_timeout": "300ms", "handshakes": 20})
        stalled = [tcp(lemmy.port) for _ in range(15)]
        for number, link in enumerate(stalled):
            self.addCleanup(link.close)
            link.sendall(b"\x16\x03\x01" if number % 2 else b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        self.fields(self.connect(lemmy))
        for link in stalled:
            self.assertNotIn(b"HTTP", rest(link))
        self.assertTrue(until(lambda: sum(next(iter(lemmy.stats()["refusals"].values())).values()) == 15))
        self.assertTrue(until(lambda: lemmy.stats()["downstreams"] == 0))

    def test_more_than_at_a_time(self) -> None:
        """With more handshakes than may be under way, the next client waits and is served."""
        lemmy = self.starts({"handshake_timeout": "500ms", "handshakes": 5})
        for _ in range(5):
            self.addCleanup(tcp(lemmy.port).close)
        self.fields(self.connect(lemmy))

    def test_drained(self) -> None:
        """SIGTERM: who is connected is served once more and told that this was the last one."""
        lemmy = self.starts()
        link = self.connect(lemmy)
        lemmy.signal(signal.SIGTERM)
        link.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        self.assertIn(b"\r\nConnection: close\r\n", rest(link))
        self.assertEqual(0, lemmy.ended())

    def test_log(self) -> None:
        """The JSON log has version, cipher and the name that was asked for; no log has a key."""
        log = os.path.join(self.where, "access.log")
        lemmy = self.starts(access_log={"path": log, "format": "json"})
        self.fields(self.connect(lemmy))
        lemmy.stop()
        with open(log, encoding="utf-8") as file:
            [line] = file.read().splitlines()
        told = json.loads(line)
        self.assertEqual(("TLSv1.3", "shop.example"), (told["tls"], told["sni"]))
        self.assertNotIn("PRIVATE KEY", lemmy.output())
