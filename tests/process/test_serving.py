"""
The main job, end to end: programs as a user starts them, a real server behind them, traffic by vhost and path.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.process.rig import ANY, Lemmy, Nginx, ask, configuration, end, has_ipv6, lives, read, tcp, unix, until
from tests.wire.rig import START


class ReactorTests(SynchronousTestCase):
    """Every way to start it serves the same, whatever the reactor."""

    def serves(self, command: Sequence[str], options: Sequence[str] = ()) -> Lemmy:
        """Starts it before two real servers, asks every route, and stops it."""
        one, two = Nginx(self, "one"), Nginx(self, "two")
        backends = {
            "one": one.url,
            "two": two.url,
            "named": f"http://localhost:{one.port}",
            "unix": f"http+unix://{two.socket}",
        }
        answers = {
            ("a.example", "/"): "one a.example /",
            ("A.example.:80", "/x?y=%7e"): "one a.example /x?y=%7e",
            ("a.example", "/b/c"): "two a.example /b/c",
            ("a.example", "/bc"): "one a.example /bc",
            ("a.example", "/named/"): "one a.example /named/",
            ("a.example", "/unix"): "two a.example /unix",
            ("www.b.example", "/"): "two www.b.example /",
        }
        if has_ipv6():
            backends["six"] = f"http://[::1]:{one.port}"
            answers["a.example", "/six"] = "one a.example /six"
        paths = {"/b/*": "two", **{f"/{name}/*": name for name in ("named", "unix", "six") if name in backends}}
        lemmy = Lemmy(
            self,
            {
                "listeners": [{"endpoint": ANY}, {"endpoint": "unix:door"}],
                "vhosts": [
                    {
                        "hosts": ["a.example"],
                        "routes": [
                            *({"path": path, "cluster": name} for path, name in paths.items()),
                            {"cluster": "one"},
                        ],
                    },
                    {"hosts": ["*.b.example"], "cluster": "two"},
                ],
                "clusters": {name: {"backends": [url]} for name, url in backends.items()},
                "access_log": {"path": "access", "format": "json"},
            },
            command,
            options,
        ).ready()
        lemmy.says("backend localhost:")
        for (host, path), text in answers.items():
            self.assertEqual((200, text), lemmy.get(path, host))
        self.assertEqual(404, lemmy.get("/", "c.example")[0])
        self.assertEqual((200, b"two a.example /b/"), ask(unix(os.path.join(lemmy.folder, "door")), "/b/", "a.example"))
        self.assertEqual(len(answers) + 2, lemmy.stats()["total_count"])
        self.assertEqual(0, lemmy.stop())
        self.assertEqual(len(answers) + 2, read(os.path.join(lemmy.folder, "access")).count("\n"))
        self.assertNotIn("Traceback", lemmy.output())
        return lemmy

    def test_lemmy_run(self) -> None:
        """C{lemmy run} serves vhosts, paths, and backends by address, name, IPv6 and unix socket."""
        self.serves(("lemmy", "run"))

    def test_lemmy_run_epoll(self) -> None:
        """C{lemmy run} serves on Twisted's own epoll reactor too."""
        self.serves(("lemmy", "run"), ("--", "--reactor=epoll"))

    def test_twistd(self) -> None:
        """C{twistd -n lemmy} serves on Twisted's default reactor."""
        self.serves(("twistd", "-n", "--pidfile=", "lemmy"))

    def test_twistd_lemmy(self) -> None:
        """C{twistd --reactor=lemmy -n lemmy} serves on the project's reactor."""
        self.serves(("twistd", "--reactor=lemmy", "-n", "--pidfile=", "lemmy"))

    def test_poll(self) -> None:
        """It serves on the poll reactor, which knows nothing of splicing or edge cases of epoll."""
        self.serves(("twistd", "--reactor=poll", "-n", "--pidfile=", "lemmy"))

    def test_select(self) -> None:
        """It serves on the select reactor."""
        self.serves(("twistd", "--reactor=select", "-n", "--pidfile=", "lemmy"))

    def test_asyncio(self) -> None:
        """It serves on asyncio's loop."""
        self.serves(("twistd", "--reactor=asyncio", "-n", "--pidfile=", "lemmy"))

    def test_daemon(self) -> None:
        """C{twistd lemmy} without C{-n} serves in the background, and ends when its pid file's process is told."""
        nginx = Nginx(self)
        settings = configuration(nginx.url, access_log={"path": "access"})
        starter = Lemmy(self, settings, ("twistd", "--pidfile=pid", "--logfile=log", "lemmy"))
        self.assertEqual(0, starter.ended())
        with open(os.path.join(starter.folder, "pid"), encoding="ascii") as file:
            pid = int(file.read())
        self.addCleanup(end, pid)
        log = os.path.join(starter.folder, "log")
        self.assertTrue(until(lambda: "serves on" in read(log)), read(log))
        port = int(read(log).split("serves on 127.0.0.1:")[1].split(";")[0])
        self.assertEqual((200, b"nginx a.example /"), ask(tcp(port), "/", "a.example"))
        self.assertEqual((200, b'{"status": "OK"}\n'), starter.ask("/health"))
        os.kill(pid, signal.SIGTERM)
        self.assertTrue(until(lambda: not lives(pid), START))
        self.assertEqual(1, read(os.path.join(starter.folder, "access")).count("\n"))
        self.assertIn("stopped", read(log))
        self.assertFalse(os.path.exists(os.path.join(starter.folder, "pid")))


class CodecTests(SynchronousTestCase):
    """Which codec serves."""

    def test_pure(self) -> None:
        """Without the compiled codec the start line says so, and everything works."""
        nginx = Nginx(self)
        lemmy = Lemmy(self, configuration(nginx.url), environment={"LEMMYTX_PURE": "1"}).ready()
        self.assertTrue(lemmy.codec.startswith("pure Python"), lemmy.codec)
        self.assertEqual("pure", lemmy.stats()["codec"])
        self.assertEqual((200, "nginx a.example /x"), lemmy.get("/x"))
        with tcp(lemmy.port) as link:
            link.sendall(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
            self.assertTrue(link.recv(1000).startswith(b"HTTP/1.1 400 "))
