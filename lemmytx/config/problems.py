"""What is wrong with a configuration file, one line each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Where a setting is: names of settings and places in lists, from the top.
Path = tuple[str | int, ...]

_PLAIN = re.compile(r"[^\s.\[\]:'\"]+\Z")


def setting_name(path: Path) -> str:
    """A path as people write it: C{clusters.api.backends[1].weight}."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN.match(part) and part.isprintable():
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def nearest(name: str, names: Iterable[str]) -> str:
    """
    @return: C{"; did you mean 'weight'?"} when a name is close to one that exists, else the empty string.
    """
    found = difflib.get_close_matches(name[:100], list(names), 1, 0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    One thing that is wrong.

    @ivar file: the file, as the user named it.
    @ivar line: counted from 1; 0 when it concerns no line.
    @ivar setting: as in C{clusters.api.backends[1].weight}; empty when it concerns the file.
    @ivar text: what was found, and what to write instead.
    """

    file: str
    line: int
    setting: str
    text: str

    def __str__(self) -> str:
        """One line, whatever characters the file had in it."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = f"{place}: {self.setting}: {self.text}" if self.setting else f"{place}: {self.text}"
        if text.isprintable():
            return text
        return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


class ConfigurationError(Exception):
    """
    A configuration that cannot be used, with everything that is wrong with it.

    @ivar errors: in the order of the lines; never empty. C{str()} gives a line for each.
    """

    def __init__(self, errors: Sequence[Problem]) -> None:
        super().__init__(errors)
        self.errors = sorted(errors, key=lambda problem: problem.line)

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))
