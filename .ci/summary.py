"""
Runs the tests under coverage, once on the compiled codec and, where they depend on it, once more on its pure twin;
then prints the coverage, and as its last line C{N passed, N failed, N skipped} over both.

The exit status is 0 only when tests ran, none failed, the coverage reaches its floor and, under C{CI=true}, none of the
first run was skipped: there every peer that a test wants must be installed.
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


def _end(process: subprocess.Popen[str]) -> None:
    """End a run with all that it started: it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def trial(build: Path, tests: list[str], pure: bool) -> Outcome:
    """Run trial, show what it says, and count. A run without a result, or without tests, counts as one failure."""
    environment = {**os.environ, "COVERAGE_FILE": str(build / "coverage" / "data")}
    environment.pop("LEMMYTX_PURE", None)
    if pure:
        environment["LEMMYTX_PURE"] = "1"
    print(f"trial {' '.join(tests)}{' on the pure codec' if pure else ''}", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "coverage", "run", "-m", "twisted.trial", f"--temp-directory={build / 'trial'}", *tests],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    limit = threading.Timer(_LIMIT, _end, (process,))
    limit.start()
    lines = []
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        status = process.wait()
    finally:
        limit.cancel()
        if process.poll() is None:
            _end(process)
    outcome = read(lines)
    if outcome is None:
        print(f"trial ended with status {status} and without a result (the limit is {_LIMIT} s)")
        return Outcome(failed=1)
    if not outcome.passed + outcome.failed + outcome.skipped:
        print("trial found no tests")
        return Outcome(failed=1)
    if status and not outcome.failed:
        print(f"trial passed but ended with status {status}")
        outcome.failed = 1
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
    parser.add_argument("tests", nargs="+", help="what trial is to run")
    arguments = parser.parse_args()
    # SIGTERM ends the run as Ctrl-C does, by way of `finally`: nothing that was started stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    build = arguments.build.resolve()
    (build / "coverage").mkdir(parents=True, exist_ok=True)
    for old in (build / "coverage").glob("data*"):
        old.unlink()

    outcomes = [trial(build, arguments.tests, pure=False)]
    good = True
    if os.environ.get("CI") == "true" and outcomes[0].skipped:
        print("skipped tests are failures in CI: everything they need must be installed")
        good = False
    if arguments.pure:
        outcomes.append(trial(build, arguments.pure.split(), pure=True))
    good = _coverage(build, arguments.floor) and good

    passed, failed, skipped = (
        sum(getattr(outcome, name) for outcome in outcomes) for name in ("passed", "failed", "skipped")
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if good and not failed and passed else 1


if __name__ == "__main__":
    sys.exit(main())
