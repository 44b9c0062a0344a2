"""
A run as a Markdown text, a JSON file and a plot.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, FIGURES, Settings
from benchmarks.peers import PEERS
from benchmarks.targets import TARGETS, Results

#: What the figures of other proxies are divided by.
_REFERENCE = "nginx"

#: Which figures are divided. Not memory: nginx allocates the table of its connections at its start.
_COMPARED = ("rate", "cpu", "cpu_ms")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(case: str, results: Results) -> list[str]:
    """One case: a proxy per row, and how its rate and CPU time compare with nginx's."""
    figures = CASES[case].figures
    ratios = [figure for figure in figures if figure in _COMPARED]
    reference = results[case].get(_REFERENCE, {})
    headings = ["proxy", *(FIGURES[figure] for figure in figures)]
    headings += [f"{FIGURES[figure].partition(',')[0]}, × {_REFERENCE}" for figure in ratios]
    lines = [_row(headings), _row(["---", *["---:"] * (len(headings) - 1)])]
    for name in PEERS:
        if name not in results[case]:
            continue
        own = results[case][name]
        cells = [name, *(_number(own[figure]) for figure in figures)]
        for figure in ratios:
            divisor = reference.get(figure, 0.0)
            cells.append(f"{own[figure] / divisor:.2f}" if divisor > 0 else "–")
        lines.append(_row(cells))
    return lines


def _targets(results: Results) -> list[str]:
    lines = [_row(["target", "bound", "measured", "met"]), _row(["---", "---:", "---:", "---"])]
    for target in TARGETS:
        measured = target.measured(results)
        bound = f"{'≥' if target.least else '≤'} {_number(target.bound)}"
        if measured is None:
            lines.append(_row([target.text, bound, "–", "not measured"]))
        else:
            lines.append(_row([target.text, bound, _number(measured), "yes" if target.met(measured) else "**no**"]))
    return lines


def markdown(
    results: Results, about: dict[str, str], settings: Settings, absent: dict[str, str], broken: dict[str, str]
) -> str:
    """
    The report.

    @param about: the machine and the versions.
    @param absent: proxies that were not there, and why.
    @param broken: proxy and case to why figures are missing.
    """
    lines = ["# Benchmark", ""]
    lines += [f"* {key}: {value}" for key, value in about.items()]
    lines += [
        "",
        f"Medians of {settings.rounds} rounds of {settings.seconds:g} s; in each round every proxy has its turn, in"
        " a new order. The proxy has one core; the clients and the backend (nginx) share another, so rates are bounded"
        " by those as well and CPU time is the steadier figure. CPU is user + system of all the proxy's processes.",
    ]
    if absent:
        lines += ["", "Missing: " + "; ".join(f"{name} ({why})" for name, why in absent.items()) + "."]
    if broken:
        lines += ["", "Without figures:", "", *(f"* {where}: {why}" for where, why in broken.items())]
    lines += ["", "## Targets", "", *_targets(results)]
    for case in CASES:
        if results.get(case):
            lines += ["", f"## {CASES[case].title}", "", *_table(case, results)]
    return "\n".join(lines) + "\n"


def as_json(
    results: Results, rounds: dict[str, Any], about: dict[str, str], settings: Settings, absent: dict[str, str],
    broken: dict[str, str],
) -> str:  # fmt: skip
    """Everything that was measured, each round by itself."""
    targets = []
    for target in TARGETS:
        measured = target.measured(results)
        targets.append(
            {
                "target": target.text,
                "bound": target.bound,
                "least": target.least,
                "measured": measured,
                "met": None if measured is None else target.met(measured),
            }
        )
    return json.dumps(
        {
            "about": about,
            "settings": vars(settings),
            "missing": absent,
            "without figures": broken,
            "targets": targets,
            "medians": results,
            "rounds": rounds,
        },
        indent=1,
    )


#: Case and figure of each panel of the plot.
_PANELS = (
    ("small", "cpu"), ("small", "rate"), ("browser", "cpu"), ("tls", "cpu"), ("handshake", "cpu"), ("http2", "cpu"),
    ("1m", "cpu_ms"), ("100m", "cpu_ms"), ("idle", "idle"),
)  # fmt: skip


def plot(results: Results, path: Path) -> bool:
    """
    Bars per proxy, one panel per case.

    @return: whether it could be drawn: matplotlib comes with the extra C{bench}.
    """
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lemmytx"})  # text as text; the same file again
    from matplotlib import pyplot

    panels = [(case, figure) for case, figure in _PANELS if results.get(case)]
    if not panels:
        return False
    rows = (len(panels) + 1) // 2
    drawing, axes = pyplot.subplots(rows, 2, figsize=(11, 2.6 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (case, figure) in zip(axes.flat, panels, strict=False):
        names = [name for name in reversed(PEERS) if name in results[case]]
        values = [results[case][name][figure] for name in names]
        colours = ["#2f6f9f" if name.startswith("lemmytx") else "#b9c2c9" for name in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, [_number(value) for value in values], padding=3, fontsize=8)
        axis.margins(x=0.15)
        axis.set_title(f"{CASES[case].title}: {FIGURES[figure]}", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path, metadata={"Date": None})
    pyplot.close(drawing)
    return True
