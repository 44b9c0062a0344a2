"""
C{python -m benchmarks.ha}: kills the instance that has the shared address, a few times, and tells what was lost. It
wants root (network namespaces), keepalived, ip and curl; nothing of it leaves this machine's namespaces.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.ha.failover import Machines
from benchmarks.ha.network import CannotMake


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip())
    parser.add_argument("--rounds", type=int, default=3, help="how often")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second, each on a new connection")
    arguments = parser.parse_args()
    gaps = []
    for number in range(arguments.rounds):
        try:
            with tempfile.TemporaryDirectory(prefix="lemmytx-ha-") as folder, Machines(Path(folder)) as machines:
                found = machines.kill(rate=arguments.rate)
        except CannotMake as error:
            print(f"this machine does not allow it: {error}", file=sys.stderr)
            return 2
        gaps.append(found.gap)
        lost = ", ".join(f"{count} {kind}" for kind, count in sorted(found.lost.items())) or "none"
        print(f"round {number + 1}: {found.asked} requests, lost {sum(found.lost.values())} ({lost}),")
        print(f"    {found.gap:.2f} s between the last answer of the killed instance and the first of the other")
    print(f"median of {len(gaps)}: the address was away for {statistics.median(gaps):.2f} s")
    return 0 if all(gap < 10 for gap in gaps) else 1


if __name__ == "__main__":
    sys.exit(main())
