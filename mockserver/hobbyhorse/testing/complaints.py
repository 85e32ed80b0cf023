"""The complaints of a world about its test, from the records that every world returns. Knows no server."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hobbyhorse.testing.world import AnyWorld
from hobbyhorse.worlds.mistakes import INVALID, UNMATCHED, uncollected_complaint, unmet_complaint


def complaints_about(world: AnyWorld, about: Collection[str]) -> Iterator[str]:
    """Yield the situations that a test most likely did not intend, each with the next step."""
    for exchange in world.journal if {"unmatched", "invalid"} & set(about) else ():
        # A situation that an armed fault has caused is not a mistake of the test.
        if exchange.move is not None:
            continue
        seen = f"{exchange.method} {exchange.path}: {'; '.join(exchange.notes) or exchange.situation}"
        if exchange.situation in UNMATCHED and "unmatched" in about:
            near = f"{exchange.nearest.text}; " if exchange.nearest is not None else f"{seen}; "
            yield f"{near}`hobbyhorse providers {exchange.provider}` lists the operations"
        elif exchange.situation in INVALID and "invalid" in about:
            yield f"{seen}; the request breaks the contract"
    if "unmet" in about:
        yield from map(unmet_complaint, world.unmet)
    if "uncollected" in about:
        for job in world.jobs:
            if job.ends and not job.collected:
                yield uncollected_complaint(job.id, job.stage().name)
