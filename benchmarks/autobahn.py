"""
Autobahn's fuzzing client against a WebSocket server, and against the same server through lemmytx: the verdicts must be
the same, case by case. C{make autobahn}.

Some cases have two good verdicts, C{OK} and C{NON-STRICT}, and which it is hangs on whether the server's answer or its
close comes first. A case that differs is therefore repeated: it is a difference if, without a proxy, it never has the
verdict that it had through lemmytx.

The suite is a program for Python 2.7, of which this machine may have one; the suite itself is installed from the Python
package index into a folder. The cases are those of framing, pings, reserved bits, opcodes, fragments, UTF-8 and closing
(1 to 7) and of automatic fragments (10). Cases 9 are about speed; 12 and 13 are about compression, which both ends
have between themselves.

The suite knows no WebSockets over HTTP/2 (RFC 8441). HAProxy does: where it is installed, it stands between the suite
and lemmytx for one more round, and turns upgrades into streams.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import glob
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cases import forget
from benchmarks.doors import CERTIFICATE, make_certificate
from benchmarks.machine import Failed, Process, describe, free_port, running

_CASES = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")

#: How the doors are called in the report; the first is what the others are held against.
_DIRECT, _PLAIN, _TLS, _HTTP2 = "direct", "through lemmytx", "through lemmytx, wss", "through HAProxy, HTTP/2, lemmytx"

_HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend front
    bind 127.0.0.1:{port}
    default_backend lemmytx
backend lemmytx
    server one 127.0.0.1:{backend} ssl verify none alpn h2 ws h2
"""

#: What makes a verdict: the case's own, that about the way it closed, and the code that the server closed with.
_VERDICT = ("behavior", "behaviorClose", "remoteCloseCode")

#: How often cases that differ are repeated without a proxy.
_REPEATED = 20

#: Seconds for all cases of one door; eleven are usual.
_PATIENCE = 300.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autobahn", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--python2", help="a Python 2.7 (default: from the PATH, or one of pyenv's)")
    parser.add_argument("--suite", type=Path, default=Path("build/autobahn"), help="folder with the suite, or for it")
    parser.add_argument("--cases", nargs="*", default=list(_CASES), metavar="1.*", help="of Autobahn")
    parser.add_argument("--no-tls", action="store_true", help="leave wss out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/autobahn"), help="folder for the report")
    parser.add_argument("--echo", type=int, metavar="PORT", help=argparse.SUPPRESS)
    return parser.parse_args()


async def _echo(port: int) -> None:
    """The server: says whatever it is told."""
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    async def echo(connection: ServerConnection) -> None:
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            return  # what the case wanted

    async with serve(echo, "127.0.0.1", port, max_size=None) as server:
        await server.serve_forever()


def _python2(wanted: str | None) -> str:
    """
    A Python 2.7 that runs: a name on the PATH may be one of pyenv's, which has none behind it.

    @raise Failed: there is none.
    """
    candidates = [wanted] if wanted else ["python2.7", "python2"]
    if not wanted:
        candidates += sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/2.7*/bin/python2.7")))
    for candidate in candidates:
        found = shutil.which(candidate)
        if found and not subprocess.run([found, "-c", "import ssl"], capture_output=True, check=False).returncode:
            return found
    raise Failed(f"no Python 2.7 that runs among {', '.join(candidates)}: name one with --python2")


