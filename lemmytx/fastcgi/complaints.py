"""
What programs write to STDERR, as it may go into a log: text that cannot imitate other lines, and not without end.
"""

from __future__ import annotations

import re

#: Lines that the scripts of one cluster may put into the log within a second. A script that warns is a script that
#: warns on every request.
LINES_A_SECOND = 10

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def readable(errors: bytes, size: int) -> str:
    """
    In one line.

    @param errors: what was kept.
    @param size: how much it was altogether.
    """
    lines = errors.decode("utf-8", "backslashreplace").splitlines()
    text = " | ".join(_CONTROL.sub(_escaped, line).strip() for line in lines if line.strip())
    cut = size - len(errors)
    return f"{text} (and {cut} bytes more)" if cut else text


def _escaped(found: re.Match[str]) -> str:
    return "\t" if found[0] == "\t" else f"\\x{ord(found[0]):02x}"


class Allowance:
    """
    So many lines within a second, the rest is counted.

    @ivar dropped: lines that were not allowed since one that was.
    """

    __slots__ = ("_lines", "_second", "_used", "dropped")

    def __init__(self, lines: int = LINES_A_SECOND) -> None:
        self._lines = lines
        self._second = -1
        self._used = 0
        self.dropped = 0

    def take(self, now: float) -> bool:
        """
        @param now: in seconds, from any start.
        @return: whether one more line may be written. Whoever writes it tells, and sets back, C{dropped}.
        """
        second = int(now)
        if second != self._second:
            self._second = second
            self._used = 0
        if self._used >= self._lines:
            self.dropped += 1
            return False
        self._used += 1
        return True
