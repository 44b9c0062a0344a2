"""
The admin side from a terminal: what C{lemmy reload} and its like ask an instance that runs. Without Twisted, so that it
is there at once.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import unquote, urlsplit

from lemmytx.admin.endpoint import Place
from lemmytx.config import ConfigurationError
from lemmytx.config.reader import LARGEST, read_yaml
from lemmytx.model import Admin

#: Where the admin side is unless configured otherwise.
DEFAULT = "http://127.0.0.1:8081"

#: The longest answer that is read, in bytes.
LONGEST = 16 * 1024 * 1024

#: The variable with the token. There is no option for it: every user of the machine can see a command line.
TOKEN = "LEMMY_TOKEN"

_SYSTEM_CHOOSES = "0"


class CannotAsk(Exception):
    """
    There is no answer that would be good for anything, or it says no.

    @ivar reasons: for the user, one line each.
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons


def url_of(file: str, environ: Mapping[str, str] | None = None) -> str:
    """
    Where the admin side of the instance is that runs with a configuration file. Nothing else in the file is looked
    at: whether it is right is for the instance to say, which may have another environment, too.

    @raise CannotAsk: it does not say, or it cannot be known.
    @raise lemmytx.config.ConfigurationError: the file is no YAML.
    """
    try:
        with open(file, "rb") as source:
            raw = source.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CannotAsk(f"{file}: cannot be read: {why}") from None
    document = read_yaml(raw, file, os.environ if environ is None else environ)
    if document.problems and not isinstance(document.data, dict):
        raise ConfigurationError(document.problems)
    admin = document.data.get("admin") if isinstance(document.data, dict) else None
    endpoint = admin.get("endpoint") if isinstance(admin, dict) else None
    if ("admin", "endpoint") in document.spoilt:
        wrong = [str(problem) for problem in document.problems if problem.setting == "admin.endpoint"]
        raise CannotAsk(*wrong, "say where the admin side is with --admin, as in --admin http://127.0.0.1:8081")
    description = endpoint if isinstance(endpoint, str) else str(Admin().endpoint)
    url = url_of_endpoint(description)
    if url is None:
        raise CannotAsk(
            f"{file}: admin.endpoint: {description!r} does not tell where that is;"
            " say it with --admin, as in --admin http://127.0.0.1:8081"
        )
    return url


def url_of_endpoint(description: str) -> str | None:
    """
    @param description: of a server endpoint.
    @return: a URL by which it can be reached from this machine; L{None} when the description does not tell.
    """
    place = Place(description)
    if place.kind == "unix" and place.path:
        return f"http+unix://{os.path.abspath(place.path).replace('%', '%25').replace('?', '%3F').replace('#', '%23')}"
    if not place.tcp or not place.port.isdecimal() or place.port == _SYSTEM_CHOOSES:
        return None
    # What listens on all addresses does so on loopback.
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(place.interface, place.interface)
    if place.kind == "tcp6" and not place.interface:
        host = "::1"
    return f"http://[{host}]:{place.port}" if ":" in host else f"http://{host}:{place.port}"


