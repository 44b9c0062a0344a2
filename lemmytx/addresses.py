"""
Who and where: host names, networks and the URLs of backends, as the configuration and the admin side write them.

Each C{parse_…} returns the one form in which the program compares and keeps the thing, or raises L{ValueError} with a
sentence for the user.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from sys import intern

import idna

from lemmytx.units import Rule, shown

Network = IPv4Network | IPv6Network

#: Longest name in the DNS, as text without the trailing dot (RFC 1035 §2.3.4).
LONGEST = 253

# An underscore is no host name by RFC 952, but container networks and internal zones are full of them.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)\Z", re.DOTALL)
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?\Z")
_UNFIT = re.compile(r"[\x00-\x20\x7f]")

#: What backends speak, and on which port unless another is written: HTTP/1.1 and HTTP/2, each also over TLS, FastCGI.
PORTS = {"http": 80, "https": 443, "h2": 443, "h2c": 80, "fcgi": 9000}

#: What can be spoken on a unix socket.
ON_SOCKETS = ("http+unix", "https+unix", "fcgi+unix")

#: Longest path of a unix socket that Linux takes: sockaddr_un holds 108 bytes with the closing NUL.
LONGEST_SOCKET = 107


def parse_name(name: str) -> str:
    """
    A host name in the form in which names are compared: A-labels (RFC 5891), lower case, no trailing dot. An IPv6
    address in square brackets comes back in them, in its shortest form; an IPv4 address as it is.

    @raise ValueError: when it is no host name.
    """
    if name.startswith("[") and name.endswith("]"):
        try:
            return f"[{IPv6Address(name[1:-1]).compressed}]"
        except ValueError:
            raise ValueError(f"found {shown(name)}; that is not an IPv6 address in brackets, as in [::1]") from None
    folded = name.removesuffix(".")
    if not folded.isascii():
        try:
            folded = idna.encode(folded, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise ValueError(f"found {shown(name)}; that is not an international host name: {error}") from None
    folded = folded.lower()
    if not folded or len(folded) > LONGEST or not all(map(_LABEL.match, folded.split("."))):
        hint = "; write it without scheme, port and path" if re.search("[:/]", name) else ""
        raise ValueError(f"found {shown(name)}; that is not a host name{hint or ', as in shop.example'}")
    return folded


def parse_host(value: object) -> str:
    """
    A host that a vhost answers for: a name, C{*.} and a name, or C{*}.

    @raise ValueError: when it is none of these.
    """
    if not isinstance(value, str):
        raise ValueError(f"found {shown(value)}; write a host name in quotes, as in 'shop.example'")
    if value == "*":
        return str(value)
    prefix, name = ("*.", value[2:]) if value.startswith("*.") else ("", str(value))
    if "*" in name:
        raise ValueError(f"found {shown(value)}; '*' stands alone or as the first label, as in '*.shop.example'")
    return prefix + parse_name(name)


def parse_network(value: object) -> Network:
    """
    A network, as in C{10.0.0.0/8}, or a single address.

    @raise ValueError: when it is neither, or when it has bits set beyond its prefix, which is a slip more often
        than not.
    """
    if isinstance(value, str):
        try:
            return ip_network(value)
        except ValueError:
            pass
        try:
            hint = f"; did you mean '{ip_network(value, strict=False)}'?"
        except ValueError:
            hint = "; write an address or a network, as in '10.0.0.0/8' or 'fd00::/8'"
    else:
        hint = "; write an address or a network in quotes, as in '10.0.0.0/8' or 'fd00::/8'"
    raise ValueError(f"found {shown(value)}{hint}")


@dataclass(frozen=True, slots=True)
class Location:
    """
    Where a backend is.

    @ivar scheme: C{http}, C{https}, C{h2}, C{h2c}, C{fcgi}, or one of L{ON_SOCKETS}.
    @ivar host: its name (A-labels), IPv4 or IPv6 address (no brackets); empty for a unix socket.
    @ivar port: its TCP port; 0 for a unix socket.
    @ivar path: of the unix socket; empty for TCP.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def protocol(self) -> str:
        """What is spoken there: the scheme without C{+unix}."""
        return self.scheme.removesuffix("+unix")

    @property
    def usual_port(self) -> int:
        """The port that need not be written."""
        return PORTS[self.protocol]

    @property
    def url(self) -> str:
        """In its one form: what the table, the log and the admin side show."""
        if self.path:
            return f"{self.scheme}://{self.path}"
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """C{host:port}, an IPv6 address in brackets; empty for a unix socket."""
        if self.path:
            return ""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """What a backend is called that has no name of its own; without slashes, since it goes into admin URLs."""
        return self.path.strip("/").replace("/", "-") if self.path else self.authority


