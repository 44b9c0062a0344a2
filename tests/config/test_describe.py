"""The JSON Schema, the reference, and the files in conf/: that they say what the program does."""

from __future__ import annotations

import io
import re
import runpy
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import BaseModel
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import config
from lemmytx.config import describe
from lemmytx.config.reader import read_yaml
from lemmytx.model import (
    Backend,
    Cluster,
    ClusterRules,
    Configuration,
    HealthCheck,
    Hsts,
    Listener,
    OwnHealthCheck,
    Pin,
    Route,
    Sticky,
    Store,
    Tls,
    Vhost,
)

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "conf").glob("*.yaml"))
HTTPS = ROOT / "conf" / "https.yaml"
LEMMY = ROOT / "conf" / "lemmy.yaml"


def as_written(text: str) -> Any:
    """A file's data, references to the environment left as they are: what an editor sees."""
    document = read_yaml(text.encode(), "x", None)
    assert not document.problems, document.problems
    return document.data


class SchemaTests(SynchronousTestCase):
    """L{config.json_schema}"""

    def setUp(self) -> None:
        """A validator."""
        self.schema = config.json_schema()
        Draft202012Validator.check_schema(self.schema)
        self.validator = Draft202012Validator(self.schema)

    def errors(self, text: str) -> list[str]:
        """Where the schema finds fault with a file."""
        return [error.json_path for error in self.validator.iter_errors(as_written(text))]

    def test_files(self) -> None:
        """Every file in conf/ is valid."""
        self.assertEqual(
            ["https.yaml", "lemmy.yaml", "minimal.yaml", "php.yaml", "quickstart.yaml"], [file.name for file in FILES]
        )
        for file in FILES:
            self.assertEqual([], self.errors(file.read_text()), file)

    def test_units(self) -> None:
        """Durations, sizes and percentages are valid with and without units, and as references."""
        self.assertEqual(
            [],
            self.errors("""
limits: {header_size: 64k, body_size: 1000, headers: "${HEADERS}"}
timeouts: {header: 250ms, body: 1.5, tunnel: "${TUNNEL:-1h}"}
clusters: {a: {max_ejected: 30%, backends: ["http://${HOST}", {url: "http+unix:///a"}], scheduler: {name: x, y: 1}}}
access_log: {format: "${FORMAT:-json}"}
"""),
        )

    def test_faults(self) -> None:
        """Unknown names, wrong types, wrong units, values out of range and missing settings are not valid."""
        for text, path in (
            ("listner: []", "$"),
            ("limits: {headers: many}", "$.limits.headers"),
            ("limits: {headers: 0}", "$.limits.headers"),
            ("timeouts: {body: 1 week}", "$.timeouts.body"),
            ("timeouts: {body: -1}", "$.timeouts.body"),
            ("forwarding: {forwarded: yes}", "$.forwarding.forwarded"),
            ("forwarding: {via: 7}", "$.forwarding.via"),
            ("clusters: {a: {}}", "$.clusters.a"),
            ("clusters: {a: {backends: [7]}}", "$.clusters.a.backends[0]"),
            ("clusters: {a: {backends: [{weight: 2}]}}", "$.clusters.a.backends[0]"),
            ("clusters: {a: {backends: ['ftp://x']}}", "$.clusters.a.backends[0]"),
            ("clusters: {a: {backends: [], max_ejected: 0.5}}", "$.clusters.a.max_ejected"),
            ("clusters: {a: {backends: [], scheduler: {pace: 3}}}", "$.clusters.a.scheduler"),
            ("vhosts: [{hosts: [a.example]}]", "$.vhosts[0]"),
            ("vhosts: [{hosts: [], cluster: a}]", "$.vhosts[0].hosts"),
            ("workers: 0", "$.workers"),
            ("workers: many", "$.workers"),
            ("admin: {tokens: [{name: a, hash: secret, role: admin}]}", "$.admin.tokens[0].hash"),
        ):
            self.assertEqual([path], self.errors(text), text)

    def test_defaults_are_valid(self) -> None:
        """Every default that the schema gives to an editor is valid itself."""
        checked = 0
        for definition in (self.schema, *self.schema["$defs"].values()):
            for name, setting in definition.get("properties", {}).items():
                if setting.get("default") not in (None, ""):
                    whole = {**setting, "$defs": self.schema["$defs"]}
                    self.assertTrue(Draft202012Validator(whole).is_valid(setting["default"]), (name, setting))
                    checked += 1
        self.assertGreater(checked, 30)

    def test_described(self) -> None:
        """Every setting has a description."""
        for title, definition in (("", self.schema), *self.schema["$defs"].items()):
            for name, setting in definition.get("properties", {}).items():
                section = self.schema["$defs"].get(setting.get("$ref", "").rpartition("/")[2], {})
                self.assertTrue(setting.get("description") or section.get("description"), f"{title}.{name}")


