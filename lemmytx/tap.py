"""C{twistd lemmy}: options, signals, service."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from twisted.application.reactors import getReactorTypes
from twisted.internet import reactor
from twisted.python import usage

from lemmytx import assemble, checking, config, upgrade
from lemmytx.instance import Instance, build
from lemmytx.net.notify import Notifier
from lemmytx.net.sockets import Sockets
from lemmytx.net.steady import steady


class Options(usage.Options):
    """The command line of C{twistd lemmy}."""

    synopsis = "[options] --config FILE"
    longdesc = "lemmytx: an HTTP reverse proxy and load balancer. 'lemmy check --config FILE' verifies a configuration."
    optParameters = (("config", "c", None, "The configuration file (YAML)."),)

    def postOptions(self) -> None:
        """Twisted: everything is parsed."""
        if not self["config"]:
            raise usage.UsageError("which configuration? --config FILE; conf/minimal.yaml is the smallest")


def makeService(options: Options) -> Instance:
    """
    What C{twistd} runs.

    @raise SystemExit: when the configuration is wrong or something that it asks for cannot be had; one line each.
    """
    steady(reactor)
    inheritance = upgrade.Inheritance()
    notifier = Notifier()
    try:
        configuration = checking.load(options["config"])
        instance = build(
            configuration,
            os.path.abspath(options["config"]),
            reactor,
            _name_of_reactor(),
            inheritance=inheritance,
            notifier=notifier,
            successor=_Succession(options.parent or {}, notifier).start,
        )
    except (config.ConfigurationError, assemble.CannotStart) as error:
        raise SystemExit(str(error)) from error
    atexit.register(_status, instance)
    _on_signal(signal.SIGUSR1, instance.reopen_logs)
    _on_signal(signal.SIGHUP, instance.asked_to_reload)
    _on_signal(signal.SIGUSR2, instance.asked_to_upgrade)
    # Not before: at its start the reactor puts its own in the place of what is there.
    reactor.callWhenRunning(_stop_on_signals, instance)
    return instance


class _Succession:
    """
    How this program is started again, as it was started.

    The file with the process id, where twistd writes one, is the successor's from then on: it says who it is, and
    twistd, which would remove it at our end, is to forget it.
    """

    def __init__(self, twistd: Any, notifier: Notifier) -> None:
        """
        @param twistd: its options.
        """
        self._twistd = twistd
        self._notifier = notifier
        self._folder = os.getcwd()  # twistd may leave it later
        line = upgrade.command()
        self._line: Sequence[str] = line if twistd.get("nodaemon", True) else upgrade.foreground(line)
        self._log = os.path.join(self._folder, twistd.get("logfile") or "twistd.log")
        named = os.environ.pop(upgrade.PIDFILE, "") or ("" if twistd.get("nodaemon", True) else twistd["pidfile"])
        self._pidfile = os.path.abspath(named) if named else ""
        if self._pidfile:
            reactor.addSystemEventTrigger("after", "shutdown", self._remove)
        # The one before us may still be writing.
        reactor.callWhenRunning(upgrade.append_only, self._log)

    async def start(self, sockets: Sockets) -> int:
        """
        See L{Instance}.

        @raise lemmytx.interfaces.Refused: it does not serve.
        """
        upgrade.append_only(self._log)
        environ = {**os.environ, **self._notifier.for_successor()}
        if self._pidfile:
            environ[upgrade.PIDFILE] = self._pidfile
        pid = await upgrade.start(reactor, self._line, self._folder, environ, sockets)
        if self._pidfile:
            upgrade.write_pid(self._pidfile, pid)
            self._pidfile = self._twistd["pidfile"] = ""
        return pid

    def _remove(self) -> None:
        """The end, with no successor. Where twistd wrote the file, it removes it as well."""
        if self._pidfile and not self._twistd["pidfile"]:
            upgrade.remove_pid(self._pidfile)


def _name_of_reactor() -> str:
    """Twisted's short name for the reactor that is installed."""
    module = type(reactor).__module__
    kinds: Any = getReactorTypes()
    names = [kind.shortName for kind in kinds if kind.moduleName == module]
    return str(names[0]) if names else "default"


def _stop_on_signals(instance: Instance) -> None:
    """
    SIGTERM drains; SIGINT, and a second SIGTERM, cut what is still running. Twisted's own would complain about the
    second, and have twistd end by the signal: whoever asked for an orderly end would see a killed process.
    """
    asked = False

    def drain() -> None:
        nonlocal asked
        if asked or reactor._stopped:  # type: ignore[attr-defined]  # after an upgrade it drains by itself
            instance.hurry()
        else:
            asked = True
            _stop()

    def cut() -> None:
        nonlocal asked
        instance.hurry()
        if not asked:
            asked = True
            _stop()

    _on_signal(signal.SIGTERM, drain)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # A shell ignores it for what it runs in the background.
        _on_signal(signal.SIGINT, cut)


def _stop() -> None:
    if not reactor._stopped:  # type: ignore[attr-defined]  # as above
        reactor.stop()


def _status(instance: Instance) -> None:
    """At the very end. twistd's exit status is 0 whatever has happened while the reactor ran."""
    if instance.failed:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _on_signal(number: int, call: Any) -> None:
    """Call something from the reactor when a signal comes."""

    def came(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(call)  # type: ignore[attr-defined]  # the module stands for the installed reactor

    signal.signal(number, came)
