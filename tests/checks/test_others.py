"""C{grpc}, C{fastcgi} and C{command} checks: codecs that answer wrongly, real servers, real programs."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.checks.command import CommandCheck
from lemmytx.checks.fastcgi import FastCgiCheck
from lemmytx.checks.grpc import GrpcCheck, request_message, serving_status
from lemmytx.checks.http import HttpCheck
from lemmytx.cluster.way import Way
from lemmytx.fastcgi import records
from lemmytx.http2 import codec as http2
from lemmytx.interfaces import Unhealthy
from lemmytx.model import BackendTls
from lemmytx.net.tls.client import ClientTls
from tests.certificates import Authority
from tests.checks.rig import CheckCase, Server, reactor
from tests.process import php as rig
from tests.process.grpc_rig import grpc  # type: ignore[attr-defined]  # what it sets has to be set before
from tests.process.php import Php

PLAIN = Way("h2c")


class MessageTests(SynchronousTestCase):
    """The two messages of gRPC."""

    def test_request(self) -> None:
        """A service's name is a field of the request; no name is no field."""
        self.assertEqual(b"\0\0\0\0\0", request_message(""))
        self.assertEqual(b"\0\0\0\0\x05\x0a\x03a.b", request_message("a.b"))
        self.assertEqual(b"\0\0\0\0\xcb\x0a\xc8\x01" + b"x" * 200, request_message("x" * 200))

    def test_answer(self) -> None:
        """The status is found among fields that nobody knows; without a field it is UNKNOWN."""
        for message, status in (
            (b"", 0), (b"\x08\x01", 1), (b"\x08\x02", 2), (b"\x12\x03abc\x08\x01", 1), (b"\x08\x01\x12\x03abc", 1),
            (b"\x08\x02\x08\x01", 1), (b"\x11" + b"8" * 8 + b"\x08\x01\x15" + b"4" * 4, 1), (b"\x08\x81\x01", 129),
        ):  # fmt: skip
            self.assertEqual(status, serving_status(b"\0" + len(message).to_bytes(4, "big") + message), message)

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(st.binary(max_size=40), st.booleans())
    def test_anything(self, data: bytes, framed: bool) -> None:
        """Whatever comes is a status or Unhealthy, and never anything else."""
        if framed:
            data = b"\0" + len(data).to_bytes(4, "big") + data
        try:
            self.assertGreaterEqual(serving_status(data), 0)
        except Unhealthy as error:
            self.assertEqual("its answer is no HealthCheckResponse", str(error))

    def test_options(self) -> None:
        """A service has a name of printable characters."""
        self.assertRaises(ValueError, GrpcCheck, "a b")


class Health(grpc.GenericRpcHandler):  # type: ignore[misc]  # it comes without annotations
    """C{grpc.health.v1.Health} of a server: services and what they are."""

    def __init__(self, states: dict[bytes, int]) -> None:
        self.states = states
        self.hangs = False

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """What serves a method."""
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(self.check)

    def check(self, message: bytes, call: grpc.ServicerContext) -> bytes:
        """The answer to one."""
        if self.hangs:
            time.sleep(0.5)
        if message[2:] not in self.states:
            call.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08" + bytes((self.states[message[2:]],))


