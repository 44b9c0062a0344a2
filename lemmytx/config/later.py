"""
What the configuration's documentation names and this version does not do: refused in so many words, instead of "no such
setting", so that nobody looks for a typo. The one table of it; an entry goes when its feature comes.
"""

from __future__ import annotations

from collections.abc import Iterator

from lemmytx.config.problems import Path
from lemmytx.units import shown

NOT_YET = "not available in this version of lemmytx"

#: Settings; C{"*"} is every name or place. One that is false or empty asks for nothing and is let through.
SETTINGS: tuple[tuple[str, ...], ...] = ()

#: Values of settings that exist.
VALUES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ((("access_log", "format"), ("haproxy",)),)


def _find(data: object, pattern: tuple[str, ...], path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every place in the data that a pattern names, with what stands there."""
    if not pattern:
        yield path, data
    elif isinstance(data, dict):
        for name in list(data) if pattern[0] == "*" else [pattern[0]]:
            if name in data:
                yield from _find(data[name], pattern[1:], (*path, name))
    elif isinstance(data, list) and pattern[0] == "*":
        for index, item in enumerate(data):
            yield from _find(item, pattern[1:], (*path, index))


def take_out(data: object) -> dict[Path, str]:
    """
    Takes the settings that come later out of the data.

    @param data: changed in place.
    @return: where something was asked for that there is not, and the text for it.
    """
    refused: dict[Path, str] = {}
    for pattern in SETTINGS:
        for path, section in _find(data, pattern[:-1]):
            if isinstance(section, dict) and pattern[-1] in section:
                value = section.pop(pattern[-1])
                if value is not None and value is not False:
                    refused[*path, pattern[-1]] = NOT_YET
    for pattern, values in VALUES:
        refused |= {path: f"{shown(value)} is {NOT_YET}" for path, value in _find(data, pattern) if value in values}
    return refused
