"""
Starts what a user starts, C{lemmy} and C{twistd}, on a machine that is not as it should be: a soft spot for
descriptors, permissions taken away, files that cannot be written. And the real servers behind it.

The listeners' ports are chosen by the system and read from the line that the start logs; the admin side is on a unix
socket. Everything that is started is ended by its process id at the end of the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.rig import START, free_port
from tests.wire.sockets import LIMIT, Loop

#: Where nginx, setpriv and prlimit are, for users whose PATH does not say so.
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))

#: A listener on loopback whose port the system chooses.
ANY = "tcp:0:interface=127.0.0.1"

_SERVES = re.compile(r"lemmytx \S+ serves on (.*); codec: (.*)")
_WORKER = re.compile(r"worker (\d+) \(pid (\d+)\) serves$", re.MULTILINE)


def program(name: str) -> str:
    """
    Where a program of the system is.

    @raise AssertionError: when it is not installed.
    """
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise AssertionError(f"{name} is not installed; .ci/run says which packages the tests need")
    return found


def script(name: str) -> str:
    """Where a program of this Python environment is."""
    return os.path.join(os.path.dirname(sys.executable), name)


def folder(case: SynchronousTestCase) -> str:
    """A new folder with a path short enough for unix sockets, removed at the end of the test."""
    made = tempfile.mkdtemp(prefix="lemmytx-")
    case.addCleanup(shutil.rmtree, made, ignore_errors=True)
    return made


def read(path: str) -> str:
    """A file; empty while there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def lives(pid: int) -> bool:
    """Whether there is such a process and it has not ended (nobody may have waited for it yet)."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] not in ([], ["Z"])


def end(pid: int) -> None:
    """Ends a process that is not our child, whatever it does."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], bool], seconds: float = LIMIT) -> bool:
    """Looks again and again, C{seconds} long at the most, whether C{condition} holds; says whether it does."""
    return Loop().until(condition, seconds, 0.02)


