"""Rules about API keys: a request without a valid key is refused and has no effect. Knows no server."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hobbyhorse.conformance.rule import MUST, OBSERVED, SECURITY, SHOULD, VIDEO, Breach, rule
from hobbyhorse.conformance.server.expected import (
    KindEvidence,
    conclusive,
    conclusive_probes,
    documented,
    home_of,
    label,
    one_per_kind,
    operation_of,
    probes,
    refused_as,
    responses_of,
)
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.reading import message_of, read_items
from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace, Step
from hobbyhorse.traces.orders import own, reads_of

# The status that refuses a key, whatever else a contract gives it for (RFC 9110, section 15.5.2).
UNAUTHORIZED = 401
# The probe that sends the key in another scheme.
OTHER_SCHEME = "auth:scheme"
# The probe that sends the key under test after an unknown one.
AGAIN = "key:again"
# The beginnings of the names of the probes with an unknown key, and with one that is almost the key under test.
WRONG, NEAR = "auth:wrong", "auth:wrong:near:"
# The role that only the provider's operators may call, and the probe that calls it with an ordinary key.
OPERATORS, OPERATORS_ONLY = "operator_cancel", "auth:operator"
# Ways in which an unknown key is almost the key under test.
NEAR_KEYS: Mapping[str, Callable[[str], str]] = {
    "the key in the other case": str.swapcase,
    "the key and one more character": lambda key: f"{key}x",
    "the key without its last character": lambda key: key[:-1],
}
REFUSALS_OF_KEYS = frozenset({"unauthenticated", "key_refused"})


def _keyed(contract: Contract) -> bool:
    return any(operation.authenticated for operation in contract.operations.values())


@rule(
    "AUT-01",
    "key-required",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    applies=_keyed,
    says="Every operation that needs a key refuses a request without one, as documented.",
    because="An operation that works without a key is paid for by the accounts that have one.",
    fix="Put the check of the key in front of the routing of all operations, so that no new operation can be without "
    "it.",
)
@one_per_kind
def key_required(trace: AnnotatedTrace) -> KindEvidence:
    """Find requests without a key that are served, or refused in an undocumented way."""
    yield from _refused(trace, "auth:none", "unauthenticated", "without a key")


@rule(
    "AUT-02",
    "wrong-key-refused",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    applies=_keyed,
    says="Every operation that needs a key refuses a request with an unknown key, as documented.",
    because="A server that accepts any key also accepts a revoked one.",
    fix="Look every key up in the store of valid keys, and respond with the documented refusal if it is missing or "
    "revoked.",
)
@one_per_kind
def wrong_key_refused(trace: AnnotatedTrace) -> KindEvidence:
    """Find requests with an unknown key that are served, or refused in an undocumented way."""
    # Not every provider distinguishes an unknown key from a missing one.
    also = ("unauthenticated", "forbidden")
    yield from _refused(trace, WRONG, "key_refused", "with an unknown key", also=also)


def _refused(
    trace: AnnotatedTrace, probe: str, situation: str, how: str, *, also: tuple[str, ...] = ()
) -> KindEvidence:
    """Compare the responses to probes with a situation, or with others if the operation does not define it."""
    for step in conclusive_probes(trace, probe):
        operation = operation_of(trace, step)
        if not operation.authenticated:
            continue
        yield OBSERVED
        refusals = refused_as(trace, step, situation, () if situation in operation.situations else also)
        if refusals and step.ok:
            yield (step.role, "ok"), _served(trace, step, situation, how)
        # SHA-01 reports an undocumented status; one fault should break one rule.
        elif documented(trace.contract, operation, step.status):
            yield from (((step.role, breach.places), breach) for breach in refusals)


def _served(trace: AnnotatedTrace, step: Step, situation: str, how: str) -> Breach:
    operation = operation_of(trace, step)
    meant = find_situation(operation, situation)
    home = (home_of(trace.contract, operation, meant.name),) if meant is not None else ()
    almost = (step.exchange.probe or "").partition(NEAR)[2]
    message = f"{label(step)}: a request {how}{almost and f', {almost},'} gets {step.status}; documented: a refusal"
    return Breach(message, (*_security(trace, step), *home), step.status)


def _security(trace: AnnotatedTrace, step: Step) -> tuple[str, ...]:
    """Return the places that define which key an operation needs."""
    own = responses_of(operation_of(trace, step)).removesuffix("responses") + "security"
    return (own if trace.contract.schemas.at(own) is not MISSING else "openapi.json#/security", own)


@rule(
    "AUT-03",
    "refused-creates-nothing",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    applies=_keyed,
    says="A submission without a valid key creates no job, and a cancellation without one changes none.",
    because="A job that is created despite the refusal is billed to no account, or to the wrong one.",
    fix="Check the key before the job is written, and roll back everything that was written if the check fails.",
)
@one_per_kind
def refused_creates_nothing(trace: AnnotatedTrace) -> KindEvidence:
    """Find jobs made without a valid key: the response carries an id, or a later response knows it."""
    yield from _cancelled_by_others(trace)
    for step in probes(trace, "auth:"):
        # Temporary failures count here, too: a 500 may have made the job before it failed.
        if step.role not in SUBMISSIONS or not step.delivered:
            continue
        yield OBSERVED
        # A refusal may carry an id of its own, such as a request id: only a job that is known later was made.
        job = step.reading.values.get("job")
        made = step.ok or (isinstance(job, str) and _known(trace, step, job))
        if made and (job or step.video):
            message = f"{label(step)}: a submission without a valid key ({step.exchange.probe}) created job {job!r}"
            yield step.exchange.probe, Breach(message, (), job)


def _cancelled_by_others(trace: AnnotatedTrace) -> KindEvidence:
    """Find jobs that were cancelled before their owner's first cancellation, after somebody else's request."""
    for step in probes(trace, "auth:", "identity:foreign"):
        if step.role != "cancel" or step.job is None or not step.delivered:
            continue
        reads = reads_of(trace, step.job)
        own_cancel = next((one.arrived for one in trace.of("cancel") if one.job == step.job and own(trace, one)), None)
        ended = any(read.terminal for read in reads if read.done <= step.arrived)
        later = [one for one in reads if one.arrived >= step.done and (own_cancel is None or one.done <= own_cancel)]
        if ended or not any(read.ok for read in later):
            continue
        yield OBSERVED
        if any(read.kinds == {"cancelled"} for read in later):
            message = f"{label(step)}: a request of somebody else ({step.exchange.probe}) cancelled job {step.job!r}"
            yield ("cancel", step.exchange.probe), Breach(message, (), step.status)


@rule(
    "AUT-04",
    "own-key-accepted",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_keyed,
    says="A key that is accepted once is accepted by every operation, each time, also after a request with an unknown "
    "key.",
    because="A client that may submit a job, but not read or cancel it, pays for a video that it cannot have.",
    fix="Read the key in one place for all operations, from the documented header, and let no refused key count "
    "against another one.",
)
@one_per_kind
def own_key_accepted(trace: AnnotatedTrace) -> KindEvidence:
    """Find requests whose key is refused, although another response accepts it."""
    steps = [step for step in trace.steps if _sends_own_key(trace, step)]
    accepting = next((step for step in steps if step.ok), None) or _knowing(trace, steps)
    for step in steps if accepting is not None else ():
        yield OBSERVED
        if accepting is not None and _refuses_key(step):
            security = _security(trace, step)
            message = f"{label(step)}: the key is refused with {step.status}, but {label(accepting)} accepts it"
            yield step.role, Breach(message, security, step.status)


def _knowing(trace: AnnotatedTrace, steps: list[Step]) -> Step | None:
    """Return a response that refuses something else than the key, where the same operation refuses an unknown key."""
    strict = {step.role for step in conclusive_probes(trace, "auth:wrong") if _refuses_key(step)}
    # Without that comparison, a server that looks the job up first would seem to accept any key.
    return next((step for step in steps if step.role in strict and not _refuses_key(step)), None)


def _has_scheme(contract: Contract) -> bool:
    return any(part == "header" and prefix for part, _, prefix in contract.security)


@rule(
    "AUT-05",
    "documented-scheme",
    level=SHOULD,
    severity="S4",
    applies=_has_scheme,
    says="A key is accepted in the documented scheme only, such as Bearer.",
    because="A client that sends its key in another scheme works by accident, until a gateway checks the header.",
    fix="Compare the scheme of the header with the documented one, in any case of its letters, before the key is read.",
)
@one_per_kind
def documented_scheme(trace: AnnotatedTrace) -> KindEvidence:
    """Find requests that are granted although their key is in another scheme."""
    for step in conclusive_probes(trace, OTHER_SCHEME):
        yield OBSERVED
        if step.ok:
            documented_schemes = " or ".join(
                prefix.strip() for _, _, prefix in trace.contract.security if prefix.strip()
            )
            message = f"{label(step)}: a key in the scheme Basic gets {step.status}; documented: {documented_schemes}"
            yield step.role, Breach(message, _security(trace, step), step.status)


def _has_operators(contract: Contract) -> bool:
    return OPERATORS in contract.operations


@rule(
    "AUT-06",
    "operators-only",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    applies=_has_operators,
    says="An operation for the provider's operators refuses an ordinary key, as documented.",
    because="Whoever has a key, or finds one, cancels jobs that are billed, and no operator knows of it.",
    fix="Check the role of the key's owner where the operation is routed, before the job is looked up.",
)
@one_per_kind
def operators_only(trace: AnnotatedTrace) -> KindEvidence:
    """Find requests for operators that are granted with an ordinary key, or refused in another way."""
    for step in conclusive_probes(trace, OPERATORS_ONLY):
        yield OBSERVED
        operation = operation_of(trace, step)
        if step.ok:
            message = f"{label(step)}: a request for operators with an ordinary key gets {step.status}"
            request = responses_of(operation).removesuffix("responses") + "summary"
            yield step.role, Breach(f"{message}; documented: a refusal", (request,), step.status)
        elif documented(trace.contract, operation, step.status):
            yield from (((step.role, breach.places), breach) for breach in refused_as(trace, step, "forbidden"))


def _sends_own_key(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a request has the key under test, and its response is conclusive."""
    elsewhere = (step.exchange.probe or "").startswith(("auth:", "identity:foreign"))
    # Recorded traffic may have several keys.
    known = step.exchange.probe is not None and step.role in trace.contract.operations
    return known and not elsewhere and operation_of(trace, step).authenticated and conclusive(step)


def _refuses_key(step: Step) -> bool:
    """Whether a response refuses the key, and nothing else."""
    situations = step.reading.situations
    # A contract may also refuse an unknown job with this status.
    return set(situations) <= REFUSALS_OF_KEYS if situations else step.status == UNAUTHORIZED


def _known(trace: AnnotatedTrace, refused: Step, job: str) -> bool:
    """Whether a later response is about a job id that only the refusal contained."""
    for step in trace.after(refused, trace.of("status", "result", "list")):
        if step.ok and (step.job_told == job or step.exchange.job == job):
            return True
        items = read_items(operation_of(trace, step), message_of((), step.value)) if step.role == "list" else []
        if any(item.get("job") == job for item in items):
            return True
    return False
