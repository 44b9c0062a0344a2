"""
What the live table costs: C{python -m benchmarks.table}, C{make table}.

  - 10,000 vhosts with 10 backends each, in a file and in Redis (L{benchmarks.table.scale}): the first load, a look with
    nothing changed, 100 changed backends, memory.
  - CPU per request with Redis on, compared to the same vhost in the configuration's file: two proxies, one after the
    other, again and again, behind one wrk.
  - Commands that Redis gets in a second, idle and under load.

It fails when a figure is beyond its goal (L{GOALS}). All of it takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.load import wrk
from benchmarks.machine import Failed, Process, cores, free_port, pin_self, running

#: The most that each may be, by what L{benchmarks.table.scale} calls it.
GOALS = {
    ("first_load", "seconds"): 3.0,
    ("refresh_unchanged", "cpu"): 0.5,
    ("refresh_unchanged", "held_ms"): 5.0,
    ("change_100_backends", "seconds"): 0.2,
    ("memory_mb", ""): 200.0,
}

#: More CPU per request with Redis than without.
MORE = 0.05

_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_timeout 60; keepalive_requests 1000000;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 'fine'; }} }} }}
"""

_HOST = "bench.example"


class Redis:
    """A redis-server on loopback."""

    def __init__(self, folder: Path, core: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self.process = Process("redis-server", command, core, folder / "redis")
        end = time.monotonic() + 10
        while True:
            try:
                self.ask("PING")
                return
            except OSError:
                if time.monotonic() > end:
                    raise Failed("redis-server takes no connections") from None
                time.sleep(0.02)

    def ask(self, *words: str) -> bytes:
        """The reply, as it comes; short ones only."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as link:
            parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
            link.sendall("".join(parts).encode())
            return link.recv(65536)

    def commands(self) -> int:
        """How many it has processed."""
        for line in self.ask("INFO", "stats").splitlines():
            if line.startswith(b"total_commands_processed:"):
                return int(line.partition(b":")[2])
        raise Failed("redis-server does not count its commands")


def scale(kind: str, where: str, folder: Path) -> dict[str, Any]:
    """What L{benchmarks.table.scale} says."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.table.scale", kind, where],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if ran.returncode:
        raise Failed(f"the scale of {kind}: {ran.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


class Proxy:
    """One in front of the backend."""

    def __init__(self, folder: Path, core: str, settings: dict[str, Any]) -> None:
        folder.mkdir()
        self.port, admin = free_port(), free_port()
        path = folder / "lemmy.yaml"
        listener = {"endpoint": f"tcp:{self.port}:interface=127.0.0.1"}
        whole = {
            "listeners": [listener],
            "admin": {"endpoint": f"tcp:{admin}:interface=127.0.0.1"},
            "access_log": {"format": "off"},
            **settings,
        }
        path.write_text(json.dumps(whole))  # JSON is YAML
        command = [str(Path(sys.executable).parent / "lemmy"), "run", "--config", str(path)]
        self.process = Process("lemmytx", command, core, folder / "output", {"XDG_STATE_HOME": str(folder)})
        self.process.wait_until_serving(admin, _ready)

    def burst(self, core: str, seconds: float) -> float:
        """Microseconds of CPU per request."""
        before = self.process.cpu()
        burst = wrk(self.port, core, "/", 32, seconds)
        if burst.failed or not burst.requests:
            raise Failed(f"{burst.failed} requests failed, {burst.requests} did not")
        return (self.process.cpu() - before) / burst.requests * 1e6


def _ready(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
        return f"HTTP/1.1 {answer.status}"


def requests(folder: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """CPU per request, and commands per second."""
    own, rest = cores()
    pin_self(rest)
    with running([]) as processes:
        port = free_port()
        (folder / "nginx").mkdir()
        file = folder / "nginx" / "conf"
        file.write_text(_NGINX.format(folder=folder / "nginx", port=port))
        nginx = Process("nginx", ["nginx", "-c", str(file)], rest, folder / "nginx" / "output")
        processes.append(nginx)
        nginx.wait_until_serving(port)
        redis = Redis(folder, rest)
        processes.append(redis.process)
        redis.ask("SADD", "lemmy:vhosts", _HOST)
        redis.ask("ZADD", f"lemmy:backends:{_HOST}", "0", f"127.0.0.1:{port}")
        url = f"http://127.0.0.1:{port}"
        vhosts = {"vhosts": [{"hosts": [_HOST], "cluster": "c"}], "clusters": {"c": {"backends": [url]}}}
        store = {"vhosts": [], "clusters": {}, "store": {"type": "redis", "url": redis.url}}
        off, on = Proxy(folder / "off", own, vhosts), Proxy(folder / "on", own, store)
        processes += [off.process, on.process]
        for proxy in (off, on):
            proxy.burst(rest, 1)
        without, with_redis, busy = [], [], []
        for number in range(2 * rounds):
            # Each is the first of the two as often as the other.
            if number % 4 in (0, 3):
                without.append(off.burst(rest, seconds))
            else:
                before, began = redis.commands(), time.monotonic()
                with_redis.append(on.burst(rest, seconds))
                busy.append((redis.commands() - before - 1) / (time.monotonic() - began))
        before, began = redis.commands(), time.monotonic()
        time.sleep(6)
        idle = (redis.commands() - before - 1) / (time.monotonic() - began)
    pairs = [there / here - 1 for here, there in zip(without, with_redis, strict=True)]
    return {
        "cpu_us_per_request_file": round(statistics.median(without), 1),
        "cpu_us_per_request_redis": round(statistics.median(with_redis), 1),
        "more": round(statistics.median(pairs), 3),
        "redis_commands_per_sec_idle": round(idle, 1),
        "redis_commands_per_sec_loaded": round(statistics.median(busy), 1),
    }


def main() -> int:
    """All of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="pairs of bursts")
    parser.add_argument("--seconds", type=float, default=2, help="of a burst")
    options = parser.parse_args()
    wrong = []
    with tempfile.TemporaryDirectory(prefix="lemmytx-table-") as name:
        folder = Path(name)
        for kind in ("file", "redis"):
            (folder / kind).mkdir()
            with running([]) as processes:
                where = str(folder / kind / "table.db")
                if kind == "redis":
                    redis = Redis(folder / kind, cores()[1])
                    processes.append(redis.process)
                    where = redis.url
                said = scale(kind, where, folder / kind)
            print(json.dumps(said, indent=1), flush=True)
            for (what, part), goal in GOALS.items():
                found = said[what][part] if part else said[what]
                if found > goal:
                    wrong.append(f"{kind}: {what} {part}: {found}, and {goal} is the goal")
        (folder / "requests").mkdir()
        found = requests(folder / "requests", options.rounds, options.seconds)
        print(json.dumps(found, indent=1))
        if found["more"] > MORE:
            wrong.append(f"CPU per request with Redis: {found['more']:+.1%}, and {MORE:+.0%} is the goal")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
