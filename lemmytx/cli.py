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
from typing import NoReturn

from lemmytx import __version__, config
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

    token = commands.add_parser("token", help="make tokens for the admin side")
    actions = token.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="print a new token, once, and its hash for the configuration")
    new.add_argument("--name", required=True, help="whose it is, for the log")
    new.add_argument("--role", required=True, choices=["read", "operate", "admin"])
    new.add_argument("--json", action="store_true", help="print token and hash as JSON, for scripts")
    return parser


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
    Reads, resolves and verifies everything that a file says, and starts nothing.

    @raise ConfigurationError: with everything that is wrong.
    """
    from lemmytx.checking import load

    print(f"{file}: OK ({summary(load(file))})")
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
