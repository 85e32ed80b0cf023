"""Scenarios: how the server is to differ from a happy one, read from JSON; knows contracts, no server and no HTTP."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, resolve
from hobbyhorse.contract.lifecycle import Graph, Stage
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Callbacks, Contract, Operation
from hobbyhorse.scenarios.moves import CALLBACK, EVERY, MEDIA, SITUATION, TIMELINE, Kind, kinds

SCHEMA = "scenario.schema.json"
NEAREST = 3
NO_BODY = (204, 205, 304)
KEY_VALUES = {"submit": "job", "status": "stage", "result": "video_url", "run": "video_url", "model": "model"}
"""The bound name of the field that a role's answer is read for: what a field move changes if it names none."""
CLASSES = {"fail": "failure", "expire": "expired", "cancel": "cancelled"}


class ScenarioError(ValueError):
    """A scenario that cannot be: an unknown name, a broken file, or one that no provider can play."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.code, self.message, self.hint = code, message, hint


@dataclass(frozen=True, slots=True)
class Move:
    """One move: its kind, how many requests in a row meet it (None: every one), its options.

    `accepted` says whether the operation takes effect all the same.
    """

    kind: str
    times: int | None = 1
    accepted: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the move as a scenario file has it."""
        said: dict[str, Any] = {"move": self.kind}
        if self.times != 1:
            said["times"] = "always" if self.times is None else self.times
        if self.accepted:
            said["accepted"] = True
        return {**said, **self.options}

    def __str__(self) -> str:
        options = ", ".join(f"{name} {value}" for name, value in self.to_json().items() if name != "move")
        return f"{self.kind} ({options})" if options else self.kind


@dataclass(frozen=True, slots=True)
class Trouble:
    """What becomes of the job: a kind of the timeline's moves, and its options."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the timeline as a scenario file has it."""
        return {"move": self.kind, **self.options}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named difference from the happy server: moves by role, and what becomes of the job."""

    name: str
    why: str = ""
    moves: Mapping[str, tuple[Move, ...]] = field(default_factory=dict)
    timeline: Trouble | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the scenario as its file has it; `read_scenario` reads it back."""
        said: dict[str, Any] = {"why": self.why} if self.why else {}
        if self.moves:
            said["moves"] = {role: [move.to_json() for move in moves] for role, moves in self.moves.items()}
        if self.timeline is not None:
            said["timeline"] = self.timeline.to_json()
        return said


Catalogue = Mapping[str, Scenario]
"""Scenarios by name."""


@cache
def _schemas() -> Schemas:
    return Schemas({SCHEMA: orjson.loads((data_directory("fixtures") / SCHEMA).read_bytes())})


def read_scenario(value: Any, name: str = "inline", where: str = "") -> Scenario:
    """Read a scenario; `where` is its file. Raises ScenarioError with the pointer and what is allowed there."""
    before = f"{where}: " if where else ""
    for violation in _schemas().violations(f"{SCHEMA}#", value, most=1):
        pointer = format_pointer(tuple(map(str, violation.location)))
        raise ScenarioError(
            "invalid_scenario",
            f"{before}{pointer or 'the scenario'}: {violation.message}",
            "docs/scenarios.md lists the moves and their options",
        )
    moves = {
        role: tuple(_read_move(move, role, f"{before}/moves/{role}/{index}") for index, move in enumerate(found))
        for role, found in value.get("moves", {}).items()
    }
    timeline = value.get("timeline")
    if timeline is not None:
        _check_options(TIMELINE[timeline["move"]], timeline, f"{before}/timeline")
        timeline = Trouble(timeline["move"], {name: said for name, said in timeline.items() if name != "move"})
    return Scenario(name, value.get("why", ""), moves, timeline)


