"""
The live table: vhosts and their backends as a store knows them, and what operators want of single backends.

A vhost of the store is answered by a cluster of its own, which has the vhost's name. L{State} goes by the names of a
cluster and of a backend, wherever those come from: the file or the store.

Everything here is a value: it never changes, and two that say the same are equal. A L{Table} that was loaded after
another has the same L{Entry} objects for what has not changed, so that what did is found by C{is}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

#: Longest text of L{Entry.settings}. What is longer is no more than one character longer here, and is not used.
MOST_SETTINGS = 128 << 10


class Member(NamedTuple):
    """
    A backend of a vhost.

    @ivar text: C{host}, C{host:port} or a backend URL, as it stands in the store; it is the member's key there.
    @ivar name: what it is called; empty: as its URL says.
    @ivar weight: as in the configuration; so are C{capacity} and C{role}.
    """

    text: str
    name: str = ""
    weight: int = 1
    capacity: int = 0
    role: str = "active"


class Entry(NamedTuple):
    """
    A vhost.

    @ivar name: the host that it answers for, in the form in which hosts are compared; it may be a wildcard.
    @ivar members: in the order of their texts.
    @ivar settings: of its cluster, a JSON object with the keys of C{defaults}; empty: those are all it has.
    """

    name: str
    members: tuple[Member, ...] = ()
    settings: str = ""


class State(NamedTuple):
    """
    What an operator wants of a backend, or C{sticky_offline} in his place.

    @ivar state: C{ready}, C{drain} or C{disabled}.
    @ivar why: half a sentence.
    @ivar by: who: a token's name, C{sticky_offline}.
    @ivar at: when, in seconds since 1970.
    """

    state: str
    why: str = ""
    by: str = ""
    at: float = 0.0


class Fault(NamedTuple):
    """
    Something in the store that cannot be used, and hurts nothing else.

    @ivar vhost: as it stands there.
    @ivar member: as it stands there; empty: it is the vhost itself.
    @ivar why: for people.
    """

    vhost: str
    member: str
    why: str


@dataclass(frozen=True, slots=True)
class Table:
    """
    All that a store knows.

    @ivar vhosts: by their names.
    @ivar states: by the names of cluster and backend.
    @ivar faults: what was left out.
    """

    vhosts: Mapping[str, Entry] = field(default_factory=dict)
    states: Mapping[tuple[str, str], State] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


# Changes


class PutVhost(NamedTuple):
    """The vhost is there, with these settings; the members that it has stay."""

    name: str
    settings: str = ""


class DropVhost(NamedTuple):
    """The vhost and its members are not there. That it was not is no error."""

    name: str


class PutMember(NamedTuple):
    """The backend is a member, with these attributes; so is its vhost there."""

    vhost: str
    member: Member


class DropMember(NamedTuple):
    """The backend is no member. That it was not is no error."""

    vhost: str
    text: str


class PutState(NamedTuple):
    """That is what is wanted of the backend. There is no other place that says so: C{ready} is stored as well."""

    cluster: str
    backend: str
    state: State


class DropState(NamedTuple):
    """Nothing is wanted of the backend but what the configuration says."""

    cluster: str
    backend: str


Change = PutVhost | DropVhost | PutMember | DropMember | PutState | DropState


# What instances tell each other


@dataclass(frozen=True, slots=True)
class Report:
    """
    What one serving process has to say of itself.

    @ivar active: requests in flight, by vhost and member text; those with none are left out.
    @ivar asked: vhosts of which it wants to know what others have in flight.
    @ivar record: of the process, for people: C{address}, C{version}, C{start}, C{load}; JSON.
    @ivar hostname: under which C{stats} are written.
    @ivar stats: live statistics of the process: name to number or text.
    @ivar vhost_stats: the same of vhosts that have changed, by their names.
    """

    active: Mapping[tuple[str, str], int] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    record: Mapping[str, Any] = field(default_factory=dict)
    hostname: str = ""
    stats: Mapping[str, str | int | float] = field(default_factory=dict)
    vhost_stats: Mapping[str, Mapping[str, str | int | float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """
    Another process that shares the table.

    @ivar identity: unique.
    @ivar lease: seconds until it counts as dead unless it is heard of again.
    @ivar about: see L{Report.record}.
    """

    identity: str
    lease: float
    about: Mapping[str, Any]


class Hint(NamedTuple):
    """
    What one instance found out about a backend: a reason for the others to look sooner, and nothing more.

    @ivar why: half a sentence.
    """

    cluster: str
    backend: str
    outcome: Literal["up", "down"]
    why: str = ""


class StoreUnavailable(Exception):
    """The store cannot be reached, or refuses; the text says why, without secrets. What was asked may have happened
    only where the text says so."""
