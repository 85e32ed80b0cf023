"""Faults of a callback: lost, late, several times, false, or without its payload."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.values import Callbacks, Contract, Operation
from hobbyhorse.scenarios.effects import AfterNext, Copies, FalseFirst, Postponed, Rewritten, Unsent
from hobbyhorse.scenarios.fault import CALLBACK, EMPTIES, ESTRANGES, MISSIGNS, OUTDATES, UNSENT, Fault, Options
from hobbyhorse.scenarios.fields import payload_places
from hobbyhorse.scenarios.options import APART, COUNT, REPORT, SECONDS

# The only faults of their place.
RANK = 80
# A minute: later than a client polls, so that the poll sees the end of the job first.
LATE_SECONDS = 60.0
# A client with a single job would otherwise never get its callback; a minute leaves time for another job to end.
OUT_OF_ORDER_SECONDS = 60.0
# Beyond the tolerance by a minute, so that a receiver with a slightly wrong clock still finds the signature too old.
OLDER_SECONDS = 60.0
WRONG_SECRET = "whsec_d3Jvbmc="


def _stale(callbacks: Callbacks, options: Options) -> FalseFirst:
    tolerance = callbacks.signature.tolerance if callbacks.signature is not None else None
    return FalseFirst(older=(tolerance or 0.0) + OLDER_SECONDS, apart=options["apart"])


def _without_payload(callbacks: Callbacks, options: Options) -> Rewritten:
    def change(body: bytes) -> bytes:
        value = orjson.loads(body)
        for pointer in payload_places(callbacks):
            if resolve(value, pointer) is not MISSING:
                value = replaced(value, pointer, None)
        return orjson.dumps(value)

    return Rewritten(change)


def _unsigned_anyway(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
    if contract.callbacks is None or contract.callbacks.signature is None:
        yield f"{contract.key} does not sign its callbacks, as {fault.name!r} requires"


def never_expires(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
    """Yield a reason if the signatures of a contract have no tolerance."""
    signature = contract.callbacks.signature if contract.callbacks else None
    if signature is None or signature.tolerance is None:
        yield f"the signatures of {contract.key} do not expire, as {fault.name!r} requires"


def _has_no_payload(fault: Fault, contract: Contract, operation: Operation | None, options: Options) -> Iterator[str]:
    if contract.callbacks is not None and not payload_places(contract.callbacks):
        yield f"a callback of {contract.key} has no payload beyond job and stage, as {fault.name!r} requires"


LOST = Fault(
    name="lost",
    stands=(CALLBACK,),
    says="never sends the callback",
    effect=lambda callbacks, options: Unsent(),
    rank=RANK,
    uses=frozenset({UNSENT}),
)
DUPLICATE = Fault(
    name="duplicate",
    stands=(CALLBACK,),
    says="delivers the callback several times concurrently",
    effect=lambda callbacks, options: Copies(options["count"]),
    options=(COUNT,),
    rank=RANK,
)
LATE = Fault(
    name="late",
    stands=(CALLBACK,),
    says="delivers the callback after a delay",
    effect=lambda callbacks, options: Postponed(options["seconds"]),
    options=(SECONDS.by_default(LATE_SECONDS),),
    rank=RANK,
)
OUT_OF_ORDER = Fault(
    name="out_of_order",
    stands=(CALLBACK,),
    says="delivers the callback after that of the next job, or a minute late",
    effect=lambda callbacks, options: AfterNext(OUT_OF_ORDER_SECONDS, "out of order"),
    rank=RANK,
)
FORGED = Fault(
    name="forged",
    stands=(CALLBACK,),
    says="first delivers another one, signed with a wrong secret",
    effect=lambda callbacks, options: FalseFirst(secret=WRONG_SECRET, apart=options["apart"]),
    options=(APART,),
    rank=RANK,
    misfits=_unsigned_anyway,
    uses=frozenset({MISSIGNS}),
)
STALE = Fault(
    name="stale",
    stands=(CALLBACK,),
    says="first delivers another one, with an expired signature",
    effect=_stale,
    options=(APART,),
    rank=RANK,
    misfits=never_expires,
    uses=frozenset({OUTDATES}),
)
UNSIGNED = Fault(
    name="unsigned",
    stands=(CALLBACK,),
    says="first delivers another one, without a signature",
    effect=lambda callbacks, options: FalseFirst(signed=False, apart=options["apart"]),
    options=(APART,),
    rank=RANK,
    misfits=_unsigned_anyway,
    uses=frozenset({MISSIGNS}),
)
UNKNOWN_JOB = Fault(
    name="unknown_job",
    stands=(CALLBACK,),
    says="first delivers another one, correctly signed, for a job that was never submitted",
    effect=lambda callbacks, options: FalseFirst(
        stranger=True, failure=options["report"] == "failure", apart=options["apart"]
    ),
    options=(REPORT, APART),
    rank=RANK,
    uses=frozenset({ESTRANGES}),
)
NULL_PAYLOAD = Fault(
    name="null_payload",
    stands=(CALLBACK,),
    says="delivers the callback with null in every field but the job, its stage and the event",
    effect=_without_payload,
    rank=RANK,
    misfits=_has_no_payload,
    uses=frozenset({EMPTIES}),
)
