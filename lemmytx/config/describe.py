"""The JSON Schema and the reference, made from the model so that they cannot say anything else than it does."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lemmytx.config.later import SETTINGS
from lemmytx.config.problems import Path
from lemmytx.model import ClusterRules, Configuration, OwnHealthCheck, Scheduler
from lemmytx.units import REFERENCE, SHARE, Rule

_PREFACE = """\
# Configuration

One YAML file. It is read as a whole or not at all: `lemmy check --config FILE` says everything that is wrong with it,
each on one line, and starts nothing. `lemmy schema` prints its JSON Schema, with which an editor completes and checks
it. `conf/lemmy.yaml` shows every setting with its default.

This page is made from the program by `python -m lemmytx.config`.

## How things are written

* **Durations** are seconds, or text with a unit: `250ms`, `2s`, `1m`, `1h`, `1d`.
* **Sizes** are bytes, or text with a unit: `64k`, `1m`, `1g` (powers of 1024).
* **Percentages** are text: `50%`.
* **Booleans** are `true` and `false`. `yes`, `no`, `on` and `off` are text, as YAML 1.2 has it.
* **A name that is given twice** is an error. A setting that is left empty has its default.
* **The environment**: `${NAME}` and `${NAME:-default}` in a value stand for a variable; without a default it must be
  set. Where a number or a boolean is wanted, the variable's text is read as one. `$${` stands for the characters `${`.
  Names of settings and comments are left alone.
* **To say a thing once**, use YAML's anchors, aliases and merges (`&name`, `*name`, `<<: *name`).
* **Bounds** of the file itself: 1 MiB, 32 levels, 500,000 values with all aliases written out.
"""


def json_schema() -> dict[str, Any]:
    """The configuration file's JSON Schema, draft 2020-12."""
    schema = _tidy(Configuration.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "lemmytx configuration", **schema}


def _tidy(part: Any) -> Any:
    """
    Without what pydantic adds and nobody needs (a title that repeats the name, the defaults of whole sections, which
    have their own), with every text on one line, and with references to the environment where pydantic knows of none.
    """
    if isinstance(part, list):
        return [_tidy(each) for each in part]
    if not isinstance(part, dict):
        return part
    tidy: dict[str, Any] = {}
    for name, value in part.items():
        if (name == "title" and isinstance(value, str)) or (name == "default" and isinstance(value, dict)):
            continue
        if name == "description" and isinstance(value, str):
            tidy[name] = " ".join(value.split())
        else:
            tidy[name] = _tidy(value)
    if "enum" in tidy:
        tidy["anyOf"] = [{"enum": tidy.pop("enum"), "type": tidy.pop("type")}, REFERENCE]
    if tidy.get("anyOf") == SHARE.schema["anyOf"] and "default" in tidy:
        tidy["default"] = SHARE.write(tidy["default"])
    return tidy


def reference() -> str:
    """The reference in Markdown: every section with its settings, their types, defaults and meaning."""
    parts = [_PREFACE, "## Settings\n", _table(Configuration)]
    for place, model in _sections(Configuration, ""):
        parts.append(f"## `{place}`\n")
        parts.append(" ".join(inspect.cleandoc(model.__doc__ or "").split()) + "\n")
        if model is ClusterRules:
            parts.append("The settings are those of [`clusters.NAME`](#clustersname).\n")
        elif model is OwnHealthCheck:
            shared = "clusters.NAME.health_check"
            parts.append(f"The settings are those of [`{shared}`](#clustersnamehealth_check).\n")
        else:
            parts.append(_table(model))
    known = ", ".join(f"`{'.'.join(pattern).replace('.*', '[]')}`" for pattern in SETTINGS if pattern[0] != "defaults")
    if known:
        parts.append("## Not yet\n")
        parts.append(f"These settings are known and refused with a plain text until the feature is there: {known}.\n")
    return "\n".join(parts)


def _plain(annotation: Any) -> Any:
    """An annotation without what is hung on it, and without the L{None} that it may be instead."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, UnionType) and type(None) in get_args(annotation):
            annotation = next(each for each in get_args(annotation) if each is not type(None))
        else:
            return annotation


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _sections(model: type[BaseModel], place: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section below one, in the order of the model, with its place as the reference writes it."""
    for name, field in model.model_fields.items():
        annotation, inner = _plain(field.annotation), f"{place}.{name}" if place else name
        if get_origin(annotation) is tuple:
            annotation, inner = _plain(get_args(annotation)[0]), f"{inner}[]"
        elif get_origin(annotation) is dict:
            annotation, inner = _plain(get_args(annotation)[1]), f"{inner}.NAME"
        if _is_section(annotation) and annotation is not Scheduler:
            yield inner, annotation
            if annotation not in (ClusterRules, OwnHealthCheck, model):
                yield from _sections(annotation, inner)


def _table(model: type[BaseModel]) -> str:
    """A section's settings as a Markdown table."""
    rows = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split())
        cells = (f"`{name}`", _label(field.annotation, field.metadata), _default(field), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _label(annotation: Any, metadata: list[Any]) -> str:
    """What the reference calls a type."""
    for rule in (*metadata, *getattr(annotation, "__metadata__", ())):
        if isinstance(rule, Rule):
            return rule.label
    annotation = _plain(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Scheduler:
        return "name, or section"
    if _is_section(annotation):
        return "section"
    if origin is tuple:
        return f"list of {_label(arguments[0], []).partition(',')[0]}s"
    if origin is dict:
        return f"name to {_label(arguments[1], [])}"
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    return "text"


def _default(field: FieldInfo) -> str:
    """A setting's default as the file would have it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    for rule in field.metadata:
        if isinstance(rule, Rule):
            return f"`{rule.write(value)}`" if value != "" else ""
    if isinstance(value, Scheduler):
        return f"`{value.name}`"
    if isinstance(value, BaseModel) or value is None:
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _inner(annotation: Any, part: str | int) -> Any:
    """The type of what stands at a place in a list, under a name in a mapping, or in a section's setting."""
    annotation = _plain(annotation)
    if _is_section(annotation):
        field = annotation.model_fields.get(str(part))
        return None if field is None else field.annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return arguments[0]
    return arguments[1] if origin is dict else None


def settings_at(path: Path) -> dict[str, str]:
    """
    @param path: of a section of the file.
    @return: its settings with their descriptions; empty when there is no such section.
    """
    annotation: Any = Configuration
    for part in path:
        annotation = _inner(annotation, part)
    annotation = _plain(annotation)
    if not _is_section(annotation):
        return {}
    return {name: field.description or "" for name, field in annotation.model_fields.items()}
