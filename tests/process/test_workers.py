"""
A parent and its workers: what becomes of the one when others end, and of the whole.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import sys

from tests.process.case import GET
from tests.process.rig import ANY, Lemmy, configuration, end, folder, lives, read, until
from tests.process.test_reload import OTHER, ReloadCase, endpoint
from tests.wire.rig import START, free_port
from tests.wire.sockets import PLAIN, Client, serve

#: A drop-in module that ends the second worker at its start, for as long as there is a file C{deadly} beside it.
DEADLY = """
# lemmytx
import os
import sys

if sys.argv[0].endswith("worker.py") and sys.argv[2] == "1" and os.path.exists(__file__ + ".deadly"):
    os._exit(7)
"""

#: A drop-in module at which the second worker waits for as long as there is a file C{hold} beside it; C{held} says so.
HELD = """
# lemmytx
import os
import sys
import time

if sys.argv[0].endswith("worker.py") and sys.argv[2] == "1":
    while os.path.exists(__file__ + ".hold"):
        open(__file__ + ".held", "w").close()
        time.sleep(0.02)
"""

#: A drop-in module that only the second worker cannot import.
PICKY = """
# lemmytx
import sys

if sys.argv[0].endswith("worker.py") and sys.argv[2] == "1":
    raise RuntimeError("not here")
