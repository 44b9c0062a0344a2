"""C{lemmy}, as a person uses it."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from lemmytx import __version__, checking, cli, config
from lemmytx.admin import terminal
from lemmytx.admin.site import admin_site
from lemmytx.admin.tokens import hash_token, new_token, verify_token
from lemmytx.interfaces import Busy, IInstance, Refused, Unknown
from lemmytx.model import Configuration, Token
from lemmytx.table import State, StoreUnavailable

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
            warning = f"{file}: warning: clusters.web.sticky: has no 'secret', " if name == "lemmy" else ""
            code, out, err = lemmy("check", "--config", file)
            self.assertEqual((0, f"{file}: OK ({summary})\n", warning), (code, out, err[: len(warning or err)]))

    def test_warnings(self) -> None:
        """What is right and seldom meant is told beside the outcome, which stays OK."""
        file = self.file("""\
listeners: [{endpoint: "tcp:8080"}]
vhosts:
  - {hosts: [a.example], routes: [{path: "/api/*", cluster: api}, {path: "/b/*", cluster: b}, {cluster: web}]}
  - {hosts: [b.example], cluster: other}
clusters:
  web: {backends: [], sticky: {cookie: a}}
  api: {backends: [], sticky: {cookie: a, secret: 0123456789abcdef}}
  b: {backends: [], sticky: {cookie: a, path: /b, secrets: [0123456789abcdef]}}
  other: {backends: [], sticky: {header: X-Bound, secret: 0123456789abcdef}}
