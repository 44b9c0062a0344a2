"""
Endpoint descriptions, and the listening sockets that a supervisor such as systemd has opened for us (sd_listen_fds(3)).

Twisted's endpoint C{systemd:} finds the descriptors of the very process in which its module is imported, and closes
each one that it has used. So a description of it could be parsed in one process alone, and listened on once: not by a
worker, not by the successor in an upgrade, not again after a reload. Here the same parser does its work, wherever it
stands in a description (C{haproxy:systemd:…}), but asks us for the descriptor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from twisted.internet.endpoints import _SystemdParser, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.systemd import ListenFDs

#: Gives the descriptor of this index or name. It belongs to the endpoint then, which closes it when it listens.
Passing = Callable[[int | str], int]


class _Passed:
    """
    Stands in for the L{ListenFDs} of Twisted's parser, and for what their methods return.

    @ivar found: these. They answer whoever does not parse by us.
    """

    def __init__(self, found: ListenFDs) -> None:
        self.found = found
        #: A context each: a configuration is checked in a thread while sockets are opened in another.
        self.answer: ContextVar[Passing | None] = ContextVar("answer", default=None)

    def inheritedDescriptors(self) -> _Passed | list[int]:
        """By index."""
        return self if self.answer.get() else self.found.inheritedDescriptors()

    def inheritedNamedDescriptors(self) -> _Passed | dict[str, int]:
        """By name."""
        return self if self.answer.get() else self.found.inheritedNamedDescriptors()

    def __getitem__(self, which: int | str) -> int:
        answer = self.answer.get()
        assert answer is not None
        return answer(which)


_passed = _Passed(_SystemdParser._sddaemon)
setattr(_SystemdParser, "_sddaemon", _passed)  # noqa: B010  # it is annotated as the class that we stand in for


@contextmanager
def passing(answer: Passing) -> Iterator[None]:
    """Whatever this thread parses in the meantime gets its C{systemd:} descriptors by C{answer}."""
    token = _passed.answer.set(answer)
    try:
        yield
    finally:
        _passed.answer.reset(token)


def parse(description: str) -> IStreamServerEndpoint:
    """
    See whether a description is one, in any process. Nothing can listen on what comes back: for C{systemd:} it is
    not looked what there is.

    @raise Exception: when it is none; of any kind, since parsers are anyone's plugins.
    """
    with passing(lambda which: -1):
        # The endpoint keeps its reactor for later, and nothing is opened here, so none is needed.
        endpoint: IStreamServerEndpoint = serverFromString(None, description)
    return endpoint


class Activation:
    """
    What the supervisor has passed. It stays open as long as the process lives: it is the supervisor's, and a reload
    may ask for it again.

    @ivar passed: descriptors, each with its name (C{FileDescriptorName=}), in the supervisor's order.
    """

    def __init__(self, passed: Sequence[tuple[int, str]]) -> None:
        self.passed = tuple(passed)
        for descriptor, _ in self.passed:
            # No program that we start has anything to do with them.
            os.set_inheritable(descriptor, False)

    @classmethod
    def of_process(cls) -> Activation:
        """What this process was started with. Twisted has taken the variables of it out of the environment."""
        found = _passed.found
        return cls(list(zip(found.inheritedDescriptors(), found._names, strict=True)))

    def descriptor(self, which: int | str) -> int:
        """
        @param which: index or name.
        @raise ValueError: there is none; with a text for the user.
        """
        for index, (descriptor, name) in enumerate(self.passed):
            if which in (index, name):
                return descriptor
        there = ", ".join(f"{index} ({name!r})" for index, (_, name) in enumerate(self.passed))
        raise ValueError(
            f"systemd has passed no socket {which!r}; "
            + (f"there is {there}" if there else "it passes them to a service that a socket unit starts")
        )
