"""A run as a Markdown page and its plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.balance.generator import PATIENCE
from benchmarks.balance.lane import WARM, Outcome
from benchmarks.balance.scenarios import NAMES, ODD, SCENARIOS
from benchmarks.balance.subjects import SLOW_START, SUBJECTS

#: Per scenario what each subject did.
Results = Mapping[str, Mapping[str, Outcome]]

_HEAD = f"""\
# Balance

`make balance` puts lemmytx, with each of its schedulers, and HAProxy and nginx in front of five backends of which one
is slow, fails, goes away or comes back, and has clients tell what they saw. It stays on loopback.

* The load is open: requests are due at random times that were set beforehand, the same for everyone, and each one's
  time counts from when it was *due*, not from when it could be sent. Waiting is not hidden. A client gives up after
  {PATIENCE:g} s, which counts as a time of {PATIENCE:g} s and as an error. {WARM:g} s of load goes before and is not
  counted.
* A backend works on 4 requests at a time, 20 ms each on average (between 10 and 30), and lets others wait: five of them
  do 1,000 requests a second. Requests are GETs of 60 clients, each with an address and a path of its own.
* All proxies may try a request three times, also after a 503 or when the connection ended without an answer, and leave
  a backend alone for 2 s that failed three times. In lemmytx that is
  `retry: {{attempts: 3, on: [reset, 502, 503, 504], budget_at_least: 50}}`. Without `reset`, 3 of 18 runs in which a
  backend is killed lost a request that had just been sent on a new connection; with `reset`, but a `budget_at_least` of
  3, 7 of 11 lost one or two that were refused at the same moment; with both, none of 18.
* lemmytx and HAProxy check `/health` every 0.5 s and give a backend that comes back its share over
  {SLOW_START} s; the free nginx does neither. `least_load` and `first` know a capacity of 8 for each backend.
* *p50* and *p99* are of all requests that were answered with 200 or given up, in milliseconds. *Evenness* is R. Jain's
  index over the five shares of the answers: 1 when all are equal, 0.2 when one backend has everything. It is no aim by
  itself: who avoids a backend that is slow is uneven, and right.
* The proxies of one scenario run a few at a time, side by side, on shared cores: differences of a few milliseconds mean
  nothing.

