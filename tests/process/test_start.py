"""
Starts on bad days: what cannot be had is told in one clear line, and what can be served is served.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.process.rig import ANY, Lemmy, Nginx, ask, configuration, folder, program, script, tcp
from tests.wire.rig import START

#: An address that no machine has (RFC 5737).
FOREIGN = "192.0.2.1"

#: Where nobody listens; a configuration needs a backend.
NOWHERE = "http://127.0.0.1:9"


def taken(case: SynchronousTestCase) -> socket.socket:
    """A listening socket of somebody else's."""
    sock = socket.create_server(("127.0.0.1", 0))
    case.addCleanup(sock.close)
    return sock


def port_of(sock: socket.socket) -> int:
    """Where it listens."""
    port: int = sock.getsockname()[1]
    return port


def endpoint(port: int) -> str:
    """Of that port on loopback."""
    return f"tcp:{port}:interface=127.0.0.1"


def write(path: str, text: str) -> None:
    """A file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


class ListenerTests(SynchronousTestCase):
    """Sockets that cannot be had."""

    def test_taken(self) -> None:
        """With a port taken everything else serves, a line says which, and it serves there too once it is free."""
        nginx = Nginx(self)
        others = [taken(self), taken(self)]
        port, admin = map(port_of, others)
        lemmy = Lemmy(self, configuration(nginx.url, (ANY, endpoint(port))))
        without_admin = Lemmy(self, configuration(nginx.url, admin={"endpoint": endpoint(admin)}))
        for one, missing in ((lemmy, port), (without_admin, admin)):
            one.says("serves on")
            self.assertEqual((200, "nginx a.example /"), one.get())
            one.says(f"cannot listen on 'tcp:{missing}:interface=127.0.0.1': Address already in use")
        status, why = lemmy.ask("/ready")
        self.assertEqual(503, status)
        self.assertIn(str(port).encode(), why)
        for other in others:
            other.close()
        for one, missing in ((lemmy, port), (without_admin, admin)):
            one.says(f"now listening on 127.0.0.1:{missing}")
            self.assertEqual(1, one.count("cannot listen"))
        self.assertEqual((200, b"nginx a.example /"), ask(tcp(port), "/", "a.example"))
        self.assertEqual(200, lemmy.ask("/ready")[0])
        self.assertEqual((200, b'{"status": "OK"}\n'), ask(tcp(admin), "/health", "localhost"))

    def test_only_one_taken(self) -> None:
        """When no listener can be had it ends with status 1, and the last line says why: no traceback."""
        port = port_of(taken(self))
        for command in (("lemmy", "run"), ("twistd", "-n", "--pidfile=", "lemmy")):
            lemmy = Lemmy(self, configuration(NOWHERE, (endpoint(port),)), command)
            self.assertEqual(1, lemmy.ended())
            self.assertEqual(1, lemmy.count(f"cannot listen on 'tcp:{port}:interface=127.0.0.1': Address already in"))
            self.assertNotIn("Traceback", lemmy.output())

    def test_foreign_address(self) -> None:
        """A listener on an address that the machine does not have is a line, and the others serve."""
        nginx = Nginx(self)
        lemmy = Lemmy(self, configuration(nginx.url, (ANY, f"tcp:8080:interface={FOREIGN}")))
        lemmy.says("serves on")
        lemmy.says(f"cannot listen on 'tcp:8080:interface={FOREIGN}': Cannot assign requested address")
        self.assertEqual((200, "nginx a.example /"), lemmy.get())

    def test_no_permission(self) -> None:
        """A privileged port, and a folder that is not ours, are lines that say what is not permitted."""
        nginx = Nginx(self)
        where = folder(self)
        closed = os.path.join(where, "closed")
        os.mkdir(closed, 0o555)
        refused = [f"unix:{closed}/door"]
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            first = int(file.read())
        if first > 1:
            # Some machines, containers above all, let everybody have every port.
            refused.append(endpoint(first - 1))
        lemmy = Lemmy(self, configuration(nginx.url, (ANY, *refused)), before=without_privileges(), where=where)
        lemmy.says("serves on")
        for description in refused:
            lemmy.says(f"cannot listen on {description!r}: Permission denied")
        self.assertEqual((200, "nginx a.example /"), lemmy.get())

    def test_stale_socket(self) -> None:
        """The socket file of a proxy that was killed is in nobody's way."""
        nginx = Nginx(self)
        where = folder(self)
        settings = configuration(nginx.url, (ANY, f"unix:{where}/door"))
        Lemmy(self, settings, where=where).ready().kill()
        self.assertTrue(os.path.exists(f"{where}/door"))
        lemmy = Lemmy(self, settings, where=where)
        lemmy.says("serves on")
        lemmy.says(f"{where}/door")
        self.assertEqual(200, lemmy.ask("/ready")[0], lemmy.output())


