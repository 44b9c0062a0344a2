"""Listening sockets apart from accepting on them: L{lemmytx.net.sockets}, L{lemmytx.net.activation}."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from twisted.internet import endpoints
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.logger import capturedLogs, formatEvent

from lemmytx import checking
from lemmytx.net import transports
from lemmytx.net.activation import Activation, parse, passing
from lemmytx.net.network import BACKLOG
from lemmytx.net.sockets import CannotListen, Opened, Sockets, adopt
from tests.net.pairs import NetCase

LOOPBACK = "tcp:0:interface=127.0.0.1"


class Saying(Factory[Protocol]):
    """Whoever connects is told this, and sent away."""

    noisy = False

    def __init__(self, word: bytes) -> None:
        self.word = word

    def buildProtocol(self, addr: Any) -> Protocol:
        word = self.word

        class Says(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(word)
                self.transport.loseConnection()

        return Says()


class Collecting(Protocol):
    """
    Keeps what comes.

    @ivar over: fires with it when the other side has closed.
    """

    def __init__(self) -> None:
        self.data = b""
        self.over: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.over.callback(self.data)


class SocketsCase(NetCase):
    """With real sockets, and what is open at the end closed."""

    def setUp(self) -> None:
        super().setUp()
        self.sockets = Sockets()
        self.addCleanup(lambda: self.sockets.leave())
        self.path = os.path.join(self.folder, "socket")
        self.unix = f"unix:{self.path}"

    def opened(self, description: str, **options: Any) -> Opened:
        """What it opens. It does so at once."""
        return self.successResultOf(self.sockets.open(description, **options))

    def refused(self, description: str) -> str:
        """Why it is not opened, and nothing is left of the attempt."""
        before = sorted(os.listdir("/proc/self/fd"))
        text = str(self.failureResultOf(self.sockets.open(description), CannotListen).value)
        self.assertEqual(sorted(os.listdir("/proc/self/fd")), before)
        prefix = f"cannot listen on {description!r}: "
        self.assertEqual(text[: len(prefix)], prefix)
        return text[len(prefix) :]

    def adopted(self, opened: Opened, word: bytes = b"word") -> Any:
        """A port on it. It stops at the end at the latest."""
        port: Any = self.successResultOf(adopt(self.network, opened.description, opened.descriptors(), Saying(word)))
        self.addCleanup(lambda: port.stopListening())
        return port

    def ask(self, opened: Opened) -> Deferred[bytes]:
        """What whoever connects is told."""
        over: Deferred[bytes] = Deferred()

        class Asking(ClientFactory[Collecting]):
            noisy = False

            def buildProtocol(self, addr: object) -> Collecting:
                asking = Collecting()
                asking.over.chainDeferred(over)
                return asking

            def clientConnectionFailed(self, connector: object, reason: Any) -> None:
                over.errback(reason)

        name: Any = opened.sockets[0].getsockname()
        if isinstance(name, tuple):
            self.network.connectTCP(name[0], name[1], Asking(), 5.0)
        else:
            self.network.connectUNIX(name, Asking(), 5.0)
        return over


class OpenTests(SocketsCase):
    """Opening and closing."""

    def test_tcp(self) -> None:
        """A TCP socket listens and is known by its address; its connections send at once; it is closed on exec."""
        opened = self.opened(LOOPBACK)
        [listening] = opened.sockets
        self.assertEqual(opened.address, f"127.0.0.1:{listening.getsockname()[1]}")
        self.assertTrue(listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        self.assertTrue(listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
        self.assertTrue(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertFalse(listening.getblocking())
        self.assertFalse(listening.get_inheritable())
        self.assertEqual(opened.descriptors(), [listening.fileno()])

    def test_tcp6(self) -> None:
        """So does an IPv6 socket; its address has brackets."""
        for description in (r"tcp6:0:interface=\:\:1", r"tcp:0:interface=\:\:1"):
            opened = self.opened(description)
            self.assertEqual(opened.address, f"[::1]:{opened.sockets[0].getsockname()[1]}")

    def test_backlog(self) -> None:
        """The queue is long, whatever Twisted's endpoints ask for."""
        with open("/proc/sys/net/core/somaxconn") as file:
            most = min(BACKLOG, int(file.read()))
        # tcpi_sacked of a listening socket is the length of its queue (struct tcp_info).
        info = self.opened(LOOPBACK).sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        self.assertEqual(int.from_bytes(info[28:32], sys.byteorder), most)

    def test_once(self) -> None:
        """A description is opened once; who asks again gets the same. Closed and opened again it is another."""
        opened = self.opened(self.unix)
        self.assertIs(self.opened(self.unix), opened)
        self.sockets.close(self.unix)
        self.assertIsNot(self.opened(self.unix), opened)

    async def test_close(self) -> None:
        """Nobody listens after closing; closing what is not open does nothing."""
        opened = self.opened(LOOPBACK)
        address = opened.sockets[0].getsockname()
        self.sockets.close(LOOPBACK)
        self.sockets.close(LOOPBACK)
        with socket.socket() as probe:
            self.assertRaises(ConnectionRefusedError, probe.connect, address)

    def test_unix(self) -> None:
        """A unix socket gets its mode, no lock file that stays, and its file goes with it."""
        opened = self.opened(f"{self.unix}:mode=640")
        self.assertEqual(opened.address, self.path)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)
        self.assertEqual(os.listdir(self.folder), ["socket"])
        self.sockets.close(f"{self.unix}:mode=640")
        self.assertEqual(os.listdir(self.folder), [])

    def test_abstract(self) -> None:
        """A unix socket of an abstract name has no file."""
        name = f"\0lemmytx-test-{os.getpid()}"
        opened = self.opened(f"unix:{name}:lockfile=0")
        self.assertEqual(opened.address, "@" + name[1:])
        self.assertEqual(opened.files, (None,))

    def test_leave(self) -> None:
        """Leaving closes, but what a successor has stays in its place."""
        self.opened(self.unix)
        self.sockets.leave()
        self.assertEqual(os.listdir(self.folder), ["socket"])
        self.assertEqual(self.sockets.hand_over()["sockets"], {})

    def test_stale(self) -> None:
        """The file of a socket on which nobody listens any more is replaced, with lock file and without."""
        for description in (self.unix, f"{self.unix}:lockfile=0"):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(self.path)
            self.opened(description)
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(self.path)
            self.sockets.close(description)

    def test_unix_in_use(self) -> None:
        """A unix socket on which somebody listens is left alone, also when its queue is full."""
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)
            other.listen(0)
            self.assertEqual(self.refused(self.unix), "Address already in use")
            self.assertEqual(self.refused(self.unix), "Address already in use")
            self.assertEqual(os.listdir(self.folder), ["socket"])

    def test_no_socket(self) -> None:
        """What is no socket is never removed: neither a file nor a link to a socket."""
        with open(self.path, "wb") as file:
            file.write(b"precious")
        self.assertEqual(self.refused(self.unix), "there is something of that name that is no socket")
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), b"precious")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path + "2")
        os.symlink(self.path + "2", self.path + "3")
        self.refused(f"{self.unix}3")
        self.assertTrue(os.path.islink(self.path + "3"))

    def test_lock(self) -> None:
        """While another process opens a socket of that name, as its lock file says, we do not."""
        os.symlink(str(os.getppid()), self.path + ".lock")
        self.assertIn(f"process {os.getppid()} holds the lock '{self.path}.lock'", self.refused(self.unix))
        self.assertEqual(os.listdir(self.folder), ["socket.lock"])

    def test_replaced(self) -> None:
        """When somebody has put another socket in the place of ours, closing ours leaves that."""
        self.opened(self.unix)
        os.unlink(self.path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)
            self.sockets.close(self.unix)
            self.assertEqual(os.listdir(self.folder), ["socket"])

    def test_file_stays(self) -> None:
        """A file that we may not remove any more is told, and the socket is closed all the same."""
        opened = self.opened(self.unix)
        os.chmod(self.folder, 0o555)
        self.addCleanup(os.chmod, self.folder, 0o700)
        self.be_nobody()
        with capturedLogs() as logs:
            self.sockets.close(self.unix)
        self.assertEqual(opened.sockets[0].fileno(), -1)
        [event] = logs
        self.assertEqual(formatEvent(event), f"{self.path} stays as it is: Permission denied")

    def test_taken(self) -> None:
        """A port that another process has is refused; one that we have ourselves, by naming what has it."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            self.assertEqual(self.refused(f"tcp:{taken}:interface=127.0.0.1"), "Address already in use")
        port = self.opened(LOOPBACK).sockets[0].getsockname()[1]
        self.assertEqual(self.refused(f"tcp:{port}"), f"Address already in use; {LOOPBACK!r} listens there")

    def test_errors(self) -> None:
        """What the system says comes as it is."""
        for description, why in (
            ("tcp:0:interface=192.0.2.1", "Cannot assign requested address"),
            ("tcp:0:interface=nowhere.invalid", "Name or service not known"),
            (f"unix:{self.folder}/no/socket", "No such file or directory"),
            (f"unix:{self.folder}/no/socket:lockfile=0", "No such file or directory"),
            (f"unix:{self.folder}/{'x' * 120}:lockfile=0", "AF_UNIX path too long"),
            ("nonsense:80", "Unknown endpoint type: 'nonsense'"),
        ):
            self.assertEqual(self.refused(description), why)

    def test_permission(self) -> None:
        """Where we may not, it says so."""
        os.chmod(self.folder, 0o500)
        self.addCleanup(os.chmod, self.folder, 0o700)
        self.be_nobody()
        self.assertEqual(self.refused(self.unix), "Permission denied")

    def be_nobody(self) -> None:
        """Root may everything."""
        if not os.geteuid():
            os.seteuid(65534)
            self.addCleanup(os.seteuid, 0)

    def test_other_endpoints(self) -> None:
        """An endpoint that does not listen on such sockets is refused, by naming what it wants."""
        self.patch(endpoints, "getPlugins", lambda interface: [Wanting()])
        self.assertIn("asks the reactor for listenSSL;", self.refused("wanting:listenSSL"))
        self.assertIn("asks the reactor for a connection at once;", self.refused("wanting:connection"))
        self.assertIn("asks the reactor for none of listenTCP,", self.refused("wanting:nothing"))
        self.assertEqual(self.refused("wanting:trouble"), "KeyError: 'port'")


class Wanting:
    """An endpoint that does not work here, for various reasons."""

    prefix = "wanting"

    def parseStreamServer(self, reactor: Any, what: str) -> Any:
        class Endpoint:
            def listen(self, factory: Any) -> Deferred[Any]:
                done: Deferred[Any] = Deferred()
                if what == "listenSSL":
                    reactor.listenSSL(443, factory, None)
                elif what == "connection":
                    factory.buildProtocol(None)
                elif what == "trouble":
                    reactor.listenTCP(0, factory)
                    raise KeyError("port")
                done.callback(None)
                return done

        return Endpoint()


class InsteadTests(SocketsCase):
    """One description in the place of another."""

    async def test_tcp(self) -> None:
        """The same address under a new description is the same socket; who waited in its queue is answered."""
        old = self.opened(LOOPBACK)
        port = old.sockets[0].getsockname()[1]
        waiting = self.ask(old)
        description = f"tcp:port={port}:interface=127.0.0.1"
        new = self.opened(description, instead_of=[LOOPBACK, "tcp:1"])
        self.assertEqual(new.address, old.address)
        self.sockets.close(LOOPBACK)
        self.adopted(new, b"new")
        self.assertEqual(await waiting, b"new")

    def test_only_where_said(self) -> None:
        """Two descriptions of one address that are both to stay are an error."""
        port = self.opened(LOOPBACK).sockets[0].getsockname()[1]
        self.assertIn("already in use", self.refused(f"tcp:port={port}:interface=127.0.0.1"))

    def test_tcp6(self) -> None:
        """It holds for IPv6, too, however the address is written."""
        old = self.opened(r"tcp6:0:interface=\:\:1")
        description = f"tcp6:{old.sockets[0].getsockname()[1]}:interface=0\\:0\\:\\:1"
        self.assertEqual(self.opened(description, instead_of=[old.description]).address, old.address)

    def test_another_address(self) -> None:
        """Another address is another socket."""
        old = self.opened(LOOPBACK)
        self.assertNotEqual(self.opened("tcp:0", instead_of=[LOOPBACK]).address, old.address)

    def test_mode(self) -> None:
        """A unix socket gets its new mode, and the old one back when the new description is given up."""
        new = f"{self.unix}:mode=600"
        self.opened(self.unix)
        for closed, mode in ((new, 0o666), (self.unix, 0o600)):
            self.opened(new, instead_of=[self.unix])
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
            self.sockets.close(closed)
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), mode)
        self.sockets.close(new)
        self.assertEqual(os.listdir(self.folder), [])


class AdoptTests(SocketsCase):
    """Accepting."""

    async def test_two(self) -> None:
        """Two ports on one socket both accept; when one stops the other goes on; then clients wait for a third."""
        for description in (LOOPBACK, self.unix):
            opened = self.opened(description)
            first = self.adopted(opened, b"first")
            second = self.adopted(opened, b"second")
            second.stopReading()
            self.assertEqual(await self.ask(opened), b"first")
            await first.stopListening()
            second.startReading()
            self.assertEqual(await self.ask(opened), b"second")
            await second.stopListening()
            waiting = self.ask(opened)
            third = self.adopted(opened, b"third")
            self.assertEqual(await waiting, b"third")
            await third.stopListening()

    async def test_closed_here(self) -> None:
        """Who has adopted a socket goes on accepting when it is closed elsewhere, until its port stops."""
        opened = self.opened(LOOPBACK)
        port = self.adopted(opened)
        asked = self.ask(opened)
        self.sockets.close(LOOPBACK)
        self.assertEqual(await asked, b"word")
        host = port.getHost()
        await port.stopListening()
        with socket.socket() as probe:
            self.assertRaises(ConnectionRefusedError, probe.connect, (host.host, host.port))

    async def test_ports(self) -> None:
        """They are ports of the network, and keep the port number that the system has chosen."""
        opened = self.opened(LOOPBACK)
        port = self.adopted(opened)
        self.assertIsInstance(port, transports.Port)
        self.assertEqual(port.getHost().port, opened.sockets[0].getsockname()[1])

    async def test_file(self) -> None:
        """Adopting a unix socket and stopping change neither the mode of its file nor whether it is there."""
        opened = self.opened(f"{self.unix}:mode=600")
        port = self.adopted(opened)
        self.assertIsInstance(port, transports.UnixPort)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(await self.ask(opened), b"word")
        await port.stopListening()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    async def test_wrapped(self) -> None:
        """An endpoint that wraps another does so where it is adopted, not where it is opened."""
        description = f"haproxy:{LOOPBACK}"
        opened = self.opened(description)
        clients: list[Any] = []

        class Notes(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                clients.append(self.transport.getPeer())
                self.transport.loseConnection()

        port: Any = await adopt(self.network, description, opened.descriptors(), Factory.forProtocol(Notes))
        with socket.create_connection(opened.sockets[0].getsockname()) as client:
            client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 7 8\r\ndata")
            end = Collecting()
            self.network.adoptStreamConnection(client.fileno(), socket.AF_INET, Factory.forProtocol(lambda: end))
            await end.over
        await port.stopListening()
        self.assertEqual([(peer.host, peer.port) for peer in clients], [("192.0.2.7", 7)])

    async def test_several(self) -> None:
        """An endpoint may open several sockets; each is adopted in its place."""
        self.patch(endpoints, "getPlugins", lambda interface: [Several()])
        opened = self.opened("several:2")
        self.assertEqual(len(opened.descriptors()), 2)
        self.assertEqual(opened.address, ", ".join(f"127.0.0.1:{s.getsockname()[1]}" for s in opened.sockets))
        port: Any = await adopt(self.network, "several:2", opened.descriptors(), Saying(b""))
        self.assertEqual(
            [host.port for host in port.getHosts()], [listening.getsockname()[1] for listening in opened.sockets]
        )
        await port.stopListening()

    async def test_another_number(self) -> None:
        """With more or fewer sockets than it wants an endpoint is not adopted, and nothing goes on accepting."""
        self.patch(endpoints, "getPlugins", lambda interface: [Several()])
        opened = self.opened("several:2")
        readers = set(self.network.reactor.getReaders())
        for description, why in (("several:1", "1 sockets less"), ("several:3", "more sockets")):
            wrong = self.failureResultOf(
                adopt(self.network, description, opened.descriptors(), Saying(b"")), CannotListen
            )
            self.assertIn(why, str(wrong.value))
            self.assertEqual(set(self.network.reactor.getReaders()), readers)

    def test_no_socket(self) -> None:
        """A descriptor that is closed, or of something else, cannot be adopted."""
        with open(os.devnull) as file, socket.socket() as idle:
            idle.bind(("127.0.0.1", 0))
            for descriptor, why in (
                (9999, "Bad file descriptor"),
                (file.fileno(), "Socket operation on non-socket"),
                (idle.fileno(), f"descriptor {idle.fileno()} is not a listening stream socket"),
            ):
                wrong = self.failureResultOf(adopt(self.network, LOOPBACK, [descriptor], Saying(b"")), CannotListen)
                self.assertEqual(str(wrong.value), f"cannot listen on {LOOPBACK!r}: {why}")


class Several:
    """An endpoint that opens so many sockets."""

    prefix = "several"

    def parseStreamServer(self, reactor: Any, count: str) -> Any:
        class Endpoint:
            def listen(self, factory: Any) -> Deferred[Any]:
                inner = [serverFromString(reactor, LOOPBACK).listen(factory) for _ in range(int(count))]
                return gatherResults(inner, consumeErrors=True).addCallbacks(
                    All, lambda failure: failure.value.subFailure
                )

        return Endpoint()


class All:
    """Several ports."""

    def __init__(self, ports: Sequence[Any]) -> None:
        self.ports = ports

    def getHosts(self) -> list[Any]:
        return [port.getHost() for port in self.ports]

    def stopListening(self) -> Deferred[Any]:
        return gatherResults([port.stopListening() for port in self.ports])


class ActivationTests(SocketsCase):
    """Sockets that systemd has passed."""

    def pass_on(self, *families: int) -> list[socket.socket]:
        """As a successor gets them."""
        passed = []
        for index, family in enumerate(families):
            given = socket.socket(family)
            given.bind(("127.0.0.1", 0) if family == socket.AF_INET else self.path)
            given.listen()
            passed.append(given)
            self.addCleanup(given.close)
            if family == socket.AF_UNIX:
                os.chmod(self.path, 0o600)
            self.sockets._activation = Activation([*self.sockets._activation.passed, (given.fileno(), f"n{index}")])
        return passed

    async def test_index_and_name(self) -> None:
        """They are opened by index or name, in any wrapping, and adopted where nothing was passed."""
        [given] = self.pass_on(socket.AF_INET)
        for description in ("systemd:domain=INET:index=0", "systemd:INET:name=n0"):
            opened = self.opened(description)
            self.assertEqual(opened.address, f"127.0.0.1:{given.getsockname()[1]}")
            self.assertTrue(given.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            port = self.adopted(opened)
            self.assertEqual(await self.ask(opened), b"word")
            await port.stopListening()
            self.sockets.close(description)
        opened = self.opened("haproxy:systemd:domain=INET:index=0")
        await self.adopted(opened).stopListening()

    async def test_kept(self) -> None:
        """They outlive their use: what was closed is opened again, and what waited in the meantime is answered."""
        self.pass_on(socket.AF_INET)
        opened = self.opened("systemd:domain=INET:index=0")
        waiting = self.ask(opened)
        self.sockets.close(opened.description)
        self.adopted(self.opened(opened.description), b"again")
        self.assertEqual(await waiting, b"again")

    async def test_unix(self) -> None:
        """The file of a unix socket and its mode are systemd's."""
        self.pass_on(socket.AF_UNIX)
        opened = self.opened("systemd:domain=UNIX:name=n0")
        port = self.adopted(opened)
        self.assertEqual(await self.ask(opened), b"word")
        await port.stopListening()
        self.sockets.close(opened.description)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_none(self) -> None:
        """A socket that was not passed is told with those that were."""
        self.assertEqual(
            self.refused("systemd:domain=INET:name=web"),
            "systemd has passed no socket 'web'; it passes them to a service that a socket unit starts",
        )
        self.pass_on(socket.AF_INET, socket.AF_UNIX)
        self.assertEqual(
            self.refused("systemd:domain=INET:index=-1"),
            "systemd has passed no socket -1; there is 0 ('n0'), 1 ('n1')",
        )

    def test_unusable(self) -> None:
        """A socket of another kind is refused."""
        with socket.socket(type=socket.SOCK_DGRAM) as given:
            given.bind(("127.0.0.1", 0))
            self.sockets._activation = Activation([(given.fileno(), "datagrams")])
            self.assertIn("not a listening stream socket", self.refused("systemd:domain=INET:index=0"))

    def test_wrong_domain(self) -> None:
        """A domain that is none is refused, and what was passed for it is not lost."""
        self.pass_on(socket.AF_INET)
        self.assertIn("AF_NET", self.refused("systemd:domain=NET:index=0"))
        self.opened("systemd:domain=INET:index=0")

    def test_checked_anywhere(self) -> None:
        """A description is right or wrong by itself, whatever was passed to the process that checks it."""
        for description in ("systemd:domain=INET:index=7", "systemd:INET6:name=web", "haproxy:systemd:INET:index=1"):
            self.assertIsNone(checking.check_endpoint(description))
        for description in ("systemd:domain=INET", "systemd:domain=INET:index=x", "systemd:domain=X:index=0"):
            self.assertIn(repr(description), str(checking.check_endpoint(description)))

    def test_thread(self) -> None:
        """A thread may check descriptions while others are opened: neither gets what is the other's."""
        description = "systemd:domain=INET:index=0"
        with socket.create_server(("127.0.0.1", 0)) as given:
            inner: list[int] = []

            def answer(which: int | str) -> int:
                thread = threading.Thread(target=lambda: inner.append(vars(parse(description))["fileno"]))
                thread.start()
                thread.join()
                return given.fileno()

            with passing(answer):
                endpoint: Any = serverFromString(self.network, description)
                again: Any = serverFromString(self.network, description)
            self.assertEqual((inner, endpoint.fileno, again.fileno), ([-1, -1], given.fileno(), given.fileno()))
        self.assertRaises(IndexError, serverFromString, self.network, description)

    def test_environment(self) -> None:
        """They are found by the variables that systemd sets, and are not inherited any further."""
        program = (
            "import os, sys\n"
            "given = int(sys.argv[1])\n"
            "os.dup2(given, 3)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='web')\n"
            "from lemmytx.net.sockets import Sockets\n"
            "sockets = Sockets()\n"
            "sockets.open('systemd:domain=INET:name=web').addCallback(lambda opened: print(opened.address))\n"
            "print(sockets.hand_over()['systemd'], os.get_inheritable(3), os.environ.get('LISTEN_PID'))\n"
        )
        [given] = self.pass_on(socket.AF_INET)
        done = subprocess.run(
            [sys.executable, "-c", program, str(given.fileno())],
            pass_fds=[given.fileno()], capture_output=True, check=True, timeout=60, text=True,
        )  # fmt: skip
        self.assertEqual(done.stdout, f"127.0.0.1:{given.getsockname()[1]}\n[[3, 'web']] False None\n")


