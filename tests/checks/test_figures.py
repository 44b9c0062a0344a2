"""What the statistics of several processes say of checks."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from lemmytx.addresses import parse_url
from lemmytx.cluster.backend import Backend, Pool
from lemmytx.cluster.health import Checkup
from lemmytx.cluster.passive import Passive
from lemmytx.proxy.figures import BackendFigures, ClusterFigures, Snapshot
from lemmytx.proxy.pieces import from_bytes, to_bytes


def figures(steps: str, since: float) -> BackendFigures:
    """Of a backend after these outcomes: p passed, f failed."""
    location = parse_url("http://10.0.0.1")
    backend = Backend("b", location.url, location, None, Passive(), Pool())  # type: ignore[arg-type]  # not needed
    backend.addresses = ("10.0.0.1",)
    backend.check_by(Checkup(None, rise=1, fall=2))
    checked = backend.checked
    assert checked is not None
    for number, step in enumerate(steps):
        _ = checked.passed(f"passed {number}") if step == "p" else checked.failed(f"failed {number}")
    checked.since = since
    return BackendFigures.of(backend, 0, 0.0)


class FiguresTests(SynchronousTestCase):
    """L{BackendFigures} and L{ClusterFigures}"""

    def test_travels(self) -> None:
        """Since when, why, and what came of checks goes from process to process with everything else."""
        snapshot = Snapshot(7)
        cluster = snapshot.clusters["c"] = ClusterFigures(1, 2, True)
        cluster.backends["b"] = figures("pff", 123.5)
        arrived = from_bytes(to_bytes(snapshot)).clusters["c"]
        backend = arrived.backends["b"]
        self.assertIs(True, arrived.panicking)
        self.assertEqual(("down", 123.5, "failed 2"), (backend.health, backend.since, backend.reason))
        self.assertEqual({"passed": 1, "failed": 2, "going_down": 1, "down": 1}, backend.checks)

    def test_worst(self) -> None:
        """Together they are as bad as the worst of them, for its reason; counts are added up."""
        for order in (("pp", "ff"), ("ff", "pp")):
            whole = figures(order[0], 1.0).copy()
            whole.add(figures(order[1], 2.0))
            self.assertEqual(("down", "failed 1"), (whole.health, whole.reason))
            self.assertEqual({"passed": 2, "failed": 2, "going_down": 1, "down": 1}, whole.checks)
            self.assertEqual({"up": 1, "down": 1}, whole.healths)

    def test_latest(self) -> None:
        """Where they agree it is the latest that tells why."""
        whole = figures("ff", 5.0).copy()
        whole.add(figures("fff", 4.0))
        self.assertEqual((5.0, "failed 1"), (whole.since, whole.reason))
        whole.add(figures("ff", 6.0))
        self.assertEqual(6.0, whole.since)
