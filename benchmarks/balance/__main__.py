"""
Shows balancing working: C{python -m benchmarks.balance}, or C{make balance}.

Five backends with faults, an open-loop load, every scheduler of lemmytx beside HAProxy and nginx. A few of them run
side by side, each with backends and a load of its own, always several of the same scenario at a time: what disturbs one
then disturbs those it is compared with. Everything is on loopback, on ports that the system chose, in a temporary
folder, and gone at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from types import FrameType

from benchmarks.balance.backend import Faults
from benchmarks.balance.lane import Generated, Outcome, Stopped, run, start_backend
from benchmarks.balance.plan import Phase
from benchmarks.balance.report import bounds, markdown, plot
from benchmarks.balance.scenarios import SCENARIOS
from benchmarks.balance.subjects import QUICK, SUBJECTS
from benchmarks.machine import Failed, describe, free_port, raise_descriptors, running
from benchmarks.peers import missing

#: How many run side by side. All of it together takes less than half of two cores.
_LANES = 4
_LANES_QUICK = 5

#: What the generator must see of a backend that stands still for 1 s of every 8 s, in seconds: of 500 requests a
#: second an eighth meets the stall, and waits for up to 1 s, so a hundredth of all waits for 0.92 s or more. A
#: generator that waits for answers would show a few milliseconds.
_STALL = 0.8, 1.1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balance", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"these alone: {', '.join(QUICK)}; less than 90 s")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="this scenario alone; may be repeated")
    parser.add_argument("--subject", choices=SUBJECTS, action="append", help="this one alone; may be repeated")
    parser.add_argument("--lanes", type=int, help=f"how many run side by side ({_LANES})")
    parser.add_argument("--out", type=Path, default=Path("docs/balance.md"), help="the page; the plots go beside it")
    parser.add_argument(
        "--answers", type=Path, help="a file for every single answer; scenarios that do not run now are taken from it"
    )
    parser.add_argument("--logs", type=Path, help="a folder that keeps configurations and logs")
    parser.add_argument("--no-install", action="store_true", help="do not try apt-get for what is missing")
    return parser.parse_args()


def check_generator(folder: Path) -> str:
    """
    Whether the generator sees a stall.

    @return: what it saw, for the report.
    @raise Failed: it does not.
    """
    port = free_port()
    with running([]) as started:
        faults = Faults(mean=0.001, places=1000, freeze=1.0, every=8.0)
        origin = start_backend("frozen", port, faults, folder / "frozen.log")
        started.append(origin)
        origin.wait_until_serving(port)
        load = Generated(port, [Phase(8, 500)], folder / "frozen-generator.log")
        try:
            outcome = load.outcome()
        finally:
            load.close()
    seen = outcome.quantile(0.99)
    if outcome.failures or not _STALL[0] <= seen <= _STALL[1]:
        raise Failed(
            f"the generator saw a p99 of {seen:.2f} s and the errors {dict(outcome.failures)} of a backend that stood"
            f" still for 1 s of 8 s; {_STALL[0]} to {_STALL[1]} s and none were to be expected, so that its figures are"
            " worth nothing"
        )
    return f"a backend that stands still for 1 s of 8 s has a p99 of {seen:.2f} s"


def _run(
    folder: Path, scenarios: Sequence[str], subjects: Sequence[str], lanes: int
) -> tuple[dict[str, dict[str, Outcome]], list[str]]:
    """
    @return: what came of it, and of what nothing came.
    """
    stopping = threading.Event()
    found: dict[str, dict[str, Outcome]] = {name: {} for name in scenarios}
    broken: list[str] = []
    with ThreadPoolExecutor(lanes) as pool:
        waiting: dict[Future[Outcome], tuple[str, str]] = {}
        try:
            for scenario in scenarios:
                for number, subject in enumerate(subjects):
                    if SUBJECTS[subject].only not in ("", scenario):
                        continue
                    where = folder / f"{scenario}-{number}"
                    future = pool.submit(run, SUBJECTS[subject], SCENARIOS[scenario], where, stopping)
                    waiting[future] = scenario, subject
            for future in as_completed(waiting):
                scenario, subject = waiting[future]
                try:
                    outcome = future.result()
                except (Failed, Stopped, OSError) as why:
                    broken.append(f"{scenario}, {subject}: {why}")
                    print(broken[-1], file=sys.stderr, flush=True)
                    continue
                found[scenario][subject] = outcome
                print(
                    f"{scenario:8} {subject:26} p50 {outcome.quantile(0.5) * 1000:5.0f} ms, p99"
                    f" {outcome.quantile(0.99) * 1000:5.0f} ms, evenness {outcome.evenness:.2f},"
                    f" errors {dict(outcome.failures)}",
                    flush=True,
                )
        finally:
            stopping.set()
            for future in waiting:
                future.cancel()
    return found, broken


def _earlier(file: Path | None, found: dict[str, dict[str, Outcome]]) -> dict[str, dict[str, Outcome]]:
    """
    What an earlier run has left of the other scenarios, with what came of this one; and leave it to the next one.

    @param file: where that is; L{None}: nowhere.
    """
    if file is None:
        return found
    whole: dict[str, dict[str, Outcome]] = {name: {} for name in SCENARIOS}
    if file.exists():
        for scenario, outcomes in json.loads(file.read_text()).items():
            whole[scenario] = {name: Outcome.of(told) for name, told in outcomes.items()}
    whole |= found
    rows = {name: {subject: own.as_json() for subject, own in outcomes.items()} for name, outcomes in whole.items()}
    file.write_text(json.dumps(rows))
    return whole


def _interrupted(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does: by way of every C{finally}."""
    raise KeyboardInterrupt


