"""
Faults of plugins and of our own: a request is answered or cut, never forgotten, and the next one is served.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from tests.process.case import GET, ScriptedCase
from tests.process.rig import Lemmy, configuration, folder, read
from tests.wire.reading import Message
from tests.wire.rig import free_port
from tests.wire.sockets import Backend, Client, Side

#: What a drop-in module with a scheduler looks like; C{%s} stands for what its C{choose} does. It behaves while it is
#: tried out at the start.
SCHEDULER = """
import os
import sys

from zope.interface import implementer

from lemmytx.interfaces import IScheduler
from lemmytx.plugin import Scheduler


@implementer(IScheduler)
class Mine:
    def update(self, backends):
        self.all = backends

    def choose(self, candidates, request):
        if request.head.path.startswith(b"/shop/"):
            return candidates[0]
        %s


mine = Scheduler("mine", Mine)
"""

#: A drop-in module that breaks one of our own functions, for requests whose path says so: a stand-in for any fault
#: that nobody has found yet.
SABOTAGE = """
# lemmytx
from lemmytx.{module} import {owner}

original = {owner}.{name}


def broken(*arguments):
    if {when}:
        raise RuntimeError("sabotage")
    return original(*arguments)


{owner}.{name} = broken
"""


class PluginCase(ScriptedCase):
    """A proxy with drop-in plugins and two backends that say who they are."""

    def setUp(self) -> None:
        super().setUp()
        self.second = Backend(self.loop)
        self.addCleanup(self.second.close)

    def with_plugins(self, modules: Mapping[str, str], **cluster: object) -> Lemmy:
        """Writes the modules into a folder of plugins and starts a proxy with them."""
        where = folder(self)
        os.mkdir(os.path.join(where, "drop-ins"))
        for name, text in modules.items():
            with open(os.path.join(where, "drop-ins", f"{name}.py"), "w", encoding="utf-8") as file:
                file.write(text)
        backends = [{"url": f"http://127.0.0.1:{one.port}"} for one in (self.backend, self.second)]
        settings = configuration(
            backends,
            plugins=["drop-ins"],
            cluster=cluster,
            access_log={"path": "access", "format": "json"},
            timeouts={"keepalive": 5},
        )
        return Lemmy(self, settings, where=where).ready()

    def served(self) -> tuple[int, int]:
        """How many requests each backend had."""
        return len(self.backend.requests), len(self.second.requests)


class SchedulerTests(PluginCase):
    """Schedulers that do not keep their contract, and one that does."""

    def scheduled(self, choose: str) -> Lemmy:
        """A proxy whose scheduler does this."""
        return self.with_plugins({"mine": SCHEDULER % choose}, scheduler="mine")

    def test_drop_in(self) -> None:
        """A scheduler from a folder chooses."""
        lemmy = self.scheduled("return candidates[int(request.head.path[1:])]")
        for path in (b"1", b"1", b"0", b"1"):
            self.answered(self.client(lemmy, GET.replace(b"/ ", b"/" + path + b" ", 1)), 200)
        self.assertEqual((1, 3), self.served())
        self.assertEqual(0, lemmy.stats()["clusters"]["c"]["scheduler_failures"])

    def test_wrong(self) -> None:
        """When one raises, even to end the process, or returns what it may not, requests go in turn; told once."""
        for choose, said in (
            ("raise RuntimeError('never')", "raised RuntimeError('never')"),
            ("sys.exit(3)", "raised SystemExit(3)"),
            ("raise KeyboardInterrupt", "raised KeyboardInterrupt()"),
            ("return None", "returned None"),
            ("return 'the first one'", "returned 'the first one'"),
        ):
            for backend in (self.backend, self.second):
                backend.forget()
            lemmy = self.scheduled(choose)
            client = self.client(lemmy)
            for _ in range(6):
                client.write(GET)
                self.answered(client, 200)
            self.assertEqual((3, 3), self.served(), choose)
            self.assertEqual(1, lemmy.count(said), lemmy.output())
            self.assertEqual(6, lemmy.stats()["clusters"]["c"]["scheduler_failures"])
            self.assertNotIn("Traceback", lemmy.output())
            self.assertEqual(0, lemmy.stop())

    def test_not_offered(self) -> None:
        """One that insists on a backend that has failed this request does not get its way."""
        lemmy = self.with_plugins(
            {"mine": SCHEDULER % "return self.all[1]"},
            scheduler="mine",
            backends=[
                {"url": f"http://127.0.0.1:{self.backend.port}"},
                {"url": f"http://127.0.0.1:{free_port()}"},
                {"url": f"http://localhost:{self.backend.port}"},
            ],
            retry={"attempts": 3},
        )
        lemmy.says("backend localhost:")
        for _ in range(3):
            self.answered(self.client(lemmy, GET), 200)
        self.assertEqual(3, lemmy.stats()["clusters"]["c"]["scheduler_failures"])


class OwnFaultTests(PluginCase):
    """Errors in our own code, put there by a drop-in module."""

    def broken(self, module: str, owner: str, name: str, when: str) -> Lemmy:
        """A proxy in which that function raises."""
        return self.with_plugins({"sabotage": SABOTAGE.format(module=module, owner=owner, name=name, when=when)})

    def ask(self, lemmy: Lemmy, path: bytes) -> Client:
        """A client that has asked for something."""
        return self.client(lemmy, GET.replace(b"/ ", path + b" ", 1))

    def terminations(self, lemmy: Lemmy, count: int) -> list[str]:
        """How the exchanges ended, by the access log."""
        path = os.path.join(lemmy.folder, "access")
        self.until(lambda: read(path).count("\n") == count, read(path))
        return [json.loads(line)["termination"] for line in read(path).splitlines()]

    def goes_on(self, lemmy: Lemmy) -> None:
        """The error was logged, the next client is served, no backend is blamed, and nothing is left."""
        self.answered(self.ask(lemmy, b"/good"), 200)
        self.assertEqual(1, lemmy.count("Traceback"), lemmy.output())
        self.assertIn("RuntimeError: sabotage", lemmy.output())
        stats = lemmy.stats()
        self.assertEqual(0, stats["exchanges"])
        for backend in stats["clusters"]["c"]["backends"].values():
            self.assertEqual((0, {}), (backend["active"], backend["failures"]))

    def test_router(self) -> None:
        """One before the request has gone anywhere: 500."""
        lemmy = self.broken("proxy.router", "Router", "find", "arguments[1].path == b'/bad'")
        self.answered(self.ask(lemmy, b"/bad"), 500)
        self.goes_on(lemmy)
        self.assertEqual(["error", "ok"], self.terminations(lemmy, 2))

    def test_on_a_new_connection(self) -> None:
        """One when the connection to the backend stands: 500."""
        lemmy = self.broken("proxy.forward", "Forwarding", "compose", "arguments[1].path == b'/bad'")
        self.answered(self.ask(lemmy, b"/bad"), 500)
        self.goes_on(lemmy)
        self.assertEqual(["error", "ok"], self.terminations(lemmy, 2))

    def test_pipelined(self) -> None:
        """One in a pipelined request: the one before it is answered, and then it is 500."""
        lemmy = self.broken("proxy.router", "Router", "find", "arguments[1].path == b'/bad'")
        client = self.client(lemmy, GET + GET.replace(b"/ ", b"/bad ", 1))
        self.until(lambda: client.finals == 2)
        self.assertEqual([200, 500], [answer.status for answer in client.answers])
        self.goes_on(lemmy)

    def test_response(self) -> None:
        """One in the way of a response: 500, though the backend had answered."""
        lemmy = self.broken("proxy.exchange", "Exchange", "respond", "arguments[0].head.path == b'/bad'")
        self.answered(self.ask(lemmy, b"/bad"), 500)
        self.goes_on(lemmy)
        self.assertEqual(["error", "ok"], self.terminations(lemmy, 2))

    def test_answering(self) -> None:
        """One when the upstream is back in the pool and the client about to get its answer: the client is cut."""
        lemmy = self.broken("proxy.downstream", "Downstream", "respond", "arguments[0].exchange.head.path == b'/bad'")
        client = self.ask(lemmy, b"/bad")
        self.until(lambda: bool(client.ended))
        self.assertEqual([], client.answers)
        self.goes_on(lemmy)

    def test_middle(self) -> None:
        """One in the middle of a response: the client is cut, so that it does not take the part for the whole."""
        lemmy = self.broken("proxy.exchange", "Exchange", "carry_on", "arguments[0].head.path == b'/bad'")

        def script(side: Side, request: Message) -> None:
            side.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
            self.held.append(side)
            if b"/good" in request.start:
                side.write(b"good")

        self.backend.script = self.second.script = script
        client = self.ask(lemmy, b"/bad")
        self.until(lambda: client.received.endswith(b"\r\n\r\n"))
        self.held[0].write(b"half")
        self.until(lambda: bool(client.ended))
        self.assertEqual([], client.answers)
        self.until(lambda: bool(self.held[0].ended))
        self.answered(self.ask(lemmy, b"/good"), 200)
        self.assertEqual(["error", "ok"], self.terminations(lemmy, 2))

    def test_upload(self) -> None:
        """One in the middle of a request: 500, and the backend gets no whole request."""
        lemmy = self.broken("proxy.exchange", "Exchange", "request_body", "arguments[0].head.path == b'/bad'")
        client = self.client(lemmy, b"POST /bad HTTP/1.1\r\nHost: a.example\r\nContent-Length: 6\r\n\r\nabc")
        self.until(lambda: any(side.rest.endswith(b"abc") for side in self.backend.sides + self.second.sides))
        client.write(b"def")
        self.answered(client, 500)
        client.close()
        self.assertEqual((0, 0), self.served())
        self.goes_on(lemmy)

    def test_lost(self) -> None:
        """One while the loss of a backend is dealt with: 500."""
        lemmy = self.broken("proxy.exchange", "Exchange", "upstream_gone", "arguments[0].head.path == b'/bad'")

        def script(side: Side, request: Message) -> None:
            if b"/bad" in request.start:
                side.close()
            else:
                side.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        self.backend.script = self.second.script = script
        self.answered(self.ask(lemmy, b"/bad"), 500)
        self.goes_on(lemmy)

    def test_timeout(self) -> None:
        """One at a timeout: 500."""
        text = SABOTAGE.format(
            module="proxy.exchange",
            owner="Exchange",
            name="upstream_timed_out",
            when="arguments[0].head.path == b'/bad'",
        )
        lemmy = self.with_plugins({"sabotage": text}, timeouts={"read": "300ms"})
        serve = self.backend.script

        def script(side: Side, request: Message) -> None:
            if b"/good" in request.start:
                serve(side, request)

        self.backend.script = self.second.script = script
        self.answered(self.ask(lemmy, b"/bad"), 500)
        self.answered(self.ask(lemmy, b"/good"), 200)
        self.assertEqual(["error", "ok"], self.terminations(lemmy, 2))

    def test_access_log(self) -> None:
        """One while the line of the access log is made: the client gets its answer all the same."""
        text = (
            "# lemmytx\nfrom lemmytx import serving\n\n\ndef broken(style):\n    def line(exchange, lines):\n"
            "        if exchange.head.path == b'/bad':\n            raise RuntimeError('sabotage')\n"
            "        lines += b'line\\n'\n    return line\n\n\nserving.appender = broken\n"
        )
        lemmy = self.with_plugins({"sabotage": text})
        self.answered(self.ask(lemmy, b"/bad"), 200)
        self.goes_on(lemmy)
        path = os.path.join(lemmy.folder, "access")
        self.until(lambda: read(path) == "line\n", read(path))
