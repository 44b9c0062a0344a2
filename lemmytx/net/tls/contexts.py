"""The settings of OpenSSL for those who are connected to: Mozilla's presets, and what they leave open."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Any

from lemmytx.model import Tls as TlsSettings
from lemmytx.net.tls import _openssl
from lemmytx.net.tls.certificates import as_file

#: Of TLS 1.2: forward secrecy and authenticated encryption (Mozilla's "intermediate", version 5.7). Its three DHE
#: ciphers are left out: no browser of the last ten years needs them, and their handshakes are expensive for us alone.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)

#: The key exchange of both presets.
GROUPS = "X25519:prime256v1:secp384r1"

#: C{SSL_OP_PRIORITIZE_CHACHA}, which C{ssl} has no name for: a client that prefers ChaCha20 has no AES in hardware.
_PRIORITIZE_CHACHA = 1 << 21


class Secured(ssl.SSLObject):
    """
    A connection of ours, as OpenSSL sees it.

    @ivar asked: for which name the client asked, in lower case; L{None} where it did not.
    """

    asked: str | None = None


class ServerContext(ssl.SSLContext):
    """
    @ivar staples: what L{_openssl.staple} has to be kept, where there is anything to staple.
    """

    sslobject_class = Secured
    staples: object = None

    def _encode_hostname(self, hostname: str | None) -> str | None:
        """
        C{ssl} puts IDNA on the name that a client asks for before the callback gets it, and an error in that goes to
        standard error. What the client has sent is compared as it is.
        """
        return hostname


def make(
    settings: TlsSettings, protocols: Sequence[str], authorities: str | None, revoked: bytes = b""
) -> ServerContext:
    """
    A context without a certificate.

    @param protocols: for ALPN, the best first; may be empty.
    @param authorities: of client certificates, PEM; L{None}: clients are asked for none.
    @param revoked: the authorities' revocation lists, PEM; empty: nobody looks.
    @raise ssl.SSLError: C{authorities} are none, or C{revoked}.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    modern = settings.preset == "modern" or settings.minimum_version == "1.3"
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if modern else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | _PRIORITIZE_CHACHA
    )
    if not settings.session_tickets:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if authorities is not None:
        optional = settings.client_auth == "optional"
        context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=authorities)
        if revoked:
            with as_file(revoked) as path:
                context.load_verify_locations(path)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    if _openssl.available:
        _openssl.set_groups(context, GROUPS)
        _openssl.save_memory(context)
    return context


def choose_by_name(context: ssl.SSLContext, choose: Callable[[Any, str | None, ssl.SSLContext], int | None]) -> None:
    """
    @param choose: called in each handshake with the connection, the name that was asked for and the context it has; it
        may give it another one. Returns an alert, or L{None}.
    """
    context.sni_callback = choose
