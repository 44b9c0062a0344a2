"""
The public suite h2spec, in its strict mode, against lemmytx: over TLS and by prior knowledge. C{make h2spec}.

h2spec is a program of its own (https://github.com/summerwind/h2spec); it has to be installed. What its cases are about
is also in the project's own tests (C{tests/http2}, C{tests/wire}), which need nothing.
"""

from __future__ import annotations

import argparse
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.doors import CERTIFICATE, Door, make_certificate
from benchmarks.machine import Failed, Process, free_port, running

#: Seconds for all cases at one door. A failing one waits two seconds.
_PATIENCE = 400.0

_BODY = b"h2spec wants bodies of some length\n" * 16


class _Backend(http.server.BaseHTTPRequestHandler):
    """Answers everything."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Also POST, once its body is read."""
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
        self.send_response(200)
        self.send_header("Content-Length", str(len(_BODY)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(_BODY)

    do_HEAD = do_POST = do_OPTIONS = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class _Server(http.server.ThreadingHTTPServer):
    """One whose clients may leave in the middle: many cases are about a request that ends so."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Anything else is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _suite(program: str, port: int, door: Door) -> tuple[str, int]:
    """One run: its last line, and how many cases failed."""
    command = [program, "--strict", "--host", "127.0.0.1", "--port", str(port)]
    if door.tls:
        command += ["--tls", "--insecure"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    counted = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", ran.stdout)
    if counted is None:
        raise Failed(f"h2spec came to no end: {(ran.stdout + ran.stderr)[-500:]}")
    failed = int(counted[4])
    if failed:
        print(ran.stdout[ran.stdout.find("Failures:") :])
    return counted[0], failed


def _wait(port: int, door: Door) -> None:
    """Until lemmytx accepts connections there."""
    for _ in range(200):
        try:
            door.connect(port, 2.0).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise Failed("lemmytx does not answer")


def main() -> int:
    """0: all cases pass at both doors."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.h2spec", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--program", default=shutil.which("h2spec"), help="h2spec (default: from the PATH)")
    arguments = parser.parse_args()
    if arguments.program is None:
        print("h2spec is not installed; its releases: https://github.com/summerwind/h2spec/releases", file=sys.stderr)
        return 2
    backend = _Server(("127.0.0.1", 0), _Backend)
    threading.Thread(target=backend.serve_forever, daemon=True).start()
    doors = {"prior knowledge": (free_port(), Door(http2=True)), "TLS": (free_port(), Door(tls=True, http2=True))}
    failures = 0
    try:
        with tempfile.TemporaryDirectory(prefix="lemmytx-h2spec-") as name, running([]) as started:
            folder = Path(name)
            make_certificate(folder)
            configuration = {
                "listeners": [
                    {
                        "endpoint": f"tcp:{port}:interface=127.0.0.1",
                        "http2": True,
                        "tls": {"certificates": [str(folder / CERTIFICATE)]} if door.tls else None,
                    }
                    for port, door in doors.values()
                ],
                "vhosts": [{"hosts": ["*"], "cluster": "backend"}],
                "clusters": {"backend": {"backends": [f"http://127.0.0.1:{backend.server_port}"]}},
                "admin": {"endpoint": f"unix:{folder}/admin"},
                "access_log": {"format": "off"},
            }
            (folder / "lemmy.yaml").write_text(json.dumps(configuration))  # JSON is YAML
            lemmy = Path(sys.executable).parent / "lemmy"
            started.append(
                Process("lemmytx", [str(lemmy), "run", "--config", str(folder / "lemmy.yaml")], "0", folder / "log")
            )
            for where, (port, door) in doors.items():
                _wait(port, door)
                said, failed = _suite(arguments.program, port, door)
                failures += failed
                print(f"{where}: {said}")
    except Failed as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        backend.shutdown()
        backend.server_close()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
