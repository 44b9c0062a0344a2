"""
The next program takes over: nobody is refused, nobody is cut off, and one that does not start changes nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess

from tests.process.case import GET
from tests.process.rig import ANY, Lemmy, answers, configuration, folder, lives, read, script, unix, until
from tests.process.test_reload import GOING_AWAY, OTHER, ReloadCase
from tests.wire.rig import START
from tests.wire.sockets import PLAIN, serve

#: A drop-in module that does something in the next program, at its start: whose parent is named in the file beside it.
NEXT = """
# lemmytx
import os
import sys
import time

LIVES = __file__ + ".lives"
try:
    with open(LIVES) as file:
        lives = file.read()
except FileNotFoundError:
    lives = ""
if str(os.getppid()) == lives and not sys.argv[0].endswith("worker.py"):
    %s
"""

#: For that: it waits for as long as there is the file.
WAITS = """
    while os.path.exists(LIVES):
        time.sleep(0.02)
"""


class UpgradeCase(ReloadCase):
    """What all upgrades have in common."""

    def upgraded(self, lemmy: Lemmy, old: int) -> int:
        """Has a process upgraded by SIGUSR2, and waits until another one is on the admin side: its process id."""
        os.kill(old, signal.SIGUSR2)
        found = old

        def another() -> bool:
            nonlocal found
            try:
                found = int(lemmy.stats()["pid"])
            except OSError:
                return False
            return found != old

        self.assertTrue(until(another, START), lemmy.output())
        return found

    def gone(self, lemmy: Lemmy, pid: int) -> None:
        """Waits for the end of a process and of its workers."""
        if pid == lemmy.process.pid:
            self.assertEqual(0, lemmy.ended())
        self.assertTrue(until(lambda: not lives(pid), START), lemmy.output())


class UpgradeTests(UpgradeCase):
    """With one process."""

    def test_takes_over(self) -> None:
        """
        The next one serves on the same port with the file as it is then; what the old one has under way ends there,
        its idle connections are closed, and it goes.
        """
        lemmy = self.starts(timeouts={"drain": 600})
        port, old = lemmy.port, lemmy.process.pid
        idle = self.clients(lemmy)
        self.hold()
        busy = self.client(lemmy, GET)
        self.until(lambda: len(self.held) == 1)
        self.backend.script = serve
        lemmy.write(self.with_route())
        new = self.upgraded(lemmy, old)
        self.until(lambda: all(client.ended == "closed" for client in idle))
        self.assertTrue(lives(old))
        later = self.clients(lemmy)
        for client in later:
            client.write(OTHER)
            self.answered(client, 200)
        self.assertEqual(6, len(self.second.requests))
        self.held[0].write(PLAIN)
        self.until(lambda: bool(busy.answers))
        self.assertEqual([b"close"], busy.answers[0].values(b"connection"))
        self.gone(lemmy, old)
        self.assertEqual(port, lemmy.port)
        self.assertTrue(lives(new))
        self.assertEqual(self.workers if self.workers > 1 else 0, len(lemmy.stats().get("workers", ())))
        for client in later:
            client.write(GET)
            self.answered(client, 200)
        os.kill(new, signal.SIGTERM)
        self.assertTrue(until(lambda: not lemmy.family(), START), lemmy.output())
        self.assertRaises(OSError, unix, lemmy.admin)
        self.assertFalse(answers(port))
        self.assertNotIn("Traceback", lemmy.output())

    def test_nobody_refused(self) -> None:
        """Each of the connections that come one after the other meanwhile is answered, by the one or the other."""
        lemmy = self.starts()
        old = lemmy.process.pid
        for _ in range(2):
            os.kill(old, signal.SIGUSR2)
            found = old
            served = 0
            while found == old or lives(old):
                client = self.client(lemmy, GET)
                self.answered(client, 200)
                client.close()
                served += 1
                lemmy.process.poll()
                try:
                    found = int(lemmy.stats()["pid"])
                except OSError:
                    continue
            self.assertGreater(served, 2)
            old = found
        self.assertNotIn("Traceback", lemmy.output())

    def test_sockets_and_downloads(self) -> None:
        """A WebSocket hears 1001 from the old one; a download goes on to its end."""
        lemmy = self.starts(timeouts={"drain": 600})
        old = lemmy.process.pid
        socket, socket_side = self.socket(lemmy)
        download, download_side = self.download(lemmy)
        self.upgraded(lemmy, old)
        self.until(lambda: len(socket.rest) >= 4)
        self.assertEqual((b"\x88", GOING_AWAY), (socket.rest[:1], socket.rest[2:4]))
        socket.write(b"\x88\x82\0\0\0\0" + GOING_AWAY)
        self.until(lambda: socket_side.rest[:1] == b"\x88")
        socket_side.write(b"\x88\x02" + GOING_AWAY)
        self.until(lambda: bool(socket.ended))
        socket_side.close()
        self.assertTrue(lives(old))
        download_side.write(b"done")
        self.answered(download, 200)
        self.gone(lemmy, old)

    def test_admin(self) -> None:
        """The admin side says which process it is, and the next upgrade is of that one; so does C{lemmy upgrade}."""
        lemmy = self.starts()
        status, body = lemmy.post("/api/v1/upgrade")
        self.assertEqual(202, status, body)
        second = json.loads(body)["pid"]
        self.gone(lemmy, lemmy.process.pid)
        self.assertEqual(second, lemmy.stats()["pid"])
        done = subprocess.run(
            [script("lemmy"), "upgrade", "--config", lemmy.config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START,
            check=False,
        )
        self.assertEqual(0, done.returncode, done.stdout)
        self.gone(lemmy, second)
        third = lemmy.stats()["pid"]
        self.assertIn(str(third), done.stdout)
        self.assertNotIn(third, (lemmy.process.pid, second))
        self.clients(lemmy)

    def test_broken_file(self) -> None:
        """A next program that refuses the file is told, with its own lines, and the present one goes on."""
        lemmy = self.starts(timeouts={"drain": 600})
        client = self.client(lemmy, GET)
        self.answered(client, 200)
        pid = lemmy.process.pid
        lemmy.write({**self.settings, "listners": []})
        lemmy.signal(signal.SIGUSR2)
        lemmy.says("upgrade refused, this process goes on")
        lemmy.says("listners: no such setting")
        status, body = lemmy.post("/api/v1/upgrade")
        self.assertEqual(500, status, body)
        self.assertIn(b"ended before it served", body)
        client.write(GET)
        self.answered(client, 200)
        self.clients(lemmy)
        self.assertEqual((pid, 200), (lemmy.stats()["pid"], lemmy.ask("/ready")[0]))
        self.assertEqual(1 if self.workers == 1 else 1 + self.workers, len(lemmy.family()))
        # And when it is mended, it is upgraded.
        lemmy.write(self.settings)
        self.upgraded(lemmy, pid)
        self.gone(lemmy, pid)

    def with_next(self, does: str) -> Lemmy:
        """A proxy whose successor will do this at its start."""
        where = folder(self)
        plugins = os.path.join(where, "drop-ins")
        os.mkdir(plugins)
        module = os.path.join(plugins, "next.py")
        for path, text in ((module, NEXT % does), (f"{module}.lives", "none")):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        self.settings = configuration(self.url(self.backend), workers=self.workers, plugins=["drop-ins"])
        lemmy = Lemmy(self, self.settings, where=where).ready()
        if self.workers > 1:
            lemmy.manned(self.workers)
        with open(f"{module}.lives", "w", encoding="utf-8") as file:
            file.write(str(lemmy.process.pid))
        return lemmy

    def test_dies_at_start(self) -> None:
        """One that ends without a word is told with its exit status, and the present one goes on."""
        lemmy = self.with_next("os._exit(9)")
        status, body = lemmy.post("/api/v1/upgrade")
        self.assertEqual(500, status, body)
        self.assertIn(b"exit status 9", body)
        lemmy.says("upgrade refused, this process goes on")
        self.clients(lemmy)

    def test_one_at_a_time(self) -> None:
        """While one upgrade is under way another is refused, and so is a reload; requests are served."""
        lemmy = self.with_next(WAITS)
        lemmy.signal(signal.SIGUSR2)
        lemmy.says("has been started")
        for path in ("/api/v1/upgrade", "/api/v1/config/reload"):
            status, body = lemmy.post(path)
            self.assertEqual(409, status, body)
        self.clients(lemmy)
        self.assertEqual(lemmy.process.pid, lemmy.stats()["pid"])
        os.unlink(os.path.join(lemmy.folder, "drop-ins", "next.py.lives"))
        self.gone(lemmy, lemmy.process.pid)
        self.clients(lemmy)

    def test_unix_sockets(self) -> None:
        """Files of unix sockets stay where they are, and go with the last one."""
        lemmy = self.starts()
        path = os.path.join(lemmy.folder, "door")
        lemmy.reload({**self.settings, "listeners": [{"endpoint": ANY}, {"endpoint": f"unix:{path}"}]})
        node = os.stat(path).st_ino
        old = lemmy.process.pid
        new = self.upgraded(lemmy, old)
        self.gone(lemmy, old)
        self.assertEqual(node, os.stat(path).st_ino)
        self.served_on(path)
        os.kill(new, signal.SIGTERM)
        self.assertTrue(until(lambda: not lives(new), START))
        self.assertFalse(os.path.exists(path))
        self.assertFalse(os.path.exists(lemmy.admin))

    def test_stopped_meanwhile(self) -> None:
        """A SIGTERM that comes while the next one starts is meant for the whole: nobody is left who serves."""
        lemmy = self.with_next(WAITS)
        lemmy.signal(signal.SIGUSR2)
        lemmy.says("has been started")
        lemmy.signal(signal.SIGTERM)
        self.assertEqual(0, lemmy.ended())
        self.assertTrue(until(lambda: not lemmy.family(), START), lemmy.output())
        self.assertFalse(answers(lemmy.port))

    def test_other_number_of_workers(self) -> None:
        """From one process to several, or back: what a reload cannot do."""
        lemmy = self.starts()
        count = 3 - self.workers
        lemmy.refuses({**self.settings, "workers": count}, f"workers: from {self.workers} to {count}")
        old = lemmy.process.pid
        self.upgraded(lemmy, old)
        self.gone(lemmy, old)
        self.clients(lemmy)
        self.assertTrue(until(lambda: len(lemmy.stats().get("workers", ())) == (count if count > 1 else 0), START))


class UpgradeOfWorkersTests(UpgradeTests):
    """The same with two workers."""

    workers = 2


class TwistdTests(UpgradeCase):
    """As a daemon of twistd's."""

    def test_daemon(self) -> None:
        """The next one is in the file with the process id, and SIGTERM to that stops it."""
        where = folder(self)
        pidfile, log = os.path.join(where, "pid"), os.path.join(where, "log")
        self.settings = configuration(self.url(self.backend))
        lemmy = Lemmy(self, self.settings, ("twistd", f"--pidfile={pidfile}", f"--logfile={log}", "lemmy"), where=where)
        self.assertEqual(0, lemmy.ended())

        def ready() -> bool:
            try:
                return lemmy.ask("/ready")[0] == 200
            except OSError:
                return False

        self.assertTrue(until(ready, START), read(log))
        old = int(read(pidfile))
        self.assertEqual(old, lemmy.stats()["pid"])
        new = self.upgraded(lemmy, old)
        self.assertTrue(until(lambda: not lives(old), START), read(log))
        self.assertEqual(new, int(read(pidfile)))
        os.kill(new, signal.SIGTERM)
        self.assertTrue(until(lambda: not lives(new), START), read(log))
        self.assertFalse(os.path.exists(pidfile))
