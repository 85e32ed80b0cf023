"""Read a provider's folder into a Contract, or fail with one error that has the file, the place and the reason."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from hobbyhorse.contract.documents.defaults import SHARED_ERRORS, complete
from hobbyhorse.contract.documents.marks import Mark, unmarked
from hobbyhorse.contract.documents.operations import (
    LIFECYCLE,
    OPENAPI,
    DeclaredOperation,
    declared_operations,
    empty_response,
    examples_at,
    follow,
    has_example,
    json_body,
    json_content,
)
from hobbyhorse.contract.forms.expressions import (
    MISSING,
    ExpressionError,
    Place,
    Pointer,
    format_pointer,
    parse,
    parse_pointer,
    replaced,
    resolve,
)
from hobbyhorse.contract.forms.signatures import Signature
from hobbyhorse.contract.lifecycle import Graph, Stage
from hobbyhorse.contract.message import Bound, Template
from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.contract.references import broken_references
from hobbyhorse.contract.schemas import Schemas, address
from hobbyhorse.contract.shapes import OPENAPI_SHAPE, Shape, compile_shape, shape_violations
from hobbyhorse.contract.values import (
    HEADER_VALUES,
    Assumption,
    Binding,
    BoundHeader,
    Callbacks,
    Client,
    Contract,
    Form,
    Idempotency,
    Items,
    KeyForm,
    Model,
    Operation,
    Parameter,
    Polling,
    PromptLimit,
    Retention,
    Situation,
    Variant,
)

# The deepest known contract has 20 levels; jsonschema_rs and the standard library's json support a few hundred.
DEEPEST_DOCUMENT = 100

# Format 1 named every situation, and listed assumptions by absolute pointers.
FORMAT = 2


class ContractError(ValueError):
    """A folder cannot be read as a contract. The message has the file, the place in the file, and the reason."""

    def __init__(self, path: Path, location: Iterable[str | int], reason: str) -> None:
        self.path = path
        self.pointer = format_pointer(tuple(map(str, location)))
        self.reason = reason
        super().__init__(f"{path}#{self.pointer}: {reason}" if self.pointer else f"{path}: {reason}")


def data_directory(name: str) -> Path:
    """Return the project's own `contracts` or `fixtures` directory in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parent.parent
    # In a wheel, the data is in the package; in a checkout, it is two folders up, where people read and edit it.
    installed = package / name
    return installed if installed.is_dir() else package.parent.parent / name


def find_folders(directory: Path) -> list[Path]:
    """Return a directory's provider folders (those with a lifecycle.json), sorted by name."""
    if (directory / LIFECYCLE).is_file():
        return [directory]
    return sorted(path.parent for path in directory.glob(f"*/{LIFECYCLE}"))


def load_all(directory: Path | None = None, variants: Mapping[str, Sequence[str]] | None = None) -> list[Contract]:
    """Load every provider of a directory (by default the project's own), applying the variants of each provider.

    The shape of the project's own contracts is not checked here, because the tests check it.
    """
    # Every command loads the project's own contracts when it starts, so skipping their check saves time.
    trusted = directory is None
    directory = directory or data_directory("contracts")
    chosen = dict(variants or {})
    folders = find_folders(directory)
    if not folders:
        raise ContractError(directory, (), f"contains no contract; a contract is a folder with a {LIFECYCLE}")
    if unknown := sorted(set(chosen) - {folder.name for folder in folders}):
        known = ", ".join(folder.name for folder in folders)
        raise ContractError(directory, (), f"unknown provider {unknown[0]!r}; known: {known}")
    return [load(folder, chosen.get(folder.name, ()), trusted) for folder in folders]


def load(folder: Path, variants: Sequence[str] = (), trusted: bool = False) -> Contract:
    """Load one provider's folder. Raises ContractError."""
    return build(folder, read_documents(folder), variants, trusted)


def read_documents(folder: Path) -> dict[str, Any]:
    """Return the documents of a contract's folder, by file name."""
    models = [f"models/{path.name}" for path in sorted(folder.glob("models/*.schema.json"))]
    return {name: _read_json(folder / name) for name in (OPENAPI, LIFECYCLE, *models)}


