"""
What the benchmark asks of the machine: cores, ports, processes, and what C{/proc} knows about them.

CPU time and memory are those of a process and all of its descendants, since nginx serves from a child of the process
that was started. Everything started here is ended by its process id, also when the run is interrupted.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")

#: How long a process may take from its start to its first answer, and to end once it was told to, in seconds.
START = 10.0
STOP = 5.0


class Failed(Exception):
    """A process did not do what the run needs of it; the text says which and why."""


def cores() -> tuple[str, str]:
    """
    The cores for the proxy and for everything else, as C{taskset -c} reads them. The same one twice where there is
    only one: then CPU times are still right and rates are not.
    """
    usable = sorted(os.sched_getaffinity(0))
    return str(usable[0]), str(usable[1] if len(usable) > 1 else usable[0])


def pin_self(core: str) -> None:
    """Keep this process, which plays slow and idle clients, off the proxy's core."""
    os.sched_setaffinity(0, {int(core)})


def raise_descriptors() -> int:
    """Raise the limit of open descriptors to the hard one, for this process and what it starts; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status_line(link: socket.socket) -> str:
    """
    Ask for C{/} on a connection that is not used for anything else; the first line of the answer.

    @raise OSError: there is none.
    """
    link.sendall(b"GET / HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\n\r\n")
    return link.recv(200).partition(b"\r\n")[0].decode("latin-1")


def _answer(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=2) as link:
        return status_line(link)


def describe() -> dict[str, str]:
    """The machine, for the head of the report."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load at start": f"{os.getloadavg()[0]:.2f}",
    }


def _stat(pid: int) -> list[str]:
    """The fields of C{/proc/PID/stat} after the command's name, which may itself hold spaces and parentheses."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _family(root: int) -> list[int]:
    """A process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


class Process:
    """A program that was started for the run, on one core, with its output in a file."""

    def __init__(
        self, name: str, command: Sequence[str], core: str, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._log = log
        taskset = shutil.which("taskset")
        pinned = [taskset, "-c", core, *command] if taskset else list(command)
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches this process alone, which then ends the others in order.
            self._popen = subprocess.Popen(
                pinned,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def wait_until_serving(self, port: int, answer: Callable[[int], str] | None = None) -> None:
        """
        Return once a GET on the port is answered with 200.

        @param answer: gives a port's status line, or raises OSError; None: that of HTTP/1.1 in the clear.
        @raise Failed: it ended, or gave no such answer in time; with the end of its output.
        """
        deadline = time.monotonic() + START
        seen = "no connection, or no answer on it"
        while time.monotonic() < deadline:
            if self._popen.poll() is not None:
                raise Failed(f"{self.name} ended with status {self._popen.returncode}: {self._tail()}")
            with contextlib.suppress(OSError):
                seen = (answer or _answer)(port)
                if seen.split(" ")[1:2] == ["200"]:
                    return
            time.sleep(0.05)
        raise Failed(f"{self.name} gave no 200 on port {port} within {START:.0f} s ({seen}): {self._tail()}")

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return " / ".join(lines[-4:]) or "no output"

    def cpu(self) -> float:
        """User and system time of the family so far, in seconds, children that ended included."""
        ticks = 0
        for pid in _family(self._popen.pid):
            with contextlib.suppress(OSError):
                ticks += sum(int(value) for value in _stat(pid)[11:15])
        return ticks / _TICKS

    def memory(self) -> int:
        """Resident memory of the family now, in bytes."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """The most resident memory each member of the family ever had (or had since L{forget_peak}), in bytes."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Let L{peak} count from the memory of this moment (proc(5), clear_refs)."""
        for pid in _family(self._popen.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _status(self, field: str) -> int:
        total = 0
        for pid in _family(self._popen.pid):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(field):
                        total += int(line.split()[1]) * 1024
        return total

    def kill(self) -> None:
        """End it and its descendants at once, as a crash of the machine would."""
        for pid in _family(self._popen.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait()

    def stop(self) -> None:
        """End it: politely, then by force with whatever descendants are left."""
        family = _family(self._popen.pid) if self._popen.poll() is None else []
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP)
            return
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait()


@contextlib.contextmanager
def running(processes: list[Process]) -> Iterator[list[Process]]:
    """The list, to which the body adds what it starts; all of it is stopped at the end, however that comes."""
    try:
        yield processes
    finally:
        for process in processes:
            process.stop()