class ReferenceTests(SynchronousTestCase):
    """L{config.reference}"""

    def test_up_to_date(self) -> None:
        """docs/configuration.md is what C{python -m lemmytx.config} prints."""
        printed = io.StringIO()
        with redirect_stdout(printed):
            runpy.run_module("lemmytx.config", run_name="__main__")
        self.assertEqual(
            printed.getvalue(),
            (ROOT / "docs" / "configuration.md").read_text(),
            "run: python -m lemmytx.config > docs/configuration.md",
        )

    def test_complete(self) -> None:
        """Every setting of every section has its row, in the table of its section."""
        text = config.reference()
        for place, model in (("", Configuration), *describe._sections(Configuration, "")):
            heading = f"## `{place}`\n" if place else "## Settings\n"
            self.assertIn(heading, text)
            section = text.partition(heading)[2].partition("\n## ")[0]
            if model not in (ClusterRules, OwnHealthCheck):
                for name in model.model_fields:
                    self.assertIn(f"\n| `{name}` | ", section, place)

    def test_links(self) -> None:
        """A link within the page leads to a heading that there is."""
        text = config.reference()
        headings = {re.sub(r"[^a-z0-9_ -]", "", line[3:].lower()) for line in text.split("\n") if line[:3] == "## "}
        links = re.findall(r"\]\(#([^)]*)\)", text)
        self.assertTrue(links)
        for link in links:
            self.assertIn(link, headings)


class SettingsTests(SynchronousTestCase):
    """L{describe.settings_at}"""

    def test_sections(self) -> None:
        """Settings can be had for every section, in lists and under names too; elsewhere there are none."""
        self.assertEqual(list(Backend.model_fields), list(describe.settings_at(("clusters", "x", "backends", 3))))
        for path in (("limits", "headers"), ("nothing",), ("nothing", 3), ("clusters",), ("limits", "headers", 0)):
            self.assertEqual({}, describe.settings_at(path), path)


class DefaultsTests(SynchronousTestCase):
    """conf/lemmy.yaml shows every setting with its default."""

    def setUp(self) -> None:
        """The file, as data, as text and as a configuration."""
        self.document = read_yaml(LEMMY.read_bytes(), "lemmy.yaml", None)
        self.lines = LEMMY.read_text().split("\n")
        self.configuration = config.load(LEMMY)

    def names(self, data: Any, model: type[BaseModel], place: str) -> None:
        """Checks that a section of the file names each setting that its type has."""
        self.assertIsInstance(data, dict, place)
        self.assertEqual(set(model.model_fields), set(data), place)

    def test_complete(self) -> None:
        """Nothing is left out, in any section."""
        data = self.document.data
        assert isinstance(data, dict)
        self.names(data, Configuration, "the file")
        web = data["clusters"]["web"]
        self.assertEqual(set(Store.model_fields) - {"options"}, set(data["store"]))
        for name in ("defaults", "admin", "access_log", "limits", "timeouts", "forwarding"):
            self.names(data[name], type(getattr(Configuration(), name)), name)
        for name in ("retry", "timeouts", "pool", "tls", "http2", "fastcgi"):
            self.names(web[name], type(getattr(Configuration().defaults, name)), name)
            self.names(data["defaults"][name], type(getattr(Configuration().defaults, name)), name)
        self.names(web, Cluster, "cluster")
        self.names(web["backends"][0], Backend, "backend")
        self.names(web["sticky"], Sticky, "sticky")
        self.assertEqual({*HealthCheck.model_fields, "path"} - {"options"}, set(web["health_check"]))
        self.names(data["vhosts"][0]["routes"][0]["pin"], Pin, "pin")
        self.names(data["listeners"][0], Listener, "listener")
        self.names(data["vhosts"][0]["routes"][0], Route, "route")
        self.assertEqual(set(Vhost.model_fields), {name for vhost in data["vhosts"] for name in vhost})
        tls = read_yaml(HTTPS.read_bytes(), "https.yaml", None).data["listeners"][1]["tls"]  # type: ignore[index]
        self.names(tls, Tls, "tls")
        self.names(tls["hsts"], Hsts, "hsts")

    def test_https(self) -> None:
        """conf/https.yaml shows the settings of TLS, with their defaults where it names no example."""
        lines = HTTPS.read_text().split("\n")
        document = read_yaml(HTTPS.read_bytes(), "https.yaml", None)
        tls = config.load(HTTPS).listeners[1].tls
        assert tls is not None
        for name, field in Tls.model_fields.items():
            if not re.search(r"# example\b", lines[document.lines["listeners", 1, "tls", name] - 1]):
                self.assertEqual(field.get_default(call_default_factory=True), getattr(tls, name), name)

    def test_defaults(self) -> None:
        """A line whose comment does not call it an example holds the default."""
        checked = 0

        def compare(found: BaseModel, path: tuple[str | int, ...]) -> None:
            nonlocal checked
            for name, field in type(found).model_fields.items():
                inner = (*path, name)
                value = getattr(found, name)
                if inner not in self.document.lines:
                    continue
                if isinstance(value, BaseModel) and self.is_section(inner):
                    compare(value, inner)
                elif isinstance(value, dict) and name == "clusters":
                    for key, cluster in value.items():
                        compare(cluster, (*inner, key))
                elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
                    for index, item in enumerate(value):
                        if self.is_section((*inner, index)):
                            compare(item, (*inner, index))
                elif not re.search(r"# example\b", self.lines[self.document.lines[inner] - 1]):
                    self.assertEqual(field.get_default(call_default_factory=True), value, inner)
                    checked += 1

        compare(self.configuration, ())
        self.assertGreater(checked, 60)

    def is_section(self, path: tuple[str | int, ...]) -> bool:
        """Whether a mapping stands at a place in the file."""
        data: Any = self.document.data
        for part in path:
            data = data[part]
        return isinstance(data, dict)

    def test_sections_are_defaults(self) -> None:
        """Without listeners, vhosts and clusters the file says what no file says."""
        self.assertEqual(
            Configuration(), self.configuration.model_copy(update={"listeners": (), "vhosts": (), "clusters": {}})
        )
