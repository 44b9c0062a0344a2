"""Records of FastCGI: what goes out, what is taken, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.fastcgi import records
from lemmytx.fastcgi.records import Answer
from lemmytx.message import ProtocolError
from tests.fastcgi import application
from tests.fastcgi.application import END, STDERR, STDOUT, end, output, record

Outcome = tuple[Any, ...]


def take(pieces: list[bytes]) -> Outcome:
    """What an Answer makes of these reads: a refusal, or all that it knows."""
    answer = Answer()
    found = b""
    try:
        for piece in pieces:
            found += answer.feed(piece)
    except ProtocolError as error:
        return error.status, error.reason
    return (
        found, answer.errors, answer.errors_size, answer.done, answer.clean, answer.protocol_status,
        answer.application_status, answer.rest,
    )  # fmt: skip


def single(data: bytes) -> list[bytes]:
    """One byte a read."""
    return [data[at : at + 1] for at in range(len(data))]


#: What comes, output, errors, whether it is done, clean, protocol and application status.
TAKEN: list[tuple[str, bytes, Outcome]] = [
    ("nothing yet", b"", (b"", b"", False, False, 0, 0)),
    ("half a header", record(STDOUT, b"abc")[:5], (b"", b"", False, False, 0, 0)),
    ("half a record", record(STDOUT, b"abcdef")[:-2], (b"abcd", b"", False, False, 0, 0)),
    ("as php-fpm writes it", application.answer(b"abc"), (b"abc", b"", True, True, 0, 0)),
    ("with the ends of both streams", output(b"abc", b"") + record(STDERR) + end(), (b"abc", b"", True, True, 0, 0)),
    ("nothing at all", end(), (b"", b"", True, True, 0, 0)),
    ("errors between", output(b"a") + record(STDERR, b"oh", padding=6) + output(b"b") + end(),
     (b"ab", b"oh", True, True, 0, 0)),
    ("errors behind the output's end", output(b"a", b"") + record(STDERR, b"oh") + end(),
     (b"a", b"oh", True, True, 0, 0)),
    ("much padding", record(STDOUT, b"a", padding=255) + record(STDOUT, padding=255) + end(padding=255),
     (b"a", b"", True, True, 0, 0)),
    ("padding that is not all there", end(padding=9)[:-1], (b"", b"", True, False, 0, 0)),
    ("a long record", record(STDOUT, b"x" * 65535) + end(), (b"x" * 65535, b"", True, True, 0, 0)),
    ("an exit status", end(0xFEDCBA98), (b"", b"", True, True, 0, 0xFEDCBA98)),
    ("cannot multiplex", end(0, 1), (b"", b"", True, True, 1, 0)),
    ("overloaded", end(0, 2), (b"", b"", True, True, 2, 0)),
    ("unknown role", end(0, 3), (b"", b"", True, True, 3, 0)),
]  # fmt: skip

REFUSED: list[tuple[str, bytes, str]] = [
    ("HTTP", b"HTTP/1.1 200 OK\r\n\r\n", records.VERSION),
    ("version 0", record(STDOUT, b"a", version=0), records.VERSION),
    ("version 2", record(STDOUT, b"a", version=2), records.VERSION),
    ("the version of the second record", output(b"a") + record(STDOUT, b"a", version=7), records.VERSION),
    *((f"type {kind}", record(kind, b"12345678"), records.KIND) for kind in (0, 1, 2, 4, 5, 8, 9, 10, 11, 12, 255)),
    ("a management record", record(11, b"12345678", request=0), records.KIND),
    ("output for request 0", record(STDOUT, b"a", request=0), records.REQUEST_ID),
    ("output for request 2", record(STDOUT, b"a", request=2), records.REQUEST_ID),
    ("output for request 257", record(STDOUT, b"a", request=257), records.REQUEST_ID),
    ("the end of request 256", record(END, b"\0" * 8, request=256), records.REQUEST_ID),
    ("an end of 0 bytes", record(END), records.END_LENGTH),
    ("an end of 7 bytes", record(END, b"\0" * 7), records.END_LENGTH),
    ("an end of 9 bytes", record(END, b"\0" * 9), records.END_LENGTH),
    ("an end of 264 bytes", record(END, b"\0" * 264), records.END_LENGTH),
    ("protocol status 4", end(0, 4), records.END_STATUS),
    ("protocol status 255", end(0, 255), records.END_STATUS),
    ("output behind its end", output(b"a", b"", b"b"), records.ENDED_STREAM),
    ("output that ends twice", output(b"", b""), records.ENDED_STREAM),
    ("errors behind their end", record(STDERR) + record(STDERR, b"a"), records.ENDED_STREAM),
]  # fmt: skip


class AnswerTests(SynchronousTestCase):
    """What an application sends."""

    def test_taken(self) -> None:
        """An answer is understood as the table says, in one read and byte by byte."""
        for what, data, (body, errors, *flags) in TAKEN:
            expected = (body, errors, len(errors), *flags, b"")
            self.assertEqual(take([data]), expected, what)
            self.assertEqual(take(single(data)), expected, what)

    def test_refused(self) -> None:
        """What is no answer is a 502 with its reason, in one read, byte by byte and with something behind it."""
        for what, data, reason in REFUSED:
            self.assertEqual(take([data]), (502, reason), what)
            self.assertEqual(take(single(data)), (502, reason), what)
            self.assertEqual(take([data + b"\1\6\0\1\0\0\0\0"]), (502, reason), what)

    def test_refused_early(self) -> None:
        """What cannot become an answer is refused with the header of the record, before its content is there."""
        for what, data, reason in REFUSED:
            if reason not in (records.END_STATUS,):
                answer = Answer()
                with self.assertRaises(ProtocolError, msg=what):
                    for at in range(0, len(data), 8):
                        answer.feed(data[at : at + 8])

    def test_passed_on_at_once(self) -> None:
        """A long record of output is not waited for: its bytes go on as they come."""
        answer = Answer()
        data = record(STDOUT, b"x" * 1000)
        self.assertEqual(answer.feed(data[:9]), b"x")
        self.assertEqual(answer.feed(data[9:500]), b"x" * 491)
        self.assertFalse(answer.done)

    def test_behind_the_end(self) -> None:
        """What comes behind an END_REQUEST is nobody's: it is told, and the connection is not clean."""
        for tail in (b"\0", output(b"abc"), end()):
            answer = Answer()
            self.assertEqual(answer.feed(output(b"a") + end(padding=3) + tail), b"a")
            self.assertEqual((answer.done, answer.clean, answer.rest), (True, False, tail))

    def test_errors_bounded(self) -> None:
        """Of a program that floods its STDERR so much is kept and the rest counted, also when what is kept is read."""
        answer = Answer()
        flood = record(STDERR, b"e" * 60000)
        answer.feed(flood)
        self.assertEqual((len(answer.errors), answer.errors_size), (records.ERRORS_KEPT, 60000))
        answer.errors = b""
        answer.feed(flood * 10)
        self.assertEqual((answer.errors, answer.errors_size), (b"", 660000))

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
    def test_rubbish(self, data: bytes, cuts: list[int]) -> None:
        """No bytes raise anything but ProtocolError, and how they are cut into reads changes nothing."""
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[one:other] for one, other in pairwise(places)]
        self.assertEqual(take(pieces)[:8], take([data])[:8])

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(
        st.lists(st.tuples(st.sampled_from((STDOUT, STDERR)), st.binary(min_size=1, max_size=40), st.integers(0, 20))),
        st.integers(0, 0xFFFFFFFF),
        st.lists(st.integers(0, 400), max_size=8),
        st.integers(0, 255),
    )
    def test_records_in_any_order(
        self, sent: list[tuple[int, bytes, int]], status: int, cuts: list[int], padding: int
    ) -> None:
        """Whatever an application sends in whatever records, cut into whatever reads, comes out as it was."""
        data = b"".join(record(kind, content, padding=pad) for kind, content, pad in sent) + end(status, 0, padding)
        expected = [b"".join(content for kind, content, _ in sent if kind == which) for which in (STDOUT, STDERR)]
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[one:other] for one, other in pairwise(places)]
        found = take(pieces)
        self.assertEqual(found, (*expected, len(expected[1]), True, True, 0, status, b""))

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.data())
    def test_one_byte_changed(self, data: st.DataObject) -> None:
        """A good answer with one byte changed is understood or refused; byte by byte it is the same."""
        good = output(b"Status: 200\n\n", b"abc", b"") + record(STDERR, b"x", padding=2) + end(1)
        at = data.draw(st.integers(0, len(good) - 1))
        bad = good[:at] + bytes((data.draw(st.integers(0, 255)),)) + good[at + 1 :]
        self.assertEqual(take(single(bad))[:7], take([bad])[:7])


