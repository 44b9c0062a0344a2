"""Health checks of a running proxy: backends that end, come back, hang, and what of that a client sees."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.process.rig import Lemmy, Nginx, Process, answers, configuration, folder
from tests.wire.rig import free_port

#: Answers /health as the file C{health} beside it says; nothing at all where that says C{hang}.
BACKEND = textwrap.dedent("""
    import http.server, os, socketserver, sys, time

    class Serves(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, body = 200, sys.argv[2].encode()
            if self.path == "/health":
                with open(sys.argv[3]) as file:
                    said = file.read()
                if said == "hang":
                    time.sleep(30)
                status, body = int(said), b"health"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    Server(("127.0.0.1", int(sys.argv[1])), Serves).serve_forever()
""")


class Origin(Process):
    """A backend that can be ended and started again, on the same port."""

    def __init__(self, case: SynchronousTestCase, name: str) -> None:
        where = folder(case)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._case, self._said = case, os.path.join(where, "health")
        self._command = [sys.executable, "-c", BACKEND, str(self.port), name, self._said]
        self.says_health("200")
        super().__init__(case, self._command, where)
        self.wait(lambda: answers(self.port), "listening")

    def says_health(self, said: str) -> None:
        """What /health answers from now on."""
        temporary = self._said + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(said)
        os.replace(temporary, self._said)

    def start(self) -> None:
        """Again, after L{kill}."""
        super().__init__(self._case, self._command, self.folder)
        self.wait(lambda: answers(self.port), "listening")


CHECK = {"type": "http", "path": "/health", "interval": 0.1, "timeout": 0.5, "rise": 2, "fall": 3}


class HealthCase(SynchronousTestCase):
    """A proxy with two backends, C{one} and C{two}, that are checked ten times a second."""

    def setUp(self) -> None:
        self.one, self.two = Origin(self, "one"), Origin(self, "two")

    def settings(self, **cluster: Any) -> dict[str, Any]:
        """The configuration, with more settings of the cluster."""
        rules = {"health_check": CHECK, "scheduler": "round_robin", **cluster}
        backends = [{"url": self.one.url, "name": "one"}, {"url": self.two.url, "name": "two"}]
        return configuration(backends, cluster=rules)

    def health(self, lemmy: Lemmy, name: str) -> str:
        """How a backend is."""
        found: str = lemmy.stats()["clusters"]["c"]["backends"][name]["health"]
        return found

    def becomes(self, lemmy: Lemmy, name: str, health: str) -> None:
        """Waits until it is so."""
        lemmy.wait(lambda: self.health(lemmy, name) == health, f"{name} {health}")

    def names(self, lemmy: Lemmy, count: int = 6) -> set[str]:
        """Which backends answer, all of them well."""
        found = set()
        for _ in range(count):
            status, body = lemmy.get()
            self.assertEqual(200, status, body)
            found.add(body)
        return found


class LossTests(HealthCase):
    """Backends that come and go."""

    def test_killed(self) -> None:
        """A backend that is killed is out after so many checks, without one failed request, and comes back when it is
        back."""
        lemmy = Lemmy(self, self.settings()).ready()
        self.assertEqual({"one", "two"}, self.names(lemmy))
        self.one.kill()
        asked = 0
        while self.health(lemmy, "one") != "down":
            status, body = lemmy.get()
            asked += 1
            self.assertEqual((200, "two"), (status, body))
            self.assertLess(asked, 10_000, "it never goes down")
        self.assertEqual({"two"}, self.names(lemmy))
        self.assertEqual(1, lemmy.count("cluster c: backend one is down: no connection"))
        backend = lemmy.stats()["clusters"]["c"]["backends"]["one"]
        self.assertIn("refused", backend["health_reason"])
        self.assertEqual(1, backend["checks"]["down"])
        self.assertGreaterEqual(backend["checks"]["failed"], 3)
        self.one.start()
        self.becomes(lemmy, "one", "up")
        self.assertEqual({"one", "two"}, self.names(lemmy))
        self.assertEqual(1, lemmy.count("cluster c: backend one is up: it answered 200"))
        self.assertNotIn("Traceback", lemmy.output())

    def test_saysSo(self) -> None:
        """A backend that says that it is not well gets nothing more, though it would answer."""
        lemmy = Lemmy(self, self.settings()).ready()
        self.one.says_health("503")
        self.becomes(lemmy, "one", "down")
        self.assertEqual({"two"}, self.names(lemmy))
        self.one.says_health("200")
        self.becomes(lemmy, "one", "up")

    def test_hangs(self) -> None:
        """One that hangs, or is stopped as a whole, is out; the other one is checked as before."""
        lemmy = Lemmy(self, self.settings()).ready()
        self.one.signal(signal.SIGSTOP)
        self.addCleanup(self.one.signal, signal.SIGCONT)
        self.becomes(lemmy, "one", "down")
        self.assertEqual({"two"}, self.names(lemmy))
        before = lemmy.stats()["clusters"]["c"]["backends"]["two"]["checks"]["passed"]
        lemmy.wait(
            lambda: lemmy.stats()["clusters"]["c"]["backends"]["two"]["checks"]["passed"] > before + 3, "more checks"
        )

    def test_allDown(self) -> None:
        """With all of them down there is 503 where nobody is to wait, and the moment one is back it is used."""
        lemmy = Lemmy(self, self.settings(queue={"on_unavailable": False})).ready()
        self.one.says_health("500")
        self.two.says_health("500")
        self.becomes(lemmy, "one", "down")
        self.becomes(lemmy, "two", "down")
        self.assertEqual(503, lemmy.get()[0])
        self.two.says_health("200")
        lemmy.wait(lambda: lemmy.get()[0] == 200, "an answer")
        self.assertEqual({"two"}, self.names(lemmy))

    def test_waits(self) -> None:
        """A request that comes while all are down waits, and goes to the first that is up again."""
        lemmy = Lemmy(self, self.settings()).ready()
        self.one.says_health("500")
        self.two.says_health("500")
        self.becomes(lemmy, "one", "down")
        self.becomes(lemmy, "two", "down")
        self.two.says_health("200")
        self.assertEqual((200, "two"), lemmy.get())

    def test_panic(self) -> None:
        """Below the panic threshold health is ignored, which the log and the statistics say."""
        lemmy = Lemmy(self, self.settings(panic_threshold="60%")).ready()
        self.one.says_health("500")
        self.becomes(lemmy, "one", "down")
        lemmy.says("health is ignored until more are")
        self.assertIs(True, lemmy.stats()["clusters"]["c"]["panicking"])
        self.assertEqual({"one", "two"}, self.names(lemmy))

    def test_startsDown(self) -> None:
        """With C{initial: down} a backend gets nothing before a check has passed."""
        self.one.says_health("500")
        check = {**CHECK, "initial": "down"}
        lemmy = Lemmy(self, self.settings(health_check=check)).ready()
        self.becomes(lemmy, "two", "up")
        self.assertEqual({"two"}, self.names(lemmy))
        self.assertEqual("down", self.health(lemmy, "one"))

    def test_lazy(self) -> None:
        """A lazy check begins with a request that fails, and ends when the backend is up."""
        check = {**CHECK, "mode": "lazy"}
        lemmy = Lemmy(self, self.settings(health_check=check)).ready()
        self.assertEqual({"passed": 0, "failed": 0}, lemmy.stats()["clusters"]["c"]["backends"]["one"]["checks"])
        self.one.kill()
        self.assertEqual({"two"}, self.names(lemmy))
        self.assertEqual("down", self.health(lemmy, "one"))
        self.one.start()
        self.becomes(lemmy, "one", "up")
        passed = lemmy.stats()["clusters"]["c"]["backends"]["one"]["checks"]["passed"]
        self.assertEqual(2, passed)
        self.assertEqual({"one", "two"}, self.names(lemmy))


class ChangeTests(HealthCase):
    """Other configurations."""

    def test_reload(self) -> None:
        """What is known of a backend survives a reload, with other settings of the check too."""
        lemmy = Lemmy(self, self.settings()).ready()
        self.one.says_health("500")
        self.becomes(lemmy, "one", "down")
        lemmy.reload(self.settings(health_check={**CHECK, "interval": 60, "fast_interval": 0.1}, max_fails=7))
        self.assertEqual("down", self.health(lemmy, "one"))
        self.assertEqual({"two"}, self.names(lemmy))
        self.assertEqual(1, lemmy.count("backend one is down"))

    def test_ends(self) -> None:
        """Without the check in the configuration its outcome means nothing, and nobody asks any more."""
        lemmy = Lemmy(self, self.settings()).ready()
        self.one.says_health("500")
        self.becomes(lemmy, "one", "down")
        without = self.settings()
        del without["clusters"]["c"]["health_check"]
        lemmy.reload(without)
        self.assertEqual("up", self.health(lemmy, "one"))
        self.assertEqual({"one", "two"}, self.names(lemmy))

    def test_begins(self) -> None:
        """A check that comes with a reload is at work from then on; the backends stay up until it says otherwise."""
        without = self.settings()
        del without["clusters"]["c"]["health_check"]
        lemmy = Lemmy(self, without).ready()
        self.one.says_health("500")
        lemmy.reload(self.settings())
        self.becomes(lemmy, "one", "down")
        self.assertEqual({"two"}, self.names(lemmy))

    def test_ownSettings(self) -> None:
        """A backend's own settings hold for it, and the rest is as in the cluster."""
        settings = self.settings(health_check={**CHECK, "path": "/"})
        settings["clusters"]["c"]["backends"][0]["health_check"] = {"path": "/health", "fall": 1}
        lemmy = Lemmy(self, settings).ready()
        self.one.says_health("500")
        self.two.says_health("500")
        self.becomes(lemmy, "one", "down")
        self.assertNotIn("going_down", lemmy.stats()["clusters"]["c"]["backends"]["one"]["checks"])
        self.assertEqual("up", self.health(lemmy, "two"))

    def test_workers(self) -> None:
        """Each worker checks by itself, and the statistics have the worst of them and all their counts."""
        lemmy = Lemmy(self, {**self.settings(), "workers": 2}).ready()
        lemmy.manned(2)
        self.one.says_health("500")

        def both() -> bool:
            backend = lemmy.stats()["clusters"]["c"]["backends"]["one"]
            return bool(backend.get("healths") == {"down": 2})

        lemmy.wait(both, "both see it")
        self.assertEqual(2, lemmy.count("cluster c: backend one is down: it answered 500"))
        self.assertEqual(2, lemmy.stats()["clusters"]["c"]["backends"]["one"]["checks"]["down"])

    def test_workersTellEachOther(self) -> None:
        """What one worker has found out, another one looks at at once: also one that no request has failed for."""
        check = {**CHECK, "mode": "lazy", "interval": 60, "fast_interval": 0.05}
        settings = self.settings(health_check=check, retry={"attempts": 1})
        lemmy = Lemmy(self, {**settings, "workers": 2}).ready()
        lemmy.manned(2)
        self.one.kill()
        asked = 0
        while lemmy.get()[0] == 200:
            asked += 1
            self.assertLess(asked, 20)
        lemmy.wait(lambda: lemmy.count("cluster c: backend one is down: ") == 2, "both see it")
        self.assertEqual({"refused": 1}, lemmy.stats()["clusters"]["c"]["backends"]["one"]["failures"])

    def test_realServer(self) -> None:
        """A real nginx is well on TCP and on a unix socket, and is not when it is gone."""
        nginx = Nginx(self)
        backends = [
            {"url": nginx.url, "name": "http"},
            {"url": f"http+unix://{nginx.socket}", "name": "unix"},
        ]
        check = {**CHECK, "path": "/", "expect": {"status": 200, "body": "^nginx "}, "initial": "down"}
        lemmy = Lemmy(self, configuration(backends, cluster={"health_check": check})).ready()
        self.becomes(lemmy, "http", "up")
        self.becomes(lemmy, "unix", "up")
        nginx.kill()
        self.becomes(lemmy, "http", "down")
        self.becomes(lemmy, "unix", "down")
