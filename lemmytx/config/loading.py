"""Reads a configuration file, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lemmytx.config import checks
from lemmytx.config.describe import settings_at
from lemmytx.config.later import take_out
from lemmytx.config.problems import ConfigurationError, Path, Problem, nearest
from lemmytx.config.reader import LARGEST, Document, places, read_yaml
from lemmytx.model import Configuration
from lemmytx.units import shown

# What was wanted, by pydantic's name of the error.
_WANTED = {
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping: names with their values",
    "mapping_type": "a mapping: names with their values",
    "model_type": "a mapping: settings with their values",
    "model_attributes_type": "a mapping: settings with their values",
    "string_type": "text; put it in quotes",
}


def load(
    path: str | os.PathLike[str],
    check_endpoint: checks.EndpointCheck | None = None,
    check_scheduler: checks.SchedulerCheck | None = None,
    check_plugins: checks.PluginsCheck | None = None,
    check_admin: checks.AdminCheck | None = None,
    environment: Mapping[str, str] | None = None,
    check_files: checks.FilesCheck | None = None,
    check_health: checks.HealthCheckCheck | None = None,
    check_store: checks.StoreCheck | None = None,
) -> Configuration:
    """
    Reads a file. The checks are for what this layer must not know; they return what is wrong, for the user.

    @param path: the file; errors name it as it is given here.
    @param check_endpoint: for every endpoint description.
    @param check_scheduler: for every scheduler that the file names, with its name and options.
    @param check_plugins: for the folders that C{plugins} names; called once, before any check of a scheduler.
    @param check_admin: for the admin side's endpoint and tokens, once each is right in itself.
    @param environment: for references; the process's own unless given.
    @param check_files: for the files that the settings name, once all settings are right in themselves.
    @param check_health: for every health check that the file describes, like C{check_scheduler}.
    @param check_store: for the store, likewise.
    @raise ConfigurationError: with everything that is wrong, a file that cannot be read included.
    """
    file = os.fspath(path)
    try:
        with open(file, "rb") as source:
            raw = source.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError([Problem(file, 0, "", f"cannot be read: {why}")]) from None
    return read(
        raw,
        file,
        check_endpoint,
        check_scheduler,
        check_plugins,
        check_admin,
        environment,
        check_files,
        check_health,
        check_store,
    )


def read(
    raw: bytes,
    file: str,
    check_endpoint: checks.EndpointCheck | None = None,
    check_scheduler: checks.SchedulerCheck | None = None,
    check_plugins: checks.PluginsCheck | None = None,
    check_admin: checks.AdminCheck | None = None,
    environment: Mapping[str, str] | None = None,
    check_files: checks.FilesCheck | None = None,
    check_health: checks.HealthCheckCheck | None = None,
    check_store: checks.StoreCheck | None = None,
) -> Configuration:
    """
    Like L{load}, for text that is already at hand.

    @param raw: YAML in UTF-8.
    @param file: what errors call it; relative plugin folders start at its folder.
    @raise ConfigurationError: with everything that is wrong.
    """
    document = read_yaml(raw, file, os.environ if environment is None else environment)
    if document.data is None:
        if not document.problems:
            document.refuse((), "the file is empty; conf/minimal.yaml shows the least that is useful")
        raise ConfigurationError(document.problems)
    if not isinstance(document.data, dict):
        document.refuse((), f"found {shown(document.data)}; a configuration is a mapping: settings with their values")
        raise ConfigurationError(document.problems)

    _anchor(document.data, file)
    checks.check_references(document)
    checks.check_stand_ins(document)
    checks.check_classes(document)
    checks.check_subsets(document)
    checks.check_hosts(document)
    checks.check_routes(document)
    refused = take_out(document.data)
    for path, text in refused.items():
        document.refuse(path, text)
    said = document.spoilt.union(refused)
    checks.check_backends(document)
    checks.check_endpoints(document, check_endpoint)
    checks.check_admin(document, check_admin)
    folders = _folders(document.data.get("plugins"), file)
    checks.check_plugins(document, folders, check_plugins, check_scheduler, check_health, check_store)
    try:
        configuration = Configuration.model_validate(document.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            path = tuple(part for part in details["loc"] if part != "[key]")
            if path not in said and path[:-1] not in said:
                document.refuse(path, _text(path, details))
    if document.problems:
        raise ConfigurationError(_once(document))
    for path, text in () if check_files is None else check_files(configuration):
        document.refuse(path, text)
    if document.problems:
        raise ConfigurationError(_once(document))
    return configuration


def _once(document: Document) -> list[Problem]:
    """The problems without repetitions: two rules may find the same fault."""
    return list(dict.fromkeys(document.problems))


def _text(path: Path, details: ErrorDetails) -> str:
    """A text for the user out of one of pydantic's errors."""
    kind = details["type"]
    found = shown(details["input"])
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "extra_forbidden":
        return f"no such setting{nearest(str(path[-1]), settings_at(path[:-1]))}"
    if kind == "missing":
        meaning = settings_at(path[:-1])[str(path[-1])].partition(". ")[0].rstrip(".")
        abbreviation = meaning[:2].isupper()
        return f"is missing: {meaning if abbreviation else meaning[:1].lower() + meaning[1:]}"
    if path[:2] == ("admin", "tokens") and len(path) == 3 and isinstance(details["input"], str):
        found = "text (not shown, it may be a token)"
    if kind in _WANTED:
        return f"found {found}; write {_WANTED[kind]}"
    if kind in ("too_short", "string_too_short"):
        return f"found {found}; write at least one" if kind == "too_short" else "found empty text; write some"
    return f"found {found}; {details['msg'].replace('Input should be ', 'write ')}"


#: Settings that hold the path of a file or folder, beside C{plugins}.
_PATHS = (
    ("listeners", "*", "tls", "certificates", "*"),
    ("listeners", "*", "tls", "client_ca"),
    ("listeners", "*", "tls", "client_crl"),
    ("listeners", "*", "tls", "ocsp", "*"),
    *(
        (*section, "tls", name)
        for cluster in (("clusters", "*"), ("defaults",))
        for section in (cluster, (*cluster, "health_check"), (*cluster, "backends", "*", "health_check"))
        for name in ("ca", "certificate", "key")
    ),
)


def _anchor(data: object, file: str) -> None:
    """Make relative paths absolute: they start at the folder of the file, wherever the process was started."""
    base = os.path.dirname(os.path.abspath(file))
    for pattern in _PATHS:
        for section, key in places(data, pattern):
            value = section[key]
            if isinstance(value, str) and value:
                section[key] = os.path.normpath(os.path.join(base, os.path.expanduser(value)))


def _folders(plugins: object, file: str) -> tuple[str, ...]:
    """The folders that a file names, absolute, in its order; whatever is none is passed over."""
    base = os.path.dirname(os.path.abspath(file))
    found = plugins if isinstance(plugins, list | tuple) else ()
    names = [os.path.expanduser(each) for each in found if isinstance(each, str)]
    return tuple(os.path.normpath(os.path.join(base, name)) for name in names)


def plugin_folders(configuration: Configuration, file: str | os.PathLike[str]) -> tuple[str, ...]:
    """
    Where drop-in plugins are searched for.

    @param file: the file that the configuration is from.
    @return: absolute paths, in the order of the file.
    """
    return _folders(configuration.plugins, os.fspath(file))
