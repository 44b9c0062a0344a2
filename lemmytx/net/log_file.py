"""
A file that takes one line per request and never makes a request wait.

Lines are gathered in one buffer. In a list, the memory of each would be its own until the batch is written, and every
request would write over memory that no cache holds. A timer, or the size, hands the buffer to a thread that does
nothing but write. It is a thread of its own and not one of the reactor's pool: a pipe that nobody reads, or a dead
network file system, may block it for ever, and then it must neither keep a worker from the resolver nor the process
from ending.

B{What cannot be written} (a full disk, a missing folder, no permission) is kept and tried again every second, up to
L{LIMIT} bytes. Beyond that, new lines are dropped and counted until half of it has drained. Each of these states is
told once when it begins and once when it ends, and serving goes on whatever happens here.

B{Several processes} that write to one file need nothing: it is appended to, and that is whole. A pipe takes more than
PIPE_BUF bytes (4096) in pieces, between which others write, so they take turns there by a lock on a file that they
share (L{fcntl.lockf}; it goes with the process that holds it).

Two threads share this. The reactor's writes C{LogFile._handed}, the writer's writes C{_Writer.written}; each only reads
the other's, so no lock is needed, and the difference is never less than what waits.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Seconds between two flushes: how old a line may be when it is written.
INTERVAL = 0.5

#: So many bytes are not kept back for the timer.
BATCH = 64 * 1024

#: The most bytes that wait for the writer.
LIMIT = 8 * 1024 * 1024

#: Seconds until what could not be written is tried again.
RETRY = 1.0

#: Seconds that the end of the process waits for the last lines.
PATIENCE = 3.0

#: Who else may read the addresses of visitors: the group, for log shippers.
MODE = 0o640

STANDARD_OUTPUT = "-"

T = TypeVar("T")


class LogFile:
    """
    Everything but what the writer does is called from the reactor's thread.

    @ivar path: as configured; C{-} is standard output.
    @ivar dropped: lines that were lost, since the start.
    """

    def __init__(
        self,
        path: str,
        clock: IReactorTime,
        call_from_thread: Callable[..., None],
        limit: int = LIMIT,
        retry: float = RETRY,
        log: Logger | None = None,
        lock: int | None = None,
    ) -> None:
        """
        @param clock: for the timer.
        @param call_from_thread: C{reactor.callFromThread}: calls a function with arguments in the reactor's thread.
        @param limit: the most bytes that wait to be written.
        @param retry: seconds until what could not be written is tried again.
        @param lock: a descriptor, open for writing, of a file that is the same for all processes that write to this
            path, and serves for nothing else; L{None}: there is one alone. It stays the caller's, and open.
        """
        self.path = path
        self.dropped = 0
        self._limit = limit
        self._lines = bytearray()  # always the same object: recorders hold it
        self._handed = 0
        self._dropping = 0
        self._trouble = ""
        self._log = log or Logger(namespace="lemmytx.access_log")
        self._timer = LoopingCall(self.flush)
        self._timer.clock = clock
        self._writer = _Writer(path, retry, lambda trouble: call_from_thread(self._trouble_changed, trouble), lock)

    def start(self) -> None:
        """Open the file and begin to write. To be called after the process has become a daemon: threads do not fork."""
        self._writer.start()
        self._timer.start(INTERVAL, now=False)

    def append(self, line: bytes) -> None:
        """
        One more line, with its line feed.
        """
        lines = self._lines
        lines += line
        if len(lines) > BATCH:
            self.flush()

    def recorder(self, append: Callable[[T, bytearray], None]) -> Callable[[T], None]:
        """
        @param append: writes the line for an entry, with its line feed, to the end of a buffer.
        @return: what does that with the buffer of this file. It is called once per request, on its way.
        """
        lines, flush = self._lines, self.flush

        def record(entry: T) -> None:
            append(entry, lines)
            if len(lines) > BATCH:
                flush()

        return record

    def flush(self) -> None:
        """Hand what there is to the writer."""
        if not self._lines:
            return
        lines = bytes(self._lines)
        self._lines.clear()
        size = len(lines)
        waiting = self._handed - self._writer.written
        if waiting + size > (self._limit // 2 if self._dropping else self._limit):
            self._drop(lines.count(b"\n"))
            return
        if self._dropping:
            self._dropping_over()
        self._handed += size
        self._writer.work.put([lines])

    def reopen(self) -> None:
        """Whoever rotates logs has moved the file: what comes from now on goes into a new one of the old name."""
        self.flush()
        self._writer.work.put(_REOPEN)

    def close(self, patience: float = PATIENCE) -> None:
        """
        Write what there is, and end. It blocks, at most C{patience} seconds: it is the last thing a process does.
        """
        if self._timer.running:
            self._timer.stop()
        self.flush()
        self._writer.end(patience)
        lost = self._handed - self._writer.written
        if lost:
            self._log.error("access log {path}: the last {lost} bytes could not be written", path=self.path, lost=lost)
        if self._dropping:
            self._dropping_over()

    def _drop(self, count: int) -> None:
        """There is no room."""
        if not self._dropping:
            self._log.error(
                "access log {path}: {limit} bytes wait to be written{why}; lines are dropped until half of them are"
                " out (told once, counted always)",
                path=self.path,
                limit=self._limit,
                why=f" ({self._trouble})" if self._trouble else "",
            )
        self._dropping += count
        self.dropped += count

    def _dropping_over(self) -> None:
        """There is room again."""
        self._log.warn("access log {path}: {count} lines were dropped", path=self.path, count=self._dropping)
        self._dropping = 0

    def _trouble_changed(self, trouble: str) -> None:
        """Called for the writer, in the reactor's thread. C{trouble} is empty when there is none any more."""
        self._trouble = trouble
        if trouble:
            self._log.error(
                "access log {path}: {trouble}; requests are served on, their lines wait, and it is tried again",
                path=self.path,
                trouble=trouble,
            )
        else:
            self._log.info("access log {path}: it can be written again", path=self.path)


