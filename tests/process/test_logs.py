"""
Access logs that cannot be written, and those that are rotated.
"""

from __future__ import annotations

import json
import os
import shutil
import signal

from twisted.trial.unittest import SynchronousTestCase

from tests.process.rig import Lemmy, Nginx, configuration, folder, read, until
from tests.process.test_start import without_privileges


class LogTests(SynchronousTestCase):
    """The access log."""

    def setUp(self) -> None:
        self.nginx = Nginx(self)
        self.where = folder(self)

    def starts(self, path: str, style: str = "json", before: tuple[str, ...] = ()) -> Lemmy:
        """Runs with this access log."""
        settings = configuration(self.nginx.url, access_log={"path": path, "format": style})
        return Lemmy(self, settings, where=self.where, before=before).ready()

    def written(self, name: str, path: str) -> None:
        """Waits until a request for C{path} stands in a file."""
        file = os.path.join(self.where, name)
        self.assertTrue(until(lambda: f" {path} " in read(file) or f'"{path}"' in read(file)), read(file))

    def serves_without(self, path: str, why: str, before: tuple[str, ...] = ()) -> Lemmy:
        """It serves, and one line says why the log is not written."""
        lemmy = self.starts(path, before=before)
        for number in range(5):
            self.assertEqual((200, f"nginx a.example /{number}"), lemmy.get(f"/{number}"))
        lemmy.says(f"access log {path}: {why}")
        return lemmy

    def said_once(self, lemmy: Lemmy, why: str) -> None:
        """After further requests, and the end, there is still one line that says why; and none that is a traceback."""
        for _ in range(5):
            self.assertEqual(200, lemmy.get()[0])
        self.assertEqual(0, lemmy.stop())
        self.assertEqual(1, lemmy.count(why), lemmy.output())
        self.assertNotIn("Traceback", lemmy.output())

    def test_full(self) -> None:
        """A full disk costs lines of the log, not requests, and is told once; at the end it says what was lost."""
        lemmy = self.serves_without("/dev/full", "No space left on device")
        self.said_once(lemmy, "No space left on device")
        self.assertEqual(1, lemmy.count("bytes could not be written"), lemmy.output())

    def test_forbidden(self) -> None:
        """A file that may not be written is told once."""
        path = os.path.join(self.where, "access")
        with open(path, "wb"):
            os.chmod(path, 0o444)
        self.said_once(self.serves_without(path, "Permission denied", tuple(without_privileges())), "Permission denied")

    def test_no_folder(self) -> None:
        """A folder that is not there is told once, and when it is there the lines are, too: none is lost."""
        path = os.path.join(self.where, "logs", "access")
        lemmy = self.serves_without(path, "No such file or directory")
        os.mkdir(os.path.dirname(path))
        lemmy.says(f"access log {path}: it can be written again")
        self.assertTrue(until(lambda: read(path).count("\n") == 5), read(path))
        self.said_once(lemmy, "No such file or directory")
        self.assertEqual(10, read(path).count("\n"))

    def test_folder_vanishes(self) -> None:
        """A folder that is removed under a running proxy is told once, and serving goes on."""
        path = os.path.join(self.where, "logs", "access")
        os.mkdir(os.path.dirname(path))
        lemmy = self.starts(path)
        self.assertEqual(200, lemmy.get("/before")[0])
        self.written("logs/access", "/before")
        shutil.rmtree(os.path.dirname(path))
        self.assertEqual(200, lemmy.get("/after")[0])
        lemmy.says(f"access log {path}: No such file or directory")
        self.said_once(lemmy, "No such file or directory")

    def test_rotation(self) -> None:
        """After a file is moved and SIGUSR1 sent, new lines go into a new file and the old one has the earlier ones."""
        lemmy = self.starts("access", "combined")
        access, old = (os.path.join(self.where, name) for name in ("access", "access.1"))
        self.assertEqual(200, lemmy.get("/first")[0])
        self.written("access", "/first")
        os.rename(access, old)
        self.assertEqual(200, lemmy.get("/second")[0])
        lemmy.signal(signal.SIGUSR1)
        self.assertTrue(until(lambda: lemmy.get("/third")[0] == 200 and os.path.exists(access)))
        self.written("access", "/third")
        self.written("access.1", "/second")
        self.assertIn(" /first ", read(old))
        self.assertNotIn(" /second ", read(access))
        self.assertEqual(0, lemmy.stop())

    def test_signal_without_log(self) -> None:
        """Without an access log SIGUSR1 is no reason to end."""
        lemmy = Lemmy(self, configuration(self.nginx.url), where=self.where).ready()
        lemmy.signal(signal.SIGUSR1)
        self.assertEqual(200, lemmy.get()[0])
        self.assertEqual(0, lemmy.stop())

    def test_standard_output(self) -> None:
        """C{path: "-"} writes the lines to standard output, each whole, beside the process's own."""
        lemmy = self.starts("-")
        lemmy.get("/on-output")
        lemmy.says('"/on-output"')
        (line,) = [line for line in lemmy.output().splitlines() if "/on-output" in line]
        self.assertEqual(200, json.loads(line)["status"])
