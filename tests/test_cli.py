"""C{lemmy}, as a person uses it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from lemmytx import __version__, checking, cli, config
from lemmytx.admin.tokens import hash_token, new_token, verify_token
from lemmytx.model import Configuration

ROOT = Path(__file__).parents[1]


def lemmy(*arguments: str) -> tuple[int, str, str]:
    """Runs a command in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return code, out.getvalue(), err.getvalue()


class CheckTests(SynchronousTestCase):
    """C{lemmy check}"""

    def file(self, text: str) -> str:
        """A file with this text."""
        path = self.mktemp()
        Path(path).write_text(text)
        return path

    def test_files(self) -> None:
        """Every file in conf/ passes, and is summed up."""
        for name, summary in (
            ("minimal", "1 listener, 1 vhost, 1 cluster, 1 backend"),
            ("quickstart", "1 listener, 2 vhosts, 2 clusters, 4 backends"),
            ("lemmy", "2 listeners, 2 vhosts, 2 clusters, 4 backends"),
        ):
            file = str(ROOT / "conf" / f"{name}.yaml")
            self.assertEqual((0, f"{file}: OK ({summary})\n", ""), lemmy("check", "--config", file))

    def test_everything_at_once(self) -> None:
        """Typos, endpoints and schedulers are all told in one go, in the order of the lines; exit code 1."""
        file = self.file("""\
listeners:
  - endpoint: tcp:http
  - endpoint: cpt:80
  - endpoint: unix:/run/x:mode=9
clusters:
  a: {backends: [], scheduler: lemy}
  b: {backends: [], scheduler: {name: lemmy, round_robin_after: soon}}
  c: {backends: [], schedular: lemmy}
admin: {endpoint: "tcp:8081"}
""")
        code, out, err = lemmy("check", "--config", file)
        self.assertEqual((1, ""), (code, out))
        lines = err.rstrip("\n").split("\n")
        for line, (number, start) in zip(
            lines,
            (
                (2, "listeners[0].endpoint: found 'tcp:http'; a port is a number"),
                (3, "listeners[1].endpoint: found 'cpt:80'; that is not an endpoint description"),
                (4, "listeners[2].endpoint: found 'unix:/run/x:mode=9'; that is not an endpoint description"),
                (6, "clusters.a.scheduler: no scheduler 'lemy'; did you mean 'lemmy'?"),
                (7, "clusters.b.scheduler: round_robin_after: found 'soon'"),
                (8, "clusters.c.schedular: no such setting; did you mean 'scheduler'?"),
                (9, "admin.endpoint: 'tcp:8081' can be reached from other machines"),
            ),
            strict=True,
        ):
            self.assertTrue(line.startswith(f"{file}:{number}: {start}"), line)

    def test_plugins(self) -> None:
        """A scheduler out of a folder that the file names is known; the folder is searched for beside the file."""
        folder = Path(self.mktemp())
        (folder / "mine").mkdir(parents=True)
        (folder / "mine" / "lemmytx_test_first.py").write_text("""\
from zope.interface import implementer
from lemmytx.interfaces import IScheduler
from lemmytx.plugin import Scheduler

@implementer(IScheduler)
class First:
    def update(self, backends): pass
    def choose(self, candidates, request): return candidates[0]

first = Scheduler("test_the_first", First)
""")
        (folder / "x.yaml").write_text("plugins: [mine]\nclusters: {a: {backends: [], scheduler: test_the_first}}\n")
        code, out, err = lemmy("check", "--config", str(folder / "x.yaml"))
        self.assertEqual((0, ""), (code, err))
        self.assertIn("OK (0 listeners, 0 vhosts, 1 cluster, 0 backends)", out)

    def test_broken_plugins(self) -> None:
        """A plugin folder that is missing and a plugin that cannot be imported are named, each on a line."""
        folder = Path(self.mktemp())
        (folder / "mine").mkdir(parents=True)
        (folder / "mine" / "lemmytx_test_broken.py").write_text("import no_such_module_at_all\n")
        (folder / "x.yaml").write_text("\nplugins: [mine, missing]\nclusters: {a: {backends: [], scheduler: x}}\n")
        code, _, err = lemmy("check", "--config", str(folder / "x.yaml"))
        self.flushLoggedErrors(ModuleNotFoundError)  # Twisted logs it as well
        self.assertEqual(1, code)
        self.assertEqual(2, len(err.rstrip("\n").split("\n")), err)
        for line in err.rstrip("\n").split("\n"):
            self.assertTrue(line.startswith(f"{folder}/x.yaml:2: plugins: "), line)
        self.assertIn("no_such_module_at_all", err)
        self.assertIn("missing", err)

    def test_missing_file(self) -> None:
        """A file that is not there is one plain line."""
        self.assertEqual(
            (1, "", "nowhere.yaml: cannot be read: No such file or directory\n"),
            lemmy("check", "--config", "nowhere.yaml"),
        )


