"""
The order in which it goes: first it says so, then it accepts nobody any more, then what is under way ends.
"""

from __future__ import annotations

import signal

from tests.process.case import GET
from tests.process.rig import Lemmy, answers, lives
from tests.process.test_reload import GOING_AWAY, ReloadCase
from tests.wire.sockets import PLAIN


class DrainTests(ReloadCase):
    """SIGTERM and SIGINT, with one process."""

    def not_ready(self, lemmy: Lemmy) -> None:
        """Waits until it says that it is about to go."""
        self.until(lambda: lemmy.ask("/ready")[0] == 503)
        self.assertIn(b"draining", lemmy.ask("/ready")[1])

    def test_order(self) -> None:
        """It says that it is not ready, and still serves; then nobody gets in, and what is under way ends."""
        lemmy = self.starts(shutdown={"delay": 4}, timeouts={"drain": 600})
        idle = self.clients(lemmy)
        self.hold()
        busy = self.client(lemmy, GET)
        self.until(lambda: len(self.held) == 1)
        port = lemmy.port
        lemmy.signal(signal.SIGTERM)
        self.not_ready(lemmy)
        self.backend.forget()
        idle += self.clients(lemmy)
        for client in idle:
            client.write(GET)
            self.answered(client, 200)
        self.until(lambda: all(client.ended == "closed" for client in idle))
        self.until(lambda: not answers(port))
        self.assertEqual("", busy.ended)
        self.held[0].write(PLAIN)
        self.until(lambda: bool(busy.answers))
        self.assertEqual([b"close"], busy.answers[0].values(b"connection"))
        self.until(lambda: busy.ended == "closed")
        self.assertEqual(0, lemmy.ended())
        self.assertEqual([], lemmy.family())
        self.assertNotIn("Traceback", lemmy.output())

    def test_socket(self) -> None:
        """A WebSocket hears 1001, as does its backend; when both have answered, everything is over."""
        lemmy = self.starts(timeouts={"drain": 600})
        socket, side = self.socket(lemmy)
        side.write(b"\x81\x0amessage")  # three bytes of it are still to come
        self.until(lambda: socket.rest.endswith(b"message"))
        lemmy.signal(signal.SIGTERM)
        self.until(lambda: side.rest[:1] == b"\x88")
        side.write(b"end")
        self.until(lambda: len(socket.rest) >= 16)
        self.assertTrue(socket.rest.startswith(b"\x81\x0amessageend\x88"), socket.rest)
        self.assertEqual(GOING_AWAY, socket.rest[14:16])
        socket.write(b"\x88\x82\0\0\0\0" + GOING_AWAY)
        side.write(b"\x88\x02" + GOING_AWAY)
        self.until(lambda: bool(socket.ended))
        side.close()
        self.assertEqual(0, lemmy.ended())

    def test_patience_ends(self) -> None:
        """What still runs after timeouts.drain is cut, and it ends with 0."""
        lemmy = self.starts(timeouts={"drain": "300ms"})
        download, _ = self.download(lemmy)
        socket, _ = self.socket(lemmy)
        lemmy.signal(signal.SIGTERM)
        self.assertEqual(0, lemmy.ended())
        self.until(lambda: bool(download.ended and socket.ended))
        self.assertEqual([], download.answers)
        self.assertEqual([], lemmy.family())

    def test_at_once(self) -> None:
        """SIGINT, and a second SIGTERM in the delay or later, wait for nothing."""
        for delay, signals in (
            (600, (signal.SIGINT,)),
            (600, (signal.SIGTERM, signal.SIGTERM)),
            (0, (signal.SIGTERM, signal.SIGTERM)),
            (0, (signal.SIGTERM, signal.SIGINT)),
        ):
            lemmy = self.starts(shutdown={"delay": delay}, timeouts={"drain": 600})
            download, _ = self.download(lemmy)
            socket, _ = self.socket(lemmy)
            lemmy.signal(signals[0])
            if len(signals) > 1:
                self.not_ready(lemmy)
                self.assertTrue(lives(lemmy.process.pid))
                lemmy.signal(signals[1])
            self.assertEqual(0, lemmy.ended(), signals)
            self.until(lambda download=download, socket=socket: bool(download.ended and socket.ended))  # type: ignore[misc]  # of this turn
            self.assertEqual([], lemmy.family())
            self.assertNotIn("Traceback", lemmy.output())


class DrainOfWorkersTests(DrainTests):
    """The same with two workers."""

    workers = 2
