"""The situations of a contract as faults: a documented refusal that the request does not deserve."""

from __future__ import annotations

from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import REFUSAL, DecidedOperation, Fault, Options
from hobbyhorse.scenarios.options import ACCEPTED, RETRY_AFTER, RETRY_AFTER_DATE, RETRY_AFTER_FORM, RETRY_AFTER_ODD

# Between the bodies and the fields.
RANK = 25


def _refused(decided: DecidedOperation, options: Options) -> Sent:
    refused = decided.refuse(decided.name)
    form = options.get("retry_after_form") or options.get("retry_after_odd")
    return refused.retry_after(options.get("retry_after"), options.get("retry_after_date"), decided.now, form)


ANY_SITUATION = Fault(
    name="any situation",
    stands=(REFUSAL,),
    says="responds as the contract documents for this situation, such as `rate_limited`",
    effect=_refused,
    options=(RETRY_AFTER, RETRY_AFTER_DATE, RETRY_AFTER_FORM, RETRY_AFTER_ODD, ACCEPTED),
    rank=RANK,
    replaces=True,
)