def parse_url(value: object) -> Location:
    """
    The URL of a backend: C{http://HOST[:PORT]} or C{http+unix:///PATH}, or with another scheme of L{PORTS} or
    L{ON_SOCKETS}.

    @raise ValueError: for anything else. A URL with a user name in it is not repeated in the text: it may hold a
        password.
    """
    if not isinstance(value, str):
        raise ValueError(f"found {shown(value)}; write a URL, as in 'http://10.0.0.1:8080'")
    match = _URL.match(value)
    if match is None:
        raise ValueError(f"found {shown(value)}; write a URL with its scheme, as in 'http://10.0.0.1:8080'")
    # There may be a hundred thousand of them, and of schemes but a few.
    scheme, authority, rest = intern(match["scheme"].lower()), match["authority"], match["rest"]
    if "@" in authority:
        raise ValueError("a backend's URL has no user name and no password: requests are passed on as they came")
    if scheme in ON_SOCKETS:
        if authority or not rest.strip("/"):
            raise ValueError(f"found {shown(value)}; write three slashes and a path, as in '{scheme}:///run/app.sock'")
        if "\0" in rest or len(rest.encode("utf-8", "surrogatepass")) > LONGEST_SOCKET:
            raise ValueError(f"found {shown(value)}; a socket's path has up to {LONGEST_SOCKET} bytes, none of them 0")
        return Location(scheme, "", 0, rest)
    if scheme not in PORTS:
        known = ", ".join((*PORTS, *ON_SOCKETS))
        raise ValueError(f"found {shown(value)}; the scheme is one of {known}")
    if rest not in ("", "/"):
        raise ValueError(f"found {shown(value)}; it ends with host and port, for paths are passed on as they came")
    parts = _AUTHORITY.match(authority)
    if parts is None or not parts["host"] or _UNFIT.search(authority):
        raise ValueError(f"found {shown(value)}; write host and port after the slashes, as in 'http://10.0.0.1:8080'")
    port = int(parts["port"] or PORTS[scheme])
    if not 1 <= port <= 65535:
        raise ValueError(f"found {shown(value)}; a port is from 1 to 65535")
    return Location(scheme, parse_name(parts["host"]).strip("[]"), port, "")


def parse_member(text: str) -> Location:
    """
    A backend as a member of the live table: C{host}, C{host:port}, or a URL as L{parse_url} has it. Without a scheme it
    is HTTP; an IPv6 address stands in brackets.

    @raise ValueError: as L{parse_url}.
    """
    return parse_url(text if "://" in text else f"http://{text}")


def _canonical(value: object) -> str:
    return parse_url(value).url


#: What a vhost answers for.
HOST = Rule("host", parse_host, {"type": "string", "minLength": 1})

#: A network or an address.
NETWORK = Rule("network", parse_network, {"type": "string", "minLength": 1}, str, as_text=True)

#: A backend's URL, kept in its one form.
URL = Rule("URL", _canonical, {"type": "string", "pattern": r"^(http|https|fcgi)(\+unix)?://|^(h2|h2c)://|\$\{"})
