"""Headers of the PROXY protocol: what is one, what it says, and that nothing else is taken for one."""

from __future__ import annotations

import ipaddress
import struct

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.message import ProtocolError
from lemmytx.proxy_protocol import LINE, LONGEST, SIGNATURE, Header, compose_v1, compose_v2, crc32c, described, parse

bounded = settings(max_examples=200, deadline=None, derandomize=True, database=None)

#: Lines, and what they say: source, its port, destination, its port.
LINES = (
    (b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 443\r\n", ("192.0.2.1", 40000, "192.0.2.254", 443)),
    (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", ("0.0.0.0", 0, "255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", ("2001:db8::1", 1, "2001:db8::2", 2)),
    (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 :: 1 2\r\n", ("2001:db8::1", 1, "::", 2)),
    (
        b"PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".replace(b"f...f", b":".join([b"ffff"] * 6)),
        (":".join(["ffff"] * 8), 65535, ":".join(["ffff"] * 8), 65535),
    ),
    (b"PROXY UNKNOWN\r\n", ("", 0, "", 0)),
    (b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n", ("", 0, "", 0)),
    (b"PROXY UNKNOWN  whatever, 70000\r\n", ("", 0, "", 0)),
    (b"PROXY UNKNOWN " + b"x" * (LINE - 16) + b"\r\n", ("", 0, "", 0)),
)

#: What looks like a line and is none.
BAD_LINES = (
    b"\r\nGET",
    b" PROXY TCP4 192.0.2.1 192.0.2.254 40000 443\r\n",
    b"proxy TCP4 192.0.2.1 192.0.2.254 40000 443\r\n",
    b"PROXY\tTCP4 192.0.2.1 192.0.2.254 40000 443\r\n",
    b"PROXY  TCP4 192.0.2.1 192.0.2.254 40000 443\r\n",
    b"PROXY TCP4  192.0.2.1 192.0.2.254 40000 443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 443 \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 443 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 443\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 443\r\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 443\n\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 443\r \n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254\x0040000 443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 65536\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 0443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 00\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 +443\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 -1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 4_3\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 0x1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.254 40000 \xd9\xa4\xd9\xa4\r\n",
    b"PROXY TCP4 192.0.2.256 192.0.2.254 40000 443\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.254 40000 443\r\n",
    b"PROXY TCP4 192.0.2 192.0.2.254 40000 443\r\n",
    b"PROXY TCP4 0xc0.0.2.1 192.0.2.254 40000 443\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 40000 443\r\n",
    b"PROXY TCP4 192.0.2.1 2001:db8::2 40000 443\r\n",
    b"PROXY TCP6 192.0.2.1 192.0.2.254 40000 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 fe80::2 40000 443\r\n",
    b"PROXY TCP6 1::2::3 fe80::2 40000 443\r\n",
    b"PROXY TCP6 [::1] [::2] 40000 443\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.254 40000 443\r\n",
    b"PROXY tcp4 192.0.2.1 192.0.2.254 40000 443\r\n",
    b"PROXY \r\n",
    b"PROXY unknown\r\n",
    b"PROXY UNKNOWN2\r\n",
    b"PROXY UNKNOWN \xff\r\n",
    b"PROXY UNKNOWN a\nb\r\n",
    b"PROXY UNKNOWN " + b"x" * (LINE - 15) + b"\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)

_FOUR = bytes((192, 0, 2, 1, 192, 0, 2, 254)) + struct.pack("!HH", 40000, 443)
_SIX = ipaddress.IPv6Address("2001:db8::1").packed + ipaddress.IPv6Address("2001:db8::2").packed + b"\x9c\x40\x01\xbb"


def binary(command: int = 0x21, family: int = 0x11, rest: bytes = _FOUR, size: int | None = None) -> bytes:
    """A header of version 2, by the book and not by what is tested."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest) if size is None else size) + rest


def field(kind: int, value: bytes) -> bytes:
    """One field of it."""
    return struct.pack("!BH", kind, len(value)) + value


_NOWHERE = ("", 0, "", 0)
_V4 = ("192.0.2.1", 40000, "192.0.2.254", 443)
_V6 = ("2001:db8::1", 40000, "2001:db8::2", 443)

#: Headers of version 2: what they say, whether they are local, and their fields.
BINARIES: tuple[tuple[bytes, tuple[str, int, str, int], bool, tuple[tuple[int, bytes], ...]], ...] = (
    (binary(), _V4, False, ()),
    (binary(family=0x12), _V4, False, ()),
    (binary(family=0x21, rest=_SIX), _V6, False, ()),
    (binary(family=0x22, rest=_SIX), _V6, False, ()),
    (binary(family=0x31, rest=b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")), _NOWHERE, False, ()),
    (binary(family=0x32, rest=bytes(216) + field(0xE0, b"x")), _NOWHERE, False, ((0xE0, b"x"),)),
    (binary(family=0x00, rest=b""), _NOWHERE, False, ()),
    (binary(family=0x00, rest=field(0x02, b"a.example")), _NOWHERE, False, ((2, b"a.example"),)),
    (binary(0x20, 0x00, b""), _NOWHERE, True, ()),
    (binary(0x20, 0x11), _NOWHERE, True, ()),
    (binary(0x20, 0xFF, b"whatever this is"), _NOWHERE, True, ()),
    (
        binary(rest=_FOUR + field(1, b"h2") + field(4, b"\0\0") + field(0xEA, b"") + field(4, b"")),
        _V4,
        False,
        ((1, b"h2"), (0xEA, b"")),
    ),
    (binary(rest=_FOUR + field(0xE0, b"y" * (LONGEST - 31))), _V4, False, ((0xE0, b"y" * (LONGEST - 31)),)),
)

BAD_BINARIES = (
    SIGNATURE[:4] + b"GET / HTTP/1.1\r\n",
    binary(0x11),
    binary(0x31),
    binary(0x22),
    binary(0x2F),
    binary(family=0x01),
    binary(family=0x10),
    binary(family=0x13),
    binary(family=0x41),
    binary(family=0xFF),
    binary(rest=b""),
    binary(rest=_FOUR[:-1]),
    binary(family=0x21, rest=_FOUR),
    binary(family=0x31, rest=bytes(215)),
    binary(rest=_FOUR + b"\x01"),
    binary(rest=_FOUR + b"\x01\x00"),
    binary(rest=_FOUR + b"\x01\x00\x03h2"),
    binary(rest=_FOUR + field(1, b"h2") + b"\0"),
    binary(family=0x00, rest=b"x"),
    binary(rest=_FOUR + field(3, b"\0\0\0\0")),
    binary(rest=_FOUR + field(3, b"\0\0\0")),
    binary(rest=_FOUR + field(0xE0, b"y" * (LONGEST - 30))),
    binary(size=LONGEST - 15),
    binary(0x20, 0x00, b"", LONGEST),
    binary(size=0xFFFF),
)


def said(header: Header | None) -> tuple[str, int, str, int]:
    """The addresses that it tells."""
    assert header is not None
    return header.source, header.source_port, header.destination, header.destination_port


def bytewise(data: bytes) -> tuple[int, Header | None]:
    """Fed with one byte more each time: when there was an answer, and which."""
    for count in range(len(data) + 1):
        found = parse(data[:count])
        if found is not None:
            return count, found
    return -1, None


class LineTests(SynchronousTestCase):
    """Version 1."""

    def test_lines(self) -> None:
        """A line says where the connection comes from and went to, whole or byte by byte, whatever follows."""
        for line, expected in LINES:
            header = parse(line)
            self.assertEqual(said(header), expected, line)
            count, found = bytewise(line + b"GET / HTTP/1.1\r\n\r\n")
            assert header is not None
            assert found is not None
            self.assertEqual((count, found.size, header.size), (len(line),) * 3)
            self.assertEqual(said(found), expected)
            self.assertEqual((found.local, found.tlvs), (False, ()))

    def test_badLines(self) -> None:
        """Everything that is not exactly such a line is refused, at its end at the latest, byte by byte as well."""
        for line in BAD_LINES:
            error = self.assertRaises(ProtocolError, parse, line)
            self.assertEqual(error.status, 400)
            self.assertRaises(ProtocolError, bytewise, line)

    def test_atOnce(self) -> None:
        """What cannot become a header is refused with its first wrong byte."""
        for line in (b"G", b"PRI", b"PROXX", b"\x16", b"\n", b"PROXY\t", b"PROXY TCP4 192.\n", b"\r\n\r\n\0\r\nQUIX"):
            self.assertIdentical(parse(line[:-1]), None)
            self.assertRaises(ProtocolError, parse, line)

    def test_longest(self) -> None:
        """A line without an end is read for 107 bytes and no further."""
        line = b"PROXY UNKNOWN ".ljust(LINE - 1, b"x")
        self.assertIdentical(parse(line), None)
        self.assertRaises(ProtocolError, parse, line + b"x")
        self.assertRaises(ProtocolError, parse, line + b"\r")
        self.assertRaises(ProtocolError, parse, line + b"\r\n")


class BinaryTests(SynchronousTestCase):
    """Version 2."""

    def test_headers(self) -> None:
        """A header says where the connection comes from and went to, and has its fields, however it is cut."""
        for data, expected, local, tlvs in BINARIES:
            for cut in range(0, len(data), 1 if len(data) < 300 else 97):
                self.assertIdentical(parse(data[:cut]), None, (data, cut))
            for header in (parse(data), parse(data + SIGNATURE)):
                assert header is not None
                self.assertEqual(said(header), expected, data)
                self.assertEqual((header.local, header.tlvs, header.size), (local, tlvs, len(data)), data)

    def test_badHeaders(self) -> None:
        """A header that is for nothing known, too long, too short for what it announces, or damaged is refused."""
        for data in BAD_BINARIES:
            error = self.assertRaises(ProtocolError, parse, data)
            self.assertEqual(error.status, 400)
            self.assertRaises(ProtocolError, bytewise, data)

    def test_tooLongAtOnce(self) -> None:
        """A header that announces too much is refused before any of that has come."""
        self.assertRaises(ProtocolError, parse, binary(rest=b"", size=LONGEST - 15))
        self.assertIdentical(parse(binary(rest=b"", size=LONGEST - 16)), None)

    def test_versionAtOnce(self) -> None:
        """Another version is refused with its byte."""
        self.assertRaises(ProtocolError, parse, SIGNATURE + b"\x31")
        self.assertIdentical(parse(SIGNATURE + b"\x21"), None)

    def test_checksum(self) -> None:
        """A header with a checksum is refused for any one bit that is not as it was; HAProxy's own is accepted."""
        good = compose_v2(*_V4, tlvs=[(2, b"a.example"), (0xE0, b"\1")], checksum=True)
        header = parse(good)
        assert header is not None
        self.assertEqual(header.tlvs, ((2, b"a.example"), (0xE0, b"\1")))
        for at in range(16, len(good)):
            for bit in range(8):
                damaged = good[:at] + bytes((good[at] ^ 1 << bit,)) + good[at + 1 :]
                try:
                    found = parse(damaged)
                except ProtocolError:
                    continue
                # The damage hides the checksum: its type is another one, so there is none to verify.
                assert found is not None
                self.assertEqual(len(found.tlvs), 3 if damaged[-7] != 4 else 2)
                self.assertEqual(at, len(good) - 7)

    def test_twoChecksums(self) -> None:
        """Two checksums cannot both be right, so they are refused."""
        once = compose_v2(*_V4, checksum=True)
        twice = binary(rest=once[16:] + once[-7:])
        self.assertRaises(ProtocolError, parse, twice)

    def test_crc(self) -> None:
        """The checksum is the one of RFC 3720 appendix B.4."""
        self.assertEqual(crc32c(b""), 0)
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(crc32c(bytes(32)), 0x8A9136AA)
        self.assertEqual(crc32c(b"\xff" * 32), 0x62A8AB43)
        self.assertEqual(crc32c(bytes(range(32))), 0x46DD794E)


class HeaderTests(SynchronousTestCase):
    """L{Header}."""

    def test_repr(self) -> None:
        """It shows whom it is about."""
        shown = [repr(parse(data)) for data in (LINES[0][0], b"PROXY UNKNOWN\r\n", binary(0x20, 0x00, b""))]
        self.assertEqual(shown, ["<Header 192.0.2.1 40000 to 192.0.2.254 443>", "<Header unknown>", "<Header local>"])


class DescribedTests(SynchronousTestCase):
    """Fields for the log."""

    def test_names(self) -> None:
        """Known fields have names, unknown ones their number, and text cannot break a line of the log."""
        ssl = (
            b"\x03\0\0\0\0" + field(0x21, b"TLSv1.3") + field(0x22, b"Eve\n\x1b[2J") + field(0x23, b"AES") + b"\x24\x01"
        )
        self.assertEqual(
            described([(1, b"h2"), (2, b"a.example"), (5, b"\0\xff"), (0x30, b"blue"), (0x20, ssl), (0xE4, b"ab")]),
            {
                "alpn": "h2",
                "authority": "a.example",
                "unique_id": "00ff",
                "netns": "blue",
                "ssl": "yes",
                "ssl_verified": "yes",
                "ssl_version": "TLSv1.3",
                "ssl_cn": "Eve\ufffd\ufffd[2J",
                "ssl_cipher": "AES",
                "0xe4": "6162",
            },
        )

    def test_unverified(self) -> None:
        """A certificate that the proxy could not verify is told of as such; no certificate is not told of."""
        self.assertEqual(described([(0x20, b"\x03\0\0\0\1")]), {"ssl": "yes", "ssl_verified": "no"})
        self.assertEqual(described([(0x20, b"\x00\0\0\0\1")]), {"ssl": "no"})

    def test_broken(self) -> None:
        """Fields that are not as they should be are shown as bytes, or as far as they go."""
        self.assertEqual(described([(0x20, b"\x01"), (2, b"\xff")]), {"0x20": "01", "authority": "\ufffd"})
        self.assertEqual(described([(0x20, b"\x01\0\0\0\0\x21\x00\x09TLS")]), {"ssl": "yes"})


class ComposeTests(SynchronousTestCase):
    """Headers of our own."""

    def test_lines(self) -> None:
        """A line has the addresses in the family that both have; IPv4 beside IPv6 is mapped."""
        self.assertEqual(compose_v1(*_V4), LINES[0][0])
        self.assertEqual(compose_v1(*_V6), b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 443\r\n")
        mixed = parse(compose_v1("192.0.2.1", 1, "2001:db8::2", 2))
        self.assertEqual(said(mixed)[2:], ("2001:db8::2", 2))
        self.assertEqual(ipaddress.IPv6Address(said(mixed)[0]).ipv4_mapped, ipaddress.IPv4Address("192.0.2.1"))

    def test_mapped(self) -> None:
        """IPv4 addresses that a socket for both families shows as mapped ones are told of as what they are."""
        self.assertEqual(compose_v1("::ffff:192.0.2.1", 40000, "::ffff:192.0.2.254", 443), LINES[0][0])
        self.assertEqual(compose_v2("::ffff:192.0.2.1", 40000, "192.0.2.254", 443), binary())

    def test_unknown(self) -> None:
        """A client that came by a unix socket has no address: unknown, or local."""
        for pair in (("", 0, "", 0), ("192.0.2.1", 1, "", 0), ("", 0, "192.0.2.1", 1), ("unix", 0, "unix", 0)):
            self.assertEqual(compose_v1(*pair), b"PROXY UNKNOWN\r\n")
            self.assertEqual(compose_v2(*pair), SIGNATURE + b"\x20\0\0\0")

    def test_binary(self) -> None:
        """Version 2 is as the protocol has it."""
        self.assertEqual(compose_v2(*_V4), binary())
        self.assertEqual(compose_v2(*_V6), binary(family=0x21, rest=_SIX))
        self.assertEqual(compose_v2(*_V4, tlvs=[(1, b"h2")]), binary(rest=_FOUR + field(1, b"h2")))
        self.assertEqual(compose_v2("fe80::1%eth0", 1, "::1", 2)[16:32], ipaddress.IPv6Address("fe80::1").packed)

    def test_tooLong(self) -> None:
        """Fields that would make a header which we ourselves would refuse are refused."""
        self.assertEqual(len(compose_v2(*_V4, tlvs=[(0xE0, b"x" * (LONGEST - 31))])), LONGEST)
        self.assertRaises(ValueError, compose_v2, *_V4, tlvs=[(0xE0, b"x" * (LONGEST - 30))])


_PORTS = st.integers(0, 65535)
_PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6))
)
_FIELDS = st.lists(
    st.tuples(st.integers(0, 255).filter(lambda kind: kind not in (3, 4)), st.binary(max_size=40)), max_size=6
)


class Properties(SynchronousTestCase):
    """For whatever comes."""

    @bounded
    @given(
        pair=_PAIRS, ports=st.tuples(_PORTS, _PORTS), tlvs=_FIELDS, checksum=st.booleans(), rest=st.binary(max_size=9)
    )
    def test_roundTrip(
        self,
        pair: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ipaddress.IPv4Address | ipaddress.IPv6Address],
        ports: tuple[int, int],
        tlvs: list[tuple[int, bytes]],
        checksum: bool,
        rest: bytes,
    ) -> None:
        """What was composed says, parsed, what went into it."""
        if all(isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped for one in pair):
            return  # comes back as IPv4: test_mapped
        source, destination = map(str, pair)
        expected = (source, ports[0], destination, ports[1])
        line = compose_v1(*expected)
        self.assertTrue(len(line) <= LINE)
        self.assertEqual(said(parse(line + rest)), expected)
        data = compose_v2(*expected, tlvs=tlvs, checksum=checksum)
        header = parse(data + rest)
        assert header is not None
        self.assertEqual(said(header), expected)
        self.assertEqual((header.tlvs, header.size), (tuple(tlvs), len(data)))
        for cut in range(len(data)):
            self.assertIdentical(parse(data[:cut]), None)

    @bounded
    @given(
        data=st.one_of(
            st.binary(max_size=200),
            st.binary(max_size=200).map(SIGNATURE.__add__),
            st.binary(max_size=200).map(lambda rest: binary(size=len(rest) + 12)[:28] + rest),
            st.text("PROXY TC46UNKW0123456789.:abf\r\n", max_size=120).map(lambda text: b"PROXY " + text.encode()),
        )
    )
    @example(data=b"")
    @example(data=SIGNATURE + b"\x21\x11\x00\x00")
    def test_rubbish(self, data: bytes) -> None:
        """No input raises anything else, and once an answer stands more bytes do not change it."""
        previous: object = None
        for count in range(len(data) + 1):
            try:
                header = parse(data[:count])
                now: object = None if header is None else (said(header), header.local, header.tlvs, header.size)
                if header is not None:
                    self.assertTrue(header.size <= count)
                    described(header.tlvs)
            except ProtocolError as error:
                now = str(error)
            if previous is not None:
                self.assertEqual(isinstance(now, str), isinstance(previous, str))
                if not isinstance(now, str):
                    self.assertEqual(now, previous)
            previous = now

    @bounded
    @given(kind=st.integers(0, 255), value=st.binary(max_size=60))
    def test_described(self, kind: int, value: bytes) -> None:
        """Any field can be described, in printable text."""
        for text in described([(kind, value)]).values():
            self.assertTrue(text.isprintable())
