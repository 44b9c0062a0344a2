"""
What health checks cost: C{python -m benchmarks.checks}.

A proxy has 1,000 backends that are each checked every 5 seconds, and does nothing else. They are a thousand addresses
of loopback (127.1.0.1 and on) with one nginx behind them, so each check makes a connection of its own. Measured is the
proxy's user and system time, and what is left of it when an idle proxy's is taken off is divided by the checks that its
own statistics count. It fails when the share of a core that the checks C{http} take is above L{GOAL}.

Besides: the same with backends that nobody listens at, with backends that take connections and say nothing, and how
late the checks of well backends are while all those others hang.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.machine import Process, cores, free_port, pin_self, running

#: What the checks may take of a core.
GOAL = 0.15

BACKENDS = 1000
INTERVAL = 5.0

_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_timeout 60;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 0.0.0.0:{port} backlog=4096; location / {{ return 200 'fine'; }} }} }}
"""

#: What is measured, by name: the settings of the check, and which of the servers is behind the addresses.
CASES: tuple[tuple[str, dict[str, Any] | None, str], ...] = (
    ("no checks", None, "nginx"),
    ("http", {"type": "http", "path": "/health"}, "nginx"),
    ("http, looks at the body", {"type": "http", "expect": {"body": "^fine$"}}, "nginx"),
    ("tcp", {"type": "tcp"}, "nginx"),
    ("http, nobody listens", {"type": "http"}, "nobody"),
    ("http, all hang", {"type": "http"}, "silent"),
)


def address(number: int) -> str:
    """One of many addresses of this machine."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


class Proxy:
    """One that is being measured."""

    def __init__(self, folder: Path, core: str, groups: list[tuple[dict[str, Any] | None, int, int]]) -> None:
        """
        @param groups: clusters: the settings of their checks, a port, and how many backends are there.
        """
        port, self.admin = free_port(), free_port()
        clusters = {}
        for number, (check, where, count) in enumerate(groups):
            cluster: dict[str, Any] = {"backends": [f"http://{address(each)}:{where}" for each in range(count)]}
            if check is not None:
                cluster["health_check"] = {"interval": INTERVAL, "timeout": 1, **check}
            clusters[f"c{number}"] = cluster
        configuration = {
            "listeners": [{"endpoint": f"tcp:{port}:interface=127.0.0.1"}],
            "vhosts": [{"hosts": ["*"], "cluster": "c0"}],
            "clusters": clusters,
            "admin": {"endpoint": f"tcp:{self.admin}:interface=127.0.0.1"},
            "access_log": {"format": "off"},
        }
        path = folder / "lemmy.yaml"
        path.write_text(json.dumps(configuration))  # JSON is YAML
        command = [str(Path(sys.executable).parent / "lemmy"), "run", "--config", str(path)]
        self.process = Process("lemmytx", command, core, folder / "output")
        self.process.wait_until_serving(self.admin, self._ready)

    def _ready(self, port: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return f"HTTP/1.1 {answer.status}"

    def checks(self, cluster: str = "c0") -> tuple[int, int, list[str]]:
        """How many checks have passed and failed, and the last reasons."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/stats", timeout=20) as answer:
            backends = json.load(answer)["clusters"][cluster]["backends"].values()
        counts = [backend.get("checks", {}) for backend in backends]
        return (
            sum(count.get("passed", 0) for count in counts),
            sum(count.get("failed", 0) for count in counts),
            sorted({backend.get("health_reason", "") for backend in backends}),
        )


