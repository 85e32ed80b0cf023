"""Variations of the members of a response: the freedom that the contract leaves, and habits seen in the wild.

The variations of the level MUST are valid against the contract's own schema: one that is not does not apply. Those of
the level SHOULD may leave it, as real servers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve
from hobbyhorse.contract.reading import as_json
from hobbyhorse.contract.values import Callbacks, Contract, Operation
from hobbyhorse.scenarios.effects import Rewritten, Sent
from hobbyhorse.scenarios.fault import (
    CALLBACK,
    FAILING,
    MEMBERS,
    MUST,
    OPERATION,
    SHOULD,
    VARIATION,
    DecidedOperation,
    Fault,
    Options,
)
from hobbyhorse.scenarios.faults.origin import LINK_ORIGINS
from hobbyhorse.scenarios.faults.text import JSON_FORM, SIGNED_BYTES
from hobbyhorse.scenarios.fields import shows
from hobbyhorse.scenarios.options import EMPTY, ERROR_TYPE, FIRST, PLACE, PROGRESS, SHAPE

# After the variations of the text.
RANK = 53
UNKNOWN_MEMBERS, FREEDOM, OUTPUTS = "unknown members", "documented freedom", "further outputs"
NO_ERROR, NO_VALUE, ERROR_SHAPE = "empty error", "empty values", "shape of the error"
OTHER_ERROR_TYPE = "type of the error"
# The progress of a job that is done, as a share.
FULL = 1
DECOY, NOTE = "x_previous", "x_note"
# Types of outputs that accompany a video. Without them, a list that begins with something else belongs to no video.
COMPANIONS = ("thumbnail", "first_frame", "cover", "preview")
# Two, three and four bytes in UTF-8; the last character has two units in UTF-16.
WIDE = "Zürich, 駿馬 🐎"
# The bound values that a client needs; everything else may be absent.
NEEDED = (
    "job",
    "stage",
    "video_url",
    "status_url",
    "result_url",
    "cancel_url",
    "error_code",
    "error_message",
    "refusal_code",
    "refusal_message",
)
# One value of each type of JSON: a place that takes all of them is not documented.
ANY_TYPE: tuple[Any, ...] = ("x", 7.5, True, [], {})
EMPTIES: Mapping[str, Any] = {"null": None, "text": "", "object": {}, "zero": 0, "list": [], "false": False}

Change = Callable[[DecidedOperation, Any, Options], Any]


def bound(operation: Operation, *names: str) -> list[Pointer]:
    """Return the pointers, in an operation's responses, of bound values."""
    found = [operation.bindings[name] for name in names if name in operation.bindings]
    return [place.pointer for binding in found for place in binding.response if place.part == "body"]


