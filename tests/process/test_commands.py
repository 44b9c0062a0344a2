"""
What the documents tell a new user to type.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from glob import glob
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.certificates import Authority
from tests.process.rig import Lemmy, Nginx, Process, answers, ask, configuration, folder, program, read, script, unix
from tests.wire.rig import START

ROOT = Path(__file__).resolve().parent.parent.parent


def lemmy(*arguments: str, where: str | Path = ROOT) -> subprocess.CompletedProcess[str]:
    """One of the commands that end by themselves."""
    return subprocess.run(
        [script("lemmy"), *arguments],
        cwd=where,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START,
        check=False,
    )


class DemoTests(SynchronousTestCase):
    """C{lemmy demo}"""

    def test_curl(self) -> None:
        """Each of the three lines that it prints, typed as they are, does what stands beside it; Ctrl-C ends it."""
        for port in (8080, 8081):
            if answers(port):
                raise SkipTest(f"port {port} is taken, and the demo's ports are fixed")
        demo = Process(self, [script("lemmy"), "demo"], folder(self), {"PYTHONUNBUFFERED": "1"})
        demo.says("Ctrl-C ends it.")
        demo.wait(lambda: answers(8080) and answers(8081), "listening")
        lines = re.findall(r"^ +(curl [^#\n]*)", demo.output(), re.MULTILINE)
        self.assertEqual(3, len(lines))
        names = {self.typed(lines[0]).splitlines()[0] for _ in range(2)}
        self.assertEqual({"Hello from alice.", "Hello from bob."}, names)
        told = self.typed(lines[1])
        self.assertTrue(told.startswith("HTTP/1.1 200 OK\n"), told)
        for text in ("You asked for /hello/you.", "X-Forwarded-For: 127.0.0.1", "X-Request-ID: ", "Via: 1.1 lemmytx"):
            self.assertIn(text, told)
        self.assertEqual(3, json.loads(self.typed(lines[2]))["total_count"])
        demo.says('"GET /hello/you HTTP/1.1" 200 ')
        demo.signal(signal.SIGINT)
        self.assertEqual(0, demo.ended())
        self.assertNotIn("Traceback", demo.output())

    def typed(self, line: str) -> str:
        """What a command prints that is typed into a shell."""
        program("curl")
        done = subprocess.run(
            ["/bin/sh", "-c", line.replace("curl ", "curl -sS ")],
            capture_output=True,
            text=True,
            timeout=START,
            check=False,
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr), line)
        return done.stdout.replace("\r\n", "\n")


class CheckTests(SynchronousTestCase):
    """C{lemmy check}"""

    def test_shipped(self) -> None:
        """Every configuration that comes with the project is right, with a certificate where one is wanted."""
        where = folder(self)
        shutil.copytree(os.path.join(ROOT, "conf"), os.path.join(where, "conf"))
        os.mkdir(os.path.join(where, "conf", "certs"))
        Authority().issue(["shop.example"]).write(os.path.join(where, "conf", "certs"))
        files = sorted(glob(os.path.join(where, "conf", "*.yaml")))
        self.assertIn(os.path.join(where, "conf", "lemmy.yaml"), files)
        for file in files:
            done = lemmy("check", "--config", file)
            # The one that names every setting has an example without a secret.
            said = [] if file.endswith("/lemmy.yaml") else done.stderr.splitlines()
            self.assertEqual((0, []), (done.returncode, said), file)
            self.assertTrue(done.stdout.startswith(f"{file}: OK ("), done.stdout)

    def test_opens_nothing(self) -> None:
        """A check neither listens nor makes files, so that it can be made beside the running proxy."""
        where = folder(self)
        settings = configuration(
            "http://127.0.0.1:9", (f"unix:{where}/door",), access_log={"path": "access"}, admin={"endpoint": "unix:a"}
        )
        Path(where, "lemmy.yaml").write_text(json.dumps(settings), encoding="utf-8")
        self.assertEqual(0, lemmy("check", "--config", "lemmy.yaml", where=where).returncode)
        self.assertEqual(["lemmy.yaml"], os.listdir(where))


class TokenTests(SynchronousTestCase):
    """C{lemmy token new}, and the admin side that knows the token."""

    def test_token(self) -> None:
        """The line that it prints goes into the configuration as it is, and then the token opens C{/stats}."""
        done = lemmy("token", "new", "--name", "ops", "--role", "read")
        self.assertEqual(0, done.returncode)
        found = re.search(r"^ +(lmy_\S+)$", done.stdout, re.MULTILINE)
        entry = re.search(r"^ +- (\{.*\})$", done.stdout, re.MULTILINE)
        assert found is not None and entry is not None, done.stdout
        token = found[1]
        where = folder(self)
        admin = f"{where}/admin"
        settings = configuration(
            "http://127.0.0.1:9", admin={"endpoint": f"unix:{admin}", "tokens": [json.loads(entry[1])]}
        )
        proxy = Lemmy(self, settings, where=where).ready()
        for status, fields in (
            (401, {}),
            (401, {"Authorization": f"Bearer {token}x"}),
            (401, {"Authorization": token}),
            (401, {"X-API-Key": "ops"}),
            (200, {"Authorization": f"Bearer {token}"}),
            (200, {"X-API-Key": token}),
        ):
            self.assertEqual(status, ask(unix(admin), "/stats", "proxy.example", fields)[0], fields)
        for path in ("/health", "/ready"):
            self.assertEqual(200, ask(unix(admin), path, "proxy.example")[0])
        self.assertNotIn(token, proxy.output())
        self.assertNotIn(token, read(f"{where}/lemmy.yaml"))


class OperationsTests(SynchronousTestCase):
    """Commands of docs/operations.md that no other test types."""

    def test_twistd_options(self) -> None:
        """What follows a double dash goes to twistd: a log file and a pid file, for one."""
        nginx = Nginx(self)
        options = ("--", "--logfile", "lemmy.log", "--pidfile", "lemmy.pid")
        proxy = Lemmy(self, configuration(nginx.url), options=options).ready()
        log = os.path.join(proxy.folder, "lemmy.log")
        self.assertIn("serves on 127.0.0.1:", read(log))
        self.assertEqual(str(proxy.process.pid), read(os.path.join(proxy.folder, "lemmy.pid")).strip())
        self.assertEqual("", proxy.output())
        self.assertEqual(0, proxy.stop())

    def test_codec(self) -> None:
        """The line that says which codec is installed says so."""
        text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
        found = re.search(r"^python -c '(.*)'$", text, re.MULTILINE)
        assert found is not None
        for pure, said in (("", "True"), ("1", "False")):
            done = subprocess.run(
                [script("python"), "-c", found[1]],
                env={**os.environ, "LEMMYTX_PURE": pure},
                stdout=subprocess.PIPE,
                text=True,
                timeout=START,
                check=True,
            )
            self.assertEqual(said, done.stdout.strip())

    def test_descriptors(self) -> None:
        """The soft limit of descriptors is raised to the hard one."""
        before = [program("prlimit"), "--nofile=100:5000"]
        proxy = Lemmy(self, configuration("http://127.0.0.1:9"), before=before).ready()
        limits = read(f"/proc/{proxy.process.pid}/limits")
        found = re.search(r"^Max open files +(\d+) +(\d+)", limits, re.MULTILINE)
        assert found is not None
        self.assertEqual(("5000", "5000"), found.groups())
        proxy.says("only 2500 clients can be served")