class _UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Called by L{HTTPConnection}."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Remote:
    """
    An admin side.

    @ivar url: as it was given.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0) -> None:
        """
        @param url: C{http://host:port}, C{https://host:port/prefix}, or C{http+unix:///path/of/a/socket}.
        @param timeout: seconds for the connection to be made, and then for the answer to come.
        @raise CannotAsk: it is no such URL, or this token cannot be sent.
        """
        self.url = url
        if token is not None and (not token.isprintable() or " " in token):
            raise CannotAsk("that is no token: it has spaces or control characters in it")
        self._token = token
        self._prefix = ""
        try:
            self._connection = self._connect(url, timeout)
        except (ValueError, HTTPException) as error:
            raise CannotAsk(f"found {url!r}: {error}") from None

    def _connect(self, url: str, timeout: float) -> HTTPConnection:
        """
        @raise CannotAsk, ValueError, HTTPException: it is no such URL.
        """
        parts = urlsplit(url)
        if parts.scheme == "http+unix" and parts.path and not parts.netloc:
            return _UnixConnection(unquote(parts.path), timeout)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise CannotAsk(f"found {url!r}; write http://HOST:PORT, or http+unix:///PATH for a unix socket")
        self._prefix = parts.path.rstrip("/")
        kind = HTTPConnection if parts.scheme == "http" else HTTPSConnection
        return kind(parts.hostname, parts.port, timeout=timeout)

    def post(self, path: str, name: str, body: object = None) -> Any:
        """
        Have something done.

        @param body: what C{json.dumps} takes; L{None}: an empty object.
        @return: what the answer, a good one, has under this name.
        @raise CannotAsk: with all reasons.
        """
        return self._ask("POST", path, json.dumps(body or {}).encode(), name)[name]

    def get(self, path: str, name: str) -> dict[str, Any]:
        """
        Look at something.

        @param name: of a member that a good answer has.
        @return: the answer.
        @raise CannotAsk: with all reasons.
        """
        return self._ask("GET", path, None, name)

    def _ask(self, method: str, path: str, data: bytes | None, name: str) -> dict[str, Any]:
        """The answer, a good one, which has something of this name."""
        fields: dict[str, str | bytes] = {"Accept": "application/json", "Connection": "close"}
        if data is not None:
            fields["Content-Type"] = "application/json"
        if self._token is not None:
            fields["Authorization"] = b"Bearer " + self._token.encode()
        try:
            self._connection.request(method, self._prefix + path, data, fields)
        except TimeoutError:
            raise CannotAsk(f"{self.url}: no connection within {self._connection.timeout:g} seconds") from None
        except (OSError, ValueError, HTTPException) as error:
            raise CannotAsk(_unreachable(self.url, error)) from None
        try:
            response = self._connection.getresponse()
            body = response.read(LONGEST)
            if response.length:
                raise CannotAsk(f"{self.url}: the answer broke off, or is too long")
        except TimeoutError:
            unknown = "" if data is None else "; whether it was done, the log of the instance tells"
            raise CannotAsk(f"{self.url}: no answer within {self._connection.timeout:g} seconds{unknown}") from None
        except (OSError, HTTPException) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise CannotAsk(f"{self.url}: the answer broke off: {why}") from None
        finally:
            self._connection.close()
        return self._read(response, body, name)

    def _read(self, response: HTTPResponse, body: bytes, name: str) -> dict[str, Any]:
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        good = 200 <= response.status < 300
        if not isinstance(found, dict) or (good and name not in found):
            raise CannotAsk(f"{self.url}: what answers there is no admin side of lemmytx (status {response.status})")
        if good:
            return found
        errors = found.get("errors")
        if isinstance(errors, list) and errors:
            raise CannotAsk(*map(str, errors))
        detail = f"{self.url}: {found.get('detail', f'status {response.status}')}"
        if response.status == 401:
            raise CannotAsk(f"{detail} (here: --token-file FILE, or the token in ${TOKEN})")
        raise CannotAsk(detail)


def _unreachable(url: str, error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return f"{url}: nothing listens there; does it run, and is its admin side there? --admin URL says where else"
    why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return f"{url}: {why}"


def read_token(file: str | None, environ: Mapping[str, str] | None = None) -> str | None:
    """
    @param file: with the token as its only text; L{None}: the environment may have one.
    @raise CannotAsk: there is none in the file.
    """
    if file is None:
        return (os.environ if environ is None else environ).get(TOKEN, "").strip() or None
    try:
        with open(file, encoding="utf-8") as source:
            token = source.read(4096).strip()
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "is not text"
        raise CannotAsk(f"{file}: {why}") from None
    if not token:
        raise CannotAsk(f"{file}: is empty; write the token into it")
    return token
