"""Variations of the status and of the media type, and of requests that a server need not serve as asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.effects import Rewritten, Sent
from hobbyhorse.scenarios.fault import (
    CALLBACK,
    HEADERS,
    HEADS,
    MEDIA,
    MUST,
    OPERATION,
    SHOULD,
    STATUS_LAYER,
    UNRANGED,
    VARIATION,
    Decided,
    DecidedOperation,
    Fault,
    Options,
)
from hobbyhorse.scenarios.faults.callback import never_expires
from hobbyhorse.scenarios.options import JSON_TYPE, OK_STATUS, OLDER, OTHER_TYPE, STATUS

# After the variations of the members.
RANK = 54
RANGE_IGNORED, HEAD_REFUSED, JSON_TYPES = "ignored range", "refused HEAD", "JSON media type"
OTHER_TYPES, ORDER_STATUS, STAMPS = "other media type", "status of the order", "signature time"
NOT_MODIFIED = "not modified"
# Well within the tolerance of a signature, in both directions.
HALF = 0.5
SUBMITS, READS = ("submit", "run"), ("status", "result")


def _of_head(fault: Fault, decided: Decided, options: Options) -> bool:
    return decided.method == "HEAD"


def _of_get(fault: Fault, decided: Decided, options: Options) -> bool:
    return decided.method == "GET"


def _whole(decided: Decided, options: Options) -> Sent:
    """Return a file without the headers of a server that knows ranges."""
    headers = tuple(one for one in decided.sent.headers if one[0] not in (b"accept-ranges", b"content-range"))
    return replace(decided.sent, headers=headers)


def _typed(decided: Decided, options: Options) -> Sent:
    media_type = options["type"]
    if media_type != "none":
        return decided.sent.typed(media_type)
    return replace(decided.sent, headers=tuple(one for one in decided.sent.headers if one[0] != b"content-type"))


def _of_read(fault: Fault, decided: DecidedOperation, options: Options) -> bool:
    return decided.operation.role in READS and decided.method == "GET" and decided.sent.status == 200


def _unread(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
    if operation is not None and operation.role not in READS:
        yield f"{contract.key} {operation.role}: only polls are repeated, as {fault.name!r} requires"


def _tagged(decided: DecidedOperation, options: Options) -> Sent:
    """Return a response with an entity tag; 304 if the client has this response already."""
    tag = f'"{hashlib.sha256(decided.sent.body).hexdigest()[:16]}"'
    known = [one.strip().removeprefix("W/") for one in decided.known_tags.split(",")]
    sent = Sent(304, (), b"") if tag in known else decided.sent
    return sent.headed("etag", tag)


def _of_order(fault: Fault, decided: DecidedOperation, options: Options) -> bool:
    return decided.operation.role in SUBMITS and decided.sent.status != options["ok_status"]


HEAD = Fault(
    name="head_refused",
    stands=(MEDIA,),
    says="refuses HEAD where GET is allowed",
    effect=lambda decided, options: Sent(options["status"], (), b""),
    options=(replace(STATUS, tried=(403, 404, 405, 501), default=405),),
    rank=RANK,
    kind=VARIATION,
    applies=_of_head,
    uses=frozenset({HEADS}),
    layer=STATUS_LAYER,
    form=HEAD_REFUSED,
    source="a link is signed for one method",
    level=MUST,
)
WHOLE = Fault(
    name="range_ignored",
    stands=(MEDIA,),
    says="responds 200 and the whole file to a request with a Range",
    effect=_whole,
    rank=RANK,
    kind=VARIATION,
    applies=_of_get,
    uses=frozenset({UNRANGED}),
    layer=STATUS_LAYER,
    form=RANGE_IGNORED,
    source="RFC 9110, 14.2",
    level=MUST,
)
SAME_TYPE = Fault(
    name="json_media_type",
    stands=(OPERATION,),
    says="writes the media type of JSON in other letters, or with a parameter",
    effect=lambda decided, options: decided.sent.typed(options["json_type"]),
    options=(JSON_TYPE,),
    rank=RANK,
    kind=VARIATION,
    layer=HEADERS,
    form=JSON_TYPES,
    source="RFC 9110, 8.3.1",
    level=MUST,
)
NO_TYPE = Fault(
    name="other_type",
    stands=(OPERATION,),
    says="sends JSON under another media type, or under none",
    effect=_typed,
    options=(OTHER_TYPE,),
    rank=RANK,
    kind=VARIATION,
    layer=HEADERS,
    form=OTHER_TYPES,
    source="seen in the wild",
    level=SHOULD,
)
SUCCESS = Fault(
    name="order_status",
    stands=(OPERATION,),
    says="accepts the order with another status of success",
    effect=lambda decided, options: replace(decided.sent, status=options["ok_status"]),
    options=(OK_STATUS,),
    rank=RANK,
    kind=VARIATION,
    applies=_of_order,
    layer=STATUS_LAYER,
    form=ORDER_STATUS,
    source="RFC 9110, 15.3",
    level=SHOULD,
)
STAMP = Fault(
    name="signature_time",
    stands=(CALLBACK,),
    says="signs with a clock that differs by half of the tolerance",
    effect=lambda callbacks, options: Rewritten(
        older=(callbacks.signature.tolerance or 0.0) * (HALF if options["older"] else -HALF)
    ),
    options=(OLDER,),
    rank=RANK,
    kind=VARIATION,
    misfits=never_expires,
    layer=STATUS_LAYER,
    form=STAMPS,
    source="the contract",
    level=MUST,
)
TAGGED = Fault(
    name="entity_tag",
    stands=(OPERATION,),
    says="sends an entity tag, and 304 to a client that asks with it whether anything has changed",
    effect=_tagged,
    rank=RANK,
    kind=VARIATION,
    applies=_of_read,
    misfits=_unread,
    layer=STATUS_LAYER,
    form=NOT_MODIFIED,
    source="RFC 9110, 15.4.5",
    level=MUST,
)
