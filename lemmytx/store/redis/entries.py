"""
What stands in Redis, as it is used: vhosts, members with their attributes, states.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from lemmytx.store import reading
from lemmytx.store.redis.said import Refusal
from lemmytx.table import Entry, Fault, Member, State
from lemmytx.units import shown

#: What an attribute is called in Redis, and so it is in L{Member}.
ATTRIBUTES = ("weight", "capacity", "role", "name")

#: Longest reason that is taken, in characters.
LONGEST = 200

#: Latest time that is one: in the year 9999.
LATEST = 253_000_000_000

# Members that need no closer look: an IPv4 address or a plain name, and a port. Two of them that differ are two
# backends. Nearly all are so, and looking closely takes 10 µs for each.
_PLAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,20}[a-z0-9_])?\.){0,6}[a-z0-9_]{1,20}:[1-9][0-9]{0,3}\Z")
_PLAIN_HOST = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,20}[a-z0-9_])?\.){0,6}[a-z0-9_]{1,20}\Z")

Found = tuple[Entry | None, tuple[Fault, ...]]


def entry_of(raw: bytes, members: Any, attributes: Any, settings: Any, before: Entry | None) -> Found:
    """
    A vhost out of the replies about it.

    @param raw: its name.
    @param members: reply to ZRANGEBYSCORE of its backends.
    @param attributes: reply to HGETALL of their attributes.
    @param settings: reply to GET of its settings.
    @param before: what it was; that holds for what cannot be read now.
    @return: the vhost with what can be used of it, and what cannot.
    """
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return None, (Fault(text_of(raw), "", "its name is no text in UTF-8"),)
    faults: list[Fault] = []
    text = ""
    if isinstance(settings, Refusal):
        faults.append(Fault(name, "", "its settings cannot be read: the key is of another type than a string"))
        text = before.settings if before is not None else ""
    elif settings:
        try:
            text = settings.decode()
        except UnicodeDecodeError:
            faults.append(Fault(name, "", "its settings are no text in UTF-8"))
            text = before.settings if before is not None else ""
    if isinstance(members, Refusal):
        faults.append(Fault(name, "", "its backends cannot be read: the key is of another type than a sorted set"))
        kept = before.members if before is not None else ()
        found, more = reading.entry(name, text, kept)
        return found, (*faults, *more)
    if not attributes and not faults and _PLAIN_HOST.match(name):
        try:
            texts = sorted([member.decode() for member in members])
        except UnicodeDecodeError:
            pass
        else:
            if all(map(_PLAIN.match, texts)):
                return Entry(name, tuple([Member(text) for text in texts]), text), ()
    if isinstance(attributes, Refusal):
        faults.append(
            Fault(name, "", "its backends' attributes cannot be read: the key is of another type than a hash")
        )
        known = {member.text: member for member in before.members} if before is not None else {}
        described: dict[bytes, bytes] = {}
    else:
        known = {}
        described = dict(zip(attributes[::2], attributes[1::2], strict=True))
    usable: list[Member] = []
    for member in members:
        try:
            text_there = member.decode()
        except UnicodeDecodeError:
            faults.append(Fault(name, text_of(member), "is no text in UTF-8"))
            continue
        try:
            usable.append(known.get(text_there) or _member(text_there, described.get(member)))
        except ValueError as error:
            faults.append(Fault(name, text_there, str(error)))
    found, more = reading.entry(name, text, usable)
    return found, (*faults, *more)


def _member(text: str, described: bytes | None) -> Member:
    """
    @raise ValueError: its attributes cannot be used; with a text for the user.
    """
    if described is None:
        return Member(text)
    try:
        found = json.loads(described)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"its attributes are {shown(text_of(described))}; write a JSON object, as in " + '{"weight": 2}'
        )
    for name in found:
        if name not in ATTRIBUTES:
            raise ValueError(f"it has no attribute {shown(name)}; there are {', '.join(ATTRIBUTES)}")
    if not isinstance(found.get("name", ""), str):
        raise ValueError(f"name: found {shown(found['name'])}; write it in quotes")
    return Member(text)._replace(**found)


def attributes_of(member: Member) -> str:
    """
    @return: the attributes as they are stored; empty: there are none but usual ones.
    """
    usual = Member(member.text)
    found = {name: getattr(member, name) for name in ATTRIBUTES if getattr(member, name) != getattr(usual, name)}
    return json.dumps(found) if found else ""


def field_of(cluster: str, backend: str) -> str:
    """The field of a state. No cluster's name has a slash in it."""
    return f"{cluster}/{backend}"


def state_text(state: State) -> str:
    """A state as it is stored."""
    return json.dumps(state._asdict())


def state_of(field: bytes, value: bytes) -> tuple[tuple[str, str], State]:
    """
    @return: a state, and whose it is.
    @raise ValueError: it cannot be used; with a text for the user.
    """
    try:
        cluster, slash, backend = field.decode().partition("/")
    except UnicodeDecodeError:
        raise ValueError("the field is no text in UTF-8") from None
    if not slash or not cluster or not backend:
        raise ValueError("the field is not of the form CLUSTER/BACKEND")
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        # By hand it is written short.
        found = {"state": text_of(value)}
    at = found.get("at")
    state = State(
        str(found.get("state", "")),
        said(found.get("why", "")),
        said(found.get("by", "")),
        # JSON has numbers that are none here, and some that are no time.
        float(at) if isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < LATEST else 0.0,
    )
    if not reading.usable(state):
        raise ValueError(f"found {shown(state.state)}; write {', '.join(reading.STATES)}")
    return (cluster, backend), state


def said(text: object) -> str:
    """Somebody's half a sentence, so that it can be shown and stays on its line."""
    short = str(text)[:LONGEST]
    return (
        short
        if short.isprintable()
        else "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in short)
    )


def text_of(raw: bytes) -> str:
    """For people, whatever it is."""
    return raw.decode("utf-8", "backslashreplace")


def pairs(flat: Sequence[bytes]) -> zip[tuple[bytes, bytes]]:
    """Fields and values of a HGETALL."""
    return zip(flat[::2], flat[1::2], strict=True)
