"""
The bounds that the project has set itself, and how a run compares with them.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.cases import Figures

#: Per case the medians of each proxy.
Results = dict[str, dict[str, Figures]]


@dataclass(frozen=True)
class Target:
    """
    One bound.

    @ivar text: as the table says it.
    @ivar case: in which case.
    @ivar figure: which figure.
    @ivar of: the proxy it is set for.
    @ivar against: the proxy that it is divided by; empty: the figure itself counts.
    @ivar bound: the number.
    @ivar least: whether the bound is a lower one.
    """

    text: str
    case: str
    figure: str
    of: str = "lemmytx"
    against: str = ""
    bound: float = 0.0
    least: bool = False

    def measured(self, results: Results) -> float | None:
        """The number to hold against the bound, where the run has what it needs."""
        case = results.get(self.case, {})
        value = case.get(self.of, {}).get(self.figure)
        if value is None or not self.against:
            return value
        divisor = case.get(self.against, {}).get(self.figure)
        return value / divisor if divisor else None

    def met(self, measured: float) -> bool:
        """Whether it holds."""
        return measured >= self.bound if self.least else measured <= self.bound


TARGETS = (
    Target("small GET: CPU, × nginx", "small", "cpu", against="nginx", bound=1.4),
    Target("small GET: CPU, × Caddy", "small", "cpu", against="Caddy", bound=0.4),
    Target("small GET: requests/s, × twisted.web", "small", "rate", against="twisted.web", bound=15, least=True),
    Target("small GET, pure twin: CPU, × nginx", "small", "cpu", "lemmytx, pure twin", "nginx", 2.2),
    Target("small GET, JSON access log: CPU, × without", "small", "cpu", "lemmytx, JSON access log", "lemmytx", 1.15),
    Target("small GET, 2 workers: CPU, × 1 worker", "small", "cpu", "lemmytx, 2 workers", "lemmytx", 1.1),
    Target("browser's head: CPU, × nginx", "browser", "cpu", against="nginx", bound=1.4),
    Target("small GET over TLS: CPU, × nginx", "tls", "cpu", against="nginx", bound=1.7),
    Target("handshake: CPU, × nginx", "handshake", "cpu", against="nginx", bound=1.6),
    Target("small GET over HTTP/2 within TLS: CPU, × nginx", "http2", "cpu", against="nginx", bound=7),
    Target("1 MB bodies: CPU, × nginx", "1m", "cpu_ms", against="nginx", bound=0.75),
    Target("100 MB bodies: CPU, × nginx", "100m", "cpu_ms", against="nginx", bound=0.4),
    Target("idle connections: bytes each", "idle", "idle", bound=4096),
    Target("slow upload: growth, MB", "slow", "upload", bound=10),
    Target("slow download: growth, MB", "slow", "download", bound=10),
)
