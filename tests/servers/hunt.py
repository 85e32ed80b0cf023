"""Holds a broken server against its contract, and says whether the rule that it breaks was told broken."""

from __future__ import annotations

from dataclasses import dataclass

from hobbyhorse.conformance.judge import BROKEN
from hobbyhorse.conformance.server_results import ServerResult
from hobbyhorse.conformance.server_rule import LESSON

from .bending import Bend, Time, bent, looked_at, options
from .mutants import Mutant, contract_of


@dataclass(frozen=True)
class Caught:
    """What became of a broken server: the word on its rule, what was said, and which other rules were broken."""

    caught: bool
    word: str
    said: str
    others: tuple[str, ...]
    notes: tuple[str, ...] = ()


def judged(mutant: Mutant, bend: Bend | None = None) -> ServerResult:
    """Run a mutant's probes on it, or on the fake with another bend."""
    contract, time = contract_of(mutant), Time()
    made = mutant.change(contract) if bend is None else bend
    with bent(contract, made, time, options(time, pace=mutant.pace)) as url:
        picture = mutant.picture() if mutant.picture is not None else None
        return looked_at(contract, contract.models[mutant.model], url, time, names=mutant.probes, picture=picture)


def hunted(mutant: Mutant) -> Caught:
    result = judged(mutant)
    if result.unjudged is not None:
        return Caught(False, "unjudged", result.unjudged, ())
    own = next(one for one in result.verdicts if one.rule.id == mutant.rule)
    said = next(iter([one.message for one in own.breaches] + [one.message for one in own.lessons]), "")
    others = tuple(
        f"{one.rule.id} {one.breaches[0].message}"
        for one in result.verdicts
        if one.verdict == BROKEN and one is not own
    )
    notes = tuple(f"{note.probe}: {note.why}" for note in result.notes)
    return Caught(own.verdict == (LESSON if mutant.lesson else BROKEN), own.verdict, said, others, notes)
