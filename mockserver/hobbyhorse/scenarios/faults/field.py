"""Faults of one field: an undocumented value, an earlier one, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import OPERATION, RETURNS, DecidedOperation, Fault, Options
from hobbyhorse.scenarios.fields import Field, places, rewritten
from hobbyhorse.scenarios.options import VALUE, WORD

# After the bodies: everything else arrives as usual.
RANK = 30
UNKNOWN_WORD = "reticulating"
STAGE, CHOSEN = Field("stage"), Field()


def _changed(needs: Field, change: Callable[[Any, Options], Any]) -> Callable[[DecidedOperation, Options], Sent]:
    """Return the effect that changes the value of a field."""

    def effect(decided: DecidedOperation, options: Options) -> Sent:
        pointers = places(needs, options, decided.operation)
        return replace(
            decided.sent, body=rewritten(decided.sent.body, needs, pointers, lambda here: change(here, options))
        )

    return effect


def _other_type(here: Any, options: Options) -> Any:
    if isinstance(here, str):
        return {"value": here}
    return [] if isinstance(here, dict) else str(here)


def _shows_no_first_stage(
    fault: Fault, contract: Contract, operation: Operation | None, options: Options
) -> Iterator[str]:
    if operation is None:
        return
    shown = {stage for situation in operation.situations.values() for stage in situation.stages}
    if operation.role == "submit" or contract.graph.initial not in shown:
        where = f"{contract.key} {operation.role}"
        yield f"{where} never shows a job in its first stage again, as {fault.name!r} requires"


UNKNOWN_STATUS = Fault(
    name="unknown_status",
    stands=(OPERATION,),
    says="responds with an undocumented stage",
    effect=_changed(STAGE, lambda here, options: options["word"]),
    options=(WORD.by_default(UNKNOWN_WORD),),
    rank=RANK,
    needs=STAGE,
)
REGRESS = Fault(
    name="regress",
    stands=(OPERATION,),
    says="responds as if the job were in its first stage again",
    effect=lambda decided, options: decided.earlier() or decided.sent,
    rank=RANK,
    needs=STAGE,
    applies=lambda fault, decided, options: decided.earlier() is not None,
    misfits=_shows_no_first_stage,
    uses=frozenset({RETURNS}),
)
MISSING_FIELD = Fault(
    name="missing_field",
    stands=(OPERATION,),
    says="omits a field",
    effect=_changed(CHOSEN, lambda here, options: MISSING),
    options=(VALUE,),
    rank=RANK,
    needs=CHOSEN,
)
NULL_FIELD = Fault(
    name="null_field",
    stands=(OPERATION,),
    says="sets a field to null",
    effect=_changed(CHOSEN, lambda here, options: None),
    options=(VALUE,),
    rank=RANK,
    needs=CHOSEN,
)
EMPTY_FIELD = Fault(
    name="empty_field",
    stands=(OPERATION,),
    says="sets a field to the empty string",
    effect=_changed(CHOSEN, lambda here, options: ""),
    options=(VALUE,),
    rank=RANK,
    needs=CHOSEN,
)
WRONG_TYPE = Fault(
    name="wrong_type",
    stands=(OPERATION,),
    says="changes the JSON type of a field",
    effect=_changed(CHOSEN, _other_type),
    options=(VALUE,),
    rank=RANK,
    needs=CHOSEN,
)
