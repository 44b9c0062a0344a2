"""The doors out: how backends are spoken to that are not plain HTTP/1.1."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lemmytx.model.settings import Settings
from lemmytx.names import PIN, ROOT, SCRIPT, SERVER_NAME, SUFFIX, VARIABLE
from lemmytx.units import FLAG, count, or_none, size

File = Annotated[str, Field(min_length=1)]


class BackendTls(Settings):
    """TLS towards https and h2 backends. Relative paths start at the folder of the file."""

    ca: File | None = Field(
        default=None,
        description="A PEM file with the authorities that are believed; the system's unless written. Where it has "
        "their revocation lists in it too, revoked certificates are refused.",
    )
    verify: Annotated[bool, FLAG] = Field(
        default=True, description="Whether a backend has to show a valid certificate for its name."
    )
    name: Annotated[str | None, or_none(SERVER_NAME)] = Field(
        default=None,
        description="The name that the certificate must have, and that is asked for (SNI); the URL's host unless "
        "written.",
    )
    certificate: File | None = Field(
        default=None, description="A PEM file with the certificate (and chain, and key) that we show to the backend."
    )
    key: File | None = Field(default=None, description="Its key, where that is in a file of its own.")
    pin: tuple[Annotated[str, PIN], ...] = Field(
        default=(),
        description="SHA-256 of the public keys, in base64, one of which the backend must have (as in HPKP).",
    )
    minimum_version: Literal["1.2", "1.3"] = Field(default="1.2", description="The oldest version of TLS, in quotes.")

    @model_validator(mode="after")
    def _complete(self) -> BackendTls:
        """Called by pydantic when the settings themselves are right."""
        if self.key is not None and self.certificate is None:
            raise ValueError("has 'key' without 'certificate'")
        return self


class FastCgi(Settings):
    """FastCGI backends: what a program behind them, as php-fpm, needs to know."""

    root: Annotated[str | None, or_none(ROOT)] = Field(
        default=None, description="The folder of the scripts, as the backend sees it. Needed for fcgi backends."
    )
    index: Annotated[str, SCRIPT] = Field(default="index.php", description="The script for paths that name none.")
    split: Annotated[str, SUFFIX] = Field(
        default=".php",
        description="How the name of a script ends; what follows it in a path is PATH_INFO. Empty: there are no "
        "scripts, and the program gets the whole path as PATH_INFO.",
    )
    params: dict[Annotated[str, VARIABLE], str] = Field(
        default_factory=dict, description="More variables for the script, as in {APP_ENV: production}."
    )
    keep_alive: Annotated[bool, FLAG] = Field(
        default=False,
        description="Whether connections are kept for further requests. A process of php-fpm serves nobody else while "
        "its connection is open, so that takes a 'capacity' of each backend that is not above its pm.max_children.",
    )
    buffer: Annotated[int, size(0, 1 << 30)] = Field(
        default=1 << 20,
        description="How much of a body without a length is held until its length is known, which FastCGI needs first. "
        "Beyond: 411.",
    )


class BackendHttp2(Settings):
    """HTTP/2 towards h2 and h2c backends."""

    streams: Annotated[int, count(1, 10_000)] = Field(
        default=100, description="How many requests go over one connection at a time, where the backend allows as many."
    )
