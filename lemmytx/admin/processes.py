"""What the system says of processes: time, memory, descriptors. Where many files are open it takes long."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from prometheus_client.process_collector import ProcessCollector

#: The name of the process that answers, among those of its workers.
MAIN = "main"

_PREFIX = "process_"


def look(pids: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """
    May be called in a thread. One that has ended meanwhile, and all of them where there is no C{/proc}, are left out.

    @param pids: by the name that each is to have.
    @return: for each the names of prometheus-client, without its prefix and C{_total}.
    """
    found: dict[str, dict[str, float]] = {}
    for name, pid in pids.items():
        families = ProcessCollector(pid=partial(int, pid), registry=None).collect()
        said = {family.name.removeprefix(_PREFIX): family.samples[0].value for family in families}
        if "cpu_seconds" in said:
            found[name] = said
    return found