def build(folder: Path, documents: Mapping[str, Any], variants: Sequence[str] = (), trusted: bool = False) -> Contract:
    """Build a contract from a folder's documents, checking their shape unless `trusted`. Raises ContractError."""
    _refuse(folder, other_format(folder, documents))
    clean, marks, malformed = unmarked(documents)
    _refuse(folder, ((file, pointer, MALFORMED_MARK) for file, pointer in malformed))
    if not trusted:
        _refuse(folder, misshapen(clean))
        _refuse(folder, broken_references(_schema_documents(clean)))
    # Variants are applied after completion, so that a variant can set a member that the file leaves out.
    return replace(build_whole(folder, complete(clean), marks, variants), written=clean[LIFECYCLE])


def build_whole(
    folder: Path, documents: Mapping[str, Any], marks: Sequence[Mark] = (), variants: Sequence[str] = ()
) -> Contract:
    """Build a contract from complete documents without marks. Raises ContractError."""
    if variants:
        documents = {**documents, LIFECYCLE: _vary(folder, documents[LIFECYCLE], variants)}
        # A variant can set a value of any shape, so even a trusted contract's shape is checked again.
        _refuse(folder, misshapen(documents))
    return _Builder(folder, documents, marks).contract()


FolderFault = tuple[str, tuple[str | int, ...], str]
"""A file of the folder, a place in the file, and the reason why that place is wrong."""

MALFORMED_MARK = "is neither the key of a reason nor an object that maps members to such keys"


def other_format(folder: Path, documents: Mapping[str, Any]) -> Iterator[FolderFault]:
    """Yield a fault if a folder has format 1, with the command that rewrites it."""
    lifecycle = documents[LIFECYCLE]
    # Format 1 had no `format`; its assumptions, which it could not leave out, were a list.
    if isinstance(lifecycle, dict) and lifecycle.get("format", 1) == 1 and "assumptions" in lifecycle:
        command = f"hobbyhorse contracts lint --fix {folder}"
        yield LIFECYCLE, (), f"has format 1; this version reads format {FORMAT}: `{command}` rewrites it"


def _refuse(folder: Path, faults: Iterable[FolderFault]) -> None:
    """Raise the first fault, if there is one."""
    for file, location, reason in faults:
        raise ContractError(folder / file, location, reason)


def misshapen(documents: Mapping[str, Any]) -> Iterator[FolderFault]:
    """Yield every place where openapi.json or lifecycle.json violates its shape."""
    for file, shape in _shapes().items():
        for violation in shape_violations(shape, documents[file]):
            yield file, violation.location, violation.message


def _schema_documents(documents: Mapping[str, Any]) -> dict[str, Any]:
    return {file: document for file, document in documents.items() if file != LIFECYCLE}


@cache
def _shapes() -> Mapping[str, Shape]:
    lifecycle = _read_json(data_directory("contracts") / "lifecycle.schema.json")
    return {OPENAPI: compile_shape(OPENAPI_SHAPE), LIFECYCLE: compile_shape(lifecycle)}


def _read_json(path: Path) -> Any:
    try:
        document = orjson.loads(path.read_bytes().removeprefix(BOM_UTF8))
    except OSError as error:
        raise ContractError(path, (), f"cannot be read: {error.strerror or error}") from None
    except orjson.JSONDecodeError as error:
        raise ContractError(path, (), f"is not valid JSON: {error}") from None
    if _depth(document) > DEEPEST_DOCUMENT:
        raise ContractError(path, (), f"has {_depth(document)} levels of nesting; allowed: at most {DEEPEST_DOCUMENT}")
    return document


