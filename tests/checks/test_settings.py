"""From the file to the check: what is inherited, what is built, what is refused."""

from __future__ import annotations

import os
import tempfile
from textwrap import dedent
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from lemmytx import checking, config
from lemmytx.assemble import CannotStart, Plan
from lemmytx.checks.http import HttpCheck
from lemmytx.checks.tcp import TcpCheck
from lemmytx.cluster.backend import Backend
from lemmytx.config import ConfigurationError
from lemmytx.finding import PluginError
from lemmytx.model import Configuration
from lemmytx.net.network import Network
from lemmytx.plugin import HealthCheck, build_check, find_checks
from lemmytx.testing import checked
from tests.certificates import Authority


def read(text: str) -> Configuration:
    """A configuration out of a file's text."""
    return config.read(dedent(text).encode(), "/etc/lemmy/x.yaml")


def built(text: str) -> dict[str, Backend]:
    """The backends that are made of a file, by name, of all of its clusters."""
    plan = Plan(read(text), (), Network(Clock()))
    return {backend.name: backend for cluster in plan.clusters.values() for backend in cluster.backends}


class SettingsTests(SynchronousTestCase):
    """Settings of checks."""

    def test_defaults(self) -> None:
        """A check with nothing but its type has the usual settings, and options that are not written are usual too."""
        backend = built("clusters: {c: {health_check: {type: tcp}, backends: ['http://10.0.0.1']}}")["10.0.0.1:80"]
        checkup = backend.checkup
        assert checkup is not None
        self.assertIsInstance(checkup.check, TcpCheck)
        self.assertEqual(
            (2.0, 2.0, 0.1, 1.0, 2, 3, True, "paranoid", 10.0, None, None),
            (checkup.interval, checkup.fast_interval, checkup.jitter, checkup.timeout, checkup.rise, checkup.fall,
             checkup.up, checkup.mode, checkup.idle, checkup.port, checkup.tls),
        )  # fmt: skip
        backend.addresses = ("10.0.0.1",)
        self.assertEqual("up", backend.health)

    def test_written(self) -> None:
        """Everything that is written arrives."""
        backend = built("""\
        clusters:
          c:
            backends: [http://10.0.0.1]
            panic_threshold: 40%
            health_check:
              {type: http, path: /x, interval: 500ms, fast_interval: 0.1, jitter: 0%, timeout: 3, rise: 4, fall: 5,
               initial: down, mode: opportunistic, idle: 1m, port: 9000}
        """)["10.0.0.1:80"]
        checkup = backend.checkup
        assert checkup is not None
        self.assertIsInstance(checkup.check, HttpCheck)
        self.assertEqual(
            (0.5, 0.1, 0.0, 3.0, 4, 5, False, "opportunistic", 60.0, 9000),
            (checkup.interval, checkup.fast_interval, checkup.jitter, checkup.timeout, checkup.rise, checkup.fall,
             checkup.up, checkup.mode, checkup.idle, checkup.port),
        )  # fmt: skip
        assert backend.checked is not None
        self.assertEqual("down", backend.checked.state)

    def test_inherited(self) -> None:
        """A backend's own settings stand in the place of the cluster's, the rest is the cluster's; options too, unless
        it has another type."""
        found = built("""\
        clusters:
          c:
            health_check: {type: http, path: /shared, interval: 7, fall: 4}
            backends:
              - {url: http://10.0.0.1, name: as-all}
              - {url: http://10.0.0.2, name: slower, health_check: {interval: 9}}
              - {url: http://10.0.0.3, name: other, health_check: {type: tcp, send: x}}
          d:
            backends:
              - {url: http://10.0.0.1, name: alone, health_check: {type: tcp}}
              - {url: http://10.0.0.2, name: none}
        """)
        seen = {name: backend.checkup for name, backend in found.items()}
        self.assertIsNone(seen.pop("none"))
        self.assertEqual(
            {"as-all": (7.0, 4, HttpCheck), "slower": (9.0, 4, HttpCheck), "other": (7.0, 4, TcpCheck),
             "alone": (2.0, 3, TcpCheck)},
            {name: (each.interval, each.fall, type(each.check)) for name, each in seen.items() if each is not None},
        )  # fmt: skip
        slower = seen["slower"]
        assert slower is not None
        self.assertIn(b"GET /shared ", checked(slower.check, b"").sent)

    def test_shared(self) -> None:
        """Backends with the same settings have one check between them, and keep it in a reload that changes nothing."""
        text = "clusters: {c: {health_check: {type: tcp}, backends: ['http://10.0.0.1', 'http://10.0.0.2']}}"
        one, two = built(text).values()
        self.assertIs(one.checkup, two.checkup)

    def test_tls(self) -> None:
        """TLS is the cluster's, or the check's own, or none."""
        with tempfile.TemporaryDirectory() as folder:
            ca = Authority().write(folder)
            found = built(f"""\
            clusters:
              c:
                tls: {{ca: {ca}}}
                health_check: {{type: http}}
                backends:
                  - {{url: https://10.0.0.1, name: shared}}
                  - {{url: https://10.0.0.2, name: own, health_check: {{tls: {{verify: false}}}}}}
                  - {{url: https://10.0.0.3, name: none, health_check: {{tls: false, port: 81}}}}
                  - {{url: http://10.0.0.4, name: plain}}
            """)
        tls = {name: backend.checkup.tls for name, backend in found.items() if backend.checkup is not None}
        self.assertIs(found["shared"].way.tls, tls["shared"])
        self.assertIsNotNone(tls["own"])
        self.assertIsNot(found["own"].way.tls, tls["own"])
        self.assertEqual((None, None), (tls["none"], tls["plain"]))

    def test_files(self) -> None:
        """The files of a check's own TLS start at the folder of the configuration, in clusters and backends."""
        found = read("""\
        clusters:
          c:
            health_check: {type: http, tls: {ca: ca.pem}}
            backends: [{url: https://a.example, health_check: {tls: {ca: sub/own.pem}}}]
        """).clusters["c"]
        assert found.health_check is not None and found.health_check.tls is not None
        own = found.backends[0].health_check
        assert own is not None and own.tls is not None
        self.assertEqual(("/etc/lemmy/ca.pem", "/etc/lemmy/sub/own.pem"), (found.health_check.tls.ca, own.tls.ca))

    def test_environment(self) -> None:
        """Options take what comes from the environment as it looks."""
        os.environ["LEMMYTX_STATUS"] = "204"
        self.addCleanup(os.environ.pop, "LEMMYTX_STATUS")
        found = read("""\
        clusters: {c: {health_check: {type: http, expect: "${LEMMYTX_STATUS}"}, backends: []}}
        """).clusters["c"]
        assert found.health_check is not None
        self.assertEqual({"expect": 204}, found.health_check.options)