def members(value: Any, at: Pointer = ()) -> Iterator[Pointer]:
    """Yield the pointers of all members of objects in a JSON value, inner ones first."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            here = (*at, str(name))
            yield from members(item, here)
            if isinstance(value, dict):
                yield here


def _effect(change: Change) -> Callable[[DecidedOperation, Options], Sent]:
    return lambda decided, options: replace(
        decided.sent, body=orjson.dumps(change(decided, as_json(decided.sent.body), options))
    )


def _allowed(change: Change) -> Callable[[Fault, DecidedOperation, Options], bool]:
    """Return the function that finds out whether a change applies: it changes the value, to one that is valid."""

    def applies(fault: Fault, decided: DecidedOperation, options: Options) -> bool:
        value = as_json(decided.sent.body)
        if decided.method == "HEAD" or not isinstance(value, dict):
            return False
        changed = change(decided, value, options)
        return bool(changed != value) and (fault.level != MUST or decided.valid(changed))

    return applies


# ---- unknown members


def _decoy(decided: DecidedOperation, value: Any) -> dict[str, Any]:
    """Return an object with the names of another one and older values: another stage, another URL."""
    elsewhere = decided.origins.get("foreign", LINK_ORIGINS["foreign"])
    found: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, str):
            found[name] = f"{elsewhere}/old" if "://" in item else f"old {item}"
        elif isinstance(item, dict):
            found[name] = _decoy(decided, item)
    return found


def _with_decoys(decided: DecidedOperation, value: Any, options: Options) -> Any:
    if isinstance(value, list):
        return [_with_decoys(decided, item, options) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {name: _with_decoys(decided, item, options) for name, item in value.items()}
    decoy = {DECOY: _decoy(decided, value)}
    return {**decoy, **inner} if options["first"] else {**inner, **decoy}


# ---- the freedom that the contract leaves


def _optional(operation: Operation, value: Any) -> Iterator[Pointer]:
    """Yield the members that no client needs: neither a needed value nor an object around one."""
    needed = bound(operation, *NEEDED)
    for at in members(value):
        if not any(pointer[: len(at)] == at for pointer in needed):
            yield at


def _droppable(decided: DecidedOperation, value: Any) -> Iterator[Pointer]:
    """Yield the optional members, except the type of the video: without it, a client cannot tell it from a picture."""
    found = _outputs(decided.operation, value)
    kept = (*found[0], str(found[1]), "type") if found is not None else None
    yield from (at for at in _optional(decided.operation, value) if tuple(at) != kept)


def _without_optional(decided: DecidedOperation, value: Any, options: Options) -> Any:
    for at in list(_droppable(decided, value)):
        less = replaced(value, at, MISSING)
        if resolve(value, at) is not MISSING and decided.valid(less):
            value = less
    return value


def _with_null(decided: DecidedOperation, value: Any, options: Options) -> Any:
    for at in list(_droppable(decided, value)):
        if resolve(value, at[:-1]) is None or resolve(value, at) is MISSING:
            continue
        null = replaced(value, at, None)
        if decided.valid(null) and not all(decided.valid(replaced(value, at, other)) for other in ANY_TYPE):
            value = null
    return value


def _outputs(operation: Operation, value: Any) -> tuple[Pointer, int] | None:
    """Return the pointer of the list of typed outputs that has the video, and the video's index there."""
    for pointer in bound(operation, "video_url"):
        for end in range(len(pointer) - 1, 0, -1):
            holder = resolve(value, pointer[:end])
            index = pointer[end]
            if isinstance(holder, list) and index.isdigit() and int(index) < len(holder):
                item = holder[int(index)]
                if isinstance(item, dict) and isinstance(item.get("type"), str):
                    return pointer[:end], int(index)
    return None


def _companion(valid: Callable[[Any], bool], value: Any, at: Pointer, index: int) -> str | None:
    """Return a type of output that accompanies a video, if the contract has one."""

    def allows(word: str) -> bool:
        return valid(replaced(value, (*at, str(index), "type"), word))

    return None if allows(DECOY) else next(filter(allows, COMPANIONS), None)


def _further_output(decided: DecidedOperation, value: Any, options: Options) -> Any:
    found = _outputs(decided.operation, value)
    if found is None:
        return value
    at, index = found
    kind = _companion(decided.valid, value, at, index)
    if kind is None and options["place"] == "first":
        return value
    listed = resolve(value, at)
    video = listed[index]
    # A picture beside the video: a URL that is not the video's, of the same host.
    urls = {name: item.partition("?")[0] + ".png" for name, item in video.items() if _is_url(item)}
    picture = {**video, **urls, "type": kind or "image"}
    more = [picture, *listed] if options["place"] == "first" else [*listed, picture]
    return replaced(value, at, more)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and "://" in value


# ---- seen in the wild


def _error_member(operation: Operation) -> Pointer | None:
    """Return the pointer of the member that has the error of a failed job: the object around its code or message."""
    for pointer in bound(operation, "error_message", "error_code"):
        return pointer[:-1] if len(pointer) > 1 and pointer[-2] not in ("data", "detail") else pointer
    return None


def _empty_error(decided: DecidedOperation, value: Any, options: Options) -> Any:
    at = _error_member(decided.operation)
    # Beside a real error, nothing is to be hidden.
    if at is None or resolve(value, at) not in (MISSING, None) or not isinstance(resolve(value, at[:-1]), dict):
        return value
    return replaced(value, at, EMPTIES[options["error_value"]])


def _null_absent(decided: DecidedOperation, value: Any, options: Options) -> Any:
    """Add, as null, the members that other responses of the operation have beside those of this one."""
    examples = [found.template.example for found in decided.operation.situations.values() if found.status < 300]
    for example in examples:
        for at in members(example):
            holder = resolve(value, at[:-1])
            if isinstance(holder, dict) and at[-1] not in holder:
                value = replaced(value, at, None)
    return value


def _empty_members(decided: DecidedOperation, value: Any, options: Options) -> Any:
    """Empty a cost that is a text, and add as empty the lists in which another place of the video would be."""
    for at in bound(decided.operation, "cost"):
        if isinstance(resolve(value, at), str):
            value = _if_valid(decided, value, replaced(value, at, ""))
    for at in bound(decided.operation, "video_url"):
        holder = at[: next((depth for depth, step in enumerate(at) if step.isdigit()), 0)]
        around = resolve(value, holder[:-1]) if holder else MISSING
        if isinstance(around, dict) and holder[-1] not in around:
            value = _if_valid(decided, value, replaced(value, holder, []))
    return value


