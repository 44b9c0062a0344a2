"""
YAML text into plain data, with the line of every setting.

Built on PyYAML's events rather than its objects, for four reasons. Every setting keeps its line. A name that is given
twice is an error, not a quiet loss. Plain scalars mean what they mean in YAML 1.2, which editors and the JSON Schema go
by: C{on}, C{yes} and C{12:30} are text, not C{True}, C{True} and 750, so that C{retry: {on: [503]}} says what it says.
And a hostile file stays cheap: no tag makes an object, and depth, size and what aliases expand to are bounded.

References to the environment, C{${NAME}} and C{${NAME:-default}}, are replaced in values, not in names; C{$${} stands
for a literal C{${}. As in the shell, the default also holds for a variable that is set to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from lemmytx.config.problems import Path, Problem, setting_name
from lemmytx.units import Substituted, resolve

#: Longest file, in bytes. 10,000 vhosts of one line each are well below it; who has more wants a store.
LARGEST = 1 << 20

#: Most values in a file after its aliases are written out: "a billion laughs" ends here.
MOST_VALUES = 500_000

#: Deepest nesting. The deepest setting there is has six levels.
DEEPEST = 32

_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map"))

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<body>[^}]*)(?P<end>\}?)")
_NAME = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-.*)?\Z", re.DOTALL)


def places(data: object, pattern: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """
    Every place in plain data that a pattern names.

    @param pattern: the names on the way there; C{"*"} is every name of a mapping, or every place of a list.
    @return: the mapping or list that holds it, and its key there.
    """
    first, *rest = pattern
    keys: list[Any]
    if isinstance(data, dict):
        keys = list(data) if first == "*" else [first] if first in data else []
    else:
        keys = list(range(len(data))) if isinstance(data, list) and first == "*" else []
    for key in keys:
        if rest:
            yield from places(data[key], rest)  # type: ignore[index]  # it is one of the two
        else:
            yield data, key


@dataclass(slots=True, eq=False)
class _Node:
    """
    A piece of the document.

    @ivar line: counted from 1.
    @ivar kind: C{"scalar"}, C{"list"} or C{"mapping"}.
    @ivar tag: one that stands in the file, else L{None}.
    @ivar text: of a scalar.
    @ivar plain: whether a scalar stands without quotes.
    @ivar parts: of a list its items; of a mapping keys and values in turn.
    @ivar complete: whether its end has been seen; an alias inside of its own anchor points to one that is not.
    """

    line: int
    kind: str
    tag: str | None = None
    text: str = ""
    plain: bool = False
    parts: list[_Node] = field(default_factory=list)
    complete: bool = False


@dataclass(slots=True)
class Document:
    """
    What a file says.

    @ivar data: dictionaries with text as keys, lists, text, numbers, booleans, L{None}.
    @ivar lines: the line of every setting, counted from 1.
    @ivar problems: what is wrong with it as YAML. Not complete when C{data} is L{None}.
    @ivar spoilt: settings whose values could not be made out, and stand as L{None} in C{data}.
    """

    file: str
    data: object = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    spoilt: set[Path] = field(default_factory=set)

    def line(self, path: Path) -> int:
        """The line of a setting, or of the nearest one around it; 0 when there is none."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 0)

    def refuse(self, path: Path, text: str) -> None:
        """Adds a problem with a setting."""
        self.problems.append(Problem(self.file, self.line(path), setting_name(path), text))


