"""What would become of a request, told by processes that serve."""

from __future__ import annotations

import json
import os
import signal
from typing import Any
from urllib.parse import quote

from tests.process.case import ScriptedCase
from tests.process.rig import Lemmy, configuration

MANY = 600


class ExplainTests(ScriptedCase):
    """C{GET /api/v1/explain} of a parent and its workers."""

    def explain(self, lemmy: Lemmy, url: str) -> tuple[int, dict[str, Any]]:
        status, body = lemmy.ask(f"/api/v1/explain?url={quote(url)}")
        return status, json.loads(body)

    def test_workers(self) -> None:
        """
        The first worker tells, of a large cluster, too; when it does not answer the next one does.
        """
        many = [f"http://127.{number // 250}.{number % 250}.1:9" for number in range(MANY)]
        settings = configuration(f"http://127.0.0.1:{self.backend.port}", workers=2)
        settings["clusters"]["many"] = {"backends": many}
        settings["vhosts"].insert(0, {"hosts": ["many.example"], "cluster": "many"})
        lemmy = Lemmy(self, settings).ready()
        workers = lemmy.manned(2)
        status, told = self.explain(lemmy, "http://a.example/x")
        self.assertEqual((status, told["worker"]), (200, 1))
        self.assertEqual(told["outcome"]["backend"], f"127.0.0.1:{self.backend.port}")
        status, told = self.explain(lemmy, "http://many.example/")
        (stage,) = told["clusters"]
        self.assertEqual((status, stage["scheduler"], stage["candidates_count"]), (200, "TwoChoices", MANY))
        self.assertEqual(len(stage["candidates"]), MANY)
        self.assertEqual(told["outcome"]["kind"], "chance")
        status, told = self.explain(lemmy, "a.example")
        self.assertEqual((status, told["detail"][:22]), (400, "url: found 'a.example'"))
        os.kill(workers[1], signal.SIGSTOP)
        try:
            self.assertEqual(self.explain(lemmy, "http://a.example/")[1]["worker"], 2)
        finally:
            os.kill(workers[1], signal.SIGCONT)
