"""
Maglev's table: which of several owners a number between 0 and L{SIZE} belongs to (D. Eisenbud et al., Maglev: A Fast
and Reliable Software Network Load Balancer, NSDI 2016, §3.4).

Every owner has an order of all places, drawn from its name. In turn, by weight, each takes the next place of its order
that is still free, until none is. So each has its share to within one place, whatever the hash does, which a ring of
points only approaches with thousands of points for each; and when an owner goes or comes nearly all places of the
others stay theirs. The same owners give the same table in every process.

The size is fixed, as it is everywhere where this is used: a table of another size has nothing in common with this one,
and nothing would be gained by growing it with the cluster. 65537 places give 1,000 owners 65 each.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

#: A prime, so that every step leads through all places.
SIZE = 65537


def build(owners: Sequence[tuple[str, int]]) -> list[int]:
    """
    It takes some 50 ms: for changes of membership, not for changes of state.

    @param owners: their names, which are different, and their weights, above 0.
    @return: for each place the index of its owner; empty when there are no owners.
    """
    if not owners:
        return []
    table = [-1] * SIZE
    heaviest = max(weight for _, weight in owners)
    nexts, steps = [], []
    for name, _ in owners:
        digest = int.from_bytes(blake2b(name.encode(), digest_size=16, person=b"lemmytx maglev").digest(), "big")
        nexts.append((digest >> 64) % SIZE)
        steps.append((digest & 0xFFFFFFFFFFFFFFFF) % (SIZE - 1) + 1)
    # By name, so that the order in the configuration does not matter.
    order = sorted(range(len(owners)), key=lambda owner: owners[owner][0])
    weights = [weight for _, weight in owners]
    credit = [0] * len(owners)
    left = SIZE
    while True:
        for owner in order:
            # Whoever is half as heavy as the heaviest takes a place every second time.
            credit[owner] += weights[owner]
            if credit[owner] < heaviest:
                continue
            credit[owner] -= heaviest
            place = nexts[owner]
            step = steps[owner]
            while table[place] >= 0:
                place += step
                if place >= SIZE:
                    place -= SIZE
            table[place] = owner
            nexts[owner] = place
            left -= 1
            if not left:
                return table