def _depth(document: Any) -> int:
    depth, level = 0, [document]
    while level:
        depth += 1
        level = [child for value in level for child in _children(value)]
    return depth


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _vary(folder: Path, lifecycle: Any, variants: Sequence[str]) -> Any:
    known = lifecycle.get("variants", {})
    for name in variants:
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise ContractError(folder / LIFECYCLE, ("variants",), f"unknown variant {name!r}; known: {allowed}")
        for text, value in known[name]["set"].items():
            try:
                pointer = parse_pointer(text)
                # If the parent is misspelt, the variant would create a member that is never read.
                if resolve(lifecycle, pointer[:-1]) is MISSING:
                    raise ExpressionError(f"{text!r} has no parent; a variant can set only members of existing objects")
                lifecycle = replaced(lifecycle, pointer, value)
            except ExpressionError as error:
                raise ContractError(folder / LIFECYCLE, ("variants", name, "set", text), str(error)) from None
    return lifecycle


@dataclass(frozen=True, slots=True)
class _Bound:
    """The bound places of an operation's responses and of its list's items; `headers` maps headers to values."""

    places: Sequence[Bound]
    items: Items | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def template(self, example: Any, failed: bool) -> Template:
        """Return an example with its bound places. `failed` means that the example shows a failed job."""
        whole = [("items", None, self.items.at.pointer)] if self.items else []
        return Template(example, [*self._meant(failed), *whole])

    def _meant(self, failed: bool) -> list[Bound]:
        """Return the bound places. If an error has both a failed job's and a refusal's binding, only one applies."""
        at = {name: pointer for name, _, pointer in self.places}
        shared = [(error, refusal) for error, refusal in SHARED_ERRORS.items() if error in at and refusal in at]
        other = {refusal if failed else error for error, refusal in shared if at[error] == at[refusal]}
        return [bound for bound in self.places if bound[0] not in other]

    def bound_headers(self, sent: Mapping[str, str]) -> tuple[BoundHeader, ...]:
        """Return the headers of a situation that are bound."""
        return tuple(
            BoundHeader(name, self.headers[name.lower()], text.startswith("/"))
            for name, text in sent.items()
            if name.lower() in self.headers
        )

    def item_templates(self, example: Any) -> tuple[Template, ...]:
        """Return each item of the example's list with its bound places."""
        listed = resolve(example, self.items.at.pointer) if self.items else None
        if self.items is None or not isinstance(listed, list):
            return ()
        return tuple(Template(item, _bound(self.items.bindings.values())) for item in listed)