class Silent:
    """Takes connections, as the kernel does for whoever listens, and says nothing."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("0.0.0.0", 0))  # loopback has many addresses
        self._socket.listen(4096)
        self.port = self._socket.getsockname()[1]
        self._socket.setblocking(False)

    def drain(self) -> None:
        """Take those whose check is over from the queue."""
        while True:
            try:
                self._socket.accept()[0].close()
            except BlockingIOError:
                return

    def close(self) -> None:
        """The end."""
        self._socket.close()


def _wait(seconds: float, silent: Silent) -> None:
    """Let time pass. What hangs does so for longer than the timeout of a check, and not for ever."""
    end = time.monotonic() + seconds
    last = time.monotonic()
    while time.monotonic() < end:
        time.sleep(0.1)
        if time.monotonic() - last > 2.5:
            silent.drain()
            last = time.monotonic()


def measure(
    seconds: float, core: str, ports: dict[str, int], silent: Silent, check: dict[str, Any] | None, where: str
) -> tuple[float, float, int, int]:
    """
    One case.

    @return: seconds of CPU in each second; seconds that this was measured; checks that passed and failed meanwhile.
    """
    with tempfile.TemporaryDirectory() as folder, running([]) as processes:
        proxy = Proxy(Path(folder), core, [(check, ports[where], BACKENDS)])
        processes.append(proxy.process)
        _wait(INTERVAL + 2, silent)  # the first round
        passed, failed, _ = proxy.checks()
        began, used = time.monotonic(), proxy.process.cpu()
        _wait(seconds, silent)
        used = proxy.process.cpu() - used
        took = time.monotonic() - began
        again = proxy.checks()
        return used / took, took, again[0] - passed, again[1] - failed


def late(seconds: float, core: str, ports: dict[str, int], silent: Silent) -> tuple[float, float, int]:
    """
    Ten backends that are well beside a thousand that hang.

    @return: how many of their checks there were, and should have been; how many of them failed.
    """
    with tempfile.TemporaryDirectory() as folder, running([]) as processes:
        well = {"type": "http", "interval": 1.0, "timeout": 0.5}
        proxy = Proxy(Path(folder), core, [(well, ports["nginx"], 10), ({"type": "http"}, ports["silent"], BACKENDS)])
        processes.append(proxy.process)
        _wait(INTERVAL, silent)
        passed, failed, _ = proxy.checks()
        began = time.monotonic()
        _wait(seconds, silent)
        again = proxy.checks()
        return again[0] - passed, (time.monotonic() - began) * 10, again[1] - failed


def main() -> int:
    """
    @return: 0 when the goal is met.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each case is measured")
    options = parser.parse_args()
    proxy_core, other_core = cores()
    pin_self(other_core)
    silent = Silent()
    ports = {"silent": silent.port, "nobody": free_port(), "nginx": free_port()}
    met = True
    with tempfile.TemporaryDirectory() as name, running([]) as processes:
        folder = Path(name)
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=ports["nginx"]))
        command = ["nginx", "-c", str(config), "-p", name, "-e", f"{name}/errors"]
        nginx = Process("nginx", command, other_core, folder / "output")
        processes.append(nginx)
        nginx.wait_until_serving(ports["nginx"])
        print(f"{BACKENDS} backends, each checked every {INTERVAL:g} s; {options.seconds:g} s each")
        print(f"{'':26}  share of a core   µs per check   checks/s   failed")
        idle = 0.0
        for case, check, where in CASES:
            share, took, passed, failed = measure(options.seconds, proxy_core, ports, silent, check, where)
            rate = (passed + failed) / took
            if check is None:
                idle = share
            each = f"{(share - idle) / rate * 1e6:12.0f}" if rate else f"{'-':>12}"
            print(f"{case:26}  {share:13.1%}  {each}  {rate:10.0f}  {failed:7}", flush=True)
            if case == "http":
                met = share - idle < GOAL and not failed and rate > 0.9 * BACKENDS / INTERVAL
        done, wanted, failed = late(options.seconds, proxy_core, ports, silent)
        print(f"10 well ones beside {BACKENDS} that hang: {done:.0f} checks of {wanted:.0f} due, {failed} failed")
    silent.close()
    print(f"goal, {GOAL:.0%} of a core for http: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
