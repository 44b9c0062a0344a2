"""A table in the memory of one process: what changes at run time is gone when it ends."""

from __future__ import annotations

from lemmytx.interfaces import IStorePlace
from lemmytx.store.whole import Contents, WholeStore


class MemoryStore(WholeStore):
    """It has no options."""

    def __init__(self, place: IStorePlace) -> None:
        super().__init__(place)
        self._contents = Contents()

    async def fetch(self) -> Contents:
        """See L{WholeStore}."""
        return self._contents

    async def keep(self, contents: Contents) -> None:
        """See L{WholeStore}."""
        self._contents = contents
