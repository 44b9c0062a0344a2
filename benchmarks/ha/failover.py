"""Two instances, keepalived beside each, a backend and a client; the instance that has the address is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.ha.network import PREFIX, CannotMake, Network

RECIPE = Path(__file__).parents[2] / "conf" / "ha" / "keepalived.conf"

#: The address that moves.
SHARED = f"{PREFIX}.100"

CONFIGURATION = """
listeners:
  - endpoint: "tcp:8080"
vhosts:
  - {{hosts: ["*"], cluster: web}}
clusters:
  web: {{backends: ["http://{backend}:8000"]}}
admin: {{endpoint: "tcp:8081:interface=127.0.0.1"}}
access_log: {{format: off}}
"""

#: Seconds for programs to be up, and for the address to be somewhere.
PATIENCE = 20.0


@dataclass(frozen=True)
class Outcome:
    """
    What the client saw.

    @ivar asked: requests.
    @ivar lost: of them, those that got no answer, by what became of them.
    @ivar gap: seconds between the last request that the killed instance answered and the first that the other did, by
        when they should have been sent.
    @ivar others: whether every answer came from the one before and from the other one after.
    """

    asked: int
    lost: dict[str, int]
    gap: float
    others: bool


class Machines:
    """
    C{lb1} and C{lb2} with an instance and keepalived each, C{backend} and C{client}. A context manager.
    """

    def __init__(self, folder: Path) -> None:
        """
        @param folder: for files, empty.
        """
        for program in ("keepalived", "curl"):
            if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
                raise CannotMake(f"there is no program {program}")
        self._folder = folder
        self._network = Network(("lb1", "lb2", "backend", "client"))
        self._running: list[subprocess.Popen[bytes]] = []
        self._instances: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Machines:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._network)
            stack.callback(self._end)
            self._start(
                "backend", [sys.executable, "-m", "benchmarks.ha.backend", self._network.address("backend"), "8000"]
            )
            for name, priority in (("lb1", 150), ("lb2", 100)):
                self._instance(name)
                self._keepalived(name, priority)
            self._until(lambda: self.holder() is not None, "nobody took the address")
            self._until(lambda: all(map(self._ready, self._instances)), "an instance is not ready")
            # An election that both took part in may still move it once.
            self._settled()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def _start(self, name: str, command: list[str], output: str = "") -> subprocess.Popen[bytes]:
        with open(self._folder / (output or f"{name}.log"), "ab") as log:
            process = subprocess.Popen(
                self._network.inside(name, command), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        self._running.append(process)
        return process

    def _instance(self, name: str) -> None:
        file = self._folder / f"{name}.yaml"
        file.write_text(CONFIGURATION.format(backend=self._network.address("backend")))
        lemmy = str(Path(sys.executable).with_name("lemmy"))
        self._instances[name] = self._start(name, [lemmy, "run", "--config", str(file)])

    def _keepalived(self, name: str, priority: int) -> None:
        """The recipe, with this network's names; scripts run as whoever runs this."""
        recipe = RECIPE.read_text()
        for pattern, wanted in (
            (r"router_id lemmy1", f"router_id {name}"),
            (r"script_user keepalived_script", "script_user root"),
            (r"priority 150", f"priority {priority}"),
            (r"192\.0\.2\.10/24", f"{SHARED}/24"),
            (r"/usr/bin/curl", str(shutil.which("curl"))),
        ):
            recipe, found = re.subn(pattern, wanted, recipe)
            if found != 1:
                raise CannotMake(f"{RECIPE.name} has no {pattern!r}")
        file = self._folder / f"{name}-keepalived.conf"
        file.write_text(recipe)
        file.chmod(0o600)
        pids = [f"--{kind}={self._folder / f'{name}-{kind}'}" for kind in ("pid", "vrrp_pid", "checkers_pid")]
        keepalived = shutil.which("keepalived", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        command = [str(keepalived), "--vrrp", "--dont-fork", "--log-console", f"--use-file={file}", *pids]
        self._start(name, command, f"{name}-keepalived.log")

    def _run(self, name: str, *command: str) -> str:
        done = subprocess.run(
            self._network.inside(name, command), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        return done.stdout

    def _ready(self, name: str) -> bool:
        return '"status"' in self._run(name, "curl", "-s", "--max-time", "1", "http://127.0.0.1:8081/ready")

    def holder(self) -> str | None:
        """Who has the address; L{None}: nobody, or both."""
        holders = [
            name
            for name in ("lb1", "lb2")
            if f"{SHARED}/" in self._run(name, "ip", "-4", "address", "show", "dev", "eth0")
        ]
        return holders[0] if len(holders) == 1 else None

    def _settled(self) -> None:
        """Waits until the address has been at one place for two seconds."""
        known, since = self.holder(), time.monotonic()
        end = since + PATIENCE
        while time.monotonic() - since < 2:
            if time.monotonic() > end:
                raise CannotMake("the address does not come to rest")
            time.sleep(0.2)
            holder = self.holder()
            if holder is None or holder != known:
                known, since = holder, time.monotonic()

    def _until(self, condition: Callable[[], bool], why: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise CannotMake(f"{why}; the logs are in {self._folder}")
            time.sleep(0.1)

    @contextlib.contextmanager
    def _asking(self, seconds: float, rate: float) -> Iterator[subprocess.Popen[bytes]]:
        url = f"http://{SHARED}:8080/"
        yield self._start(
            "client", [sys.executable, "-m", "benchmarks.ha.client", url, str(seconds), str(rate)], "asked"
        )

    def kill(self, seconds: float = 8.0, rate: float = 100.0) -> Outcome:
        """
        Kills the instance that has the address with SIGKILL, under load.

        @param seconds: how long the client asks; the kill is after a quarter of that.
        @param rate: requests per second.
        """
        holder = self.holder()
        assert holder is not None
        with self._asking(seconds, rate) as client:
            time.sleep(seconds / 4)
            self._instances[holder].send_signal(signal.SIGKILL)
            client.wait(seconds + PATIENCE)
        told: list[dict[str, Any]] = [json.loads(line) for line in (self._folder / "asked").read_text().splitlines()]
        told.sort(key=lambda one: one["at"])
        return outcome(told, self._network.address(holder))

    def _end(self) -> None:
        for process in reversed(self._running):
            if process.poll() is None:
                process.terminate()
        for process in self._running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def outcome(told: list[dict[str, Any]], killed: str) -> Outcome:
    """
    What the client's lines come to.

    @param told: in the order of C{at}.
    @param killed: the address of the instance that was killed.
    """
    lost: dict[str, int] = {}
    for one in told:
        if one["why"]:
            kind = one["why"].partition("(")[0]
            lost[kind] = lost.get(kind, 0) + 1
    before = [one["at"] for one in told if one["answer"] == killed]
    after = [one["at"] for one in told if one["answer"] and one["answer"] != killed]
    if not before or not after:
        return Outcome(len(told), lost, float("inf"), False)
    return Outcome(len(told), lost, after[0] - before[-1], after[0] > before[-1])
