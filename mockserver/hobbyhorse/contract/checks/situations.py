"""Checks of situations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hobbyhorse.contract.checks.subject import Problem, Subject
from hobbyhorse.contract.documents.operations import OPENAPI, follow
from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer, resolve
from hobbyhorse.contract.schemas import address
from hobbyhorse.contract.values import Contract, Operation, Situation

NEEDED_SITUATIONS: Mapping[str, tuple[str, ...]] = {
    "submit": ("accepted", "invalid_request"),
    "run": ("invalid_request",),
    "status": ("unknown_job",),
    "result": ("unknown_job",),
    "cancel": ("unknown_job",),
    "operator_cancel": ("forbidden",),
    "redeliver": ("redelivered", "unknown_job"),
    "list": ("listed",),
    "models": ("listed",),
    "model": ("found", "unknown_model"),
    "categories": ("listed",),
    "health": ("healthy",),
}
"""The situations that each role requires."""

SHOWING = ("status", "result", "cancel", "run")
"""The roles that show the current state of a job."""

NEEDED_FOR_REPLAY = ("replayed", "key_in_flight", "key_mismatch")


def needed_situations(subject: Subject) -> Iterator[Problem]:
    """An operation has every situation that its role, its security and its parameters can cause."""
    for role, operation in subject.contract.operations.items():
        needed = [*NEEDED_SITUATIONS[role], *(["unauthenticated"] if operation.authenticated else [])]
        if role == "submit" and subject.contract.idempotency.mode == "replay":
            needed += NEEDED_FOR_REPLAY
        # A malformed path parameter is an unknown job; any other malformed parameter is an invalid request.
        if any(parameter.part != "path" for parameter in operation.parameters):
            needed.append("invalid_request")
        for name in dict.fromkeys(needed):
            if name not in operation.situations:
                message = f"needs situation {name!r}: add it here, or declare the common one's response in {OPENAPI}"
                yield subject.problem(message, "operations", role)


def covered_stages(subject: Subject) -> Iterator[Problem]:
    """An operation that shows jobs has exactly one situation without a condition for each stage."""
    for role, operation in subject.contract.operations.items():
        at = ("operations", role, "situations")
        plain = [situation for situation in operation.situations.values() if not situation.when]
        for stage in _shown(subject.contract, operation):
            showing = [situation.name for situation in plain if stage in situation.stages]
            if not showing:
                yield subject.problem(f"no situation for stage {stage!r}", *at)
            elif len(showing) > 1:
                message = f"stage {stage!r} has {' and '.join(showing)}; only one can be sent"
                yield subject.problem(message, *at)


def _shown(contract: Contract, operation: Operation) -> list[str]:
    """Return the stages for which an operation must have a situation."""
    if operation.role in ("status", "result"):
        return [stage.name for stage in contract.graph]
    if operation.role == "cancel":
        return [stage.name for stage in contract.graph if not stage.cancellable]
    if operation.role == "run":
        return [stage.name for stage in contract.graph.terminals() if stage.kind != "cancelled"]
    return []


def first_stage(subject: Subject) -> Iterator[Problem]:
    """A job that was just accepted is in the initial stage."""
    initial = subject.contract.graph.initial
    for name in ("accepted", "replayed"):
        situation = subject.contract.operations["submit"].situations.get(name)
        if situation is not None and situation.stages and initial not in situation.stages:
            message = f"is sent in stage {' and '.join(sorted(situation.stages))}, but a job begins in {initial!r}"
            yield subject.problem(message, *subject.situation_at("submit", name), "stages")


def conditions(subject: Subject) -> Iterator[Problem]:
    """Every condition is satisfiable, is stated together with stages, and is used by only one situation."""
    for role, operation in subject.contract.operations.items():
        situations = [situation for situation in operation.situations.values() if situation.when]
        for index, one in enumerate(situations):
            at = (*subject.situation_at(role, one.name), "when")
            for place, value in one.when:
                parameter = next((known for known in operation.parameters if known.place == place), None)
                for broken in subject.schemas.violations(parameter.schema, value, most=1) if parameter else ():
                    yield subject.problem(f"can never be true: {broken}", *at, str(place))
            # A condition without stages would apply to a job in any stage, even before the job exists.
            if role in SHOWING and not one.stages:
                yield subject.problem("has a condition but no stages; add 'stages'", *at)
            for other in situations[:index]:
                if one.when == other.when and (one.stages & other.stages or one.stages == other.stages):
                    yield subject.problem(f"has the same condition as {other.name!r}; only one can be sent", *at)


def stage_words(subject: Subject) -> Iterator[Problem]:
    """A stage word of the status operation means the same stages in every operation."""
    meaning: dict[str, set[str]] = {}
    status = subject.contract.operations["status"]
    for situation in status.situations.values():
        for word in _words(subject, status, subject.example(situation)):
            meaning.setdefault(word, set()).update(situation.stages)
    for role, operation in subject.contract.operations.items():
        for situation in operation.situations.values():
            for word in _words(subject, operation, subject.example(situation)) if situation.stages else ():
                # A client reads the stage from the word alone, in whichever response the word appears.
                if meaning.get(word) and not meaning[word] & situation.stages:
                    at = (*subject.situation_at(role, situation.name), "example")
                    yield subject.problem(_means(word, meaning), *at)
        for stage, shown in _item_words(subject, operation):
            for word in shown:
                if meaning.get(word) and stage not in meaning[word]:
                    yield subject.problem(_means(word, meaning), "operations", role, "items", "stages", stage)


def _words(subject: Subject, operation: Operation, example: Any) -> list[str]:
    binding = operation.bindings.get("stage")
    found = [resolve(example, place.pointer) for place in (binding.response if binding else ())]
    return [word for word in found if isinstance(word, str)]


def _item_words(subject: Subject, operation: Operation) -> Iterator[tuple[str, list[str]]]:
    """Yield every stage of a list with the stage words of its items."""
    items = operation.items
    if items is None:
        return
    places = items.bindings["stage"].response if "stage" in items.bindings else ()
    for stage, index in items.stages.items():
        shown = [resolve(example, (*items.at.pointer, str(index))) for example in subject.examples(operation.role)]
        words = [resolve(item, place.pointer) for item in shown for place in places]
        yield stage, [word for word in words if isinstance(word, str)]


def _means(word: str, meaning: Mapping[str, set[str]]) -> str:
    return f"the example has the stage word {word!r}, which means {' or '.join(sorted(meaning[word]))} in status"


def common_situations(subject: Subject) -> Iterator[Problem]:
    """Every common situation applies to at least one operation."""
    for name, spec in subject.lifecycle.get("situations", {}).items():
        if "status" not in spec:
            yield subject.problem("has no status; add 'status'", "situations", name)
        elif not any(name in operation.situations for operation in subject.contract.operations.values()):
            message = f"no operation declares a response {spec['status']} with the example {spec['example']!r}"
            yield subject.problem(message, "situations", name)


def headers(subject: Subject) -> Iterator[Problem]:
    """A situation sends only headers that its response declares, in printable ASCII."""
    for role, operation in subject.contract.operations.items():
        for situation in operation.situations.values():
            known = _declared_headers(subject, situation)
            for name, text in situation.headers:
                at = (*subject.situation_at(role, situation.name), "headers", name)
                schema = known.get(name.lower())
                if schema is None:
                    message = f"response {situation.status} of {operation.operation_id} does not declare this header"
                    yield subject.problem(message, *at)
                elif subject.schemas.at(schema) is not MISSING:
                    for broken in subject.schemas.text_violations(schema, text, most=1):
                        yield subject.problem(f"is invalid against its schema: {broken.message}", *at)
                # A line break in a header would split the response.
                if not (text.isascii() and text.isprintable()):
                    yield subject.problem(f"{text!r} is not a header value; allowed: printable ASCII", *at)


def _declared_headers(subject: Subject, situation: Situation) -> dict[str, str]:
    """Return the headers that a situation's response declares: lower-case names, and the address of each schema."""
    # The schema is at RESPONSE/content/application~1json/schema.
    response = parse_pointer(situation.schema.partition("#")[2])[:-3]
    openapi, found = subject.schemas.document(OPENAPI), {}
    declared = resolve(openapi, (*response, "headers"))
    for name, header in declared.items() if isinstance(declared, dict) else ():
        _, home = follow(openapi, header, (*response, "headers", name))
        found[name.lower()] = address(OPENAPI, (*home, "schema"))
    return found
