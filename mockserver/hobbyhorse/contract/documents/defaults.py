"""Fill in the omitted members of lifecycle.json from the rest of the folder, so that readers find every member.

All defaults are in `complete`. It returns a valid lifecycle.json of the same format with nothing left out, and
completing that result changes nothing. A member that can be derived in two ways is not derived at all: it stays
missing, and the loader or lint reports it. So nothing is guessed, and a misspelt name never silently means another
name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hobbyhorse.contract.documents.operations import (
    LIFECYCLE,
    OPENAPI,
    declared_operations,
    examples_at,
    has_example,
    json_body,
    json_content,
)
from hobbyhorse.contract.forms.expressions import (
    MISSING,
    ExpressionError,
    Pointer,
    format_pointer,
    parse,
    parse_pointer,
    replaced,
    resolve,
)
from hobbyhorse.contract.schemas import Schemas

REFUSALS = (
    *("unauthenticated", "key_refused", "insufficient_balance", "forbidden"),
    *("unknown_job", "foreign_job", "expired_job", "unknown_model", "model_unavailable"),
    *("malformed_body", "unsupported_media_type", "body_too_large", "invalid_request"),
    *("key_in_flight", "key_mismatch", "key_used", "rate_limited", "server_error", "overloaded"),
)
"""The situations that every operation may have. Of two situations with the same example, the first is the usual one."""

GRANTED: Mapping[str, tuple[str, ...]] = {
    "submit": ("accepted", "replayed"),
    "redeliver": ("redelivered",),
    "list": ("listed",),
    "models": ("listed",),
    "model": ("found",),
    "categories": ("listed",),
    "health": ("healthy",),
}
"""The situations of success for each role that does not show a job's stage."""

SHOWING = ("status", "result", "cancel", "run")
"""The roles that respond with the current state of a job."""

BY_JOB = ("status", "result", "cancel", "operator_cancel", "redeliver")
"""The roles that are about one job, whose id is in the path."""

SHOWING_LIKE_STATUS = ("submit", "run", "result", "cancel")
"""The roles, other than status, that show a job."""

ORDERING = ("submit", "run")
"""The roles that submit a job."""

LATER = frozenset(
    {
        *("video_url", "first_frame_url", "error_code", "error_message"),
        *("cost", "started_at", "finished_at", "expires_at", "elapsed"),
    }
)
"""Values that a job does not have yet when it is accepted, so that submit's response has no place for them."""

UNROUTED: Mapping[str, int] = {"unknown_path": 404, "wrong_method": 405}
"""The situations of a request that matches no operation, and the HTTP status of each."""

PLAIN_PARAMETERS = ("prompt", "resolution", "duration", "aspect_ratio", "seed", "watermark")
"""The parameters for which most schemas use the same name as contracts do."""

# At greater depth in a schema, a member with a parameter's name probably has another meaning.
DEEPEST_PARAMETER = 3

SHARED_ERRORS: Mapping[str, str] = {"error_code": "refusal_code", "error_message": "refusal_message"}
"""Error bindings of a failed job, and the refusal bindings that share their places if bound for every operation."""


def complete(documents: Mapping[str, Any]) -> dict[str, Any]:
    """Return the documents with every omitted member filled in. The documents must not contain marks."""
    completion = _Completion(documents)
    lifecycle = completion.lifecycle()
    return {**documents, OPENAPI: completion.openapi, LIFECYCLE: lifecycle}


@dataclass(frozen=True, slots=True)
class _Shown:
    """An example of an operation's response: its status, and whether other operations may share the response."""

    status: int
    shared: bool


