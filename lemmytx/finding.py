"""
Plugins: found, verified, and reported by file and reason when they cannot be used.

They are found with L{twisted.plugin.getPlugins}, in C{twisted/plugins/} of every installed distribution and in the
folders that the configuration names under C{plugins}. Three things Twisted leaves to us:

  - It only logs a module that fails to import. Here that is a L{PluginError}: for every module in a folder of the
    configuration, and for a module in a C{twisted/plugins/} when it mentions C{lemmytx}. Others there belong to other
    programs, and what is wrong with them must not stop this one.
  - It believes C{dropin.cache}, which may be older than what a module of an older date has brought with it. The
    modules in question are imported here in any case, so what they define is seen whatever the cache says. That a
    cache cannot be written is no error.
  - It does not mind two plugins of one name. That is a L{PluginError} with both files.

Another kind of plugin is another interface with a C{name}: L{find} takes it as it is.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import traceback
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from twisted.plugin import IPlugin, getPlugins
from twisted.python.modules import getModule
from zope.interface import Interface
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

import lemmytx
import twisted.plugins

_Plugin = TypeVar("_Plugin", bound=Interface)


class PluginError(Exception):
    """
    Plugins that cannot be used: a reason not to start.

    @ivar problems: file (or folder) and reason of each, all that were found.
    """

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = list(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(f"{file}: {reason}" for file, reason in self.problems)


def find(interface: type[_Plugin], folders: Sequence[str] = ()) -> dict[str, _Plugin]:
    """
    All plugins of one kind, by name. Called at the start and at a reload; imports modules.

    @param interface: what they provide beside L{IPlugin}: an interface with a C{name}.
    @param folders: where to look besides C{twisted/plugins/}. Modules there must not need each other.
    @raise PluginError: when a folder is missing, a module cannot be imported, a plugin does not do what its interface
        says, or two have one name.
    """
    problems: list[tuple[str, str]] = []
    found: dict[str, _Plugin] = {}
    files: dict[str, str] = {}
    for package in [twisted.plugins, *_packages(folders, problems)]:
        before = len(problems)
        modules = list(_modules(package, problems))
        plugins: list[Any] = [
            value
            for module in modules
            for value in vars(module).values()
            if interface.providedBy(value) and IPlugin.providedBy(value)
        ]
        if len(problems) == before:
            # Else it would import the broken ones once more, and log a traceback for each.
            plugins.extend(getPlugins(interface, package))
        for plugin in {id(plugin): plugin for plugin in plugins}.values():
            file = _file(plugin, package)
            try:
                verify(interface, plugin, file)
            except PluginError as error:
                problems.extend(error.problems)
                continue
            name = plugin.name
            if not isinstance(name, str) or not name:
                problems.append((file, f"the name of a plugin is {name!r}; it must be text"))
            elif found.setdefault(name, plugin) is not plugin:
                problems.append((file, f"the plugin name {name!r} is taken by {files[name]}; rename one of them"))
            else:
                files[name] = file
    if problems:
        raise PluginError(problems)
    return found


def verify(interface: type[Interface], candidate: object, file: str) -> None:
    """
    @raise PluginError: when an object does not do what an interface says.
    """
    try:
        verifyObject(interface, candidate)
    except Invalid as error:
        raise PluginError([(file, " ".join(str(error).split()))]) from error


def source(definition: object) -> str:
    """The file that a class or function is from, or as much of that as can be told."""
    module = sys.modules.get(getattr(definition, "__module__", ""))
    return str(getattr(module, "__file__", None) or repr(definition))


def _packages(folders: Iterable[str], problems: list[tuple[str, str]]) -> Iterator[types.ModuleType]:
    """
    Each folder as a package of its own, so that modules of one file name in two folders do not hide one another.
    """
    for folder in dict.fromkeys(os.path.realpath(folder) for folder in folders):
        if not os.path.isdir(folder):
            problems.append((folder, "no such folder; 'plugins' names folders with Python modules in them"))
            continue
        name = "lemmytx_plugins_" + hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        package = sys.modules.get(name)
        if package is None:
            package = types.ModuleType(name, f"Plugins in {folder}.")
            package.__path__ = [folder]
            # twisted.python.modules takes for a package only what comes from an existing __init__.py.
            package.__file__ = lemmytx.__file__
            sys.modules[name] = package
        try:
            # A cache that came with a moved folder names modules that do not exist, and each would be logged.
            os.unlink(os.path.join(folder, "dropin.cache"))
        except OSError:
            pass  # there is none, or it may not be written, which is no error
        importlib.invalidate_caches()
        yield package


def _modules(package: types.ModuleType, problems: list[tuple[str, str]]) -> Iterator[types.ModuleType]:
    """
    The modules directly below a package that concern us, imported.
    """
    ours = package is not twisted.plugins
    # twisted.python.modules has no annotations, and L{getPlugins} goes by it.
    for module in getModule(package.__name__).iterModules():
        file = module.filePath.path
        try:
            if not ours:
                with open(file, "rb") as source:
                    if b"lemmytx" not in source.read():
                        continue
            yield importlib.import_module(module.name)
        except (Exception, SystemExit) as error:  # what a foreign module does when run cannot be foreseen
            problems.append((file, f"cannot be imported: {_reason(error, file)}"))


def _reason(error: BaseException, file: str) -> str:
    """An exception in one line, with the line of the file where there is one."""
    text = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1]
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"{text} (line {error.lineno})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{text} (line {lines[-1]})" if lines else text


def _file(plugin: object, package: types.ModuleType) -> str:
    """The file of the module that has a plugin."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{package.__name__}.") and any(value is plugin for value in vars(module).values()):
            return str(module.__file__)
    return package.__name__
