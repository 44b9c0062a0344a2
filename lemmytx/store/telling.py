"""How a store tells that something may have changed: soon, but not too often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Seconds that are at least between two times.
PAUSE = 0.1


class Telling:
    """
    Calls somebody in the reactor's thread: at once where nobody was called for a while, else when L{PAUSE} is over, and
    once for however often it was asked meanwhile.
    """

    def __init__(self, reactor: Any, told: Callable[[], None]) -> None:
        """
        @param told: called from the reactor's loop, never from within L{tell}.
        """
        self._reactor = reactor
        self._told = told
        self._call: Any = None
        self._last = float("-inf")

    def tell(self) -> None:
        """Something may have changed. To be called in the reactor's thread."""
        if self._call is None:
            # A clock that was set back must not keep it silent.
            wait = min(PAUSE, max(0.0, self._last + PAUSE - self._reactor.seconds()))
            self._call = self._reactor.callLater(wait, self._tell)

    def _tell(self) -> None:
        self._call = None
        self._last = self._reactor.seconds()
        self._told()

    def stop(self) -> None:
        """Nobody is called any more."""
        self._told = _nobody
        call, self._call = self._call, None
        if call is not None:
            call.cancel()


def _nobody() -> None:
    """The one who is called when nobody is to be."""
