"""
What a plugin module has in it: L{Scheduler}, L{HealthCheck}, L{Classifier} or L{Store}, a name and a factory whose
parameters are the options; and the way from name and options in the configuration to what the factory makes.

Where plugins are found, and what is wrong with those that cannot be used: L{lemmytx.finding}.
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from twisted.plugin import IPlugin
from zope.interface import Interface, implementer

from lemmytx import model
from lemmytx.finding import PluginError, find, source, verify
from lemmytx.interfaces import (
    IBackendStore,
    IClassifier,
    IClassifierPlugin,
    IHealthCheck,
    IHealthCheckPlugin,
    IScheduler,
    ISchedulerPlugin,
    IStorePlace,
    IStorePlugin,
)
from lemmytx.testing import check_scheduler
from lemmytx.units import shown


class _Options:
    """
    What makes something of one kind out of the options in the configuration.

    The options are the keyword parameters of the factory, and their annotations say what fits. A value comes from
    YAML and is taken strictly: C{"3"} is no int, and a sequence fits a list or a tuple.
    """

    #: What it makes, for people, and what that provides.
    _kind = ""
    _interface: type[Interface] = Interface

    #: Settings that stand beside the options and are somebody else's: one of them may have been meant.
    _beside: Sequence[str] = ()

    #: Parameters of the factory that are no options: what we give it.
    _given: Sequence[str] = ()

    def __init__(self, name: str, factory: Callable[..., Any]) -> None:
        """
        @param name: what the configuration calls it.
        @param factory: what makes it: usually its class. It may raise L{ValueError} with a text for the user when
            values fit each for itself but not together.
        @raise TypeError: when the factory has parameters that cannot be options.
        """
        self.name = name
        self.factory = factory
        self._types: dict[str, TypeAdapter[Any]] = {}
        self._required: list[str] = []
        me = f"{self._kind} {name!r}"
        parameters = inspect.signature(factory, eval_str=True).parameters
        for given in self._given:
            if given not in parameters:
                raise TypeError(f"{me}: {factory!r} has no parameter {given!r}; it gets one, so let it take it")
        for option, parameter in parameters.items():
            if option in self._given:
                continue
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise TypeError(f"{me}: {parameter} of {factory!r} cannot be an option; name each one")
            if option in self._beside:
                raise TypeError(f"{me}: {parameter} of {factory!r} cannot be an option; every {self._kind} has it")
            if parameter.default is parameter.empty:
                self._required.append(option)
            wanted = Any if parameter.annotation is parameter.empty else parameter.annotation
            try:
                self._types[option] = TypeAdapter(wanted, config=ConfigDict(strict=True))
            except PydanticUserError as error:
                raise TypeError(f"{me}: {parameter} cannot be an option: {error.message}") from error

    def _build(self, options: Mapping[str, object], given: Mapping[str, object] | None = None) -> Any:
        problems = [f"{option!r}: {self._unknown(option)}" for option in options if option not in self._types]
        problems += [f"{option}: must be given" for option in self._required if option not in options]
        fitting: dict[str, object] = {}
        for option, value in options.items():
            if option in self._types:
                try:
                    # By way of JSON because YAML, like JSON, has lists alone where a factory may want a tuple.
                    fitting[option] = self._types[option].validate_json(json.dumps(value))
                except ValidationError as error:
                    texts = list(dict.fromkeys(_text(detail) for detail in error.errors()))
                    # Ours say themselves what was found.
                    found = "" if texts[0].startswith("found ") else f"found {shown(value)}; "
                    problems.append(f"{option}: {found}{', or '.join(texts)}")
                except (TypeError, ValueError):
                    problems.append(
                        f"{option}: found {shown(value)}; write text, a number, true, false, or a list of these"
                    )
        if problems:
            raise ValueError("; ".join(problems))
        made = self.factory(**fitting, **(given or {}))
        verify(self._interface, made, source(self.factory))
        return made

    def _unknown(self, option: object) -> str:
        names = [*self._types, *self._beside]
        if not names:
            return f"{self._kind} {self.name!r} has no options"
        return f"no such option of {self._kind} {self.name!r}; {_nearest(option, names)}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


@implementer(IPlugin, ISchedulerPlugin)
class Scheduler(_Options):
    """
    A scheduler, ready to be found: put one into a plugin module under any name. The factory makes an L{IScheduler}; its
    parameters are the options.
    """

    _kind = "scheduler"
    _interface = IScheduler

    def build(self, options: Mapping[str, object]) -> IScheduler:
        """See L{ISchedulerPlugin.build}."""
        made: IScheduler = self._build(options)
        return made


@implementer(IPlugin, IHealthCheckPlugin)
class HealthCheck(_Options):
    """
    A health check, ready to be found: put one into a plugin module under any name. The factory makes an
    L{IHealthCheck}; its parameters are the options.
    """

    _kind = "health check"
    _interface = IHealthCheck
    _beside = tuple(name for name in model.HealthCheck.model_fields if name != "options")

    def build(self, options: Mapping[str, object]) -> IHealthCheck:
        """See L{IHealthCheckPlugin.build}."""
        made: IHealthCheck = self._build(options)
        return made


@implementer(IPlugin, IClassifierPlugin)
class Classifier(_Options):
    """
    A classifier, ready to be found: put one into a plugin module under any name. The factory makes an L{IClassifier};
    its parameters are the options.
    """

    _kind = "classifier"
    _interface = IClassifier

    def build(self, options: Mapping[str, object]) -> IClassifier:
        """See L{IClassifierPlugin.build}."""
        made: IClassifier = self._build(options)
        return made


@implementer(IPlugin, IStorePlugin)
class Store(_Options):
    """
    A store, ready to be found: put one into a plugin module under any name. The factory makes an L{IBackendStore}; it
    has a parameter C{place}, for which it gets an L{IStorePlace}, and its other parameters are the options.
    """

    _kind = "store"
    _interface = IBackendStore
    _beside = tuple(name for name in model.Store.model_fields if name != "options")
    _given = ("place",)

    def build(self, options: Mapping[str, object], place: IStorePlace) -> IBackendStore:
        """See L{IStorePlugin.build}."""
        made: IBackendStore = self._build(options, {"place": place})
        return made


def _text(detail: Any) -> str:
    """A text for the user out of one of pydantic's errors."""
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return str(detail["msg"][:1].lower() + detail["msg"][1:])


