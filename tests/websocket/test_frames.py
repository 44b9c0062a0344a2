"""Where frames begin and end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from websockets.frames import CloseCode
from websockets.protocol import Protocol, Side, State

from lemmytx.websocket.frames import FRAMES_A_PIECE, GOING_AWAY, Direction, Frames, close
from tests.websocket.made import CLOSE, PAYLOADS, PING, TEXT, boundaries, conversation, frame, messages

bounded = settings(max_examples=300, deadline=None, derandomize=True, database=None)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data, cut at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(places)]


def heard(data: bytes, masked: bool) -> tuple[int | None, Exception | None]:
    """The code of the Close, and the error, that an endpoint of the C{websockets} package finds in it."""
    reader = Protocol(Side.SERVER if masked else Side.CLIENT, state=State.OPEN, max_size=None)
    reader.receive_data(data)
    return reader.close_rcvd and reader.close_rcvd.code, reader.parser_exc


class FramesTests(SynchronousTestCase):
    """L{Frames}, which only looks."""

    def test_everyByte(self) -> None:
        """However a conversation is cut in two, each end of a frame is one, and nothing else is."""
        for masked in (False, True):
            frames = conversation(masked)
            data = b"".join(frames)
            ends = boundaries(frames)
            for cut in range(len(data) + 1):
                followed = Frames(masked)
                followed.feed(data[:cut])
                self.assertEqual(followed.between, cut in ends, cut)
                followed.feed(data[cut:])
                self.assertTrue(followed.between)
                self.assertFalse(followed.lost or followed.closed)

    def test_byteByByte(self) -> None:
        """The same when each byte comes alone."""
        for masked in (False, True):
            frames = conversation(masked)
            followed = Frames(masked)
            found = [0]
            for at, byte in enumerate(b"".join(frames)):
                followed.feed(bytes((byte,)))
                if followed.between:
                    found.append(at + 1)
            self.assertEqual(found, boundaries(frames))

    def test_lengths(self) -> None:
        """Each form of the length is read, wherever the header is cut."""
        for masked in (False, True):
            for payload in PAYLOADS:
                data = frame(TEXT, payload, masked)
                for cut in range(min(16, len(data))):
                    followed = Frames(masked)
                    for piece in (data[:cut], data[cut:-1]):
                        followed.feed(piece)
                    self.assertFalse(followed.between)
                    followed.feed(data[-1:])
                    self.assertTrue(followed.between, (len(payload), cut))

    def test_huge(self) -> None:
        """A frame of many gigabytes is as long as it says."""
        followed = Frames(False)
        followed.feed(b"\x82\x7f" + (1 << 40).to_bytes(8, "big"))
        followed.feed(b"x" * 100_000)
        self.assertFalse(followed.between or followed.lost)

    def test_close(self) -> None:
        """A Close frame counts when it is whole, and what comes behind it does not."""
        for masked in (False, True):
            data = frame(CLOSE, b"\x03\xe8bye", masked)
            for cut in range(len(data)):
                followed = Frames(masked)
                followed.feed(frame(TEXT, b"before", masked) + data[:cut])
                self.assertFalse(followed.closed)
                followed.feed(data[cut:] + b"\xff\xff whatever")
                self.assertEqual((followed.closed, followed.lost), (True, False))

    def test_noFrames(self) -> None:
        """What cannot be a frame ends the looking, wherever it is cut."""
        wrong = {
            b"GET / HTTP/1.1\r\n\r\n": False,
            b"HTTP/1.1 200 OK\r\n\r\n": False,
            b"\x83\x00": False,
            b"\x8b\x00": False,
            b"\x09\x00": False,
            b"\x88\x7e\x00\x7e": False,
            b"\x81\x85": False,
            b"\x81\x05": True,
            b"\x82\x7e\x00\x7d": False,
            b"\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff": False,
            b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00": False,
            b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00": True,
        }
        for data, masked in wrong.items():
            for cut in range(len(data)):
                followed = Frames(masked)
                followed.feed(frame(TEXT, b"fine", masked) + data[:cut])
                followed.feed(data[cut:])
                self.assertEqual((followed.lost, followed.between), (True, False), (data, cut))
                followed.feed(frame(TEXT, b"fine", masked))
                self.assertEqual((followed.lost, followed.closed), (True, False))

    def test_flood(self) -> None:
        """Who sends thousands of frames at once is not followed for longer than that takes."""
        fits = Frames(False)
        fits.feed(b"\x81\x00" * FRAMES_A_PIECE)
        self.assertTrue(fits.between)
        fits.feed(b"\x81\x00" * (FRAMES_A_PIECE + 1))
        self.assertTrue(fits.lost)

    @bounded
    @given(st.booleans(), st.lists(st.binary(max_size=40), max_size=6))
    def test_anything(self, masked: bool, data: list[bytes]) -> None:
        """Any bytes, in any pieces, are the same to it as in one piece."""
        whole, cut = Frames(masked), Frames(masked)
        whole.feed(b"".join(data))
        for piece in data:
            cut.feed(piece)
        self.assertEqual((whole.between, whole.closed, whole.lost), (cut.between, cut.closed, cut.lost))


class CloseTests(SynchronousTestCase):
    """The frames that we make."""

    def test_toClient(self) -> None:
        """For a client, unmasked."""
        self.assertEqual(close(GOING_AWAY, False), frame(CLOSE, b"\x03\xe9"))

    def test_toServer(self) -> None:
        """For a server, masked, each with another key."""
        made = {close(GOING_AWAY, True) for _ in range(5)}
        self.assertEqual(len(made), 5)
        for data in made:
            self.assertEqual(heard(data, True), (CloseCode.GOING_AWAY, None))


class DirectionTests(SynchronousTestCase):
    """L{Direction}, which can be brought to an end."""

    def test_atOnce(self) -> None:
        """Between two frames the Close goes out at once, and nothing after it."""
        for masked in (False, True):
            direction = Direction(masked)
            direction.feed(frame(TEXT, b"said", masked))
            ours = close(GOING_AWAY, masked)
            self.assertEqual(direction.end(ours), ours)
            self.assertTrue(direction.ended)
            self.assertEqual(direction.passing(frame(TEXT, b"too late", masked)), b"")
            self.assertFalse(direction.closed)
            self.assertEqual(direction.passing(frame(CLOSE, b"", masked)), b"")
            self.assertTrue(direction.closed)

    def test_everyByte(self) -> None:
        """Wherever it is wanted and however the rest comes, it stands behind the frame that was under way."""
        for masked in (False, True):
            frames = conversation(masked)
            data = b"".join(frames)
            ends = boundaries(frames)
            ours = close(GOING_AWAY, masked)
            for wanted in range(len(data)):
                place = next(end for end in ends if end >= wanted)
                for size in (1, 7, len(data)):
                    direction = Direction(masked)
                    direction.feed(data[:wanted])
                    out = data[:wanted] + direction.end(ours)
                    for at in range(wanted, len(data), size):
                        out += direction.passing(data[at : at + size])
                    self.assertEqual(out, data[:place] + ours, (wanted, size))

    def test_ownClose(self) -> None:
        """A Close of the sender's own, whole or under way, is the only one."""
        for masked in (False, True):
            data = frame(CLOSE, b"\x03\xe8", masked)
            for cut in range(1, len(data) + 1):
                direction = Direction(masked)
                direction.feed(data[:cut])
                out = data[:cut] + direction.end(close(GOING_AWAY, masked)) + direction.passing(data[cut:])
                self.assertEqual((out, direction.ended), (data, True))

    def test_noFrames(self) -> None:
        """Where frames cannot be told, nothing is put in and nothing left out."""
        direction = Direction(False)
        direction.feed(frame(TEXT, b"fine"))
        direction.feed(b"\xff\xff")
        self.assertEqual(direction.end(close(GOING_AWAY, False)), b"")
        self.assertEqual(direction.passing(frame(TEXT, b"fine")), frame(TEXT, b"fine"))
        self.assertFalse(direction.ended)
        late = Direction(False)
        late.feed(b"\x81")
        self.assertEqual(late.end(close(GOING_AWAY, False)), b"")
        self.assertEqual(late.passing(b"\xffnonsense"), b"\xffnonsense")
        self.assertFalse(late.ended)

    def test_notWanted(self) -> None:
        """Without an end that is wanted all passes."""
        direction = Direction(False)
        data = b"".join(conversation(False)) + frame(CLOSE) + b"rest"
        self.assertEqual(direction.passing(data), data)
        self.assertTrue(direction.closed)

    @bounded
    @given(
        st.booleans().flatmap(lambda masked: st.tuples(st.just(masked), messages(masked))),
        st.integers(0, 10_000),
        st.lists(st.integers(0, 10_000), max_size=6),
    )
    def test_understood(self, said: tuple[bool, list[bytes]], wanted: int, cuts: list[int]) -> None:
        """What goes out is the beginning of what came, whole frames, and a Close that any endpoint reads as 1001."""
        masked, frames = said
        # A last frame without end of its message would be an error of the conversation, not of ours.
        frames = [one for one in frames if one[0] & 0x80 and one[0] & 0x0F]
        data = b"".join([*frames, frame(PING, b"", masked)])
        wanted %= len(data)
        direction = Direction(masked)
        for piece in pieces(data[:wanted], cuts):
            direction.feed(piece)
        out = data[:wanted] + direction.end(close(GOING_AWAY, masked))
        for piece in pieces(data[wanted:], cuts):
            out += direction.passing(piece)
        self.assertEqual(heard(out, masked), (CloseCode.GOING_AWAY, None))
        kept = len(out) - len(close(GOING_AWAY, masked))
        self.assertEqual(out[:kept], data[:kept])
        self.assertIn(kept, boundaries([*frames, frame(PING, b"", masked)]))

    @bounded
    @given(st.booleans(), st.lists(st.binary(max_size=40), max_size=5), st.lists(st.binary(max_size=40), max_size=5))
    def test_anything(self, masked: bool, before: list[bytes], after: list[bytes]) -> None:
        """Of any bytes what goes out is all, or a beginning and our Close."""
        direction = Direction(masked)
        for piece in before:
            direction.feed(piece)
        ours = close(GOING_AWAY, masked)
        out = direction.end(ours) + b"".join(map(direction.passing, after))
        if out != b"".join(after):
            self.assertTrue(out.endswith(ours))
            self.assertTrue(b"".join(after).startswith(out[: -len(ours)]))
