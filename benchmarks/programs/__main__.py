"""
Starts everything, uses everything at the same time, writes down what was seen.

Everything is on loopback, on ports that the system chose, in a temporary folder, and gone at the end. As root, what is
missing of nginx, fcgiwrap, git, wget, curl, chromium and chromedriver is installed with apt-get (not with
C{--no-install}).
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from benchmarks.cases import forget
from benchmarks.machine import Failed, Process, describe, running
from benchmarks.peers import missing
from benchmarks.programs import clients, copies, site
from benchmarks.programs.common import Finding
from benchmarks.programs.notebook import Notebook
from benchmarks.programs.webdriver import Browser

_NEEDED = (
    ("nginx", "nginx-light"), ("fcgiwrap", "fcgiwrap"), ("git", "git"), ("wget", "wget"), ("curl", "curl"),
    ("chromium", "chromium"), ("chromedriver", "chromium-driver"), ("taskset", "util-linux"),
)  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--python", type=Path, required=True, help="of an environment with requirements.txt installed")
    parser.add_argument("--size", type=int, default=1_000_000_000, help="bytes of the large file (1000000000)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/programs"), help="folder for the report")
    parser.add_argument("--no-install", action="store_true", help="install nothing")
    return parser.parse_args()


class _Together:
    """
    Parts of the run that go on at the same time.

    @ivar findings: by part, in the order in which the parts were begun.
    """

    def __init__(self) -> None:
        self.findings: dict[str, list[Finding]] = {}
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()

    def begin(self, name: str, work: Callable[[], list[Finding]], last: bool = False) -> None:
        """
        Begin a part in a thread of its own. What goes wrong in it becomes a finding.

        @param last: those parts that L{repeat} another are repeated until this one ends.
        """
        self.findings[name] = []

        def part() -> None:
            began = time.monotonic()
            self.findings[name] = _tried(name, work)
            if last:
                self._over.set()
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)

        self._start(part)

    def repeat(self, name: str, work: Callable[[int], list[Finding]]) -> None:
        """
        The same for a short part: at least once, and over and over with a pause of a second.

        @param work: gets the number of the round, from 1.
        """
        self.findings[name] = []

        def part() -> None:
            rounds: list[list[Finding]] = []
            while True:
                rounds.append(_tried(name, functools.partial(work, len(rounds) + 1)))
                if self._over.wait(1.0):
                    break
            self.findings[name] = _added_up(rounds)
            print(f"{name}: {len(rounds)} rounds", flush=True)

        self._start(part)

    def _start(self, part: Callable[[], None]) -> None:
        thread = threading.Thread(target=part, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> list[Finding]:
        """Wait until all have ended; what they found."""
        for thread in self._threads:
            thread.join()
        return [finding for found in self.findings.values() for finding in found]


def _tried(name: str, work: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return work()
    except Exception as why:  # whatever it is, the other parts go on and the report tells it
        return [Finding(name, "all of it", f"{type(why).__name__}: {why}", False)]


def _added_up(rounds: list[list[Finding]]) -> list[Finding]:
    """One finding for what was done in several rounds: the first that is not good, if there is one."""
    same: dict[tuple[str, str], list[Finding]] = {}
    for found in rounds:
        for finding in found:
            same.setdefault((finding.program, finding.did), []).append(finding)
    total = []
    for findings in same.values():
        bad = [finding for finding in findings if not finding.good]
        shown = (bad or findings)[0]
        times = f"{len(findings) - len(bad)} of {len(findings)} times good; "
        total.append(Finding(shown.program, shown.did, times + shown.saw, not bad))
    return total


def _use_notebook(where: site.Site, out: Path, size: int) -> list[Finding]:
    folder = where.folder / "jupyter"
    browser = Browser(where.chromedriver(), site.chromium(), where.folder / "profile", folder / "downloads")
    notebook = Notebook(browser, where.port, site.JUPYTER, where.token, folder, out)
    try:
        notebook.run_cell()
        notebook.download(notebook.upload(size))
        notebook.kernel_lives()
    except Failed as why:
        browser.picture(out / "failed.png")
        notebook.findings.append(Finding(f"JupyterLab in {browser.version}", "the next step", str(why), False))
    finally:
        browser.close()
    return notebook.findings


def _use_packages(where: site.Site, number: int) -> list[Finding]:
    return clients.packages(where.python, _workplace(where, "pip", number), site.PYPI_ADDRESS, where.port, number)


def _use_git(where: site.Site, number: int) -> list[Finding]:
    served = where.folder / "repositories" / f"project-{number}.git"
    repository = clients.Repository(_workplace(where, "git", number), served, site.GIT, where.port)
    return [*repository.work(), _chunked(where, served.name)]


def _use_files(where: site.Site, number: int) -> list[Finding]:
    folder, served = _workplace(where, "files", number), where.folder / "files"
    found = clients.mirror(folder, served, site.FILES_ADDRESS, where.port)
    found += clients.ranges(folder, served / "ranges" / "file.bin", site.FILES, where.port)
    forget(folder)
    return found


def _workplace(where: site.Site, name: str, number: int) -> Path:
    """An empty folder for a round of a part."""
    folder = where.folder / "work" / f"{name}-{number}"
    folder.mkdir(parents=True)
    return folder


def _kill_copies(where: site.Site, three: copies.Copies) -> list[Finding]:
    hosts = {3: site.FILES, 2: site.FILES_AS_IT_COMES}
    served = where.folder / "files"
    return [
        finding
        for name in copies.SCENES
        for finding in copies.play(name, three, where.port, hosts, served, where.answers_of_copies)
    ]


def _run(where: site.Site, out: Path, size: int) -> tuple[list[Finding], Process]:
    """Everything; what was found, and lemmytx, which still runs."""
    site.make_files(where.folder / "files")
    ports = [site.free_port() for _ in range(3)]
    three = copies.Copies(len(ports), lambda number: where.files(number, ports[number]))
    proxy = where.lemmytx(where.jupyter(), where.pypi(), where.git(), ports)
    before = proxy.memory()
    proxy.forget_peak()
    together = _Together()
    together.begin("JupyterLab", lambda: _use_notebook(where, out, size))
    together.repeat("pip", functools.partial(_use_packages, where))
    together.repeat("git", functools.partial(_use_git, where))
    together.repeat("files", functools.partial(_use_files, where))
    together.begin("copies", lambda: _kill_copies(where, three), last=True)
    found = together.join()
    after, peak = proxy.memory(), proxy.peak()
    found.append(
        Finding(
            "lemmytx",
            "resident memory before, at its highest, after",
            f"{before / 1e6:.1f}, {peak / 1e6:.1f}, {after / 1e6:.1f} MB",
            peak - before < 30e6,
        )
    )
    return found, proxy


def _chunked(where: site.Site, repository: str) -> Finding:
    """Whether the large push really went in chunks, by what nginx behind lemmytx logged."""
    longest = 0
    for line in (where.folder / "git" / "access.log").read_text().splitlines():
        if line.startswith(f"POST /{repository}/git-receive-pack ") and "transfer-encoding=chunked" in line:
            longest = max(longest, int(line.split()[3]))
    saw = f"{longest / 1e6:.1f} MB with `Transfer-Encoding: chunked` at the backend"
    return Finding("git", "how the 8 MB came to the backend", saw, longest > 8_000_000)


def _access_log(where: site.Site) -> list[str]:
    """What lemmytx's access log says, as a table: requests by vhost, status and end."""
    counted: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in where.access_log.read_text().splitlines():
        entry = json.loads(line)
        end = entry["termination"]
        kind = str(entry["status"]) + ("" if end == "ok" else f" {end}") + (" tunnel" if entry["tunnel"] else "")
        if entry["attempts"] > 1:
            kind += f", {entry['attempts']} attempts"
        counted[str(entry["vhost"])][kind] += 1
    rows = [("vhost", "requests, by status, end and attempts"), ("---", "---")]
    rows += [
        (vhost, "; ".join(f"{number} × {kind}" for kind, number in sorted(kinds.items())))
        for vhost, kinds in sorted(counted.items())
    ]
    return [f"| {one} | {two} |" for one, two in rows]