def _nearest(name: object, names: Iterable[str]) -> str:
    """What to write instead of an unknown name."""
    near = difflib.get_close_matches(str(name), names, 1)
    return f"did you mean {near[0]!r}?" if near else "there are " + ", ".join(sorted(names))


def find_schedulers(folders: Sequence[str] = ()) -> dict[str, ISchedulerPlugin]:
    """
    All schedulers there are, by name.

    @param folders: see L{find}.
    @raise PluginError: see L{find}.
    """
    return find(ISchedulerPlugin, folders)


def build_scheduler(plugins: Mapping[str, ISchedulerPlugin], name: str, options: Mapping[str, object]) -> IScheduler:
    """
    A scheduler as the configuration wants it.

    @param plugins: what L{find_schedulers} found.
    @raise ValueError: with a text for the user, when there is no such scheduler or the options do not fit.
    @raise PluginError: when what the plugin builds is no scheduler, or does not keep the contract of one. Those that
        do not come with lemmytx are put to the test, which takes some 10 ms.
    """
    plugin = plugins.get(name)
    if plugin is None:
        raise ValueError(f"no scheduler {name!r}; {_nearest(name, plugins)}")
    scheduler = plugin.build(dict(options))
    verify(IScheduler, scheduler, source(type(plugin)))
    kind = type(scheduler)
    if not kind.__module__.startswith("lemmytx."):
        try:
            check_scheduler(lambda: plugin.build(dict(options)), strict=False)
        except AssertionError as error:
            raise PluginError([(source(kind), f"scheduler {name!r}: {error}")]) from error
    return scheduler


def find_checks(folders: Sequence[str] = ()) -> dict[str, IHealthCheckPlugin]:
    """
    All health checks there are, by name.

    @param folders: see L{find}.
    @raise PluginError: see L{find}.
    """
    return find(IHealthCheckPlugin, folders)


def build_check(plugins: Mapping[str, IHealthCheckPlugin], name: str, options: Mapping[str, object]) -> IHealthCheck:
    """
    A health check as the configuration wants it.

    @param plugins: what L{find_checks} found.
    @raise ValueError: with a text for the user, when there is no such check or the options do not fit.
    @raise PluginError: when what the plugin builds is no health check.
    """
    plugin = plugins.get(name)
    if plugin is None:
        raise ValueError(f"no health check {name!r}; {_nearest(name, plugins)}")
    check = plugin.build(dict(options))
    verify(IHealthCheck, check, source(type(plugin)))
    return check


def find_classifiers(folders: Sequence[str] = ()) -> dict[str, IClassifierPlugin]:
    """
    All classifiers there are, by name. None comes with lemmytx.

    @param folders: see L{find}.
    @raise PluginError: see L{find}.
    """
    return find(IClassifierPlugin, folders)


def build_classifier(plugins: Mapping[str, IClassifierPlugin], name: str, options: Mapping[str, object]) -> IClassifier:
    """
    A classifier as the configuration wants it.

    @param plugins: what L{find_classifiers} found.
    @raise ValueError: with a text for the user, when there is no such classifier or the options do not fit.
    @raise PluginError: when what the plugin builds is no classifier.
    """
    plugin = plugins.get(name)
    if plugin is None:
        there = _nearest(name, plugins) if plugins else "there are none"
        raise ValueError(f"no classifier {name!r}; {there}")
    classifier = plugin.build(dict(options))
    verify(IClassifier, classifier, source(type(plugin)))
    return classifier


def find_stores(folders: Sequence[str] = ()) -> dict[str, IStorePlugin]:
    """
    All stores there are, by name.

    @param folders: see L{find}.
    @raise PluginError: see L{find}.
    """
    return find(IStorePlugin, folders)


def build_store(
    plugins: Mapping[str, IStorePlugin], name: str, options: Mapping[str, object], place: IStorePlace
) -> IBackendStore:
    """
    A store as the configuration wants it; it has not been opened.

    @param plugins: what L{find_stores} found.
    @raise ValueError: with a text for the user, when there is no such store or the options do not fit.
    @raise PluginError: when what the plugin builds is no store.
    """
    plugin = plugins.get(name)
    if plugin is None:
        raise ValueError(f"no store {name!r}; {_nearest(name, plugins)}")
    store = plugin.build(dict(options), place)
    verify(IBackendStore, store, source(type(plugin)))
    return store


def unfit(check: Any, name: str, protocol: str) -> str | None:
    """
    @return: why a health check is nothing for backends that speak so; L{None}: it is.
    """
    protocols: Sequence[str] = getattr(check, "protocols", ())
    if not protocols or protocol in protocols:
        return None
    return f"the health check {name!r} is for {', '.join(protocols)} backends, not for {protocol}"