class EndpointTests(SynchronousTestCase):
    """L{checking.check_endpoint}"""

    def test_right(self) -> None:
        """What Twisted takes for a stream server endpoint is right."""
        for description in (
            "tcp:8080", "tcp:0", "tcp:port=8080:interface=127.0.0.1", r"tcp:8080:interface=\:\:1", "tcp6:80:backlog=9",
            "unix:/run/x.sock", "unix:/run/x.sock:mode=660",
        ):  # fmt: skip
            self.assertIsNone(checking.check_endpoint(description), description)

    def test_wrong(self) -> None:
        """Anything else is wrong, and the text repeats it."""
        for description in (
            "", ":", "8080", "tcp", "tcp:", "tcp:-1", "tcp:65536", "tcp:80:interfaces=x", "tcp:80:backlog=x", "tcp:²",
            "unix:/x:mode=x", "systemd:domain=INET", "http:80", "ssl:443:privateKey=/nowhere.pem", "tcp:80\\",
        ):  # fmt: skip
            wrong = checking.check_endpoint(description)
            assert wrong is not None, description
            self.assertIn(repr(description), wrong)
            self.assertNotIn("\n", wrong)


class CommandTests(SynchronousTestCase):
    """The other commands."""

    def test_schema(self) -> None:
        """C{lemmy schema} prints the JSON Schema."""
        code, out, err = lemmy("schema")
        self.assertEqual((0, ""), (code, err))
        self.assertEqual(config.json_schema(), json.loads(out))

    def test_version(self) -> None:
        """C{lemmy --version} says which one it is."""
        self.assertEqual((0, f"lemmytx {__version__}\n", ""), lemmy("--version"))

    def test_usage(self) -> None:
        """A wrong command line is exit code 2, with the reason on standard error."""
        for arguments, reason in (
            ((), "COMMAND"),
            (("serve",), "serve"),
            (("check",), "--config"),
            (("run",), "--config"),
            (("token",), "ACTION"),
            (("token", "new", "--name", "x"), "--role"),
            (("token", "new", "--name", "x", "--role", "king"), "king"),
        ):
            code, out, err = lemmy(*arguments)
            self.assertEqual((2, ""), (code, out), arguments)
            self.assertIn(reason, err)

    def test_run_refuses(self) -> None:
        """C{lemmy run} with a wrong file says what is wrong, without Twisted's words around it."""
        path = self.mktemp()
        Path(path).write_text("limits: {haeders: 1}\n")
        self.assertEqual(
            (1, "", f"{path}:1: limits.haeders: no such setting; did you mean 'headers'?\n"),
            lemmy("run", "--config", path),
        )

    def twistd(self, *arguments: str) -> list[str]:
        """The command line that C{lemmy run} gives to twistd."""
        from twisted.scripts import twistd

        given: list[list[str]] = []
        self.patch(twistd, "run", lambda: given.append(sys.argv))
        self.patch(sys, "argv", list(sys.argv))
        self.assertEqual(0, lemmy("run", *arguments)[0])
        (found,) = given
        return found

    def test_run(self) -> None:
        """C{lemmy run} is twistd in the foreground on the project's reactor."""
        file = str(ROOT / "conf" / "minimal.yaml")
        self.assertEqual(
            ["twistd", "--nodaemon", "--reactor=lemmy", "--pidfile=", "lemmy", "--config", file],
            self.twistd("--config", file),
        )

    def test_run_options(self) -> None:
        """What follows a double dash goes to twistd, before its subcommand; another reactor replaces ours."""
        file = str(ROOT / "conf" / "minimal.yaml")
        for reactor in ("--reactor=poll", "-rpoll"):
            self.assertEqual(
                ["twistd", "--nodaemon", "--pidfile=", reactor, "--logfile", "x.log", "lemmy", "--config", file],
                self.twistd("--config", file, "--", reactor, "--logfile", "x.log"),
            )

    def test_demo(self) -> None:
        """C{lemmy demo} runs the demo and ends with its exit code."""
        demo = ModuleType("lemmytx.demo")
        real = sys.modules.get("lemmytx.demo")
        self.addCleanup(lambda: sys.modules.update({"lemmytx.demo": real}) if real else sys.modules.pop("lemmytx.demo"))
        sys.modules["lemmytx.demo"] = demo
        for code in (0, 3):
            demo.__dict__["main"] = lambda code=code: code
            self.assertEqual((code, "", ""), lemmy("demo"))

    def test_no_reactor(self) -> None:
        """Importing the commands installs no reactor: that is twistd's to choose."""
        code = "import sys, lemmytx.cli; sys.exit('twisted.internet.reactor' in sys.modules)"
        self.assertEqual(0, subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode)

    def test_summary(self) -> None:
        """An empty configuration is summed up too."""
        self.assertEqual("0 listeners, 0 vhosts, 0 clusters, 0 backends", cli.summary(Configuration()))

    def test_broken_pipe(self) -> None:
        """A reader that has seen enough makes no noise."""
        read_end, write_end = os.pipe()
        os.close(read_end)
        with os.fdopen(write_end, "wb") as closed:
            done = subprocess.run(
                [sys.executable, "-m", "lemmytx.cli", "schema"],
                cwd=ROOT, check=False, timeout=60, stdout=closed, stderr=subprocess.PIPE,
            )  # fmt: skip
        self.assertEqual((0, b""), (done.returncode, done.stderr))


