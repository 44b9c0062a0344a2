"""
The programs behind lemmytx, lemmytx itself, and their settings.

Chromium, curl and git know that names below C{localhost} are this machine; pip, twine and wget ask the system, which
may not. Their vhosts therefore also have an address each, out of 127.0.0.0/8, all of which is this machine on Linux.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import Failed, Process
from benchmarks.programs.common import contents, environment, until

#: The vhosts.
JUPYTER, PYPI, GIT, FILES, FILES_AS_IT_COMES = (
    "jupyter.localhost", "pypi.localhost", "git.localhost", "files.localhost", "default.localhost",
)  # fmt: skip

#: Where lemmytx listens; the second and third are the names of vhosts, too.
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
FILES_ADDRESS, PYPI_ADDRESS = ADDRESSES[1:]

#: Seconds until a program serves. JupyterLab imports a lot, and not alone on the machine.
_START = 90.0

_NGINX = """\
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    log_format lengths '$request_method $uri $status $request_length '
                       'transfer-encoding=$http_transfer_encoding content-length=$http_content_length';
    access_log {folder}/access.log lengths;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        {rest}
    }}
}}
"""

_FILES = """
        root {root};
        default_type application/octet-stream;
        charset utf-8;
        location / {{ autoindex on; autoindex_exact_size off; }}
        location /slow/ {{ limit_rate 400k; }}
"""

_GIT = """
        location / {{
            fastcgi_pass unix:{socket};
            fastcgi_param SCRIPT_FILENAME {program};
            fastcgi_param GIT_PROJECT_ROOT {root};
            fastcgi_param GIT_HTTP_EXPORT_ALL 1;
            fastcgi_param HTTP_GIT_PROTOCOL $http_git_protocol;
            fastcgi_param PATH_INFO $uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param REMOTE_USER anyone;
            fastcgi_param REMOTE_ADDR $remote_addr;
        }}
