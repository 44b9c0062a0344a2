"""Second chances, with processes and sockets: backends that refuse, stall, and ask for a pause."""

from __future__ import annotations

from tests.process.case import GET, ScriptedCase
from tests.process.rig import Lemmy, configuration
from tests.wire.reading import Message
from tests.wire.rig import free_port
from tests.wire.sockets import Backend, Side

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class RetryCase(ScriptedCase):
    """A proxy in front of two backends; the first in order gets what it can."""

    def setUp(self) -> None:
        super().setUp()
        self.second = Backend(self.loop)
        self.addCleanup(self.second.close)

    def with_rules(self, backends: list[object] | None = None, more: object = None, **cluster: object) -> Lemmy:
        """The proxy. C{more}: other clusters."""
        if backends is None:
            backends = [f"http://127.0.0.1:{one.port}" for one in (self.backend, self.second)]
        settings = configuration(backends, cluster={"scheduler": "first", **cluster}, timeouts={"keepalive": 0.5})
        if isinstance(more, dict):
            settings["clusters"].update(more)
        return Lemmy(self, settings).ready()

    def test_stalls(self) -> None:
        """A backend that does not answer in the time of an attempt is left for another."""
        self.hold()
        lemmy = self.with_rules(retry={"try_timeout": 0.2})
        self.answered(self.client(lemmy, GET), 200)
        self.assertEqual((len(self.held), len(self.second.requests)), (1, 1))
        self.nothing_left(lemmy)

    def test_hedged(self) -> None:
        """Or both are asked; the first answer wins, and the other connection ends."""
        self.hold()
        lemmy = self.with_rules(hedge={"quantile": "0%", "at_least": "100ms"})
        self.answered(self.client(lemmy, GET), 200)
        self.until(lambda: self.held[0].gone or self.held[0].ended, "the loser's connection")
        self.assertEqual(len(self.second.requests), 1)
        self.nothing_left(lemmy)

    def test_comesBack(self) -> None:
        """A lone backend that refuses while it is started anew loses no request, whatever its method."""
        port = free_port()
        lemmy = self.with_rules(
            [f"http://127.0.0.1:{port}"], retry={"attempts": 10, "backoff": {"first": 0.2, "most": 0.5}}
        )
        clients = [self.client(lemmy, GET.replace(b"GET", method)) for method in (b"GET", b"DELETE", b"POST")]
        self.until(lambda: lemmy.stats()["exchanges"] == 3, "they are under way")
        late = Backend(self.loop, port)
        self.addCleanup(late.close)
        for client in clients:
            self.answered(client, 200)
        self.nothing_left(lemmy)

    def test_retryAfter(self) -> None:
        """A backend that wants a pause gets it, and then the request; if the pause is not too long."""
        for most, status in ((2, 200), (0.5, 503)):
            self.backend.forget()
            answers = [BUSY, OK]

            def script(side: Side, _request: Message, answers: list[bytes] = answers) -> None:
                side.write(answers.pop(0))

            self.backend.script = script
            lemmy = self.with_rules(
                [f"http://127.0.0.1:{self.backend.port}"],
                retry={"attempts": 3, "on": [503], "backoff": {"first": 0.01, "most": most}},
            )
            self.answered(self.client(lemmy, GET), status)
            self.nothing_left(lemmy)

    def test_failover(self) -> None:
        """A cluster whose only backend refuses has its requests served by another one."""
        lemmy = self.with_rules(
            [f"http://127.0.0.1:{free_port()}"],
            {"spare": {"backends": [f"http://127.0.0.1:{self.backend.port}"]}},
            failover="spare",
        )
        for _ in range(3):
            self.answered(self.client(lemmy, GET.replace(b"GET", b"POST")), 200)
        self.assertEqual(len(self.backend.requests), 3)
        self.nothing_left(lemmy)

    def test_breaker(self) -> None:
        """A cluster that fails is left alone, which is in the log once; and is used again when it is well."""

        def fails(side: Side, _request: Message) -> None:
            side.write(BUSY)

        self.backend.script = self.second.script = fails
        lemmy = self.with_rules(circuit_breaker={"volume": 3, "open_for": 1, "half_open": 1, "reply": 502})
        for _ in range(3):
            self.answered(self.client(lemmy, GET), 503)
        for _ in range(5):
            self.answered(self.client(lemmy, GET), 502)
        self.assertEqual(len(self.backend.requests), 3)
        self.assertEqual(1, lemmy.count("the circuit breaker is open: 3 of 3 requests failed"), lemmy.output())
        self.backend.forget()

        def well() -> bool:
            client = self.client(lemmy, GET)
            self.until(lambda: bool(client.answers or client.ended), client.received)
            return bool(client.answers[0].status == 200)

        self.until(well, "the breaker closes")
        self.assertEqual(1, lemmy.count("the circuit breaker is closed: requests are answered again"))
        self.nothing_left(lemmy)