#: What the writer is told beside lines.
_REOPEN: list[bytes] = []
_END: list[bytes] = []


class _Writer:
    """
    The thread.

    @ivar work: batches of lines, L{_REOPEN}, L{_END}.
    @ivar written: bytes that are out, since the start. Written by the thread, read by others.
    """

    def __init__(self, path: str, retry: float, tell: Callable[[str], None], lock: int | None) -> None:
        """
        @param tell: called in the thread with what is wrong, or with an empty text when nothing is any more.
        """
        self._lock = lock
        self._regular = False
        self.work: SimpleQueue[list[bytes]] = SimpleQueue()
        self.written = 0
        self._path = path
        self._retry = retry
        self._tell = tell
        self._fd = -1
        self._trouble = False
        self._hurry = threading.Event()
        # A daemon: one that is blocked by a dead file system must not keep the process.
        self._thread = threading.Thread(target=self._run, name=f"access log {path}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self, patience: float) -> None:
        """Write what is in the queue, and end. What cannot be written now is given up."""
        self.work.put(_END)
        self._hurry.set()
        if self._thread.ident is not None:
            self._thread.join(patience)

    def _run(self) -> None:
        try:
            self._open()
        except (OSError, ValueError) as error:
            self._failed(error)
        while True:
            lines = self.work.get()
            if lines is _END:
                break
            if lines is _REOPEN:
                self._close()
                continue
            rest = b"".join(lines)
            while rest:
                last_time = self._hurry.is_set()
                rest = self._write_on(rest)
                if rest and self._trouble:
                    if last_time:
                        return
                    self._hurry.wait(self._retry)
        self._close()

    def _write_on(self, data: bytes) -> bytes:
        """
        Write, to a pipe when it is this process's turn.

        @return: what is not out yet.
        """
        lock = self._lock
        try:
            if self._fd < 0 or self._deleted():
                self._open()
            if lock is None or self._regular:
                return self._write(data)
            fcntl.lockf(lock, fcntl.LOCK_EX)
        except (OSError, ValueError) as error:
            self._failed(error)
            return data
        try:
            # The others wait until all is out, or nothing can be written.
            while True:
                rest = self._write(data)
                if not rest or (self._trouble and len(rest) == len(data)):
                    return rest
                data = rest
        finally:
            fcntl.lockf(lock, fcntl.LOCK_UN)

    def _write(self, data: bytes) -> bytes:
        """
        @return: what is not out yet.
        """
        try:
            count = os.write(self._fd, data)
        except BlockingIOError:
            # Standard output can be a pipe that somebody else has made non-blocking. A slow reader is no fault.
            waiting = select.poll()
            waiting.register(self._fd, select.POLLOUT)
            waiting.poll(1000)
            return data
        except OSError as error:
            self._failed(error)
            return data
        self.written += count
        if self._trouble and count == len(data):
            self._trouble = False
            self._tell("")
        return data[count:]

    def _open(self) -> None:
        """
        @raise OSError: when that is not possible.
        @raise ValueError: when the path is none.
        """
        self._close()
        if self._path == STANDARD_OUTPUT:
            self._fd = 1
        else:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY, MODE)
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)

    def _deleted(self) -> bool:
        """Whether what is written would be gone with us: somebody has removed the file instead of moving it."""
        return self._path != STANDARD_OUTPUT and os.fstat(self._fd).st_nlink == 0

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0 and self._path != STANDARD_OUTPUT:
            try:
                os.close(fd)
            except OSError as error:
                # A network file system may say only now that earlier writes were lost.
                self._tell_once(error)

    def _failed(self, error: Exception) -> None:
        """The next attempt begins with opening the file: it may be another one by then."""
        self._tell_once(error)
        self._close()

    def _tell_once(self, error: Exception) -> None:
        if not self._trouble:
            self._trouble = True
            self._tell(getattr(error, "strerror", None) or str(error))
