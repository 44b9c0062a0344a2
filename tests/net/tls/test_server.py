"""TLS of a listener: certificates by name, tickets, stapling, clients' certificates, files that change."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.net.tls import _openssl
from lemmytx.net.tls import certificates as files
from lemmytx.net.tls.server import BadTls, ServerTls, check, warnings
from tests.certificates import Authority, Issued, self_signed
from tests.net.tls.peers import Pair, TlsCase

DAY = 86400

no_openssl = None if _openssl.available else _openssl.why_not


class Hours:
    """A clock that stands until it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Case(TlsCase):
    """A test that looks at which certificate a client gets."""

    def shown(self, served: ServerTls, name: str | None, client: ssl.SSLContext | None = None) -> x509.Certificate:
        """What a client that asks for a name gets, whatever it is."""
        if client is None:
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname = False
            client.verify_mode = ssl.CERT_NONE
        certificate: x509.Certificate = Pair(client, served, name).shaken().client.tls.getPeerCertificate()
        return certificate

    def names(self, *names: str, key: str = "ecdsa", **more: Any) -> str:
        """A file with a certificate."""
        count = len(os.listdir(self.folder))
        return self.authority.issue(names, key, **more).write(self.folder, f"{count:02}.pem")


def common(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


class Names(Case):
    """Which certificate for which name."""

    def test_choice(self) -> None:
        """The very name, else a wildcard for its first label alone, else the first certificate."""
        served = self.served(
            [
                self.names("default.example"),
                self.names("*.shop.example", "shop.example"),
                self.names("Special.Shop.example"),
                self.names("127.0.0.1", "local.example"),
            ]
        )
        for name, expected in (
            ("default.example", "default.example"),
            ("shop.example", "*.shop.example"),
            ("a.shop.example", "*.shop.example"),
            ("A.SHOP.EXAMPLE", "*.shop.example"),
            ("special.shop.example", "Special.Shop.example"),
            ("a.b.shop.example", "default.example"),
            (".shop.example", None),
            ("local.example", "127.0.0.1"),
            ("unknown.example", "default.example"),
            ("example", "default.example"),
            ("xn--bcher-kva.example", "default.example"),
            (None, "default.example"),
        ):
            if expected is not None:
                self.assertEqual(common(self.shown(served, name)), expected, name)

    def test_common_name(self) -> None:
        """A certificate without any alternative names is for its common name."""
        issued = self.authority.issue([], subject="old.example")
        served = self.served([self.names("default.example"), issued.write(self.folder, "old.pem")])
        self.assertEqual(common(self.shown(served, "old.example")), "old.example")

    def test_strict(self) -> None:
        """With C{strict_sni}, who asks for an unknown name or for none is refused, by the alert that says so."""
        served = self.served([self.names("a.example", "*.b.example")], strict_sni=True)
        for name in ("c.example", "b.example", None):
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            client.check_hostname = False
            pair = Pair(client, served, name)
            pair.pump()
            self.assertEqual(pair.server.reasons, ["the name that was asked for is unknown"])
            self.assertEqual(pair.client.reasons, ["the peer refused: unrecognized name"])
        self.assertEqual(common(self.shown(served, "z.b.example")), "a.example")

    def test_names_that_are_none(self) -> None:
        """What a client asks for need not be a name at all: it gets the first certificate, or a refusal, silently."""
        said: list[object] = []
        self.patch(sys, "unraisablehook", said.append)
        served = self.served([self.names("a.example")])
        for name, opened in ((b"a..b", True), (b"-" * 250, True), (b"a b", True), (b"\xff\xfe.example", False)):
            client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
            client.set_connect_state()
            client.set_tlsext_host_name(name)
            self.assertRaises(SSL.WantReadError, client.do_handshake)
            pair = Pair(self.trusting(), served)
            pair.server.tls.dataReceived(client.bio_read(65536))
            self.assertEqual(pair.server.reasons == [], opened, name)
        self.assertEqual(said, [])

    def test_two_kinds_of_keys(self) -> None:
        """RSA and ECDSA for one name: each client gets what it can use; so do those who ask for no name."""
        served = self.served([self.names("a.example", key="rsa"), self.names("a.example", "b.example")])
        for name in ("a.example", None, "other.example"):
            for ciphers, kind in (
                ("ECDHE+aRSA+AESGCM", rsa.RSAPublicKey),
                ("ECDHE+aECDSA+AESGCM", ec.EllipticCurvePublicKey),
            ):
                client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                client.check_hostname = False
                client.verify_mode = ssl.CERT_NONE
                client.maximum_version = ssl.TLSVersion.TLSv1_2
                client.set_ciphers(ciphers)
                key = self.shown(served, name, client).public_key()
                self.assertIsInstance(key, kind, (name, ciphers))
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers("ECDHE+aRSA+AESGCM")
        pair = Pair(client, served, "b.example")
        pair.pump()
        self.assertEqual(pair.server.reasons, ["no cipher in common"])

    def test_the_valid_one(self) -> None:
        """Of two certificates for a name, the one that is valid counts, then the first."""
        served = self.served(
            [
                self.names("default.example"),
                self.authority.expired(["a.example"]).write(self.folder, "old.pem"),
                self.authority.issue(["a.example"], subject="new").write(self.folder, "new.pem"),
                self.authority.issue(["a.example"], subject="newer").write(self.folder, "newer.pem"),
            ]
        )
        self.assertEqual(common(self.shown(served, "a.example")), "new")


class Versions(Case):
    """What is spoken."""

    def version(self, served: ServerTls, minimum: ssl.TLSVersion, maximum: ssl.TLSVersion) -> str:
        client = self.trusting()
        client.minimum_version, client.maximum_version = minimum, maximum
        client.set_ciphers("ALL:@SECLEVEL=0")
        pair = Pair(client, served)
        pair.pump()
        return pair.server.tls.version or pair.server.reasons[0]

    def test_presets(self) -> None:
        """Intermediate has 1.2 and 1.3, modern 1.3 alone; and never anything older."""
        old, two, three = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
        for settings, found in (
            ({}, ["TLSv1.2", "TLSv1.3"]),
            ({"preset": "modern"}, ["no version of TLS in common", "TLSv1.3"]),
            ({"minimum_version": "1.3"}, ["no version of TLS in common", "TLSv1.3"]),
        ):
            served = self.served(**settings)
            self.assertEqual([self.version(served, two, two), self.version(served, three, three)], found)
            self.assertEqual(self.version(served, old, ssl.TLSVersion.TLSv1_1), "no version of TLS in common", settings)

    def test_ciphers(self) -> None:
        """TLS 1.2 has nothing but ephemeral keys and authenticated encryption."""
        served = self.served([self.names("a.example"), self.names("a.example", key="rsa")])
        taken = set()
        everything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        everything.set_ciphers("ALL:@SECLEVEL=0")
        for cipher in everything.get_ciphers():
            if "TLSv1.3" in cipher["protocol"]:
                continue
            client = self.trusting()
            client.maximum_version = ssl.TLSVersion.TLSv1_2
            client.set_ciphers(cipher["name"] + ":@SECLEVEL=0")
            pair = Pair(client, served)
            pair.pump()
            if pair.server.opened:
                taken.add(cipher["name"])
        self.assertEqual(len(taken), 6)
        for name in taken:
            self.assertRegex(name, r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM|CHACHA20)")

    def test_alpn(self) -> None:
        """The server's order counts; without anything in common nothing is agreed on."""
        served = ServerTls(self.settings(), ("h2", "http/1.1"))
        for offered, agreed in (
            (["http/1.1", "h2"], b"h2"),
            (["http/1.1"], b"http/1.1"),
            (["spdy/3"], None),
            ([], None),
        ):
            client = self.trusting()
            if offered:
                client.set_alpn_protocols(offered)
            self.assertEqual(Pair(client, served).shaken().server.tls.negotiated, agreed)
        client = self.trusting()
        client.set_alpn_protocols(["h2"])
        self.assertIsNone(Pair(client, self.served()).shaken().server.tls.negotiated)


class Tickets(Case):
    """Sessions that go on."""

    SECRET = b"s" * 32

    def setUp(self) -> None:
        super().setUp()
        self.clock = Hours(1_800_000_000.0)
        self.one = self.settings()

    def another(self, settings: Any = None, secret: bytes = SECRET) -> ServerTls:
        return ServerTls(settings or self.one, (), secret, self.clock)

    def resumes(self, first: ServerTls, second: ServerTls, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bool:
        """Whether a session that began here goes on there."""
        client = self.trusting()
        client.maximum_version = version
        pair = Pair(client, first).shaken()
        session = pair.client.tls.session
        again = Pair(client, second, session=session).shaken()
        self.assertEqual(again.client.tls.resumed, again.server.tls.resumed)
        return again.server.tls.resumed

    def test_shared(self) -> None:
        """What one process began, another one with the same secret goes on with; one with another secret does not."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            first = self.another()
            self.assertTrue(self.resumes(first, first, version))
            self.assertTrue(self.resumes(first, self.another(), version))
            self.assertFalse(self.resumes(first, self.another(secret=b"t" * 32), version))
            self.assertFalse(self.resumes(first, self.another(secret=b""), version))

    def test_reload(self) -> None:
        """Sessions outlive a reload."""
        served = self.another()
        client = self.trusting()
        session = Pair(client, served).shaken().client.tls.session
        self.assertEqual(served.reload(), [])
        self.assertTrue(Pair(client, served, session=session).shaken().server.tls.resumed)

    def test_rotation(self) -> None:
        """At the turn of C{ticket_rotation} the keys change, in all processes at once."""
        settings = self.one.model_copy(update={"ticket_rotation": 3600.0})
        served, other = self.another(settings), self.another(settings)
        client = self.trusting()
        session = Pair(client, served).shaken().client.tls.session
        self.clock.now += 3599
        for each in (served, other):
            each.look()
        self.assertTrue(Pair(client, other, session=session).shaken().server.tls.resumed)
        self.clock.now += 1
        for each in (served, other):
            each.look()
        pair = Pair(client, other, session=session).shaken()
        self.assertFalse(pair.server.tls.resumed)
        self.assertTrue(Pair(client, served, session=pair.client.tls.session).shaken().server.tls.resumed)

    def test_other_names(self) -> None:
        """A session goes on whatever certificate it began with."""
        served = self.another(self.settings([self.names("default.example"), self.names("a.example")]))
        self.assertTrue(self.resumes(served, served))

    def test_other_rules(self) -> None:
        """A session that began without a certificate of the client is not resumed where one is required."""
        ca = self.authority.write(self.folder, "ca.crt.txt")
        optional = self.another(self.settings(client_ca=ca, client_auth="optional"))
        required = self.another(self.settings(client_ca=ca))
        plain = self.another()
        for first in (plain, optional):
            client = self.trusting()
            session = Pair(client, first).shaken().client.tls.session
            pair = Pair(client, required, session=session)
            pair.pump()
            self.assertEqual(pair.server.reasons, ["the peer shows no certificate"])

    def test_none(self) -> None:
        """Without tickets nothing is resumed, by whatever means of the protocol."""
        for available in (True, False):
            self.patch(_openssl, "available", available and _openssl.available)
            served = self.another(self.settings(session_tickets=False))
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                client = self.trusting()
                client.maximum_version = version
                pair = Pair(client, served).shaken()
                session = pair.client.tls.session
                if session is not None and session.has_ticket:
                    self.fail("there was a ticket")
                if session is not None and available:
                    self.assertFalse(Pair(client, served, session=session).shaken().server.tls.resumed)

    def test_unavailable(self) -> None:
        """Where the keys cannot be set, that is said, and nothing else fails."""
        self.patch(_openssl, "available", False)
        self.patch(_openssl, "why_not", "Python is small")
        served = self.another()
        [warning] = served.warnings()
        self.assertIn("cannot be resumed in another process", warning)
        self.assertIn("Python is small", warning)
        served.look()
        self.assertFalse(self.resumes(served, self.another()))
        self.assertEqual(self.another(self.settings(session_tickets=False)).warnings(), [])

    if no_openssl is not None:
        for name in ("test_shared", "test_rotation", "test_reload", "test_other_names"):
            locals()[name].skip = no_openssl


class Stapling(Case):
    """OCSP responses that are sent along."""

    if no_openssl is not None:
        skip = no_openssl

    def stapled(self, served: ServerTls, name: bytes = b"a.example", rsa: bool = False) -> bytes:
        """What a client gets that asks for the state of the certificate."""
        got: list[bytes] = []
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_ocsp_client_callback(lambda _, response, __: got.append(response) or True)
        if rsa:
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            context.set_cipher_list(b"ECDHE+aRSA")
        client = SSL.Connection(context, None)
        client.set_connect_state()
        client.set_tlsext_host_name(name)
        client.request_ocsp()
        pair = Pair(self.trusting(), served)
        while not pair.server.opened:
            try:
                client.do_handshake()
            except SSL.WantReadError:
                pass
            pair.server.tls.dataReceived(client.bio_read(65536))
            answer = pair.server.raw.take()
            if answer:
                client.bio_write(answer)
        return got[0]

    def write(self, issued: Issued, name: str = "a.der", **more: Any) -> str:
        path = self.path(name)
        with open(path, "wb") as file:
            file.write(self.authority.staple(issued, **more))
        return path

    def test_sent(self) -> None:
        """Each certificate has its own, also of two for one name; one without any has none."""
        ecdsa, rsa = self.authority.issue(["a.example"]), self.authority.issue(["a.example"], "rsa")
        other = self.authority.issue(["b.example"])
        files = [one.write(self.folder, f"{n}.pem") for n, one in enumerate((ecdsa, rsa, other))]
        staples = [self.write(ecdsa, "1.der"), self.write(rsa, "2.der")]
        served = self.served(files, ocsp=tuple(staples))
        with open(staples[0], "rb") as first, open(staples[1], "rb") as second:
            self.assertEqual(self.stapled(served), first.read())
            self.assertEqual(self.stapled(served, rsa=True), second.read())
        self.assertEqual(self.stapled(served, b"b.example"), b"")
        self.assertEqual([len(one.problems) for one in served.certificates()], [0, 0, 0])

    def test_stale(self) -> None:
        """One that should have been replaced is not sent, and that is said; so is one that says nothing good."""
        issued = self.authority.issue(["a.example"])
        clock = Hours(issued.certificate.not_valid_before_utc.timestamp() + DAY)
        settings = self.settings([issued.write(self.folder)], ocsp=(self.write(issued, days=7),))
        served = ServerTls(settings, clock=clock)
        self.assertNotEqual(self.stapled(served), b"")
        clock.now += 8 * DAY
        self.assertEqual(self.stapled(served), b"")
        [warning] = served.warnings()
        self.assertIn("a.der: the OCSP response is stale since ", warning)
        self.write(issued, revoked=True)
        [warning] = warnings(settings)
        self.assertIn("says that the certificate is not good", warning)

    def test_replaced(self) -> None:
        """A new response in the folder is sent from then on."""
        issued = self.authority.issue(["a.example"])
        os.mkdir(self.path("ocsp"))
        self.write(issued, "ocsp/x", days=3)
        served = self.served([issued.write(self.folder)], ocsp=(self.path("ocsp"),))
        before = self.stapled(served)
        os.rename(self.write(issued, "new", days=5), self.path("ocsp", "x"))
        served.look()
        self.assertNotIn(self.stapled(served), (before, b""))

    def test_errors(self) -> None:
        """What cannot be stapled is an error of the configuration."""
        issued = self.authority.issue(["a.example"])
        certificate = issued.write(self.folder)
        with open(self.path("rubbish"), "wb") as file:
            file.write(b"no DER")
        for path, error in (
            (self.path("none"), "none: cannot be read: No such file or directory"),
            (self.path("rubbish"), "rubbish: is no OCSP response in DER"),
            (self.write(self.authority.issue(["z.example"]), "other"), "other: is about none of the certificates"),
        ):
            [problem] = check(self.settings([certificate], ocsp=(path,)))
            self.assertIn(error, problem)
        self.patch(_openssl, "available", False)
        [problem] = check(self.settings([certificate], ocsp=(self.write(issued),)))
        self.assertIn("nothing can be stapled here", problem)


class Clients(Case):
    """Certificates of clients."""

    def setUp(self) -> None:
        super().setUp()
        self.people = Authority("People")
        self.ca = self.people.write(self.folder, "people.txt")

    def client(self, issued: Issued | None) -> ssl.SSLContext:
        context = self.trusting()
        if issued is not None:
            context.load_cert_chain(issued.write(self.folder, "client.txt"))
        return context

    def outcome(self, served: ServerTls, issued: Issued | None) -> str:
        """C{name} of the client that got in, or why it did not."""
        pair = Pair(self.client(issued), served)
        pair.pump()
        if pair.server.reasons:
            return pair.server.reasons[0]
        shown = pair.server.tls.getPeerCertificate()
        return "nobody" if shown is None else common(shown)

    def test_required(self) -> None:
        """Who has no certificate of the authority does not get in, and the reason is told."""
        served = self.served(client_ca=self.ca)
        for issued, outcome in (
            (self.people.issue(["alice"], client=True), "alice"),
            (self.people.issue(["rsa"], "rsa", client=True), "rsa"),
            (None, "the peer shows no certificate"),
            (self.authority.issue(["mallory"], client=True), "self-signed certificate in certificate chain"),
            (self_signed(["mallory"]), "self-signed certificate"),
            (self.people.expired(["late"], client=True), "certificate has expired"),
            (self.people.issue(["server"]), "unsuitable certificate purpose"),
            (Authority("Middle", parent=self.people).issue(["bob"], client=True), "bob"),
        ):
            self.assertIn(outcome, self.outcome(served, issued))

    def test_optional(self) -> None:
        """Who has none gets in; who has a wrong one does not."""
        served = self.served(client_ca=self.ca, client_auth="optional")
        for issued, outcome in (
            (self.people.issue(["alice"], client=True), "alice"),
            (None, "nobody"),
            (self.authority.issue(["mallory"], client=True), "self-signed certificate in certificate chain"),
        ):
            self.assertEqual(self.outcome(served, issued), outcome)

    def test_for_every_name(self) -> None:
        """Whatever name is asked for, a certificate is required."""
        served = self.served([self.names("a.example"), self.names("b.example")], client_ca=self.ca)
        for name in ("a.example", "b.example"):
            pair = Pair(self.trusting(), served, name)
            pair.pump()
            self.assertEqual(pair.server.reasons, ["the peer shows no certificate"])

    def test_revoked(self) -> None:
        """Who stands in the revocation list does not get in; a new list counts at once, for resumed sessions too."""
        alice, bob = self.people.issue(["alice"], client=True), self.people.issue(["bob"], client=True)
        crl = self.people.write_revocations(self.folder, [bob])
        served = self.served(client_ca=self.ca, client_crl=crl)
        self.assertEqual(self.outcome(served, alice), "alice")
        self.assertEqual(self.outcome(served, bob), "certificate revoked")
        client = self.client(alice)
        session = Pair(client, served).shaken().client.tls.session
        self.assertIsNotNone(Pair(client, served, session=session).shaken().server.tls.peer_der)
        os.rename(self.people.write_revocations(self.folder, [alice, bob], "new"), crl)
        served.look()
        pair = Pair(client, served, session=session)
        pair.pump()
        self.assertEqual(pair.server.reasons, ["certificate revoked"])

    def test_old_list(self) -> None:
        """A revocation list that should have been replaced lets nobody in, and that is said."""
        crl = self.path("crl.pem")
        with open(crl, "wb") as file:
            file.write(self.people.revocations(days=-1))
        served = self.served(client_ca=self.ca, client_crl=crl)
        self.assertEqual(self.outcome(served, self.people.issue(["alice"], client=True)), "CRL has expired")
        [warning] = served.warnings()
        self.assertIn("crl.pem: the revocation list is out of date since ", warning)

    def test_errors(self) -> None:
        """Files of authorities and lists that are none."""
        crl = self.people.write_revocations(self.folder)
        torn = self.path("torn.pem")
        with open(torn, "wb") as file:
            file.write(b"-----BEGIN X509 CRL-----\nrubbish\n-----END X509 CRL-----\n")
        for settings, error in (
            ({"client_ca": self.path("none")}, "none: cannot be read: No such file"),
            ({"client_ca": crl}, "crl.pem: holds no certificate of an authority in PEM"),
            ({"client_ca": self.ca, "client_crl": self.ca}, "people.txt: holds no revocation list in PEM"),
            ({"client_ca": self.ca, "client_crl": self.folder}, "cannot be read: Is a directory"),
            ({"client_ca": self.ca, "client_crl": torn}, "torn.pem: holds no revocation list in PEM"),
        ):
            [problem] = check(self.settings(**settings))
            self.assertIn(error, problem)


class Files(Case):
    """What lies on the disk."""

    def found(self, *paths: str) -> list[str]:
        """The files that are served, without the folder."""
        return [os.path.relpath(one.file, self.folder) for one in self.served(paths).certificates()]

    def test_shapes(self) -> None:
        """One file or two, by the names that are in use, and a folder as certbot makes it."""
        one = self.authority.issue(["a.example"])
        for name in ("pair", "mkcert", "live/site", "live/other", "live/.hidden"):
            os.makedirs(self.path(name))
        one.write(self.path("pair"), "single.pem")
        one.write_pair(self.path("pair"), "double")
        os.rename(one.write_pair(self.path("pair"), "x.example")[0], self.path("pair", "x.example.pem"))
        os.rename(one.write_pair(self.path("pair"), "y")[1], self.path("pair", "y.crt.key"))
        self.authority.write(self.path("pair"), "ca.pem")
        crt, key = one.write_pair(self.path("mkcert"), "dev")
        os.rename(crt, self.path("mkcert", "dev.pem"))
        os.rename(key, self.path("mkcert", "dev-key.pem"))
        for folder in ("live/site", "live/other", "live/.hidden"):
            crt, key = one.write_pair(self.path(folder))
            os.rename(crt, self.path(folder, "fullchain.pem"))
            os.rename(key, self.path(folder, "privkey.pem"))
            with open(self.path(folder, "cert.pem"), "wb") as file:
                file.write(one.cert_pem)
        with open(self.path("live", "README"), "w") as text:
            text.write("about")
        self.assertEqual(
            self.found(self.path("pair")), [f"pair/{n}" for n in ("double.crt", "single.pem", "x.example.pem", "y.crt")]
        )
        self.assertEqual(self.found(self.path("mkcert")), ["mkcert/dev.pem"])
        self.assertEqual(self.found(self.path("live")), ["live/other/fullchain.pem", "live/site/fullchain.pem"])
        self.assertEqual(self.found(self.path("pair", "double.crt")), ["pair/double.crt"])
        self.assertEqual(
            self.found(self.path("live/site"), self.path("live")), sorted(self.found(self.path("live")))[::-1]
        )

    def test_chain(self) -> None:
        """What stands between the certificate and its root is sent along."""
        issued = Authority("Middle", parent=self.authority).issue(["a.example"])
        served = self.served([issued.write(self.folder)])
        Pair(self.trusting(), served).shaken()

    def test_errors(self) -> None:
        """Everything that is wrong is told at once, each with its file."""
        issued, other = self.authority.issue(["a.example"]), self.authority.issue(["a.example"], fresh_key=True)
        os.mkdir(self.path("empty"))
        _, key = issued.write_pair(self.folder, "alone")
        os.rename(key, self.path("elsewhere.key"))
        self._write("rubbish.pem", b"rubbish")
        self._write("broken.pem", b"-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n")
        self._write("torn.pem", issued.cert_pem[: len(issued.cert_pem) // 2] + issued.key_pem)
        self._write("other.pem", issued.cert_pem + other.key_pem)
        self._write("badkey.pem", issued.cert_pem + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        self._write("locked.pem", issued.cert_pem + b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n")
        self._write("huge.pem", bytes(2 << 20))
        self._write("fake.crt", issued.cert_pem)
        self._write("fake.key", b"rubbish")
        self.authority.issue(["a.example"], "weak").write(self.folder, "weak.pem")
        expected = {
            "none.pem": "there is no such file or folder",
            "empty": "holds no certificate (files .pem, .crt, .cer, .cert, here or one folder below)",
            "alone.crt": "there is no key, neither in it nor in alone.key",
            "elsewhere.key": "holds a key alone; name the certificate, and its key is found beside it",
            "rubbish.pem": "holds no certificate in PEM",
            "broken.pem": "holds something that is no certificate",
            "torn.pem": "holds something that is no certificate",
            "other.pem": "the key does not belong to the certificate",
            "badkey.pem": "badkey.pem: ",
            "locked.pem": "its key is encrypted",
            "huge.pem": "is larger than any certificate",
            "fake.crt": "fake.key: holds no private key in PEM",
            "weak.pem": "the key of the certificate is too small",
        }
        problems = check(self.settings([self.path(name) for name in expected]))
        self.assertEqual(len(problems), len(expected), problems)
        for (name, text), problem in zip(expected.items(), problems, strict=True):
            self.assertIn(text, problem)
            if name != "fake.crt":
                self.assertTrue(problem.startswith(self.path(name) + ": "), problem)
        with self.assertRaises(BadTls) as raised:
            self.served([self.path(name) for name in expected])
        self.assertEqual(raised.exception.problems, problems)
        self.assertIn(problems[0], str(raised.exception))
        self.assertEqual(warnings(self.settings([self.path("none.pem")])), [])
        self.assertEqual(check(self.settings()), [])

    def _write(self, name: str, data: bytes) -> None:
        with open(self.path(name), "wb") as file:
            file.write(data)

    def test_other_keys(self) -> None:
        """Keys of newer kinds are served like others."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        key = ed25519.Ed25519PrivateKey.generate()
        sample = self.authority.issue(["a.example"]).certificate
        builder = (
            x509.CertificateBuilder()
            .subject_name(sample.subject)
            .issuer_name(sample.issuer)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(sample.not_valid_before_utc)
            .not_valid_after(sample.not_valid_after_utc)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
        )
        certificate = builder.sign(self.authority.key, hashes.SHA256())
        pem = serialization.Encoding.PEM
        self._write(
            "ed.pem",
            certificate.public_bytes(pem)
            + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        served = self.served([self.path("ed.pem")])
        self.assertEqual(served.certificates()[0].kind, "ed25519")
        Pair(self.trusting(), served).shaken()

    def test_without_files_in_memory(self) -> None:
        """Where there are no files in memory, one for us alone does, and where there is none either, that is told."""

        def none(*_: object) -> int:
            raise OSError(38, "Function not implemented")

        self.patch(os, "memfd_create", none)
        settings = self.settings()
        self.assertEqual(check(settings), [])
        self.patch(files, "NamedTemporaryFile", lambda **_: none())
        [problem] = check(settings)
        self.assertIn("a.pem: cannot be given to OpenSSL: Function not implemented", problem)

    def test_unreadable(self) -> None:
        """What is there but cannot be read is told as such, with the system's reason."""
        path = self.path("socket.pem")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)  # root may read everything else
            self.assertEqual(check(self.settings([path])), [f"{path}: cannot be read: No such device or address"])


class Changes(Case):
    """Files that change while it serves."""

    def test_replaced(self) -> None:
        """A new certificate in the place of the old one is served from the next look on; connections go on."""
        path = self.authority.issue(["a.example"], subject="old").write(self.folder)
        served = self.served([path])
        pair = Pair(self.trusting(), served).shaken()
        self.assertFalse(served.changed())
        self._replace(path, self.authority.issue(["a.example"], subject="new"))
        self.assertTrue(served.changed())
        self.assertEqual(common(self.shown(served, "a.example")), "old")
        served.look()
        self.assertFalse(served.changed())
        self.assertEqual(common(self.shown(served, "a.example")), "new")
        pair.client.tls.write(b"still here")
        pair.pump()
        self.assertEqual(pair.server.protocol.data, b"still here")

    def _replace(self, path: str, issued: Issued) -> None:
        """As programs do it that do it right."""
        os.rename(issued.write(self.folder, "new.tmp"), path)

    def test_key_alone(self) -> None:
        """A change of the file with the key is one, too."""
        crt, key = self.authority.issue(["a.example"]).write_pair(self.folder)
        served = self.served([crt])
        new = self.authority.issue(["a.example"], subject="new", fresh_key=True)
        with open(crt, "wb") as file:
            file.write(new.cert_pem)
        served.look()
        self.assertIn("the key does not belong to the certificate", served.problems[0])
        self.assertEqual(common(self.shown(served, "a.example")), "a.example")
        with open(key, "wb") as file:
            file.write(new.key_pem)
        served.look()
        self.assertEqual(served.problems, [])
        self.assertEqual(common(self.shown(served, "a.example")), "new")

    def test_broken(self) -> None:
        """A file that is broken now keeps what was there, for its names alone, and stands among the problems."""
        folder = self.path("certs")
        os.mkdir(folder)
        first = self.authority.issue(["a.example"]).write(folder, "a.pem")
        second = self.authority.issue(["b.example"]).write(folder, "b.pem")
        served = self.served([folder])
        with open(first, "wb") as file:
            file.write(b"half a")
        self._replace(second, self.authority.issue(["b.example"], subject="new b"))
        self.authority.issue(["c.example"]).write(folder, "c.pem")
        served.look()
        self.assertEqual(len(served.problems), 0)  # a folder may hold files that are none of ours
        self.assertEqual(common(self.shown(served, "c.example")), "c.example")
        with open(first, "wb") as file:
            file.write(b"-----BEGIN CERTIFICATE-----\nhalf")
        served.look()
        [problem] = served.problems
        self.assertTrue(problem.startswith(first), problem)
        self.assertEqual(common(self.shown(served, "b.example")), "new b")

    def test_broken_file(self) -> None:
        """The same of a file that the configuration names: all that was in it serves on, and the log says so once."""
        path = self.authority.issue(["a.example"]).write(self.folder)
        served = self.served([path, self.names("b.example")])
        with open(path, "wb") as file:
            file.write(b"half a certif")
        served.look()
        served.look()
        self.assertEqual(served.problems, [f"{path}: holds no certificate in PEM"])
        self.assertEqual(common(self.shown(served, "a.example")), "a.example")
        self.assertEqual(served.certificates()[0].problems, tuple(served.problems))
        self.assertEqual(served.warnings(), served.problems)
        os.unlink(path)
        served.look()
        self.assertEqual(served.problems, [f"{path}: there is no such file or folder"])
        self.assertEqual(common(self.shown(served, "a.example")), "a.example")

    def test_removed_from_folder(self) -> None:
        """A file that is gone from a folder is gone; a folder that is empty keeps all that was in it."""
        folder = self.path("certs")
        os.mkdir(folder)
        first = self.authority.issue(["a.example"]).write(folder, "a.pem")
        second = self.authority.issue(["b.example"]).write(folder, "b.pem")
        served = self.served([folder])
        os.unlink(first)
        served.look()
        self.assertEqual(common(self.shown(served, "a.example")), "b.example")
        os.unlink(second)
        served.look()
        self.assertIn("holds no certificate", served.problems[0])
        self.assertEqual(common(self.shown(served, "a.example")), "b.example")

    def test_authorities(self) -> None:
        """The file of the authorities that is broken keeps the old one; a new one counts."""
        ca = self.authority.write(self.folder, "ca.txt")
        served = self.served(client_ca=ca)
        with open(ca, "wb") as file:
            file.write(b"rubbish")
        served.look()
        self.assertIn("holds no certificate of an authority", served.problems[0])
        pair = Pair(self.trusting(), served)
        pair.pump()
        self.assertEqual(pair.server.reasons, ["the peer shows no certificate"])
        served.reload()
        self.assertEqual(len(served.problems), 1)


class Expiry(Case):
    """Certificates that end."""

    def test_warnings(self) -> None:
        """From 14 days before its end on there is a warning, and each certificate is shown with its days."""
        issued = self.authority.issue(["a.example", "b.example"], days=90)
        end = issued.certificate.not_valid_after_utc.timestamp()
        path = issued.write(self.folder)
        clock = Hours(end - 15 * DAY)
        served = ServerTls(self.settings([path]), clock=clock)
        self.assertEqual(served.warnings(), [])
        [shown] = served.certificates()
        self.assertEqual(shown.names, ("a.example", "b.example"))
        self.assertEqual((shown.file, shown.kind, shown.days_left, shown.not_after), (path, "ecdsa", 15.0, end))
        self.assertEqual(shown.problems, ())
        clock.now = end - 13.5 * DAY
        [warning] = served.warnings()
        self.assertRegex(warning, r"site\.pem: the certificate for a\.example expires on \d{4}-\d\d-\d\d, in 13 days")
        clock.now = end + DAY
        [warning] = served.warnings()
        self.assertRegex(warning, r"the certificate for a\.example has expired on \d{4}-\d\d-\d\d")
        self.assertEqual(served.certificates()[0].days_left, -1.0)

    def test_not_yet(self) -> None:
        """One that is not valid yet is told as such."""
        path = self.authority.issue(["a.example"], started=-3).write(self.folder)
        [warning] = warnings(self.settings([path]))
        self.assertIn("is not valid before", warning)

    def test_successor(self) -> None:
        """Of two certificates for a name, the second one takes over within a day of the first one's end."""
        first = self.authority.issue(["a.example"], days=5, subject="first")
        second = self.authority.issue(["a.example"], days=90, subject="second")
        paths = [first.write(self.folder, "1.pem"), second.write(self.folder, "2.pem")]
        clock = Hours(first.certificate.not_valid_after_utc.timestamp() - 3600)
        served = ServerTls(self.settings(paths), clock=clock)
        self.assertEqual(common(self.shown(served, "a.example")), "first")
        clock.now += DAY
        served.look()
        self.assertEqual(common(self.shown(served, "a.example")), "second")

    def test_once_a_day(self) -> None:
        """While it serves, that is logged once a day."""
        from twisted.logger import globalLogPublisher

        path = self.authority.issue(["a.example"], days=5).write(self.folder)
        issued_now = os.stat(path).st_mtime
        clock = Hours(issued_now)
        served = ServerTls(self.settings([path]), clock=clock)
        lines: list[str] = []

        def hear(event: Any) -> None:
            if event.get("log_namespace") == "lemmytx.tls":
                lines.append(event["about"])

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        for _ in range(3 * 24):
            clock.now += 3600
            served.look()
        self.assertEqual(len(lines), 3)
        self.assertIn("in 2 days", lines[1])


class OpenSsl(SynchronousTestCase):
    """What reaches around the standard library."""

    if no_openssl is not None:
        skip = no_openssl

    def test_settings_arrive(self) -> None:
        """Groups that do not exist are refused by OpenSSL itself, so the others have arrived there."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _openssl.set_groups(context, "X25519:prime256v1")
        self.assertRaises(ValueError, _openssl.set_groups, context, "nonsense")
        _openssl.set_ticket_keys(context, bytes(_openssl.TICKET_KEYS))
        _openssl.save_memory(context)

    def test_certificates_have_numbers(self) -> None:
        """The certificate that was loaded last is told from the others."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.assertEqual(_openssl.certificate(context), 0)

    def test_unknown_pythons(self) -> None:
        """Elsewhere nothing is touched, and the reason is there."""
        for patched, value, why in (
            ("KNOWN", ((3, 8), (3, 9)), "Python is cpython 3."),
            ("_Library", _missing, "its OpenSSL is not a shared library (no such symbol)"),
        ):
            self.patch(_openssl, patched, value)
            library, reason = _openssl._load()
            self.assertIsNone(library)
            self.assertIn(why, reason)
            self.patch(_openssl, "KNOWN", ((3, 11), (sys.version_info[0], sys.version_info[1] + 1)))


def _missing() -> None:
    raise AttributeError("no such symbol")
