"""YAML into plain data."""

from __future__ import annotations

from textwrap import dedent

import yaml
from twisted.trial.unittest import SynchronousTestCase

from lemmytx.config.reader import Document, read_yaml

ENVIRONMENT = {"PORT": "9001", "HOST": "10.0.0.1", "EMPTY": "", "TRICK": "a: [b]\n- ${PORT}"}


def read(text: str) -> Document:
    """A document that has nothing wrong with it."""
    document = read_yaml(dedent(text).encode(), "x.yaml", ENVIRONMENT)
    assert not document.problems, document.problems
    return document


class ScalarTests(SynchronousTestCase):
    """What a plain scalar means."""

    def test_core_schema(self) -> None:
        """Plain scalars mean what YAML 1.2 says, whatever YAML 1.1 made of them."""
        for text, value in (
            ("1", 1),
            ("-7", -7),
            ("007", 7),
            ("0o17", 15),
            ("0x1F", 31),
            ("1.5", 1.5),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("true", True),
            ("False", False),
            ("null", None),
            ("~", None),
            ("", None),
            ("on", "on"),
            ("no", "no"),
            ("off", "off"),
            ("12:30", "12:30"),
            ("2024-01-01", "2024-01-01"),
            ("1_000", "1_000"),
            ("0b1", "0b1"),
            (".inf", ".inf"),
            ("1" * 30, "1" * 30),
            ("10.0.0.1", "10.0.0.1"),
        ):
            found = read(f"a: {text}\n").data
            self.assertEqual({"a": value}, found)
            assert isinstance(found, dict)
            self.assertIs(type(value), type(found["a"]), text)

    def test_quotes(self) -> None:
        """What stands in quotes or as a block is text."""
        self.assertEqual(
            {"a": "1", "b": "true", "c": "2\n", "d": "3"}, read("a: '1'\nb: \"true\"\nc: |\n  2\nd: !!str 3\n").data
        )

    def test_names_are_text(self) -> None:
        """Names of settings are text, also those that look like something else."""
        self.assertEqual({"on": 1, "1": 2, "null": 3, "true": 4}, read("{on: 1, 1: 2, null: 3, true: 4}").data)

    def test_like_pyyaml(self) -> None:
        """On a file without such differences PyYAML's own loader reads the same."""
        text = """\
        a: &x {b: [1, 2.5, text], c: {d: null, e: true}}
        f: *x
        g: {<<: *x, b: mine}
        h: "quoted \\u00e9"
        i: |
          block
          text
        j: >-
          folded
          text
        """
        self.assertEqual(yaml.safe_load(dedent(text)), read(text).data)

    def test_byte_order_mark(self) -> None:
        """A byte order mark, as editors on Windows leave it, is no part of the first name."""
        self.assertEqual({"a": 1}, read_yaml(b"\xef\xbb\xbfa: 1\r\n", "x", {}).data)


class MergeTests(SynchronousTestCase):
    """C{<<}"""

    def test_own_settings_win(self) -> None:
        """What a mapping says itself beats what it takes over; the first of several sources beats the second."""
        document = read("""\
        a: &a {x: 1, y: 1, z: 1}
        b: &b {y: 2, z: 2, w: 2}
        c:
          z: 3
          <<: [*a, *b]
        """)
        assert isinstance(document.data, dict)
        self.assertEqual({"x": 1, "y": 1, "z": 3, "w": 2}, document.data["c"])

    def test_nested(self) -> None:
        """A source may itself take over from another."""
        document = read("a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}\n")
        assert isinstance(document.data, dict)
        self.assertEqual({"x": 1, "y": 2}, document.data["c"])

    def test_quoted(self) -> None:
        """In quotes it is a name like any other."""
        self.assertEqual({"<<": 3}, read("{'<<': 3}").data)


class LineTests(SynchronousTestCase):
    """Where a setting stands."""

    def test_lines(self) -> None:
        """Every setting knows its line, in block and in flow style; a missing one has that of what is around."""
        document = read("""\
        # a comment
        a:
          b: 1

          c:
            - x
            - {d: 1,
               e: 2}
        f: >
          long
          text
        """)
        for path, line in (
            (("a",), 2),
            (("a", "b"), 3),
            (("a", "c"), 5),
            (("a", "c", 0), 6),
            (("a", "c", 1), 7),
            (("a", "c", 1, "d"), 7),
            (("a", "c", 1, "e"), 8),
            (("f",), 9),
            (("a", "c", 1, "missing"), 7),
            (("a", "zzz", 3, "w"), 2),
            (("nothing",), 2),
        ):
            self.assertEqual(line, document.line(path), path)


class EnvironmentTests(SynchronousTestCase):
    """C{${NAME}}"""

    def test_references(self) -> None:
        """References stand for variables, wherever in a value they are, in quotes or not."""
        self.assertEqual(
            {"a": "http://10.0.0.1:9001", "b": "9001", "c": ["10.0.0.1"]},
            read("{a: 'http://${HOST}:${PORT}', b: \"${PORT}\", c: ['${HOST}']}").data,
        )
        self.assertEqual({"a": "http://10.0.0.1"}, read("a: http://${HOST}").data)

    def test_defaults(self) -> None:
        """A default holds for a variable that is missing or empty, and only then; it may itself be empty."""
        self.assertEqual(
            {"a": "x", "b": "x:-y", "c": "9001", "d": "", "e": ""},
            read("{a: '${EMPTY:-x}', b: '${NO:-x:-y}', c: '${PORT:-x}', d: '${NO:-}', e: '${EMPTY}'}").data,
        )

    def test_literal(self) -> None:
        """A doubled dollar sign before the brace stands for the characters; a dollar sign alone for itself."""
        self.assertEqual(
            {"a": "${PORT}", "b": "$5 ${", "c": "~^/a$"}, read("{a: '$${PORT}', b: '$5 $${', c: '~^/a$'}").data
        )

    def test_no_yaml(self) -> None:
        """What a variable holds is neither YAML nor looked at for references again."""
        self.assertEqual({"a": ENVIRONMENT["TRICK"]}, read("a: ${TRICK}").data)

    def test_names_are_left_alone(self) -> None:
        """A reference in the name of a setting is no reference."""
        self.assertEqual({"${PORT}": 1}, read("'${PORT}': 1").data)

    def test_none(self) -> None:
        """Without an environment references stay as they are, for tools that look at the file."""
        self.assertEqual({"a": "${NO}"}, read_yaml(b"a: ${NO}", "x", None).data)
