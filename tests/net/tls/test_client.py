"""
TLS towards backends: the settings, and the words for what goes wrong.

How connections go by them is in L{tests.proxy.test_dial}.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
from typing import Any

from cryptography.hazmat.primitives import serialization
from pydantic import ValidationError
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.model import BackendTls, Cluster
from lemmytx.net.tls.client import ClientTls, explained, pin_of
from tests.certificates import Authority
from tests.process.rig import folder


class SettingsTests(SynchronousTestCase):
    """L{ClientTls}, as it is made."""

    def setUp(self) -> None:
        self.authority = Authority()
        self.folder = folder(self)

    def write(self, content: bytes, name: str = "file.pem") -> str:
        """A file with this content."""
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def refused(self, **settings: Any) -> str:
        """The text for settings that cannot be used."""
        return str(self.assertRaises(ValueError, ClientTls, BackendTls(**settings)))

    def test_defaults(self) -> None:
        """Unless told otherwise, certificates and names are verified, by the system's authorities, from TLS 1.2 on."""
        context = ClientTls(BackendTls()).context("https")
        self.assertEqual((context.verify_mode, context.check_hostname), (ssl.CERT_REQUIRED, True))
        self.assertEqual(context.minimum_version, ssl.TLSVersion.TLSv1_2)
        self.assertFalse(context.hostname_checks_common_name)
        self.assertTrue(context.options & ssl.OP_NO_COMPRESSION and context.options & ssl.OP_NO_RENEGOTIATION)
        self.assertTrue(context.security_level >= 2)

    def test_ownAuthorityAlone(self) -> None:
        """With an authority of one's own, those of the system are not believed."""
        context = ClientTls(BackendTls(ca=self.authority.write(self.folder))).context("https")
        self.assertEqual(context.cert_store_stats()["x509_ca"], 1)

    def test_modern(self) -> None:
        """The oldest version can be 1.3."""
        context = ClientTls(BackendTls(minimum_version="1.3")).context("https")
        self.assertEqual(context.minimum_version, ssl.TLSVersion.TLSv1_3)

    def test_protocols(self) -> None:
        """Each protocol that is spoken has a context of its own, since each offers something else."""
        tls = ClientTls(BackendTls(verify=False), ("https", "h2", "https"))
        self.assertNotIdentical(tls.context("https"), tls.context("h2"))
        self.assertIdentical(tls.context("https"), tls.context("https"))

    def test_names(self) -> None:
        """The certificate has to be for C{name}, else for the URL's host."""
        self.assertEqual(ClientTls(BackendTls(name="a.example")).name("b.example"), "a.example")
        self.assertEqual(ClientTls(BackendTls()).name("b.example"), "b.example")
        self.assertIdentical(ClientTls(BackendTls(verify=False)).name(""), None)

    def test_noName(self) -> None:
        """A unix socket has no name, so one has to be written, unless nothing is verified."""
        backends = ["https+unix:///run/app.sock"]
        error = self.assertRaises(ValidationError, Cluster.model_validate, {"backends": backends})
        self.assertIn("tls: {name: …}", str(error))
        for settings in ({"name": "app.internal"}, {"verify": False}):
            Cluster.model_validate({"backends": backends, "tls": settings})

    def test_missing(self) -> None:
        """A file that is not there is named, with the reason."""
        path = os.path.join(self.folder, "nowhere.pem")
        self.assertEqual(self.refused(ca=path), f"tls.ca: {path!r} cannot be read: No such file or directory")
        self.assertIn(f"tls.certificate: {path!r} cannot be read: No such file", self.refused(certificate=path))

    def test_noAuthority(self) -> None:
        """A file without a certificate in it is no authority."""
        for content in (b"", b"hello", self.authority.cert_pem[:100], self.authority.issue(["a"]).key_pem):
            path = self.write(content)
            self.assertEqual(self.refused(ca=path), f"tls.ca: there is no certificate in {path!r}; it has to be in PEM")

    def test_badCertificate(self) -> None:
        """What we are to show must be a certificate with its key."""
        ours, other = self.authority.issue(["a"], "ecdsa"), self.authority.issue(["b"], fresh_key=True)
        certificate = self.write(ours.cert_pem, "ours.crt")
        self.assertIn(
            "the key is another certificate's", self.refused(certificate=self.write(ours.cert_pem + other.key_pem))
        )
        self.assertIn(
            "the key is another certificate's",
            self.refused(certificate=certificate, key=self.write(other.key_pem, "other.key")),
        )
        for content in (b"", b"hello", ours.cert_pem, ours.key_pem):
            self.assertIn("no certificate and key in PEM", self.refused(certificate=self.write(content)))
        ClientTls(BackendTls(certificate=certificate, key=self.write(ours.key_pem, "ours.key")))
        ClientTls(BackendTls(certificate=self.write(ours.chain_pem + ours.key_pem)))

    def test_locked(self) -> None:
        """A key with a password is refused; nobody is asked for it."""
        ours = self.authority.issue(["a"])
        locked = ours.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        self.assertIn("is encrypted", self.refused(certificate=self.write(ours.cert_pem + locked)))

    def test_warnings(self) -> None:
        """Only who verifies nothing is warned, and less so with a pin."""
        self.assertEqual(ClientTls(BackendTls()).warnings(), [])
        pin = "A" * 43 + "="
        self.assertEqual(ClientTls(BackendTls(pin=(pin,))).warnings(), [])
        (without,) = ClientTls(BackendTls(verify=False)).warnings()
        self.assertIn("read and change everything", without)
        (pinned,) = ClientTls(BackendTls(verify=False, pin=(pin,))).warnings()
        self.assertNotIn("read and change", pinned)

    def test_noSession(self) -> None:
        """The first connection has nothing to resume."""
        self.assertIdentical(ClientTls(BackendTls()).session("https", "https://a.example"), None)

    def test_reload(self) -> None:
        """Files that have changed are read again; what cannot be used leaves all as it was, and the log says so."""
        said: list[LogEvent] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        path = self.authority.write(self.folder)
        tls = ClientTls(BackendTls(ca=path), ("https", "h2"))
        first = tls.context("https")
        tls.reload()
        self.assertIdentical(tls.context("https"), first)
        self.write(b"broken", "ca.pem")
        tls.reload()
        self.assertIdentical(tls.context("https"), first)
        os.remove(path)
        tls.reload()
        self.assertIdentical(tls.context("https"), first)
        problems = [formatEvent(event) for event in said if event["log_namespace"] == "lemmytx.tls"]
        self.assertEqual(len(problems), 2)
        self.assertIn("there is no certificate in", problems[0])
        self.assertIn("what was read before stays", problems[1])
        self.write(self.authority.cert_pem + Authority("Second").cert_pem, "ca.pem")
        tls.reload()
        self.assertNotIdentical(tls.context("https"), first)
        self.assertEqual([tls.context(name).cert_store_stats()["x509_ca"] for name in ("https", "h2")], [2, 2])

    def test_pin(self) -> None:
        """A pin is the SHA-256 of the public key, in base64; it stays when the certificate is renewed."""
        issued = self.authority.issue(["a"])
        expected = base64.b64encode(hashlib.sha256(issued.public_key_der).digest()).decode()
        self.assertEqual(pin_of(issued.der), expected)
        self.assertEqual(pin_of(self.authority.issue(["b"]).der), expected)
        self.assertEqual(pin_of(None), "")