def without_privileges() -> list[str]:
    """A command that runs another one like an ordinary user's; as root it takes away what makes root one."""
    if os.geteuid():
        return []
    less = "-net_bind_service,-dac_override,-dac_read_search"
    return [program("setpriv"), f"--bounding-set={less}", f"--inh-caps={less}"]


#: The three ways to learn what is wrong with a configuration.
ALL = (("lemmy", "run"), ("lemmy", "check"), ("twistd", "-n", "--pidfile=", "lemmy"))


class RefusalTests(SynchronousTestCase):
    """What is refused before anything is started: exit status 1, one line each."""

    def refused(
        self, path: str, before: Sequence[str] = (), commands: Sequence[Sequence[str]] = (("lemmy", "run"),)
    ) -> list[str]:
        """The lines with which each of the commands ends."""
        found = []
        for command in commands:
            done = subprocess.run(
                [*before, script(command[0]), *command[1:], "--config", path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=os.path.dirname(path),
                text=True,
                timeout=START,
                check=False,
            )
            self.assertEqual(1, done.returncode, done.stdout)
            found.append(done.stdout.splitlines())
            self.assertEqual(found[0], found[-1], command)
        return found[0]

    def written(self, text: str) -> str:
        """A configuration."""
        path = os.path.join(folder(self), "lemmy.yaml")
        write(path, text)
        return path

    def with_plugins(self, **modules: str) -> str:
        """A configuration with a folder C{plugins} beside it."""
        path = self.written(
            f"plugins: [plugins]\nlisteners: [{{endpoint: '{ANY}'}}]\nvhosts: [{{hosts: ['*'], cluster: c}}]\n"
            f"clusters: {{c: {{scheduler: mine, backends: ['{NOWHERE}']}}}}\n"
        )
        plugins = os.path.join(os.path.dirname(path), "plugins")
        os.mkdir(plugins)
        for name, text in modules.items():
            write(os.path.join(plugins, f"{name}.py"), text)
        return path

    def test_unreadable(self) -> None:
        """A configuration that we may not read is one line."""
        path = self.written("{}\n")
        os.chmod(path, 0)
        self.assertEqual([f"{path}: cannot be read: Permission denied"], self.refused(path, without_privileges()))

    def test_missing(self) -> None:
        """One that is not there, and one that is a folder, are one line each."""
        where = folder(self)
        path = os.path.join(where, "nowhere.yaml")
        self.assertEqual([f"{path}: cannot be read: No such file or directory"], self.refused(path))
        self.assertEqual([f"{where}/: cannot be read: Is a directory"], self.refused(f"{where}/"))

    def test_all_errors(self) -> None:
        """All errors are told in one go, each on a line with file, line and setting."""
        path = self.written(
            f"listeners:\n- endpoint: 'tcp:x'\nvhosts: [{{hosts: ['*'], cluster: d}}]\nclusters:\n  c:\n"
            f"    scheduler: round_robbin\n    backends: ['{NOWHERE}']\n"
        )
        lines = self.refused(path, commands=ALL)
        self.assertEqual(3, len(lines), lines)
        for line, start in zip(
            lines, ("2: listeners[0].endpoint", "3: vhosts[0].cluster", "6: clusters.c.scheduler"), strict=True
        ):
            self.assertTrue(line.startswith(f"{path}:{start}: "), line)
        self.assertIn("did you mean 'round_robin'?", lines[2])

    def test_broken_plugin(self) -> None:
        """A plugin module that raises is told with its file, the reason and the line in it."""
        path = self.with_plugins(mine="import lemmytx\n\nraise RuntimeError('not today')\n")
        lines = self.refused(path)
        self.assertEqual(1, len([line for line in lines if "plugins/mine.py" in line]), lines)
        self.assertIn("cannot be imported: RuntimeError: not today (line 3)", lines[0])
        self.assertNotIn("Traceback", "".join(lines))

    def test_no_such_folder(self) -> None:
        """A folder of plugins that is not there is told."""
        path = self.with_plugins()
        os.rmdir(os.path.join(os.path.dirname(path), "plugins"))
        lines = self.refused(path)
        self.assertIn("/plugins: no such folder", lines[0])

    def test_one_name_twice(self) -> None:
        """Two plugins of one name are told with both files."""
        module = (
            "from lemmytx.balance.round_robin import RoundRobin\n"
            "from lemmytx.plugin import Scheduler\n"
            "mine = Scheduler('mine', RoundRobin)\n"
        )
        lines = self.refused(self.with_plugins(one=module, two=module))
        self.assertTrue(
            any("plugins/one.py" in line and "plugins/two.py" in line and "'mine' is taken" in line for line in lines),
            lines,
        )

    def test_broken_scheduler(self) -> None:
        """A scheduler that cannot do what one must is found out at the start, before any request is."""
        module = (
            "import sys\n"
            "from zope.interface import implementer\n"
            "from lemmytx.interfaces import IScheduler\n"
            "from lemmytx.plugin import Scheduler\n"
            "@implementer(IScheduler)\n"
            "class Mine:\n"
            "    def update(self, backends):\n"
            "        pass\n"
            "    def choose(self, candidates, request):\n"
            "        %s\n"
            "mine = Scheduler('mine', Mine)\n"
        )
        for choose, said in (
            ("return candidates[0].name", "choose returns 'b"),
            ("return candidates[1]", "choose raises IndexError"),
            ("sys.exit(3)", "choose raises SystemExit(3)"),
        ):
            lines = self.refused(self.with_plugins(broken=module % choose))
            told = [line for line in lines if "plugins/broken.py: scheduler 'mine': " in line]
            self.assertTrue(told and all(said in line for line in told), lines)


class BackendTests(SynchronousTestCase):
    """Backends that are not there."""

    def test_no_address(self) -> None:
        """A backend whose name has no address is a line; the others are served, and 503 where there is no other."""
        nginx = Nginx(self)
        settings = configuration([nginx.url, "http://backend.invalid:80"])
        settings["vhosts"].append({"hosts": ["lost.example"], "cluster": "lost"})
        settings["clusters"]["lost"] = {"backends": ["http://backend.invalid:81"], "queue": {"on_unavailable": False}}
        # A machine without a name server need not wait for it.
        lemmy = Lemmy(self, settings, environment={"RES_OPTIONS": "timeout:1 attempts:1"}).ready()
        for _ in range(4):
            self.assertEqual((200, "nginx a.example /"), lemmy.get())
        self.assertEqual(503, lemmy.get(host="lost.example")[0])
        lemmy.wait(lambda: lemmy.count("looking up 'backend.invalid'") == 2, "one line for each cluster")
        self.assertEqual((200, "nginx a.example /"), lemmy.get())
        self.assertNotIn("Traceback", lemmy.output())

    def test_nobody_there(self) -> None:
        """Backends that refuse, and a unix socket that is not there, are 502 at once; when one is there it is used."""
        where = folder(self)
        settings = configuration(NOWHERE)
        settings["vhosts"].append({"hosts": ["unix.example"], "cluster": "unix"})
        settings["clusters"]["unix"] = {"backends": [f"http+unix://{where}/app"], "max_fails": 0}
        lemmy = Lemmy(self, settings, where=where).ready()
        self.assertEqual(502, lemmy.get()[0])
        self.assertEqual(502, lemmy.get(host="unix.example")[0])
        nginx = Nginx(self)
        os.symlink(nginx.socket, f"{where}/app")
        self.assertEqual((200, "nginx unix.example /"), lemmy.get(host="unix.example"))
