"""OCSP responses from files, to be stapled (RFC 6066 §8): somebody else fetches them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.x509 import ocsp

from lemmytx.units import shown

#: No response is as large as this, bytes.
_LARGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Staple:
    """
    @ivar serial: of the certificate that it is about.
    @ivar until: when it is to be replaced, Unix time; after that it is not sent.
    """

    path: str
    serial: int
    until: float
    good: bool
    response: bytes = field(repr=False)


def load(path: str) -> Staple:
    """
    @raise ValueError: it is not one that can be used; the text names the file.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        response = ocsp.load_der_ocsp_response(data)
    except ValueError as error:
        raise ValueError(f"{path}: is no OCSP response in DER: it begins with {shown(data[:12])}") from error
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise ValueError(f"{path}: the responder answered {response.response_status.name.lower()}")
    until = response.next_update_utc
    return Staple(
        path,
        response.serial_number,
        float("inf") if until is None else until.timestamp(),
        response.certificate_status is ocsp.OCSPCertStatus.GOOD,
        data,
    )


def load_all(paths: Sequence[str]) -> tuple[list[Staple], list[str]]:
    """
    @return: what there is, and what is wrong, one line each.
    """
    found: list[Staple] = []
    problems: list[str] = []
    for path in paths:
        files = [path]
        if os.path.isdir(path):
            try:
                files = sorted(os.path.join(path, name) for name in os.listdir(path) if not name.startswith("."))
            except OSError as error:
                problems.append(f"{path}: cannot be read: {error.strerror}")
                continue
        for file in files:
            if os.path.isdir(file):
                continue
            try:
                found.append(load(file))
            except ValueError as error:
                problems.append(str(error))
    return found, problems
