"""What systemd is told: L{lemmytx.net.notify}. Its end of the socket is a real one."""

from __future__ import annotations

import os
import socket
from configparser import RawConfigParser
from pathlib import Path

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import checking, cli, config
from lemmytx.model import Configuration
from lemmytx.net.notify import LONGEST, Notifier

UNITS = Path(__file__).parents[2] / "conf" / "systemd"


class NotifierTests(SynchronousTestCase):
    """The datagrams."""

    def setUp(self) -> None:
        # Not under the test's own folder: the name of a unix socket has 107 bytes at the most.
        self.name = f"@lemmytx-test-{os.getpid()}-{id(self)}"
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.bind("\0" + self.name[1:])
        self.systemd.setblocking(False)

    def notifier(self, pid: int = 7, **environ: str) -> Notifier:
        """One that tells our end."""
        return Notifier({"NOTIFY_SOCKET": self.name, **environ}, pid, lambda: 12.5)

    def told(self) -> list[str]:
        """The datagrams since the last time."""
        found = []
        while True:
            try:
                found.append(self.systemd.recv(4096).decode())
            except BlockingIOError:
                return found

    def test_states(self) -> None:
        """Each state is one datagram in the words of sd_notify(3)."""
        notifier = self.notifier()
        self.assertTrue(notifier.enabled)
        for sent in (
            notifier.ready(),
            notifier.ready("serves on 127.0.0.1:8080"),
            notifier.reloading(),
            notifier.status("half way"),
            notifier.stopping(),
            notifier.stopping(31.5),
            notifier.watchdog(),
        ):
            self.assertTrue(sent)
        self.assertEqual(
            self.told(),
            [
                "READY=1",
                "READY=1\nSTATUS=serves on 127.0.0.1:8080",
                "RELOADING=1\nMONOTONIC_USEC=12500000",
                "STATUS=half way",
                "STOPPING=1\nSTATUS=stopping",
                "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=31500000",
                "WATCHDOG=1",
            ],
        )

    def test_path(self) -> None:
        """The socket can have a name in the file system."""
        path = f"{self.mktemp()}"
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        here = os.open(Path(path).parent, os.O_RDONLY)
        self.addCleanup(os.close, here)
        name = f"/proc/self/fd/{here}/{Path(path).name}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(name)
            systemd.setblocking(False)
            self.assertTrue(Notifier({"NOTIFY_SOCKET": name}).ready())
            self.assertEqual(systemd.recv(100), b"READY=1")

    def test_none(self) -> None:
        """Without a socket, or with one of a kind that we do not know, nothing is done."""
        environs: list[dict[str, str]] = [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}]
        for environ in environs:
            notifier = Notifier({**environ, "WATCHDOG_USEC": "1000000"})
            self.assertEqual((notifier.enabled, notifier.interval), (False, None))
            self.assertFalse(notifier.ready())
            self.assertFalse(notifier.main_pid(1))
        self.assertEqual(self.told(), [])

    def test_no_injection(self) -> None:
        """A status is one line of a bounded length, whatever is in it; an empty one is none."""
        notifier = self.notifier()
        notifier.status("reload refused: x\nMAINPID=1\r\n")
        notifier.ready("y" * 10000)
        notifier.ready(" \n")
        first, second, third = self.told()
        self.assertEqual(first, "STATUS=reload refused: x MAINPID=1")
        self.assertEqual(len(second), len("READY=1\nSTATUS=") + LONGEST)
        self.assertEqual(third, "READY=1")

    def test_surrogates(self) -> None:
        """A status with bytes that are no UTF-8 is told all the same."""
        self.assertTrue(self.notifier().status("file \udcff"))
        self.assertEqual(self.told(), ["STATUS=file ?"])

    def test_successor(self) -> None:
        """Once another process is the service, the old one says nothing more."""
        notifier = self.notifier(WATCHDOG_USEC="3000000")
        self.assertTrue(notifier.main_pid(4711))
        self.assertEqual(self.told(), ["MAINPID=4711\nREADY=1"])
        self.assertFalse(notifier.stopping(30) or notifier.watchdog() or notifier.status("draining"))
        self.assertIsNone(notifier.interval)
        self.assertEqual(self.told(), [])

    def test_watchdog(self) -> None:
        """A watchdog is for the process that it names, or for whoever gets it without a name."""
        for environ, interval in (
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
            ({"WATCHDOG_USEC": "500000"}, 0.5),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
            ({"WATCHDOG_USEC": "0"}, None),
            ({"WATCHDOG_USEC": "soon"}, None),
            ({"WATCHDOG_USEC": "-1"}, None),
            ({"WATCHDOG_PID": "7"}, None),
        ):
            self.assertEqual(self.notifier(**environ).interval, interval, environ)

    def test_handed_over(self) -> None:
        """What the successor gets makes it the one that feeds the watchdog."""
        notifier = self.notifier(WATCHDOG_USEC="3000000", WATCHDOG_PID="7", PATH="/bin")
        given = notifier.for_successor()
        self.assertEqual(given, {"NOTIFY_SOCKET": self.name, "WATCHDOG_USEC": "3000000"})
        successor = Notifier(given, 8)
        self.assertEqual((successor.enabled, successor.interval), (True, 3.0))

    def test_nobody_there(self) -> None:
        """When systemd cannot be told the log says so once, until it could be again."""
        lines: list[str] = []

        def saw(event: dict[str, object]) -> None:
            lines.append(str(event["log_format"]).format(**event))

        globalLogPublisher.addObserver(saw)
        self.addCleanup(globalLogPublisher.removeObserver, saw)
        notifier = self.notifier()
        self.systemd.close()
        self.assertFalse(notifier.ready() or notifier.watchdog())
        self.assertEqual(lines, ["systemd cannot be told READY=1: Connection refused (told once until it works again)"])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
            again.bind("\0" + self.name[1:])
            self.assertTrue(notifier.ready())
        self.assertFalse(notifier.ready())
        self.assertEqual(len(lines), 2)

    def test_full(self) -> None:
        """When systemd reads nothing, a sign of life is given up at once instead of holding up the proxy."""
        notifier = self.notifier()
        sent = 0
        while notifier.watchdog():
            sent += 1
            self.assertLess(sent, 100000)
        self.flushLoggedErrors()
        self.assertEqual(len(self.told()), sent)
        self.assertTrue(notifier.watchdog())