class GrpcTests(CheckCase):
    """L{GrpcCheck} of a real server (grpcio), and of one that answers as the test says."""

    def served(self, health: Any) -> int:
        """A real server's port."""
        server = grpc.server(ThreadPoolExecutor(4), handlers=[health] if health else [])
        port: int = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(lambda: deferToThread(server.stop(None).wait))
        return port

    async def asked(self, port: int, service: str = "", timeout: float = 5.0) -> str:
        """What comes of a check."""
        return await self.outcome(GrpcCheck(service), f"h2c://127.0.0.1:{port}", PLAIN, timeout)

    async def test_real(self) -> None:
        """Services are well that are SERVING; others are not, and neither are those that there are not."""
        port = self.served(Health({b"": 1, b"shop.Orders": 2, b"x" * 100: 3}))
        self.assertEqual("passed: it is SERVING", await self.asked(port))
        self.assertEqual("failed: it is NOT_SERVING", await self.asked(port, "shop.Orders"))
        said = await self.asked(port, "shop.Other")
        self.assertEqual("failed: it answered with gRPC's status 5: it does not know this service", said)

    async def test_noService(self) -> None:
        """A gRPC server that has no health service is told from one that is down."""
        said = await self.asked(self.served(None))
        self.assertEqual("failed: it answered with gRPC's status 12: it has no grpc.health.v1.Health", said)

    async def test_tls(self) -> None:
        """Over TLS it is the same, and a server that does not agree on HTTP/2 there has failed."""
        authority = Authority()
        issued = authority.issue(["localhost", "127.0.0.1"])
        with tempfile.TemporaryDirectory() as folder:
            way = Way("h2", ClientTls(BackendTls(ca=authority.write(folder)), {"h2"}))
            certificate, key = issued.write_pair(folder)
            plain = Server(self, lambda peer: None, DefaultOpenSSLContextFactory(key, certificate))
        server = grpc.server(ThreadPoolExecutor(4), handlers=[Health({b"": 1})])
        credentials = grpc.ssl_server_credentials([(issued.key_pem, issued.chain_pem)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        self.addCleanup(lambda: deferToThread(server.stop(None).wait))
        for where, said in (
            (port, "passed: it is SERVING"),
            (plain.port, "failed: TLS: it does not speak HTTP/2 (ALPN)"),
        ):
            self.assertEqual(said, await self.outcome(GrpcCheck(), f"h2://127.0.0.1:{where}", way, tls=way.tls))

    async def test_hangs(self) -> None:
        """One that takes too long has failed: by its own account, since it knows the time that it has, or by ours."""
        health = Health({b"": 1})
        health.hangs = True
        said = await self.asked(self.served(health), timeout=0.2)
        self.assertTrue(said.startswith("failed: "), said)

    def scripted(self, answer: Any) -> Server:
        """A server in HTTP/2 that does this with its codec at each event."""

        def script(peer: Any) -> None:
            if not hasattr(peer, "codec"):
                peer.codec = http2.Connection(False)
                peer.codec.start()
                peer.taken = 0
            events = peer.codec.receive(peer.received[peer.taken :])
            peer.taken = len(peer.received)
            for event in events:
                if isinstance(event, http2.Request):
                    answer(peer, event.stream)
            peer.transport.write(peer.codec.take())

        return Server(self, script)

    async def test_wrong(self) -> None:
        """Answers that are no gRPC, or only begin to be, have failed with what is wrong with them."""
        ok = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"

        def trailers(peer: Any, stream: int) -> None:
            peer.codec.respond(stream, ok + b"\r\n", False)
            peer.codec.send(stream, b"\0\0\0\0\x02\x08\x01", False)
            peer.codec.trailers(stream, b"grpc-status: 0\r\n")

        def no_trailers(peer: Any, stream: int) -> None:
            peer.codec.respond(stream, ok + b"\r\n", False)
            peer.codec.send(stream, b"\0\0\0\0\x02\x08\x01", True)

        def no_message(peer: Any, stream: int) -> None:
            peer.codec.respond(stream, ok + b"grpc-status: 0\r\n\r\n", True)

        def too_long(peer: Any, stream: int) -> None:
            peer.codec.respond(stream, ok + b"\r\n", False)
            peer.codec.send(stream, b"\0\0\0\xff\xff" + b"x" * 10_000, False)

        def interim(peer: Any, stream: int) -> None:
            peer.codec.respond(stream, b"HTTP/1.1 103 Early\r\n\r\n", False)
            trailers(peer, stream)

        def html(peer: Any, stream: int) -> None:
            peer.codec.respond(stream, b"HTTP/1.1 404 No\r\n\r\n", True)

        def internal(peer: Any, stream: int) -> None:
            peer.codec.respond(stream, ok + b"grpc-status: 13\r\ngrpc-message: it broke\r\n\r\n", True)

        def reset(peer: Any, stream: int) -> None:
            peer.codec.reset(stream, http2.REFUSED_STREAM)

        def goes(peer: Any, stream: int) -> None:
            peer.codec.goaway(0, 0)

        def ends(peer: Any, stream: int) -> None:
            peer.codec.respond(stream, ok + b"\r\n", False)
            peer.transport.write(peer.codec.take())
            peer.transport.loseConnection()

        for answer, said in (
            (trailers, "passed: it is SERVING"),
            (interim, "passed: it is SERVING"),
            (internal, "failed: it answered with gRPC's status 13: it broke"),
            (no_trailers, "failed: its answer has no grpc-status"),
            (no_message, "failed: its answer is no HealthCheckResponse"),
            (too_long, "failed: its answer has no grpc-status"),
            (html, "failed: it answered 404, which is not gRPC"),
            (reset, "failed: it refuses to answer (RST_STREAM, code 7)"),
            (goes, "failed: it takes no requests (GOAWAY, code 0)"),
            (ends, "failed: it closed the connection before the end of its answer"),
        ):
            self.assertEqual(said, await self.asked(self.scripted(answer).port), answer)

    async def test_notHttp2(self) -> None:
        """A server that speaks something else has failed."""
        server = Server(self, lambda peer: peer.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        said = await self.asked(server.port)
        self.assertTrue(said.startswith("failed: its answer is malformed: "), said)

    async def test_httpOverHttp2(self) -> None:
        """The check C{http} speaks HTTP/2 where requests do."""
        seen = []

        def answer(peer: Any, stream: int) -> None:
            seen.append(peer)
            peer.codec.respond(stream, b"HTTP/1.1 200 OK\r\n\r\n", False)
            peer.codec.send(stream, b"fine", True)

        server = self.scripted(answer)
        bad = "failed: 'bad' is not found in its answer 'fine'"
        for expect, said in (("^fine$", "passed: it answered 200"), ("bad", bad)):
            found = await self.outcome(HttpCheck(expect={"body": expect}), f"h2c://127.0.0.1:{server.port}", PLAIN)
            self.assertEqual(said, found)
        port = self.scripted(lambda peer, number: peer.codec.respond(number, b"HTTP/1.1 503 No\r\n\r\n", True)).port
        found = await self.outcome(HttpCheck(method="HEAD"), f"h2c://127.0.0.1:{port}", PLAIN)
        self.assertEqual("failed: it answered 503", found)


class FastCgiTests(CheckCase):
    """L{FastCgiCheck} of a real php-fpm, and of servers that answer as the test says."""

    async def asked(self, url: str, timeout: float = 5.0, **options: Any) -> str:
        """What comes of a check."""
        return await self.outcome(FastCgiCheck(**options), url, Way("fcgi"), timeout)

    async def test_real(self) -> None:
        """A script of php-fpm is run and its answer looked at; one that there is not, or that fails, is not well."""
        php = Php(self)
        index = os.path.join(php.root, "index.php")
        for url in php.urls.values():
            self.assertEqual(
                "passed: it answered 200",
                await self.asked(url, path="/index.php", script=index, expect={"body": "^front /index.php"}),
            )
            said = await self.asked(url, path="/none.php", script=os.path.join(php.root, "none.php"))
            self.assertEqual("failed: it answered 404", said)
            said = await self.asked(url, path="/fatal.php", script=os.path.join(php.root, "fatal.php"))
            self.assertEqual("failed: it answered 500", said)
            said = await self.asked(url, 0.3, path="/stall.php", script=os.path.join(php.root, "stall.php"))
            self.assertEqual("failed: no outcome within 0.3 s", said)

    async def test_ping(self) -> None:
        """php-fpm's own C{ping.path} is what is asked for unless something else is written."""
        self.patch(rig, "_POOL", rig._POOL + "ping.path = /ping\n")
        php = Php(self)
        self.assertEqual(
            "passed: it answered 200", await self.asked(php.urls["unix"], expect={"status": 200, "body": "^pong$"})
        )
        php.kill()
        self.assertTrue((await self.asked(php.urls["tcp"])).startswith("failed: no connection"))

    async def test_wrong(self) -> None:
        """Answers that are none have failed."""

        def record(kind: int, content: bytes) -> bytes:
            return bytes((1, kind, 0, 1)) + len(content).to_bytes(2, "big") + b"\0\0" + content

        head = record(records.STDOUT, b"Content-Type: text/plain\r\n\r\n")
        end = record(records.END_REQUEST, bytes(8))
        for data, said in (
            (head + record(records.STDOUT, b"pong") + end, "passed: it answered 200"),
            (record(records.END_REQUEST, b"\0\0\0\0\x02\0\0\0"), "failed: it has no room, or does not do this"),
            (end, "failed: its answer is malformed: the program ended (status 0) without a head"),
            (head, "failed: it closed the connection before the end of its answer"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "failed: its answer is malformed: "),
            (b"", "failed: it closed the connection before the end of its answer"),
        ):

            def script(peer: Any, data: bytes = data) -> None:
                if peer.received.endswith(records.stdin(b"", True)):
                    peer.transport.write(data)
                    peer.transport.loseConnection()

            found = await self.asked(f"fcgi://127.0.0.1:{Server(self, script).port}")
            self.assertTrue(found.startswith(said), (found, said))

    async def test_endless(self) -> None:
        """Of output without end no more is read than is looked at."""
        php = Php(self)
        url = php.urls["tcp"]
        script = os.path.join(php.root, "endless.php")
        self.assertEqual("passed: it answered 200", await self.asked(url, path="/endless.php", script=script))

    def test_options(self) -> None:
        """Paths that cannot be are refused."""
        self.assertRaises(ValueError, FastCgiCheck, "ping")
        self.assertRaises(ValueError, FastCgiCheck, "/ping", "ping.php")
        self.assertRaises(ValueError, FastCgiCheck, expect=7)


class CommandTests(CheckCase):
    """L{CommandCheck}"""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="lemmytx-")

    def program(self, text: str) -> str:
        """A program of the shell."""
        path = os.path.join(self.folder, "check")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)
        return path

    async def ran(self, text: str, *arguments: str, timeout: float = 5.0) -> str:
        """What comes of a check by a program."""
        check = CommandCheck((self.program(text), *arguments))
        return await self.outcome(check, "http://127.0.0.1:8123", timeout=timeout)

    async def test_ends(self) -> None:
        """0 is well, anything else is not, and the first line that it writes says why."""
        self.assertEqual("passed: the program ended with 0", await self.ran("exit 0"))
        self.assertEqual("passed: fine", await self.ran("echo fine; echo more"))
        self.assertEqual("failed: check ended with 3", await self.ran("exit 3"))
        self.assertEqual("failed: check ended with 2: no disk", await self.ran("echo no disk >&2; exit 2"))
        self.assertEqual("failed: check was killed by SIGTERM", await self.ran("kill -TERM $$"))

    async def test_environment(self) -> None:
        """It gets its arguments as they are, and the backend in variables; nothing of ours beside these."""
        os.environ["LEMMYTX_SECRET"] = "x"
        self.addCleanup(os.environ.pop, "LEMMYTX_SECRET")
        said = await self.ran(
            'echo "$1|$2|$BACKEND_NAME|$BACKEND_URL|$BACKEND_ADDRESS|$BACKEND_PORT|$CLUSTER_NAME|$LEMMYTX_SECRET"',
            "a b", "$(id)",
        )  # fmt: skip
        self.assertEqual("passed: a b|$(id)|b|http://127.0.0.1:8123|127.0.0.1|8123|c|", said)

    async def test_input(self) -> None:
        """It has no input, and no descriptor but the three usual ones."""
        # 3 is what it looks at them with.
        program = "import os, sys; print(sys.stdin.read(), *sorted(os.listdir('/proc/self/fd')))"
        said = await self.outcome(CommandCheck((sys.executable, "-c", program)), "http://127.0.0.1:8123")
        self.assertEqual("passed: 0 1 2 3", said)

    async def test_killed(self) -> None:
        """At the timeout it is killed, with what it has started."""
        path = os.path.join(self.folder, "pids")
        said = await self.ran(f"echo $$ > {path}; sleep 60 & echo $! >> {path}; wait", timeout=0.3)
        self.assertEqual("failed: no outcome within 0.3 s", said)
        with open(path, encoding="utf-8") as file:
            pids = [int(line) for line in file]
        self.assertEqual(2, len(pids))
        while any(self.runs(pid) for pid in pids):
            await deferLater(reactor, 0.01)

    @staticmethod
    def runs(pid: int) -> bool:
        """Whether it does, and is not only waiting for its parent to hear of its end."""
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                return file.read().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    async def test_talks(self) -> None:
        """A program that writes more than anybody wants to know is neither held up nor kept in memory."""
        said = await self.ran("head -c 3000000 /dev/zero | tr '\\0' x; exit 1")
        self.assertTrue(said.startswith("failed: check ended with 1: xxxx"), said[:80])
        self.assertLess(len(said), 300)

    async def test_reaped(self) -> None:
        """Programs that ended, or were killed, are no zombies afterwards."""

        def children() -> set[str]:
            return {pid for pid in os.listdir("/proc") if pid.isdigit() and self.is_ours(pid)}

        before = children()
        await self.ran("exit 0")
        await self.ran("sleep 60", timeout=0.1)
        for _ in range(300):
            if children() <= before:
                break
            await deferLater(reactor, 0.01)
        self.assertEqual(set(), children() - before)

    @staticmethod
    def is_ours(pid: str) -> bool:
        """Whether it is a child of this process that nobody has waited for, whether it has ended or not."""
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                return int(file.read().rpartition(")")[2].split()[1]) == os.getpid()
        except (FileNotFoundError, ProcessLookupError):
            return False

    async def test_vanished(self) -> None:
        """A program that is not there any more says nothing about the backend."""
        check = CommandCheck((self.program("exit 0"),))
        os.remove(os.path.join(self.folder, "check"))
        waited = self.outcome(check, "http://127.0.0.1:8123")
        await deferLater(reactor, 0.05)
        self.assertFalse(waited.called)

    def test_options(self) -> None:
        """There has to be such a program when it is configured."""
        for command in ((), ("",), ("no-such-program",), ("/",), ("true", "a\0b")):
            error = self.assertRaises(ValueError, CommandCheck, command)
            self.assertTrue(str(error).startswith("command: "), error)
