"""What backends are told about a client's certificate."""

from __future__ import annotations

import base64
from urllib.parse import unquote

from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from lemmytx.net.tls.peer import client_fields, fields
from tests.certificates import Authority
from tests.net.tls.peers import Pair, TlsCase

AUTHORITY = Authority("People; Inc")


def told(lines: bytes) -> dict[str, str]:
    """The values by their names, decoded; every line has to be one."""
    found = {}
    assert lines.endswith(b"\r\n")
    for line in lines[:-2].split(b"\r\n"):
        name, value = line.split(b": ")
        found[name.decode()] = unquote(value.decode("ascii"))
    return found


class Fields(TlsCase):
    """The lines."""

    def test_of_a_connection(self) -> None:
        """Whoever has shown a certificate is told; of anybody else there is nothing to tell."""
        ca = AUTHORITY.write(self.folder, "people.txt")
        served = self.served(client_ca=ca, client_auth="optional")
        issued = AUTHORITY.issue(["alice.example", "10.0.0.1"], client=True)
        client = self.trusting()
        self.assertEqual(client_fields(Pair(client, served).shaken().server.tls), b"")
        client.load_cert_chain(issued.write(self.folder, "alice.txt"))
        lines = client_fields(Pair(client, served).shaken().server.tls)
        found = told(lines)
        self.assertEqual(list(found), ["X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info"])
        self.assertEqual(base64.b64decode(found["X-Forwarded-Tls-Client-Cert"], validate=True), issued.der)
        begin = int(issued.certificate.not_valid_before_utc.timestamp())
        end = int(issued.certificate.not_valid_after_utc.timestamp())
        self.assertEqual(
            found["X-Forwarded-Tls-Client-Cert-Info"],
            f'Subject="CN=alice.example";Issuer="CN=People\\3B Inc";SerialNumber="{issued.serial}";'
            f'NB="{begin}";NA="{end}";SAN="alice.example,10.0.0.1"',
        )

    def test_no_alternative_names(self) -> None:
        """A certificate for a person has none."""
        issued = AUTHORITY.issue([], subject="Bob", client=True)
        self.assertNotIn("SAN", told(fields(issued.der))["X-Forwarded-Tls-Client-Cert-Info"])

    def test_unreadable(self) -> None:
        """Of a certificate that cannot be read nothing is said but itself."""
        self.assertEqual(fields(b"\x30\x00"), b"X-Forwarded-Tls-Client-Cert: MAA%3D\r\n")

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.text(st.characters(min_codepoint=1, blacklist_categories=["Cs"]), min_size=1, max_size=60))
    def test_nothing_gets_out(self, name: str) -> None:
        """No name in a certificate ends a field, a quoted value, or begins another."""
        for text in (name, f'a";Issuer="CN={name}', f"a\r\nX-Forwarded-For: {name}"):
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])
            lines = fields(AUTHORITY.issue([], subject=subject, client=True).der)
            self.assertEqual(lines.count(b"\r"), 2)
            self.assertEqual(lines.count(b"\n"), 2)
            info = told(lines)["X-Forwarded-Tls-Client-Cert-Info"]
            self.assertEqual(info.count('"'), 10)
            parts = [part.partition("=")[0] for part in info.split(";")]
            self.assertEqual(parts, ["Subject", "Issuer", "SerialNumber", "NB", "NA"])

    def test_alternative_names(self) -> None:
        """Of alternative names only those are told that are such."""
        names = [x509.DNSName("ok.example"), x509.DNSName('x";Issuer="CN=root'), x509.RFC822Name("a@b.example")]
        certificate = _with(names)
        info = told(fields(certificate))["X-Forwarded-Tls-Client-Cert-Info"]
        self.assertTrue(info.endswith(';SAN="ok.example,a@b.example"'), info)


def _with(names: list[x509.GeneralName]) -> bytes:
    """A certificate with any alternative names."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    sample = AUTHORITY.issue([], subject="x", client=True).certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(sample.subject)
        .issuer_name(sample.issuer)
        .public_key(sample.public_key())
        .serial_number(1)
        .not_valid_before(sample.not_valid_before_utc)
        .not_valid_after(sample.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return builder.sign(AUTHORITY.key, hashes.SHA256()).public_bytes(Encoding.DER)
