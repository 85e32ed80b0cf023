"""Hunting a broken client: the suite runs on it until its rule is broken."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hobbyhorse.conformance.client.cases import CALLABLE_KINDS, FALLBACK_KINDS, RESUMED_KINDS, Case, case_of
from hobbyhorse.conformance.client.search import CannotRun, CaseRunner, Plan, Progress, Search
from hobbyhorse.conformance.judge import BROKEN
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract
from hobbyhorse.runners.against_fake import CallableRunner, CommandRunner, FakeSession

from .mutants import MUTANTS, Mutant, load

# Runs of a mutant: the last of them are caught after the variations, by faults that apply to every request.
MOST = 500
# The speed of the fake's clock for commands, and how many of them run concurrently.
SPEED, PARALLEL = 50.0, 4


@dataclass(frozen=True, slots=True)
class Hunt:
    """The result of a hunt: the runs until the rule was broken, the case that broke it, and other broken rules."""

    caught: bool
    runs: int
    case: Case
    messages: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@cache
def contracts() -> dict[str, Contract]:
    """Return the contracts by their keys."""
    return {contract.key: contract for contract in load_all()}


@contextmanager
def running(mutant: Mutant, source: str) -> Iterator[CaseRunner]:
    """Yield a runner of cases for a mutant's source, or for the source of its working client."""
    contract = contracts()[mutant.provider]
    if mutant.kind == "python":
        second = None if mutant.second is None else contracts()[mutant.second]
        also = None if second is None else (second, second.models[0])
        with FakeSession(contract, contract.models[0], second=also) as session:
            yield CallableRunner(session, load(mutant.name, source))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "client.py")
        file.write_text(source)
        argv = [sys.executable, str(file)]
        with FakeSession(contract, contract.models[0], clock="real", speed=SPEED, pace="fast") as session:
            yield CommandRunner(session, argv, [*argv, "--resume"], parallel=PARALLEL)


def hunt(mutant: Mutant, runs: int = MOST, rules: Sequence[str] = (), whole: bool = False) -> Hunt:
    """Run the suite on a mutant until its rule is broken, or with `whole` to the end."""
    contract = contracts()[mutant.provider]
    broken_at: list[int] = []

    def note(progress: Progress) -> None:
        if mutant.rule in progress.broken and not broken_at:
            broken_at.append(progress.runs)

    kinds: tuple[str, ...] = CALLABLE_KINDS if mutant.kind == "python" else RESUMED_KINDS
    kinds = kinds if mutant.second is None else FALLBACK_KINDS
    until = frozenset() if whole else frozenset({mutant.rule})
    with running(mutant, mutant.source) as run_cases:
        search = Search(contract, run_cases, Plan(runs, 0, tuple(rules), kinds, until), note)
        search.second = None if mutant.second is None else contracts()[mutant.second]
        result = search.run(mutant.name, contract.models[0].id)
    own = next(one for one in result.verdicts if one.rule.id == mutant.rule)
    others = tuple(f"{one.rule.id}: {one.findings[0].messages[0]}" for one in result.broken if one is not own)
    found = own.findings[0] if own.verdict == BROKEN else None
    case = case_of(found.trace) if found is not None else Case()
    return Hunt(
        found is not None,
        broken_at[0] if broken_at else result.runs,
        case,
        found.messages if found is not None else (),
        others,
    )


def hunted(name: str, whole: bool = False) -> tuple[str, dict[str, Any]]:
    """Hunt a mutant by its name, and return its entry in caught.json."""
    mutant = next(one for one in MUTANTS if one.name == name)
    try:
        found = hunt(mutant, whole=whole)
    except CannotRun as error:
        return name, {"caught": False, "runs": 1, "others": [str(error)]}
    kept = {"caught": found.caught, "runs": found.runs, "drill": found.case.to_json(), "others": list(found.others)}
    return name, kept
