"""
The PROXY protocol, versions 1 and 2 (HAProxy's C{doc/proxy-protocol.txt}): a header before everything else on a
connection, in which a proxy tells for whom it made the connection.

The header decides who the client is, so nothing is guessed: what is not exactly a header is refused, at the first byte
that cannot be one. Version 1 is one line of text::

    PROXY TCP4 192.0.2.1 192.0.2.254 40000 443\\r\\n         addresses and ports in decimal, one space between
    PROXY TCP6 2001:db8::1 2001:db8::2 40000 443\\r\\n
    PROXY UNKNOWN …\\r\\n                                    whatever stands there says nothing

Version 2 is 16 bytes and what they announce::

    12 bytes    0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A
    1 byte      version (2) and command: 0 LOCAL, the proxy speaks for itself; 1 PROXY
    1 byte      family (1 IPv4, 2 IPv6, 3 unix, 0 none) and transport (1 stream, 2 datagram, 0 none)
    2 bytes     how much follows: the addresses (12, 36, 216 or 0 bytes) and then fields of type, length and value

A receiver must not look for the header where none was agreed upon, and must not go on without it where one was: that
is for the callers.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

from lemmytx.message import ProtocolError

#: What a header of version 2 begins with.
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

#: The longest line of version 1, with its end (§2.1).
LINE = 107

#: The longest header of version 2. The protocol would allow 65,551 bytes; addresses take 232 at most, and of the
#: fields only a client's certificate is long (2 kB with a key of 4,096 bits).
LONGEST = 4096

_START = b"PROXY "
_FIXED = 16

#: Sizes of the addresses, by the byte of family and transport. Any other byte is to be refused (§2.2).
_SIZES = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}

# Fields of version 2 (§2.2.1 to §2.2.7).
ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL, NETNS = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20, 0x30
_SSL_TEXTS = {0x21: "ssl_version", 0x22: "ssl_cn", 0x23: "ssl_cipher", 0x24: "ssl_sig_alg", 0x25: "ssl_key_alg"}

#: In the L{SSL} field: the client came by TLS, and has shown a certificate on this connection.
_CLIENT_SSL, _CLIENT_CERT_CONN = 0x01, 0x02


class Header:
    """
    A header, as it was received.

    @ivar source: the address that the connection was made from, in its shortest form; empty when the header tells
        none: then the connection's own addresses hold. Where the original was a unix socket that is so, too.
    @ivar source_port: 0 when there is no address.
    @ivar destination: the address that it was made to; empty together with C{source}.
    @ivar destination_port: 0 when there is no address.
    @ivar local: the proxy made the connection for itself, to see whether we are alive, say (version 2 alone).
    @ivar tlvs: the fields of version 2 with their types, in their order, without those that serve the header itself.
    @ivar size: how many bytes of the input it took.
    """

    __slots__ = ("destination", "destination_port", "local", "size", "source", "source_port", "tlvs")

    def __init__(
        self,
        source: str,
        source_port: int,
        destination: str,
        destination_port: int,
        local: bool,
        tlvs: tuple[tuple[int, bytes], ...],
        size: int,
    ) -> None:
        self.source = source
        self.source_port = source_port
        self.destination = destination
        self.destination_port = destination_port
        self.local = local
        self.tlvs = tlvs
        self.size = size

    def __repr__(self) -> str:
        if not self.source:
            return f"<Header {'local' if self.local else 'unknown'}>"
        return f"<Header {self.source} {self.source_port} to {self.destination} {self.destination_port}>"


def parse(data: bytes) -> Header | None:
    """
    The header at the beginning of what a connection brought.

    @param data: all of it so far. At most L{LONGEST} bytes of it are ever needed.
    @return: L{None} while it is not whole.
    @raise ProtocolError: when it cannot become one any more. Nothing is to be answered: the other side waits for no
        answer before its own client has spoken.
    """
    if data[:1] == b"P":
        if data[:6] != _START[: len(data)]:
            raise _refused("begins like a PROXY line and is none")
        return _parse_line(data)
    if data[:12] != SIGNATURE[: len(data)]:
        raise _refused("does not begin with a PROXY header")
    if len(data) < _FIXED:
        if len(data) > 12 and data[12] not in (0x20, 0x21):
            raise _refused(f"PROXY header of an unknown version or command, 0x{data[12]:02x}")
        return None
    return _parse_binary(data)


def _refused(reason: str) -> ProtocolError:
    return ProtocolError(400, reason)


def _parse_line(data: bytes) -> Header | None:
    end = data.find(b"\r", 0, LINE)
    line = data[: LINE if end < 0 else end]
    if not line.isascii() or not line.decode("ascii").isprintable():
        # A bare line feed above all: a reader that takes it for the end would see another line than we do.
        raise _refused("PROXY line with a byte that is no printable ASCII")
    if end < 0 or end == LINE - 1:
        if len(data) >= LINE:
            raise _refused(f"PROXY line of more than {LINE} bytes")
        return None
    if data[end + 1 : end + 2] != b"\n":
        if len(data) > end + 1:
            raise _refused("PROXY line with a carriage return that does not end it")
        return None
    words = line.decode("ascii").split(" ")
    size = end + 2
    if words[1] == "UNKNOWN":
        return Header("", 0, "", 0, False, (), size)
    if words[1] not in ("TCP4", "TCP6"):
        raise _refused("PROXY line for neither TCP4 nor TCP6 nor UNKNOWN")
    if len(words) != 6:
        raise _refused("PROXY line without two addresses and two ports")
    read = _address4 if words[1] == "TCP4" else _address6
    return Header(read(words[2]), _port(words[4]), read(words[3]), _port(words[5]), False, (), size)


def _address4(word: str) -> str:
    try:
        return str(ipaddress.IPv4Address(word))
    except ValueError:
        raise _refused("PROXY line for TCP4 with what is no IPv4 address") from None


def _address6(word: str) -> str:
    try:
        if "%" in word:
            raise ValueError
        return str(ipaddress.IPv6Address(word))
    except ValueError:
        raise _refused("PROXY line for TCP6 with what is no IPv6 address") from None


def _port(word: str) -> int:
    # "+80" and "0080" are numbers for int(); to others the second is octal.
    if not (word.isdecimal() and len(word) <= 5 and (word[0] != "0" or word == "0") and int(word) <= 65535):
        raise _refused("PROXY line with what is no port")
    return int(word)


def _parse_binary(data: bytes) -> Header | None:
    command, family = data[12], data[13]
    if command not in (0x20, 0x21):
        raise _refused(f"PROXY header of an unknown version or command, 0x{command:02x}")
    size = _FIXED + int.from_bytes(data[14:16], "big")
    if size > LONGEST:
        raise _refused(f"PROXY header of {size} bytes; {LONGEST} are the limit")
    if command == 0x20:
        # "Must discard the protocol block including the family" (§2.2): what follows is not even looked at.
        return Header("", 0, "", 0, True, (), size) if len(data) >= size else None
    if family not in _SIZES:
        raise _refused(f"PROXY header for an unknown family or transport, 0x{family:02x}")
    fields = _FIXED + _SIZES[family]
    if size < fields:
        raise _refused("PROXY header that is too short for its addresses")
    if len(data) < size:
        return None
    tlvs = _parse_fields(data, fields, size)
    if family >> 4 == 1:
        source, destination = str(ipaddress.IPv4Address(data[16:20])), str(ipaddress.IPv4Address(data[20:24]))
    elif family >> 4 == 2:
        source, destination = str(ipaddress.IPv6Address(data[16:32])), str(ipaddress.IPv6Address(data[32:48]))
    else:
        return Header("", 0, "", 0, False, tlvs, size)
    ports = struct.unpack_from("!HH", data, fields - 4)
    return Header(source, ports[0], destination, ports[1], False, tlvs, size)


def _parse_fields(data: bytes, start: int, size: int) -> tuple[tuple[int, bytes], ...]:
    """The fields, all of which must fit exactly; a checksum among them is verified."""
    found: list[tuple[int, bytes]] = []
    summed = False
    at = start
    while at < size:
        if at + 3 > size:
            raise _refused("PROXY header that ends inside of a field")
        kind, value = data[at], at + 3
        at = value + int.from_bytes(data[at + 1 : value], "big")
        if at > size:
            raise _refused("PROXY header that ends inside of a field")
        if kind == CRC32C:
            if at - value != 4 or summed:
                raise _refused("PROXY header with more than one checksum, or one that is not 4 bytes")
            summed = True
            if crc32c(data[:value] + bytes(4) + data[at:size]) != int.from_bytes(data[value:at], "big"):
                raise _refused("PROXY header with a wrong checksum")
        elif kind != NOOP:
            found.append((kind, data[value:at]))
    return tuple(found)


def described(tlvs: Iterable[tuple[int, bytes]]) -> dict[str, str]:
    """
    The fields of a header by names, for a log: C{alpn}, C{authority}, C{unique_id} (hexadecimal), C{netns}, C{ssl}
    ("yes" or "no", for a client that came by TLS or not), C{ssl_verified} (the same, of its certificate),
    C{ssl_version}, C{ssl_cn}, C{ssl_cipher}, C{ssl_sig_alg}, C{ssl_key_alg}; any other as its type, C{0xe0}, in
    hexadecimal. Text has unprintable characters replaced. Of fields of one type the last holds.
    """
    found: dict[str, str] = {}
    for kind, value in tlvs:
        if kind == ALPN:
            found["alpn"] = _text(value)
        elif kind == AUTHORITY:
            found["authority"] = _text(value)
        elif kind == UNIQUE_ID:
            found["unique_id"] = value.hex()
        elif kind == NETNS:
            found["netns"] = _text(value)
        elif kind == SSL and len(value) >= 5:
            found["ssl"] = "yes" if value[0] & _CLIENT_SSL else "no"
            if value[0] & _CLIENT_CERT_CONN:
                found["ssl_verified"] = "no" if any(value[1:5]) else "yes"
            _describe_ssl(value, found)
        else:
            found[f"0x{kind:02x}"] = value.hex()
    return found


def _describe_ssl(value: bytes, found: dict[str, str]) -> None:
    """The fields inside of the L{SSL} one; a broken rest is left out, as it decides nothing."""
    at = 5
    while at + 3 <= len(value):
        start = at + 3
        end = start + int.from_bytes(value[at + 1 : start], "big")
        if end > len(value):
            return
        if value[at] in _SSL_TEXTS:
            found[_SSL_TEXTS[value[at]]] = _text(value[start:end])
        at = end


def _text(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return text if text.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in text)


def compose_v1(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """
    A header of version 1: C{UNKNOWN} when the two are not addresses of the same kind, or one of them is empty.
    """
    from_, to = _same_family(source, destination)
    if from_ is None or to is None:
        return b"PROXY UNKNOWN\r\n"
    line = f"PROXY TCP{from_.version} {from_} {to} {source_port} {destination_port}\r\n"
    return line.encode("ascii")


def compose_v2(
    source: str,
    source_port: int,
    destination: str,
    destination_port: int,
    tlvs: Iterable[tuple[int, bytes]] = (),
    checksum: bool = False,
) -> bytes:
    """
    A header of version 2: C{LOCAL} without addresses when the two are not addresses, or one of them is empty.

    @param checksum: whether it has a CRC-32c.
    @raise ValueError: when the fields make it longer than L{LONGEST}.
    """
    from_, to = _same_family(source, destination)
    if from_ is None or to is None:
        command, family, addresses = 0x20, 0x00, b""
    else:
        command, family = 0x21, 0x11 if from_.version == 4 else 0x21
        addresses = from_.packed + to.packed + struct.pack("!HH", source_port, destination_port)
    fields = b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in tlvs)
    if checksum:
        fields += struct.pack("!BHI", CRC32C, 4, 0)
    size = len(addresses) + len(fields)
    if _FIXED + size > LONGEST:
        raise ValueError(f"a PROXY header of {_FIXED + size} bytes; {LONGEST} are the limit")
    header = SIGNATURE + struct.pack("!BBH", command, family, size) + addresses + fields
    if checksum:
        header = header[:-4] + crc32c(header).to_bytes(4, "big")
    return header


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _same_family(source: str, destination: str) -> tuple[_Address | None, _Address | None]:
    """
    The two as addresses of one kind: an IPv4 one beside an IPv6 one is mapped into IPv6 (RFC 4291 §2.5.5.2). Nothing,
    when one of them is no address.
    """
    try:
        from_, to = _read(source), _read(destination)
    except ValueError:
        return None, None
    if from_.version != to.version:
        from_, to = _mapped(from_), _mapped(to)
    return from_, to


def _read(text: str) -> _Address:
    """An address; one of IPv4 as such, where a socket for both shows it mapped."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


def _mapped(address: _Address) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(bytes(10) + b"\xff\xff" + address.packed)


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """The checksum of RFC 4960 appendix B (Castagnoli), as a number."""
    table = _CRC
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
