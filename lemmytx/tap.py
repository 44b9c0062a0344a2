"""C{twistd lemmy}: options, signals, service."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from twisted.internet import reactor
from twisted.python import usage

from lemmytx import assemble, checking, config


class Options(usage.Options):
    """The command line of C{twistd lemmy}."""

    synopsis = "[options] --config FILE"
    longdesc = "lemmytx: an HTTP reverse proxy and load balancer. 'lemmy check --config FILE' verifies a configuration."
    optParameters = (("config", "c", None, "The configuration file (YAML)."),)

    def postOptions(self) -> None:
        """Twisted: everything is parsed."""
        if not self["config"]:
            raise usage.UsageError("which configuration? --config FILE; conf/minimal.yaml is the smallest")


def makeService(options: Options) -> assemble.Proxy:
    """
    What C{twistd} runs.

    @raise SystemExit: when the configuration is wrong or something that it asks for cannot be had; one line each.
    """
    file = os.path.abspath(options["config"])
    try:
        configuration = checking.load(options["config"])
        proxy = assemble.proxy(configuration, config.plugin_folders(configuration, file), reactor)
    except (config.ConfigurationError, assemble.CannotStart) as error:
        raise SystemExit(str(error)) from error
    _on_signal(signal.SIGUSR1, proxy.reopen_logs)
    # Not before: at its start the reactor puts its own in the place of what is there.
    reactor.callWhenRunning(_stop_on_signals, proxy)
    return proxy


def _stop_on_signals(proxy: assemble.Proxy) -> None:
    """
    The first SIGTERM or SIGINT drains, the next one cuts what is still running. Twisted's own would complain about the
    second, and have twistd end by the signal: whoever asked for an orderly end would see a killed process.
    """
    asked = False

    def came() -> None:
        nonlocal asked
        if asked:
            proxy.hurry()
        else:
            asked = True
            reactor.stop()

    _on_signal(signal.SIGTERM, came)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # A shell ignores it for what it runs in the background.
        _on_signal(signal.SIGINT, came)


def _on_signal(number: int, call: Any) -> None:
    """Call something from the reactor when a signal comes."""

    def came(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(call)  # type: ignore[attr-defined]  # the module stands for the installed reactor

    signal.signal(number, came)
