"""Make a new contract that passes lint, from scratch or from two operations of an OpenAPI document.

Facts that the document does not state are marked with the reason `todo`, so `hobbyhorse providers NAME` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs

from hobbyhorse.contract.authoring.layout import laid_out, write_all
from hobbyhorse.contract.authoring.source import (
    Candidate,
    Source,
    SourceError,
    choose_roles,
    find_member,
    has_type,
    is_id,
    is_stage,
    read_source,
    relaxed,
    sample,
)
from hobbyhorse.contract.checks.models import PARAMETER_KINDS
from hobbyhorse.contract.checks.subject import Documents
from hobbyhorse.contract.documents.operations import LIFECYCLE, OPENAPI
from hobbyhorse.contract.folder import FORMAT
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, replaced, resolve
from hobbyhorse.contract.lint import lint_documents

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REASON = "Not taken from a document of the provider yet."
EXAMPLE_ID = "00000000000000000000000000000001"

WORDS: Mapping[str, tuple[str, ...]] = {
    "pending": ("queued", "pending", "submitted", "created", "waiting", "in_queue", "accepted", "starting"),
    "running": ("running", "processing", "in_progress", "generating", "started"),
    "success": ("succeeded", "succeed", "success", "completed", "complete", "done", "finished", "ready"),
    "failure": ("failed", "failure", "fail", "error", "rejected"),
    "cancelled": ("cancelled", "canceled", "aborted"),
    "expired": ("expired",),
}
"""The classes of stages, each with the words from which that class is guessed."""

# Seconds that a stage takes in a skeleton: a realistic video takes a minute or two.
LASTS: Mapping[str, list[int]] = {"pending": [1, 10], "running": [30, 120]}

REFUSALS: Mapping[str, tuple[str, str, dict[str, str]]] = {
    "BadRequest": (
        "400",
        "The request is invalid.",
        {"invalid_request": "The request is invalid.", "unknown_model": "There is no such model."},
    ),
    "Unauthorized": ("401", "The key is missing or refused.", {"unauthenticated": "The key is missing or refused."}),
    "NotFound": ("404", "Not found.", {"unknown_job": "There is no such job.", "unknown_path": "Not found."}),
    "MethodNotAllowed": ("405", "The path takes other methods.", {"wrong_method": "Method not allowed."}),
    "ServerError": ("500", "The provider failed.", {"server_error": "Internal error.", "overloaded": "Try again."}),
}
"""Responses that refuse a request: the status, the description, and the message of each example."""

PLAIN: Mapping[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "A new provider", "version": "1"},
    "paths": {
        "/v1/jobs": {
            "post": {
                "operationId": "createJob",
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["model", "prompt"],
                                "properties": {
                                    "model": {"type": "string"},
                                    "prompt": {"type": "string", "minLength": 1},
                                    "duration": {"type": "integer", "minimum": 1, "maximum": 15, "default": 5},
                                },
                            }
                        }
                    }
                },
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["id", "status"],
                                    "properties": {"id": {"type": "string"}, "status": {"type": "string"}},
                                }
                            }
                        }
                    }
                },
            }
        },
        "/v1/jobs/{id}": {
            "get": {
                "operationId": "getJob",
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["id", "status"],
                                    "properties": {
                                        "id": {"type": "string"},
                                        "status": {"enum": ["queued", "running", "succeeded", "failed"]},
                                        "video_url": {"type": "string", "format": "uri"},
                                        "error": {"type": "object", "properties": {"message": {"type": "string"}}},
                                    },
                                }
                            }
                        }
                    }
                },
            }
        },
    },
}
"""The OpenAPI document of a skeleton that is made from scratch."""


@dataclass(slots=True)
class Skeleton:
    """The documents of a new contract, and a line for each guess."""

    documents: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def write_skeleton(folder: Path, openapi: Path | None = None, roles: Mapping[str, str] | None = None) -> list[str]:
    """Write a new contract into a folder that does not exist; return a line for each guess. Raises SourceError."""
    if folder.exists() or folder.is_symlink():
        raise SourceError(f"{folder} already exists; choose another name for the new contract")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", folder.name):
        raise SourceError(
            f"the name {folder.name!r} becomes a path prefix; allowed: lower-case letters, digits, '.', '_' and '-'"
        )
    source = read_source(openapi) if openapi is not None else Source(PLAIN)
    try:
        skeleton = make_skeleton(folder.name, source, roles or {})
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        # A foreign document may have a string or a number in the place of a schema.
        raise SourceError(f"{openapi} has a value of the wrong type: {' '.join(str(error).split())}") from None
    # Nothing is written before lint has passed, so a failure leaves no incomplete contract.
    if problems := lint_documents(Documents(folder, skeleton.documents)):
        raise SourceError(f"this document does not produce a valid contract: {problems[0]}")
    folder.mkdir(parents=True)
    write_all(folder, {file: laid_out(document) for file, document in skeleton.documents.items()})
    return skeleton.notes if openapi is not None else []


def make_skeleton(name: str, source: Source, given: Mapping[str, str]) -> Skeleton:
    """Return the documents of a contract with the operations that submit a job and report its status."""
    roles, notes = choose_roles(source, given)
    return _Maker(name, source, roles, notes).skeleton()


class _Maker:
    """Makes one skeleton; `notes` collects a line for each guess."""

    def __init__(self, name: str, source: Source, roles: Mapping[str, Candidate], notes: list[str]) -> None:
        self.name = name
        self.source = source
        self.submit, self.status = roles["submit"], roles["status"]
        self.notes = notes

    def skeleton(self) -> Skeleton:
        """Make the complete skeleton."""
        submit_status, submitted = self._response(self.submit)
        status_status, shown = self._response(self.status)
        at = self._places(submitted, shown)
        stages, words = self._stages(resolve_schema(shown, at["stage"]))
        _set_schema(shown, at["stage"], {"enum": list(words.values())})
        schema, model_at, task = self._model_schema()
        file = "models/model.schema.json"
        accepted = self._example(submitted, {at["submitted"]: EXAMPLE_ID, **self._stage_of(submitted, words, stages)})
        examples = {
            stage: self._example(shown, {at["stage"]: word, **_if(at["job"], EXAMPLE_ID)}, self._without(at, kind))
            for (stage, kind), word in zip(stages.items(), words.values(), strict=True)
        }
        refusals, message_at = self._refusals()
        openapi = {
            "openapi": "3.1.0",
            "info": self._info(),
            "servers": [{"url": self._server()}],
            "security": [{"key": []}],
            "paths": self._paths(
                self._operation(self.submit, submit_status, submitted, {"accepted": accepted}, ("400", "401", "500"))
                | {"requestBody": {"required": True, "content": self._body(file, schema, model_at)}},
                self._operation(self.status, status_status, shown, examples, ("400", "401", "404", "500")),
            ),
            "components": {"securitySchemes": {"key": self._security()}, "responses": refusals},
        }
        lifecycle = {
            "format": FORMAT,
            "name": self._info()["title"],
            "stages": _graph(stages),
            "bindings": {"refusal_message": f"$response.body#{format_pointer(message_at)}"},
            "operations": self._operations(at, accepted, model_at),
            "models": [self._model(schema, task)],
            "polling": {"least_interval": 1, "typical_interval": 3, "longest_wait": 600},
            "job_id": {"form": "hex32"},
            "assumptions": {"todo": REASON},
            "x-assumed": dict.fromkeys(("stages", "models", "polling", "job_id", "retention", "unrouted"), "todo"),
        }
        return Skeleton({OPENAPI: openapi, LIFECYCLE: lifecycle, file: schema}, self.notes)

    # ---- responses

    def _response(self, found: Candidate) -> tuple[str, dict[str, Any]]:
        """Return the status and schema of an operation's success, relaxing a schema that has no simple example."""
        status, schema = self.source.granted(found)
        while "properties" not in schema and schema.get("anyOf"):
            schema = schema["anyOf"][0]
        # A sample cannot match every pattern; a looser schema accepts at least the same responses.
        if not _keeps(schema, sample(schema)):
            self.notes.append(f"{found.id}: the schema of {status} is reduced to types and names; complete it by hand")
            schema = relaxed(schema)
        if not has_type(schema, "object") and "properties" not in schema:
            self.notes.append(f"{found.id}: the schema of {status} is replaced by an object; write it by hand")
            schema = {"type": "object"}
        return status, schema

    def _places(self, submitted: dict[str, Any], shown: dict[str, Any]) -> dict[str, Pointer]:
        """Return the places of the id, the stage, the video and the error; add a missing id, stage or video."""
        at: dict[str, Pointer] = {}
        at["submitted"] = self._find(submitted, "submit: the job's id", is_id, "id")
        job = find_member(shown, is_id)
        at["job"] = job if job is not None else ()
        at["stage"] = self._find(shown, "status: the stage", is_stage, "status")
        at["video"] = self._find(shown, "status: the video", _is_video, "video_url")
        error = find_member(shown, _is_error)
        at["error"] = error if error is not None else ()
        # The fake writes its own ids and URLs, which a documented pattern may refuse.
        for schema, place in ((submitted, at["submitted"]), (shown, at["job"]), (shown, at["video"])):
            if place:
                _set_schema(schema, place, {"type": "string"})
        return at

    def _find(self, schema: dict[str, Any], what: str, wanted: Any, name: str) -> Pointer:
        """Return the place of a member. A missing member is added under its usual name."""
        found = find_member(schema, wanted)
        if found is None:
            self.notes.append(f"{what} is not in the schema; added as {name!r}")
            schema.setdefault("properties", {})[name] = {"type": "string"}
            return (name,)
        self.notes.append(f"{what}: {format_pointer(found)}")
        return found

    def _stages(self, schema: Any) -> tuple[dict[str, str], dict[str, str]]:
        """Return the class and the word of each stage: the schema's own words if they are known, else assumed ones."""
        listed = [word for word in schema.get("enum", ()) if isinstance(word, str)]
        classes = {word: next((kind for kind, known in WORDS.items() if word.lower() in known), "") for word in listed}
        for word in [word for word, kind in classes.items() if not kind]:
            self.notes.append(f"the class of stage {word!r} is unknown; the stage is left out")
            del classes[word]
        # A state machine needs a stage to start in and a stage of success.
        if not {"success"} <= set(classes.values()) or not {"pending", "running"} & set(classes.values()):
            self.notes.append("the stages are not listed; assumed: queued, running, succeeded, failed")
            classes = {"queued": "pending", "running": "running", "succeeded": "success", "failed": "failure"}
        order = list(WORDS)
        classes = dict(sorted(classes.items(), key=lambda one: order.index(one[1])))
        names = {word: re.sub(r"[^a-z0-9_]+", "_", word.lower()).strip("_") or "stage" for word in classes}
        # Words that differ only in case or punctuation are kept, because their normalized names would collide.
        if len(set(names.values())) < len(names):
            names = {word: word for word in names}
        return {names[word]: kind for word, kind in classes.items()}, {names[word]: word for word in classes}

    def _stage_of(self, schema: Any, words: Mapping[str, str], stages: Mapping[str, str]) -> dict[Pointer, Any]:
        """Return the place and word of the initial stage in a submit response, empty if it shows no stage."""
        place = find_member(schema, is_stage)
        if place is None:
            return {}
        _set_schema(schema, place, {"enum": list(words.values())})
        return {place: words[next(iter(stages))]}

    def _without(self, at: Mapping[str, Pointer], kind: str) -> list[Pointer]:
        """Return the places to leave out of a stage's response: the video before success, the error without failure."""
        return [
            place for place, needed in ((at["video"], "success"), (at["error"], "failure")) if place and kind != needed
        ]

    def _example(self, schema: Any, values: Mapping[Pointer, Any], without: Iterable[Pointer] = ()) -> Any:
        """Return an example of a schema with `values` set, and the members `without` removed unless required."""
        example = sample(schema)
        for place, value in values.items():
            example = replaced(example, place, value)
        for place in without:
            shorter = replaced(example, place, MISSING)
            # A required member stays, with an invented value.
            example = shorter if _keeps(schema, shorter) else example
        return example

    def _refusals(self) -> tuple[dict[str, Any], Pointer]:
        """Return the responses that refuse a request, in the document's own shape if it shows one."""
        schema = self.source.refusal_schema()
        place = find_member(schema, _is_message) if schema is not MISSING else None
        if place is None or not _keeps(schema, replaced(sample(schema), place, "text")):
            schema = {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}}
            place = ("message",)
            self.notes.append("the document describes no refusal; assumed: an object with a `message`")
        _set_schema(schema, place, {"type": "string"})
        responses = {}
        for name, (_, description, messages) in REFUSALS.items():
            examples = {
                situation: {"value": replaced(sample(schema), place, text)} for situation, text in messages.items()
            }
            responses[name] = {
                "description": description,
                "content": {"application/json": {"schema": schema, "examples": examples}},
                "x-assumed": "todo",
            }
        return responses, place

    # ---- openapi.json

    def _info(self) -> dict[str, Any]:
        given = self.source.document.get("info")
        info = given if isinstance(given, dict) else {}
        return {"title": str(info.get("title") or self.name), "version": str(info.get("version") or "1")}

    def _server(self) -> str:
        """Return the URL of the document's first server that has a host, else an invented URL."""
        servers = self.source.document.get("servers")
        urls = [one.get("url") for one in servers if isinstance(one, dict)] if isinstance(servers, list) else []
        found = [url for url in urls if isinstance(url, str) and urlsplit(url).netloc and "{" not in url]
        return found[0] if found else f"https://api.{self.name.replace('_', '-')}.example"

    def _security(self) -> dict[str, Any]:
        """Return the document's first security scheme that a contract supports, else a bearer token."""
        schemes = resolve(self.source.document, ("components", "securitySchemes"))
        for scheme in schemes.values() if isinstance(schemes, dict) else ():
            scheme = self.source.follow(scheme)
            if scheme.get("type") == "http" and isinstance(scheme.get("scheme"), str):
                return {"type": "http", "scheme": scheme["scheme"]}
            if scheme.get("type") == "apiKey" and scheme.get("in") in ("header", "query") and scheme.get("name"):
                return {"type": "apiKey", "in": scheme["in"], "name": scheme["name"]}
        self.notes.append("the document describes no supported security scheme; assumed: a bearer token")
        return {"type": "http", "scheme": "bearer"}

    def _paths(self, submit: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        paths: dict[str, Any] = {}
        for found, operation in ((self.submit, submit), (self.status, status)):
            paths.setdefault(found.path, {})[found.method] = operation
        return paths

    def _operation(
        self, found: Candidate, status: str, schema: Any, examples: Mapping[str, Any], refusals: Iterable[str]
    ) -> dict[str, Any]:
        """Return an OpenAPI operation with its path parameters and the responses of success and refusal."""
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in found.names
        ]
        shown = {name: {"value": value} for name, value in examples.items()}
        granted = {"description": "Success.", "content": {"application/json": {"schema": schema, "examples": shown}}}
        named = {code: name for name, (code, _, _) in REFUSALS.items()}
        return {
            "operationId": found.id,
            **({"parameters": parameters} if parameters else {}),
            "responses": {
                status: granted,
                **{code: {"$ref": f"#/components/responses/{named[code]}"} for code in refusals},
            },
        }

    def _body(self, file: str, schema: dict[str, Any], model_at: str) -> dict[str, Any]:
        """Return the `content` of the submit request, with an example."""
        example = sample({**schema, "properties": _required(schema)})
        if model_at.startswith("$request.body"):
            example = {**example, "model": self.name}
        examples = {"minimal": {"value": example}}
        return {"application/json": {"schema": {"$ref": file}, "examples": examples}}

    # ---- the model

    def _model_schema(self) -> tuple[dict[str, Any], str, str]:
        """Return the schema of a submission, the place of the model's name in the request, and the task."""
        found = self.source.json_schema(self.submit.spec.get("requestBody"))
        schema = self.source.simple(found) if found is not MISSING else {}
        if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
            self.notes.append("submit: the body is not described as a JSON object; assumed: an object with a prompt")
            schema = {"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}}
        schema = {"$schema": DIALECT, **{name: one for name, one in schema.items() if name != "$schema"}}
        for place, name in _parameters(schema):
            self._fit(schema, place, name)
        # APIs name the model either in the path or in the body.
        in_path = next((name for name in self.submit.names if "model" in name.lower()), None)
        if in_path is not None:
            model_at = f"$request.path.{in_path}"
        else:
            if "model" not in schema["properties"]:
                self.notes.append("submit: no member names the model; added as 'model'")
            schema["properties"]["model"] = {"type": "string", "enum": [self.name], "default": self.name}
            schema["required"] = list(dict.fromkeys([*schema.get("required", []), "model"]))
            model_at = "$request.body#/model"
        example = sample({**schema, "properties": _required(schema)})
        if not _keeps(schema, example):
            self.notes.append("submit: no example of the body could be made; its members are reduced to their types")
            schema["properties"] = {name: _bare(one) for name, one in schema["properties"].items()}
        image = _first_frame(schema)
        task = "image-to-video" if image else "text-to-video"
        self.notes.append(f"task: {task}")
        return schema, model_at, task

    def _fit(self, schema: dict[str, Any], place: Pointer, name: str) -> None:
        """Give a well-known parameter a type that contracts allow for it."""
        own = resolve_schema(schema, place)
        kind = next(iter(sorted(PARAMETER_KINDS[name])))
        plain: dict[str, Any] = {key: own[key] for key in ("title", "description") if key in own}
        fits = isinstance(own.get("type"), str) and own["type"] in PARAMETER_KINDS[name]
        if name == "resolution" and not own.get("enum"):
            self.notes.append("resolution: its values are not listed; assumed: 720p")
            _set_schema(schema, place, {**plain, "type": "string", "enum": ["720p"], "default": "720p"})
        elif not fits:
            self.notes.append(f"{name}: its type is not {kind}; replaced")
            _set_schema(schema, place, {**plain, "type": kind})

    def _model(self, schema: dict[str, Any], task: str) -> dict[str, Any]:
        """Return the one model, with a price for each resolution."""
        resolutions = [place for place, name in _parameters(schema) if name == "resolution"]
        tiers = resolve_schema(schema, resolutions[0])["enum"] if resolutions else ["default"]
        image = _first_frame(schema)
        parameters = {"first_frame": format_pointer(image)} if image else {}
        found = sorted(_parameters(schema), key=lambda one: len(one[0]))
        for place, name in found:
            if sum(other == name for _, other in found) > 1 and name not in parameters:
                self.notes.append(f"{name}: found in several places; chosen: {format_pointer(place)}")
                parameters[name] = format_pointer(place)
        return {
            "id": self.name,
            "task": task,
            **({"parameters": parameters} if parameters else {}),
            "price": {str(tier): "0.10" for tier in tiers},
        }

    def _operations(self, at: Mapping[str, Pointer], accepted: Any, model_at: str) -> dict[str, Any]:
        """Return the roles, with the bindings that cannot be derived from other bindings."""
        submit: dict[str, Any] = {"model": model_at}
        if at["job"] != at["submitted"]:
            submit["job"] = f"$response.body#{format_pointer(at['submitted'])}"
        stage = find_member_at(accepted, at["stage"])
        if not stage and (place := _stage_place(accepted, at["stage"])) is not None:
            submit["stage"] = f"$response.body#{format_pointer(place)}"
        status = {
            name: f"$response.body#{format_pointer(at[key])}"
            for name, key in (("job", "job"), ("stage", "stage"), ("video_url", "video"), ("error_message", "error"))
            if at[key]
        }
        return {
            "submit": {"operationId": self.submit.id, "bindings": submit},
            "status": {"operationId": self.status.id, "bindings": status},
        }


def find_member_at(value: Any, place: Pointer) -> bool:
    """Whether a value has a member at a place."""
    return resolve(value, place) is not MISSING


def _stage_place(accepted: Any, place: Pointer) -> Pointer | None:
    """Return the place of a response's top-level member that has the name of the status operation's stage."""
    return (place[-1],) if isinstance(accepted, dict) and place[-1] in accepted else None


def resolve_schema(schema: Any, place: Pointer) -> dict[str, Any]:
    """Return the schema of a member."""
    for step in place:
        schema = schema.get("properties", {}).get(step, {}) if isinstance(schema, dict) else {}
    return schema if isinstance(schema, dict) else {}


def _set_schema(schema: dict[str, Any], place: Pointer, new: dict[str, Any]) -> None:
    """Replace the schema of a member, in place."""
    for step in place[:-1]:
        schema = schema["properties"][step]
    schema["properties"][place[-1]] = new


def _keeps(schema: Any, value: Any) -> bool:
    """Whether a value is valid against a schema; false if the schema cannot be compiled."""
    try:
        return jsonschema_rs.Draft202012Validator(schema).is_valid(value)
    except ValueError:
        return False


def _required(schema: Mapping[str, Any]) -> dict[str, Any]:
    needed = schema.get("required", ())
    return {name: one for name, one in schema["properties"].items() if name in needed}


def _bare(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: schema[name] for name in ("type", "title", "description", "enum") if name in schema}


def _if(place: Pointer, value: Any) -> dict[Pointer, Any]:
    return {place: value} if place else {}


def _parameters(schema: Any, pointer: Pointer = ()) -> list[tuple[Pointer, str]]:
    """Return the place and name of each well-known parameter, at most three levels deep."""
    found: list[tuple[Pointer, str]] = []
    for name, one in schema.get("properties", {}).items() if len(pointer) < 3 else ():
        if name in PARAMETER_KINDS and name not in ("first_frame", "references"):
            found.append(((*pointer, name), name))
        found += _parameters(one, (*pointer, name))
    return found


def _graph(stages: Mapping[str, str]) -> dict[str, Any]:
    """Return the stage graph: each stage leads to the next, and the last non-terminal stage to every terminal one."""
    going = [name for name, kind in stages.items() if kind in LASTS]
    good = [name for name, kind in stages.items() if kind == "success"]
    bad = [name for name, kind in stages.items() if kind not in (*LASTS, "success")]
    graph: dict[str, Any] = {}
    for index, name in enumerate(going):
        last = index == len(going) - 1
        # The first successor is the one on the way to success.
        onward = [*good, *bad] if last else [going[index + 1]]
        graph[name] = {"class": stages[name], "next": onward, "lasts": LASTS[stages[name]]}
    return graph | {name: {"class": stages[name]} for name in (*good, *bad)}


def _is_video(name: str, schema: Mapping[str, Any]) -> bool:
    return bool(re.search(r"video|output_url|result_url|^url$", name.lower())) and has_type(schema, "string")


def _is_error(name: str, schema: Mapping[str, Any]) -> bool:
    return bool(re.search(r"error|failure|^message$", name.lower())) and has_type(schema, "string")


def _is_message(name: str, schema: Mapping[str, Any]) -> bool:
    return name.lower() in ("message", "detail", "error", "error_message", "msg", "title") and has_type(
        schema, "string"
    )


def _first_frame(schema: Any) -> Pointer | None:
    """Return the place of the video's first-frame image."""
    names = ("image", "image_url", "first_frame", "first_frame_image", "first_frame_url", "img_url")
    return find_member(schema, lambda name, one: name.lower() in names and has_type(one, "string"))