def _suite(python2: str, folder: Path) -> None:
    """
    Install the suite, unless it is there.

    @raise Failed: pip could not.
    """
    if not (folder / "autobahntestsuite").is_dir():
        command = [python2, "-m", "pip", "install", "--quiet", "--target", str(folder), "autobahntestsuite"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise Failed(f"pip installed no autobahntestsuite: {ran.stderr.strip()[-500:]}")
    # Without this, what is installed below zope is not found in a folder that is not Python's own.
    (folder / "zope" / "__init__.py").touch()


def _lemmytx(folder: Path, backend: int, ports: dict[str, int]) -> list[str]:
    """Its command line; the configuration has a listener for each door that is a port."""
    listeners: list[dict[str, Any]] = [{"endpoint": f"tcp:{ports[_PLAIN]}:interface=127.0.0.1"}]
    if _TLS in ports:
        tls = {"certificates": [str(folder / CERTIFICATE)]}
        listeners.append({"endpoint": f"tcp:{ports[_TLS]}:interface=127.0.0.1", "tls": tls})
    configuration = {
        "listeners": listeners,
        "vhosts": [{"hosts": ["*"], "cluster": "echo"}],
        "clusters": {"echo": {"backends": [f"http://127.0.0.1:{backend}"], "max_fails": 0}},
        "admin": {"endpoint": f"unix:{folder / 'admin'}"},
        "access_log": {"format": "off"},
    }
    path = folder / "lemmy.yaml"
    path.write_text(json.dumps(configuration))  # JSON is YAML
    return [str(Path(sys.executable).parent / "lemmy"), "run", "--config", str(path)]


def _fuzz(python2: str, suite: Path, folder: Path, urls: dict[str, str], cases: list[str]) -> dict[str, Any]:
    """
    Run the fuzzing client against each.

    @return: by agent, by case: what L{_VERDICT} names, and more.
    @raise Failed: it did not come to its end.
    """
    found: dict[str, Any] = {}
    for agent, url in urls.items():
        # The client names its reports by the agent, and one that is never told the agent's name makes one up.
        out = Path(tempfile.mkdtemp(prefix="reports-", dir=folder))
        spec = {"outdir": str(out), "servers": [{"agent": agent, "url": url}], "cases": cases}
        path = folder / "fuzzingclient.json"
        path.write_text(json.dumps({**spec, "exclude-cases": [], "exclude-agent-cases": {}}))
        command = [python2, "-m", "autobahntestsuite.wstest", "-m", "fuzzingclient", "-s", str(path)]
        environment = {**os.environ, "PYTHONPATH": str(suite.absolute())}
        began = time.monotonic()
        try:
            ran = subprocess.run(
                command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=_PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"the fuzzing client did not end within {_PATIENCE:.0f} s at {agent}") from None
        if not (out / "index.json").is_file():
            raise Failed(f"the fuzzing client ended with status {ran.returncode} at {agent}: {ran.stdout[-800:]}")
        found[agent] = next(iter(json.loads((out / "index.json").read_text()).values()))
        print(f"{agent}: {len(found[agent])} cases in {time.monotonic() - began:.0f} s", flush=True)
    return found


def _verdict(case: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(case[part]) for part in _VERDICT)


def _spoken(case: dict[str, Any]) -> str:
    return " ".join(_verdict(case))


Differing = list[tuple[str, str, str, str]]


def _differing(found: dict[str, Any], direct: dict[str, set[str]]) -> Differing:
    """
    Case, server, its verdict, those without a proxy.

    @param direct: the verdicts that each case has had without a proxy.
    """
    differing = []
    for agent, cases in found.items():
        for case in direct.keys() | cases.keys():
            seen = _spoken(cases[case]) if case in cases else "not run"
            if seen not in direct.get(case, set()):
                differing.append((case, agent, seen, ", ".join(sorted(direct.get(case, {"not run"})))))
    return sorted(differing)


def _report(found: dict[str, Any], about: dict[str, str], differing: Differing, repeated: list[str]) -> str:
    lines = ["# Autobahn's fuzzing client", "", *(f"* {key}: {value}" for key, value in about.items()), ""]
    lines += ["| server | cases | verdicts | verdicts about the close | never so without a proxy |"]
    lines += ["| --- | ---: | --- | --- | ---: |"]
    for agent, cases in found.items():
        counted = [
            ", ".join(f"{number} {kind}" for kind, number in sorted(collections.Counter(kinds).items()))
            for kinds in zip(*(_verdict(case)[:2] for case in cases.values()), strict=True)
        ]
        own = sum(row[1] == agent for row in differing)
        lines.append(f"| {agent} | {len(cases)} | {' | '.join(counted)} | {own} |")
    if repeated:
        lines += ["", f"Differed once, and were repeated without a proxy: {', '.join(repeated)}."]
    if differing:
        lines += ["", "| case | server | verdict | without a proxy |", "| --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(row)} |" for row in differing]
    return "\n".join(lines) + "\n"


def main() -> int:
    """
    Run and write the report.

    @return: 1 when a verdict differs, nothing was judged or lemmytx logged a traceback, else 0.
    """
    arguments = _arguments()
    if arguments.echo:
        asyncio.run(_echo(arguments.echo))
    folder = Path(tempfile.mkdtemp(prefix="lemmytx-autobahn-"))
    core = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    backend = free_port()
    ports = {_PLAIN: free_port(), **({} if arguments.no_tls else {_TLS: free_port()})}
    if _TLS in ports and shutil.which("haproxy"):
        ports[_HTTP2] = free_port()
    urls = {_DIRECT: f"ws://127.0.0.1:{backend}"}
    urls.update({name: f"{'wss' if name == _TLS else 'ws'}://127.0.0.1:{port}" for name, port in ports.items()})
    began = time.monotonic()
    try:
        python2 = _python2(arguments.python2)
        _suite(python2, arguments.suite)
        make_certificate(folder)
        with running([]) as started:
            echo = [sys.executable, "-m", "benchmarks.autobahn", "--echo", str(backend)]
            started.append(Process("echo", echo, core, folder / "echo.log"))
            started.append(Process("lemmytx", _lemmytx(folder, backend, ports), core, folder / "lemmytx.log"))
            serving = [(started[0], backend), (started[1], ports[_PLAIN])]
            if _HTTP2 in ports:
                settings = folder / "haproxy.cfg"
                settings.write_text(_HAPROXY.format(port=ports[_HTTP2], backend=ports[_TLS]))
                command = ["haproxy", "-q", "-db", "-f", str(settings)]
                started.append(Process("HAProxy", command, core, folder / "haproxy.log"))
                serving.append((started[-1], ports[_HTTP2]))
            for process, port in serving:
                # A WebSocket server answers a plain GET with 426, which says as much as a 200.
                process.wait_until_serving(port, _reached)
            found = _fuzz(python2, arguments.suite, folder, urls, arguments.cases)
            direct = {case: {_spoken(seen)} for case, seen in found[_DIRECT].items()}
            repeated = sorted({row[0] for row in _differing(found, direct)})
            for _ in range(_REPEATED):
                cases = sorted({row[0] for row in _differing(found, direct)})
                if not cases:
                    break
                again = _fuzz(python2, arguments.suite, folder, {_DIRECT: urls[_DIRECT]}, cases)[_DIRECT]
                for case, seen in again.items():
                    direct.setdefault(case, set()).add(_spoken(seen))
            differing = _differing(found, direct)
        said = (folder / "lemmytx.log").read_text(errors="replace")
    except Failed as why:
        print(f"autobahn: {why}", file=sys.stderr)
        return 1
    finally:
        forget(folder)
    about = {**describe(), "wall time": f"{time.monotonic() - began:.0f} s"}
    text = _report(found, about, differing, repeated)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "report.md").write_text(text)
    (arguments.out / "verdicts.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(f"\n{text}\nwritten: {arguments.out / 'report.md'}, {arguments.out / 'verdicts.json'}")
    if "Traceback" in said:
        print(f"lemmytx logged:\n{said}", file=sys.stderr)
    return 1 if differing or "Traceback" in said else 0


def _reached(port: int) -> str:
    """C{HTTP/1.1 200} when a server answers a request, whatever it answers."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        link.request("GET", "/")
        return "HTTP/1.1 200" if link.getresponse().status == 426 else "another answer"
    except http.client.HTTPException as why:
        raise OSError(str(why)) from why
    finally:
        link.close()


if __name__ == "__main__":
    sys.exit(main())