"""


class WorkersTests(ReloadCase):
    """Two workers."""

    workers = 2

    def on_both(self, lemmy: Lemmy) -> dict[int, Client]:
        """
        Clients with an answered request each, one for each worker, by the worker's process id: who holds which
        connection is asked of the kernel.
        """
        found: dict[int, Client] = {}
        workers = lemmy.workers().values()
        for _ in range(100):
            client = self.client(lemmy, GET)
            self.answered(client, 200)
            for pid in workers:
                if client.sock.getsockname()[1] in client_ports(pid):
                    found.setdefault(pid, client)
            if len(found) == len(workers):
                return found
        raise AssertionError(f"a hundred connections went to {list(found)} of {list(workers)} alone")

    def get(self, lemmy: Lemmy) -> None:
        """A new client is answered."""
        client = self.client(lemmy, GET)
        self.answered(client, 200)
        client.close()

    def test_killed(self) -> None:
        """Another one takes the place of one that is killed, a line says why; those of the others notice nothing."""
        lemmy = self.starts(timeouts={"drain": 600})
        clients = self.on_both(lemmy)
        victim, other = clients
        os.kill(victim, signal.SIGKILL)
        self.until(lambda: bool(clients[victim].ended))
        for _ in range(20):
            self.get(lemmy)
        clients[other].write(GET)
        self.answered(clients[other], 200)
        lemmy.wait(lambda: lemmy.count(f"(pid {victim}) ended: killed by signal 9") == 1, "a line that says why")
        after = lemmy.manned(2)
        self.assertNotIn(victim, after.values())
        self.assertIn(other, after.values())
        rows = {row["pid"]: row["restarts"] for row in lemmy.stats()["workers"]}
        self.assertEqual({other: 0, next(pid for pid in rows if pid != other): 1}, rows)
        self.on_both(lemmy)
        self.assertEqual(200, lemmy.ask("/ready")[0])

    def test_own_exchanges(self) -> None:
        """What a killed worker had under way ends for its client at once; what another one has does not."""
        lemmy = self.starts(timeouts={"drain": 600})
        clients = self.on_both(lemmy)
        victim, other = clients
        self.hold()
        for client in clients.values():
            client.write(GET)
        self.until(lambda: len(self.held) == 2)
        os.kill(victim, signal.SIGKILL)
        self.until(lambda: bool(clients[victim].ended))
        self.assertEqual([], clients[victim].answers)
        for side in self.held:
            side.write(PLAIN)
        self.answered(clients[other], 200)

    def test_told_to_go(self) -> None:
        """A worker that gets a SIGTERM ends what it has first, and is replaced."""
        lemmy = self.starts(timeouts={"drain": 600})
        clients = self.on_both(lemmy)
        victim = next(iter(clients))
        self.hold()
        clients[victim].write(GET)
        self.until(lambda: len(self.held) == 1)
        os.kill(victim, signal.SIGTERM)
        other = next(pid for pid in clients if pid != victim)
        for _ in range(20):
            self.backend.script = serve
            self.get(lemmy)
        self.assertTrue(lives(victim))
        self.held[0].write(PLAIN)
        self.answered(clients[victim], 200)
        lemmy.wait(lambda: lemmy.count(f"(pid {victim}) ended: exit status 0") == 1, "a line that says how")
        self.assertIn(other, lemmy.manned(2).values())

    def test_dies_at_start(self) -> None:
        """
        One that ends at each start is started again after pauses that double, and says so each time, while the other
        one serves; when the cause is gone it serves, too.
        """
        where = folder(self)
        plugins = os.path.join(where, "drop-ins")
        os.mkdir(plugins)
        module = os.path.join(plugins, "deadly.py")
        for path, text in ((module, DEADLY), (f"{module}.deadly", "")):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        settings = configuration(self.url(self.backend), workers=2, plugins=["drop-ins"])
        lemmy = Lemmy(self, settings, where=where).ready()
        pause = re.compile(r"worker 2 \(pid \d+\) ended: exit status 7; another one starts in (\S+) s")
        times = 4

        def pauses() -> list[str]:
            self.get(lemmy)
            return pause.findall(lemmy.output())

        lemmy.wait(lambda: len(pauses()) >= times, f"{times} ends")
        self.assertEqual(["0.1", "0.2", "0.4", "0.8"], pauses()[:times])
        self.assertEqual(200, lemmy.ask("/ready")[0])
        self.assertEqual(1, len(lemmy.manned(1)))
        os.unlink(f"{module}.deadly")
        lemmy.manned(2)
        self.on_both(lemmy)

    def test_reload_meanwhile(self) -> None:
        """A worker that comes up after a reload has the configuration that holds by then."""
        lemmy = self.starts()
        victim = lemmy.manned(2)[1]
        os.kill(victim, signal.SIGKILL)
        lemmy.reload(self.moved())
        self.assertTrue(until(lambda: len(lemmy.workers()) == 2, START), lemmy.output())
        self.backend.requests.clear()
        self.on_both(lemmy)
        self.assertEqual([], self.backend.requests)

    def test_comes_up_in_a_reload(self) -> None:
        """A worker that is half way up when a reload is done never serves by the configuration before that."""
        where = folder(self)
        plugins = os.path.join(where, "drop-ins")
        os.mkdir(plugins)
        module = os.path.join(plugins, "held.py")
        with open(module, "w", encoding="utf-8") as file:
            file.write(HELD)
        self.settings = configuration(self.url(self.backend), workers=2, plugins=["drop-ins"])
        lemmy = Lemmy(self, self.settings, where=where).ready()
        workers = lemmy.manned(2)
        with open(f"{module}.hold", "w", encoding="utf-8") as file:
            file.write("")
        os.kill(workers[2], signal.SIGKILL)
        self.until(lambda: os.path.exists(f"{module}.held"))
        lemmy.reload(self.moved())
        # Only the new one can take these.
        os.kill(workers[1], signal.SIGSTOP)
        try:
            clients = [self.client(lemmy, GET) for _ in range(5)]
            os.unlink(f"{module}.hold")
            for client in clients:
                self.answered(client, 200)
        finally:
            os.kill(workers[1], signal.SIGCONT)
        self.assertEqual(([], 5), (self.backend.requests, len(self.second.requests)))

    def test_one_cannot(self) -> None:
        """A configuration that one of them cannot take is taken by none, and the line says what it could not."""
        lemmy = self.starts()
        self.on_both(lemmy)
        plugins = os.path.join(lemmy.folder, "drop-ins")
        os.mkdir(plugins)
        with open(os.path.join(plugins, "picky.py"), "w", encoding="utf-8") as file:
            file.write(PICKY)
        lemmy.refuses({**self.with_route(), "plugins": ["drop-ins"]}, "picky.py: cannot be imported: RuntimeError")
        for client in self.on_both(lemmy).values():
            client.write(OTHER)
            self.answered(client, 200)
        self.assertEqual([], self.second.requests)
        lemmy.reload(self.with_route())
        for client in self.on_both(lemmy).values():
            client.write(OTHER)
            self.answered(client, 200)
        self.assertEqual(2, len(self.second.requests))

    def test_standstill(self) -> None:
        """A worker that stands still holds nobody back: new connections go to the other one."""
        lemmy = self.starts()
        self.on_both(lemmy)
        victim = lemmy.workers()[1]
        os.kill(victim, signal.SIGSTOP)
        try:
            for _ in range(20):
                self.get(lemmy)
            # The parent does not wait for it either.
            self.assertEqual(200, lemmy.ask("/ready")[0])
            self.assertGreaterEqual(lemmy.stats()["total_count"], 2)
        finally:
            os.kill(victim, signal.SIGCONT)

    def test_statistics(self) -> None:
        """They are those of all workers, and with one that is killed they do not go backwards."""
        lemmy = self.starts()
        clients = list(self.on_both(lemmy).values())
        for client in clients:
            client.write(GET)
            self.answered(client, 200)
        sent = len(self.backend.requests)
        stats = lemmy.stats()
        self.assertEqual(sent, stats["total_count"])
        self.assertEqual(lemmy.process.pid, stats["pid"])
        self.assertEqual(sorted(lemmy.workers().values()), sorted(row["pid"] for row in stats["workers"]))
        self.assertEqual(stats["downstreams"], sum(row["downstreams"] for row in stats["workers"]))
        os.kill(lemmy.workers()[1], signal.SIGKILL)
        lemmy.wait(lambda: len(lemmy.workers()) == 1, "the end of a worker")
        for _ in range(10):
            self.assertGreaterEqual(lemmy.stats()["total_count"], sent)
        lemmy.manned(2)
        self.get(lemmy)
        self.assertEqual(sent + 1, lemmy.stats()["total_count"])

    def test_parent_killed(self) -> None:
        """
        Without their parent workers end their idle connections at once, let what is under way end, and go; whoever
        starts the program again at once gets the same port and socket, and serves.
        """
        port = free_port()
        where = folder(self)
        settings = configuration(
            self.url(self.backend), workers=2, timeouts={"drain": 600}, listeners=[endpoint(port)["endpoint"]]
        )
        first = Lemmy(self, settings, where=where).ready()
        workers = first.manned(2)
        idle, busy = self.client(first, GET), self.client(first)
        self.answered(idle, 200)
        self.hold()
        busy.write(GET)
        self.until(lambda: len(self.held) == 1)
        first.process.kill()
        first.process.wait()
        self.until(lambda: idle.ended == "closed")
        second = Lemmy(self, settings, where=where)
        second.says("serves on")
        second.manned(2)
        self.backend.script = serve
        self.get(second)
        self.assertEqual(200, second.ask("/ready")[0])
        self.held[0].write(PLAIN)
        self.answered(busy, 200)
        self.until(lambda: busy.ended == "closed")
        for pid in workers.values():
            self.addCleanup(end, pid)
        self.assertTrue(until(lambda: not any(map(lives, workers.values())), START), workers)

    def test_fewer_and_more(self) -> None:
        """A reload may change how many they are; with one it would be without a parent, which a reload cannot do."""
        lemmy = self.starts(timeouts={"drain": 600})
        client = next(iter(self.on_both(lemmy).values()))
        lemmy.reload({**self.settings, "workers": 3})
        self.assertEqual(3, len(lemmy.manned(3)))
        lemmy.reload({**self.settings, "workers": 2})
        lemmy.wait(lambda: len(lemmy.workers()) == 2, "one worker less")
        client.write(GET)
        self.answered(client, 200)
        lemmy.refuses({**self.settings, "workers": 1}, "workers: from 2 to 1")
        self.get(lemmy)


class PrivilegeTests(ReloadCase):
    """C{twistd --uid} and C{--gid}, which only root can say."""

    workers = 2

    if os.geteuid():
        skip = "only root can give up being root"

    def test_dropped(self) -> None:
        """Workers are not root any more, nor are those that come later; a listener of root's stays open to them."""
        nobody = pwd.getpwnam("nobody")
        where = folder(self)
        os.chmod(where, 0o755)
        opened = os.path.join(where, "door")
        settings = configuration(self.url(self.backend), [ANY, f"unix:{opened}:mode=600"], workers=2)
        options, wanted = ["--gid", str(nobody.pw_gid)], {"Gid": nobody.pw_gid}
        if readable_by(nobody):
            options += ["--uid", str(nobody.pw_uid)]
            wanted["Uid"] = nobody.pw_uid
        # Else this environment is in a folder of root's own, and giving up the group has to do.
        lemmy = Lemmy(self, settings, ("twistd", "-n", "--pidfile=", *options, "lemmy"), where=where).ready()
        first = lemmy.manned(2)
        os.kill(first[1], signal.SIGKILL)
        lemmy.wait(lambda: first[1] not in lemmy.workers().values(), "the end of a worker")
        for pid in (lemmy.process.pid, *lemmy.manned(2).values()):
            for name, number in wanted.items():
                self.assertEqual({str(number)}, set(status(pid, name)), (pid, name))
        self.assertEqual(0, os.stat(opened).st_uid)
        for client in self.clients(lemmy):
            client.write(GET)
            self.answered(client, 200)
        self.served_on(opened)
        lemmy.reload({**settings, "limits": {"body_size": 3}})
        self.assertEqual(0, lemmy.stop())


def readable_by(user: pwd.struct_passwd) -> bool:
    """Whether a user can run this Python and what is installed in it."""
    command = [sys.executable, "-c", "import lemmytx.worker"]
    try:
        done = subprocess.run(
            command,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd="/",
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except PermissionError:
        return False
    return done.returncode == 0


def status(pid: int, name: str) -> list[str]:
    """A line of what the kernel says of a process, in words."""
    for line in read(f"/proc/{pid}/status").splitlines():
        if line.startswith(f"{name}:"):
            return line.split()[1:]
    return []


def client_ports(pid: int) -> set[int]:
    """The ports of those with whom a process is connected on IPv4."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return set()
    held = set()
    for name in names:
        try:
            held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    found = set()
    for line in read("/proc/net/tcp").splitlines()[1:]:
        fields = line.split()
        if f"socket:[{fields[9]}]" in held:
            found.add(int(fields[2].partition(":")[2], 16))
    return found
