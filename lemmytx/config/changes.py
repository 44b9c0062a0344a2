"""What is different between two configurations, for people: one line for each difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from lemmytx.model import LARGE, Configuration, Scheduler
from lemmytx.units import shown

#: More lines than these tell nobody more.
MOST = 100

#: Values that must not be shown.
_SECRET = ("hash", "secret", "secrets")

#: By what the members of a list are told apart, by the name of the list. Others go by their place.
_KEYS = {"listeners": "endpoint", "vhosts": "name", "backends": "url", "tokens": "name"}


def changes(old: Configuration, new: Configuration) -> list[str]:
    """
    @return: a line for each setting that is another one, as C{clusters.web.backends[http://b]: added}; at most L{MOST}
        and one that says how many more there are. Empty when both mean the same.
    """
    lines = [*_other_schedulers(old, new), *_differences("", old, new)]
    if len(lines) > MOST:
        lines[MOST:] = [f"and {len(lines) - MOST} more"]
    return lines


def _differences(place: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, BaseModel) and type(old) is type(new):
        for name in type(old).model_fields:
            yield from _differences(f"{place}.{name}" if place else name, getattr(old, name), getattr(new, name))
    elif place.rpartition(".")[2] in _SECRET or place.startswith("store.options."):
        # A store's URL may have a password in it, and which option of a plugin is secret nobody knows.
        yield f"{place}: changed"
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _members(f"{place}.{{}}", old, new)
    elif isinstance(old, Sequence) and isinstance(new, Sequence) and not isinstance(old, str | bytes):
        key = _KEYS.get(place.rpartition(".")[2])
        yield from _members(f"{place}[{{}}]", _by(key, old), _by(key, new))
    else:
        yield f"{place}: {_value(old)} → {_value(new)}"


def _other_schedulers(old: Configuration, new: Configuration) -> Iterator[str]:
    """Clusters that name no scheduler have another one when they become large, or are no more."""
    for name, cluster in new.clusters.items():
        former = old.clusters.get(name)
        if former is None or former.scheduler is not None or cluster.scheduler is not None:
            continue
        count = len(cluster.backends)
        before, after = former.scheduler_of(len(former.backends)).name, cluster.scheduler_of(count).name
        if before != after:
            yield (
                f"clusters.{name}.scheduler: {before} → {after}, since there is none named and there are"
                f" {'more than' if count > LARGE else 'no more than'} {LARGE} backends"
            )


def _by(key: str | None, members: Sequence[Any]) -> dict[object, Any]:
    """Members of a list under what they are told apart by; one that comes twice, by its place as well."""
    found: dict[object, Any] = {}
    for place, member in enumerate(members):
        name = place if key is None else getattr(member, key, getattr(getattr(member, "location", None), key, place))
        found[name if name not in found else f"{name} ({place})"] = member
    return found


def _members(form: str, old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Iterator[str]:
    for name in old:
        if name not in new:
            yield f"{form.format(name)}: removed"
    for name, member in new.items():
        if name in old:
            yield from _differences(form.format(name), old[name], member)
        else:
            yield f"{form.format(name)}: added"
    if list(old) != list(new) and sorted(map(str, old)) == sorted(map(str, new)):
        yield f"{form.partition('{')[0].rstrip('.[')}: in another order"


def _value(value: object) -> str:
    if isinstance(value, Scheduler):
        return value.name
    if isinstance(value, BaseModel):
        return "changed"
    if value is None or isinstance(value, bool | int | float | str):
        return shown(value)
    return str(value)