#: Takes over, serves what its arguments say, says so, and ends when its standard input does.
SUCCESSOR = """
import json, sys
from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from lemmytx.net.network import Network
from lemmytx.net.sockets import Sockets, adopt
from tests.net.test_sockets import Saying

class Input(Protocol):
    def dataReceived(self, data):
        print(sockets.close_unclaimed(), flush=True)
    def connectionLost(self, reason):
        for description in sys.argv[2:]:
            sockets.close(description)
        reactor.stop()

sockets = Sockets(json.loads(sys.argv[1]))
for description in sys.argv[2:]:
    opened = []
    sockets.open(description).addCallback(opened.append)
    adopt(Network(reactor), description, opened[0].descriptors(), Saying(description.encode()))
StandardIO(Input())
print("ready", flush=True)
reactor.run()
"""


class HandOverTests(SocketsCase):
    """From one process to another."""

    def successor(self, *descriptions: str) -> subprocess.Popen[bytes]:
        """One that serves."""
        handed = json.dumps(self.sockets.hand_over())
        child = subprocess.Popen(
            [sys.executable, "-c", SUCCESSOR, handed, *descriptions],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=self.sockets.descriptors(),
        )
        self.addCleanup(child.communicate, timeout=60)
        assert child.stdout is not None
        self.assertEqual(child.stdout.readline(), b"ready\n")
        return child

    def test_hand_over(self) -> None:
        """A successor serves on all sockets, also who had been waiting, and removes their files in the end."""
        description = "systemd:domain=INET:index=0"
        with socket.create_server(("127.0.0.1", 0)) as passed:
            self.sockets._activation = Activation([(passed.fileno(), "web")])
            clients = []
            for opened in (self.opened(LOOPBACK), self.opened(self.unix), self.opened(description)):
                client = socket.socket(opened.sockets[0].family)
                self.addCleanup(client.close)
                client.settimeout(30)
                client.connect(opened.sockets[0].getsockname())
                clients.append(client)
            child = self.successor(LOOPBACK, self.unix, description)
        self.sockets.leave()
        words = [client.makefile("rb").read().decode() for client in clients]
        self.assertEqual(words, [LOOPBACK, self.unix, description])
        with socket.socket(socket.AF_UNIX) as late:
            late.settimeout(30)
            late.connect(self.path)
            self.assertEqual(late.recv(1000).decode(), self.unix)
        child.communicate(timeout=60)
        self.assertEqual(os.listdir(self.folder), [])

    def test_unclaimed(self) -> None:
        """What a successor has no use for stays until it says so; a new description may serve on the same socket."""
        opened = self.opened(LOOPBACK)
        self.opened(self.unix)
        self.opened(f"{self.unix}2")
        claimed = f"tcp:{opened.sockets[0].getsockname()[1]}:interface=127.0.0.1"
        child = self.successor(claimed, f"{self.unix}2")
        self.sockets.leave()
        self.assertEqual(sorted(os.listdir(self.folder)), ["socket", "socket2"])
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        self.assertEqual(child.stdout.readline().decode(), f"{[LOOPBACK, self.unix]}\n")
        self.assertEqual(os.listdir(self.folder), ["socket2"])
        child.communicate(timeout=60)
        self.assertEqual(os.listdir(self.folder), [])

    def test_not_ours(self) -> None:
        """What was put in the place of a file of ours before a successor came is not removed by that either."""
        self.opened(self.unix)
        os.rename(self.path, self.path + ".old")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)
        self.successor(self.unix).communicate(timeout=60)
        self.assertIn("socket", os.listdir(self.folder))

    def test_wrong(self) -> None:
        """What is no description of sockets is refused with a text."""
        with open(os.devnull) as file:
            for inherited in (
                {},
                {"sockets": {}},
                {"systemd": [], "sockets": {"tcp:80": [[file.fileno()]]}},
                {"systemd": [], "sockets": {"tcp:80": [["x"]]}},
                {"systemd": [[9999, "web"]], "sockets": {}},
                {"systemd": [3], "sockets": []},
            ):
                error = self.assertRaises(ValueError, Sockets, inherited)
                self.assertIn("the sockets of the predecessor cannot be taken over: ", str(error))