def _read_move(said: Mapping[str, Any], role: str, where: str) -> Move:
    kind = kinds(role).get(said["move"])
    if kind is None and role in (MEDIA, CALLBACK):
        raise _unknown_move(said["move"], role, where, tuple(kinds(role)))
    _check_options(kind or SITUATION, said, where)
    if said["move"] == "html_page" and said.get("status") in NO_BODY:
        message = f"{where}/status: an answer with {said['status']} has no body, so no page"
        raise ScenarioError("invalid_scenario", message, "empty_body has it")
    times = said.get("times", 1)
    options = {name: value for name, value in said.items() if name not in ("move", "times", "accepted")}
    return Move(said["move"], None if times == "always" else times, said.get("accepted", False), options)


def _check_options(kind: Kind, said: Mapping[str, Any], where: str) -> None:
    allowed = (*kind.options, *(EVERY if kind.family != "timeline" else ()))
    if unknown := [name for name in said if name != "move" and name not in allowed]:
        raise ScenarioError(
            "invalid_scenario",
            f"{where}/{unknown[0]}: {said['move']!r} takes no {unknown[0]!r}",
            f"it takes {', '.join(allowed) or 'no options'}",
        )


def _unknown_move(got: str, role: str, where: str, allowed: Sequence[str]) -> ScenarioError:
    return ScenarioError(
        "invalid_scenario", f"{where}/move: {role} has no move {got!r}", f"allowed are {', '.join(sorted(allowed))}"
    )


def load_catalogue(directories: Sequence[Path] = ()) -> Catalogue:
    """Load the project's own scenarios and those of other directories; a later one of the same name counts.

    Raises ScenarioError for a directory that is none, and for a file that is no scenario.
    """
    found: dict[str, Scenario] = {}
    for directory in (data_directory("fixtures") / "scenarios", *directories):
        if not directory.is_dir():
            raise ScenarioError("invalid_scenario", f"{str(directory)!r} is no directory", "it holds NAME.json files")
        for path in sorted(directory.glob("*.json")):
            try:
                value = orjson.loads(path.read_bytes())
            except (OSError, orjson.JSONDecodeError) as error:
                raise ScenarioError("invalid_scenario", f"{path}: cannot be read as JSON: {error}", "") from None
            found[path.stem] = read_scenario(value, path.stem, str(path))
    return dict(sorted(found.items()))


def find(catalogue: Catalogue, name: str) -> Scenario:
    """Return a scenario by name. Raises ScenarioError with the three nearest names."""
    if (scenario := catalogue.get(name)) is not None:
        return scenario
    nearest = difflib.get_close_matches(name, catalogue, NEAREST, cutoff=0.0)
    raise ScenarioError("unknown_scenario", f"no scenario {name[:80]!r}", f"the nearest are {', '.join(nearest)}")


def misfits(scenario: Scenario, contract: Contract) -> list[str]:
    """Return why a scenario cannot be played on a contract, in one line each; nothing if it can."""
    found = []
    for role, moves in scenario.moves.items():
        operation = contract.operations.get(role)
        if role == CALLBACK:
            if contract.callbacks is None:
                found.append(f"{contract.key} sends no callbacks")
                continue
            found += [said for move in moves for said in _misfits_callback(move, contract)]
        elif operation is not None:
            found += [said for move in moves for said in _misfits_move(move, operation, contract)]
        elif role != MEDIA:
            found.append(f"{contract.key} has no operation {role!r}; it has {', '.join(contract.operations)}")
    if scenario.timeline is not None:
        found += _misfits_timeline(scenario.timeline, contract)
    return found


def _misfits_callback(move: Move, contract: Contract) -> Iterator[str]:
    signature = contract.callbacks.signature if contract.callbacks else None
    if move.kind in ("forged", "unsigned") and signature is None:
        yield f"{contract.key} does not sign its callbacks: {move.kind!r}"
    if move.kind == "stale" and (signature is None or signature.tolerance is None):
        yield f"a signature of {contract.key} has no age: 'stale'"
    if move.kind == "null_payload" and contract.callbacks is not None and not payload_places(contract.callbacks):
        yield f"a callback of {contract.key} says nothing but that a job has ended: 'null_payload'"


