"""Scenarios: named sets of faults, read from JSON and checked against contracts. No server, no HTTP."""

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
# Suggestions for an unknown name. The catalogue has families of similar names, so one is often not the right one.
NEAREST = 3
# The statuses whose responses have no body (RFC 9110, sections 15.3.5, 15.3.6, 15.4.5): an HTML page cannot have them.
NO_BODY = (204, 205, 304)
KEY_VALUES = {"submit": "job", "status": "stage", "result": "video_url", "run": "video_url", "model": "model"}
"""The bound name that clients read each role's response for: the field that a field fault changes by default."""
CLASSES = {"fail": "failure", "expire": "expired", "cancel": "cancelled"}
"""The class of the stage in which each of these timeline faults ends a job."""


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
    return Schemas({SCHEMA: orjson.loads((data_directory("fixtures") / SCHEMA).read_bytes())})


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
        _check_options(TIMELINE[timeline["move"]], timeline, f"{before}/timeline")
        timeline = Trouble(timeline["move"], {name: option for name, option in timeline.items() if name != "move"})
    return Scenario(name, value.get("why", ""), moves, timeline)


def _read_move(written: Mapping[str, Any], role: str, where: str) -> Move:
    kind = kinds(role).get(written["move"])
    # On an operation, an unknown name may be a situation of some contract: `misfits` finds out.
    if kind is None and role in (MEDIA, CALLBACK):
        raise _unknown_move(written["move"], role, where, tuple(kinds(role)))
    _check_options(kind or SITUATION, written, where)
    if written["move"] == "html_page" and written.get("status") in NO_BODY:
        message = f"{where}/status: a response with status {written['status']} has no body, so it cannot be a page"
        raise ScenarioError("invalid_scenario", message, "use the move 'empty_body'")
    times = written.get("times", 1)
    options = {name: value for name, value in written.items() if name not in ("move", "times", "accepted")}
    return Move(written["move"], None if times == "always" else times, written.get("accepted", False), options)


def _check_options(kind: Kind, written: Mapping[str, Any], where: str) -> None:
    allowed = (*kind.options, *(EVERY if kind.family != "timeline" else ()))
    if unknown := [name for name in written if name != "move" and name not in allowed]:
        raise ScenarioError(
            "invalid_scenario",
            f"{where}/{unknown[0]}: {written['move']!r} has no option {unknown[0]!r}",
            f"allowed: {', '.join(allowed) or 'none'}",
        )


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
                value = orjson.loads(path.read_bytes())
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
            found += [reason for move in moves for reason in _misfits_callback(move, contract)]
        elif operation is not None:
            found += [reason for move in moves for reason in _misfits_move(move, operation, contract)]
        # Every provider serves files, which are not an operation of its contract.
        elif role != MEDIA:
            found.append(f"{contract.key} has no operation {role!r}; it has {', '.join(contract.operations)}")
    if scenario.timeline is not None:
        found += _misfits_timeline(scenario.timeline, contract)
    return found


def _misfits_callback(move: Move, contract: Contract) -> Iterator[str]:
    signature = contract.callbacks.signature if contract.callbacks else None
    if move.kind in ("forged", "unsigned") and signature is None:
        yield f"{contract.key} does not sign its callbacks, as {move.kind!r} requires"
    if move.kind == "stale" and (signature is None or signature.tolerance is None):
        yield f"the signatures of {contract.key} do not expire, as 'stale' requires"
    if move.kind == "null_payload" and contract.callbacks is not None and not payload_places(contract.callbacks):
        yield f"a callback of {contract.key} has no payload beyond job and stage, as 'null_payload' requires"


def payload_places(callbacks: Callbacks) -> list[Pointer]:
    """Return the pointers to everything in a callback but the job's id, its stage and the event."""
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
            yield f"{where}: the situation {move.kind!r} shows a job; as a move, a situation must be a refusal"
        return
    situation = move.options.get("situation", "server_error" if move.kind == "error_envelope" else None)
    if situation is not None and situation not in operation.situations:
        yield f"{where} has no situation {situation!r}; it has {', '.join(operation.situations)}"
    shown = {stage for situation in operation.situations.values() for stage in situation.stages}
    if move.kind == "regress" and (operation.role == "submit" or contract.graph.initial not in shown):
        yield f"{where} never shows a job in its first stage again, as 'regress' requires"
    if kind.names and not any(_has(operation, name) for name in kind.names):
        yield f"{where}: no response has a URL that {move.kind!r} changes, such as {kind.names[0]!r}"
    if kind.family == "field":
        name = kind.needs or field_of(move, operation.role)
        if name is None:
            yield f"{where}: {move.kind!r} needs the option 'value' here"
        elif not _has(operation, name):
            yield f"{where}: no response has the value {name!r}"


def field_of(move: Move, role: str) -> str | None:
    """Return the bound name of the field that a fault on a role changes, or None."""
    name: str | None = move.options.get("value") or KEY_VALUES.get(role)
    return name


def _has(operation: Operation, name: str) -> bool:
    """Whether any successful response shows a bound value."""
    # By the documented examples: a schema may allow a field that no response has.
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
    """Return the stage in which a timeline fault ends or keeps a job. Raises ScenarioError if the contract has none."""
    wanted = trouble.options.get("stage")
    path = [graph[name] for name in graph.path(graph.initial)]
    if trouble.kind == "stuck":
        open_stages = [stage for stage in graph if not stage.terminal]
        of_class = [stage for stage in path if stage.kind == (wanted or path[0].kind) and not stage.terminal]
        # A stage's own name wins over its class: a contract may call a stage of another class "running".
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
        f"allowed: {', '.join(stage.name for stage in allowed) or 'none'}",
        "",
    )