class ExplainedTests(SynchronousTestCase):
    """L{explained}, where no real handshake shows it (see L{tests.proxy.test_dial.TlsTests})."""

    def failure(self, reason: str) -> ssl.SSLError:
        """What OpenSSL would raise."""
        error = ssl.SSLError(1, f"[SSL: {reason}] words (_ssl.c:1)")
        error.reason = reason
        return error

    def test_known(self) -> None:
        """What a backend says about our certificate is told in words."""
        self.assertEqual(
            explained(self.failure("TLSV1_ALERT_UNKNOWN_CA")), "it does not believe the authority of our certificate"
        )

    def test_unknown(self) -> None:
        """What nobody has thought of is told in OpenSSL's words."""
        self.assertEqual(
            explained(self.failure("SSLV3_ALERT_ILLEGAL_PARAMETER")),
            "the handshake failed: sslv3 alert illegal parameter",
        )
        self.assertEqual(explained(ssl.SSLError(1, "what")), "the handshake failed: unknown error")
        self.assertEqual(explained(OSError(5, "broken")), "the handshake failed: [Errno 5] broken")

    def test_withoutCertificate(self) -> None:
        """Where the certificate cannot be had, the verdict stands without what it says."""
        for code, expected in (
            (10, "its certificate has expired"),
            (9, "its certificate is not valid yet"),
            (62, "its certificate is not for a.example"),
            (99, "its certificate cannot be verified: something else"),
        ):
            error = ssl.SSLCertVerificationError(1, "no")
            error.verify_code = code
            error.verify_message = "something else"
            self.assertEqual(explained(error, "a.example"), expected)

    def test_ended(self) -> None:
        """An end in the middle is told as such."""
        self.assertEqual(explained(ssl.SSLEOFError(8, "eof")), "it ended the connection in the handshake")
