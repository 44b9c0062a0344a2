"""
Shows the process model working: C{python -m benchmarks.drills}, or C{make drills}.

Under a constant load the configuration is reloaded, the program upgraded, workers are killed and instances stopped,
and the clients say what they saw of it. Everything is on loopback, on ports that the system chose, in a temporary
folder, and gone at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from benchmarks.drills import scenes
from benchmarks.drills.instance import Instance
from benchmarks.drills.load import Amount, Load
from benchmarks.drills.report import markdown
from benchmarks.machine import Failed, Process, describe, raise_descriptors, running

_DRILLS = ("reload", "upgrade", "kill", "stop")


@dataclass(frozen=True)
class Counts:
    """
    How often each drill is done.

    @ivar alone: reloads and upgrades with one worker.
    """

    reload: int = 1000
    upgrade: int = 20
    kill: int = 50
    stop: int = 20
    alone: tuple[int, int] = (1000, 20)


#: Under a minute in all, for CI.
_QUICK = Counts(20, 2, 3, 2, (20, 1))
_QUICK_AMOUNT = Amount(size=40_000_000, rate=10e6)

#: Seconds that exchanges get to end: a download has to fit. And those between SIGTERM and closed listeners.
_DRAIN = 20.0
_DELAY = 1.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drills", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="the short form: less than a minute")
    parser.add_argument("--only", choices=_DRILLS, action="append", help="this drill alone; may be repeated")
    for name in _DRILLS:
        parser.add_argument(f"--{name}s", type=int, help=f"how often ({getattr(Counts, name)})")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/drills.md"), help="the report")
    parser.add_argument("--logs", type=Path, help="a folder that keeps the logs of all processes")
    return parser.parse_args()


def _counts(arguments: argparse.Namespace) -> Counts:
    usual = _QUICK if arguments.quick else Counts()
    wanted = {name: getattr(arguments, f"{name}s") for name in _DRILLS}
    found = {name: getattr(usual, name) if count is None else count for name, count in wanted.items()}
    if arguments.only:
        found = {name: count if name in arguments.only else 0 for name, count in found.items()}
    return Counts(
        **found,
        alone=(min(found["reload"], usual.alone[0]), min(found["upgrade"], usual.alone[1])),
    )


@contextlib.contextmanager
def _instances(folder: Path, names: list[str], workers: int, load: Load, delay: float) -> Iterator[list[Instance]]:
    """Start instances and aim the load at them; end them with all that they left."""
    made: list[Instance] = []
    try:
        for name in names:
            instance = Instance(folder / name, workers, load.origins, delay, _DRAIN)
            made.append(instance)
            instance.write(0)
            instance.start()
        load.aim(made)
        yield made
    finally:
        for instance in made:
            instance.close()


def _run(folder: Path, counts: Counts, amount: Amount) -> list[scenes.Scene]:
    found: list[scenes.Scene] = []

    def done(scene: scenes.Scene) -> None:
        found.append(scene)
        print(f"{scene.title}: {scene.whole:.0f} s, {'; '.join(scene.broken) or 'all bounds kept'}", flush=True)

    started: list[Process] = []
    with running(started):
        load = Load(folder, amount, started)
        try:
            if counts.reload or counts.upgrade or counts.kill:
                with _instances(folder, ["two"], 2, load, 0.0) as (two,):
                    if counts.reload:
                        done(scenes.reloads(two, load, counts.reload, 2))
                    if counts.kill:
                        done(scenes.kills(two, load, counts.kill, 2))
                    if counts.upgrade:
                        done(scenes.upgrades(two, load, counts.upgrade, 2))
            if any(counts.alone):
                with _instances(folder, ["one"], 1, load, 0.0) as (one,):
                    if counts.alone[0]:
                        done(scenes.reloads(one, load, counts.alone[0], 1))
                    if counts.alone[1]:
                        done(scenes.upgrades(one, load, counts.alone[1], 1))
            if counts.stop:
                with _instances(folder, ["left", "right"], 2, load, _DELAY) as pair:
                    done(scenes.stops(pair, load, counts.stop, 2))
        finally:
            load.close()
    return found


def _interrupted(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does: by way of every C{finally}."""
    raise KeyboardInterrupt


def _keep(folder: Path, kept: Path) -> None:
    """The logs of everything that ran."""
    for path in [*folder.glob("*.log"), *folder.glob("*/log")]:
        name = path.name if path.parent == folder else f"{path.parent.name}.log"
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept / name)


def main() -> int:
    """
    Run and write the report.

    @return: 1 when a bound was not kept, else 0.
    """
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupted)
    raise_descriptors()
    began = time.monotonic()
    amount = _QUICK_AMOUNT if arguments.quick else Amount()
    folder = Path(tempfile.mkdtemp(prefix="lemmytx-drills-"))
    about = describe()
    try:
        found = _run(folder, _counts(arguments), amount)
    except Failed as why:
        print(f"drills: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("drills: interrupted, no report", file=sys.stderr)
        return 130
    finally:
        if arguments.logs is not None:
            _keep(folder, arguments.logs)
        shutil.rmtree(folder, ignore_errors=True)
    about["wall time"] = f"{time.monotonic() - began:.0f} s"
    text = markdown(found, about, amount)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text)
    print(f"\n{text}\nwritten: {os.fspath(arguments.out)}")
    return 1 if any(scene.broken for scene in found) else 0


if __name__ == "__main__":
    sys.exit(main())
