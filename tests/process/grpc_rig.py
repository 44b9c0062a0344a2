"""
A gRPC service and its clients (the C{grpcio} package, which is another implementation of HTTP/2 than ours), without
generated code: messages are bytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# Its threads would have something to say in each process that the tests start, and end some of them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import Authority, Issued
from tests.wire.sockets import LIMIT

#: Room for messages of 4 MB and what is around them.
SIZES = [("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20)]


class Service(grpc.GenericRpcHandler):
    """
    The methods that the tests call, and what they have seen.

    @ivar began: set when L{hang} runs.
    @ivar cancelled: set when the call of L{hang} was ended from outside.
    @ivar left: seconds that the last call of L{hang} had to its deadline.
    @ivar seen: the metadata of the last call.
    """

    def __init__(self) -> None:
        self.began = threading.Event()
        self.cancelled = threading.Event()
        self.left: float | None = None
        self.seen: list[tuple[str, str | bytes]] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """What serves a method."""
        self.seen = [(name, value) for name, value in details.invocation_metadata]
        kinds = {
            "Reverse": grpc.unary_unary_rpc_method_handler(self.reverse),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Break": grpc.unary_stream_rpc_method_handler(self.breaks),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Echo": grpc.stream_stream_rpc_method_handler(self.echo),
        }
        return kinds.get(details.method.rpartition("/")[2])

    def reverse(self, message: bytes, call: grpc.ServicerContext) -> bytes:
        """The message backwards, with metadata before and after."""
        call.send_initial_metadata([("x-before", "1"), ("x-before-bin", b"\0\xff")])
        call.set_trailing_metadata([("x-after", "2"), ("x-after-bin", b"\xff\0")])
        return message[::-1]

    def fail(self, message: bytes, call: grpc.ServicerContext) -> bytes:
        """An error, without any message: one block of fields, "trailers only"."""
        call.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: ü, 100%")

    def hang(self, message: bytes, call: grpc.ServicerContext) -> bytes:
        """Nothing, until the call is ended from outside."""
        self.left = call.time_remaining()
        ended = threading.Event()
        if not call.add_callback(ended.set):
            ended.set()
        self.began.set()
        if ended.wait(LIMIT * 2):
            self.cancelled.set()
        return b""

    def count(self, message: bytes, call: grpc.ServicerContext) -> Iterator[bytes]:
        """As many messages as the first number says, each as long as the second."""
        count, size = map(int, message.split())
        for number in range(count):
            yield b"%d" % number + b"x" * size

    def breaks(self, message: bytes, call: grpc.ServicerContext) -> Iterator[bytes]:
        """A message, and then an error."""
        yield b"one"
        call.abort(grpc.StatusCode.DATA_LOSS, "no more")

    def sum(self, messages: Iterator[bytes], call: grpc.ServicerContext) -> bytes:
        """How long all messages are together."""
        return b"%d" % sum(map(len, messages))

    def echo(self, messages: Iterator[bytes], call: grpc.ServicerContext) -> Iterator[bytes]:
        """Each message, as it comes."""
        yield from messages


class Server:
    """
    A gRPC server.

    @ivar port: on 127.0.0.1.
    @ivar url: for a configuration.
    """

    def __init__(self, case: SynchronousTestCase, shows: Issued | None = None) -> None:
        """
        @param shows: the certificate, where it speaks TLS.
        """
        self.service = Service()
        self._server = grpc.server(ThreadPoolExecutor(120), (self.service,), options=SIZES)
        if shows is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            pair = (shows.key_pem, shows.cert_pem)
            self.port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        self.url = f"{'h2c' if shows is None else 'h2'}://127.0.0.1:{self.port}"
        self._server.start()
        case.addCleanup(self.stop)

    def stop(self) -> None:
        """Ends it, with what is under way."""
        self._server.stop(None).wait(LIMIT)


class Stub:
    """A client: its methods are those of L{Service}."""

    def __init__(self, case: SynchronousTestCase, port: int, believes: Authority | None = None) -> None:
        """
        @param believes: whose certificates, where it speaks TLS.
        """
        # A channel of its own, not one that another test's client has left behind.
        options = [*SIZES, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        if believes is None:
            self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        else:
            trust = grpc.ssl_channel_credentials(believes.cert_pem)
            self.channel = grpc.secure_channel(f"127.0.0.1:{port}", trust, options)
        case.addCleanup(self.channel.close)
        self.reverse = self.channel.unary_unary("/test.Test/Reverse")
        self.fail = self.channel.unary_unary("/test.Test/Fail")
        self.hang = self.channel.unary_unary("/test.Test/Hang")
        self.missing = self.channel.unary_unary("/test.Test/Missing")
        self.count = self.channel.unary_stream("/test.Test/Count")
        self.breaks = self.channel.unary_stream("/test.Test/Break")
        self.sum = self.channel.stream_unary("/test.Test/Sum")
        self.echo = self.channel.stream_stream("/test.Test/Echo")
