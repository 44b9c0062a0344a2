"""What a scraper sees of an instance with workers, over a real connection."""

from __future__ import annotations

import copy
from http.client import HTTPResponse

from prometheus_client.parser import text_string_to_metric_families

from lemmytx.admin.metrics import TEXT
from tests.process.case import GET
from tests.process.rig import Lemmy, unix
from tests.process.test_reload import ReloadCase

REQUESTS = 12


class MetricsTests(ReloadCase):
    """Two workers with one cluster."""

    workers = 2

    def scrape(self, lemmy: Lemmy) -> dict[tuple[str, str], float]:
        """All series, by name and the values of their labels, joined in the order of the labels' names."""
        with unix(lemmy.admin) as link:
            link.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            response = HTTPResponse(link)
            response.begin()
            body = response.read()  # it comes in chunks
        self.assertEqual((response.status, response.headers["Content-Type"]), (200, TEXT))
        return {
            (sample.name, " ".join(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body.decode("utf-8"))
            for sample in family.samples
        }

    def test_scrape(self) -> None:
        """Counts are those of all workers, each process is shown, and what a reload takes away goes."""
        lemmy = self.starts()
        for _ in range(REQUESTS):
            client = self.client(lemmy, GET)
            self.answered(client, 200)
            client.close()
        (name,) = self.settings["clusters"]
        seen = self.scrape(lemmy)
        self.assertEqual(seen["lemmytx_requests_total", "2xx"], REQUESTS)
        (backend,) = (key for key in seen if key[0] == "lemmytx_backend_up")
        self.assertEqual(seen["lemmytx_backend_health", f"{backend[1]} up"], 2)
        self.assertEqual(seen["lemmytx_backend_recent_response_seconds_gcount", backend[1]], REQUESTS)
        for process in ("main", *(key[1] for key in seen if key[0] == "lemmytx_worker_restarts_total")):
            self.assertGreater(seen["lemmytx_process_open_fds", process], 3)
        self.assertEqual(sum(key[0] == "lemmytx_process_cpu_seconds_total" for key in seen), 3)
        self.assertIn(("lemmytx_event_loop_lag_seconds_count", ""), seen)
        changed = copy.deepcopy(self.settings)
        changed["clusters"][name]["backends"] = [{"url": self.url(self.second)}]
        lemmy.reload(changed)
        after = self.scrape(lemmy)
        self.assertNotIn(backend, after)
        self.assertEqual(after["lemmytx_requests_total", "2xx"], REQUESTS)
