"""What the drills showed, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from benchmarks.drills.load import Amount
from benchmarks.drills.origin import SLOW
from benchmarks.drills.scenes import Scene
from benchmarks.drills.tally import KINDS
from benchmarks.drills.watch import Sight

_HELD = (
    "drill", "process", "memory before", "after", "descriptors before", "after", "threads before", "after",
)  # fmt: skip


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(headings), _row(["---", *["---:"] * (len(headings) - 1)]), *map(_row, rows)]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in sorted(counts.items()) if number) or "0"


def _clients(scene: Scene) -> list[str]:
    seen = scene.seen
    return [
        scene.title,
        *(f"{seen.done[kind]:,}" for kind in ("GET", "POST", "echo", "download")),
        _counted(seen.failures),
        _counted(seen.reconnects),
        f"{seen.away:,}",
        f"{seen.slowest:.2f}",
    ]


def _durations(scene: Scene) -> list[str]:
    return [scene.title, f"{scene.median:.2f}", f"{scene.longest:.2f}", f"{scene.whole:.0f}", scene.what]


def _processes(scene: Scene) -> list[list[str]]:
    rows = []
    after: list[Sight | None] = [*scene.after]
    after += [None] * (len(scene.before) - len(after))
    for old, new in zip(scene.before, after, strict=False):
        rows.append(
            [
                scene.title,
                old.role,
                f"{old.memory / 1e6:.1f}",
                f"{new.memory / 1e6:.1f}" if new else "–",
                f"{old.descriptors} + {old.connections}",
                f"{new.descriptors} + {new.connections}" if new else "–",
                str(old.threads),
                str(new.threads) if new else "–",
            ]
        )
    return rows


def markdown(scenes: Sequence[Scene], about: Mapping[str, str], amount: Amount) -> str:
    """The report."""
    lines = ["# Drills", "", *(f"* {key}: {value}" for key, value in about.items()), ""]
    lines += [
        f"Constant load: {amount.keepers} keep-alive connections and {amount.posters} clients with a new connection for"
        f" each request, one every {amount.pause:g} s on each; {amount.talkers} WebSockets echoing as often; a download"
        f" of {amount.size / 1e6:.0f} MB at {amount.rate / 1e6:.0f} MB/s, again and again."
        f" Every answer is checked; one of {SLOW[0]} takes the backend {SLOW[1]:g} s.",
        "",
        "## What the clients saw",
        "",
        *_table(
            ("drill", "GET", "POST", "echoes", "downloads", "failed", "reconnects", "1001", "slowest, s"),
            [_clients(scene) for scene in scenes],
        ),
        "",
        "Reconnects are no failures: *asked*, the response said `Connection: close`; *idle*, a connection ended between"
        " two exchanges; *crossed*, it ended as a GET was on its way that had reached no backend, and which was sent"
        " again (RFC 9112 §9.3.1). Failures: " + "; ".join(f"*{kind}*, {what}" for kind, what in KINDS.items()) + ".",
        "",
        "## How long it took",
        "",
        *_table(("drill", "median, s", "longest, s", "all, s", "each"), [_durations(scene) for scene in scenes]),
        "",
        "## What the processes held",
        "",
        "Before: when a tenth of the drill was over. After: at its end. Memory is resident, in MB. Of descriptors,"
        " those of TCP connections stand behind the +: they come and go with the load.",
        "",
        *_table(_HELD, [row for scene in scenes for row in _processes(scene)]),
        "",
        "All of them together at each tenth of a drill, in MB:",
        "",
        *(f"* {scene.title}: {' '.join(f'{size / 1e6:.1f}' for size in scene.course)}" for scene in scenes),
        "",
        "## Bounds",
        "",
    ]
    broken = [f"* **{scene.title}**: {what}" for scene in scenes for what in scene.broken]
    lines += broken or ["All kept."]
    return "\n".join(lines) + "\n"