class _Unreadable(Exception):
    """What ends the reading of the whole file: a text, and the line or 0."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(line, text)
        self.line = line
        self.text = text


def read_yaml(raw: bytes, file: str, environment: Mapping[str, str] | None) -> Document:
    """
    @param raw: the file's bytes.
    @param file: its name, for the problems.
    @param environment: for references; L{None} leaves them as they are.
    @return: never raises; what is wrong is in the document's C{problems}.
    """
    document = Document(file)
    try:
        root = _compose(_decode(raw))
        _Builder(document, environment).build(root)
    except _Unreadable as why:
        document.data = None
        document.problems = [*document.problems, Problem(file, why.line, "", why.text)]
    return document


def _decode(raw: bytes) -> str:
    if len(raw) > LARGEST:
        raise _Unreadable(0, f"the file is larger than {LARGEST} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _Unreadable(line, f"byte {raw[error.start]:#04x} is not UTF-8; save the file in that encoding") from None


def _compose(text: str) -> _Node:
    """
    @return: the document's outermost node.
    @raise _Unreadable: for text that is not YAML, or not one document, or nested too deep.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's where PyYAML was built with it: ten times faster
    try:
        return _from_events(yaml.parse(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"column {mark.column + 1}: " if mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise _Unreadable(mark.line + 1 if mark else 0, f"not YAML: {where}{said}") from None
    except yaml.reader.ReaderError as error:
        line = text.encode("utf-8").count(b"\n", 0, max(error.position, 0)) + 1
        raise _Unreadable(line, f"not YAML: {error.reason}") from None


def _from_events(events: Iterable[yaml.Event]) -> _Node:
    """
    A loop with a stack of its own: PyYAML's composer calls itself once per level, and in C nothing bounds that.
    """
    top = _Node(1, "list")
    stack = [top]
    anchors: dict[str, _Node] = {}
    documents = 0
    for event in events:
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Unreadable(line, "a second document begins here; a configuration is one document")
        elif isinstance(event, yaml.AliasEvent):
            node = anchors.get(event.anchor or "")
            if node is None:
                raise _Unreadable(line, f"the alias {event.anchor!r} names no anchor above it")
            if not node.complete:
                raise _Unreadable(line, f"the alias {event.anchor!r} stands inside of its own anchor")
            stack[-1].parts.append(node)
        elif isinstance(event, yaml.CollectionEndEvent):
            stack.pop().complete = True
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            tag = None if event.tag in (None, "!") else event.tag
            if isinstance(event, yaml.ScalarEvent):
                node = _Node(line, "scalar", tag, event.value, not event.style, complete=True)
            else:
                node = _Node(line, "mapping" if isinstance(event, yaml.MappingStartEvent) else "list", tag)
            stack[-1].parts.append(node)
            if event.anchor is not None:
                anchors[event.anchor] = node
            if node.kind != "scalar":
                stack.append(node)
                if len(stack) > DEEPEST:
                    raise _Unreadable(line, f"nested deeper than {DEEPEST} levels; no setting is")
    if not top.parts:
        return _Node(0, "scalar", plain=True)
    return top.parts[0]


def _is_utf8(text: str) -> bool:
    """Whether text from the system holds no bytes that Python had to smuggle in as surrogates (PEP 383)."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


class _Builder:
    """Nodes into data: aliases written out, scalars resolved, references replaced, lines noted."""

    def __init__(self, document: Document, environment: Mapping[str, str] | None) -> None:
        self._document = document
        self._environment = environment
        self._values = 0

    def build(self, root: _Node) -> None:
        """Fills the document."""
        self._document.lines[()] = root.line
        self._document.data = self._value(root, (), 1)

    def _refuse(self, line: int, path: Path, text: str) -> None:
        """Adds a problem with a value whose line may not be the setting's: a long text, an alias."""
        self._document.problems.append(Problem(self._document.file, line, setting_name(path), text))

    def _spoil(self, line: int, path: Path, text: str) -> None:
        """Like L{_refuse}, for a value that cannot be made out: that it is missing then need not be said as well."""
        self._refuse(line, path, text)
        self._document.spoilt.add(path)

    def _count(self, values: int, depth: int) -> None:
        """Called before anything is written out that an alias may repeat; raises L{_Unreadable} when it is too much."""
        self._values += values
        if self._values > MOST_VALUES or depth > DEEPEST:
            raise _Unreadable(0, f"more than {MOST_VALUES} values or {DEEPEST} levels, aliases written out")

    def _value(self, node: _Node, path: Path, depth: int) -> object:
        self._count(1, depth)
        if node.tag is not None and node.tag not in _TAGS:
            self._spoil(node.line, path, f"the tag {node.tag!r} means nothing here; write the value without it")
            return None
        if node.kind == "mapping":
            return self._mapping(node, path, depth)
        if node.kind == "list":
            items = []
            for index, part in enumerate(node.parts):
                inner = (*path, index)
                self._document.lines[inner] = part.line
                items.append(self._value(part, inner, depth + 1))
            return items
        return self._scalar(node, path)

    def _mapping(self, node: _Node, path: Path, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        first: dict[str, int] = {}
        merged: list[_Node] = []
        for key, value in zip(node.parts[::2], node.parts[1::2], strict=True):
            if key.kind != "scalar":
                self._refuse(key.line, path, "the name of a setting is text, not a list or a mapping")
            elif key.text == "<<" and key.plain:
                merged += value.parts if value.kind == "list" else [value]
            elif key.text in first:
                self._refuse(key.line, (*path, key.text), f"given twice; the first is in line {first[key.text]}")
            else:
                first[key.text] = key.line
                inner = (*path, key.text)
                self._document.lines[inner] = key.line
                found[key.text] = self._value(value, inner, depth + 1)
        for source in merged:
            self._merge(source, path, found, depth)
        return found

    def _merge(self, source: _Node, path: Path, found: dict[str, object], depth: int) -> None:
        """
        C{<<: *base}: takes over what is not written here. Part of YAML 1.1 alone, but what people use to say a thing
        once.
        """
        if source.kind != "mapping":
            self._refuse(source.line, path, "'<<' takes a mapping, or a list of mappings")
            return
        self._count(1 + len(source.parts), depth)
        further: list[_Node] = []
        for key, value in zip(source.parts[::2], source.parts[1::2], strict=True):
            if key.kind == "scalar" and key.text == "<<" and key.plain:
                further += value.parts if value.kind == "list" else [value]
            elif key.kind == "scalar" and key.text not in found:
                inner = (*path, key.text)
                self._document.lines[inner] = key.line
                found[key.text] = self._value(value, inner, depth + 1)
        for each in further:
            self._merge(each, path, found, depth + 1)

    def _scalar(self, node: _Node, path: Path) -> object:
        text = node.text
        if "${" in text and self._environment is not None:
            return self._substitute(node, path, self._environment)
        name = (node.tag or "").removeprefix(_TAG)
        if name == "str" or (not name and not node.plain):
            return text
        value = resolve(text)
        if name and name != {int: "int", float: "float", bool: "bool", type(None): "null"}.get(type(value)):
            self._spoil(node.line, path, f"found {text[:60]!r}; the tag says {name!r}")
            return None
        return value

    def _substitute(self, node: _Node, path: Path, environment: Mapping[str, str]) -> object:
        """A scalar with references in it. One that cannot be replaced is a problem and gives L{None}."""
        wrong = []
        replaced = False

        def replace(match: re.Match[str]) -> str:
            nonlocal replaced
            if match["body"] is None:
                return "${"
            if not match["end"]:
                wrong.append("'${' without '}'; write '$${' for the characters themselves")
                return ""
            parts = _NAME.match(match["body"])
            if parts is None:
                wrong.append(f"found {match[0][:60]!r}; write ${{NAME}} or ${{NAME:-default}}")
                return ""
            replaced = True
            value = environment.get(parts["name"])
            if value is not None and not value.isascii() and not _is_utf8(value):
                wrong.append(f"{parts['name']} in the environment is not UTF-8; set it to text that is")
                return ""
            if parts["default"] is not None and not value:
                return parts["default"][2:]
            if value is None:
                name = parts["name"]
                wrong.append(f"{name} is not in the environment; set it, or write ${{{name}:-default}}")
                return ""
            return value

        text = _REFERENCE.sub(replace, node.text)
        for each in wrong:
            self._spoil(node.line, path, each)
        if wrong:
            return None
        return Substituted(text) if replaced else text