class _Completion:
    """Completes one folder's documents: each method completes a part of lifecycle.json or examples of openapi.json."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        self.documents = documents
        self.openapi = documents[OPENAPI]
        self.given = documents[LIFECYCLE]
        self.stages = self.given["stages"]
        self.initial = self.given.get("initial", next(iter(self.stages), None))
        self.operations = {found.spec.get("operationId"): found for found in declared_operations(self.openapi)}
        self.shown = {role: self._shown(spec["operationId"]) for role, spec in self.given["operations"].items()}

    def lifecycle(self) -> dict[str, Any]:
        """Return the complete lifecycle.json."""
        given = self.given
        common = {name: self._common(name, spec) for name, spec in given.get("situations", {}).items()}
        implied = self._implied_everywhere()
        operations = self._operations({**implied, **common})
        return {
            **given,
            "initial": self.initial,
            "stages": {name: {"next": [], "cancellable": False, **stage} for name, stage in self.stages.items()},
            "situations": _in_order({**implied, **common}),
            "bindings": self._common_bindings(),
            "unrouted": dict(self._unrouted()),
            "operations": operations,
            "models": [self._model(spec) for spec in given["models"]],
            "idempotency": _idempotency(given.get("idempotency", {"mode": "none"})),
            "retention": {"job": None, "result_url": None, **given.get("retention", {})},
            "callbacks": self._callbacks(given.get("callbacks"), self._with_errors(operations["status"])["bindings"]),
            "assumptions": given.get("assumptions", {}),
        }

    def _operations(self, common: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the roles. Other operations that show a job get the bindings of the status operation."""
        given = self.given["operations"]
        whole = {role: {**spec, "situations": self._situations(role, spec, common)} for role, spec in given.items()}
        for role, spec in whole.items():
            if role in BY_JOB:
                spec["bindings"] = self._with_path(spec["operationId"], spec.get("bindings", {}))
        status = whole["status"]["bindings"]
        for role, spec in whole.items():
            if role in SHOWING_LIKE_STATUS:
                shown = [self._example(spec, one) for name, one in spec["situations"].items() if _shows_job(name, one)]
                known = {name: one for name, one in status.items() if role != "submit" or name not in LATER}
                spec["bindings"] = _with_status(spec.get("bindings", {}), known, shown)
        if "items" in (listing := whole.get("list", {})):
            self._show_every_stage(listing, whole["status"])
            listing["items"] = self._items(listing, self._with_errors(whole["status"]))
        if "items" in (listing := whole.get("models", {})) and "model" in whole:
            listing["items"] = self._bound_like(listing, whole["model"])
        for role in ORDERING:
            if role in whole:
                self._show_orders(whole[role])
        return whole

    def _content(self, spec: Mapping[str, Any], situation: Mapping[str, Any]) -> Pointer | None:
        """Return the place of the media type object that has the example of an operation's situation."""
        found = self.operations.get(spec["operationId"])
        return json_content(self.openapi, found, situation.get("status", 0)) if found else None

    def _example(self, spec: Mapping[str, Any], situation: Mapping[str, Any]) -> Any:
        """Return the example of an operation's situation, or MISSING."""
        content = self._content(spec, situation)
        return resolve(self.openapi, (*content, "examples", situation["example"], "value")) if content else MISSING

    # ---- situations

    def _shown(self, operation_id: str) -> dict[str, list[_Shown]]:
        """Return, for each example name, the responses of an operation that have such an example."""
        found = self.operations.get(operation_id)
        shown: dict[str, list[_Shown]] = {}
        for status, response in found.spec.get("responses", {}).items() if found else ():
            content = json_content(self.openapi, found, status) if found and status.isdigit() else None
            for name in examples_at(self.openapi, content) if content else ():
                if content and has_example(self.openapi, content, name):
                    shown.setdefault(name, []).append(_Shown(int(status), "$ref" in response))
        return shown

    def _common(self, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Complete a common situation: its status is the only status under which any operation has its example."""
        example = spec.get("example", name)
        statuses = {one.status for shown in self.shown.values() for one in shown.get(example, ())}
        return {**_only_status(statuses), **spec, "example": example}

    def _own(self, role: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Complete a situation of one operation: its status is the only status under which it has the example."""
        example = spec.get("example", name)
        statuses = {one.status for one in self.shown[role].get(example, ())}
        return {**_only_status(statuses), **self._stages_of(role, name), **spec, "example": example}

    def _stages_of(self, role: str, name: str) -> dict[str, Any]:
        """Return the stages of a situation: the stage of the same name, or the initial stage for an accepted job."""
        if role in SHOWING and name in self.stages:
            return {"stages": [name]}
        return {"stages": [self.initial]} if (role, name) == ("submit", "accepted") else {}

    def _implied(self, role: str) -> dict[str, _Shown]:
        """Return the examples of an operation that have the name of a stage or situation and only one status."""
        stages = self.stages if role in SHOWING else ()
        named = {
            name: found for name, found in self.shown[role].items() if name in stages or name in GRANTED.get(role, ())
        }
        named |= {name: found for name, found in self.shown[role].items() if name in REFUSALS}
        # If an example has two statuses, its name does not determine the status.
        return {name: found[0] for name, found in named.items() if len({one.status for one in found}) == 1}

    def _implied_everywhere(self) -> dict[str, dict[str, Any]]:
        """Return the refusals in shared responses that have the same status in every operation that has them."""
        statuses: dict[str, set[int]] = {}
        shared: dict[str, bool] = {}
        for role in self.shown:
            for name, one in self._implied(role).items():
                if name in REFUSALS:
                    statuses.setdefault(name, set()).add(one.status)
                    shared[name] = shared.get(name, False) or one.shared
        return {
            name: {"status": min(found), "example": name}
            for name, found in statuses.items()
            if len(found) == 1 and shared[name]
        }

    def _situations(self, role: str, spec: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the situations of one role. A common situation is not repeated here."""
        own = {name: self._own(role, name, one) for name, one in spec.get("situations", {}).items()}
        covered = _covered(own)
        # A stage that an entry with another name covers is not implied again.
        for name in self._implied(role):
            is_stage = role in SHOWING and name in self.stages
            # A common situation is written once, so that an assumption can mark it once.
            if name not in own and name not in (covered if is_stage else common):
                own[name] = self._own(role, name, {})
        # In the order of the examples, whether implied or not, so that adding an entry does not change the order.
        order = list(self.shown[role])
        return dict(sorted(own.items(), key=lambda one: _position(order, one[1]["example"])))

    def _unrouted(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Complete the responses to a request that matches no operation."""
        responses = self.openapi.get("components", {}).get("responses", {})
        given = self.given.get("unrouted", {})
        for name, status in UNROUTED.items():
            spec = given.get(name, {})
            example = spec.get("example", name)
            showing = [
                response
                for response in responses
                if has_example(self.openapi, json_body(self.openapi, ("components", "responses", response)), example)
            ]
            # Not every contract documents a wrong method; the fake then uses the response to an unknown path.
            if name in given or showing:
                derived = {"response": showing[0]} if len(showing) == 1 else {}
                yield name, {"status": status, **derived, **spec, "example": example}

    # ---- bindings and lists

    def _common_bindings(self) -> dict[str, Any]:
        """Complete the common bindings: a common binding of an error is also the binding of a refusal."""
        given = self.given.get("bindings", {})
        shared = {
            refusal: given[error] for error, refusal in SHARED_ERRORS.items() if error in given and refusal not in given
        }
        return {**given, **shared}

    def _with_path(self, operation_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return bindings with the job's id bound to the path's only parameter."""
        found = self.operations.get(operation_id)
        names = re.findall(r"\{([^}]+)\}", found.path) if found else []
        at = _texts(given.get("job"))
        # With two parameters, such as a model and a job, the author must bind the job explicitly.
        if len(names) != 1 or any(text.startswith("$request") for text in at):
            return dict(given)
        return {**given, "job": _as_written([f"$request.path.{names[0]}", *at], given.get("job"))}

    def _items(self, listing: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the list of jobs: an item has the same places as the status operation's response."""
        items = self._bound_like(listing, status)
        found = [
            self._item_stages(items["bindings"].get("stage"), self._listed(listing, situation), status)
            for situation in listing["situations"].values()
        ]
        # An index applies to every example of the list, so it is derived only if all examples agree.
        stages = found[0] if found and all(one == found[0] for one in found) else {}
        return {**items, "stages": {**stages, **items.get("stages", {})}}

    def _with_errors(self, status: Mapping[str, Any]) -> dict[str, Any]:
        """Return the status operation with the common error bindings added."""
        common = self.given.get("bindings", {})
        shared = {error: common[error] for error in SHARED_ERRORS if error in common}
        return {**status, "bindings": {**shared, **status["bindings"]}}

    def _bound_like(self, listing: Mapping[str, Any], single: Mapping[str, Any]) -> dict[str, Any]:
        """Return the items of a list with the bindings of the operation that returns an individual item."""
        items, shown = listing["items"], self._all_listed(listing)
        derived = {
            name: one for name, one in _relative(single.get("bindings", {}), "") if _is_in(_pointers(one), shown)
        }
        return {**items, "bindings": {**derived, **items.get("bindings", {})}}

    def _all_listed(self, listing: Mapping[str, Any]) -> list[Any]:
        """Return the items in all examples of a list."""
        return [item for one in listing["situations"].values() for item in self._listed(listing, one)]

    def _show_every_stage(self, listing: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Add to a list's example, for each stage that no item has, the job of the status operation's example.

        Does nothing unless every existing item has the same members as the status operation's example in its stage: in
        a list of summaries, a forgotten item must stay missing, so that lint reports it.
        """
        # The author's indices count only the author's own items.
        if len(listing["situations"]) != 1 or "stages" in listing["items"]:
            return
        (situation,) = listing["situations"].values()
        shown, at = self._listed(listing, situation), _pointers(listing["items"]["at"])
        places = _pointers(status["bindings"].get("stage"), "response")
        root = _root(status["bindings"])
        jobs: dict[str, Any] = {}
        for one in status["situations"].values():
            example = self._example(status, one)
            if "when" not in one and one.get("stages") and (word := _word(example, places)) is not None:
                jobs.setdefault(word, resolve(example, root))
        words = [_word(item, [place[len(root) :] for place in places]) for item in shown]
        for word, item in zip(words, shown, strict=True):
            if word not in jobs or not isinstance(item, dict) or set(item) != set(jobs[word]):
                return
        found = self._content(listing, situation)
        if found and at:
            more = [*shown, *(job for word, job in jobs.items() if word not in words)]
            place = (*found, "examples", situation["example"], "value", *at[0])
            if resolve(self.openapi, place) is not MISSING:
                self.openapi = replaced(self.openapi, place, more)

    def _show_orders(self, spec: Mapping[str, Any]) -> None:
        """Add examples to a submission without examples: for each model, a body with the defaults of its schema."""
        found = self.operations.get(spec["operationId"])
        content = resolve(self.openapi, json_body(self.openapi, (*found.pointer, "requestBody"))) if found else MISSING
        # If the author wrote an example, further ones could contradict it.
        if found is None or not isinstance(content, dict) or "examples" in content:
            return
        inside = next(iter(_pointers(spec.get("parameters", "$request.body#"))), ())
        named = _pointers(spec.get("bindings", {}).get("model"), "request")
        examples = {}
        for model in self.given["models"]:
            values = self._defaults(self._model(model).get("schema", ""))
            if values is not None:
                body = replaced({}, inside, values)
                for place in named:
                    body = replaced(body, place, model["id"])
                examples[model["id"]] = {"value": body}
        if examples:
            place = (*json_body(self.openapi, (*found.pointer, "requestBody")), "examples")
            self.openapi = replaced(self.openapi, place, examples)

    def _defaults(self, file: str) -> dict[str, Any] | None:
        """Return the required members of a model's schema with their defaults, or None unless all have a default."""
        schema = self.documents.get(file)
        properties = schema.get("properties") if isinstance(schema, dict) else None
        required = schema.get("required", []) if isinstance(schema, dict) else []
        if not isinstance(properties, dict) or not isinstance(required, list) or not required:
            return None
        found = [(name, one) for name, one in properties.items() if name in required]
        values = {name: one["default"] for name, one in found if isinstance(one, dict) and "default" in one}
        return values if len(values) == len(required) else None

    def _listed(self, listing: Mapping[str, Any], situation: Mapping[str, Any]) -> list[Any]:
        """Return the items in the example of a list's situation."""
        at = _pointers(listing["items"]["at"])
        listed = resolve(self._example(listing, situation), at[0]) if at else MISSING
        return listed if isinstance(listed, list) else []

    def _item_stages(self, binding: Any, shown: list[Any], status: Mapping[str, Any]) -> dict[str, int]:
        """Return the index of each stage's item: the only item with the status operation's word for that stage."""
        words = [_word(item, _pointers(binding)) for item in shown]
        places = _pointers(status["bindings"].get("stage"))
        stages: dict[str, int] = {}
        for situation in status["situations"].values():
            word = _word(self._example(status, situation), places)
            if "when" not in situation and word is not None and words.count(word) == 1:
                stages |= {stage: words.index(word) for stage in situation.get("stages", ())}
        return {stage: stages[stage] for stage in self.stages if stage in stages}

    # ---- the rest

    def _model(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Complete a model: the folder's only schema, and the parameters that have their usual names in the schema."""
        files = [file for file in self.documents if file not in (OPENAPI, LIFECYCLE)]
        schema = spec.get("schema", files[0] if len(files) == 1 else None)
        given = spec.get("parameters", {})
        schemas = Schemas({file: document for file, document in self.documents.items() if file != LIFECYCLE})
        places = list(_declared(schemas, {"$ref": schema}, "")) if schema in self.documents else []
        derived = {
            name: format_pointer(found[0])
            for name in PLAIN_PARAMETERS
            if len(found := [place for place in places if place[-1] == name]) == 1
        }
        return {**spec, **({"schema": schema} if schema else {}), "parameters": {**derived, **given}}

    def _callbacks(self, given: Mapping[str, Any] | None, status: Mapping[str, Any]) -> dict[str, Any] | None:
        """Complete the callbacks: the only operation under submit's callbacks, and a situation for each stage."""
        if given is None:
            return None
        submit = self.operations.get(self.given["operations"]["submit"]["operationId"])
        below = [
            found
            for found in declared_operations(self.openapi)
            if submit and found.pointer[: len(submit.pointer)] == submit.pointer and found.pointer != submit.pointer
        ]
        only = {"operationId": below[0].spec.get("operationId")} if len(below) == 1 else {}
        name = given.get("operationId", only.get("operationId"))
        found = self.operations.get(name)
        examples = examples_at(self.openapi, json_body(self.openapi, (*found.pointer, "requestBody"))) if found else {}
        situations = {
            name: {**({"stages": [name]} if name in self.stages else {}), "example": name, **one}
            for name, one in given.get("situations", {}).items()
        }
        covered = _covered(situations)
        situations |= {
            stage: {"stages": [stage], "example": stage}
            for stage in examples
            if stage in self.stages and stage not in covered and stage not in situations
        }
        shown = [resolve(examples.get(one["example"], MISSING), ("value",)) for one in situations.values()]
        derived = {
            binding: one for binding, one in _relative(status, "$request.body#") if _is_in(_pointers(one), shown)
        }
        signature = given.get("signature")
        return {
            **only,
            "growing": False,
            **given,
            "bindings": {**derived, **given.get("bindings", {})},
            "situations": situations,
            "signature": signature and {"encoding": "hex", "secret": "text", "tolerance": None, **signature},
        }


def _position(names: list[str], name: str) -> int:
    """Return the position of a name in a list, or the list's length if it is not there."""
    return names.index(name) if name in names else len(names)


def _in_order(situations: Mapping[str, Any]) -> dict[str, Any]:
    """Return situations with the well-known refusals first, in the order of REFUSALS, whether implied or not."""
    known = [name for name in REFUSALS if name in situations]
    return {name: situations[name] for name in (*known, *(name for name in situations if name not in known))}


def _only_status(statuses: set[int]) -> dict[str, int]:
    # Choosing one of several would be a guess; a missing status is reported as an error with a place.
    return {"status": min(statuses)} if len(statuses) == 1 else {}


def _covered(situations: Mapping[str, Any]) -> set[str]:
    """Return the stages for which `situations` has an entry without a condition."""
    return {stage for one in situations.values() if "when" not in one for stage in one.get("stages", ())}


def _shows_job(name: str, situation: Mapping[str, Any]) -> bool:
    return bool(situation.get("stages")) or name in GRANTED["submit"]


def _idempotency(given: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the idempotency policy: by default, a key is remembered for a day."""
    return {**given} if given["mode"] == "none" else {"life": 86_400, **given}


def _texts(binding: Any) -> list[str]:
    """Return the places of a binding as written."""
    at = binding.get("at") if isinstance(binding, dict) else binding
    return [at] if isinstance(at, str) else list(at or ())


def _as_written(at: list[str], like: Any) -> Any:
    """Return places as a binding with the format of `like`."""
    places = at[0] if len(at) == 1 else at
    return {**like, "at": places} if isinstance(like, dict) else places


def _pointers(binding: Any, side: str = "") -> list[Pointer]:
    """Return the pointers of a binding's places in bodies (of one side, or both) and of places in items."""
    found = []
    for text in _texts(binding):
        try:
            if text.startswith("$"):
                place = parse(text)
                if place.part == "body" and side in ("", place.side):
                    found.append(place.pointer)
            else:
                found.append(parse_pointer(text))
        except ExpressionError:  # lint reports a malformed place; nothing is derived from it
            continue
    return found


def _with_status(given: Mapping[str, Any], status: Mapping[str, Any], shown: list[Any]) -> dict[str, Any]:
    """Return an operation's bindings, adding places of the status operation's response that the examples have."""
    bindings = dict(given)
    for name, binding in status.items():
        own = given.get(name, MISSING)
        # A given $response place replaces the derived one; a $request place does not compete with it.
        if own is None or any(text.startswith("$response") for text in ([] if own is MISSING else _texts(own))):
            continue
        response = [text for text in _texts(binding) if text.startswith("$response")]
        if _is_in(_pointers(binding, "response"), shown):
            before = [] if own is MISSING else _texts(own)
            like = binding if own is MISSING or isinstance(binding, dict) else own
            bindings[name] = _as_written([*before, *response], like)
    return bindings


def _relative(bindings: Mapping[str, Any], start: str) -> Iterator[tuple[str, Any]]:
    """Yield bindings of a response relative to the innermost object that has all of them.

    `start` is the beginning of each new place: empty for list items, whose places are pointers.
    """
    places = {name: found for name, one in bindings.items() if (found := _pointers(one, "response"))}
    # A provider wraps an individual job, as in {"data": {...}}, but not each item of a list.
    root = _root(bindings)
    for name, found in places.items():
        texts = [start + format_pointer(pointer[len(root) :]) for pointer in found]
        # A value in an item has exactly one place, a pointer.
        yield name, _as_written(texts if start else texts[:1], bindings[name])


def _root(bindings: Mapping[str, Any]) -> Pointer:
    """Return the pointer of the innermost object that contains all places of a response's bindings."""
    found = [pointer for one in bindings.values() for pointer in _pointers(one, "response")]
    return _common_beginning(pointer[:-1] for pointer in found)


def _common_beginning(pointers: Iterable[Pointer]) -> Pointer:
    every = list(pointers)
    common = []
    for steps in zip(*every, strict=False):
        if len(set(steps)) > 1:
            break
        common.append(steps[0])
    return tuple(common)


def _is_in(pointers: Iterable[Pointer], shown: list[Any]) -> bool:
    """Whether an example has a value at one of the pointers."""
    return any(resolve(one, pointer) is not MISSING for pointer in pointers for one in shown)


def _word(value: Any, places: Iterable[Pointer]) -> str | None:
    """Return the stage word at the first of the places that has one, or None."""
    found = (resolve(value, place) for place in places)
    return next((word for word in found if isinstance(word, str)), None)


def _declared(schemas: Schemas, schema: Any, file: str, pointer: Pointer = ()) -> Iterator[Pointer]:
    """Yield the place of every member that a schema declares, down to DEEPEST_PARAMETER levels."""
    schema, file = schemas.deref(schema, file)
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    if len(pointer) < DEEPEST_PARAMETER and isinstance(properties, dict):
        for name, inner in properties.items():
            yield (*pointer, name)
            yield from _declared(schemas, inner, file, (*pointer, name))
