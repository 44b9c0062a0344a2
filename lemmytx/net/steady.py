"""
A reactor that goes by a clock that nobody sets.

Twisted's reactors go by the time of day. When that is set back by an hour, whatever is to be called comes an hour late:
every timeout, every check. When it is set forward, everything comes at once.
"""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.base import ReactorBase


def steady(reactor: Any) -> bool:
    """
    Have a reactor go by CLOCK_MONOTONIC from now on.

    @param reactor: any. One that is not of Twisted's own kind, or that is to call something already and would do it
        at the wrong time, is left as it is.
    @return: whether it does now.
    """
    if reactor.seconds is time.monotonic:
        return True
    if not isinstance(reactor, ReactorBase) or reactor.getDelayedCalls():
        return False
    reactor.seconds = time.monotonic
    return True
