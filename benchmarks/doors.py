"""
The doors at which a proxy of the comparison listens: HTTP/1.1 or HTTP/2, in the clear or within TLS, always with one
certificate: ECDSA on P-256, self-signed, made for the run.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import Failed, status_line

#: Certificate and key in one file, in the run's folder.
CERTIFICATE = "server.pem"

#: The name that the certificate is for.
NAME = "bench.example"

# RFC 9113 §3.4: the client's preface, and SETTINGS without a setting.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@dataclass(frozen=True)
class Door:
    """
    What a proxy is to speak.

    @ivar tls: within TLS 1.2 or 1.3 (all clients of the benchmark take 1.3).
    @ivar http2: by ALPN beside HTTP/1.1, or alone where there is no TLS (prior knowledge).
    """

    tls: bool = False
    http2: bool = False

    @property
    def nginx(self) -> str:
        """What follows the address in nginx's C{listen}."""
        return " ssl" * self.tls + " http2" * self.http2

    def haproxy(self, certificate: Path) -> str:
        """What follows the address in HAProxy's C{bind}."""
        if not self.tls:
            return " proto h2" * self.http2
        return f" ssl crt {certificate} ssl-min-ver TLSv1.2 alpn {'h2,' * self.http2}http/1.1"

    def url(self, port: int) -> str:
        """Of its root."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"

    def connect(self, port: int, patience: float) -> socket.socket:
        """
        A connection, its handshake over.

        @raise OSError: C{ssl.SSLError} included.
        """
        link = socket.create_connection(("127.0.0.1", port), timeout=patience)
        # A handshake that fails closes what was wrapped.
        return _CLIENT.wrap_socket(link, server_hostname=NAME) if self.tls else link

    def answer(self, port: int) -> str:
        """
        The status line of the answer to one GET; where HTTP/2 is all that is spoken, of its SETTINGS in place of that.

        @raise OSError: there is no answer.
        """
        with self.connect(port, 2) as link:
            if self.tls or not self.http2:
                return status_line(link)
            link.sendall(_PREFACE)
            said = link.recv(200)
            return "HTTP/2 200" if said[3:4] == b"\4" else repr(said)


PLAIN = Door()
TLS = Door(tls=True)
HTTP2 = Door(tls=True, http2=True)
CLEAR_HTTP2 = Door(http2=True)


def _client() -> ssl.SSLContext:
    """Of clients that take any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CLIENT = _client()


def make_certificate(folder: Path) -> None:
    """
    Write L{CERTIFICATE}, readable for all: nginx's master reads it as whoever runs the benchmark, others as they like.

    @raise Failed: openssl could not.
    """
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "30", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if ran.returncode:
        raise Failed(f"openssl made no certificate: {ran.stderr.strip()}")
    (folder / CERTIFICATE).write_bytes(certificate.read_bytes() + key.read_bytes())
