"""C{twistd lemmy} as a daemon: who says which process serves, over upgrades."""

from __future__ import annotations

import json
import os
import signal
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.process.rig import ANY, ask, configuration, end, folder, lives, read, script, unix, until


class DaemonTests(SynchronousTestCase):
    """Started without C{-n}."""

    def setUp(self) -> None:
        self.folder = folder(self)
        settings = configuration("http://127.0.0.1:9", (ANY,))
        settings["admin"] = {"endpoint": f"unix:{self.folder}/admin"}
        with open(f"{self.folder}/lemmy.yaml", "w") as file:
            json.dump(settings, file)
        command = [script("twistd"), "--pidfile=lemmy.pid", "--logfile=lemmy.log", "lemmy", "--config", "lemmy.yaml"]
        subprocess.run(command, cwd=self.folder, check=True, timeout=60)
        self.addCleanup(lambda: end(self.pid()) if self.pid() else None)
        self.says("serves on", 1)

    def pid(self) -> int:
        """What the file says."""
        return int(read(f"{self.folder}/lemmy.pid") or 0)

    def says(self, text: str, times: int) -> None:
        """Wait until the log has something so many times."""
        log = f"{self.folder}/lemmy.log"
        self.assertTrue(until(lambda: read(log).count(text) >= times, 60), read(log))

    def test_upgrades(self) -> None:
        """The file names the successor, twice over; no line of the log is lost; it goes at the end."""
        pids = [self.pid()]
        for number in (1, 2):
            os.kill(pids[-1], signal.SIGUSR2)
            self.assertTrue(until(lambda: self.pid() not in (0, *pids), 60), read(f"{self.folder}/lemmy.log"))
            pids.append(self.pid())
            self.says("Server Shut Down", number)
            self.assertTrue(until(lambda: not lives(pids[-2])))
        status, body = ask(unix(f"{self.folder}/admin"), "/stats", "localhost")
        self.assertEqual((200, pids[-1]), (status, json.loads(body)["pid"]))
        log = read(f"{self.folder}/lemmy.log")
        self.assertEqual((3, 2), (log.count("starting up."), log.count("ends what it has")))
        os.kill(pids[-1], signal.SIGTERM)
        self.assertTrue(until(lambda: not lives(pids[-1]), 60))
        self.assertEqual([], [name for name in os.listdir(self.folder) if "pid" in name or "admin" in name])
