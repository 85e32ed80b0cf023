"""Scenarios: named sets of faults, read from JSON and checked against contracts. No server, no HTTP."""

from __future__ import annotations

import difflib
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.forms.expressions import format_pointer
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.fault import CALLBACK, MEDIA, TIMELINE, Fault
from hobbyhorse.scenarios.reference import schema
from hobbyhorse.scenarios.registry import faults_at, faults_of, refusal_fault

SCHEMA = "scenario.schema.json"
# Suggestions for an unknown name. The catalogue has families of similar names, so one is often not the right one.
NEAREST = 3


class ScenarioError(ValueError):
    """A scenario that cannot be used: an unknown name, an invalid file, or no provider to which it applies."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.code, self.message, self.hint = code, message, hint


@dataclass(frozen=True, slots=True)
class Move:
    """One fault: its kind, the number of consecutive requests that meet it (None: all), and its options.

    With `accepted`, the operation takes effect although its response is faulty.
    """

    kind: str
    times: int | None = 1
    accepted: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fault in the form of a scenario file."""
        written: dict[str, Any] = {"move": self.kind}
        if self.times != 1:
            written["times"] = "always" if self.times is None else self.times
        if self.accepted:
            written["accepted"] = True
        return {**written, **self.options}

    def __str__(self) -> str:
        options = ", ".join(f"{name} {value}" for name, value in self.to_json().items() if name != "move")
        return f"{self.kind} ({options})" if options else self.kind


