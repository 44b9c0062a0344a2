"""What one HTTP/2 connection may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    The bounds of one connection. Those of the first group are told to the peer in SETTINGS; who oversteps them has been
    told. Those of the second are for floods: what costs the sender next to nothing, and us more.

    Floods are measured in counts, as there is no clock in here: so many are free, and then as many again each time that
    something useful has been done meanwhile. L{Connection.relax<lemmytx.http2.connection.Connection.relax>} begins
    anew, so whoever has a clock makes it "so many in half a minute".

    @ivar streams: how many the peer may have open at once (SETTINGS_MAX_CONCURRENT_STREAMS).
    @ivar header_list: size of a list of fields, each counted with 32 bytes more (SETTINGS_MAX_HEADER_LIST_SIZE). One
        that takes twice as many bytes compressed ends the connection.
    @ivar fields: how many may be in one list, those with a colon included.
    @ivar window: flow-control window of each stream towards us, in bytes: what a stream can make us hold.
    @ivar connection_window: that of the connection; 65535 at least. It is given back as bytes come, so it bounds what
        can be under way, and C{streams * window} what we hold.
    @ivar frame_size: of the largest frame that we take (SETTINGS_MAX_FRAME_SIZE), 16384 to 2**24 - 1.

    @ivar continuations: how many CONTINUATION frames may follow one HEADERS (CVE-2024-27316). The default is room for
        a list of twice the default size in pieces of 2 kB.
    @ivar resets: how many streams may come to nothing by the peer's doing: reset by it before they were answered
        (rapid reset, CVE-2023-44487), or by us for what it sent on them (CVE-2025-8671). When so many have, at least as
        many must have been answered to their ends meanwhile.
    @ivar chatter: how many frames may come that bring nothing forward: PING, SETTINGS (and each setting in it),
        PRIORITY, WINDOW_UPDATE, DATA without data, frames of unknown types or for streams that are gone (CVE-2019-9511
        to 9518). When so many have, there must have been one request, or one DATA frame worth it, for every eight,
        or a small one for every four.
    @ivar replies: how many frames we have to send in return (acknowledgements, RST_STREAM, WINDOW_UPDATE) may wait for
        L{Connection.take<lemmytx.http2.connection.Connection.take>}: who does not read shall not make us talk.
    """

    streams: int = 128
    header_list: int = 32768
    fields: int = 100
    window: int = 65535
    connection_window: int = 1 << 20
    frame_size: int = 16384

    continuations: int = 32
    resets: int = 100
    chatter: int = 1000
    replies: int = 4000
