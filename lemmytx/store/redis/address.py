"""
Where Redis is: URLs in the forms that redis-py and other clients take.

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]
    rediss://…                                          the same over TLS
    redis+unix://[[USER]:PASSWORD@]/PATH[?db=DB]        also unix://
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/NAME[/DB]
    rediss+sentinel://…                                 Sentinels and Redis over TLS

What stands in a URL may be a secret. No text that is made here repeats any of it but hosts, ports, paths and names of
options.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from lemmytx.addresses import LONGEST_SOCKET, parse_name

#: Where Redis and its Sentinels listen unless another port is written.
PORT = 6379
SENTINEL_PORT = 26379

#: Redis has 16 databases unless told otherwise, and takes any number up to this.
MOST_DATABASES = 1 << 31

_SCHEMES = {
    "redis": ("tcp", False),
    "rediss": ("tcp", True),
    "redis+unix": ("unix", False),
    "unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
}

_OPTIONS = {
    "tcp": ("db",),
    "unix": ("db",),
    "sentinel": ("db", "ssl", "sentinel_username", "sentinel_password"),
}
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)\Z", re.DOTALL)
_WHERE = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?\Z")
_UNFIT = re.compile(r"[\x00-\x20\x7f]")
_MASTER = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """
    TLS towards Redis. Paths are as they are written.

    @ivar ca: authorities that are believed; empty: the system's.
    @ivar certificate: what we show; empty: nothing.
    @ivar key: its key; empty: it is in the same file.
    @ivar verify: whether the server has to show a certificate that can be believed.
    @ivar named: whether that has to be for its name.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    verify: bool = True
    named: bool = True


@dataclass(frozen=True, slots=True)
class Login:
    """
    How to log in; without a password not at all.

    @ivar user: of Redis' access control lists; empty: the default one.
    """

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where Redis is, and how to get in.

    @ivar kind: C{tcp}, C{unix} or C{sentinel}.
    @ivar hosts: host (no brackets) and port: of Redis, or of its Sentinels; empty for a socket.
    @ivar path: of the socket.
    @ivar master: what the Sentinels call it.
    @ivar tls: L{None}: in the clear.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    master: str = ""
    database: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: TlsFiles | None = None

    def __str__(self) -> str:
        """For people, without secrets."""
        if self.kind == "unix":
            return self.path
        listed = ",".join(authority(host, port) for host, port in self.hosts)
        return f"{self.master} by Sentinel ({listed})" if self.kind == "sentinel" else listed


def authority(host: str, port: int) -> str:
    """For people."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(url: str) -> Address:
    """
    @raise ValueError: with a text for the user, which does not repeat the URL: it may hold a password.
    """
    match = _URL.match(url)
    if match is None or _UNFIT.search(url):
        raise ValueError(
            "what was found (not shown, it may hold a password) is no URL; write one as in 'redis://127.0.0.1:6379/0'"
        )
    scheme = match["scheme"].lower()
    if scheme not in _SCHEMES:
        raise ValueError(f"the scheme of the URL is {scheme!r}; it is one of {', '.join(_SCHEMES)}")
    kind, tls = _SCHEMES[scheme]
    rest = match["rest"]
    if "#" in rest:
        raise ValueError("the URL has a '#' in it; in a password it is written %23")
    before, _, query = rest.partition("?")
    head, slash, path = before.partition("/")
    if "@" in path:
        raise ValueError("the URL has an '@' after a '/'; in a password they are written %40 and %2F")
    login_text, _, hosts = head.rpartition("@")
    options = _options(query, _OPTIONS[kind] + (() if kind == "unix" else _TLS_OPTIONS))
    tls = tls or _flag(options, "ssl", False)
    if not tls and (beside := sorted(options.keys() & set(_TLS_OPTIONS))):
        secure = "rediss+sentinel" if kind == "sentinel" else "rediss"
        raise ValueError(f"the URL has {beside[0]!r}, which is for TLS; its scheme would be {secure}")
    files = _files(options) if tls else None
    login = _login(login_text)
    if kind == "unix":
        socket = unquote(slash + path)
        if hosts or not socket.strip("/"):
            raise ValueError(f"write three slashes and the path of the socket, as in '{scheme}:///run/redis.sock'")
        if "\0" in socket or len(socket.encode("utf-8", "surrogatepass")) > LONGEST_SOCKET:
            raise ValueError(f"the path of a socket has up to {LONGEST_SOCKET} bytes, none of them 0")
        return Address(kind, path=socket, database=_database(options.get("db", "")), login=login)
    if kind == "tcp":
        where = (_where(hosts, PORT),)
        return Address(kind, where, database=_database(options.get("db", ""), path), login=login, tls=files)
    master, _, number = path.partition("/")
    if not _MASTER.match(master):
        raise ValueError("the URL lacks the master's name, as in 'redis+sentinel://10.0.0.1,10.0.0.2/mymaster/0'")
    return Address(
        kind,
        tuple(_where(one, SENTINEL_PORT) for one in hosts.split(",")),
        master=master,
        database=_database(options.get("db", ""), number),
        login=login,
        sentinel_login=_checked(options.get("sentinel_username", ""), options.get("sentinel_password", "")),
        tls=files,
    )


def _options(query: str, known: tuple[str, ...]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ValueError("what follows the '?' in the URL is not of the form NAME=VALUE&NAME=VALUE") from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ValueError("the URL has an option twice")
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else "there are " + ", ".join(known)
            raise ValueError(f"the URL has an option {name[:40]!r}; {hint}")
    return options


def _flag(options: dict[str, str], name: str, default: bool) -> bool:
    if name not in options:
        return default
    value = _FLAGS.get(options[name].lower())
    if value is None:
        raise ValueError(f"the URL's option {name!r} is true or false")
    return value


def _files(options: dict[str, str]) -> TlsFiles:
    wanted = options.get("ssl_cert_reqs", "required")
    if wanted not in ("required", "none"):
        raise ValueError("the URL's option 'ssl_cert_reqs' is 'required' or 'none'")
    files = TlsFiles(
        options.get("ssl_ca_certs", ""),
        options.get("ssl_certfile", ""),
        options.get("ssl_keyfile", ""),
        wanted == "required",
        _flag(options, "ssl_check_hostname", True),
    )
    if files.key and not files.certificate:
        raise ValueError("the URL has 'ssl_keyfile' without 'ssl_certfile'")
    return files


def _login(text: str) -> Login:
    user, _, password = text.partition(":")
    return _checked(unquote(user), unquote(password))


def _checked(user: str, password: str) -> Login:
    if user and not password:
        raise ValueError("the URL has a user without a password; a password alone is written ':PASSWORD@'")
    return Login(user, password)


def _database(option: str, path: str = "") -> int:
    path = path.removesuffix("/")
    if option and path:
        raise ValueError("the URL has a database in its path and as 'db' as well")
    text = option or path or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) >= MOST_DATABASES:
        raise ValueError("the database in the URL is a number, as in 'redis://127.0.0.1:6379/0'")
    return int(text)


def _where(text: str, usual: int) -> tuple[str, int]:
    match = _WHERE.match(text)
    if match is None or not match["host"]:
        raise ValueError("the URL lacks a host, or it is not HOST or HOST:PORT (an IPv6 address in square brackets)")
    port = int(match["port"] or usual)
    if not 1 <= port <= 65535:
        raise ValueError("a port in the URL is from 1 to 65535")
    try:
        return parse_name(match["host"]).strip("[]"), port
    except ValueError:
        raise ValueError("a host in the URL is neither a name nor an address") from None