class TokenTests(SynchronousTestCase):
    """C{lemmy token new} and what checks its tokens."""

    def test_json(self) -> None:
        """For scripts: token and hash as JSON, and nothing else."""
        code, out, err = lemmy("token", "new", "--name", "ops", "--role", "admin", "--json")
        self.assertEqual((0, ""), (code, err))
        found = json.loads(out)
        self.assertEqual({"token", "hash"}, set(found))
        self.assertTrue(verify_token(found["token"], found["hash"]))

    def test_text(self) -> None:
        """For people: the token once, and a line that fits into the configuration as it is."""
        code, out, _ = lemmy("token", "new", "--name", "ops", "--role", "operate")
        self.assertEqual(0, code)
        (entry,) = [line for line in out.split("\n") if line.strip().startswith("- {")]
        token = next(line.strip() for line in out.split("\n") if line.strip().startswith("lmy_"))
        (known,) = config.read(f"admin:\n  tokens:\n{entry}\n".encode(), "x").admin.tokens
        self.assertEqual(("ops", "operate", hash_token(token)), (known.name, known.role, known.hash))

    def test_verify(self) -> None:
        """A hash belongs to its token and to no other text."""
        token = new_token()
        hashed = hash_token(token)
        self.assertRegex(token, r"\Almy_[A-Za-z0-9_-]{43}\Z")
        self.assertRegex(hashed, r"\Asha256:[0-9a-f]{64}\Z")
        self.assertTrue(verify_token(token, hashed))
        for other in ("", token[:-1], token + "x", new_token(), hashed, "é\udc80"):
            self.assertFalse(verify_token(other, hashed), other)
        for wrong in ("", "sha256:", "é", token):
            self.assertFalse(verify_token(token, wrong), wrong)

    def test_known_value(self) -> None:
        """The hash is plain SHA-256, so that other programs can make it."""
        self.assertEqual("sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", hash_token("abc"))

    def test_tokens_differ(self) -> None:
        """No two tokens are the same."""
        self.assertEqual(50, len({new_token() for _ in range(50)}))