""")
        code, out, err = lemmy("check", "--config", file)
        self.assertEqual((0, f"{file}: OK (1 listener, 2 vhosts, 4 clusters, 0 backends)\n"), (code, out))
        self.assertEqual(
            [
                f"{file}: warning: clusters.web.sticky: has no 'secret', so clients are bound until this program ends, "
                "and to no other instance's backends",
                f"{file}: warning: clusters.web.sticky: vhost 'a.example' leads to this cluster and to 'api', and both "
                "have the cookie 'a' for '/': each would replace the other's; give them different names",
            ],
            err.splitlines(),
        )

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
            (("reload", "--config", "x", "--admin", "y"), "not allowed with"),
            (("reload", "--timeout", "0"), "found '0'; write a number of seconds"),
            (("upgrade", "--timeout", "soon"), "found 'soon'; write a number of seconds"),
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
        for other in ("--reactor=poll", "-rpoll"):
            self.assertEqual(
                ["twistd", "--nodaemon", "--pidfile=", other, "--logfile", "x.log", "lemmy", "--config", file],
                self.twistd("--config", file, "--", other, "--logfile", "x.log"),
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


@implementer(IInstance)
class Instance:
    """
    What runs, as far as the commands go.

    @ivar outcome: of whatever it is asked for.
    @ivar asked: what that was.
    """

    def __init__(self) -> None:
        self.outcome: Any = None
        self.asked: list[str] = []

    def ready(self) -> str | None:
        """It is."""
        return None

    def snapshot(self) -> Deferred[Any]:
        """Nobody asks."""
        return succeed(None)

    def workers(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def reload(self) -> Deferred[list[str]]:
        """As it was told."""
        return self._ask("reload")

    def upgrade(self) -> Deferred[int]:
        """As it was told."""
        return self._ask("upgrade")

    def explain(self, url: str, method: str, fields: list[tuple[str, str]], client: str) -> Deferred[dict[str, Any]]:
        """As it was told."""
        return self._ask(f"explain {url} {method} {fields} {client}")

    def backend(self, cluster: str, backend: str) -> Deferred[Any]:
        """Nobody asks."""
        return succeed(None)

    def want(self, cluster: str, backend: str, state: str, why: str, by: str) -> Deferred[Any]:
        """As it was told."""
        return self._ask(f"{cluster}/{backend}: {state} {why!r}")

    def store(self) -> dict[str, Any]:
        """See L{IInstance}."""
        return {}

    def strays(self) -> dict[tuple[str, str], State]:
        """None."""
        return {}

    def _ask(self, what: str) -> Deferred[Any]:
        self.asked.append(what)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return succeed(self.outcome)


class AskingTests(TestCase):
    """C{lemmy reload} and C{lemmy upgrade}, and an admin side on real sockets."""

    def setUp(self) -> None:
        self.instance = Instance()
        self.site = admin_site(self.instance, (), reactor)
        self.port = self.listen(self.site)
        self.url = f"http://127.0.0.1:{self.port}"
        self.patch(os, "environ", {name: value for name, value in os.environ.items() if name != terminal.TOKEN})

    def listen(self, factory: Factory) -> int:
        """The number of a port of our own."""
        port: IListeningPort = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port

    def file(self, text: str) -> str:
        """A file with this text."""
        path = self.mktemp()
        Path(path).write_text(text)
        return path

    def test_reload(self) -> Deferred[None]:
        """What changed is printed, a line each; and that nothing did."""

        async def run() -> None:
            for changed, text in ((["vhost a: added", "workers: 1 → 2"], "vhost a: added\nworkers: 1 → 2\n"),
                                  ([], "nothing changed\n")):  # fmt: skip
                self.instance.outcome = changed
                self.assertEqual((0, text, ""), await deferToThread(lemmy, "reload", "--admin", self.url))
            self.assertEqual(["reload", "reload"], self.instance.asked)

        return ensureDeferred(run())

    def test_explain(self) -> Deferred[None]:
        """What would become of a request is told in text or as JSON; that there can be no such request, as an error."""
        told = {
            "request": {"method": "PUT", "host": "a", "target": "/ü", "path": "/ü", "client": "::1"},
            "vhost": None, "route": None, "routing": ["no vhost names the host 'a'"], "clusters": [],
            "outcome": {"kind": "reply", "backend": None, "status": 404, "why": "there is no route for it"},
        }  # fmt: skip
        command = ("explain", "--admin", self.url)

        async def run() -> None:
            self.instance.outcome = told
            options = (
                "--method",
                "PUT",
                "-H",
                "A: b&c=d",
                "--header",
                "X:y",
                "--client",
                "::1",
                "http://a/ü?b=1&c=%20",
            )
            text = "PUT /ü of a, from ::1\n  no vhost names the host 'a'\n→ we answer 404: there is no route for it\n"
            self.assertEqual((0, text, ""), await deferToThread(lemmy, *command, *options))
            asked = "explain http://a/ü?b=1&c=%20 PUT [('A', 'b&c=d'), ('X', 'y')] ::1"
            self.assertEqual([asked], self.instance.asked)
            code, out, _ = await deferToThread(lemmy, *command, "--json", "http://a/")
            self.assertEqual((0, told), (code, json.loads(out)))
            self.instance.outcome = Refused("url: that is none")
            error = f"{self.url}: url: that is none\n"
            self.assertEqual((1, "", error), await deferToThread(lemmy, *command, "http://"))

        return ensureDeferred(run())

    def test_upgrade(self) -> Deferred[None]:
        """The successor's pid is printed."""

        async def run() -> None:
            self.instance.outcome = 4711
            self.assertEqual(
                (0, "process 4711 serves now; the old one ends what it has\n", ""),
                await deferToThread(lemmy, "upgrade", "--admin", self.url + "/"),
            )
            self.assertEqual(["upgrade"], self.instance.asked)

        return ensureDeferred(run())

    def test_states(self) -> Deferred[None]:
        """A backend is taken out and brought back by its names, whatever characters are in them, with a reason."""

        async def run() -> None:
            for command, state in (("disable", "disabled"), ("drain", "drain"), ("enable", "ready")):
                self.instance.outcome = State(state)
                self.assertEqual(
                    (0, f"backend [::1]:80 of cluster *.shop.example is {state}\n", ""),
                    await deferToThread(
                        lemmy, command, "*.shop.example", "[::1]:80", "--reason", "läuft", "--admin", self.url
                    ),
                )
                self.assertEqual(f"*.shop.example/[::1]:80: {state} 'läuft'", self.instance.asked.pop())
            for outcome, said in (
                (Unknown("there is no cluster 'a'"), "there is no cluster 'a'"),
                (StoreUnavailable("away; nothing has changed"), "the store: away; nothing has changed"),
            ):
                self.instance.outcome = outcome
                self.assertEqual(
                    (1, "", f"{self.url}: {said}\n"),
                    await deferToThread(lemmy, "drain", "a", "b", "--admin", self.url),
                )
            self.assertEqual("a/b: drain ''", self.instance.asked.pop())

        return ensureDeferred(run())

    def test_url_of_a_backend(self) -> Deferred[None]:
        """A backend's URL means the name that it has by that; what can be no name is not asked for."""

        async def run() -> None:
            self.instance.outcome = State("drain")
            self.assertEqual(
                (0, "backend 10.0.0.1:80 of cluster web is drain\n", ""),
                await deferToThread(lemmy, "drain", "web", "http://10.0.0.1", "--admin", self.url),
            )
            self.assertEqual(["web/10.0.0.1:80: drain ''"], self.instance.asked)
            for cluster, backend, said in (
                ("web", "10.0.0.1/", "found '10.0.0.1/'; write the name of the backend, as in the statistics"),
                ("", "a", "found ''; write the name of the cluster, as in the statistics"),
                ("web", "ftp://a", "found 'ftp://a'; the scheme is one of"),
            ):
                code, out, err = await deferToThread(lemmy, "drain", cluster, backend, "--admin", self.url)
                self.assertEqual((1, ""), (code, out))
                self.assertIn(said, err)
            self.assertEqual(1, len(self.instance.asked))

        return ensureDeferred(run())

    def test_refused(self) -> Deferred[None]:
        """Every reason is a line on standard error, and the exit code is 1."""

        async def run() -> None:
            with self.assertRaises(config.ConfigurationError) as caught:
                config.read(b"workers: x\nlisteners: 3\n", "lemmy.yaml")
            for outcome in (
                caught.exception,
                Refused("cannot listen on 'tcp:80': in use", "plugins: gone"),
                Busy("a reload is under way"),
            ):
                self.instance.outcome = outcome
                for command in ("reload", "upgrade"):
                    self.assertEqual((1, "", f"{outcome}\n"), await deferToThread(lemmy, command, "--admin", self.url))

        return ensureDeferred(run())

    def test_configuration(self) -> Deferred[None]:
        """The configuration tells where to ask, even one that is wrong elsewhere: that is for the instance to say."""

        async def run() -> None:
            self.instance.outcome = ["x"]
            for text in (
                f'admin: {{endpoint: "tcp:{self.port}:interface=127.0.0.1"}}\n',
                f'admin: {{endpoint: "tcp:{self.port}"}}\nlisteners: [{{endpoint: "${{NOT_SET}}"}}]\nnonsense: 1\n',
            ):
                self.assertEqual(
                    (0, "x\n", ""), await deferToThread(lemmy, "reload", "--config", self.file(text)), text
                )

        return ensureDeferred(run())

    def test_unix_socket(self) -> Deferred[None]:
        """An admin side on a unix socket is asked there, by its configuration and by a URL."""

        async def run() -> None:
            self.instance.outcome = ["x"]
            folder = os.open(os.path.dirname(os.path.abspath(self.mktemp())), os.O_RDONLY)
            self.addCleanup(os.close, folder)
            path = f"/proc/self/fd/{folder}/ad min%.sock"  # the name of a unix socket has 107 bytes at the most
            self.addCleanup(reactor.listenUNIX(path, self.site).stopListening)
            for options in (
                ("--config", self.file(f'admin: {{endpoint: "unix:{path}"}}\n')),
                ("--admin", "http+unix://" + path.replace("%", "%25").replace(" ", "%20")),
            ):
                self.assertEqual((0, "x\n", ""), await deferToThread(lemmy, "reload", *options), options)

        return ensureDeferred(run())

    def test_token(self) -> Deferred[None]:
        """A token comes from a file or from the environment, the file first; without one it says what to do."""

        async def run() -> None:
            self.instance.outcome = ["x"]
            self.site.access.tokens = (
                Token.model_validate({"name": "a", "hash": hash_token("rechtés"), "role": "operate"}),
            )
            ask = ("reload", "--admin", self.url)
            right, wrong = self.file("rechtés\n"), self.file("wrong\n")
            code, out, err = await deferToThread(lemmy, *ask)
            self.assertEqual((1, "", 1), (code, out, err.count("\n")))
            self.assertIn("--token-file FILE, or the token in $LEMMY_TOKEN", err)
            code, _, err = await deferToThread(lemmy, *ask, "--token-file", wrong)
            self.assertEqual((1, True), (code, "not known" in err))
            self.assertEqual(0, (await deferToThread(lemmy, *ask, "--token-file", right))[0])
            os.environ[terminal.TOKEN] = "rechtés"
            self.assertEqual(0, (await deferToThread(lemmy, *ask))[0])
            self.assertEqual(1, (await deferToThread(lemmy, *ask, "--token-file", wrong))[0])
            code, _, err = await deferToThread(lemmy, "upgrade", "--admin", self.url)
            self.assertEqual((1, True), (code, "has the role 'operate'; this needs 'admin'" in err))
            self.assertEqual(["reload", "reload"], self.instance.asked)

        return ensureDeferred(run())

    def test_no_answer(self) -> Deferred[None]:
        """Where nobody answers it gives up after a bounded time, and says that it is not known what was done."""

        async def run() -> None:
            port = self.listen(Factory.forProtocol(Protocol))
            code, out, err = await deferToThread(
                lemmy, "reload", "--admin", f"http://127.0.0.1:{port}", "--timeout", "0.05"
            )
            self.assertEqual((1, ""), (code, out))
            self.assertIn("no answer within 0.05 seconds; whether it was done", err)

        return ensureDeferred(run())

    def test_not_lemmy(self) -> Deferred[None]:
        """Something else that answers there is not taken for an instance."""

        class Other(Protocol):
            """Says what it was made with."""

            def dataReceived(self, data: bytes) -> None:
                """Twisted: something came."""
                self.transport.write(Other.says)
                self.transport.loseConnection()

        async def run() -> None:
            port = self.listen(Factory.forProtocol(Other))
            for says, text in (
                (
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
                    "is no admin side of lemmytx (status 404)",
                ),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "is no admin side of lemmytx (status 200)"),
                (b"220 mail.example ESMTP\r\n", "the answer broke off"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "is no admin side of lemmytx (status 200)"),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "the answer broke off"),
            ):
                Other.says = says
                code, out, err = await deferToThread(lemmy, "reload", "--admin", f"http://127.0.0.1:{port}")
                self.assertEqual((1, "", 1), (code, out, err.count("\n")), says)
                self.assertIn(text, err)

        return ensureDeferred(run())


