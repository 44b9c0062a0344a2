"""What every part of the run needs: findings, commands, contents that can be recognised, and a wait with an end."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.machine import Failed

T = TypeVar("T")

#: Bytes that are read and written at a time.
PIECE = 1 << 20

#: Seconds that a command may take. A clone or an install takes two; the machine may be busy.
COMMAND = 120.0


@dataclass(frozen=True)
class Finding:
    """
    One line of the report.

    @ivar program: what was used.
    @ivar did: what was done with it.
    @ivar saw: what came of it, with figures.
    @ivar good: whether that is what should have come of it.
    """

    program: str
    did: str
    saw: str
    good: bool = True


def environment(home: Path, **more: str) -> dict[str, str]:
    """
    The environment for a program: a home of its own, so that nobody's settings decide what is seen, and no proxy but
    the one that is looked at.
    """
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home), **more}


def command(
    arguments: Sequence[str | Path], home: Path, folder: Path | None = None, more: Mapping[str, str] | None = None
) -> str:
    """
    Run a command to its end.

    @param home: its home.
    @param folder: where it runs; its home, unless given.
    @param more: what else it finds in its environment.
    @return: what it printed, errors included.
    @raise Failed: it ended with another status than 0, or not in time.
    """
    words = [str(argument) for argument in arguments]
    try:
        ended = subprocess.run(
            words,
            cwd=folder or home,
            env=environment(home, **(more or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{words[0]} did not end within {COMMAND:.0f} s: {' '.join(words)}") from None
    printed = ended.stdout.decode("utf-8", "replace")
    if ended.returncode:
        raise Failed(f"{' '.join(words)} ended with status {ended.returncode}: {printed[-2000:]}")
    return printed


def until(what: str, seconds: float, look: Callable[[], T | None], pause: float = 0.1) -> T:
    """
    Ask again and again until there is an answer.

    @param what: what is waited for, for the error.
    @param look: gives something true once it is there.
    @raise Failed: it did not come in time.
    """
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(pause)


def contents(size: int, seed: int) -> bytes:
    """Bytes that do not repeat themselves, the same ones for the same seed."""
    return random.Random(seed).randbytes(size)


def write_large(path: Path, size: int) -> str:
    """
    Write a file of contents that nothing can compress or take for another part of it.

    @return: its SHA-256.
    """
    digest = hashlib.sha256()
    with path.open("wb") as file:
        left = size
        while left:
            piece = os.urandom(min(left, PIECE))
            digest.update(piece)
            file.write(piece)
            left -= len(piece)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path from there: its SHA-256."""
    return {str(path.relative_to(folder)): bytes.fromhex(sha256(path)) for path in folder.rglob("*") if path.is_file()}
