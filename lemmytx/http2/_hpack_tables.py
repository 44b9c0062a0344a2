"""
What both twins of the header compression share: the tables of RFC 7541 (appendices A and B), the errors, and which
fields are compressed how.

The Huffman code is canonical: the codes of one length are neighbours, in the order of their symbols. So the lengths
alone say all of it.
"""

from __future__ import annotations

__all__ = [
    "ACCEPTING",
    "CODES",
    "DEAD",
    "ENTRY",
    "LENGTHS",
    "NAMES",
    "NEVER",
    "NIBBLES",
    "PLAIN",
    "STATIC",
    "STATIC_SIZE",
    "TABLE_SIZE",
    "HpackError",
    "TooLarge",
]


class HpackError(Exception):
    """
    A block that is none. The tables of both sides may differ from now on, so the connection cannot go on:
    COMPRESSION_ERROR (RFC 9113 §4.3).
    """


class TooLarge(Exception):
    """
    The list of fields is over one of its bounds. The block was understood to its end, so the connection can go on; the
    message that the list belongs to cannot.
    """


#: The size of the dynamic table until somebody says otherwise (RFC 9113 §6.5.2), and the most that we fill for a peer.
TABLE_SIZE = 4096

#: What an entry of a table, or a field in a list, counts beside its name and value (RFC 7541 §4.1, RFC 9113 §6.5.2).
ENTRY = 32

#: Appendix A, by index; at 0, which is no index, something that never matches.
STATIC: tuple[tuple[bytes, bytes], ...] = (
    (b"", b""),
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"), (b":path", b"/index.html"),
    (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"), (b":status", b"204"), (b":status", b"206"),
    (b":status", b"304"), (b":status", b"400"), (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""), (b"accept", b""),
    (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""), (b"authorization", b""),
    (b"cache-control", b""), (b"content-disposition", b""), (b"content-encoding", b""), (b"content-language", b""),
    (b"content-length", b""), (b"content-location", b""), (b"content-range", b""), (b"content-type", b""),
    (b"cookie", b""), (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""),
    (b"host", b""), (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""), (b"if-range", b""),
    (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""), (b"location", b""), (b"max-forwards", b""),
    (b"proxy-authenticate", b""), (b"proxy-authorization", b""), (b"range", b""), (b"referer", b""), (b"refresh", b""),
    (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""), (b"strict-transport-security", b""),
    (b"transfer-encoding", b""), (b"user-agent", b""), (b"vary", b""), (b"via", b""), (b"www-authenticate", b""),
)  # fmt: skip

#: The last index of the static table; those of the dynamic one follow, newest first.
STATIC_SIZE = len(STATIC) - 1

#: The lowest index that has a name.
NAMES: dict[bytes, int] = {STATIC[index][0]: index for index in range(STATIC_SIZE, 0, -1)}

#: Appendix B: how many bits the code of a symbol has; the last symbol is EOS.
LENGTHS = bytes((
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
))  # fmt: skip

_EOS = 256

#: A state of the Huffman decoder that nothing leads out of: EOS was in the data.
DEAD = 256


def _codes() -> tuple[int, ...]:
    """The code of each symbol, from the lengths."""
    codes = [0] * len(LENGTHS)
    code = length = 0
    for symbol in sorted(range(len(LENGTHS)), key=lambda symbol: (LENGTHS[symbol], symbol)):
        code <<= LENGTHS[symbol] - length
        length = LENGTHS[symbol]
        codes[symbol] = code
        code += 1
    return tuple(codes)


CODES = _codes()


def _nibbles() -> tuple[tuple[tuple[int, int], ...], bytes]:
    """
    The Huffman decoder, four bits at a time: no code is shorter than five bits, so no step gives two symbols.

    @return: at 16 times the state plus the bits: the next state and the symbol, or -1; and for each state whether the
        data may end there: fewer than eight bits of a code have come, all of them ones (§5.2). The first state is 0.
    """
    tree = [[0, 0]]  # for each inner node, what a 0 and a 1 lead to: another one, or ~symbol; 0: nothing is there yet
    for symbol, (code, length) in enumerate(zip(CODES, LENGTHS, strict=True)):
        node = 0
        for place in range(length - 1, 0, -1):
            bit = code >> place & 1
            if not tree[node][bit]:
                tree[node][bit] = len(tree)
                tree.append([0, 0])
            node = tree[node][bit]
        tree[node][code & 1] = ~symbol
    assert len(tree) == DEAD  # as many inner nodes as leaves, less one
    steps = []
    for state in range(len(tree)):
        for bits in range(16):
            node, found = state, -1
            for place in (3, 2, 1, 0):
                node = tree[node][bits >> place & 1]
                if node == ~_EOS:
                    node, found = DEAD, -1
                    break
                if node < 0:
                    node, found = 0, ~node
            steps.append((node, found))
    steps.extend([(DEAD, -1)] * 16)
    accepting = bytearray(DEAD + 1)
    node = 0
    for _ in range(8):
        accepting[node] = 1
        node = tree[node][1]
    return tuple(steps), bytes(accepting)


NIBBLES, ACCEPTING = _nibbles()

#: What nobody on the way may put into a table (RFC 7541 §7.1.3): who can add fields of his own to the same connection,
#: as any other client of a shared backend can, could guess it by what his own then take.
NEVER = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))

#: What is another one in each message, and would only push out of the table what comes again.
PLAIN = frozenset((
    b":path", b"age", b"content-length", b"content-location", b"content-range", b"etag", b"forwarded",
    b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"last-modified",
    b"location", b"range", b"referer", b"sec-websocket-accept", b"sec-websocket-key", b"traceparent", b"tracestate",
    b"x-forwarded-for", b"x-real-ip", b"x-request-id",
))  # fmt: skip