class RefusalTests(SynchronousTestCase):
    """What C{lemmy check} says, and a start."""

    def problems(self, text: str) -> list[str]:
        """The lines, without the file's name."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(dedent(text))
            try:
                checking.load(path)
            except ConfigurationError as error:
                return [line.removeprefix(f"{path}:") for line in str(error).splitlines()]
        return []

    def test_lines(self) -> None:
        """Each thing that is wrong is on a line of its own, once, where it stands in the file."""
        self.assertEqual(
            [
                "4: clusters.a.backends[1].health_check: 'intervall': no such option of health check 'http'; did you"
                " mean 'interval'?",
                "6: clusters.a.health_check: the health check 'http' is for http, https, h2, h2c backends, not for"
                " fcgi",
                "9: clusters.b.health_check: no health check 'htp'; did you mean 'http'?",
                "12: clusters.c.health_check.interval: found 0; write from 0.05 to 31536000 seconds",
                "15: clusters.d.health_check: command: there is no program 'nonsuch' that can be run",
                "16: clusters.d.panic_threshold: found 50; write a percentage, as in 50%",
                "19: clusters.e.health_check: command: must be given",
                "21: clusters.f.backends[0].health_check.type: is missing: what is done: 'http', 'tcp', 'fastcgi',"
                " 'grpc', 'command', or the name of a plugin",
                "24: clusters.g.health_check: expect: found 20; write a status, as in 200, or a range, as in 200-299",
            ],
            self.problems("""\
            clusters:
              a:
                backends: ["http://127.0.0.1:9",
                           {url: "http://127.0.0.1:10", health_check: {path: /other, intervall: 3}}, "fcgi://127.0.0.1"]
                fastcgi: {root: /srv}
                health_check: {type: http, path: /health, expect: {json: {Result: true}}}
              b:
                backends: [http://127.0.0.1:9]
                health_check: {type: htp}
              c:
                backends: [http://127.0.0.1:9, {url: "http://127.0.0.1:8", health_check: {rise: 3}}]
                health_check: {type: tcp, interval: 0}
              d:
                backends: [http://127.0.0.1:9]
                health_check: {type: command, command: [nonsuch]}
                panic_threshold: 50
              e:
                backends: [http://127.0.0.1:9]
                health_check: {type: command}
              f:
                backends: [{url: http://127.0.0.1:9, health_check: {port: 3}}]
              g:
                backends: [http://127.0.0.1:9]
                health_check: {type: http, expect: [20], path: /}
            """),
        )

    def test_good(self) -> None:
        """What is right is let through."""
        self.assertEqual(
            [],
            self.problems("""\
            clusters:
              a: {health_check: {type: grpc}, backends: ["h2c://127.0.0.1:9"]}
              b: {health_check: {type: fastcgi}, fastcgi: {root: /srv}, backends: ["fcgi://127.0.0.1:9"]}
              c: {health_check: {type: command, command: ["true"]}, backends: []}
              d: {health_check: null, backends: [{url: "http://a.example", health_check: null}]}
            defaults: {health_check: {type: tcp}, panic_threshold: 10%}
            """),
        )

    def test_start(self) -> None:
        """What slips past the check of the file refuses the start all the same."""
        for text, said in (
            ("{type: nonsuch}", "no health check 'nonsuch'"),
            ("{type: grpc}", "backend '10.0.0.1:80': the health check 'grpc' is for h2, h2c backends, not for http"),
            ("{type: http, path: x}", "path: found 'x'"),
        ):
            configuration = read(f"clusters: {{c: {{health_check: {text}, backends: ['http://10.0.0.1']}}}}")
            error = self.assertRaises(CannotStart, Plan, configuration, (), Network(Clock()))
            self.assertTrue(str(error).startswith(said), error)


class PluginTests(SynchronousTestCase):
    """L{HealthCheck} as a plugin."""

    def test_own(self) -> None:
        """Those of lemmytx are found like anyone else's."""
        self.assertLessEqual({"http", "tcp", "fastcgi", "grpc", "command"}, set(find_checks()))

    def test_reserved(self) -> None:
        """An option cannot have the name of a setting that every check has."""

        class Takes:
            def __init__(self, interval: float = 1.0) -> None:
                """Nothing."""

        error = self.assertRaises(TypeError, HealthCheck, "takes", Takes)
        self.assertIn("every health check has it", str(error))

    def test_noCheck(self) -> None:
        """What is built has to be a health check."""

        class Empty:
            """Nothing."""

        plugin: Any = HealthCheck("empty", Empty)
        self.assertRaises(PluginError, build_check, {"empty": plugin}, "empty", {})

    def test_tried(self) -> None:
        """L{checked} says what comes of a check, and what keeps it from being one."""
        outcome = checked(HttpCheck("/x"), b"HTTP/1.1 200 OK\r\nContent-", b"Length: 0\r\n\r\n")
        self.assertEqual((True, "it answered 200"), (outcome.passed, outcome.reason))
        self.assertEqual("<Outcome failed: it closed the connection before it answered>", repr(checked(HttpCheck())))
        self.assertTrue(checked(TcpCheck("a"), protocol="https").passed)
        self.assertRaises(AssertionError, checked, object())
