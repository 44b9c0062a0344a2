"""
A browser, curl, openssl and h2load at one lemmytx that speaks HTTPS and HTTP/2, with php-fpm (FastCGI over TCP and over
a unix socket) and a Python program behind it: C{python -m benchmarks.programs.https}, a part of C{make programs}.

Headless Chromium, which trusts the run's own certificate authority and checks what it is shown, loads a page from PHP
with images of both backends, uploads to PHP and has a WebSocket to the Python backend. Everything is on loopback, on
ports that the system chose, in a temporary folder, and gone at the end.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cases import forget
from benchmarks.machine import Failed, Process, describe, free_port, running
from benchmarks.peers import missing
from benchmarks.programs import https_pages
from benchmarks.programs.common import Finding, command, environment, until
from benchmarks.programs.site import chromium, every_core
from benchmarks.programs.webdriver import Browser

#: Names below C{localhost} are this machine for Chromium and curl.
HOST = "shop.localhost"

#: Bytes of the upload.
_SIZE = 5_000_000

_START = 30.0

_NEEDED = (
    ("curl", "curl"), ("openssl", "openssl"), ("h2load", "nghttp2-client"),
    ("certutil", "libnss3-tools"), ("chromium", "chromium"), ("chromedriver", "chromium-driver"),
    ("taskset", "util-linux"),
)  # fmt: skip

_PHP = """\
[global]
daemonize = no
error_log = {folder}/php.log
[tcp]
listen = 127.0.0.1:{port}
{pool}
[unix]
listen = {folder}/php.sock
{pool}
"""

_POOL = "pm = static\npm.max_children = 4\ncatch_workers_output = yes\nphp_admin_value[post_max_size] = 0"


class Place:
    """
    The programs and where they are.

    @ivar folder: everything they write is below it.
    @ivar port: of HTTPS.
    @ivar plain: of HTTP, which redirects.
    """

    def __init__(self, folder: Path, python: Path, started: list[Process]) -> None:
        """
        @param folder: an empty one.
        @param python: of an environment with the C{websockets} package.
        @param started: gets what is started; the caller ends it.
        """
        self.folder = folder
        self.port, self.plain, self.admin = free_port(), free_port(), free_port()
        self._python = python
        self._started = started

    def begin(self, name: str, words: list[str | Path]) -> Process:
        """Start a program in a home of its own."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        process = Process(name, [str(word) for word in words], every_core(), home / "output.log", environment(home))
        self._started.append(process)
        return process

    def php(self) -> tuple[int, Path]:
        """php-fpm; its port and its socket."""
        home, port = self.folder / "php", free_port()
        home.mkdir()
        (home / "php.conf").write_text(_PHP.format(folder=home, port=port, pool=_POOL))
        https_pages.write_scripts(self.folder / "pages", _SIZE)
        # As root it wants to be told that this is meant (-R); otherwise every worker would need a user.
        self.begin("php", [_php_fpm(), "-F", *(["-R"] if os.geteuid() == 0 else []), "-n", "-y", home / "php.conf"])
        until("php-fpm's socket", _START, (home / "php.sock").exists)
        return port, home / "php.sock"

    def pages(self) -> int:
        """The Python backend; its port."""
        port = free_port()
        self.begin("python", [self._python, "-m", "benchmarks.programs.https_pages", str(port)])
        self._started[-1].wait_until_serving(port, _any_answer)
        return port

    def certificate(self) -> None:
        """An authority, and a certificate of its for L{HOST}; and a browser's home where that authority is trusted."""
        made = self.folder / "certificates"
        made.mkdir()
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        openssl: list[str | Path] = ["openssl", "req", "-x509", *key]
        command(
            [*openssl, "-subj", "/CN=The run's authority", "-keyout", "ca.key", "-out", "ca.pem",
             "-addext", "keyUsage=critical,keyCertSign"], made,
        )  # fmt: skip
        command(
            [*openssl, "-subj", f"/CN={HOST}", "-keyout", "key.pem", "-out", "chain.pem", "-CA", "ca.pem", "-CAkey",
             "ca.key", "-addext", f"subjectAltName=DNS:{HOST}", "-addext", "basicConstraints=critical,CA:FALSE"], made,
        )  # fmt: skip
        (made / "site.pem").write_bytes((made / "chain.pem").read_bytes() + (made / "key.pem").read_bytes())
        trust = self.folder / "chromedriver" / ".pki" / "nssdb"
        trust.mkdir(parents=True)
        command(["certutil", "-d", f"sql:{trust}", "-N", "--empty-password"], made)
        command(["certutil", "-d", f"sql:{trust}", "-A", "-t", "C,,", "-n", "run", "-i", "ca.pem"], made)

    def lemmytx(self, php: tuple[int, Path], pages: int) -> Process:
        """lemmytx in front of both."""
        certificates = self.folder / "certificates"
        configuration: dict[str, Any] = {
            "listeners": [
                {
                    "endpoint": f"tcp:{self.port}:interface=127.0.0.1",
                    "tls": {"certificates": [str(certificates / "site.pem")], "hsts": {"max_age": "1h"}},
                    "http2": True,
                },
                {"endpoint": f"tcp:{self.plain}:interface=127.0.0.1", "redirect_https": self.port},
            ],
            "vhosts": [
                {
                    "hosts": [HOST],
                    "routes": [
                        {"path": "/app/*", "cluster": "python"},
                        {"path": "/socket", "cluster": "python"},
                        {"cluster": "php"},
                    ],
                }
            ],
            "clusters": {
                "php": {
                    "scheduler": "round_robin",
                    "backends": [f"fcgi://127.0.0.1:{php[0]}", f"fcgi+unix://{php[1]}"],
                    "fastcgi": {"root": str(self.folder / "pages")},
                    # A worker of php-fpm belongs to one connection, idle or not. With more requests at once than there
                    # are workers, and no capacity that says so, none is to be kept.
                    "pool": {"idle": 0},
                },
                "python": {"backends": [f"http://127.0.0.1:{pages}"]},
            },
            "admin": {"endpoint": f"tcp:{self.admin}:interface=127.0.0.1"},
            "access_log": {"format": "json", "path": str(self.folder / "access.log")},
        }
        path = self.folder / "lemmy.yaml"
        path.write_text(json.dumps(configuration, indent=1))  # JSON is YAML
        process = self.begin("lemmytx", [Path(sys.executable).parent / "lemmy", "run", "--config", path])
        process.wait_until_serving(self.admin, lambda port: _status(port, "/ready"))
        return process

    def chromedriver(self) -> int:
        """chromedriver; its port."""
        port = free_port()
        self.begin("chromedriver", ["chromedriver", f"--port={port}"]).wait_until_serving(
            port, lambda port: _status(port, "/status")
        )
        return port

    @property
    def url(self) -> str:
        """Of the page."""
        return f"https://{HOST}:{self.port}/"


