"""How a broken client is hunted: the suite on it until its rule is broken, and what that took."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.client.cases import KILLED, MOVED, Case
from hobbyhorse.conformance.client.judge import BROKEN
from hobbyhorse.conformance.client.report import drill_of
from hobbyhorse.conformance.client.search import CannotRun, Plan, Play, Progress, Search
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract
from hobbyhorse.runners.against_fake import CallableRunner, CommandRunner, FakeSession
from hobbyhorse.runners.client_suite import SUITE_KINDS

from .mutants import MUTANTS, Mutant, load

MOST = 200
"""How often a client is run at most."""
SPEED, AT_ONCE = 50.0, 4
"""How much faster than real time a fake runs for commands, and how many of them run at once."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """What a hunt came to: after how many runs the rule was broken, and by which drill; which others were broken."""

    caught: bool
    runs: int
    drill: Case
    said: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@cache
def contracts() -> dict[str, Contract]:
    """Return the contracts by their keys."""
    return {contract.key: contract for contract in load_all()}


@contextmanager
def playing(mutant: Mutant, source: str) -> Iterator[Play]:
    """Give what plays drills with a mutant's source, or with that of the client that it is made of."""
    contract = contracts()[mutant.provider]
    if mutant.kind == "python":
        with FakeSession(contract, contract.models[0]) as arena:
            yield CallableRunner(arena, load(mutant.name, source))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "client.py")
        file.write_text(source)
        argv = [sys.executable, str(file)]
        with FakeSession(contract, contract.models[0], clock="real", speed=SPEED, pace="fast") as arena:
            yield CommandRunner(arena, argv, [*argv, "--resume"], parallel=AT_ONCE)


def hunt(mutant: Mutant, runs: int = MOST, rules: Sequence[str] = (), whole: bool = False) -> Hunt:
    """Run the suite on a mutant, until its rule is broken, or to the end: the `whole` of it."""
    contract = contracts()[mutant.provider]
    broken_at: list[int] = []

    def tell(progress: Progress) -> None:
        if mutant.rule in progress.broken and not broken_at:
            broken_at.append(progress.runs)

    kinds = SUITE_KINDS if mutant.kind == "python" else (*SUITE_KINDS, KILLED, MOVED)
    until = frozenset() if whole else frozenset({mutant.rule})
    with playing(mutant, mutant.source) as play:
        search = Search(contract, play, Plan(runs, 0, tuple(rules), kinds, until), tell)
        result = search.run(mutant.name, contract.models[0].id)
    own = next(one for one in result.verdicts if one.rule.id == mutant.rule)
    others = tuple(f"{one.rule.id}: {one.findings[0].messages[0]}" for one in result.broken if one is not own)
    found = own.findings[0] if own.verdict == BROKEN else None
    drill = drill_of(found.trace) if found is not None else Case()
    return Hunt(
        found is not None,
        broken_at[0] if broken_at else result.runs,
        drill,
        found.messages if found is not None else (),
        others,
    )


def hunted(name: str, whole: bool = False) -> tuple[str, dict[str, Any]]:
    """Hunt a mutant by its name; return what is kept of it, as JSON."""
    mutant = next(one for one in MUTANTS if one.name == name)
    try:
        found = hunt(mutant, whole=whole)
    except CannotRun as error:
        return name, {"caught": False, "runs": 1, "others": [str(error)]}
    kept = {"caught": found.caught, "runs": found.runs, "drill": found.drill.to_json(), "others": list(found.others)}
    return name, kept
