"""Variations of the bytes on the wire: the case of header names, the coding and the framing of the body."""

from __future__ import annotations

from hobbyhorse.scenarios.effects import Framed, Rewritten
from hobbyhorse.scenarios.fault import (
    CALLBACK,
    CODING,
    DIVIDES,
    FRAMING,
    HEADERS,
    MEDIA,
    MUST,
    OPERATION,
    VARIATION,
    Decided,
    Fault,
    Options,
)
from hobbyhorse.scenarios.options import CODING_NAME, ENDS_BY, FRAMING_NAME, NAMES, SEGMENT, VERSION

# After the older variations of the form.
RANK = 51
HEADER_NAMES, BODY_LENGTH, CODED, BODY_PARTS = "header names", "body length", "content coding", "body in parts"
"""The forms of these variations, by which rules recognize them."""


def _answers(fault: Fault, decided: Decided, options: Options) -> bool:
    """Whether a response may have another framing: any to another method than HEAD."""
    return decided.method != "HEAD"


def _offered(fault: Fault, decided: Decided, options: Options) -> bool:
    """Whether the client accepts the coding, and the response is no part of a file."""
    whole = decided.sent.status != 206 and bool(decided.sent.body)
    return decided.method != "HEAD" and options["coding"].lower() in decided.offered and whole


HEADER_CASE = Fault(
    name="header_case",
    stands=(OPERATION, MEDIA),
    says="sends the names of headers in another case",
    effect=lambda decided, options: Framed(names=options["names"]),
    options=(NAMES,),
    rank=RANK,
    kind=VARIATION,
    applies=_answers,
    layer=HEADERS,
    form=HEADER_NAMES,
    source="RFC 9110, 5.1",
    level=MUST,
)
CALLBACK_HEADER_CASE = Fault(
    name="header_case",
    stands=(CALLBACK,),
    says="sends the names of headers in another case",
    effect=lambda callbacks, options: Rewritten(names=options["names"]),
    options=(NAMES,),
    rank=RANK,
    kind=VARIATION,
    layer=HEADERS,
    form=HEADER_NAMES,
    source="RFC 9110, 5.1",
    level=MUST,
)
FRAMED = Fault(
    name="framed",
    stands=(OPERATION, MEDIA),
    says="marks the end of the body without a `Content-Length`, or closes the connection after it",
    effect=lambda decided, options: Framed(
        framing=options["framing"],
        version=options.get("version", ""),
        ends=options.get("ends", ""),
        segment=options.get("segment", 0),
    ),
    options=(FRAMING_NAME, VERSION, ENDS_BY, SEGMENT),
    rank=RANK,
    kind=VARIATION,
    applies=_answers,
    layer=FRAMING,
    form=BODY_LENGTH,
    source="RFC 9112, 6.3 and 9.6",
    level=MUST,
)
CODED_BODY = Fault(
    name="coded",
    stands=(OPERATION, MEDIA),
    says="compresses the body for a client that offers to take it so",
    effect=lambda decided, options: Framed(coding=options["coding"]),
    options=(CODING_NAME,),
    rank=RANK,
    kind=VARIATION,
    applies=_offered,
    layer=CODING,
    form=CODED,
    source="RFC 9110, 8.4.1 and 12.5.3",
    level=MUST,
)
CALLBACK_PARTS = Fault(
    name="in_parts",
    stands=(CALLBACK,),
    says="sends the body in two parts, cut within a character if one has several bytes",
    effect=lambda callbacks, options: Rewritten(in_parts=True),
    rank=RANK,
    kind=VARIATION,
    uses=frozenset({DIVIDES}),
    layer=FRAMING,
    form=BODY_PARTS,
    source="RFC 9112, 6.2",
    level=MUST,
)
