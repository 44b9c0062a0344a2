"""
gRPC through a proxy process: calls of all four kinds, their ends, and what goes wrong with them.
"""

from __future__ import annotations

import json
import os
import queue
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority
from tests.process.grpc_rig import Server, Stub, grpc
from tests.process.rig import ANY, Lemmy, configuration, folder, read, until
from tests.wire.rig import free_port
from tests.wire.sockets import LIMIT

LOG = {"path": "access", "format": "json"}


def proxy(case: SynchronousTestCase, backend: object, **settings: object) -> Lemmy:
    """A proxy whose listener speaks HTTP/2 to who begins with it, in front of a gRPC server."""
    written = configuration([backend], access_log=LOG, **settings)
    written["listeners"] = [{"endpoint": ANY, "http2": True}]
    return Lemmy(case, written).ready()


class GrpcTests(SynchronousTestCase):
    """One server behind one proxy."""

    def setUp(self) -> None:
        self.server = Server(self)
        self.service = self.server.service

    def starts(self, **settings: object) -> Stub:
        """A client of a proxy in front of the server."""
        self.lemmy = proxy(self, self.server.url, **settings)
        return Stub(self, self.lemmy.port)

    def test_unary(self) -> None:
        """One message each way, with metadata of both kinds in all directions."""
        stub = self.starts()
        message, call = stub.reverse.with_call(
            b"abc", metadata=[("x-asked", "yes"), ("x-asked-bin", b"\1\2\xff")], timeout=LIMIT
        )
        self.assertEqual((message, call.code()), (b"cba", grpc.StatusCode.OK))
        before, after = dict(call.initial_metadata()), dict(call.trailing_metadata())
        self.assertEqual((before["x-before"], before["x-before-bin"]), ("1", b"\0\xff"))
        self.assertEqual((after["x-after"], after["x-after-bin"]), ("2", b"\xff\0"))
        seen = dict(self.service.seen)
        self.assertEqual((seen["x-asked"], seen["x-asked-bin"]), ("yes", b"\1\2\xff"))
        self.assertEqual(seen["x-forwarded-for"], "127.0.0.1")
        self.assertEqual(stub.reverse(b"", timeout=LIMIT), b"")

    def test_serverStream(self) -> None:
        """Many messages come in their order."""
        messages = list(self.starts().count(b"1000 10", timeout=LIMIT))
        self.assertEqual(messages, [b"%d" % number + b"x" * 10 for number in range(1000)])

    def test_clientStream(self) -> None:
        """Many messages go in their order, and one comes back."""
        self.assertEqual(self.starts().sum(iter([b"x" * 1000] * 500), timeout=LIMIT), b"500000")

    def test_bidirectional(self) -> None:
        """Both directions at once: each message is answered before the next one is sent."""
        waiting: queue.Queue[bytes | None] = queue.Queue()

        def messages() -> Iterator[bytes]:
            yield from iter(waiting.get, None)

        answers = self.starts().echo(messages(), timeout=LIMIT)
        for number in range(50):
            waiting.put(b"message %d" % number)
            self.assertEqual(next(answers), b"message %d" % number)
        waiting.put(None)
        self.assertEqual(list(answers), [])
        self.assertEqual(answers.code(), grpc.StatusCode.OK)

    def test_large(self) -> None:
        """Messages of 4 MB, both ways."""
        stub = self.starts()
        message = os.urandom(1 << 20) * 4
        self.assertTrue(stub.reverse(message, timeout=LIMIT * 2) == message[::-1])
        self.assertEqual([len(each) for each in stub.count(b"2 4000000", timeout=LIMIT * 2)], [4000001] * 2)
        self.assertEqual(stub.sum(iter([message] * 2), timeout=LIMIT * 2), b"8388608")

    def test_together(self) -> None:
        """A hundred calls at once, over one connection to the server."""
        stub = self.starts()
        calls = [stub.reverse.future(b"call %d" % number, timeout=LIMIT * 2) for number in range(100)]
        self.assertEqual([call.result() for call in calls], [(b"call %d" % number)[::-1] for number in range(100)])
        (backend,) = self.lemmy.stats()["clusters"]["c"]["backends"].values()
        self.assertEqual((backend["connects"], backend["idle"]), (1, 1))

    def test_error(self) -> None:
        """The status and message of an error without any other message arrive as they were ("trailers only")."""
        stub = self.starts()
        with self.assertRaises(grpc.RpcError) as caught:
            stub.fail(b"", timeout=LIMIT)
        self.assertEqual(
            (caught.exception.code(), caught.exception.details()),
            (grpc.StatusCode.FAILED_PRECONDITION, "not today: ü, 100%"),
        )
        with self.assertRaises(grpc.RpcError) as caught:
            stub.missing(b"", timeout=LIMIT)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_errorInTheMiddle(self) -> None:
        """An error after a message: the message arrives, then the error."""
        answers = self.starts().breaks(b"", timeout=LIMIT)
        self.assertEqual(next(answers), b"one")
        with self.assertRaises(grpc.RpcError) as caught:
            next(answers)
        self.assertEqual((caught.exception.code(), caught.exception.details()), (grpc.StatusCode.DATA_LOSS, "no more"))

    def test_deadline(self) -> None:
        """The client's deadline is known to the server, and its call ends there as well."""
        stub = self.starts()
        with self.assertRaises(grpc.RpcError) as caught:
            stub.hang(b"", timeout=1)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertTrue(self.service.cancelled.wait(LIMIT))
        self.assertTrue(self.service.left is not None and 0 < self.service.left < 2, self.service.left)

    def test_cancel(self) -> None:
        """A call that its client cancels is cancelled at the server, and the log says 499."""
        stub = self.starts()
        call = stub.hang.future(b"")
        self.assertTrue(self.service.began.wait(LIMIT))
        call.cancel()
        self.assertTrue(self.service.cancelled.wait(LIMIT))
        path = os.path.join(self.lemmy.folder, "access")
        self.assertTrue(until(lambda: read(path).endswith("\n")))
        line = json.loads(read(path))
        self.assertEqual((line["status"], line["termination"]), (499, "client_gone"))

    def test_cancelledStream(self) -> None:
        """A stream that its client has had enough of ends at the server as well: nothing is left."""
        stub = self.starts()
        answers = stub.count(b"1000000 1000")
        next(answers)
        answers.cancel()
        self.assertTrue(until(lambda: not self.lemmy.stats()["upstreams"]["active"]))
        self.assertEqual(stub.reverse(b"abc", timeout=LIMIT), b"cba")

    def test_slowClient(self) -> None:
        """A client that does not read its stream stops it, and nobody else; then it gets all of it."""
        stub = self.starts()
        answers = stub.count(b"200 100000", timeout=LIMIT * 4)
        first = next(answers)
        for _ in range(20):
            self.assertEqual(stub.reverse(b"abc", timeout=LIMIT), b"cba")
        self.assertEqual(sum(map(len, answers), len(first)), sum(len(b"%d" % each) + 100000 for each in range(200)))

    def test_serverStops(self) -> None:
        """A server that stops in order lets calls end; a new one in its place is found."""
        stub = self.starts()
        self.assertEqual(stub.reverse(b"abc", timeout=LIMIT), b"cba")
        self.server.stop()
        with self.assertRaises(grpc.RpcError) as caught:
            stub.reverse(b"abc", timeout=LIMIT)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)