def payload_places(callbacks: Callbacks) -> list[Pointer]:
    """Return where a callback's message has anything but the job's id, its stage and what tells messages apart."""
    bound = [binding for name, binding in callbacks.bindings.items() if name not in CONSTANT | {"job"}]
    return [place.pointer for binding in bound for place in binding.request if place.part == "body"]


def _misfits_move(move: Move, operation: Operation, contract: Contract) -> Iterator[str]:
    kind = kinds(operation.role).get(move.kind)
    where = f"{contract.key} {operation.role}"
    if kind is None:
        if move.kind not in operation.situations:
            named = (*kinds(operation.role), *operation.situations)
            near = difflib.get_close_matches(move.kind, named, NEAREST, cutoff=0.0)
            yield f"{where} has no move and no situation {move.kind!r}; the nearest are {', '.join(near)}"
        elif operation.situations[move.kind].stages and operation.situations[move.kind].status < 300:
            yield f"{where}: the situation {move.kind!r} shows a job; a move answers with one that refuses"
        return
    situation = move.options.get("situation", "server_error" if move.kind == "error_envelope" else None)
    if situation is not None and situation not in operation.situations:
        yield f"{where} has no situation {situation!r}; it has {', '.join(operation.situations)}"
    shown = {stage for situation in operation.situations.values() for stage in situation.stages}
    if move.kind == "regress" and (operation.role == "submit" or contract.graph.initial not in shown):
        yield f"{where} never shows a job in its first stage again: 'regress'"
    if kind.names and not any(_has(operation, name) for name in kind.names):
        yield f"{where}: no answer has an address that {move.kind!r} changes, such as {kind.names[0]!r}"
    if kind.family == "field":
        name = kind.needs or field_of(move, operation.role)
        if name is None:
            yield f"{where}: {move.kind!r} has to name the value of a field"
        elif not _has(operation, name):
            yield f"{where}: no answer has the value {name!r}"


def field_of(move: Move, role: str) -> str | None:
    """Return the bound name of the field that a move on a role changes."""
    name: str | None = move.options.get("value") or KEY_VALUES.get(role)
    return name


def _has(operation: Operation, name: str) -> bool:
    """Whether an answer that is no error shows a bound value somewhere."""
    binding = operation.bindings.get(name)
    examples = [found.template.example for found in operation.situations.values() if found.status < 300]
    places = [place for place in binding.response if place.part == "body"] if binding else []
    return any(resolve(example, place.pointer) is not MISSING for example in examples for place in places)


def _misfits_timeline(trouble: Trouble, contract: Contract) -> Iterator[str]:
    if trouble.kind in CLASSES or trouble.kind == "stuck":
        try:
            stage_of(trouble, contract.graph)
        except ScenarioError as error:
            yield f"{contract.key} {error.message}"


def stage_of(trouble: Trouble, graph: Graph) -> Stage:
    """Return the stage in which a troubled job ends, or stays. Raises ScenarioError if the contract has none such."""
    wanted = trouble.options.get("stage")
    way = [graph[name] for name in graph.path(graph.initial)]
    if trouble.kind == "stuck":
        open_stages = [stage for stage in graph if not stage.terminal]
        of_class = [stage for stage in way if stage.kind == (wanted or way[0].kind) and not stage.terminal]
        named = [stage for stage in open_stages if stage.name == wanted]
        found = named or (of_class[-1:] if trouble.options.get("last") else of_class)
        allowed = open_stages
    else:
        allowed = [stage for stage in graph if stage.kind == CLASSES[trouble.kind]]
        found = [stage for stage in allowed if wanted in (None, stage.name, stage.kind)]
    if found:
        return found[0]
    raise ScenarioError(
        "not_applicable",
        f"has no stage {wanted or CLASSES.get(trouble.kind, 'pending')!r} to {trouble.kind} in; "
        f"possible are {', '.join(stage.name for stage in allowed) or 'none'}",
        "",
    )