"""


def free_port(addresses: tuple[str, ...] = ("127.0.0.1",)) -> int:
    """A port that is free on all of some addresses."""
    while True:
        probes = [socket.socket() for _ in addresses]
        try:
            port = 0
            for probe, address in zip(probes, addresses, strict=True):
                probe.bind((address, port))
                port = int(probe.getsockname()[1])
            return port
        except OSError:
            continue  # taken on one of them
        finally:
            for probe in probes:
                probe.close()


def every_core() -> str:
    """All cores, as C{taskset} reads them: nothing is measured here that would want one for itself."""
    return ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))


class Site:
    """
    Starts programs and knows where they are.

    @ivar folder: everything they write is below it.
    @ivar python: of the environment of the programs.
    @ivar port: lemmytx's, on each of L{ADDRESSES}.
    @ivar token: JupyterLab's.
    """

    def __init__(self, folder: Path, python: Path, started: list[Process]) -> None:
        """
        @param folder: an empty one.
        @param python: of the environment that holds JupyterLab and pypiserver.
        @param started: gets what is started, in this order; the caller ends it.
        """
        self.folder = folder
        self.port = free_port(ADDRESSES)
        self.token = contents(16, os.getpid()).hex()
        self.python = python
        self._started = started
        self._admin = free_port()
        self.access_log = folder / "lemmytx" / "access.log"

    def _begin(self, name: str, command: list[str | Path], **more: str) -> Process:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        process = Process(
            name, [str(word) for word in command], every_core(), home / "output.log", environment(home, **more)
        )
        self._started.append(process)
        return process

    def _serves(self, name: str, port: int, path: str = "/", status: int = 200) -> None:
        def asked() -> bool:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                link.request("GET", path)
                return link.getresponse().status == status
            except (OSError, http.client.HTTPException):
                return False  # not yet
            finally:
                link.close()

        try:
            until(f"{name} answers {status} on port {port}", _START, asked)
        except Failed as why:
            last = (self.folder / name / "output.log").read_text(errors="replace")[-1500:]
            raise Failed(f"{why}; it said: {last}") from None

    def jupyter(self) -> int:
        """JupyterLab; its port."""
        port = free_port()
        (self.folder / "jupyter" / "served").mkdir(parents=True)
        (self.folder / "jupyter" / "downloads").mkdir()
        # allow_remote_access: without it Jupyter refuses every Host but localhost and addresses of this machine.
        self._begin(
            "jupyter",
            [self.python, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
             f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}",
             f"--ServerApp.root_dir={self.folder / 'jupyter' / 'served'}", "--ServerApp.allow_remote_access=True",
             "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate"],
            JUPYTER_RUNTIME_DIR=str(self.folder / "jupyter" / "runtime"),
            IPYTHONDIR=str(self.folder / "jupyter" / "ipython"),
        )  # fmt: skip
        self._serves("jupyter", port, "/api")
        return port

    def pypi(self) -> int:
        """pypiserver, anybody may upload; its port."""
        port = free_port()
        served = self.folder / "packages"
        served.mkdir()
        program = self.python.parent / "pypi-server"
        self._begin(
            "pypi",
            [program, "run", "-p", str(port), "-i", "127.0.0.1", "-P", ".", "-a", ".", "--disable-fallback", served],
        )
        self._serves("pypi", port, "/simple/")
        return port

    def git(self) -> int:
        """nginx, fcgiwrap and C{git http-backend}; nginx's port."""
        port = free_port()
        (self.folder / "repositories").mkdir()
        socket_path = self.folder / "git.sock"
        self._begin("fcgiwrap", ["fcgiwrap", "-s", f"unix:{socket_path}"])
        until("fcgiwrap's socket", _START, socket_path.exists)
        where = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True, timeout=30)
        rest = _GIT.format(
            socket=socket_path, program=f"{where.stdout.strip()}/git-http-backend", root=self.folder / "repositories"
        )
        self._nginx("git", port, rest)
        until("nginx listens", _START, lambda: _listens(port))
        return port

    def files(self, number: int, port: int) -> Process:
        """One of the copies of nginx that serve the folder C{files}."""
        name = f"files-{number}"
        process = self._nginx(name, port, _FILES.format(root=self.folder / "files"))
        self._serves(name, port, "/files/")
        return process

    def _nginx(self, name: str, port: int, rest: str) -> Process:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        path = folder / "nginx.conf"
        # Its workers would be another user, who may not read here.
        user = "user root;" if os.geteuid() == 0 else ""
        path.write_text(_NGINX.format(folder=folder, port=port, user=user, rest=rest))
        return self._begin(name, ["nginx", "-c", path, "-p", folder, "-e", folder / "error.log"])

    def lemmytx(self, jupyter: int, pypi: int, git: int, files: list[int]) -> Process:
        """lemmytx in front of all of them, by their ports."""
        copies = [{"url": f"http://127.0.0.1:{port}", "name": f"copy{at}"} for at, port in enumerate(files)]
        configuration: dict[str, Any] = {
            "listeners": [{"endpoint": f"tcp:{self.port}:interface={address}"} for address in ADDRESSES],
            "vhosts": [
                {"hosts": [JUPYTER], "cluster": "jupyter"},
                {"hosts": [PYPI, PYPI_ADDRESS], "cluster": "pypi"},
                {"hosts": [GIT], "cluster": "git"},
                {"hosts": [FILES, FILES_ADDRESS], "cluster": "files"},
                {"hosts": [FILES_AS_IT_COMES], "cluster": "as_it_comes"},
            ],
            "clusters": {
                "jupyter": {"backends": [f"http://127.0.0.1:{jupyter}"]},
                "pypi": {"backends": [f"http://127.0.0.1:{pypi}"]},
                "git": {"backends": [f"http://127.0.0.1:{git}"]},
                "files": {"backends": copies, "retry": {"attempts": len(copies)}},
                "as_it_comes": {"backends": copies},
            },
            "admin": {"endpoint": f"tcp:{self._admin}:interface=127.0.0.1"},
            "access_log": {"format": "json", "path": str(self.access_log)},
        }
        folder = self.folder / "lemmytx"
        folder.mkdir()
        path = folder / "lemmy.yaml"
        path.write_text(json.dumps(configuration, indent=1))  # JSON is YAML
        process = self._begin("lemmytx", [Path(sys.executable).parent / "lemmy", "run", "--config", path])
        self._serves("lemmytx", self._admin, "/ready")
        return process

    def statistics(self) -> dict[str, Any]:
        """What lemmytx says of itself."""
        link = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=30)
        try:
            link.request("GET", "/stats")
            found: dict[str, Any] = json.loads(link.getresponse().read())
        finally:
            link.close()
        return found

    def answers_of_copies(self) -> dict[str, int]:
        """How many answers each copy has given so far, in both clusters."""
        total: dict[str, int] = {}
        clusters = self.statistics()["clusters"]
        for cluster in ("files", "as_it_comes"):
            for name, backend in clusters[cluster]["backends"].items():
                total[name] = total.get(name, 0) + int(backend["total_count"])
        return total

    def chromedriver(self) -> int:
        """chromedriver; its port."""
        port = free_port()
        self._begin("chromedriver", ["chromedriver", f"--port={port}"])
        self._serves("chromedriver", port, "/status")
        return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def make_files(folder: Path) -> None:
    """What nginx serves: a tree for C{wget}, one file for ranges, files for load, one for long downloads."""
    tree = folder / "files"
    names = ["plain.txt", "with space.txt", "100%.txt", "a+b&c=d.txt", "Grüße.txt", "#hash?.bin", "empty"]
    for at, place in enumerate((tree, tree / "one", tree / "one" / "two", tree / "ü b")):
        place.mkdir(parents=True)
        for seed, name in enumerate(names):
            (place / name).write_bytes(contents(0 if name == "empty" else 1 + 20_000 * seed * (at + 1), 10 * at + seed))
        for number in range(40):
            (place / f"{number:03d}.dat").write_bytes(contents(3_000 + 997 * number, 100 * at + number))
    (tree / "large.bin").write_bytes(contents(20_000_000, 7))
    for name, size in (("ranges", 5_000_000), ("slow", 3_000_000)):
        (folder / name).mkdir()
        (folder / name / "file.bin").write_bytes(contents(size, size))
    (folder / "load").mkdir()
    for number in range(20):
        (folder / "load" / f"{number}.bin").write_bytes(contents(500 + 10_000 * number, 1000 + number))


def chromium() -> str:
    """
    Where Chromium is.

    @raise Failed: nowhere.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise Failed("no chromium on the PATH: install the package chromium")
    return found
