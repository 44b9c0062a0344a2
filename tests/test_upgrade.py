"""What the next program is started with, and how it says that it serves."""

from __future__ import annotations

import fcntl
import json
import os
import sys

from twisted.trial.unittest import SynchronousTestCase

from lemmytx import upgrade


class CommandTests(SynchronousTestCase):
    """The command line of the next program."""

    def test_same(self) -> None:
        """It is the present one, with the interpreter's options, by the same interpreter."""
        line = upgrade.command(["python", "-X", "dev", "/usr/bin/lemmy", "run", "--config", "c.yaml"])
        self.assertEqual(line, [sys.executable, "-X", "dev", "/usr/bin/lemmy", "run", "--config", "c.yaml"])

    def test_daemon(self) -> None:
        """A daemon's successor is one already: it does not leave, writes no process id, and logs to the same file."""
        for before, after in (
            (["--pidfile=/run/l.pid"], ["--pidfile=/run/l.pid", "--nodaemon", "--pidfile=", "--logfile=twistd.log"]),
            (["-l", "lemmy"], ["-l", "lemmy", "--nodaemon", "--pidfile="]),
            (["--syslog"], ["--syslog", "--nodaemon", "--pidfile="]),
        ):
            line = upgrade.foreground(["python", "twistd", *before, "lemmy", "--config", "lemmy"])
            self.assertEqual(line, ["python", "twistd", *after, "lemmy", "--config", "lemmy"])


class InheritanceTests(SynchronousTestCase):
    """What a process has from the one before it."""

    def test_none(self) -> None:
        """The first one has nothing, and nobody to tell."""
        inheritance = upgrade.Inheritance({"HOME": "/"})
        self.assertIsNone(inheritance.sockets)
        self.assertTrue(inheritance.serves())

    def test_serves(self) -> None:
        """It says that it serves, once, and whoever it starts knows nothing of all this."""
        here, there = os.pipe()
        self.addCleanup(os.close, here)
        environ = {upgrade.SOCKETS: json.dumps({"sockets": {}, "systemd": []}), upgrade.READY: str(there), "A": "b"}
        inheritance = upgrade.Inheritance(environ)
        self.assertEqual((inheritance.sockets, environ), ({"sockets": {}, "systemd": []}, {"A": "b"}))
        self.assertTrue(inheritance.serves())
        self.assertTrue(inheritance.serves())
        self.assertEqual((os.read(here, 100), os.read(here, 100)), (b"serves\n", b""))

    def test_nobody_listens(self) -> None:
        """Where the one before it has gone meanwhile, nobody wants it to serve."""
        here, there = os.pipe()
        os.close(here)
        self.assertFalse(upgrade.Inheritance({upgrade.SOCKETS: "{}", upgrade.READY: str(there)}).serves())
        self.assertRaises(OSError, os.fstat, there)


class PidFileTests(SynchronousTestCase):
    """The file that says who serves."""

    def test_written(self) -> None:
        """It has the new process id, whole, and goes at the end."""
        path = self.mktemp()
        upgrade.write_pid(path, 123)
        with open(path) as file:
            self.assertEqual(file.read(), "123\n")
        upgrade.remove_pid(path)
        self.assertFalse(os.path.exists(path))

    def test_trouble(self) -> None:
        """Where that is not possible, it is said, and nothing else happens."""
        upgrade.write_pid("/nowhere/at/all.pid", 1)
        upgrade.remove_pid("/nowhere/at/all.pid")


class LogTests(SynchronousTestCase):
    """The log file that two processes write to for a while."""

    def test_append(self) -> None:
        """What has it open writes behind what others have written meanwhile; other files are left alone."""
        path, other = self.mktemp(), self.mktemp()
        with open(path, "wb", buffering=0) as ours, open(other, "wb", buffering=0) as aside, open(path, "ab") as theirs:
            ours.write(b"ours\n")
            upgrade.append_only(path)
            theirs.write(b"theirs\n")
            theirs.flush()
            ours.write(b"ours\n")
            self.assertFalse(fcntl.fcntl(aside, fcntl.F_GETFL) & os.O_APPEND)
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"ours\ntheirs\nours\n")

    def test_elsewhere(self) -> None:
        """Where there is no such file nothing happens."""
        upgrade.append_only("/nowhere/at/all.log")
