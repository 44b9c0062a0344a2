"""
The proxies that are compared, the backend behind them, and the settings each is given.

All of them: one process on one core, keep-alive to clients and to the backend, no access log. The peers do the least a
proxy can do (no request ids, no forwarding fields, no statistics); lemmytx runs as it comes, with all of those on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.doors import CERTIFICATE, PLAIN, Door
from benchmarks.machine import Process, free_port

#: The small answer, 31 bytes.
ANSWER = b"Hello from the backend, world!\n"

#: Connections that a proxy must be able to hold, with some to spare over the idle case's 10,000.
CONNECTIONS = 12_000

_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    {rest}
}}
"""

_ORIGIN = """
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        default_type application/octet-stream;
        location = / {{ default_type text/plain; return 200 "{answer}"; }}
        location / {{ root {root}; }}
    }}
"""

# Without the last two settings nginx would spool bodies that the other side does not take at once to disk, which is
# neither what the others do nor to its advantage here.
_NGINX_PROXY = """
    upstream backend {{
        server 127.0.0.1:{backend};
        keepalive {spare};
        keepalive_requests 1000000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen 127.0.0.1:{port}{door} backlog=4096;
        {tls}
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_max_temp_file_size 0;
            proxy_request_buffering off;
            {buffers}
        }}
    }}
"""

# TLS 1.3 has to be asked for: 1.22 does not have it among its own.
_NGINX_TLS = "ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {file}; ssl_certificate_key {file};"

# How many connections to the backend are kept when they are idle. Over HTTP/2 800 requests are under way at once, and
# with 256 nginx would open two connections in three anew.
_SPARE, _SPARE_HTTP2 = 256, 1024

# With its own buffers, 8 of 4 kB, nginx moves large bodies in small pieces; these make it as good at that as it can be.
_LARGE_BUFFERS = "proxy_buffers 16 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 256k;"

_HAPROXY = """\
global
    nbthread 1
    maxconn {connections}
    no strict-limits
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
frontend bench
    bind 127.0.0.1:{port}{door} backlog 4096
    default_backend backend
backend backend
    server one 127.0.0.1:{backend}
"""

_CADDY = """\
{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
}}
:{port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{backend} {{
        transport http {{
            keepalive_idle_conns_per_host 256
        }}
    }}
}}
"""


Command = Callable[[Path, int, int, Door], list[str]]


@dataclass(frozen=True)
class Peer:
    """
    One proxy of the comparison.

    @ivar name: how tables call it.
    @ivar program: what must be on the PATH, or an absolute path.
    @ivar command: writes its configuration into a folder of its own and gives the command line, from that folder,
        the port to listen on, the backend's port and the door. The certificate lies beside the folder.
    @ivar package: the Debian package that brings the program.
    @ivar environment: what it wants set.
    @ivar asks_version: arguments that make the program print its version.
    """

    name: str
    program: str
    command: Command
    package: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    asks_version: tuple[str, ...] = ("--version",)

    def start(self, folder: Path, core: str, port: int, backend: int, door: Door = PLAIN) -> Process:
        """Start it on a core; the folder must exist and be its own."""
        environment = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        return Process(
            self.name,
            self.command(folder, port, backend, door),
            core,
            folder / "output.log",
            {**environment, **self.environment},
        )

    def version(self) -> str:
        """What it calls itself, one line."""
        asked = subprocess.run(
            [self.program, *self.asks_version], capture_output=True, text=True, check=False, timeout=30
        )
        return (asked.stdout or asked.stderr).strip().partition("\n")[0]


def _lemmytx(access_log: str, workers: int = 1) -> Command:
    def command(folder: Path, port: int, backend: int, door: Door) -> list[str]:
        listener: dict[str, object] = {"endpoint": f"tcp:{port}:backlog=4096:interface=127.0.0.1"}
        if door.tls:
            listener["tls"] = {"certificates": [str(folder.parent / CERTIFICATE)]}
        if door != PLAIN:
            listener["http2"] = door.http2
        configuration = {
            "listeners": [listener],
            "vhosts": [{"hosts": ["*"], "cluster": "backend"}],
            "clusters": {"backend": {"backends": [f"http://127.0.0.1:{backend}"]}},
            "admin": {"endpoint": f"tcp:{free_port()}:interface=127.0.0.1"},
            "access_log": {"path": str(folder / "access.log"), "format": access_log},
            "limits": {"connections": CONNECTIONS},
            "timeouts": {"keepalive": 3600},
            "workers": workers,
        }
        path = folder / "lemmy.yaml"
        path.write_text(json.dumps(configuration, indent=1))  # JSON is YAML
        return [str(_beside_python("lemmy")), "run", "--config", str(path)]

    return command


