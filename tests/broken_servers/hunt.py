"""Runs the suite on a broken server and checks whether it finds the broken rule."""

from __future__ import annotations

from dataclasses import dataclass

from hobbyhorse.conformance.judge import BROKEN, LESSON
from hobbyhorse.conformance.server.results import ServerResult

from .bending import Bend, Time, bent, options, run_suite
from .mutants import MUTANTS, Mutant, contract_of


@dataclass(frozen=True)
class Caught:
    """The result for a broken server: the verdict on its rule, the finding, and the other broken rules."""

    caught: bool
    word: str
    finding: str
    others: tuple[str, ...] = ()


def judged(mutant: Mutant, bend: Bend | None = None) -> ServerResult:
    """Run a mutant's probes on it, or on our fake with another bend."""
    contract, time = contract_of(mutant), Time()
    made = mutant.change(contract) if bend is None else bend
    picture = mutant.picture() if mutant.picture is not None else None
    with bent(contract, made, options(time, pace=mutant.pace)) as url:
        return run_suite(
            contract,
            contract.models[mutant.model],
            url,
            time,
            names=mutant.probes,
            picture=picture,
            patience=mutant.patience,
            secret=mutant.secret,
        )


def hunted(mutant: Mutant) -> Caught:
    """Run a mutant and return its result."""
    result = judged(mutant)
    if result.unjudged is not None:
        return Caught(False, "unjudged", result.unjudged)
    own = next(one for one in result.verdicts if one.rule.id == mutant.rule)
    messages = [one.message for one in own.breaches] + [one.message for one in own.lessons]
    others = tuple(one.rule.id for one in result.verdicts if one.verdict == BROKEN and one is not own)
    caught = own.verdict == (LESSON if mutant.lesson else BROKEN)
    return Caught(caught, own.verdict, (messages or [f"{len(result.notes)} probes left out"])[0], others)


def by_name(name: str) -> tuple[str, Caught]:
    """Run the mutant with a name."""
    return name, hunted(next(mutant for mutant in MUTANTS if mutant.name == name))
