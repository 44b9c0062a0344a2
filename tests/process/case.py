"""A proxy process between clients and a backend that both do what the test says."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.process.rig import Lemmy, configuration
from tests.wire.reading import Message
from tests.wire.sockets import Backend, Client, Loop, Side

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


class ScriptedCase(SynchronousTestCase):
    """
    @ivar loop: both ends of the wire hang on it.
    @ivar held: connections of the backend whose request waits for its answer, where the test has said L{hold}.
    """

    def setUp(self) -> None:
        self.loop = Loop()
        self.backend = Backend(self.loop)
        self.addCleanup(self.backend.close)
        self.held: list[Side] = []

    def starts(self, **settings: object) -> Lemmy:
        """A proxy in front of the backend, with these settings beside the usual ones."""
        return Lemmy(self, configuration(f"http://127.0.0.1:{self.backend.port}", **settings)).ready()

    def client(self, lemmy: Lemmy, data: bytes = b"") -> Client:
        """A client that has sent something."""
        client = Client(self.loop, lemmy.port)
        self.addCleanup(client.close)
        client.write(data)
        return client

    def until(self, condition: Callable[[], bool], what: object = "", seconds: float = 10.0) -> None:
        """Waits for what must happen."""
        self.assertTrue(self.loop.until(condition, seconds, 0.02), what)

    def answered(self, client: Client, status: int) -> None:
        """Waits for the client's next answer, which is this one; forgets it."""
        self.until(lambda: bool(client.answers or client.ended), client.received)
        self.assertEqual([status], [answer.status for answer in client.answers], client.received)
        client.answers.clear()

    def hold(self) -> None:
        """Lets the backend answer nothing."""

        def script(side: Side, _request: Message) -> None:
            self.held.append(side)

        self.backend.script = script

    def nothing_left(self, lemmy: Lemmy) -> None:
        """Every counter of what is under way is back at zero, and the log is without a traceback."""

        def settled() -> bool:
            stats = lemmy.stats()
            return not (stats["downstreams"] or stats["exchanges"] or stats["upstreams"]["active"])

        self.until(settled, "something is left")
        self.assertNotIn("Traceback", lemmy.output())