def _if_valid(decided: DecidedOperation, value: Any, changed: Any) -> Any:
    return changed if decided.valid(changed) else value


def _other_progress(decided: DecidedOperation, value: Any, options: Options) -> Any:
    for at in bound(decided.operation, "progress"):
        here = resolve(value, at)
        if isinstance(here, int | float) and not isinstance(here, bool):
            # Drawn anew for each response, so that it goes up and down.
            back = type(here)(here * decided.random.random())
            other = {"null": None, "full": type(here)(FULL), "back": back}[options["progress"]]
            value = replaced(value, at, other)
    return value


def _other_error(decided: DecidedOperation, value: Any, options: Options) -> Any:
    at = _error_member(decided.operation)
    here = MISSING if at is None else resolve(value, at)
    if at is None or here in (MISSING, None):
        return value
    shapes: Mapping[str, Any] = {
        "text": "the video could not be made",
        "number": {**here, "code": 5001} if isinstance(here, dict) else here,
        "no_code": {name: item for name, item in here.items() if name != "code"} if isinstance(here, dict) else here,
        "no_message": {n: item for n, item in here.items() if n != "message"} if isinstance(here, dict) else here,
        "null": None,
    }
    changed = replaced(value, at, shapes[options["shape"]])
    return changed if decided.valid(changed) else value


def _wild_error(decided: DecidedOperation, value: Any, options: Options) -> Any:
    """Return a response whose error has a type that the contract does not have."""
    at = _error_member(decided.operation)
    here = MISSING if at is None else resolve(value, at)
    if at is None or here in (MISSING, None):
        return value
    told = str(here.get("message") or here.get("code")) if isinstance(here, dict) else str(here)
    types: Mapping[str, Any] = {
        "text": told,
        "number": {**here, "code": 5001} if isinstance(here, dict) and "code" in here else 5001,
        "object": {"code": "internal", "message": told},
        "list": [{"msg": told}],
    }
    changed = replaced(value, at, types[options["written_as"]])
    # Another type that the contract has too is `error_shape`.
    return value if decided.valid(changed) else changed


def _with_wide_text(decided: DecidedOperation, value: Any, options: Options) -> Any:
    return {**value, NOTE: WIDE}


def _wide_callback(callbacks: Callbacks, options: Options) -> Rewritten:
    def change(body: bytes) -> bytes:
        value = as_json(body)
        return orjson.dumps({**value, NOTE: WIDE}) if isinstance(value, dict) else body

    return Rewritten(change)


def _put(value: Any, at: Pointer, item: Any) -> Any:
    """Return a JSON value with an item at a pointer, and with the objects and lists that lead there."""
    if not at:
        return item
    name, rest = at[0], at[1:]
    if name.isdigit() and (isinstance(value, list) or value in (MISSING, None)):
        items = value if isinstance(value, list) else []
        index = int(name)
        return [*items[:index], _put(items[index] if index < len(items) else MISSING, rest, item), *items[index + 1 :]]
    found = value if isinstance(value, dict) else {}
    return {**found, name: _put(found.get(name, MISSING), rest, item)}


def _elsewhere(decided: DecidedOperation, value: Any, options: Options) -> Any:
    """Move the URL of the video to the last of the places that the contract lists for it."""
    listed = bound(decided.operation, "video_url")
    url = resolve(value, listed[0]) if len(listed) > 1 else MISSING
    return _put(replaced(value, listed[0], MISSING), listed[-1], url) if isinstance(url, str) else value


