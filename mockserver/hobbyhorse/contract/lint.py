"""Every way in which a readable contract can still be wrong: a table of checks, each with its own message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs

from hobbyhorse.contract.folder import LIFECYCLE, OPENAPI, ContractError, data_directory, find_folders, load
from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.request import Refusal, find_model, read_order
from hobbyhorse.contract.values import Binding, Contract, Operation, Situation
from hobbyhorse.expressions import MISSING, Message, Pointer, format_pointer, parse_pointer, resolve

KEYWORDS = frozenset(
    "$schema $id $ref title description default example examples format type enum const properties required "
    "additionalProperties items minItems maxItems minLength maxLength pattern minimum maximum anyOf".split()
)
"""The schema keywords that contracts are confined to; contracts/README.md lists the same."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the file, the place in it, and what to do about it."""

    path: Path
    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}#{self.pointer}: {self.message}" if self.pointer else f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class Subject:
    """A contract under lint."""

    folder: Path
    contract: Contract

    def problem(self, message: str, *steps: str | int, file: str = LIFECYCLE) -> Problem:
        """Return a problem at a place of a file."""
        return Problem(self.folder / file, format_pointer(tuple(map(str, steps))), message)

    def document(self, file: str) -> Any:
        """Return a file's JSON."""
        return self.contract.schemas.document(file)


Check = Callable[[Subject], Iterator[Problem]]


def lint_directory(directory: Path | None = None) -> tuple[list[Path], list[Problem]]:
    """Lint every provider's folder of a directory; return the folders and what is wrong with them."""
    directory = directory or data_directory("contracts")
    folders = find_folders(directory)
    if not folders:
        return [], [Problem(directory, "", f"holds no contract; a contract is a folder with a {LIFECYCLE}")]
    return folders, [problem for folder in folders for problem in lint(folder)]


def lint(folder: Path) -> list[Problem]:
    """Lint one folder, each of its variants too."""
    try:
        contract = load(folder)
    except ContractError as error:
        return [Problem(folder, "", str(error))]
    problems = _check(Subject(folder, contract))
    for variant in contract.variants:
        try:
            varied = Subject(folder, load(folder, [variant.name]))
        except ContractError as error:
            problems.append(Problem(folder / LIFECYCLE, f"/variants/{variant.name}", str(error)))
            continue
        problems += [
            Problem(new.path, new.pointer, f"with variant {variant.name}: {new.message}")
            for new in _check(varied)
            if new not in problems
        ]
    return problems


def _check(subject: Subject) -> list[Problem]:
    """Run the checks; those that use schemas only where every schema can be used."""
    problems = [problem for check in DOCUMENT_CHECKS for problem in check(subject)]
    return problems or [problem for check in CHECKS for problem in check(subject)]


# ---- openapi.json and the schemas


def _openapi_version(subject: Subject) -> Iterator[Problem]:
    version = str(subject.document(OPENAPI).get("openapi", ""))
    if not version.startswith("3.1."):
        yield subject.problem(f"is OpenAPI {version or 'of no version'}; it must be 3.1", "openapi", file=OPENAPI)


def _servers(subject: Subject) -> Iterator[Problem]:
    if not subject.contract.hosts:
        yield subject.problem("no server has a host; clients with a fixed host cannot be served", file=OPENAPI)
    if not subject.contract.security:
        yield subject.problem("no security scheme; a key is what keeps tests apart", "components", file=OPENAPI)


def _no_code(subject: Subject) -> Iterator[Problem]:
    for path in sorted(subject.folder.rglob("*")):
        if path.is_file() and path.suffix != ".json":
            yield Problem(path, "", "a contract is data: only .json files may be here")


def _schemas(subject: Subject) -> Iterator[tuple[str, Pointer, Any]]:
    """Yield every schema of the folder with its file and place, subschemas included."""
    for model in sorted(subject.folder.glob("models/*.schema.json")):
        name = f"models/{model.name}"
        yield from _subschemas(name, (), subject.document(name))
    yield from _openapi_schemas((), subject.document(OPENAPI))


