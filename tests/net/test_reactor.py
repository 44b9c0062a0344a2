"""The epoll reactor with a short way, in processes of its own: one has one reactor, and the tests' has another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase

BEGIN = """
import sys, socket, threading
from lemmytx.net import reactor as ours
ours.install()
from twisted.internet import reactor
from twisted.internet.protocol import Protocol, Factory
from twisted.python import log
assert type(reactor) is ours.LemmyReactor, reactor
class Echo(Protocol):
    lost = []
    def dataReceived(self, data):
        if data == b"fail":
            raise RuntimeError("on purpose")
        if data == b"stop":
            reactor.stop()
        if data == b"later":
            reactor.callLater(0.01, self.transport.write, b"later")
        elif data == b"thread":
            threading.Thread(target=lambda: reactor.callFromThread(self.transport.write, b"thread")).start()
        else:
            self.transport.write(data)
    def connectionLost(self, reason):
        self.lost.append(reason.type.__name__)
class Echoes(Factory):
    protocol = Echo
port = reactor.listenTCP(0, Echoes(), interface="127.0.0.1")
def connect():
    link = socket.create_connection(("127.0.0.1", port.getHost().port), 10)
    return link
def ask(link, what):
    link.sendall(what)
    return link.recv(100)
def in_thread(function):
    def run():
        try:
            function()
        except BaseException as error:
            print("failed", repr(error), flush=True)
            reactor.callFromThread(reactor.stop)
    reactor.callWhenRunning(threading.Thread(target=run, daemon=True).start)
"""


class ReactorTests(SynchronousTestCase):
    """What works on any reactor works on it."""

    if not platform.isLinux():
        skip = "epoll is Linux's"

    def run_script(self, script: str, begin: str = BEGIN) -> str:
        """Run it; its output. It has a time limit, so that a reactor that hangs is a failure."""
        done = subprocess.run(
            [sys.executable, "-c", begin + textwrap.dedent(script)],
            capture_output=True, text=True, timeout=20, check=False, cwd=os.getcwd(),
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_errorEndsOneConnection(self) -> None:
        """An error in reading ends that connection, is logged, and the others live."""
        out = self.run_script(
            """
            messages = []
            log.addObserver(lambda event: messages.append(event) if event["isError"] else None)
            def talk():
                good, bad = connect(), connect()
                print(ask(good, b"one"), ask(bad, b"fail"), ask(good, b"two"), flush=True)
                ask(good, b"stop")
            in_thread(talk)
            reactor.run()
            print(len(messages), messages[0]["failure"].type.__name__, Echo.lost[0])
            """
        )
        self.assertEqual(out, "b'one' b'' b'two'\n1 RuntimeError RuntimeError")

    def test_timedAndThreaded(self) -> None:
        """Timed calls and calls from threads that come while it serves are heard."""
        out = self.run_script(
            """
            def talk():
                link = connect()
                print(ask(link, b"later"), ask(link, b"thread"), ask(link, b"plain"), flush=True)
                ask(link, b"stop")
            in_thread(talk)
            reactor.run()
            """
        )
        self.assertEqual(out, "b'later' b'thread' b'plain'")

    def test_stoppedWhileReading(self) -> None:
        """Stopped by what came over a connection, with no timed call to wake it, it stops."""
        out = self.run_script(
            """
            def talk():
                link = connect()
                ask(link, b"stop")
            in_thread(talk)
            reactor.addSystemEventTrigger("before", "shutdown", print, "shut down")
            reactor.run()
            """
        )
        self.assertEqual(out, "shut down")

    def test_timedCallsUnderLoad(self) -> None:
        """A timed call comes also while connections never fall silent."""
        out = self.run_script(
            """
            def talk():
                link = connect()
                try:
                    while ask(link, b"x" * 10):
                        pass
                except OSError:
                    pass  # it was stopped
            in_thread(talk)
            reactor.callLater(0.1, print, "called")
            reactor.callLater(0.2, reactor.stop)
            reactor.run()
            """
        )
        self.assertEqual(out, "called")

    def test_largeBodies(self) -> None:
        """Megabytes through buffers: writes that have to wait, half closes, hang-ups."""
        out = self.run_script(
            """
            def talk():
                link = connect()
                sent = 4_000_000
                threading.Thread(target=link.sendall, args=(b"x" * sent,), daemon=True).start()
                got = 0
                while got < sent:
                    piece = link.recv(65536)
                    if not piece:
                        break
                    got += len(piece)
                link.shutdown(1)
                print(got, link.recv(1), flush=True)
                ask(connect(), b"stop")
            in_thread(talk)
            reactor.run()
            """
        )
        self.assertEqual(out, "4000000 b''")

    def test_iterate(self) -> None:
        """A single iteration comes back, events or not."""
        out = self.run_script(
            """
            reactor.startRunning()
            link = connect()
            link.sendall(b"hello")
            link.settimeout(0.01)
            for _ in range(1000):
                reactor.iterate(0)
                try:
                    print(link.recv(100))
                    break
                except TimeoutError:
                    continue
            reactor.iterate(0.01)
            print("back")
            """
        )
        self.assertEqual(out, "b'hello'\nback")

    def test_signal(self) -> None:
        """SIGTERM stops it, as it stops any other."""
        script = BEGIN + textwrap.dedent(
            """
            reactor.addSystemEventTrigger("before", "shutdown", lambda: print("shut down", flush=True))
            reactor.callWhenRunning(lambda: print("running", flush=True))
            reactor.run()
            """
        )
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=os.getcwd())
        try:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "running\n")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.communicate(timeout=20)[0], "shut down\n")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def test_timeOfDay(self) -> None:
        """Set back by an hour, the time of day holds no timed call up: neither here nor, once told so, on Twisted's own
        reactor; which is left alone when it has something to call already."""
        for install in ("from lemmytx.net.reactor import install; install()", ""):
            out = self.run_script(
                f"""
                import time
                real, shift = time.time, []
                time.time = lambda: real() - 3600 * len(shift)
                {install}
                from twisted.internet import reactor
                from lemmytx.net.steady import steady
                if {not install}:
                    call = reactor.callLater(1, print)
                    assert not steady(reactor) and reactor.seconds() - time.time() < 1
                    call.cancel()
                assert steady(reactor) and steady(reactor)
                reactor.callLater(0.01, shift.append, 1)
                reactor.callLater(0.02, reactor.callLater, 0.01, reactor.stop)
                reactor.run()
                print(len(shift))
                """,
                begin="",
            )
            self.assertEqual(out, "1")

    def test_plugin(self) -> None:
        """`--reactor=lemmy` finds it."""
        out = self.run_script(
            """
            from twisted.application.reactors import getReactorTypes
            print(*(kind.moduleName for kind in getReactorTypes() if kind.shortName == "lemmy"))
            """,
            begin="",
        )
        self.assertEqual(out, "lemmytx.net.reactor")