def _keep(folder: Path, kept: Path) -> None:
    """Configurations and logs of everything that ran."""
    shutil.copytree(folder, kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pid"))


def main() -> int:
    """
    Run and write the report.

    @return: 1 when something expected did not come, else 0.
    """
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupted)
    raise_descriptors()
    subjects = arguments.subject or (QUICK if arguments.quick else list(SUBJECTS))
    absent = missing({(SUBJECTS[name].program, SUBJECTS[name].package) for name in subjects}, not arguments.no_install)
    subjects = [name for name in SUBJECTS if name in subjects and SUBJECTS[name].program not in absent]
    scenarios = [name for name in SCENARIOS if not arguments.only or name in arguments.only]
    lanes = arguments.lanes or (_LANES_QUICK if arguments.quick else _LANES)
    began = time.monotonic()
    about = describe()
    folder = Path(tempfile.mkdtemp(prefix="lemmytx-balance-"))
    try:
        with ThreadPoolExecutor(1) as beside:
            checked = beside.submit(check_generator, folder)
            found, broken = _run(folder, scenarios, subjects, lanes)
        about["the generator"] = checked.result()
    except Failed as why:
        print(f"balance: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("balance: interrupted, no report", file=sys.stderr)
        return 130
    finally:
        if arguments.logs is not None:
            _keep(folder, arguments.logs)
        shutil.rmtree(folder, ignore_errors=True)
    whole = _earlier(arguments.answers, found)
    if sum(map(bool, whole.values())) > sum(map(bool, found.values())):
        about["not all at one time"] = f"measured just now: {', '.join(scenarios)}"
    found = whole
    about["side by side"] = str(lanes)
    about["load at end"] = f"{os.getloadavg()[0]:.2f}"
    about["wall time"] = f"{time.monotonic() - began:.0f} s"
    late = max((outcome.late for outcomes in found.values() for outcome in outcomes.values()), default=0.0)
    about["latest request of the generator"] = f"{late * 1000:.0f} ms after it was due"
    if absent or broken:
        about["missing"] = "; ".join([*absent, *broken])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    drawn = plot(found, arguments.out.parent)
    arguments.out.write_text(markdown(found, about, drawn))
    print(f"\nwritten: {os.fspath(arguments.out)}")
    missed = [bound for bound in bounds(found) if not bound.kept]
    for bound in missed:
        print(f"not as expected: {bound.text}: {bound.measured}", file=sys.stderr)
    return 1 if missed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