def _openapi_schemas(pointer: Pointer, value: Any) -> Iterator[tuple[str, Pointer, Any]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _openapi_schemas((*pointer, str(index)), item)
    elif isinstance(value, dict):
        for name, item in value.items():
            here = (*pointer, name)
            if name in ("example", "examples", "value"):
                continue
            if name == "schema":
                yield from _subschemas(OPENAPI, here, item)
            elif pointer == ("components",) and name == "schemas":
                for key, schema in item.items():
                    yield from _subschemas(OPENAPI, (*here, key), schema)
            else:
                yield from _openapi_schemas(here, item)


def _subschemas(file: str, pointer: Pointer, schema: Any) -> Iterator[tuple[str, Pointer, Any]]:
    yield file, pointer, schema
    if not isinstance(schema, dict):
        return
    for name, child in schema.get("properties", {}).items():
        yield from _subschemas(file, (*pointer, "properties", name), child)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from _subschemas(file, (*pointer, name), schema[name])
    for index, child in enumerate(schema.get("anyOf", ())):
        yield from _subschemas(file, (*pointer, "anyOf", str(index)), child)


def _keywords(subject: Subject) -> Iterator[Problem]:
    for file, pointer, schema in _schemas(subject):
        for name in sorted(set(schema) - KEYWORDS if isinstance(schema, dict) else ()):
            yield subject.problem(
                f"keyword {name!r} is not one that contracts use; see contracts/README.md", *pointer, name, file=file
            )


def _valid_schemas(subject: Subject) -> Iterator[Problem]:
    for file, pointer, schema in _schemas(subject):
        if isinstance(schema, dict) and "$ref" in schema:
            if subject.contract.schemas.deref(schema, file)[0] is MISSING:
                yield subject.problem(f"{schema['$ref']!r} leads nowhere", *pointer, "$ref", file=file)
        elif not jsonschema_rs.meta.is_valid(schema):
            yield subject.problem("is no valid JSON Schema 2020-12", *pointer, file=file)


def _defaults(subject: Subject) -> Iterator[Problem]:
    for file, pointer, schema in _schemas(subject):
        if not isinstance(schema, dict) or "default" not in schema:
            continue
        where = f"{file}#{format_pointer(pointer)}"
        for violation in subject.contract.schemas.violations(where, schema["default"], most=1):
            yield subject.problem(f"the default breaks its own schema: {violation}", *pointer, "default", file=file)


def _contents(pointer: Pointer, value: Any) -> Iterator[tuple[Pointer, Mapping[str, Any]]]:
    """Yield every media type object that has a schema, with its place."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _contents((*pointer, str(index)), item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "content" and isinstance(item, dict):
                for media_type, content in item.items():
                    yield (*pointer, name, media_type), content
            elif name not in ("examples", "schemas"):
                yield from _contents((*pointer, name), item)


def _examples(subject: Subject) -> Iterator[Problem]:
    for pointer, content in _contents((), subject.document(OPENAPI)):
        for name, example in content.get("examples", {}).items():
            schema = f"{OPENAPI}#{format_pointer((*pointer, 'schema'))}"
            for violation in subject.contract.schemas.violations(schema, example.get("value"), most=1):
                yield subject.problem(
                    f"the example breaks its schema: {violation}", *pointer, "examples", name, file=OPENAPI
                )


def _used_examples(subject: Subject) -> Iterator[Problem]:
    """Every example of an answer is some situation's, of a variant if not of the contract itself."""
    used = set()
    for name in (None, *(variant.name for variant in subject.contract.variants)):
        contract = load(subject.folder, [name] if name else [])
        used |= {situation.example_at for situation in _all_situations(contract)}
    for pointer, content in _contents((), subject.document(OPENAPI)):
        if "requestBody" in pointer and "callbacks" not in pointer:
            continue
        for name in content.get("examples", {}):
            if f"{OPENAPI}#{format_pointer((*pointer, 'examples', name, 'value'))}" not in used:
                yield subject.problem("no situation shows this example", *pointer, "examples", name, file=OPENAPI)


def _all_situations(contract: Contract) -> Iterator[Situation]:
    for operation in contract.operations.values():
        yield from operation.situations.values()
    yield from contract.unrouted.values()
    if contract.callbacks is not None:
        yield from contract.callbacks.situations.values()


# ---- the stages


def _graph(subject: Subject) -> Iterator[Problem]:
    graph = subject.contract.graph
    for stage in graph:
        if stage.terminal and stage.next:
            yield subject.problem(f"is terminal ({stage.kind}) and leads to {stage.next[0]!r}", "stages", stage.name)
        if not stage.terminal and not stage.next:
            yield subject.problem(f"is {stage.kind} and leads nowhere", "stages", stage.name)
        if not graph.leads_to(graph.initial, stage.name):
            yield subject.problem(f"cannot be reached from {graph.initial!r}", "stages", stage.name)
        if stage.lasts[0] > stage.lasts[1]:
            yield subject.problem(
                f"lasts at least {stage.lasts[0]} and at most {stage.lasts[1]}", "stages", stage.name, "lasts"
            )
    happy = graph.path(graph.initial)
    if graph[happy[-1]].kind != "success":
        yield subject.problem(
            f"a job that goes well ends as {happy[-1]!r}, a {graph[happy[-1]].kind}; the first of `next` decides",
            "stages",
        )


def _cancelling(subject: Subject) -> Iterator[Problem]:
    graph, operations = subject.contract.graph, subject.contract.operations
    cancellable = [stage for stage in graph if stage.cancellable]
    for stage in cancellable:
        if not any(graph[name].kind == "cancelled" for name in stage.next):
            yield subject.problem("is cancellable but leads to no cancelled stage", "stages", stage.name)
        if "cancel" not in operations:
            yield subject.problem("is cancellable, but there is no cancel operation", "stages", stage.name)
    if "cancel" in operations and not cancellable:
        yield subject.problem("no stage is cancellable", "operations", "cancel")


# ---- the operations


def _covered(contract: Contract, operation: Operation) -> list[str]:
    """Return the stages that an operation must have a situation for."""
    graph = contract.graph
    if operation.role in ("status", "result"):
        return [stage.name for stage in graph]
    if operation.role == "cancel":
        return [stage.name for stage in graph if not stage.cancellable]
    if operation.role == "run":
        return [stage.name for stage in graph.terminals() if stage.kind != "cancelled"]
    return []


def _stage_situations(subject: Subject) -> Iterator[Problem]:
    for operation in subject.contract.operations.values():
        at = ("operations", operation.role, "situations")
        plain = [situation for situation in operation.situations.values() if not situation.when]
        for stage in _covered(subject.contract, operation):
            showing = [situation.name for situation in plain if stage in situation.stages]
            if not showing:
                yield subject.problem(f"no situation for stage {stage!r}", *at)
            elif len(showing) > 1:
                yield subject.problem(f"stage {stage!r} has {' and '.join(showing)}; only one can be given", *at)


NEEDED: Mapping[str, tuple[str, ...]] = {
    "submit": ("accepted", "invalid_request"),
    "run": ("invalid_request",),
    "status": ("unknown_job",),
    "result": ("unknown_job",),
    "cancel": ("unknown_job",),
    "list": ("listed",),
    "models": ("listed",),
    "model": ("found", "unknown_model"),
    "categories": ("listed",),
    "health": ("healthy",),
}


def _needed_situations(subject: Subject) -> Iterator[Problem]:
    for role, operation in subject.contract.operations.items():
        needed = [*NEEDED[role], *(["unauthenticated"] if operation.authenticated else [])]
        if role == "submit" and subject.contract.idempotency.mode == "replay":
            needed += ["replayed", "key_in_flight", "key_mismatch"]
        if any(parameter.part != "path" for parameter in operation.parameters):
            needed.append("invalid_request")
        for name in dict.fromkeys(needed):
            if name not in operation.situations:
                yield subject.problem(
                    f"needs situation {name!r}: here, or among the common ones with its response declared in {OPENAPI}",
                    "operations",
                    role,
                )


def _common_situations(subject: Subject) -> Iterator[Problem]:
    for name in subject.document(LIFECYCLE).get("situations", {}):
        if not any(name in operation.situations for operation in subject.contract.operations.values()):
            yield subject.problem("no operation declares a response with this example", "situations", name)


def _situation_headers(subject: Subject) -> Iterator[Problem]:
    for role, operation in subject.contract.operations.items():
        for situation in operation.situations.values():
            response = parse_pointer(situation.schema.partition("#")[2])[:-3]
            declared = resolve(subject.document(OPENAPI), (*response, "headers"))
            known = {name.lower() for name in declared} if isinstance(declared, dict) else set()
            for name, _ in situation.headers:
                if name.lower() not in known:
                    yield subject.problem(
                        f"situation {situation.name!r} sends {name}, which its response does not declare",
                        "operations",
                        role,
                    )


def _bindings(subject: Subject) -> Iterator[Problem]:
    """Every response place is in at least one example, and every example's value is of its format."""
    for role, operation in subject.contract.operations.items():
        own = subject.document(LIFECYCLE)["operations"][role].get("bindings", {})
        examples = _declared_examples(subject, operation)
        for name, binding in operation.bindings.items():
            at = ("operations", role, "bindings", name) if name in own else ("bindings", name)
            yield from _binding(subject, at, binding, examples, name in own)
        if operation.items is not None:
            yield from _items(subject, operation, examples)


def _declared_examples(subject: Subject, operation: Operation) -> list[Any]:
    """Return the examples of every answer that an operation's situations are of, those of variants too."""
    contents = {situation.schema.rpartition("/")[0] for situation in operation.situations.values()}
    found = [subject.contract.schemas.at(f"{content}/examples") for content in sorted(contents)]
    return [example["value"] for examples in found if examples for example in examples.values()]


def _binding(
    subject: Subject, at: Iterable[str], binding: Binding, examples: list[Any], must_be_found: bool
) -> Iterator[Problem]:
    bodies = [place.pointer for place in binding.response if place.part == "body"]
    found = [value for example in examples for pointer in bodies if (value := resolve(example, pointer)) is not MISSING]
    if bodies and not found and must_be_found:
        yield subject.problem(f"no example has {format_pointer(bodies[0])!r}", *at)
    if binding.format is not None:
        for value in found:
            if value in (None, ""):
                continue
            try:
                FORMATS[binding.format].read(value)
            except ValueError as error:
                yield subject.problem(f"an example breaks the format {binding.format}: {error}", *at)
                return


def _items(subject: Subject, operation: Operation, examples: list[Any]) -> Iterator[Problem]:
    at = ("operations", operation.role, "items")
    if operation.items is None:
        return
    listed = [found for example in examples if isinstance(found := resolve(example, operation.items.at.pointer), list)]
    if not listed or not all(listed):
        yield subject.problem("every example of the list must show at least one item", *at, "at")
        return
    for name, binding in operation.items.bindings.items():
        items = [item for items in listed for item in items]
        yield from _binding(subject, (*at, "bindings", name), binding, items, must_be_found=True)
    if operation.role == "list":
        for stage in subject.contract.graph:
            index = operation.items.stages.get(stage.name)
            if index is None:
                yield subject.problem(f"no item for stage {stage.name!r}", *at, "stages")
            elif any(index >= len(items) for items in listed):
                yield subject.problem(f"there is no item {index}", *at, "stages", stage.name)


def _overlaps(subject: Subject) -> Iterator[Problem]:
    """No example has two live places one inside the other: they could not both be written."""
    for role, operation in subject.contract.operations.items():
        places = [
            (binding.name, place.pointer)
            for binding in operation.bindings.values()
            for place in binding.response
            if place.part == "body" and binding.name not in CONSTANT
        ]
        for situation in operation.situations.values():
            example = subject.contract.schemas.at(situation.example_at)
            live = [(name, pointer) for name, pointer in places if resolve(example, pointer) is not MISSING]
            for index, (name, pointer) in enumerate(live):
                for other, longer in live[index + 1 :]:
                    if pointer[: len(longer)] == longer or longer[: len(pointer)] == pointer:
                        yield subject.problem(
                            f"in situation {situation.name!r}, {name!r} and {other!r} are one inside the other",
                            "operations",
                            role,
                            "bindings",
                        )


def _submit_places(subject: Subject) -> Iterator[Problem]:
    for role in ("submit", "run"):
        operation = subject.contract.operations.get(role)
        if operation is None:
            continue
        if "model" not in operation.bindings or not operation.bindings["model"].request:
            yield subject.problem("no $request place for 'model'", "operations", role, "bindings")
        if role == "submit" and not operation.bindings.get("job", Binding("", (), ())).response:
            yield subject.problem("no $response place for 'job'", "operations", role, "bindings")


def _stage_words(subject: Subject) -> Iterator[Problem]:
    operation = subject.contract.operations["status"]
    if "stage" not in operation.bindings:
        yield subject.problem("no place for 'stage'; a client could not tell how a job stands", "operations", "status")


# ---- the models


def _models(subject: Subject) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, model in enumerate(subject.contract.models):
        for name in (model.id, *model.aliases):
            if name in seen:
                yield subject.problem(f"{name!r} is also model {seen[name]}", "models", index, "id")
            seen[name] = index
        if "resolution" in model.parameters:
            yield from _price(subject, index)
        if model.task == "image-to-video" and "first_frame" not in model.parameters:
            yield subject.problem("image-to-video needs the place of first_frame", "models", index, "parameters")
        if model.task == "reference-to-video" and "references" not in model.parameters:
            yield subject.problem("reference-to-video needs the place of references", "models", index, "parameters")


def _price(subject: Subject, index: int) -> Iterator[Problem]:
    model = subject.contract.models[index]
    schema: Any = subject.document(model.schema_file)
    for step in model.parameters["resolution"][0]:
        schema = subject.contract.schemas.deref(schema, model.schema_file)[0]["properties"][step]
    allowed = subject.contract.schemas.deref(schema, model.schema_file)[0].get("enum", [])
    if set(allowed) != set(model.price):
        yield subject.problem(
            f"prices are for {sorted(model.price)}, resolutions are {sorted(allowed)}", "models", index, "price"
        )


def _body_examples(subject: Subject) -> Iterator[Problem]:
    """Every example of a submission orders a job of some model."""
    for role in ("submit", "run"):
        operation = subject.contract.operations.get(role)
        if operation is None:
            continue
        if not operation.body_examples:
            yield subject.problem("its requestBody shows no example", "operations", role, "operationId")
        for name, body in operation.body_examples.items():
            refusals = [
                refusal
                for model in subject.contract.models
                if isinstance(refusal := try_order(subject.contract, operation, model.id, body), Refusal)
            ]
            if len(refusals) == len(subject.contract.models):
                yield subject.problem(
                    f"the example {name!r} of its requestBody is refused: {refusals[0].message}", "operations", role
                )


def try_order(contract: Contract, operation: Operation, model: str, body: Any) -> Any:
    """Read a body as a submission for a model, which the path names if it is the path that names models."""
    path = {place.name: model for place in operation.bindings["model"].request if place.part == "path"}
    message = Message(path, {}, lambda name: None, body)
    found = find_model(contract, operation, message)
    if not isinstance(found, Refusal) and found.id != model:
        return Refusal("unknown_model", f"the body names {found.id!r}")
    return read_order(contract, operation, message)


# ---- callbacks, assumptions, variants


def _callbacks(subject: Subject) -> Iterator[Problem]:
    callbacks, graph = subject.contract.callbacks, subject.contract.graph
    if callbacks is None:
        return
    told = {stage for situation in callbacks.situations.values() for stage in situation.stages}
    for stage in graph.terminals():
        if stage.name not in told and stage.kind in ("success", "failure"):
            yield subject.problem(f"no situation for stage {stage.name!r}", "callbacks", "situations")
    submit = subject.contract.operations["submit"].bindings.get("callback_url")
    expressions = {"{" + str(place) + "}" for place in (submit.request if submit else ())}
    declared = set()
    for item in subject.document(OPENAPI)["paths"].values():
        for method in item.values():
            if isinstance(method, dict):
                declared |= {key for found in method.get("callbacks", {}).values() for key in found}
    if not expressions & declared:
        yield subject.problem(
            f"submit binds callback_url to {sorted(expressions) or 'nothing'}, {OPENAPI} calls back {sorted(declared)}",
            "operations",
            "submit",
            "bindings",
        )


def _assumptions(subject: Subject) -> Iterator[Problem]:
    variants = {variant.name for variant in subject.contract.variants}
    for index, assumption in enumerate(subject.contract.assumptions):
        for number, at in enumerate(assumption.at):
            try:
                found = subject.contract.schemas.at(at)
            except ValueError as error:
                yield subject.problem(str(error), "assumptions", index, "at", number)
                continue
            if found is MISSING:
                yield subject.problem(f"{at!r} leads nowhere", "assumptions", index, "at", number)
        if assumption.variant is not None and assumption.variant not in variants:
            yield subject.problem(f"no variant {assumption.variant!r}", "assumptions", index, "variant")
    named = {assumption.variant for assumption in subject.contract.assumptions}
    for variant in sorted(variants - named):
        yield subject.problem("no assumption names this variant", "variants", variant)


def _variants(subject: Subject) -> Iterator[Problem]:
    lifecycle = subject.document(LIFECYCLE)
    for name, variant in lifecycle.get("variants", {}).items():
        for pointer in variant["set"]:
            steps = parse_pointer(pointer)
            if resolve(lifecycle, steps[:-1]) is MISSING:
                yield subject.problem(f"sets {pointer!r}, which is nowhere", "variants", name, "set")


DOCUMENT_CHECKS: tuple[Check, ...] = (_openapi_version, _servers, _no_code, _keywords, _valid_schemas)

CHECKS: tuple[Check, ...] = (
    _defaults,
    _examples,
    _used_examples,
    _graph,
    _cancelling,
    _stage_situations,
    _needed_situations,
    _common_situations,
    _situation_headers,
    _bindings,
    _overlaps,
    _submit_places,
    _stage_words,
    _models,
    _body_examples,
    _callbacks,
    _assumptions,
    _variants,
)
