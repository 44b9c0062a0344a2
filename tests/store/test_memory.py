"""The store that keeps nothing."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from lemmytx.interfaces import IStorePlace
from lemmytx.store.memory import MemoryStore
from lemmytx.testing.stores import StoreConformance


class MemoryConformance(StoreConformance, TestCase):
    """L{MemoryStore} is a store."""

    def make(self, place: IStorePlace) -> MemoryStore:
        """See L{StoreConformance}."""
        return MemoryStore(place)