def _php_fpm() -> str:
    """
    Where php-fpm is; Debian has its version in its name.

    @raise Failed: nowhere.
    """
    for folder in (*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin"):
        found = sorted(Path(folder or ".").glob("php-fpm*"), reverse=True)
        if found:
            return str(found[0])
    raise Failed("no php-fpm on the PATH: install the package php-fpm")


def _status(port: int, path: str) -> str:
    """The status line of an answer; OSError without one."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        link.request("GET", path)
        return f"HTTP/1.1 {link.getresponse().status}"
    except http.client.HTTPException as why:
        raise OSError(str(why)) from why
    finally:
        link.close()


def _any_answer(port: int) -> str:
    return "HTTP/1.1 200" if _status(port, "/app/0.png") else ""


def browse(place: Place, out: Path) -> list[Finding]:
    """The page in Chromium, and a screenshot of it."""
    port = place.chromedriver()
    browser = Browser(port, chromium(), place.folder / "profile", place.folder / "downloads")
    who = browser.version
    try:
        began = time.monotonic()
        browser.go(f"http://{HOST}:{place.plain}/index.php?first=1")
        found = [Finding(who, "open http://, redirected", browser.run("return location.href"))]
        found[0] = Finding(who, found[0].did, found[0].saw, found[0].saw == f"{place.url}index.php?first=1")
        until("the page to be done", 60, lambda: browser.run("return window.seen.done"))
        took = time.monotonic() - began
        seen: dict[str, Any] = browser.run("return window.seen")
        browser.picture(out / "https.png")
    finally:
        browser.close()
    if "failed" in seen:
        found.append(Finding(who, "the page's script", seen["failed"], False))
    images = 2 * https_pages.IMAGES
    protocols = ", ".join(f"{kind}: {count}" for kind, count in sorted(seen.get("protocols", {}).items()))
    all_http2 = bool(seen.get("protocols")) and all(kind.endswith(", h2") for kind in seen["protocols"])
    found += [
        Finding(who, "the page done", f"after {took:.1f} s"),
        Finding(who, "`nextHopProtocol` of page, images and fetches", protocols, all_http2),
        Finding(who, "images of both backends", f"{seen.get('images')} of {images}", seen.get("images") == images),
        Finding(who, "fetch from the Python backend", json.dumps(seen["fetched"]), bool(seen["fetched"])),
        Finding(who, f"upload of {_SIZE / 1e6:g} MB to PHP", f"SHA-256 the same: {seen['uploaded']}", seen["uploaded"]),
        Finding(
            who, "WebSocket to the Python backend",
            f"{seen['echoes']} of {https_pages.WORDS} words, {seen['ticks']} of {https_pages.TICKS} ticks,"
            f" {seen['socket']}",
            (seen["echoes"], seen["ticks"], seen["socket"])
            == (https_pages.WORDS, https_pages.TICKS, "closed with 1000 enough"),
        ),
    ]  # fmt: skip
    return found


def command_lines(place: Place) -> list[Finding]:
    """curl, openssl and h2load."""
    ca = place.folder / "certificates" / "ca.pem"
    home = place.folder / "commands"
    home.mkdir()
    found = []
    wanted = "%{http_version} %{response_code} %{ssl_verify_result} %{size_download}"
    for option, version in (("--http2", "2"), ("--http1.1", "1.1")):
        said = command(["curl", "-sS", option, "--cacert", ca, "-o", "/dev/null", "-w", wanted, place.url], home)
        good = said.startswith(f"{version} 200 0 ")
        found.append(Finding("curl", f"{option} (version, status, verification, bytes)", f"`{said}`", good))
    said = command(["curl", "-sS", "-D", "-", "-o", "/dev/null", "--cacert", ca, place.url], home)
    hsts = re.search(r"strict-transport-security: \S+", said, re.IGNORECASE)
    found.append(Finding("curl", "HSTS", f"`{hsts[0] if hsts else 'none'}`", bool(hsts)))
    for options, expected in (
        (["-tls1_3", "-alpn", "h2,http/1.1"], ("TLSv1.3", "h2")),
        (["-tls1_2", "-alpn", "http/1.1"], ("TLSv1.2", "http/1.1")),
    ):
        said = command(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{place.port}", "-servername", HOST, "-CAfile", ca,
             "-verify_return_error", *options], home,
        )  # fmt: skip
        lines = re.findall(
            r"^(?:New, .*|Verif.*return code.*|ALPN protocol.*|Peer signature type.*|Server Temp Key.*)$", said, re.M
        )
        good = expected[0] in said and f"ALPN protocol: {expected[1]}" in said and "return code: 0 (ok)" in said
        found.append(Finding("openssl s_client", " ".join(options), "; ".join(dict.fromkeys(lines)), good))
    for options in (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],):
        ran = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{place.port}", "-servername", HOST, *options],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        alert = re.search(r"alert [a-z ]+", ran.stderr)
        saw = f"{alert[0] if alert else ran.stderr.strip()[-100:]}, status {ran.returncode}"
        found.append(Finding("openssl s_client", "-tls1_1", saw, ran.returncode != 0))
    for path in ("/app/0.png", "/picture.php/0.png"):
        url = f"https://127.0.0.1:{place.port}{path}"
        said = command(["h2load", "-n2000", "-c4", "-m20", "-H", f":authority: {HOST}", url], home)
        lines = re.findall(r"^(?:finished in .*|requests: .*|status codes: .*)$", said, re.M)
        good = "2000 succeeded, 0 failed, 0 errored" in said and "2000 2xx" in said
        found.append(Finding("h2load", f"-n 2000 -c 4 -m 20 {path}", "; ".join(lines), good))
    return found


def _logged(place: Place) -> list[Finding]:
    """What the access log says of the protocols."""
    counted: collections.Counter[tuple[str, ...]] = collections.Counter()
    for line in (place.folder / "access.log").read_text().splitlines():
        entry = json.loads(line)
        kind = entry["protocol"], str(entry["cluster"]), str(entry["status"]), entry["termination"]
        counted[(*kind, "tunnel" if entry["tunnel"] else "")] += 1
    return [
        Finding("access log", " ".join(kind).strip(), f"{count} ×", kind[3] in ("ok", "redirect"))
        for kind, count in sorted(counted.items())
    ]


def _report(found: list[Finding], about: dict[str, str], output: str) -> str:
    rows = ["| program | what | seen | as it should be |", "| --- | --- | --- | --- |"]
    for finding in found:
        good = "yes" if finding.good else "**no**"
        rows.append(f"| {finding.program} | {finding.did} | {finding.saw.replace('|', '/')} | {good} |")
    lines = ["# HTTPS and HTTP/2 in front of PHP and Python", ""]
    lines += [*(f"* {key}: {value}" for key, value in about.items()), "", *rows]
    return "\n".join([*lines, "", "## What lemmytx logged", "", "```", output.rstrip(), "```", ""])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs.https", description=(__doc__ or "")[:300])
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of an environment with websockets")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/programs"), help="folder for the report")
    parser.add_argument("--no-install", action="store_true", help="install nothing")
    return parser.parse_args()


def _interrupted(number: int, frame: object) -> None:
    """SIGTERM ends the run as Ctrl-C does: by way of every C{finally}."""
    raise KeyboardInterrupt


def main() -> int:
    """
    Run and write the report.

    @return: 1 when something was not as it should be, else 0.
    """
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupted)
    began = time.monotonic()
    out: Path = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="lemmytx-https-"))
    try:
        try:
            needed = [*_NEEDED, (_php_fpm(), "")]
        except Failed:
            needed = [*_NEEDED, ("php-fpm", "php-fpm")]
        gone = [name for name in missing(needed, not arguments.no_install) if name != "php-fpm"]
        if gone:
            raise Failed(f"the run needs {', '.join(gone)}: install what brings it")
        with running([]) as started:
            place = Place(folder, arguments.python.absolute(), started)
            place.certificate()
            proxy = place.lemmytx(place.php(), place.pages())
            found = browse(place, out)
            found += command_lines(place)
            proxy.stop()
        found += _logged(place)
        output = (folder / "lemmytx" / "output.log").read_text(errors="replace")
    except Failed as why:
        print(f"https: {why}", file=sys.stderr)
        for log in ("lemmytx/output.log", "php/php.log"):
            if (folder / log).is_file():
                print(f"{log}:\n{(folder / log).read_text(errors='replace')[-2000:]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("https: interrupted, no report", file=sys.stderr)
        return 130
    finally:
        forget(folder)
    about = {**describe(), "wall time": f"{time.monotonic() - began:.0f} s"}
    text = _report(found, about, output)
    (out / "https.md").write_text(text)
    print(f"\n{text}\nwritten: {out / 'https.md'}, {out / 'https.png'}")
    return 0 if all(finding.good for finding in found) and "Traceback" not in output else 1


if __name__ == "__main__":
    sys.exit(main())
