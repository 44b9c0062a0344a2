"""
No file descriptors left: it stays, says so in few words, and answers again when there are some.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.process.rig import Lemmy, Nginx, configuration, program, tcp, until

#: What the process gets. It needs about 20 for itself.
DESCRIPTORS = 64

REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"


class DescriptorTests(SynchronousTestCase):
    """A process that may have 64 descriptors and gets bursts of 200 clients."""

    def starts(self, command: Sequence[str]) -> Lemmy:
        """Runs it with few descriptors, before a real server."""
        before = [program("prlimit"), f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"]
        # One failure takes the backend out: what is our own fault must not count as its.
        cluster = {"max_fails": 1, "max_ejected": "100%", "retry": {"attempts": 1}}
        nginx = Nginx(self)
        backends = [nginx.url, f"http+unix://{nginx.socket}"]
        return Lemmy(self, configuration(backends, cluster=cluster), command, before=before).ready()

    def burst(self, lemmy: Lemmy) -> None:
        """200 clients at once, each with a request; then they leave."""
        clients = [tcp(lemmy.port) for _ in range(200)]
        try:
            for client in clients:
                client.sendall(REQUEST)
            # Whoever got in is answered: by the backend, or by ourselves when there was no descriptor left for it.
            for client in clients[:10]:
                client.settimeout(5)
                self.assertIn(client.recv(12), (b"HTTP/1.1 200", b"HTTP/1.1 503"))
        finally:
            for client in clients:
                client.close()

    def answers(self, lemmy: Lemmy) -> bool:
        """Whether a new client gets what the backend has."""
        with tcp(lemmy.port) as client:
            client.settimeout(1)
            client.sendall(REQUEST)
            try:
                return client.recv(12) == b"HTTP/1.1 200"
            except (TimeoutError, ConnectionError):
                return False

    def survives(self, command: Sequence[str]) -> None:
        """Three bursts, and after each it answers."""
        lemmy = self.starts(command)
        for _ in range(3):
            self.burst(lemmy)
            self.assertTrue(until(lambda: self.answers(lemmy), 10), lemmy.output())
        lemmy.wait(lambda: lemmy.stats()["downstreams"] == 0, "all clients forgotten")
        self.assertEqual(0, lemmy.stats()["exchanges"])
        for said in ("only 32 clients can be served", "32 clients are connected"):
            self.assertEqual(1, lemmy.count(said), lemmy.output())
        self.assertLess(len(lemmy.output().splitlines()), 20, lemmy.output())
        self.assertNotIn("Traceback", lemmy.output())
        self.assertNotIn("is out for", lemmy.output())
        self.assertEqual(0, lemmy.stop())

    def test_lemmy_reactor(self) -> None:
        """On the project's reactor."""
        self.survives(("lemmy", "run"))

    def test_default_reactor(self) -> None:
        """On Twisted's default reactor."""
        self.survives(("twistd", "-n", "--pidfile=", "lemmy"))