class UnitTests(SynchronousTestCase):
    """The units that come with the sources fit the program."""

    def setUp(self) -> None:
        self.unit = RawConfigParser(strict=False)
        self.unit.read(UNITS / "lemmytx.service")

    def test_command(self) -> None:
        """It runs a command line that there is."""
        program, *arguments = self.unit["Service"]["ExecStart"].split()
        self.assertEqual(Path(program).name, "lemmy")
        self.assertEqual(cli._parser().parse_args(arguments).command, "run")

    def test_notify(self) -> None:
        """systemd listens to the process that speaks to it: the main one, which an upgrade changes."""
        service = self.unit["Service"]
        self.assertEqual((service["Type"], service["NotifyAccess"], service["KillMode"]), ("notify", "main", "mixed"))
        self.assertIn("-HUP $MAINPID", service["ExecReload"])

    def test_time_to_stop(self) -> None:
        """With settings as they come, a stop in good order ends before systemd kills."""
        settings = Configuration()
        self.assertGreater(
            int(self.unit["Service"]["TimeoutStopSec"]), settings.timeouts.drain + settings.shutdown.delay
        )

    def test_sockets(self) -> None:
        """The listeners that the socket's unit shows are endpoints, one for each of its sockets."""
        text = (UNITS / "lemmytx.socket").read_text()
        shown = [line.removeprefix("#") for line in text.split("\n") if line.startswith(("#   listeners:", "#     - "))]
        configuration = config.read("\n".join(shown).encode(), "shown", checking.check_endpoint)
        self.assertEqual(len(configuration.listeners), text.count("\nListenStream="))
