"""
C{lemmy}: what a person types.

Exit codes: 0 when all is well, 1 when a configuration is wrong or a program could not do its work, 2 when the command
line itself is wrong. Whatever is wrong goes to standard error, one line each.

Nothing here imports Twisted before a command needs it: C{lemmy run} must leave the choice of the reactor to twistd.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

from lemmytx import __version__, config
from lemmytx.addresses import parse_url
from lemmytx.admin import terminal
from lemmytx.admin.telling import lines
from lemmytx.admin.tokens import hash_token, new_token
from lemmytx.model import Configuration

#: The reactor that C{lemmy run} takes unless told otherwise: the fastest one the project has.
REACTOR = "lemmy"


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="lemmy", description="An HTTP reverse proxy and load balancer on Twisted.")
    parser.add_argument("--version", action="version", version=f"lemmytx {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="serve, in the foreground, on the fastest reactor",
        epilog="What follows a '--' goes to twistd: lemmy run --config F -- --logfile /var/log/lemmy.log",
    )
    run.add_argument("--config", required=True, metavar="FILE")
    run.add_argument("twistd", nargs="*", metavar="-- TWISTD-OPTION", help="further options of twistd")

    check = commands.add_parser("check", help="verify a configuration, start nothing")
    check.add_argument("--config", required=True, metavar="FILE")

    commands.add_parser("schema", help="print the configuration's JSON Schema")
    commands.add_parser("demo", help="a proxy with two demo backends on loopback")

    _add_asking(commands, "reload", "have what runs read its configuration again", 90)
    _add_asking(commands, "upgrade", "replace what runs by the program as it is installed now", 150)

    for name, text in (
        ("enable", "have a backend serve again"),
        ("drain", "give a backend no new requests but those of clients that are bound to it"),
        ("disable", "give a backend no new requests"),
    ):
        command = _add_asking(commands, name, text, 30)
        command.add_argument("cluster", metavar="CLUSTER")
        command.add_argument("backend", metavar="BACKEND")
        command.add_argument("--reason", metavar="TEXT", default="", help="why, for all who look at it")

    command = _add_asking(commands, "explain", "tell what would become of a request, and why, without sending it", 10)
    command.add_argument("url", metavar="URL", help="as in http://shop.example/cart")
    command.add_argument("--method", metavar="METHOD", default="GET", help="(default: %(default)s)")
    command.add_argument(
        "-H", "--header", metavar="'NAME: VALUE'", action="append", default=[], help="a header field; may come again"
    )
    command.add_argument(
        "--client", metavar="ADDRESS", default="127.0.0.1", help="whose request it is (default: %(default)s)"
    )
    command.add_argument("--json", action="store_true", help="print all of the answer as JSON, for scripts")

    token = commands.add_parser("token", help="make tokens for the admin side")
    actions = token.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="print a new token, once, and its hash for the configuration")
    new.add_argument("--name", required=True, help="whose it is, for the log")
    new.add_argument("--role", required=True, choices=["read", "operate", "admin"])
    new.add_argument("--json", action="store_true", help="print token and hash as JSON, for scripts")
    return parser


def _add_asking(commands: Any, name: str, text: str, timeout: int) -> Any:
    """A command that asks an instance which runs; its parser."""
    command = commands.add_parser(
        name, help=text, epilog=f"A token comes from --token-file, or from ${terminal.TOKEN} in the environment."
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument("--config", metavar="FILE", help="its configuration, which says where its admin side is")
    where.add_argument(
        "--admin", metavar="URL", help=f"its admin side (default: {terminal.DEFAULT}), or http+unix:///PATH"
    )
    command.add_argument("--token-file", metavar="FILE", help="a file with the token")
    command.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=timeout, help="for an answer (default: %(default)s)"
    )
    return command


def _seconds(text: str) -> float:
    """A number of seconds that can be waited."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"found {text!r}; write a number of seconds, as in 60")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """
    @param arguments: what stands behind the program's name; the process's own unless given.
    @return: the exit code.
    @raise SystemExit: with 2, for a wrong command line; with 0, for C{--help} and C{--version}.
    """
    chosen = _parser().parse_args(arguments)
    try:
        code = _carry_out(chosen)
        sys.stdout.flush()
        return code
    except config.ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    except terminal.CannotAsk as error:
        print("\n".join(error.reasons), file=sys.stderr)
        return 1
    except BrokenPipeError:
        # "lemmy schema | head": the reader has what it wanted. Nothing more can be written, not even at exit.
        sys.stdout = None
        return 0


def _carry_out(chosen: argparse.Namespace) -> int:
    """The command that was chosen."""
    if chosen.command == "run":
        run(chosen.config, chosen.twistd)
    if chosen.command == "check":
        return check(chosen.config)
    if chosen.command == "schema":
        print(json.dumps(config.json_schema(), indent=2))
        return 0
    if chosen.command == "demo":
        return demo()
    if chosen.command in ("reload", "upgrade", "enable", "drain", "disable", "explain"):
        url = chosen.admin or (terminal.url_of(chosen.config) if chosen.config else terminal.DEFAULT)
        remote = terminal.Remote(url, terminal.read_token(chosen.token_file), chosen.timeout)
        if chosen.command in ("reload", "upgrade"):
            return reload(remote) if chosen.command == "reload" else upgrade(remote)
        if chosen.command == "explain":
            return explain(remote, chosen.url, chosen.method, chosen.header, chosen.client, chosen.json)
        return want(remote, chosen.command, chosen.cluster, chosen.backend, chosen.reason)
    return token_new(chosen.name, chosen.role, chosen.json)


def run(file: str, options: Sequence[str]) -> NoReturn:
    """
    Serves until it is ended, as C{twistd} in this very process.

    @param file: the configuration.
    @param options: for twistd; C{--reactor} among them replaces L{REACTOR}.
    @raise ConfigurationError: with everything that is wrong, if something can be seen to be without Twisted; else
        twistd's C{lemmy} says it.
    @raise SystemExit: at the end.
    """
    try:
        config.load(file)
    except config.ConfigurationError:
        # Nothing will run, so Twisted may be asked as well: every error in one go.
        from lemmytx.checking import load

        load(file)
        raise
    from twisted.scripts import twistd

    named = any(option == "-r" or option.startswith(("--reactor", "-r")) for option in options)
    reactor = [] if named else [f"--reactor={REACTOR}"]
    sys.argv = ["twistd", "--nodaemon", *reactor, "--pidfile=", *options, "lemmy", "--config", file]
    twistd.run()
    sys.exit(0)


def check(file: str) -> int:
    """
    Reads, resolves and verifies everything that a file says, and starts nothing. What is right and yet seldom meant is
    told on standard error, and changes nothing about the outcome.

    @raise ConfigurationError: with everything that is wrong.
    """
    from lemmytx.checking import load
    from lemmytx.config.advice import advice

    configuration = load(file)
    print(f"{file}: OK ({summary(configuration)})")
    for setting, text in advice(configuration):
        print(f"{file}: warning: {setting}: {text}", file=sys.stderr)
    return 0


def summary(configuration: Configuration) -> str:
    """What a configuration holds: C{2 listeners, 3 vhosts, 1 cluster, 5 backends}."""
    counts = {
        "listener": len(configuration.listeners),
        "vhost": len(configuration.vhosts),
        "cluster": len(configuration.clusters),
        "backend": sum(len(cluster.backends) for cluster in configuration.clusters.values()),
    }
    return ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for word, number in counts.items())


def demo() -> int:
    """A proxy, two demo backends and the admin side on loopback, until it is ended."""
    from lemmytx.demo import main as run_demo

    return run_demo()


def reload(remote: terminal.Remote) -> int:
    """
    Has an instance read its configuration again, and prints what changed.

    @raise terminal.CannotAsk: with everything that is wrong; nothing has changed then.
    """
    for line in remote.post("/api/v1/config/reload", "changed") or ["nothing changed"]:
        print(line)
    return 0


def upgrade(remote: terminal.Remote) -> int:
    """
    Has an instance hand over to a new process.

    @raise terminal.CannotAsk: with what went wrong; the old one goes on then.
    """
    print(f"process {remote.post('/api/v1/upgrade', 'pid')} serves now; the old one ends what it has")
    return 0


def want(remote: terminal.Remote, act: str, cluster: str, backend: str, reason: str = "") -> int:
    """
    Takes a backend out, or brings it back.

    @param act: C{enable}, C{drain} or C{disable}.
    @param backend: its name; or its URL, by which it is called unless it has a name of its own.
    @raise terminal.CannotAsk: with what went wrong.
    """
    if "://" in backend:
        try:
            backend = parse_url(backend).name
        except ValueError as error:
            raise terminal.CannotAsk(str(error)) from None
    for what, name in (("cluster", cluster), ("backend", backend)):
        # The way to it would be another one.
        if not name or "/" in name:
            raise terminal.CannotAsk(f"found {name!r}; write the name of the {what}, as in the statistics")
    path = f"/api/v1/clusters/{quote(cluster, safe='')}/backends/{quote(backend, safe='')}/{act}"
    state = remote.post(path, "state", {"reason": reason} if reason else None)
    print(f"backend {backend} of cluster {cluster} is {state}")
    return 0


def explain(remote: terminal.Remote, url: str, method: str, fields: Sequence[str], client: str, as_json: bool) -> int:
    """
    Tells what would become of a request.

    @param fields: header fields, as they stand in a request.
    @raise terminal.CannotAsk: with what went wrong.
    """
    query = [("url", url), ("method", method), ("client", client), *(("header", field) for field in fields)]
    told = remote.get(f"/api/v1/explain?{urlencode(query, errors='surrogateescape')}", "outcome")
    if as_json:
        print(json.dumps(told, indent=2))
        return 0
    for line in lines(told):
        print(line)
    return 0


def token_new(name: str, role: str, as_json: bool) -> int:
    """Prints a new token and what the configuration keeps of it."""
    token = new_token()
    hashed = hash_token(token)
    if as_json:
        print(json.dumps({"token": token, "hash": hashed}))
        return 0
    entry = json.dumps({"name": name, "hash": hashed, "role": role}, ensure_ascii=False)  # JSON is YAML too
    print(f"The token, shown this once:\n\n    {token}\n")
    print(f"For the configuration, under admin: tokens:\n\n    - {entry}\n")
    print(f'Try it: curl -H "Authorization: Bearer {token}" http://127.0.0.1:8081/stats')
    return 0


if __name__ == "__main__":
    sys.exit(main())
