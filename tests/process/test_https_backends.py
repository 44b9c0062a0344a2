"""TLS backends, for real: a proxy process in front of servers that show good and bad certificates."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority, Issued, self_signed
from tests.process.rig import Lemmy, configuration, folder, has_ipv6, rest, tcp, until
from tests.process.sites import Plain, Secure, Silent, Site


class HttpsCase(SynchronousTestCase):
    """An authority of one's own, and proxies that believe it."""

    authority = Authority()

    def setUp(self) -> None:
        self.folder = folder(self)
        self.ca = self.authority.write(self.folder)

    def context(self, issued: Issued | None = None, **attributes: Any) -> ssl.SSLContext:
        """What a server shows: for 127.0.0.1 unless told otherwise."""
        issued = issued or self.authority.issue(["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.load_cert_chain(issued.write(self.folder))
        for name, value in attributes.items():
            setattr(context, name, value)
        return context

    def starts(self, *sites: Site, cluster: Any = None, **tls: Any) -> Lemmy:
        """A proxy in front of these."""
        settings = configuration(
            [site.url for site in sites],
            cluster={"tls": {"ca": self.ca, **tls}, **(cluster or {})},
            access_log={"path": "access", "format": "json"},
        )
        return Lemmy(self, settings).ready()

    def line(self, lemmy: Lemmy, number: int = -1) -> dict[str, Any]:
        """A line of the access log, when it is written."""
        path = os.path.join(lemmy.folder, "access")

        def lines() -> list[str]:
            with open(path, encoding="utf-8") as file:
                return file.read().splitlines()

        asked = lemmy.stats()["total_count"]
        self.assertTrue(until(lambda: len(lines()) >= asked), lines())
        found: dict[str, Any] = json.loads(lines()[number])
        return found


class GoodTests(HttpsCase):
    """Backends that are who they should be."""

    def test_https(self) -> None:
        """Requests go over TLS 1.3 and one kept connection; the next connection resumes the session."""
        site = Secure(self, self.context())
        lemmy = self.starts(site, cluster={"pool": {"requests": 2}})
        answers = [json.loads(lemmy.get(f"/{number}")[1]) for number in range(4)]
        self.assertEqual([answer["first"] for answer in answers], [f"GET /{number} HTTP/1.1" for number in range(4)])
        self.assertEqual({answer["version"] for answer in answers}, {"TLSv1.3"})
        self.assertEqual([answer["resumed"] for answer in answers], [False, False, True, True])
        self.assertEqual((site.connections, site.requests, site.failures), (2, 4, 0))
        self.assertEqual(0, lemmy.stop())
        self.assertNotIn("Traceback", lemmy.output())

    def test_unix(self) -> None:
        """TLS on a unix socket, for a name that is written."""
        path = os.path.join(self.folder, "site.sock")
        site = Secure(self, self.context(self.authority.issue(["app.internal"])), path=path)
        self.assertEqual(self.starts(site, name="app.internal").get()[0], 200)

    def test_six(self) -> None:
        """An IPv6 address in the URL is looked for in the certificate."""
        if not has_ipv6():
            return  # the machine has none; the rest is the same as for IPv4
        site = Secure(self, self.context(self.authority.issue(["::1"])), host="::1")
        self.assertEqual(self.starts(site).get()[0], 200)

    def test_clientCertificate(self) -> None:
        """A backend that demands a certificate gets ours, from a relative path; without one it is 502."""
        demanding = self.context(verify_mode=ssl.CERT_REQUIRED)
        demanding.load_verify_locations(self.ca)
        site = Secure(self, demanding)
        ours = self.authority.issue([], client=True, subject="lemmy.internal")
        crt, key = ours.write_pair(self.folder, "ours")
        lemmy = self.starts(site, certificate=crt, key=key)
        self.assertEqual(json.loads(lemmy.get()[1])["client"], {"commonName": "lemmy.internal"})
        self.assertEqual(self.starts(site).get()[0], 502)

    def test_large(self) -> None:
        """A long answer comes as it was sent, and a long body arrives."""
        issued = self.authority.issue(["127.0.0.1"])
        context = self.context(issued)
        door = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(door.close)
        size = 20_000_000
        block = os.urandom(1 << 16)
        got = []

        def serve() -> None:
            sock, _ = door.accept()
            with context.wrap_socket(sock, server_side=True) as link:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += link.recv(65536)
                count = len(data.partition(b"\r\n\r\n")[2])
                while count < size:
                    count += len(link.recv(262144))
                got.append(count)
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                for _ in range(size // len(block)):
                    link.sendall(block)
                link.sendall(block[: size % len(block)])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        settings = configuration(f"https://127.0.0.1:{door.getsockname()[1]}", cluster={"tls": {"ca": self.ca}})
        lemmy = Lemmy(self, settings).ready()
        with tcp(lemmy.port) as link:
            link.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
            link.sendall(bytes(size))
            answer = rest(link)
        thread.join(10)
        body = answer.partition(b"\r\n\r\n")[2]
        self.assertEqual((got, len(body)), ([size], size))
        self.assertTrue(all(body[at : at + len(block)] == block[: size - at] for at in range(0, size, len(block))))


class BadTests(HttpsCase):
    """Backends that are not."""

    def refused(self, lemmy: Lemmy, expected: str) -> None:
        """A request gets 502 without detail, and both logs say why."""
        status, body = lemmy.get()
        self.assertEqual(status, 502)
        for word in ("certificate", "TLS", "127.0.0.1"):
            self.assertNotIn(word, body)
        line = self.line(lemmy)
        self.assertEqual((line["status"], line["termination"]), (502, "backend_tls"))
        self.assertIn(expected, line["why"])
        lemmy.says("TLS with backend ")
        self.assertIn(expected, lemmy.output())

    def test_certificates(self) -> None:
        """Expired, not yet valid, self-signed, from nobody, for another name, for a client, weak: none is believed."""
        issue = self.authority.issue
        bad = {
            "its certificate has expired, on ": self.authority.expired(["127.0.0.1"]),
            "its certificate is not valid yet": issue(["127.0.0.1"], started=-5),
            "its certificate is self-signed": self_signed(["127.0.0.1"]),
            "from an authority that is not believed": Authority("Nobody").issue(["127.0.0.1"]),
            "its certificate is for a.example, not for 127.0.0.1": issue(["a.example"]),
            "its certificate is not for a server": issue(["127.0.0.1"], client=True),
            "the key of its certificate is too weak": issue(["127.0.0.1"], "weak"),
        }
        sites = {why: Secure(self, self.context(issued)) for why, issued in bad.items()}
        settings = {
            "listeners": [{"endpoint": "tcp:0:interface=127.0.0.1"}],
            "vhosts": [{"hosts": [f"c{number}.example"], "cluster": f"c{number}"} for number in range(len(sites))],
            "clusters": {
                f"c{number}": {"backends": [site.url], "tls": {"ca": self.ca}}
                for number, site in enumerate(sites.values())
            },
            "access_log": {"path": "access", "format": "json"},
        }
        lemmy = Lemmy(self, settings).ready()
        for number, (why, site) in enumerate(sites.items()):
            self.assertEqual(lemmy.get("/", f"c{number}.example")[0], 502)
            line = self.line(lemmy)
            self.assertEqual(line["termination"], "backend_tls")
            self.assertIn(why, line["why"])
            self.assertIn(f"127.0.0.1:{site.port}", line["why"])
            lemmy.says(f"cluster c{number}: TLS with backend 127.0.0.1:{site.port} fails: ")
            self.assertEqual((site.connections, site.requests), (1, 0))
        self.assertNotIn("Traceback", lemmy.output())

    def test_revoked(self) -> None:
        """A certificate on the revocation list that stands beside the authority is refused."""
        revoked = self.authority.issue(["127.0.0.1"])
        with open(self.ca, "ab") as file:
            file.write(self.authority.revocations([revoked]))
        self.refused(self.starts(Secure(self, self.context(revoked))), "its certificate has been revoked")

    def test_plain(self) -> None:
        """A server of plain HTTP behind an https URL."""
        self.refused(self.starts(Plain(self)), "does not speak TLS")

    def test_tooOld(self) -> None:
        """A server that speaks no version that is allowed."""
        site = Secure(self, self.context(maximum_version=ssl.TLSVersion.TLSv1_2))
        self.refused(self.starts(site, minimum_version="1.3"), "minimum_version")

    def test_pin(self) -> None:
        """Another key than the pinned one."""
        site = Secure(self, self.context())
        self.refused(self.starts(site, pin=["A" * 43 + "="], verify=False), "none of those that are pinned")

    def test_noHttp2(self) -> None:
        """A server without HTTP/2 behind an h2 URL."""
        site = Secure(self, self.context())
        site.url = site.url.replace("https:", "h2:")
        self.refused(self.starts(site), "does not speak HTTP/2 (ALPN)")

    def test_stalls(self) -> None:
        """A server that accepts and says nothing has as long as connecting may take: 504."""
        site = Silent(self)
        lemmy = self.starts(site, cluster={"timeouts": {"connect": 0.5}})
        self.assertEqual(lemmy.get()[0], 504)
        self.assertEqual(self.line(lemmy)["termination"], "timeout_connect")

    def test_another(self) -> None:
        """Beside one that is right, one that is wrong is out after a few requests, none of which fails."""
        wrong, right = Secure(self, self.context(self_signed(["127.0.0.1"]))), Secure(self, self.context())
        lemmy = self.starts(wrong, right, cluster={"max_fails": 3, "scheduler": "round_robin"})
        self.assertEqual({lemmy.get()[0] for _ in range(20)}, {200})
        self.assertEqual((wrong.requests, right.requests), (0, 20))
        self.assertEqual(wrong.connections, 3)
        lemmy.says("is out for")

    def test_warned(self) -> None:
        """C{verify: false} serves, and says at each start what it means."""
        lemmy = self.starts(Secure(self, self.context(self_signed(["x.example"]))), verify=False)
        self.assertEqual(lemmy.get()[0], 200)
        self.assertIn("cluster c: tls.verify is false", lemmy.output())

    def test_files(self) -> None:
        """A start with files that cannot be used ends with what is wrong with them."""
        settings = configuration("https://127.0.0.1:1", cluster={"tls": {"ca": "nowhere.pem"}})
        lemmy = Lemmy(self, settings)
        self.assertEqual(lemmy.ended(), 1)
        self.assertIn("nowhere.pem", lemmy.output())
        self.assertIn("cannot be read: No such file or directory", lemmy.output())