class RequestTests(SynchronousTestCase):
    """What goes to an application."""

    def test_whole(self) -> None:
        """A request is its begin, its variables and its body, each stream with its end."""
        wire = records.begin(True) + records.params([(b"A", b"b"), (b"C", b"")]) + records.stdin(b"body", True)
        request, rest = application.asked(wire)
        self.assertEqual((request.keep, request.variables), (True, {b"A": b"b", b"C": b""}))
        self.assertEqual((request.body, request.ended, request.aborted, rest), (b"body", True, False, b""))

    def test_bytes(self) -> None:
        """The bytes are those of the specification's appendix B."""
        self.assertEqual(records.begin(False), b"\1\1\0\1\0\x08\0\0" + b"\0\1\0\0\0\0\0\0")
        self.assertEqual(
            records.params([(b"SERVER_PORT", b"80")]), b"\1\4\0\1\0\x0f\0\0\x0b\x02SERVER_PORT80" + b"\1\4\0\1\0\0\0\0"
        )
        self.assertEqual(records.stdin(b"quant", False), b"\1\5\0\1\0\5\0\0quant")
        self.assertEqual(records.stdin(b"", True), b"\1\5\0\1\0\0\0\0")
        self.assertEqual(records.stdin(b"", False), b"")
        self.assertEqual(records.abort(), b"\1\2\0\1\0\0\0\0")

    def test_last_request(self) -> None:
        """An application is told when its connection is not to be kept."""
        self.assertFalse(application.asked(records.begin(False))[0].keep)

    def test_lengths(self) -> None:
        """Names and values of up to 127 bytes have a length of one byte, longer ones of four."""
        for size in (0, 1, 126, 127, 128, 129, 255, 256, 65534, 65535, 65536, 200000):
            sent = [(b"n" * max(size, 1), b"v" * size), (b"N", b"V")]
            request, rest = application.asked(records.begin(True) + records.params(sent))
            self.assertEqual((request.variables, rest), (dict(sent), b""), size)
        wire = records.params([(b"n" * 127, b"v" * 128)])
        self.assertEqual(wire[8:140], b"\x7f\x80\0\0\x80" + b"n" * 127)

    def test_long_body(self) -> None:
        """A piece that is too long for one record goes in several, and nothing of it is lost."""
        for size in (1, 65535, 65536, 131070, 131071, 300001):
            body = bytes(at % 251 for at in range(size))
            request, _ = application.asked(records.begin(True) + records.params([]) + records.stdin(body, True))
            self.assertEqual((request.body, request.ended), (body, True), size)

    @settings(deadline=None, derandomize=True, max_examples=200)
    @given(st.dictionaries(st.binary(min_size=1, max_size=300), st.binary(max_size=300), max_size=8))
    def test_variables_survive(self, variables: dict[bytes, bytes]) -> None:
        """Any variables arrive as they were."""
        request, _ = application.asked(records.begin(True) + records.params(variables.items()))
        self.assertEqual(request.variables, variables)