class _Builder:
    """Builds the values of one folder; every method builds one kind of value."""

    def __init__(self, folder: Path, documents: Mapping[str, Any], marks: Sequence[Mark]) -> None:
        self.folder = folder
        self.marks = marks
        self.openapi = documents[OPENAPI]
        self.lifecycle = documents[LIFECYCLE]
        # jsonschema-rs would read the document's `$schema` as its dialect.
        plain = {name: value for name, value in self.lifecycle.items() if name != "$schema"}
        self.schemas = Schemas({**documents, LIFECYCLE: plain})

    def fail(self, location: Iterable[str | int], message: str, file: str = LIFECYCLE) -> ContractError:
        """Return the error for a place of a file."""
        return ContractError(self.folder / file, location, message)

    def place(self, text: str, location: Iterable[str | int]) -> Place:
        """Parse a runtime expression from lifecycle.json; `location` is its place there, for an error."""
        try:
            return parse(text)
        except ExpressionError as error:
            raise self.fail(location, str(error)) from None

    def pointer(self, text: str, location: Iterable[str | int]) -> Pointer:
        """Parse a JSON Pointer from lifecycle.json; `location` is its place there, for an error."""
        try:
            return parse_pointer(text)
        except ExpressionError as error:
            raise self.fail(location, str(error)) from None

    def contract(self) -> Contract:
        """Build the contract."""
        data = self.lifecycle
        graph = self.graph()
        return Contract(
            key=self.folder.name,
            name=data["name"],
            documents=tuple(data.get("documents", ())),
            hosts=self.hosts(),
            graph=graph,
            operations={role: self.operation(role, spec) for role, spec in data["operations"].items()},
            unrouted=self.all_unrouted(),
            models=tuple(self.model(index, spec) for index, spec in enumerate(data["models"])),
            security=self.security(),
            idempotency=self.idempotency(data["idempotency"]),
            retention=Retention(**data["retention"]),
            polling=Polling(**data["polling"]),
            callbacks=self.callbacks(data["callbacks"]),
            job_id_form=data["job_id"]["form"],
            job_id_prefix=data["job_id"].get("prefix", ""),
            key_form=KeyForm(**data["key_form"]) if "key_form" in data else None,
            assumptions=self.assumptions(),
            variants=tuple(Variant(name, item["why"]) for name, item in data.get("variants", {}).items()),
            clients=tuple(
                Client(item["name"], item.get("environment", {}), item.get("code")) for item in data.get("clients", ())
            ),
            schemas=self.schemas,
        )

    def assumptions(self) -> tuple[Assumption, ...]:
        """Build the assumptions in the order of their reasons, each with its marked places."""
        variants = self.lifecycle.get("variants", {})
        places: dict[str, list[str]] = {key: [] for key in self.lifecycle["assumptions"]}
        for mark in self.marks:
            # Lint reports an unknown reason; the contract can be used nevertheless.
            if mark.reason in places:
                places[mark.reason].append(address(mark.file, mark.pointer))
        return tuple(
            Assumption(tuple(places[key]), why, key if key in variants else None)
            for key, why in self.lifecycle["assumptions"].items()
        )

    def graph(self) -> Graph:
        """Build the stages, and check that their successors exist."""
        stages = {
            name: Stage(
                name,
                spec["class"],
                tuple(spec["next"]),
                spec.get("cancellable", False),
                tuple(spec.get("lasts", (0.0, 0.0))),
            )
            for name, spec in self.lifecycle["stages"].items()
        }
        for stage in stages.values():
            for index, to in enumerate(stage.next):
                self.stage(to, ("stages", stage.name, "next", index))
        return Graph(self.stage(self.lifecycle["initial"], ("initial",)), stages)

    def stage(self, name: str, location: Iterable[str | int]) -> str:
        """Return the name of a stage, and check that it exists."""
        if name not in self.lifecycle["stages"]:
            raise self.fail(location, f"unknown stage {name!r}; known: {', '.join(self.lifecycle['stages'])}")
        return name

    def hosts(self) -> tuple[str, ...]:
        """Return the hosts of the servers, without scheme and path."""
        urls = [server.get("url", "") for server in self.openapi.get("servers", ())]
        return tuple(url.split("//", 1)[1].split("/", 1)[0] for url in urls if "//" in url)

    def security(self) -> tuple[tuple[str, str, str], ...]:
        """Return the accepted ways to send a key, each as (`header` or `query`, name, prefix of the key)."""
        ways = []
        for name, spec in self.openapi.get("components", {}).get("securitySchemes", {}).items():
            if spec.get("type") == "http":
                ways.append(("header", "authorization", spec.get("scheme", "bearer").lower() + " "))
            elif spec.get("type") == "apiKey" and spec.get("in") in ("header", "query"):
                ways.append((spec["in"], spec["name"].lower() if spec["in"] == "header" else spec["name"], ""))
            else:
                at = ("components", "securitySchemes", name)
                raise self.fail(at, "is not supported; allowed: http, or apiKey in header or query", OPENAPI)
        return tuple(ways)

    def found(self, operation_id: str, location: Iterable[str | int]) -> DeclaredOperation:
        """Return the operation (possibly a callback's) with an operationId."""
        known = []
        for operation in declared_operations(self.openapi):
            if operation.spec.get("operationId") == operation_id:
                return operation
            known.append(str(operation.spec.get("operationId")))
        raise self.fail(location, f"no operationId {operation_id!r} in {OPENAPI}; known: {', '.join(known)}")

    def operation(self, role: str, spec: Mapping[str, Any]) -> Operation:
        """Build one role."""
        at = ("operations", role)
        found = self.found(spec["operationId"], (*at, "operationId"))
        parameters = self.parameters(found)
        # An operation's null removes the common binding, so the value is neither read nor written.
        own = spec.get("bindings", {})
        common = {name: one for name, one in self.lifecycle.get("bindings", {}).items() if own.get(name, 0) is not None}
        bindings = {
            **self.bindings(common, ("bindings",)),
            **self.bindings(own, (*at, "bindings")),
        }
        items = self.items(spec.get("items"), (*at, "items"))
        if role in ("status", "result", "cancel") and _link(found.path, bindings) is None:
            raise self.fail((*at, "bindings"), "no $request.path place for 'job'; the job's id must be in the path")
        # Situations share the bindings of their operation; those whose place is in the example apply.
        bound = _Bound(_bound(bindings.values()), items, _bound_headers(bindings.values()))
        situations = self.common_situations(found, bound)
        situations |= self.situations(spec["situations"], (*at, "situations"), found, bound)
        return Operation(
            role=role,
            operation_id=spec["operationId"],
            method=found.method.upper(),
            path=found.path,
            pattern=_pattern(found.path, parameters),
            authenticated=bool(found.spec.get("security", self.openapi.get("security", []))),
            parameters=parameters,
            body_schema=self.body_schema(found),
            body_examples=self.body_examples(found),
            situations=situations,
            bindings=bindings,
            model_parameters=self.place(spec.get("parameters", "$request.body#"), (*at, "parameters")),
            forms=tuple(self.form(form, (*at, "forms", index)) for index, form in enumerate(spec.get("forms", ()))),
            items=items,
            link=_link(found.path, bindings),
        )

    def form(self, spec: Mapping[str, Any], location: tuple[str | int, ...]) -> Form:
        """Build an alternative form of a request."""
        at = (*location, "set")
        return Form(
            spec["name"],
            self.place(spec["when"], (*location, "when")),
            tuple((self.pointer(to, (*at, to)), self.place(source, (*at, to))) for to, source in spec["set"].items()),
        )

    def parameters(self, found: DeclaredOperation) -> tuple[Parameter, ...]:
        """Build the parameters that the path item and the operation declare."""
        parameters = []
        for pointer, listed in (
            (("paths", found.path, "parameters"), found.item.get("parameters", ())),
            ((*found.pointer, "parameters"), found.spec.get("parameters", ())),
        ):
            for index, item in enumerate(listed):
                spec, home = follow(self.openapi, item, (*pointer, str(index)))
                schema, _ = self.schemas.deref(spec.get("schema", {}), OPENAPI)
                schema = schema if isinstance(schema, dict) else {}
                parameters.append(
                    Parameter(
                        name=spec["name"],
                        part=spec["in"],
                        required=spec.get("required", False),
                        type=schema.get("type", "string"),
                        schema=address(OPENAPI, (*home, "schema")),
                        default=schema.get("default"),
                        multi_segment=spec.get("x-multi-segment", False),
                    )
                )
        return tuple(parameters)

    def body_schema(self, found: DeclaredOperation) -> str | None:
        """Return the address of an operation's JSON request body schema, or None."""
        pointer = (*json_body(self.openapi, (*found.pointer, "requestBody")), "schema")
        place = address(OPENAPI, pointer)
        return None if self.schemas.at(place) is MISSING else place

    def body_examples(self, found: DeclaredOperation) -> Mapping[str, Any]:
        """Return the examples of an operation's request body, by name."""
        content = json_body(self.openapi, (*found.pointer, "requestBody"))
        return {name: example["value"] for name, example in examples_at(self.openapi, content).items()}

    def bindings(self, specs: Mapping[str, Any], location: Pointer) -> dict[str, Binding]:
        """Build bindings from runtime expressions."""
        found = {}
        for name, spec in specs.items():
            if spec is None:
                continue
            at, form = (spec["at"], spec["as"]) if isinstance(spec, dict) else (spec, None)
            places = [self.place(text, (*location, name)) for text in ([at] if isinstance(at, str) else at)]
            found[name] = Binding(
                name,
                tuple(place for place in places if place.side == "request"),
                tuple(place for place in places if place.side == "response"),
                form,
            )
        return found

    def items(self, spec: Mapping[str, Any] | None, location: Pointer) -> Items | None:
        """Build a list's items. The places of their bindings are relative to one item."""
        if spec is None:
            return None
        bindings = {}
        for name, place in spec.get("bindings", {}).items():
            if place is None:
                continue  # null removes a binding that would be derived from the status operation
            pointer, form = (place["at"], place["as"]) if isinstance(place, dict) else (place, None)
            relative = Place("response", "body", pointer=self.pointer(pointer, (*location, "bindings", name)))
            bindings[name] = Binding(name, (), (relative,), form)
        stages = spec.get("stages", {})
        for name in stages:
            self.stage(name, (*location, "stages", name))
        return Items(self.place(spec["at"], (*location, "at")), bindings, stages)

    def common_situations(self, found: DeclaredOperation, bound: _Bound) -> dict[str, Situation]:
        """Build the common situations whose examples are in this operation's responses."""
        common = {}
        for name, spec in self.lifecycle.get("situations", {}).items():
            content = json_content(self.openapi, found, spec.get("status", 0))
            if content is not None and has_example(self.openapi, content, spec["example"]):
                common[name] = self.situation(name, spec, content, bound, ("situations", name))
        return common

    def situations(
        self, specs: Mapping[str, Any], location: Pointer, found: DeclaredOperation, bound: _Bound
    ) -> dict[str, Situation]:
        """Build an operation's own situations, and check that each example exists."""
        situations = {}
        for name, spec in specs.items():
            # Completion leaves the status out if there are several.
            if "status" not in spec:
                raise self.fail((*location, name), self.no_status(found, spec["example"]))
            empty = empty_response(self.openapi, found, spec["status"])
            if empty is not None:
                # It has no example, so that its body is empty, and no schema: a body would be undocumented.
                situations[name] = self.situation(name, spec, empty, bound, (*location, name))
                continue
            content = json_content(self.openapi, found, spec["status"])
            if content is None:
                raise self.fail(
                    (*location, name), f"{found.spec['operationId']} declares no JSON response {spec['status']}"
                )
            if not has_example(self.openapi, content, spec["example"]):
                raise self.fail((*location, name, "example"), self.no_example(spec["example"], content))
            situations[name] = self.situation(name, spec, content, bound, (*location, name))
        return situations

    def situation(
        self, name: str, spec: Mapping[str, Any], content: Pointer, bound: _Bound, location: Pointer
    ) -> Situation:
        """Build one situation from the media type object that contains its example."""
        example_at = (*content, "examples", spec["example"], "value")
        example = resolve(self.openapi, example_at)
        stages = frozenset(
            self.stage(stage, (*location, "stages", index)) for index, stage in enumerate(spec.get("stages", ()))
        )
        # A provider may use one error object for refusals and failed jobs; a stage of failure means a failed job.
        failed = any(self.lifecycle["stages"][stage]["class"] == "failure" for stage in stages)
        return Situation(
            name=name,
            status=spec.get("status", 200),
            example_at=address(OPENAPI, example_at),
            schema=address(OPENAPI, (*content, "schema")),
            template=bound.template(example, failed),
            stages=stages,
            when=tuple(
                (self.place(place, (*location, "when", place)), value) for place, value in spec.get("when", {}).items()
            ),
            headers=tuple(spec.get("headers", {}).items()),
            media_type=content[-1],
            bound_headers=bound.bound_headers(spec.get("headers", {})),
            items=bound.item_templates(example),
        )

    def all_unrouted(self) -> dict[str, Situation]:
        """Build the responses to requests that match no operation."""
        given = self.lifecycle["unrouted"]
        if "unknown_path" not in given:
            message = "no response has an example 'unknown_path'; add one, for requests that match no operation"
            raise self.fail(("components", "responses"), message, OPENAPI)
        return {name: self.unrouted(name, spec) for name, spec in given.items()}

    def unrouted(self, name: str, spec: Mapping[str, Any]) -> Situation:
        """Build the response to a request that matches no operation."""
        if "response" not in spec:
            count = sum(
                has_example(self.openapi, json_body(self.openapi, ("components", "responses", one)), spec["example"])
                for one in self.openapi.get("components", {}).get("responses", {})
            )
            message = (
                f"expected exactly one response in components/responses with an example {spec['example']!r}, found "
                f"{count}; set 'response'"
            )
            raise self.fail(("unrouted", name), message)
        content = json_body(self.openapi, ("components", "responses", spec["response"]))
        if not has_example(self.openapi, content, spec["example"]):
            raise self.fail(("unrouted", name, "example"), self.no_example(spec["example"], content))
        bound = _Bound(_bound(self.bindings(self.lifecycle.get("bindings", {}), ("bindings",)).values()))
        return self.situation(name, spec, content, bound, ("unrouted", name))

    def callbacks(self, spec: Mapping[str, Any] | None) -> Callbacks | None:
        """Build the callbacks. The provider sends their messages, so bound places are on the request side."""
        if spec is None:
            return None
        if "operationId" not in spec:
            message = f"expected exactly one operation under the callbacks of submit in {OPENAPI}; set 'operationId'"
            raise self.fail(("callbacks",), message)
        found = self.found(spec["operationId"], ("callbacks", "operationId"))
        bindings = self.bindings(spec["bindings"], ("callbacks", "bindings"))
        bound = _Bound(_bound(bindings.values(), side="request"))
        content = json_body(self.openapi, (*found.pointer, "requestBody"))
        at = ("callbacks", "situations")
        for name, item in spec["situations"].items():
            if not has_example(self.openapi, content, item["example"]):
                raise self.fail((*at, name, "example"), self.no_example(item["example"], content))
        signature = spec["signature"]
        return Callbacks(
            operation_id=spec["operationId"],
            situations={
                name: self.situation(name, item, content, bound, (*at, name))
                for name, item in spec["situations"].items()
            },
            bindings=bindings,
            signature=signature
            and Signature(
                signature["encoding"],
                signature["secret"],
                signature["content"],
                signature["headers"],
                signature["tolerance"],
            ),
            retries=tuple(spec["retries"]),
            growing=spec["growing"],
            deadline=spec["deadline"],
        )

    def no_status(self, found: DeclaredOperation, example: str) -> str:
        """Return why an operation's situation has no status: its example is in no response, or in several."""
        contents = {
            status: json_content(self.openapi, found, status) for status in found.spec.get("responses", {}) if status
        }
        showing = [one for one, at in contents.items() if at and has_example(self.openapi, at, example)]
        if showing:
            there = " and ".join(showing)
            return f"has no status; {found.spec['operationId']} has {example!r} in {there}: set 'status'"
        known = [name for at in contents.values() if at for name in examples_at(self.openapi, at)]
        there = ", ".join(dict.fromkeys(known)) or "none"
        return f"no response of {found.spec['operationId']} has an example {example!r}; known: {there}"

    def no_example(self, name: str, content: Pointer) -> str:
        """Return the message for an example that does not exist, with the names of the existing ones."""
        there = ", ".join(examples_at(self.openapi, content)) or "none"
        return f"no example {name!r} at {OPENAPI}#{format_pointer(content)}; known: {there}"

    def idempotency(self, spec: Mapping[str, Any]) -> Idempotency:
        """Build the policy for repeated idempotency keys."""
        if spec["mode"] == "none":
            return Idempotency("none")
        if "key" not in spec:
            raise self.fail(("idempotency",), f"mode {spec['mode']!r} needs the place of the key; set 'key'")
        return Idempotency(spec["mode"], self.place(spec["key"], ("idempotency", "key")), spec.get("life", 86_400.0))

    def model(self, index: int, spec: Mapping[str, Any]) -> Model:
        """Build one model, with the defaults of its schema."""
        at = ("models", index)
        if "schema" not in spec:
            raise self.fail(at, "has no 'schema'; it may be left out only if models/ contains exactly one file")
        try:
            schema = self.schemas.document(spec["schema"])
        except KeyError:
            raise self.fail((*at, "schema"), f"{spec['schema']!r} is not in the folder") from None
        parameters = {
            name: tuple(
                self.pointer(text, (*at, "parameters", name)) for text in ([place] if isinstance(place, str) else place)
            )
            for name, place in spec["parameters"].items()
        }
        defaults = {}
        for name, places in parameters.items():
            for place in places:
                declared = self.declared(schema, spec["schema"], place)
                if declared is MISSING:
                    raise self.fail(
                        (*at, "parameters", name), f"{spec['schema']} declares nothing at {format_pointer(place)!r}"
                    )
                # Reference pictures may have several places, which one default cannot fill.
                if len(places) == 1 and isinstance(declared, dict) and "default" in declared:
                    defaults[name] = declared["default"]
        limit, images = spec.get("prompt_limit"), spec.get("images")
        return Model(
            id=spec["id"],
            name=spec.get("name", spec["id"]),
            task=spec["task"],
            aliases=tuple(spec.get("aliases", ())),
            schema_file=spec["schema"],
            schema=address(spec["schema"], ()),
            parameters=parameters,
            defaults=defaults,
            random_seed=spec.get("random_seed"),
            images=images
            and PictureLimits(
                tuple(images["formats"]),
                images.get("least_side"),
                tuple(images["aspect"]) if "aspect" in images else None,
                images.get("most_bytes"),
            ),
            prompt_limit=limit
            and PromptLimit(
                limit["characters"],
                # Even if the limit for Chinese is above the general limit, each character counts once.
                max(1, limit["characters"] // limit.get("chinese", limit["characters"])),
                limit["over"],
            ),
            price={value: Decimal(rate) for value, rate in spec["price"].items()},
        )

    def declared(self, schema: Any, file: str, pointer: Pointer) -> Any:
        """Return the schema that declares a place in a model's parameters, or MISSING."""
        for step in pointer:
            schema, file = self.schemas.deref(schema, file)
            if not isinstance(schema, dict):
                return MISSING
            properties = schema.get("properties", {})
            if step.isdigit():
                schema = schema.get("items", MISSING)
            else:
                schema = properties.get(step, MISSING) if isinstance(properties, dict) else MISSING
        return self.schemas.deref(schema, file)[0]


def _pattern(path: str, parameters: Sequence[Parameter]) -> re.Pattern[str]:
    """Compile a path template into a regular expression with one group for each parameter."""
    # Model ids contain slashes, which OpenAPI cannot express; x-multi-segment lets such a parameter match them.
    wide = {parameter.name for parameter in parameters if parameter.part == "path" and parameter.multi_segment}
    parts = re.split(r"\{([^}]+)\}", path)
    text = re.escape(parts[0])
    for name, literal in zip(parts[1::2], parts[2::2], strict=True):
        text += ("(.+)" if name in wide else "([^/]+)") + re.escape(literal)
    return re.compile(text)


def path_names(path: str) -> list[str]:
    """Return the names of a path template's parameters, in order."""
    return re.findall(r"\{([^}]+)\}", path)


def _bound(bindings: Iterable[Binding], side: str = "response") -> list[Bound]:
    return [
        (binding.name, binding.format, place.pointer)
        for binding in bindings
        for place in (binding.request if side == "request" else binding.response)
        if place.part == "body"
    ]


def _bound_headers(bindings: Iterable[Binding]) -> dict[str, str]:
    """Return the values that the fake writes into headers, by the lower-case name of the header."""
    return {
        place.name: binding.name
        for binding in bindings
        for place in binding.response
        if place.part == "header" and binding.name in HEADER_VALUES
    }


def _link(path: str, bindings: Mapping[str, Binding]) -> tuple[str, str] | None:
    """Return the parts of a path around the job's id, or None if the path does not contain it."""
    places = bindings["job"].request if "job" in bindings else ()
    for place in places:
        before, mark, after = path.partition("{" + place.name + "}")
        if place.part == "path" and mark:
            return before, after
    return None