def _beside_python(script: str) -> Path:
    return Path(sys.executable).parent / script


def _nginx(buffers: str = "") -> Command:
    def command(folder: Path, port: int, backend: int, door: Door) -> list[str]:
        settings = _NGINX_PROXY.format(
            port=port,
            door=door.nginx,
            tls=_NGINX_TLS.format(file=folder.parent / CERTIFICATE) if door.tls else "",
            backend=backend,
            spare=_SPARE_HTTP2 if door.http2 else _SPARE,
            buffers=buffers,
        )
        return _nginx_command(folder, settings)

    return command


def _nginx_command(folder: Path, settings: str) -> list[str]:
    path = folder / "nginx.conf"
    path.write_text(_NGINX.format(folder=folder, rest=settings))
    return ["nginx", "-c", str(path), "-p", str(folder), "-e", str(folder / "error.log")]


def _haproxy(folder: Path, port: int, backend: int, door: Door) -> list[str]:
    path = folder / "haproxy.cfg"
    bind = door.haproxy(folder.parent / CERTIFICATE)
    path.write_text(_HAPROXY.format(port=port, door=bind, backend=backend, connections=CONNECTIONS))
    return ["haproxy", "-q", "-db", "-f", str(path)]


def _caddy(folder: Path, port: int, backend: int, door: Door) -> list[str]:
    assert door == PLAIN
    path = folder / "Caddyfile"
    path.write_text(_CADDY.format(port=port, backend=backend))
    return ["caddy", "run", "--config", str(path), "--adapter", "caddyfile"]


def _twisted_web(folder: Path, port: int, backend: int, door: Door) -> list[str]:
    assert door == PLAIN
    return [sys.executable, "-m", "benchmarks.twisted_web", str(port), str(backend)]


_LEMMY = str(_beside_python("lemmy"))

#: In the order of the tables. nginx is what the others are divided by.
PEERS = {
    peer.name: peer
    for peer in (
        Peer("lemmytx", _LEMMY, _lemmytx("off")),
        Peer("lemmytx, pure twin", _LEMMY, _lemmytx("off"), environment={"LEMMYTX_PURE": "1"}),
        Peer("lemmytx, JSON access log", _LEMMY, _lemmytx("json")),
        Peer("lemmytx, 2 workers", _LEMMY, _lemmytx("off", 2)),
        Peer("nginx", "nginx", _nginx(), "nginx-light", asks_version=("-v",)),
        Peer("nginx, 64 kB buffers", "nginx", _nginx(_LARGE_BUFFERS), "nginx-light", asks_version=("-v",)),
        Peer("HAProxy", "haproxy", _haproxy, "haproxy", asks_version=("-v",)),
        Peer("Caddy", "caddy", _caddy, "caddy", {"GOMAXPROCS": "1"}, asks_version=("version",)),
        Peer("twisted.web", str(_beside_python("twistd")), _twisted_web),
    )
}


def start_origin(folder: Path, core: str, port: int) -> Process:
    """The backend: nginx with the small answer at C{/} and the files of C{folder/files}."""
    settings = _ORIGIN.format(port=port, root=folder / "files", answer=ANSWER.decode().replace("\n", "\\n"))
    return Process("backend", _nginx_command(folder, settings), core, folder / "output.log")


def missing(programs: Iterable[tuple[str, str]], install: bool) -> list[str]:
    """
    Which programs are not there, after an attempt to install them with apt-get where that is allowed and possible.

    @param programs: pairs of a program and the Debian package that brings it (empty: none does).
    """
    wanted = list(programs)
    packages = sorted({package for program, package in wanted if package and not shutil.which(program)})
    if packages and install and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {', '.join(packages)} with apt-get", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], env=environment, check=False, stdout=subprocess.DEVNULL)
    return [program for program, _ in wanted if not shutil.which(program)]
