"""
Who is compared: the schedulers of lemmytx, and HAProxy and nginx with theirs.

All of them know the same of their backends and look at them as often as they can: a health check every half second
(nginx has none in its free version, and goes by the requests that fail), up to three attempts for a request, also when
the answer was a 503; a backend that failed three times is left alone for two seconds where the proxy has such a thing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import Process, free_port

#: Seconds over which a backend that comes back gets its full share.
SLOW_START = 5

_HAPROXY = """\
global
    nbthread 1
    maxconn 8000
    no strict-limits
defaults
    mode http
    option http-keep-alive
    option redispatch 1
    retries 2
    retry-on conn-failure empty-response response-timeout 502 503 504
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    timeout http-keep-alive 60s
    default-server check inter 500ms fastinter 250ms fall 2 rise 2 slowstart {slow}s{server}
frontend balance
    bind 127.0.0.1:{port} backlog 4096
    default_backend backends
backend backends
    balance {rule}
    option httpchk GET /health
"""

_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream backends {{
        {rule}
{servers}
        keepalive 256;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://backends;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_connect_timeout 1s;
            proxy_next_upstream error timeout http_502 http_503 http_504;
            proxy_next_upstream_tries 3;
        }}
    }}
}}
"""

#: From a folder of its own, the port to listen on and the ports of the backends to the command line.
Command = Callable[[Path, int, Sequence[int]], list[str]]


@dataclass(frozen=True)
class Subject:
    """
    One proxy with one rule.

    @ivar name: in tables.
    @ivar family: C{lemmytx}, C{HAProxy} or C{nginx}.
    @ivar program: what has to be there.
    @ivar command: writes its configuration and gives the command line.
    @ivar package: the Debian package that brings it.
    @ivar only: the one scenario that it is for; empty: all.
    """

    name: str
    family: str
    program: str
    command: Command = field(repr=False)
    package: str = ""
    only: str = ""

    def start(self, folder: Path, core: str, port: int, backends: Sequence[int]) -> Process:
        """Start it; the folder must exist and be its own."""
        return Process(self.name, self.command(folder, port, backends), core, folder / "proxy.log")


_LEMMY = str(Path(sys.executable).parent / "lemmy")


def _lemmytx(name: str, scheduler: str | dict[str, Any], capacity: int = 0, slow_start: int = SLOW_START) -> Subject:
    def command(folder: Path, port: int, backends: Sequence[int]) -> list[str]:
        servers = [
            {"url": f"http://127.0.0.1:{own}", "name": letter, "capacity": capacity}
            for letter, own in zip("abcde", backends, strict=True)
        ]
        configuration = {
            "listeners": [{"endpoint": f"tcp:{port}:backlog=4096:interface=127.0.0.1"}],
            "vhosts": [{"hosts": ["*"], "cluster": "backends"}],
            "clusters": {
                "backends": {
                    "backends": servers,
                    "scheduler": scheduler,
                    "retry": {"attempts": 3, "budget_at_least": 50, "on": ["reset", 502, 503, 504]},
                    "timeouts": {"connect": 1},
                    "backend_retry_interval": 2,
                    "slow_start": slow_start,
                    "health_check": {
                        "type": "http", "path": "/health", "interval": 0.5, "fast_interval": 0.25, "rise": 2, "fall": 2,
                    },
                }
            },
            "admin": {"endpoint": f"tcp:{free_port()}:interface=127.0.0.1"},
            "access_log": {"format": "json", "path": str(folder / "access.log")},
        }  # fmt: skip
        path = folder / "lemmy.yaml"
        path.write_text(json.dumps(configuration, indent=1))  # JSON is YAML
        return [_LEMMY, "run", "--config", str(path)]

    return Subject(f"lemmytx {name}", "lemmytx", _LEMMY, command, only="" if slow_start else "cold")


def _haproxy(rule: str, server: str = "") -> Subject:
    def command(folder: Path, port: int, backends: Sequence[int]) -> list[str]:
        text = _HAPROXY.format(slow=SLOW_START, port=port, rule=rule, server=server)
        text += "".join(f"    server {letter} 127.0.0.1:{own}\n" for letter, own in zip("abcde", backends, strict=True))
        path = folder / "haproxy.cfg"
        path.write_text(text)
        return ["haproxy", "-q", "-db", "-f", str(path)]

    return Subject(f"HAProxy {rule}", "HAProxy", "haproxy", command, "haproxy")


def _nginx(name: str, rule: str) -> Subject:
    def command(folder: Path, port: int, backends: Sequence[int]) -> list[str]:
        servers = "\n".join(f"        server 127.0.0.1:{own} max_fails=3 fail_timeout=2s;" for own in backends)
        path = folder / "nginx.conf"
        path.write_text(_NGINX.format(folder=folder, port=port, rule=rule, servers=servers))
        return ["nginx", "-c", str(path), "-p", str(folder), "-e", str(folder / "error.log")]

    return Subject(f"nginx {name}", "nginx", "nginx", command, "nginx-light")


#: `least_load` and `first` go by what a backend can take: twice as much as it works on at one time.
_CAPACITY = 8

#: In the order of the tables.
SUBJECTS = {
    subject.name: subject
    for subject in (
        _lemmytx("round_robin", "round_robin"),
        _lemmytx("least_connections", "least_connections"),
        _lemmytx("lemmy", {"name": "lemmy", "round_robin_after": 100}),
        _lemmytx("least_load", "least_load", _CAPACITY),
        _lemmytx("first", "first", _CAPACITY),
        _lemmytx("random", "random"),
        _lemmytx("two_choices", "two_choices"),
        _lemmytx("ip_hash", "ip_hash"),
        _lemmytx("hash", {"name": "hash", "by": "path", "balance_factor": 150}),
        _lemmytx("response_time", "response_time"),
        _lemmytx("reported_load", "reported_load"),
        _lemmytx("round_robin, no slow start", "round_robin", slow_start=0),
        _lemmytx("least_connections, no slow start", "least_connections", slow_start=0),
        _haproxy("leastconn"),
        _haproxy("roundrobin"),
        _haproxy("random(2)"),
        _nginx("round robin", ""),
        _nginx("least_conn", "least_conn;"),
    )
}

#: Of a quick run.
QUICK = (
    "lemmytx round_robin",
    "lemmytx least_connections",
    "lemmytx response_time",
    "HAProxy leastconn",
    "nginx least_conn",
)