class WhereTests(SynchronousTestCase):
    """Where C{lemmy reload} and its like ask: L{lemmytx.admin.terminal}."""

    def file(self, text: str) -> str:
        """A file with this text."""
        path = self.mktemp()
        Path(path).write_text(text)
        return path

    def test_endpoints(self) -> None:
        """An endpoint's description tells how it is reached from this machine, or does not."""
        for description, url in (
            ("tcp:8081:interface=127.0.0.1", "http://127.0.0.1:8081"),
            ("tcp:8081", "http://127.0.0.1:8081"),
            ("tcp:port=8081:interface=0.0.0.0", "http://127.0.0.1:8081"),
            ("tcp:8081:10.0.0.1", "http://10.0.0.1:8081"),
            ("tcp:8081:interface=admin.internal", "http://admin.internal:8081"),
            (r"tcp:8081:interface=\:\:1", "http://[::1]:8081"),
            (r"tcp6:8081:interface=\:\:", "http://[::1]:8081"),
            ("tcp6:8081", "http://[::1]:8081"),
            ("unix:/run/lemmy/admin.sock:mode=660", "http+unix:///run/lemmy/admin.sock"),
            (r"unix:address=/run/a\:b %?#.sock", "http+unix:///run/a:b %25%3F%23.sock"),
            ("tcp:0", None),
            ("tcp:http", None),
            ("systemd:domain=INET6:index=1", None),
            ("haproxy:tcp:8081", None),
            ("unix:", None),
            ("", None),
        ):
            self.assertEqual(url, terminal.url_of_endpoint(description), description)

    def test_default(self) -> None:
        """A configuration that says nothing of the admin side has it where the model says."""
        for text in ("listeners: []\n", "admin:\n", "admin: {tokens: []}\n", "admin: 3\n"):
            self.assertEqual(terminal.DEFAULT, terminal.url_of(self.file(text)), text)
        self.assertEqual(terminal.DEFAULT, terminal.url_of_endpoint(Configuration().admin.endpoint))

    def test_references(self) -> None:
        """What the file takes from the environment is taken from there here, too."""
        file = self.file('admin: {endpoint: "tcp:${PORT}"}\n')
        self.assertEqual("http://127.0.0.1:99", terminal.url_of(file, {"PORT": "99"}))
        with self.assertRaises(terminal.CannotAsk) as caught:
            terminal.url_of(file, {})
        first, second = caught.exception.reasons
        self.assertTrue(first.startswith(f"{file}:1: admin.endpoint: PORT is not in the environment"), first)
        self.assertIn("--admin", second)

    def test_files(self) -> None:
        """A file that does not tell is a plain line: missing, no YAML, or an endpoint that could be anywhere."""
        for path, reason in (
            ("nowhere.yaml", "nowhere.yaml: cannot be read: No such file or directory"),
            (self.file("a: [\n"), "not YAML"),
            (self.file('admin: {endpoint: "systemd:domain=INET:index=0"}\n'), "does not tell where that is"),
            (self.file("\0"), "not YAML"),
        ):
            code, out, err = lemmy("reload", "--config", path)
            self.assertEqual((1, "", 1), (code, out, err.count("\n")), err)
            self.assertIn(reason, err)

    def test_nothing_there(self) -> None:
        """When nothing listens it says so."""
        with socket.socket() as bound:
            # Bound and not listening: nobody else gets the port meanwhile.
            bound.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            for where in (url, "http+unix:///nowhere/at/all.sock"):
                code, out, err = lemmy("upgrade", "--admin", where)
                self.assertEqual((1, ""), (code, out))
                self.assertTrue(err.startswith(f"{where}: nothing listens there"), err)

    def test_urls(self) -> None:
        """What is no URL of an admin side is a plain line."""
        for url in (
            "", "127.0.0.1:8081", "ftp://localhost", "http://", "http://localhost:x", "http://localhost:99999",
            "http+unix://", "http+unix://run/x.sock", "http://localhost/?x", "http://a b/", "http+unix:///" + "x" * 200,
        ):  # fmt: skip
            code, out, err = lemmy("reload", "--admin", url)
            self.assertEqual((1, "", 1), (code, out, err.count("\n")), (url, err))
            self.assertIn(url, err)

    def test_token_files(self) -> None:
        """A file without a token in it is a plain line, which never shows what is in it."""
        Path(binary := self.mktemp()).write_bytes(b"\xff\xfe")
        for path, reason in (
            ("nowhere.token", "No such file"),
            (self.file(" \n"), "is empty"),
            (self.file("geheim geheim\n"), "that is no token"),
            (binary, "is not text"),
        ):
            code, _, err = lemmy("reload", "--token-file", path)
            self.assertEqual((1, 1), (code, err.count("\n")), err)
            self.assertIn(reason, err)
            self.assertNotIn("geheim", err)

    def test_no_twisted(self) -> None:
        """It does without Twisted, and so is there at once."""
        code = "import sys, lemmytx.cli; sys.exit('twisted' in sys.modules)"
        self.assertEqual(0, subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode)