class SecureTests(SynchronousTestCase):
    """TLS on both sides of the proxy, with HTTP/2 agreed upon in the handshakes (ALPN)."""

    authority = Authority()

    def starts(self, authority: Authority) -> Stub:
        """A client of a proxy, in front of a server that shows a certificate of C{authority}."""
        where = folder(self)
        server = Server(self, authority.issue(["127.0.0.1"]))
        settings = configuration(server.url, cluster={"tls": {"ca": self.authority.write(where)}}, access_log=LOG)
        site = self.authority.issue(["127.0.0.1"]).write(where)
        settings["listeners"] = [{"endpoint": ANY, "tls": {"certificates": [site]}}]
        self.lemmy = Lemmy(self, settings).ready()
        return Stub(self, self.lemmy.port, self.authority)

    def test_calls(self) -> None:
        """Calls of all four kinds."""
        stub = self.starts(self.authority)
        self.assertEqual(stub.reverse(b"abc", timeout=LIMIT), b"cba")
        self.assertEqual(len(list(stub.count(b"100 1000", timeout=LIMIT))), 100)
        self.assertEqual(stub.sum(iter([b"x" * 100_000] * 20), timeout=LIMIT), b"2000000")
        self.assertEqual(list(stub.echo(iter([b"a", b"b"]), timeout=LIMIT)), [b"a", b"b"])
        message = os.urandom(4 << 20)
        self.assertTrue(stub.reverse(message, timeout=LIMIT * 2) == message[::-1])

    def test_stranger(self) -> None:
        """A server that cannot show who it is gets no call, and is unavailable to the client."""
        with self.assertRaises(grpc.RpcError) as caught:
            self.starts(Authority("Somebody Else")).reverse(b"abc", timeout=LIMIT)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)


class RefusalTests(SynchronousTestCase):
    """Answers that are not the server's."""

    def test_noServer(self) -> None:
        """A server that cannot be reached is unavailable, in gRPC's own words."""
        lemmy = proxy(self, f"h2c://127.0.0.1:{free_port()}")
        with self.assertRaises(grpc.RpcError) as caught:
            Stub(self, lemmy.port).reverse(b"abc", timeout=LIMIT)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def test_silentServer(self) -> None:
        """So is one that does not answer in time."""
        server = Server(self)
        lemmy = proxy(self, server.url, cluster={"timeouts": {"read": 0.5}})
        with self.assertRaises(grpc.RpcError) as caught:
            Stub(self, lemmy.port).hang(b"abc", timeout=LIMIT)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertTrue(server.service.cancelled.wait(LIMIT))
