"""What stands in Redis may be anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.store import reading
from lemmytx.store.redis.entries import attributes_of, entry_of, field_of, state_of, state_text
from lemmytx.store.redis.said import Refusal
from lemmytx.store.redis.store import _hint_of
from lemmytx.table import Entry, Fault, Hint, Member, State
from tests.store.test_redis_doors import RIGHTS

WRONG = Refusal("WRONGTYPE Operation against a key holding the wrong kind of value")

TEXTS = st.sampled_from(
    [b"h:1", b"h:2", b"10.0.0.1", b"https://x.example", b"a b", b"\xff", b"h:0", b"http+unix:///x", b"", b"h:65536"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
NAMED = st.sampled_from(
    ["weight", "capacity", "role", "name", "state", "why", "by", "at", "cluster", "backend", "outcome"]
)
VALUES = st.binary(max_size=6) | st.dictionaries(NAMED, JSON, max_size=3).map(lambda found: json.dumps(found).encode())


class EntryTests(SynchronousTestCase):
    """What it means."""

    @settings(max_examples=120, deadline=None, derandomize=True)
    @given(
        st.sampled_from([b"a", b"*.a.example", b"A", b"\xff", b"*", b""]),
        st.just(WRONG) | st.lists(TEXTS, unique=True, max_size=4),
        st.just(WRONG)
        | st.dictionaries(TEXTS, VALUES, max_size=3).map(lambda d: [w for pair in d.items() for w in pair]),
        st.just(WRONG) | st.none() | st.binary(max_size=4),
        st.none() | st.just(Entry("a", (Member("h:1", weight=3),), "{}")),
    )
    def test_any_vhost(
        self, name: bytes, members: object, attributes: object, text: object, before: Entry | None
    ) -> None:
        """Whatever is there, the vhost has members that can be used, or there is a fault."""
        entry, faults = entry_of(name, members, attributes, text, before)
        self.assertTrue(entry is not None or faults)
        if entry is not None:
            names = [reading.check(member) for member in entry.members]
            self.assertEqual(len(set(names)), len(names))
            self.assertEqual(sorted(entry.members), list(entry.members))
            hash((entry, faults))

    @settings(max_examples=120, deadline=None, derandomize=True)
    @given(st.binary(max_size=6) | st.sampled_from([b"a/b", b"a/b/c", b"/b", b"a/"]), VALUES)
    def test_any_state(self, field: bytes, value: bytes) -> None:
        """A state can be used and shown on a line, or it is an error for people."""
        try:
            _, state = state_of(field, value)
        except ValueError:
            return
        self.assertTrue(reading.usable(state))
        self.assertTrue((state.why + state.by).isprintable())

    @settings(max_examples=120, deadline=None, derandomize=True)
    @given(VALUES)
    def test_any_hint(self, said: bytes) -> None:
        """A hint is one, or nothing."""
        hint = _hint_of(said, "me")
        self.assertTrue(hint is None or isinstance(hint.cluster + hint.backend + hint.why, str))

    def test_plain_as_others(self) -> None:
        """What is not looked at closely because it is plain comes out as if it were."""
        for texts in (["h:1"], ["10.0.0.2:80", "10.0.0.1:8080"], ["a.b-c.d_e:9999", "x:1"], []):
            raw = [text.encode() for text in texts]
            found = entry_of(b"a.example", raw, [], None, None)
            self.assertEqual(found, reading.entry("a.example", "", [Member(text) for text in texts]))

    def test_same_backend(self) -> None:
        """Two members that are one backend are told from two."""
        entry, faults = entry_of(b"a", [b"h", b"h:80"], [], None, None)
        self.assertEqual(entry, Entry("a", (Member("h"),)))
        self.assertEqual([fault.member for fault in faults], ["h:80"])

    def test_kept(self) -> None:
        """What cannot be read stays as it was, and that is said."""
        before = Entry("a", (Member("h:1", weight=3),), '{"x": 1}')
        for replies, members in (
            (([b"h:1", b"h:2"], WRONG, WRONG), (Member("h:1", weight=3), Member("h:2"))),
            ((WRONG, [], b"\xff"), before.members),
        ):
            entry, faults = entry_of(b"a", *replies, before)
            self.assertEqual(entry, Entry("a", members, before.settings))
            self.assertEqual(len(faults), 2)
        self.assertEqual(entry_of(b"a", WRONG, [], None, None)[0], Entry("a"))

    def test_there_and_back(self) -> None:
        """What is written is read again."""
        member = Member("h:1", "n", 0, 7, "standby")
        self.assertEqual(
            entry_of(b"a", [b"h:1"], [b"h:1", attributes_of(member).encode()], None, None), (Entry("a", (member,)), ())
        )
        state = State("disabled", "it is ill", "ops", 1795255557.5)
        self.assertEqual(state_of(field_of("*.a", "h:1").encode(), state_text(state).encode()), (("*.a", "h:1"), state))
        self.assertEqual(_hint_of(b'{"cluster": "c", "backend": "b", "outcome": "up"}', "me"), Hint("c", "b", "up"))

    def test_names(self) -> None:
        """Faults name what stands there."""
        self.assertEqual(
            entry_of(b"a", [b"h:1"], [b"h:1", b'{"name": []}'], None, None)[1],
            (Fault("a", "h:1", "name: found an empty list; write it in quotes"),),
        )


class PackageTests(SynchronousTestCase):
    """What holds for the whole of it."""

    def test_no_reactor(self) -> None:
        """Nothing installs a reactor before a store is opened."""
        program = "import sys; import twisted.plugins.lemmytx_stores; print('twisted.internet.reactor' in sys.modules)"
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual(found.stdout.strip(), "False")

    def test_rights(self) -> None:
        """The rights that are documented are those that are tried."""
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        with open(os.path.join(root, "docs", "redis.md"), encoding="utf-8") as file:
            words = file.read().replace("'", " ").split()
        self.assertEqual([right for right in RIGHTS.split() if right not in words], [])