class Process:
    """
    A program, its output in a file, held to its end.

    @ivar folder: where it runs.
    """

    def __init__(
        self,
        case: SynchronousTestCase,
        command: Sequence[str],
        where: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = where
        self._output = os.path.join(where, f"output-{os.path.basename(command[0])}")
        clean = {name: value for name, value in os.environ.items() if name != "LEMMYTX_PURE"}
        with open(self._output, "wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=where,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**clean, **(environment or {})},
                # A shell that runs the tests in the background has them ignore it, and so would this.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
            )
        case.addCleanup(self.kill)

    def kill(self) -> None:
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def ended(self, seconds: float = START) -> int:
        """
        Waits for its end.

        @return: its exit status.
        @raise AssertionError: when it does not end.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.output()}") from None

    def output(self) -> str:
        """All that it has written."""
        with open(self._output, encoding="utf-8", errors="replace") as file:
            return file.read()

    def count(self, text: str) -> int:
        """How many lines of its output hold C{text}."""
        return sum(text in line for line in self.output().splitlines())

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = START) -> None:
        """
        Waits until C{condition} holds.

        @raise AssertionError: when it does not in time, or the process ends before it does.
        """
        until(lambda: condition() or self.process.poll() is not None, seconds)
        if not condition():
            raise AssertionError(f"{what} did not happen; it ended: {self.process.poll()}:\n{self.output()}")

    def says(self, text: str, seconds: float = START) -> None:
        """
        Waits until it has written C{text}.

        @raise AssertionError: when it does not.
        """
        self.wait(lambda: text in self.output(), repr(text), seconds)


def configuration(
    backend: str | Sequence[object], listeners: Sequence[str] = (ANY,), **settings: object
) -> dict[str, Any]:
    """
    One vhost, one cluster C{c}; the admin side on the unix socket C{admin}, no access log.

    @param backend: the URL of the only one, or a list as in the configuration.
    @param settings: top-level ones, beside or instead of these; C{cluster} adds to the cluster's own.
    """
    cluster = {"backends": [backend] if isinstance(backend, str) else list(backend), "max_fails": 0}
    cluster.update(settings.pop("cluster", {}))  # type: ignore[call-overload]  # the caller's dictionary
    return {
        "listeners": [{"endpoint": endpoint} for endpoint in listeners],
        "vhosts": [{"hosts": ["*"], "cluster": "c"}],
        "clusters": {"c": cluster},
        "access_log": {"format": "off"},
        **settings,
    }


class Lemmy(Process):
    """A proxy with a configuration of the test's own."""

    def __init__(
        self,
        case: SynchronousTestCase,
        settings: Mapping[str, Any],
        command: Sequence[str] = ("lemmy", "run"),
        options: Sequence[str] = (),
        before: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        where: str = "",
    ) -> None:
        """
        Starts it; L{ready} waits until it serves.

        @param settings: the configuration, without C{admin} where the unix socket is meant.
        @param command: what stands before C{--config}; the first word is the program.
        @param options: what stands behind the configuration.
        @param before: a program that starts it in turn, with its options.
        @param where: its folder; a new one unless given.
        """
        where = where or folder(case)
        self.admin = os.path.join(where, "admin")
        self.config = os.path.join(where, "lemmy.yaml")
        self.write(settings)
        words = [*before, script(command[0]), *command[1:], "--config", self.config, *options]
        # By this its workers are found, and what an upgrade puts in its place.
        self._mark = f"LEMMYTX_TEST={where}"
        # And nothing is left in the home of whoever runs the tests.
        own = {"LEMMYTX_TEST": where, "XDG_STATE_HOME": where}
        super().__init__(case, words, where, {**own, **(environment or {})})

    def write(self, settings: Mapping[str, Any] | str) -> None:
        """Writes the configuration, for a start or a reload: what is in it, or its text."""
        if not isinstance(settings, str):
            settings = json.dumps({"admin": {"endpoint": f"unix:{self.admin}"}, **settings})  # JSON is YAML
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(settings)

    def kill(self) -> None:
        """Ends it, whatever it does, with its workers and successors."""
        super().kill()
        for pid in self.family():
            end(pid)

    def family(self) -> list[int]:
        """Every living process that it has started, and those in turn; itself, too."""
        mark = self._mark.encode()
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and lives(int(entry)):
                try:
                    with open(f"/proc/{entry}/environ", "rb") as file:
                        if mark in file.read().split(b"\0"):
                            found.append(int(entry))
                except OSError:
                    continue  # ended, or somebody else's
        return found

    def ready(self) -> Lemmy:
        """
        Waits until the admin side says that it can serve.

        @raise AssertionError: when it ends instead, or does not in time.
        """

        def ready() -> bool:
            try:
                return self.ask("/ready")[0] == 200
            except OSError:
                return False  # not listening yet

        self.wait(ready, "/ready")
        return self

    @property
    def doors(self) -> list[str]:
        """Where it serves, as its start line says."""
        found = _SERVES.search(self.output())
        assert found is not None, self.output()
        return found[1].split(", ")

    @property
    def codec(self) -> str:
        """Which codec it has, as its start line says."""
        found = _SERVES.search(self.output())
        assert found is not None, self.output()
        return found[2]

    @property
    def port(self) -> int:
        """Of its first listener."""
        return int(self.doors[0].rpartition(":")[2])

    def ask(self, path: str, fields: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Asks the admin side: status and body."""
        return ask(unix(self.admin), path, "localhost", fields)

    def get(self, path: str = "/", host: str = "a.example", fields: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Asks through its first listener: status and body."""
        status, body = ask(tcp(self.port), path, host, fields)
        return status, body.decode("latin-1")

    def stats(self) -> dict[str, Any]:
        """Its statistics."""
        status, body = self.ask("/stats")
        assert status == 200, body
        stats: dict[str, Any] = json.loads(body)
        return stats

    def post(self, path: str) -> tuple[int, bytes]:
        """Has the admin side do something: status and body."""
        return ask(unix(self.admin), path, "localhost", method="POST")

    def workers(self) -> dict[int, int]:
        """The process ids of the workers that have said that they serve, by their numbers."""
        said = ((int(number), int(pid)) for number, pid in _WORKER.findall(self.output()))
        return {number: pid for number, pid in said if lives(pid)}

    def manned(self, count: int) -> dict[int, int]:
        """
        Waits until so many workers serve: the same as L{workers}.

        @raise AssertionError: when it does not come to that.
        """
        self.wait(lambda: len(self.workers()) == count, f"{count} workers that serve")
        return self.workers()

    def reload(self, settings: Mapping[str, Any]) -> None:
        """
        Has it take another configuration, by SIGHUP.

        @raise AssertionError: when it does not.
        """
        before = self.count("reloaded: ")
        self.write(settings)
        self.signal(signal.SIGHUP)
        self.wait(lambda: self.count("reloaded: ") > before, "the reload")

    def refuses(self, settings: Mapping[str, Any] | str, *reasons: str) -> None:
        """
        Has it take a configuration that it cannot take, by SIGHUP.

        @param settings: the text of the file, or what is in it.
        @param reasons: each is on a line of its own that says that nothing has changed.
        @raise AssertionError: when it takes it, or does not say why.
        """
        before, taken = len(self.output().splitlines()), self.count("reloaded: ")
        self.write(settings)
        self.signal(signal.SIGHUP)

        def refusals() -> list[str]:
            return [line for line in self.output().splitlines()[before:] if "reload refused, nothing has" in line]

        def told() -> bool:
            return all(any(reason in line for line in refusals()) for reason in reasons)

        self.wait(lambda: told() or self.count("reloaded: ") > taken, f"a refusal because of {reasons}")
        assert self.count("reloaded: ") == taken, self.output()
        assert len(refusals()) == len(reasons), self.output()

    def stop(self) -> int:
        """Asks it to end, and waits: its exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()


def tcp(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A connection."""
    return socket.create_connection((host, port), START)


def unix(path: str) -> socket.socket:
    """A connection to a unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(START)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def rest(sock: socket.socket) -> bytes:
    """Everything that comes until the other side ends or resets the connection."""
    received = bytearray()
    while True:
        try:
            data = sock.recv(262144)
        except ConnectionError:
            break
        if not data:
            break
        received += data
    return bytes(received)


def ask(
    sock: AbstractContextManager[socket.socket],
    path: str,
    host: str,
    fields: Mapping[str, str] | None = None,
    method: str = "GET",
) -> tuple[int, bytes]:
    """
    One request that ends its connection.

    @return: status and body; status 0 when the connection ended without an answer.
    """
    lines = "".join(f"{name}: {value}\r\n" for name, value in (fields or {}).items())
    with sock as link:
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n"
        link.sendall(head.encode("latin-1"))
        answer, _, body = rest(link).partition(b"\r\n\r\n")
    return int(answer.split(b" ", 2)[1]) if answer else 0, body


class Nginx(Process):
    """
    A real origin server: it answers with its name, the Host that it got and the path.

    @ivar port: on 127.0.0.1, and on ::1 where the machine has that.
    @ivar socket: the unix socket where it listens too.
    """

    def __init__(self, case: SynchronousTestCase, name: str = "nginx") -> None:
        where = folder(case)
        self.port = free_port()
        self.socket = os.path.join(where, "socket")
        listens = [f"127.0.0.1:{self.port}", f"unix:{self.socket}"]
        if has_ipv6():
            listens.append(f"[::1]:{self.port}")
        temporary = "".join(
            f"{kind}_temp_path {where}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = os.path.join(where, "nginx.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                f"daemon off; master_process off; pid {where}/pid; error_log {where}/errors;\n"
                f"events {{ worker_connections 512; }}\n"
                f"http {{ access_log off; {temporary} server {{\n"
                + "".join(f"listen {address};\n" for address in listens)
                + f"location / {{ return 200 '{name} $host $request_uri'; }} }} }}\n"
            )
        super().__init__(case, [program("nginx"), "-p", where, "-e", f"{where}/errors", "-c", config], where)
        self.wait(lambda: answers(self.port), "listening")

    @property
    def url(self) -> str:
        """For a configuration."""
        return f"http://127.0.0.1:{self.port}"


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        tcp(port).close()
    except OSError:
        return False
    return True


def has_ipv6() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
