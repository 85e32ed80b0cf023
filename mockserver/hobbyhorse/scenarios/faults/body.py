"""Faults of a whole body: cut JSON, a page, nothing, an error under a status of success."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import GRAVE, MUDDLES, OPERATION, Decided, DecidedOperation, Fault, Invalid, Options
from hobbyhorse.scenarios.options import ACCEPTED, GATEWAY_STATUS, PASSING_STATUS, SITUATION, STATUS

# After the connection: a body arrives.
RANK = 20
HTML = (
    b"<!DOCTYPE html>\n<html><head><title>Please wait</title></head>"
    b"<body><h1>The service is not available</h1><p>This page is not a response to your request.</p></body></html>\n"
)
# The statuses whose responses have no body (RFC 9110, sections 15.3.5, 15.3.6, 15.4.5): an HTML page cannot have them.
NO_BODY = (204, 205, 304)


def page(status: int, html: bytes = HTML) -> Sent:
    """Return an HTML page, without the headers of the usual response: a gateway sends it, which does not know them."""
    return Sent(status, (), html).typed("text/html; charset=utf-8")


def shown_status(options: Options) -> int:
    """Return the status of a page: a gateway's, a passing one, or the usual one."""
    found: int = options.get("gateway_status") or options.get("passing_status") or options["status"]
    return found


def refuse_bodiless(options: Options) -> Invalid | None:
    """Refuse a status that a page cannot have."""
    status = options.get("status")
    if status not in NO_BODY:
        return None
    message = f"a response with status {status} has no body, so it cannot be a page"
    return Invalid("status", message, f"use the move {EMPTY_BODY.name!r}")


def _malformed(decided: Decided, options: Options) -> Sent:
    body = decided.sent.body
    # At least half is kept, so that the body still looks like JSON, and at least one byte is lost.
    most = max(1, len(body) - 1)
    return replace(decided.sent, body=(body or b"{")[: decided.random.randint((most + 1) // 2, most)])


def _error(decided: DecidedOperation, options: Options) -> Sent:
    # The point of this fault: an error whose status claims success.
    return replace(decided.refuse(options["situation"]), status=200)


def _has_no_error(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
    situations = operation.situations if operation is not None else {}
    if operation is not None and options["situation"] not in situations:
        where = f"{contract.key} {operation.role}"
        yield f"{where} has no situation {options['situation']!r}; it has {', '.join(situations)}"


MALFORMED_JSON = Fault(
    name="malformed_json",
    stands=(OPERATION,),
    says="responds with truncated JSON",
    effect=_malformed,
    rank=RANK,
    uses=frozenset({GRAVE}),
)
HTML_PAGE = Fault(
    name="html_page",
    stands=(OPERATION,),
    says="responds with an HTML page",
    effect=lambda decided, options: page(shown_status(options)),
    options=(STATUS, GATEWAY_STATUS, PASSING_STATUS, ACCEPTED),
    rank=RANK,
    replaces=True,
    invalid=refuse_bodiless,
    uses=frozenset({GRAVE, MUDDLES}),
)
EMPTY_BODY = Fault(
    name="empty_body",
    stands=(OPERATION,),
    says="responds without a body",
    effect=lambda decided, options: replace(decided.sent, status=options["status"], body=b""),
    options=(STATUS, ACCEPTED),
    rank=RANK,
    replaces=True,
    uses=frozenset({GRAVE}),
)
ERROR_ENVELOPE = Fault(
    name="error_envelope",
    stands=(OPERATION,),
    says="responds 200 with the body of an error",
    effect=_error,
    options=(SITUATION.by_default("server_error"), ACCEPTED),
    rank=RANK,
    replaces=True,
    misfits=_has_no_error,
    uses=frozenset({GRAVE}),
)