One run:
"""


@dataclass(frozen=True)
class Bound:
    """
    What is expected.

    @ivar text: what.
    @ivar measured: what was seen.
    @ivar kept: whether that is as it should be.
    """

    text: str
    measured: str
    kept: bool


def _of(outcomes: Mapping[str, Outcome], family: str) -> dict[str, Outcome]:
    return {name: outcome for name, outcome in outcomes.items() if SUBJECTS[name].family == family}


def bounds(results: Results) -> Iterator[Bound]:
    """Those that this run can say something about."""
    for name, scenario in SCENARIOS.items():
        ours = _of(results.get(name, {}), "lemmytx")
        if scenario.lossless and ours:
            lost = {own: sum(outcome.failures.values()) for own, outcome in ours.items()}
            told = ", ".join(f"{own} {count}" for own, count in lost.items() if count)
            text = f"{scenario.title}: lemmytx loses no request, whatever the scheduler"
            yield Bound(text, told or "0 lost", not told)
    ours, theirs = (_of(results.get("slow", {}), family) for family in ("lemmytx", "HAProxy"))
    if ours and theirs:
        best, rival = (min(both, key=lambda own: both[own].quantile(0.99)) for both in (ours, theirs))
        own, other = ours[best].quantile(0.99), theirs[rival].quantile(0.99)
        yield Bound(
            f"{SCENARIOS['slow'].title}: lemmytx's best p99 is no worse than HAProxy's best",
            f"{_ms(own)} ms ({best}), {_ms(other)} ms ({rival})",
            own <= other,
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _counted(outcome: Outcome) -> str:
    return ", ".join(f"{count:,} × {kind}" for kind, count in outcome.failures.most_common()) or "0"


def _table(scenario: str, outcomes: Mapping[str, Outcome]) -> list[str]:
    windows = SCENARIOS[scenario].windows
    headings = ["", "p50", "p99", *windows, "errors", "evenness", *(f"{name}, %" for name in NAMES)]
    lines = [_row(headings), _row(["---", *["---:"] * (len(headings) - 1)])]
    for name in SUBJECTS:
        if name not in outcomes:
            continue
        outcome = outcomes[name]
        cells = [name, _ms(outcome.quantile(0.5)), _ms(outcome.quantile(0.99))]
        cells += [_ms(outcome.quantile(0.99, *window)) for window in windows.values()]
        cells += [_counted(outcome), f"{outcome.evenness:.2f}"]
        cells += [f"{share * 100:.1f}" for share in outcome.shares.values()]
        lines.append(_row(cells))
    return lines


def markdown(results: Results, about: Mapping[str, str], plots: Mapping[str, str]) -> str:
    """
    The page.

    @param about: the machine and the versions.
    @param plots: the files of those that were drawn, by scenario, as the page refers to them.
    """
    lines = [_HEAD, *(f"* {key}: {value}" for key, value in about.items())]
    kept = list(bounds(results))
    if kept:
        lines += ["", "## What is expected", "", _row(["", "measured", "kept"]), _row(["---"] * 3)]
        lines += [_row([bound.text, bound.measured, "yes" if bound.kept else "**no**"]) for bound in kept]
    for name, scenario in SCENARIOS.items():
        if results.get(name):
            load = ", ".join(f"{phase.rate:g} requests/s for {phase.seconds:g} s" for phase in scenario.phases)
            lines += ["", f"## {scenario.title}", "", f"{scenario.text} Load: {load}. {scenario.meaning}"]
            if name in plots:
                lines += ["", f"![{scenario.title}]({plots[name]})"]
            lines += ["", *_table(name, results[name])]
    return "\n".join(lines) + "\n"


_FAMILIES = {"lemmytx": "#2f6f9f", "HAProxy": "#c9803a", "nginx": "#6a9a5b"}


def plot(results: Results, folder: Path) -> dict[str, str]:
    """
    One drawing for each scenario: p50 and p99 on the left, who got how much on the right.

    @param folder: where C{balance-SCENARIO.svg} go.
    @return: the names of the files; nothing where matplotlib is missing, which comes with the extra C{bench}.
    """
    try:
        import matplotlib
    except ImportError:
        return {}
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lemmytx"})  # text as text; the same file again
    from matplotlib import pyplot
    from matplotlib.ticker import LogFormatter

    drawn = {}
    for scenario, outcomes in results.items():
        names = [name for name in reversed(SUBJECTS) if name in outcomes]
        if not names:
            continue
        drawing, (times, shares) = pyplot.subplots(
            1, 2, figsize=(11, 1.4 + 0.27 * len(names)), sharey=True, layout="constrained"
        )
        slowest = [outcomes[name].quantile(0.99) * 1000 for name in names]
        usual = [outcomes[name].quantile(0.5) * 1000 for name in names]
        colours = [_FAMILIES[SUBJECTS[name].family] for name in names]
        bars = times.barh(names, slowest, color=colours)
        times.plot(usual, range(len(names)), "|", color="black", markersize=9)
        lost = [sum(outcomes[name].failures.values()) for name in names]
        labels = [
            f"{value:,.0f}" + (f"  ({count:,} errors)" if count else "")
            for value, count in zip(slowest, lost, strict=True)
        ]
        times.bar_label(bars, labels, padding=4, fontsize=8)
        times.set_xscale("log")
        # Milliseconds as numbers, and not as powers of ten.
        times.xaxis.set_major_formatter("{x:,.0f}")
        times.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.2, 0.6)))  # none where they are too many
        times.margins(x=0.35)
        times.set_title("p99 (bar) and p50 (line), ms, logarithmic", fontsize=9)
        left = [0.0] * len(names)
        for number, backend in enumerate(NAMES):
            widths = [outcomes[name].shares[backend] * 100 for name in names]
            colour = "#8c2d4f" if backend == ODD else ("#b9c2c9", "#9aa7b1")[number % 2]
            shares.barh(names, widths, left=left, color=colour)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        shares.set_title(f"shares of the answers, %: backends a to e, {ODD} in red", fontsize=9)
        shares.set_xlim(0, 100)
        for axis in (times, shares):
            axis.tick_params(labelsize=8, which="both")
            axis.spines[["top", "right"]].set_visible(False)
        name = f"balance-{scenario}.svg"
        drawing.savefig(folder / name, metadata={"Date": None})
        pyplot.close(drawing)
        drawn[scenario] = name
    return drawn