def _needs(*names: str) -> Callable[[Fault, Contract, Operation | None, Options], Iterator[str]]:
    """Return the function that finds the operations whose responses show none of some bound values."""

    def misfits(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
        if operation is not None and not any(shows(operation, name) for name in names):
            yield f"{contract.key} {operation.role}: no response has a value that {fault.name!r} concerns: {names[0]!r}"

    return misfits


def _has_no_room_before_the_video(
    fault: Fault, contract: Contract, operation: Operation | None, options: Options
) -> Iterator[str]:
    """Find the operations that list nothing before a video: no document has an output that accompanies one."""
    lacking = list(_needs("video_url")(fault, contract, operation, options))
    yield from lacking
    if lacking or operation is None or options["place"] != "first":
        return
    for situation in operation.situations.values():
        example, valid = situation.template.example, contract.schemas.validator(situation.schema).is_valid
        found = _outputs(operation, example)
        if found is not None and _companion(valid, example, *found) is not None:
            return
    yield f"{contract.key} {operation.role}: no document has an output before the video, such as a {COMPANIONS[0]}"


def _one_place(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
    if operation is not None and len(bound(operation, "video_url")) < 2:
        yield f"{contract.key} {operation.role}: the contract lists no second place for the URL of the video"


def _fails(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
    if operation is not None and not {"error_code", "error_message"} & operation.bindings.keys():
        yield f"{contract.key} {operation.role}: no response has an error, as {fault.name!r} requires"


def _variation(change: Change, **fields: Any) -> Fault:
    """Return the record of a variation that changes the members of an operation's response by a function."""
    return Fault(
        stands=(OPERATION,),
        effect=_effect(change),
        applies=_allowed(change),
        rank=RANK,
        kind=VARIATION,
        layer=MEMBERS,
        **fields,
    )


DECOYS = _variation(
    _with_decoys,
    name="decoys",
    says="adds an unknown member with older values to every object",
    options=(FIRST,),
    form=UNKNOWN_MEMBERS,
    source="the contract",
    level=MUST,
)
ABSENT = _variation(
    _without_optional,
    name="optional_absent",
    says="omits the members that the contract does not require",
    form=FREEDOM,
    source="the contract",
    level=MUST,
)
NULLS = _variation(
    _with_null,
    name="optional_null",
    says="sets members to null that may be null by the contract",
    form=FREEDOM,
    source="the contract",
    level=MUST,
)
FURTHER_OUTPUT = _variation(
    _further_output,
    name="further_output",
    says="lists a picture beside the video, each with its documented type",
    options=(PLACE,),
    misfits=_has_no_room_before_the_video,
    form=OUTPUTS,
    source="the contract",
    level=MUST,
)
EMPTY_ERROR = _variation(
    _empty_error,
    name="empty_error",
    says="has an empty error while the job has not failed",
    options=(EMPTY,),
    misfits=_fails,
    form=NO_ERROR,
    source="seen in the wild",
    level=SHOULD,
)
NULL_ABSENT = _variation(
    _null_absent,
    name="null_absent",
    says="has null for the members that it does not have yet",
    form=NO_VALUE,
    source="seen in the wild",
    level=SHOULD,
)
EMPTY_MEMBERS = _variation(
    _empty_members,
    name="empty_members",
    says="has an empty cost, and an empty list where the video is elsewhere",
    form=NO_VALUE,
    source="seen in the wild",
    level=SHOULD,
)
OTHER_PROGRESS = _variation(
    _other_progress,
    name="other_progress",
    says="reports a progress that goes back, is null, or is full before the job has ended",
    options=(PROGRESS,),
    misfits=_needs("progress"),
    form=NO_VALUE,
    source="seen in the wild",
    level=SHOULD,
)
OTHER_ERROR = _variation(
    _other_error,
    name="error_shape",
    says="reports the error of a failed job in another shape that the contract has",
    options=(SHAPE,),
    misfits=_fails,
    uses=frozenset({FAILING}),
    form=ERROR_SHAPE,
    source="the contract",
    level=SHOULD,
)
WILD_ERROR = _variation(
    _wild_error,
    name="error_type",
    says="reports the error of a failed job as another type than the contract has",
    options=(ERROR_TYPE,),
    misfits=_fails,
    uses=frozenset({FAILING}),
    form=OTHER_ERROR_TYPE,
    source="seen in the wild",
    level=SHOULD,
)
OTHER_PLACE = _variation(
    _elsewhere,
    name="other_place",
    says="has the URL of the video at another place that the contract lists",
    misfits=_one_place,
    form=FREEDOM,
    source="the contract",
    level=MUST,
)
WIDE_TEXT = _variation(
    _with_wide_text,
    name="wide_text",
    says="adds an unknown member with characters beyond ASCII",
    form=JSON_FORM,
    source="RFC 8259, 8.1",
    level=MUST,
)
WIDE_CALLBACK = Fault(
    name="wide_text",
    stands=(CALLBACK,),
    says="adds an unknown member with characters beyond ASCII, and signs them",
    effect=_wide_callback,
    rank=RANK,
    kind=VARIATION,
    layer=MEMBERS,
    form=SIGNED_BYTES,
    source="RFC 8259, 8.1",
    level=MUST,
)
