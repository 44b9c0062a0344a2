"""
From what stands in a store to a L{Table}: what cannot be used is left out and named, what has not changed stays the
same objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from lemmytx.addresses import parse_host, parse_url
from lemmytx.names import NAME
from lemmytx.table import MOST_SETTINGS, Entry, Fault, Member, State, Table
from lemmytx.units import shown, without_login

# Nine out of ten: host and port, in their one form. It saves 5 µs each, half a second of a table of 100,000.
_PLAIN = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*:(?:[1-9][0-9]{0,3}|[1-5][0-9]{4})\Z")

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

ROLES = ("active", "backup", "standby")
STATES = ("ready", "drain", "disabled")

#: As in the configuration.
MOST_WEIGHT = 1000
MOST_CAPACITY = 1_000_000

#: Longest name of a vhost or a member in a L{Fault}. In a store there may be anything, and what is wrong is logged.
LONGEST = 200


def url_of(text: str) -> str:
    """
    @param text: of a L{Member}.
    @return: the backend's URL. Whether it is one is for L{parse_url} to say.
    """
    return text if "://" in text else f"http://{text}"


def _usual_name(text: str) -> str:
    """
    What a member is called that has no name.

    @raise ValueError: it is no member.
    """
    if len(text) <= 60 and _PLAIN.match(text):
        return text
    return parse_url(url_of(text)).name


def name_of(member: Member) -> str:
    """
    @return: what the backend is called in logs, statistics and L{State}s: its name, or what its URL says.
    @raise ValueError: its text is neither C{host}, C{host:port} nor a backend URL.
    """
    return member.name or _usual_name(member.text)


def check(member: Member) -> str:
    """
    @return: its name, as L{name_of}.
    @raise ValueError: it cannot be used; with a text for the user.
    """
    text, name, weight, capacity, role = member
    usual = _usual_name(text)
    # Compared by type as well: a flag is no number, and what came out of JSON may be anything.
    if type(weight) is not int or not 0 <= weight <= MOST_WEIGHT:
        raise ValueError(f"weight: found {shown(weight)}; write a whole number from 0 to {MOST_WEIGHT}")
    if type(capacity) is not int or not 0 <= capacity <= MOST_CAPACITY:
        raise ValueError(f"capacity: found {shown(capacity)}; write a whole number from 0 to {MOST_CAPACITY}")
    if role not in ROLES:
        raise ValueError(f"role: found {shown(role)}; write {', '.join(ROLES)}")
    if not name:
        return usual
    try:
        return str(NAME.parse(name))
    except ValueError as error:
        raise ValueError(f"name: {error}") from None


def entry(name: str, settings: str, members: Iterable[Member]) -> tuple[Entry | None, tuple[Fault, ...]]:
    """
    A vhost as it is used.

    Whether the settings make sense is left to whoever makes a cluster of them, and still has the one from before.

    @param name: as it stands in the store. It has to stand there in the form in which hosts are compared.
    @param members: in any order.
    @return: the vhost with those members that can be used, or L{None}; and what was left out.
    """
    try:
        host = parse_host(name)
    except ValueError as error:
        return None, (Fault(name, "", str(error)),)
    if host != name:
        return None, (Fault(name, "", f"found {shown(name)}; write it as {shown(host)}"),)
    faults: list[Fault] = []
    found: list[Member] = []
    names: dict[str, str] = {}
    for member in sorted(members, key=_text):
        try:
            called = check(member)
        except ValueError as error:
            faults.append(Fault(name, member.text, str(error)))
            continue
        if names.setdefault(called, member.text) != member.text:
            why = f"is called {shown(called)}, as {shown(names[called])} is; give it a name of its own"
            faults.append(Fault(name, member.text, why))
            continue
        found.append(member)
    return Entry(name, tuple(found), settings[: MOST_SETTINGS + 1]), tuple(faults)


def _text(member: Member) -> str:
    return member.text


def usable(state: State) -> bool:
    """Whether a state is one."""
    return state.state in STATES


def states(
    found: Iterable[tuple[tuple[str, str], State]],
) -> tuple[dict[tuple[str, str], State], tuple[Fault, ...]]:
    """
    What is wanted of backends.

    @param found: by the names of cluster and backend.
    @return: those that can be used; and what was left out.
    """
    kept: dict[tuple[str, str], State] = {}
    faults: list[Fault] = []
    for (cluster, backend), state in found:
        if usable(state):
            kept[cluster, backend] = state
        else:
            why = f"state: found {shown(state.state)}; write {', '.join(STATES)}"
            faults.append(Fault(cluster, backend, why))
    return kept, tuple(faults)


def again(
    known: Table,
    vhosts: Mapping[str, Entry],
    states: Mapping[tuple[str, str], State],
    faults: Iterable[Fault],
) -> Table:
    """
    A table out of what was read, with the objects of the one before wherever they say the same.

    @param faults: in any order.
    @return: C{known} itself, when nothing has changed.
    """
    found = tuple(sorted(map(_fit_to_show, faults)))
    same_vhosts, same_states = _again(known.vhosts, vhosts), _again(known.states, states)
    if same_vhosts is known.vhosts and same_states is known.states and found == known.faults:
        return known
    return Table(same_vhosts, same_states, found)


def _fit_to_show(fault: Fault) -> Fault:
    vhost, member, why = fault
    if max(len(vhost), len(member)) <= LONGEST and "@" not in member:
        return fault
    return Fault(_short(vhost), _short(without_login(member)), why)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _again(before: Mapping[_Key, _Value], now: Mapping[_Key, _Value]) -> Mapping[_Key, _Value]:
    changed = len(before) != len(now)
    same: dict[_Key, _Value] = {}
    for key, read in now.items():
        present = before.get(key)
        if present is not None and (present is read or present == read):
            same[key] = present
        else:
            same[key] = read
            changed = True
    return same if changed else before