@dataclass(frozen=True, slots=True)
class Trouble:
    """The timeline fault of a job: its kind and options."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fault in the form of a scenario file."""
        return {"move": self.kind, **self.options}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named set of faults: by role, and for the job's timeline; `why` is the bug that it finds, in one sentence."""

    name: str
    why: str = ""
    moves: Mapping[str, tuple[Move, ...]] = field(default_factory=dict)
    timeline: Trouble | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the scenario in the form of its file, which `read_scenario` reads."""
        written: dict[str, Any] = {"why": self.why} if self.why else {}
        if self.moves:
            written["moves"] = {role: [move.to_json() for move in moves] for role, moves in self.moves.items()}
        if self.timeline is not None:
            written["timeline"] = self.timeline.to_json()
        return written


Catalogue = Mapping[str, Scenario]
"""Scenarios by name."""


@cache
def _schemas() -> Schemas:
    # Generated, not read: the file beside the fixtures is for other tools.
    return Schemas({SCHEMA: schema()})


def read_scenario(value: Any, name: str = "inline", where: str = "") -> Scenario:
    """Read a scenario from JSON; `where` is its file. Raises ScenarioError with the pointer and the allowed values."""
    before = f"{where}: " if where else ""
    for violation in _schemas().violations(f"{SCHEMA}#", value, most=1):
        pointer = format_pointer(tuple(map(str, violation.location)))
        raise ScenarioError(
            "invalid_scenario",
            f"{before}{pointer or 'the scenario'}: {violation.message}",
            "docs/scenarios.md documents the format",
        )
    moves = {
        role: tuple(_read_move(move, role, f"{before}/moves/{role}/{index}") for index, move in enumerate(found))
        for role, found in value.get("moves", {}).items()
    }
    timeline = value.get("timeline")
    if timeline is not None:
        _check_options(faults_at(TIMELINE)[timeline["move"]], timeline, f"{before}/timeline")
        timeline = Trouble(timeline["move"], {name: option for name, option in timeline.items() if name != "move"})
    return Scenario(name, value.get("why", ""), moves, timeline)


def _read_move(written: Mapping[str, Any], role: str, where: str) -> Move:
    fault = faults_of(role).get(written["move"])
    # On an operation, an unknown name may be a situation of some contract: `misfits` finds out.
    if fault is None and role in (MEDIA, CALLBACK):
        raise _unknown_move(written["move"], role, where, tuple(faults_of(role)))
    _check_options(fault or refusal_fault(), written, where)
    times = written.get("times", 1)
    options = {name: value for name, value in written.items() if name not in ("move", "times", "accepted")}
    return Move(written["move"], None if times == "always" else times, written.get("accepted", False), options)


def _check_options(fault: Fault, written: Mapping[str, Any], where: str) -> None:
    allowed = [option.name for option in fault.options]
    if TIMELINE not in fault.stands:
        allowed.append("times")
    if unknown := [name for name in written if name != "move" and name not in allowed]:
        raise ScenarioError(
            "invalid_scenario",
            f"{where}/{unknown[0]}: {written['move']!r} has no option {unknown[0]!r}",
            f"allowed: {', '.join(allowed) or 'none'}",
        )
    if (invalid := fault.invalid(written)) is not None:
        raise ScenarioError("invalid_scenario", f"{where}/{invalid.option}: {invalid.message}", invalid.hint)


def _unknown_move(got: str, role: str, where: str, allowed: Sequence[str]) -> ScenarioError:
    return ScenarioError(
        "invalid_scenario", f"{where}/move: {role} has no move {got!r}", f"allowed: {', '.join(sorted(allowed))}"
    )


def load_catalogue(directories: Sequence[Path] = ()) -> Catalogue:
    """Load the project's scenarios, then those in `directories`; a later file replaces one of the same name.

    Raises ScenarioError if a path is not a directory or a file is not a valid scenario.
    """
    found: dict[str, Scenario] = {}
    for directory in (data_directory("fixtures") / "scenarios", *directories):
        if not directory.is_dir():
            raise ScenarioError(
                "invalid_scenario", f"{str(directory)!r} is not a directory", "give a directory of NAME.json files"
            )
        for path in sorted(directory.glob("*.json")):
            try:
                value = orjson.loads(path.read_bytes().removeprefix(BOM_UTF8))
            except (OSError, orjson.JSONDecodeError) as error:
                raise ScenarioError("invalid_scenario", f"{path}: cannot be read as JSON: {error}", "") from None
            found[path.stem] = read_scenario(value, path.stem, str(path))
    return dict(sorted(found.items()))


def find(catalogue: Catalogue, name: str) -> Scenario:
    """Return a scenario by name. Raises ScenarioError with the three nearest names."""
    if (scenario := catalogue.get(name)) is not None:
        return scenario
    # A cutoff of 0 always yields suggestions. The name is cut because it may come from a header or a prompt.
    nearest = difflib.get_close_matches(name, catalogue, NEAREST, cutoff=0.0)
    raise ScenarioError(
        "unknown_scenario", f"there is no scenario {name[:80]!r}", f"the nearest are {', '.join(nearest)}"
    )


def misfits(scenario: Scenario, contract: Contract) -> list[str]:
    """Return the reasons why a scenario does not apply to a contract, one line each; empty if it does."""
    found = []
    for role, moves in scenario.moves.items():
        operation = contract.operations.get(role)
        if role == CALLBACK:
            if contract.callbacks is None:
                found.append(f"{contract.key} sends no callbacks")
                continue
            found += [reason for move in moves for reason in _misfits_fault(faults_of(role)[move.kind], move, contract)]
        elif operation is not None:
            found += [reason for move in moves for reason in _misfits_move(move, operation, contract)]
        # Every provider serves files, which are not an operation of its contract.
        elif role != MEDIA:
            found.append(f"{contract.key} has no operation {role!r}; it has {', '.join(contract.operations)}")
    if scenario.timeline is not None:
        found += _misfits_fault(faults_at(TIMELINE)[scenario.timeline.kind], scenario.timeline, contract)
    return found


def _misfits_fault(
    fault: Fault, one: Move | Trouble, contract: Contract, operation: Operation | None = None
) -> Iterator[str]:
    return fault.misfits(fault, contract, operation, fault.complete(one.options))


def _misfits_move(move: Move, operation: Operation, contract: Contract) -> Iterator[str]:
    fault = faults_of(operation.role).get(move.kind)
    where = f"{contract.key} {operation.role}"
    if fault is None:
        if move.kind not in operation.situations:
            named = (*faults_of(operation.role), *operation.situations)
            near = difflib.get_close_matches(move.kind, named, NEAREST, cutoff=0.0)
            yield f"{where} has no move and no situation {move.kind!r}; the nearest are {', '.join(near)}"
        elif operation.situations[move.kind].stages and operation.situations[move.kind].status < 300:
            yield f"{where}: the situation {move.kind!r} shows a job; as a move, a situation must be a refusal"
        return
    yield from _misfits_fault(fault, move, contract, operation)
    if fault.needs is not None:
        reason = fault.needs.misfit(fault.name, move.options, operation)
        if reason is not None:
            yield f"{where}: {reason}"
