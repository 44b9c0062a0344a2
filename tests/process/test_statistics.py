"""
Statistics of an instance: sums over its processes, and what a reload leaves of them.
"""

from __future__ import annotations

import copy
from typing import Any

from tests.process.case import GET
from tests.process.rig import Lemmy
from tests.process.test_reload import ReloadCase

REQUESTS = 24


class StatisticsTests(ReloadCase):
    """Two workers with one cluster."""

    workers = 2

    def serve_some(self, lemmy: Lemmy) -> None:
        """Requests over connections of their own, so that every worker has some in all likelihood."""
        for _ in range(REQUESTS):
            client = self.client(lemmy, GET)
            self.answered(client, 200)
            client.close()

    def cluster(self, lemmy: Lemmy) -> dict[str, Any]:
        """The figures of the one cluster."""
        (found,) = lemmy.stats()["clusters"].values()
        assert isinstance(found, dict)
        return found

    def test_sums(self) -> None:
        """Counts, rates and response times are those of all workers, for cluster, backend and vhost alike."""
        lemmy = self.starts()
        self.serve_some(lemmy)
        stats = lemmy.stats()
        cluster = self.cluster(lemmy)
        (backend,) = cluster["backends"].values()
        (vhost,) = stats["vhosts"].values()
        for figures in (stats, cluster, backend, vhost):
            self.assertEqual((figures["total_count"], figures["total_status_classes"]["2xx"]), (REQUESTS, REQUESTS))
            times = figures["response_time_sec"]
            self.assertTrue(0 < times["median"] <= times["p95"] <= times["p99"] < 30, times)
        self.assertEqual((cluster["active"], cluster["queued"], cluster["ejections"]), (0, 0, 0))
        lemmy.wait(lambda: self.cluster(lemmy)["requests_per_sec"]["60s"] > 0, "the end of a second")

    def test_reload(self) -> None:
        """A reload keeps all figures of the backends that stay, those of late too."""
        lemmy = self.starts()
        self.serve_some(lemmy)
        before = self.cluster(lemmy)
        changed = copy.deepcopy(self.settings)
        (name,) = changed["clusters"]
        changed["clusters"][name]["backends"].append({"url": self.url(self.second)})
        changed["clusters"][name]["scheduler"] = "round_robin"
        lemmy.reload(changed)
        after = self.cluster(lemmy)
        self.assertEqual(len(after["backends"]), 2)
        for figure in ("total_count", "total_response_time_sec", "response_time_sec", "connects", "total_request_size"):
            self.assertEqual(after[figure], before[figure])
