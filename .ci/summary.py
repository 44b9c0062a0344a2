"""
Runs the tests under coverage, once on the compiled codec and, where they depend on it, once more on its pure twin;
then prints the coverage, and as its last line C{N passed, N failed, N skipped} over all.

They run in parts, a few side by side, since many of them wait for processes that they have started. Of a part in which
all is well its last lines are shown, of another one everything.

The exit status is 0 only when tests ran, none failed, the coverage reaches its floor and, under C{CI=true}, none was
skipped on the compiled codec: there every peer that a test wants must be installed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

#: A run that takes longer hangs, in seconds.
_LIMIT = 780

_COUNT = re.compile(r"^(PASSED|FAILED)(?: \((.*)\))?$")


@dataclass
class Outcome:
    """How one run of trial ended."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


def read(lines: list[str]) -> Outcome | None:
    """
    The outcome, from trial's last line: C{PASSED (skips=1, successes=3)}.

    @return: L{None} when there is no such line: trial itself broke.
    """
    for line in reversed(lines):
        found = _COUNT.match(line.strip())
        if found:
            parts = dict(part.split("=") for part in (found[2] or "").split(", ") if part)
            counts = {name: int(value) for name, value in parts.items()}
            return Outcome(
                counts.get("successes", 0) + counts.get("expectedFailures", 0),
                counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpectedSuccesses", 0),
                counts.get("skips", 0),
            )
    return None


@dataclass
class Part:
    """What one process of trial runs."""

    name: str
    tests: list[str]
    pure: bool = False


_printing = threading.Lock()
_running: set[subprocess.Popen[str]] = set()


def _end(process: subprocess.Popen[str]) -> None:
    """End a run with all that it started: it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _modules(name: str) -> list[str]:
    """The test modules of a package, in the order of their names; a module is its own."""
    folder = Path(*name.split("."))
    if not folder.is_dir():
        return [name]
    files = sorted(file for file in folder.rglob("test_*.py"))
    return [".".join(file.with_suffix("").parts) for file in files]


def deal(modules: list[str], count: int) -> list[list[str]]:
    """So many hands, dealt in turn so that neighbours, which are alike, come into different ones."""
    return [hand for hand in (modules[start::count] for start in range(count)) if hand]


def parts(tests: list[str], processes: str, pure: list[str]) -> list[Part]:
    """
    What is run each for itself, the longest first.

    @param processes: a package whose tests mostly wait for processes.
    """
    every = list(dict.fromkeys(module for name in tests for module in _modules(name)))
    slow = [module for module in every if module.startswith(f"{processes}.")]
    quick = [module for module in every if module not in slow]
    made = [Part(f"processes {number}", hand) for number, hand in enumerate(deal(slow, 6), 1)]
    made += [Part(f"others {number}", hand) for number, hand in enumerate(deal(quick, 3), 1)]
    if pure:
        made.append(Part("pure codec", pure, pure=True))
    return made


def trial(build: Path, part: Part) -> tuple[Outcome, str]:
    """Run trial and count. A run without a result, or without tests, counts as one failure. And what it said."""
    environment = {**os.environ, "COVERAGE_FILE": str(build / "coverage" / "data")}
    environment.pop("LEMMYTX_PURE", None)
    if part.pure:
        environment["LEMMYTX_PURE"] = "1"
    folder = build / "trial" / part.name.replace(" ", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "coverage", "run", "-m", "twisted.trial", f"--temp-directory={folder}", *part.tests],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    _running.add(process)
    limit = threading.Timer(_LIMIT, _end, (process,))
    limit.start()
    try:
        said, _ = process.communicate()
    finally:
        limit.cancel()
        _running.discard(process)
    status = process.returncode
    outcome = read(said.splitlines())
    if outcome is None:
        return Outcome(failed=1), f"{said}\ntrial ended with status {status} and no result (the limit is {_LIMIT} s)"
    if not outcome.passed + outcome.failed + outcome.skipped:
        return Outcome(failed=1), f"{said}\ntrial found no tests"
    if status and not outcome.failed:
        outcome.failed = 1
        said += f"\ntrial passed but ended with status {status}"
    return outcome, said


def _run(build: Path, part: Part) -> Outcome:
    """Run a part and show how it went."""
    begun = time.monotonic()
    outcome, said = trial(build, part)
    good = not outcome.failed and not outcome.skipped
    shown = "\n".join(said.rstrip().splitlines()[-3:]) if good else said
    seconds = time.monotonic() - begun
    with _printing:
        print(f"== {part.name}: {len(part.tests)} names, {seconds:.0f} s\n{shown}\n", flush=True)
    return outcome


def _coverage(build: Path, floor: float) -> bool:
    """Print the report; whether the floor is reached."""
    environment = {**os.environ, "COVERAGE_FILE": str(build / "coverage" / "data")}
    subprocess.run([sys.executable, "-m", "coverage", "combine", "--quiet"], env=environment, check=False)
    report = [sys.executable, "-m", "coverage", "report", f"--fail-under={floor}"]
    return subprocess.run(report, env=environment, check=False).returncode == 0


def main() -> int:
    """Run everything and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--build", type=Path, required=True, help="folder for temporary files and coverage data")
    parser.add_argument("--floor", type=float, required=True, help="least coverage, in percent")
    parser.add_argument("--pure", default="", help="tests to run again on the pure codec")
    parser.add_argument("--processes", default="tests.process", help="the package of tests that start processes")
    parser.add_argument(
        "--jobs", type=int, default=min(4, (os.cpu_count() or 1) + 1), help="how many parts run side by side"
    )
    parser.add_argument("tests", nargs="+", help="what trial is to run")
    arguments = parser.parse_args()
    # SIGTERM ends the run as Ctrl-C does, by way of `finally`: nothing that was started stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    build = arguments.build.resolve()
    (build / "coverage").mkdir(parents=True, exist_ok=True)
    for old in (build / "coverage").glob("data*"):
        old.unlink()

    every = parts(arguments.tests, arguments.processes, arguments.pure.split())
    with ThreadPoolExecutor(arguments.jobs) as pool:
        try:
            outcomes = list(pool.map(lambda part: _run(build, part), every))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                _end(process)
            raise
    good = True
    compiled = [outcome for part, outcome in zip(every, outcomes, strict=True) if not part.pure]
    if os.environ.get("CI") == "true" and any(outcome.skipped for outcome in compiled):
        print("skipped tests are failures in CI: everything they need must be installed")
        good = False
    good = _coverage(build, arguments.floor) and good

    passed, failed, skipped = (
        sum(getattr(outcome, name) for outcome in outcomes) for name in ("passed", "failed", "skipped")
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if good and not failed and passed else 1


if __name__ == "__main__":
    sys.exit(main())
