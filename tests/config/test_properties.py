"""What holds for every file, whatever is in it."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config
from lemmytx.addresses import parse_host, parse_network, parse_url
from lemmytx.config.describe import settings_at
from lemmytx.config.problems import Path
from lemmytx.config.reader import read_yaml
from lemmytx.units import count, duration, shown, size

bounded = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def _every_name() -> list[str]:
    """Every name of a setting that there is, at any level."""
    found: set[str] = {"web", "tls", "bucket", "<<"}
    places: list[Path] = [
        (), ("listeners", 0), ("vhosts", 0), ("vhosts", 0, "routes", 0), ("clusters", "web"), ("limits",),
        ("timeouts",),
        ("clusters", "web", "backends", 0), ("clusters", "web", "retry"), ("clusters", "web", "pool"), ("forwarding",),
        ("admin",), ("admin", "tokens", 0), ("store",), ("access_log",), ("clusters", "web", "scheduler"),
    ]  # fmt: skip
    for place in places:
        found.update(settings_at(place))
    return sorted(found)


NAMES = _every_name()

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12),
    st.sampled_from([
        "http://a:1", "https://b", "http+unix:///x", "*", "*.a.de", "10.0.0.0/8", "1s", "64k", "50%", "web", "/a/*",
        "~(", "${A}", "${A:-1}", "$${", "${", "tcp:1", "sha256:00", "memory",
    ]),
)  # fmt: skip
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), inner, max_size=6),
    ),
    max_leaves=25,
)


class PropertyTests(SynchronousTestCase):
    """No file does any harm."""

    def tried(self, raw: bytes) -> None:
        """Reads a file; anything but a configuration or a plain list of what is wrong fails the test."""
        try:
            config.read(raw, "x.yaml", environment={"A": "1"})
        except config.ConfigurationError as error:
            lines = str(error).split("\n")
            self.assertEqual(len(error.errors), len(lines))
            for line in lines:
                self.assertTrue(line.startswith("x.yaml:"), line)
                self.assertTrue(line.isprintable(), line)

    @bounded
    @given(st.binary(max_size=200))
    def test_any_bytes(self, raw: bytes) -> None:
        """No bytes raise anything but ConfigurationError, and every problem is one printable line."""
        self.tried(raw)

    @bounded
    @given(st.text(alphabet="ab:-[]{},&*<!|>'\"#%?\n \t$\\0~é", max_size=80))
    def test_any_yaml_like_text(self, text: str) -> None:
        """Nor does any text made of what YAML takes for its own."""
        self.tried(text.encode())

    @bounded
    @given(trees)
    def test_any_tree(self, tree: Any) -> None:
        """Nor does any tree of settings and values."""
        self.tried(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))

    @bounded
    @given(st.dictionaries(st.sampled_from(NAMES), trees, max_size=8))
    def test_any_sections(self, tree: Any) -> None:
        """Nor does any file with the right sections and the wrong things in them."""
        self.tried(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))

    @bounded
    @given(
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.text(max_size=8)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
            ),
            max_leaves=12,
        )
    )
    def test_json(self, data: Any) -> None:
        """What JSON writes is read as it was, since every editor and tool takes JSON for YAML."""
        document = read_yaml(json.dumps(data).encode(), "x", None)
        if not document.problems:  # a lone surrogate is JSON's alone
            self.assertEqual(data, document.data)
        else:
            self.assertIn("\\ud", json.dumps(data))

    @bounded
    @given(
        st.one_of(
            scalars, st.text(max_size=40), st.lists(st.integers(), max_size=2), st.dictionaries(st.text(), st.none())
        )
    )
    def test_any_value(self, value: Any) -> None:
        """No value makes a rule raise anything but ValueError with a text."""
        for parse in (parse_host, parse_network, parse_url, *(rule(1, 9).parse for rule in (count, duration, size))):
            try:
                parse(value)
            except ValueError as error:
                self.assertTrue(str(error))
        self.assertLess(len(shown(value)), 80)

    @bounded
    @given(st.text(max_size=40))
    def test_urls_have_one_form(self, text: str) -> None:
        """The form in which a URL or a host is kept stays the same when it is read again."""
        for parse in (lambda value: parse_url(value).url, parse_host):
            for written in (text, f"http://{text}", f"http+unix:///{text}"):
                try:
                    kept = parse(written)
                except ValueError:
                    continue
                self.assertEqual(kept, parse(kept))
