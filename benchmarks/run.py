"""
lemmytx beside nginx, HAProxy, Caddy and C{twisted.web}: C{python -m benchmarks.run}, or C{make bench}.

Each proxy is one process on one core; the clients and the backend (nginx) are on another. Under load all proxies run
at the same time and get their turns in a new order each round, so that a slow minute of the machine falls on all of
them; and each round starts them anew, so that one process's luck with its memory is not the figure.
Everything is on loopback, on ports that the system chose, in a temporary folder, and gone at the end.

As root, peers that are missing are installed with apt-get (not with C{--no-install}); else the report names them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks import report
from benchmarks.cases import CASES, Bench, Settings, forget, make_files, medians
from benchmarks.doors import make_certificate
from benchmarks.machine import Failed, cores, describe, free_port, pin_self, raise_descriptors, running
from benchmarks.peers import PEERS, Peer, missing, start_origin

#: Descriptors this process needs besides the idle connections.
_SPARE = 500


def _names(known: dict[str, Any]) -> Any:
    def parse(text: str) -> list[str]:
        wanted = [name.strip() for name in text.split(";")]
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of: {'; '.join(known)}")
        return wanted

    return parse


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a rough picture in under two minutes")
    parser.add_argument("--rounds", type=int, help="turns of each proxy per case (5; quick: 2)")
    parser.add_argument("--seconds", type=float, help="length of a turn (3; quick: 1)")
    parser.add_argument("--cases", type=_names(CASES), metavar="A;B", help=f"of: {'; '.join(CASES)}")
    parser.add_argument("--proxies", type=_names(PEERS), metavar="A;B", help=f"of: {'; '.join(PEERS)}")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for the report")
    parser.add_argument("--no-install", action="store_true", help="install nothing")
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = Settings(rounds=2, seconds=1, connections=2000, body=250_000_000) if arguments.quick else Settings()
    settings.rounds = arguments.rounds or settings.rounds
    settings.seconds = arguments.seconds or settings.seconds
    settings.connections = min(settings.connections, raise_descriptors() - _SPARE)
    return settings


def _present(wanted: list[str], install: bool) -> tuple[list[Peer], dict[str, str]]:
    """The proxies that can be run, and why the others cannot."""
    needed = [
        ("wrk", "wrk"), ("h2load", "nghttp2-client"), ("openssl", "openssl"), ("nginx", "nginx-light"),
        ("taskset", "util-linux"),
    ]  # fmt: skip
    gone = missing([*needed, *((PEERS[name].program, PEERS[name].package) for name in wanted)], install)
    for program, package in needed:
        if program in gone:
            raise Failed(f"the run needs {program}: install the package {package}")
    absent = {name: f"no {PEERS[name].program}" for name in wanted if PEERS[name].program in gone}
    return [PEERS[name] for name in wanted if name not in absent], absent


def _about(peers: list[Peer]) -> dict[str, str]:
    """The machine and the versions, and whether lemmytx's codec is the compiled one."""
    about = describe()
    for peer in peers:
        if "," not in peer.name:  # a name with a comma is a variant
            about[peer.name] = peer.version()
    if "lemmytx" in about:
        asked = "import lemmytx, lemmytx.http1.codec as c; print(lemmytx.__version__, ('pure', 'compiled')[c.compiled])"
        said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False, timeout=30)
        about["lemmytx"] = said.stdout.strip() or said.stderr.strip().splitlines()[-1]
    return about


def _interrupted(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does: by way of every C{finally}."""
    raise KeyboardInterrupt


def main() -> int:
    """
    Run and write the report.

    @return: 1 when a proxy that is there gave no figures in a case, else 0: bounds that are not met are the report's
        to tell.
    """
    arguments = _arguments()
    settings = _settings(arguments)
    signal.signal(signal.SIGTERM, _interrupted)
    began = time.monotonic()
    core, other = cores()
    rounds: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="lemmytx-bench-"))
    try:
        folder.chmod(0o755)  # nginx's worker, which is another user under root, reads here
        peers, absent = _present(arguments.proxies or list(PEERS), not arguments.no_install)
        about = _about(peers)
        pin_self(other)
        make_files(folder / "files", settings)
        make_certificate(folder)
        origin = free_port()
        bench = Bench(folder, core, other, origin, peers, settings, _say)
        with running([]) as started:
            started.append(start_origin(folder, other, origin))
            started[0].wait_until_serving(origin)
            for case in arguments.cases or CASES:
                _say(f"{CASES[case].title} ({time.monotonic() - began:.0f} s)")
                rounds[case] = CASES[case].run(case, bench)
    except Failed as why:
        print(f"benchmark: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark: interrupted, no report", file=sys.stderr)
        return 130
    finally:
        forget(folder)
    about["wall time"] = f"{time.monotonic() - began:.0f} s"
    _write(arguments.out, rounds, about, settings, absent, bench.broken)
    return 1 if bench.broken else 0


def _write(
    out: Path, rounds: dict[str, Any], about: dict[str, str], settings: Settings, absent: dict[str, str],
    broken: dict[str, str],
) -> None:  # fmt: skip
    results = {case: medians(turns) for case, turns in rounds.items()}
    text = report.markdown(results, about, settings, absent, broken)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.md").write_text(text)
    (out / "results.json").write_text(report.as_json(results, rounds, about, settings, absent, broken) + "\n")
    print(f"\n{text}")
    written = ["results.md", "results.json"]
    if report.plot(results, out / "results.svg"):
        written.append("results.svg")
    else:
        print("no plot: install the extra 'bench' for matplotlib")
    print("written:", ", ".join(os.fspath(out / name) for name in written))


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