def _report(found: list[Finding], about: dict[str, str], logged: list[str], output: str) -> str:
    rows = ["| program | what | seen | as it should be |", "| --- | --- | --- | --- |"]
    for finding in found:
        good = "yes" if finding.good else "**no**"
        rows.append(f"| {finding.program} | {finding.did} | {finding.saw.replace('|', '/')} | {good} |")
    lines = ["# Programs behind lemmytx", "", *(f"* {key}: {value}" for key, value in about.items()), "", *rows]
    lines += ["", "## The access log", "", *logged, "", "## What lemmytx logged", "", "```", output.rstrip(), "```", ""]
    return "\n".join(lines)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does: by way of every C{finally}."""
    raise KeyboardInterrupt


def main() -> int:
    """
    Run and write the report.

    @return: 1 when something was not as it should be, else 0. A long download that is cut together with its server
        counts as right when the client could tell, and see C{copies} for what two attempts cannot do.
    """
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupted)
    began = time.monotonic()
    out: Path = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="lemmytx-programs-"))
    try:
        gone = missing(_NEEDED, not arguments.no_install)
        if gone:
            raise Failed(f"the run needs {', '.join(gone)}: install what brings it")
        with running([]) as started:
            where = site.Site(folder, arguments.python.absolute(), started)
            found, proxy = _run(where, out, arguments.size)
            proxy.stop()
        logged = _access_log(where)
        output = (folder / "lemmytx" / "output.log").read_text(errors="replace")
    except Failed as why:
        print(f"programs: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("programs: interrupted, no report", file=sys.stderr)
        return 130
    finally:
        forget(folder)
    about = {**describe(), "wall time": f"{time.monotonic() - began:.0f} s"}
    text = _report(found, about, logged, output)
    (out / "report.md").write_text(text)
    print(f"\n{text}\nwritten: {os.fspath(out / 'report.md')} and screenshots beside it")
    return 0 if all(finding.good for finding in found) else 1


if __name__ == "__main__":
    sys.exit(main())
