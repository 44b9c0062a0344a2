"""The doors in: listeners, and what they say before HTTP begins."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lemmytx.addresses import NETWORK, Network
from lemmytx.model.settings import LONG, Settings
from lemmytx.names import REDIRECT
from lemmytx.units import FLAG, count, duration, or_none

File = Annotated[str, Field(min_length=1)]


class Hsts(Settings):
    """Strict-Transport-Security (RFC 6797): browsers come by HTTPS alone from then on. Hard to take back."""

    max_age: Annotated[float, duration(0, 10 * LONG)] = Field(
        description="For how long, as in 365d. 0 takes back what was said before."
    )
    include_subdomains: Annotated[bool, FLAG] = Field(
        default=False, description="Whether all names below are meant too."
    )
    preload: Annotated[bool, FLAG] = Field(
        default=False, description="Whether browsers may put the name on their built-in lists."
    )


class Tls(Settings):
    """TLS on a listener. Relative paths start at the folder of the file."""

    certificates: tuple[File, ...] = Field(
        min_length=1,
        description="PEM files with chain and key, in one file or in two side by side, or folders of them. Which one a "
        "client gets is decided by the name it asks for (SNI); the first one is for all other names. Files that change "
        "are read again.",
    )
    preset: Literal["intermediate", "modern"] = Field(
        default="intermediate",
        description="Which versions and ciphers: 'intermediate' (TLS 1.2 and 1.3, all browsers of the last ten years) "
        "or 'modern' (TLS 1.3 alone), as Mozilla defines them.",
    )
    minimum_version: Literal["1.2", "1.3"] = Field(default="1.2", description="The oldest version of TLS, in quotes.")
    strict_sni: Annotated[bool, FLAG] = Field(
        default=False, description="Whether clients that ask for an unknown name, or for none, are refused."
    )
    client_ca: File | None = Field(
        default=None,
        description="A PEM file with the authorities of client certificates. What a client has shown goes to the "
        "backend in X-Forwarded-Tls-Client-Cert and X-Forwarded-Tls-Client-Cert-Info.",
    )
    client_auth: Literal["required", "optional"] = Field(
        default="required", description="Whether clients without a certificate are refused, where there is a client_ca."
    )
    client_crl: File | None = Field(default=None, description="A PEM file with the authorities' revocation lists.")
    ocsp: tuple[File, ...] = Field(
        default=(),
        description="Files with OCSP responses (DER) for the certificates, or folders of them; they are stapled.",
    )
    session_tickets: Annotated[bool, FLAG] = Field(
        default=True, description="Whether clients may resume their sessions with tickets."
    )
    ticket_rotation: Annotated[float, duration(60, 7 * 86400)] = Field(
        default=43200.0, description="After how long tickets are made with a new key."
    )
    handshake_timeout: Annotated[float, duration(0.1, 600)] = Field(
        default=10.0, description="How long a client has for its handshake."
    )
    handshakes: Annotated[int, count(1, 1_000_000)] = Field(
        default=1000,
        description="How many handshakes each process has under way at the most, on this listener; more have to wait.",
    )
    hsts: Hsts | None = Field(default=None, description="What browsers are told about coming by HTTPS alone.")

    @model_validator(mode="after")
    def _with_authority(self) -> Tls:
        """Called by pydantic when the settings themselves are right."""
        if self.client_crl is not None and self.client_ca is None:
            raise ValueError("has 'client_crl' without 'client_ca'; write the file of the authorities too")
        return self


class Listener(Settings):
    """A socket on which clients are accepted."""

    endpoint: str = Field(
        description="Where to listen: a Twisted server endpoint description, as in 'tcp:8080', "
        "'tcp:8080:interface=127.0.0.1', 'tcp6:8080' or 'unix:/run/lemmy.sock'."
    )
    tls: Tls | None = Field(default=None, description="TLS, with these certificates.")
    http2: Annotated[bool | None, or_none(FLAG)] = Field(
        default=None,
        description="Whether HTTP/2 is spoken. Over TLS the client chooses (ALPN), and it is spoken unless this is "
        "false; without TLS only if this is true, with clients that begin with it (prior knowledge).",
    )
    proxy_protocol: Annotated[bool, FLAG] = Field(
        default=False,
        description="Whether each connection begins with a PROXY protocol header, version 1 or 2. Only trusted_proxies "
        "may connect then.",
    )
    redirect_https: Annotated[bool | int, REDIRECT] = Field(
        default=False,
        description="Whether every request is answered with a redirect to HTTPS: true, or the port if it is not 443.",
    )
    trusted_proxies: tuple[Annotated[Network, NETWORK], ...] = Field(
        default=(),
        description="Networks of the proxies in front whose X-Forwarded-*, Forwarded and X-Request-ID fields, and "
        "whose PROXY protocol headers, are believed. From anyone else these fields are dropped.",
    )

    @property
    def speaks_http2(self) -> bool:
        """Whether HTTP/2 is spoken, where the file says nothing too."""
        return self.tls is not None if self.http2 is None else self.http2

    @model_validator(mode="after")
    def _consistent(self) -> Listener:
        """Called by pydantic when the settings themselves are right."""
        if self.proxy_protocol and not self.trusted_proxies and not self.endpoint.startswith("unix:"):
            raise ValueError("has 'proxy_protocol' without 'trusted_proxies'; write whose headers are believed")
        if self.redirect_https is not False and self.tls is not None:
            raise ValueError("has both 'redirect_https' and 'tls'; who comes to this listener is on HTTPS already")
        return self
