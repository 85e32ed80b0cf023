"""What a suite for servers sends, probe by probe: free ones first, then the gravest and the cheapest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from hobbyhorse.conformance.server.bodies import Body, bounds, negatives
from hobbyhorse.conformance.server.budget import worst
from hobbyhorse.conformance.server.endpoint import OutOfTime
from hobbyhorse.conformance.server.machine import MOST_JOBS, interleave
from hobbyhorse.conformance.server.rules.notifying import ALLOWANCE, SLACK
from hobbyhorse.conformance.server.session import WRONG_KEY, EndpointUnreachable, Session, Skipped, with_callback
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.traces.annotated import READS

FREE = Decimal(0)
OVERLAPPING = 4
MALFORMED = "no-such-form"
NO_MODEL = "no-such-model"
BROKEN_JSON = b'{"broken": '
RANGES = ("bytes=0-99", "bytes=100-199", "bytes=-100")
CALLBACK_QUIET_SECONDS = 5.0
"""How long is waited for a callback that must not come any more."""
SLACK_SECONDS = 5.0
NEAR_SECONDS = 60.0
"""How near the end of a link has to be, to be waited for."""
NEEDS_JOB = ("status", "result", "cancel")


@dataclass(frozen=True, slots=True)
class Probe:
    """Requests that belong concurrently: what they may cost at worst, what they show, and how they are made."""

    name: str
    family: str
    cost: Callable[[Session], Decimal]
    says: str
    run: Callable[[Session], object]


Tell = Callable[[str, str], None]


def run_probes(session: Session, told: Tell = lambda name, says: None) -> None:
    """Make every probe, as far as money and time go; what is left out is noted, with the reason."""
    left = each_probe(session)
    for probe in left:
        if probe.cost(session) > 0 and not session.judgeable:
            return
        told(probe.name, probe.says)
        try:
            probe.run(session)
        except Skipped as error:
            session.note(probe.name, str(error))
        except EndpointUnreachable:
            return
        except OutOfTime:
            for one in (probe, *left):
                session.note(one.name, "the time of the suite was over")
            return


def probes(session: Session) -> tuple[Probe, ...]:
    """Return every probe for a contract and a model, in the order in which they are made."""
    return tuple(each_probe(session))


def each_probe(session: Session) -> Iterator[Probe]:
    """Yield every probe; what takes long to think of is thought of when its turn comes."""
    yield from _reads(session.contract)
    yield from _refused(session)
    yield from _jobs(session)
    yield from _bounds(session)


def most(session: Session) -> Decimal:
    """Return what every probe concurrently may cost at worst."""
    return sum((probe.cost(session) for probe in probes(session)), FREE)


def _free(session: Session) -> Decimal:
    return FREE


def _reads(contract: Contract) -> Iterator[Probe]:
    """Yield the probes that cost nothing."""
    named = [role for role in NEEDS_JOB if role in contract.operations]
    yield Probe("identity:unknown", "identity", _free, f"{_words(named)} of a job that nobody has", _unknown)
    yield Probe("identity:malformed", "identity", _free, f"{_words(named)} of an id of no such form", _malformed)
    for role, operation in contract.operations.items():
        if operation.method == "GET" and role not in (*NEEDS_JOB, "list"):
            yield Probe(f"read:{role}", "shape", _free, f"what {role} answers", partial(_read, role))
    free = [role for role in _needs_key(contract) if role not in ("submit", "run")]
    for role in free:
        yield Probe(f"auth:{role}", "authentication", _free, f"{role} with no key, and with a wrong one", _auth(role))


def _refused(session: Session) -> Iterator[Probe]:
    """Yield the probes that are meant to be refused, and cost something where they are not."""
    contract = session.contract
    for role in ("submit", "run"):
        if role in _needs_key(contract):
            price, says = _price_of_role(role), f"{role} with no key, and with a wrong one"
            yield Probe(f"auth:{role}", "authentication", lambda b, price=price: 2 * price(b), says, _auth(role))  # type: ignore[misc]
    yield Probe("negative:json", "negatives", _worst, "an order that is no JSON", _no_json)
    yield Probe("negative:type", "negatives", _price, "an order as text/plain", _wrong_type)
    yield Probe("negative:model", "negatives", _worst, "an order for a model that is not there", _no_model)
    found = sorted(negatives(contract, session.model, session.submit, session.order), key=lambda body: body.price)
    for body in found:
        yield Probe(body.label, "negatives", _cost(body), f"an order that asks for {body.expected}", _negative(body))


def _jobs(session: Session) -> Iterator[Probe]:
    """Yield the probes that make jobs, and those that look at what was made."""
    contract = session.contract
    yield Probe("job", "lifecycle", _price, "one job: ordered, polled to its end", _job)
    yield Probe("job:after", "lifecycle", _free, "the same job, read again after its end", _after)
    yield Probe("job:media", "media", _free, "its video, whole, in ranges and as HEAD", _media)
    yield Probe(
        "retention:before", "retention", _free, "its link and its status while they hold, and after", _retention
    )
    if "list" in contract.operations:
        yield Probe("identity:list", "identity", _free, "the list, which contains it", _list)
    if session.other_key:
        yield Probe("identity:foreign", "identity", _free, "the same job, asked for by another account", _foreign)
    if "cancel" in contract.operations:
        yield Probe("cancel:finished", "cancel", _free, "cancelling it after its end", _cancel_finished)
    if contract.idempotency.mode != "none" and contract.idempotency.key is not None:
        yield Probe("idempotency", "idempotency", lambda b: 5 * b.price, "one key, several orders", _idempotency)
    if "cancel" in contract.operations:
        yield Probe("cancel:order", "cancel", _price, "a job that is cancelled, twice, and read after", _cancel)
    if contract.callbacks is not None:
        yield Probe("callback:order", "callbacks", _price, "a job that is told of by callbacks", _callback)
    says = f"up to {MOST_JOBS} jobs, ordered and read in a mixed order"
    yield Probe("machine", "lifecycle", lambda b: MOST_JOBS * b.price, says, interleave)


def _bounds(session: Session) -> Iterator[Probe]:
    """Yield the probes at the documented bounds, the cheapest first."""
    found = sorted(bounds(session.contract, session.model, session.submit, session.order), key=lambda body: body.price)
    for body in found:
        yield Probe(body.label, "negatives", _cost(body), "an order at a documented bound", _bound(body))


def _words(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _price(session: Session) -> Decimal:
    return session.price


def _worst(session: Session) -> Decimal:
    return worst(session.contract)


def _price_of_role(role: str) -> Callable[[Session], Decimal]:
    return _price if role == "submit" else _worst


def _cost(body: Body) -> Callable[[Session], Decimal]:
    return lambda session: body.price


def _needs_key(contract: Contract) -> list[str]:
    return [role for role, operation in contract.operations.items() if operation.authenticated]


def _unknown(session: Session) -> None:
    for role in NEEDS_JOB:
        if role in session.contract.operations:
            _call(session, role, "identity:unknown", expected="unknown_job", path={"job": session.unknown_job()})


def _malformed(session: Session) -> None:
    for role in NEEDS_JOB:
        if role in session.contract.operations:
            _call(session, role, "identity:malformed", expected="unknown_job", path={"job": MALFORMED})


def _read(role: str, session: Session) -> None:
    session.call(role, probe=f"read:{role}")


def _call(session: Session, role: str, probe: str, **more: Any) -> None:
    """Call one of several operations; one that does not answer leaves the others as they are."""
    try:
        session.call(role, probe=probe, **more)
    except Skipped as error:
        session.note(f"{probe} ({role})", str(error))


KEYS: Mapping[str, tuple[str | None, str]] = {
    "auth:none": (None, "unauthenticated"),
    "auth:wrong": (WRONG_KEY, "key_refused"),
}


def _auth(role: str) -> Callable[[Session], None]:
    def run(session: Session) -> None:
        for probe, (key, expected) in KEYS.items():
            if role in ("submit", "run"):
                body = session.order if role == "submit" else session.run_body()
                if body is not MISSING:
                    price = _price_of_role(role)(session)
                    session.submit_expecting_refusal(probe, expected, price, role=role, key=key, body=body)
            else:
                path = {"job": session.unknown_job()}
                session.call(role, probe=probe, expected=expected, key=key, path=path)

    return run


def _no_json(session: Session) -> None:
    headers = {"content-type": "application/json"}
    price = worst(session.contract)
    session.submit_expecting_refusal("negative:json", "malformed_body", price, content=BROKEN_JSON, headers=headers)


def _wrong_type(session: Session) -> None:
    headers = {"content-type": "text/plain"}
    session.submit_expecting_refusal(
        "negative:type", "unsupported_media_type", session.price, body=session.order, headers=headers
    )


def _no_model(session: Session) -> None:
    body, path = other_model(session.submit, session.order)
    session.submit_expecting_refusal("negative:model", "unknown_model", worst(session.contract), body=body, path=path)


def other_model(submit: Operation, order: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """Return an order, and what its path names, for a model that is not there."""
    binding = submit.bindings.get("model")
    body, path = dict(order), dict[str, str]()
    for place in binding.request if binding else ():
        if place.part == "path":
            path["model"] = NO_MODEL
        elif place.part == "body" and len(place.pointer) == 1 and place.pointer[0] in body:
            body[place.pointer[0]] = NO_MODEL
    return body, path


def _negative(body: Body) -> Callable[[Session], object]:
    return lambda session: session.submit_expecting_refusal(body.label, body.expected, body.price, body=body.value)


def _bound(body: Body) -> Callable[[Session], object]:
    return lambda session: session.submit_order(body.label, body.value, price=body.price)


def _job(session: Session) -> None:
    paid = session.paid()
    if "result" in session.contract.operations:
        session.poll(paid.id, "job", "result")
    session.concurrently([partial(session.poll, paid.id, "job:concurrent", wait=False)] * OVERLAPPING)
    session.finished()
    session.concurrently([partial(session.poll, paid.id, "job:concurrent", wait=False)] * OVERLAPPING)


def _after(session: Session) -> None:
    job = session.finished().id
    for role in ("status", "result", "status"):
        if role in session.contract.operations:
            session.poll(job, "job:after", role)
    for role in sorted(READS & set(session.contract.operations)):
        for query in _asked_by_query(session.contract.operations[role]):
            session.poll(job, "job:after", role, query=query)


def _asked_by_query(operation: Operation) -> list[dict[str, str]]:
    """Return the queries that ask for an answer in another form."""
    found = []
    for situation in operation.situations.values():
        for place, value in situation.when:
            query = {place.name: str(value).lower() if isinstance(value, bool) else str(value)}
            if place.part == "query" and query not in found:
                found.append(query)
    return found


def _media(session: Session) -> None:
    paid = session.finished()
    session.fetch_video(paid)
    url = session.link(paid)
    for asked in RANGES:
        session.endpoint.fetch(url, probe="job:range", headers={"range": asked})
    session.endpoint.fetch(url, probe="job:head", method="HEAD")


def _retention(session: Session) -> None:
    paid = session.finished()
    url = session.link(paid)
    session.poll(paid.id, "retention:before")
    session.endpoint.fetch(url, probe="retention:before", headers={"range": RANGES[0]})
    left = None if paid.expires is None else paid.expires - session.endpoint.now()
    if left is None or left > NEAR_SECONDS:
        session.note("retention:after", "the link's end is not near enough to be waited for")
        return
    session.pause(max(left, 0.0) + SLACK_SECONDS)
    session.endpoint.fetch(url, probe="retention:after", headers={"range": RANGES[0]})
    session.poll(paid.id, "retention:after")


def _list(session: Session) -> None:
    if not session.accepted:
        raise Skipped("no job was made")
    session.call("list", probe="identity:list")


def _foreign(session: Session) -> None:
    job = session.finished().id
    for role in NEEDS_JOB:
        if role in session.contract.operations:
            session.call(
                role, probe="identity:foreign", expected="foreign_job", key=session.other_key, path={"job": job}
            )


def _cancel_finished(session: Session) -> None:
    job = session.finished().id
    session.poll(job, "cancel:finished", "cancel")
    session.poll(job, "cancel:finished")


def _idempotency(session: Session) -> None:
    place = session.contract.idempotency.key
    assert place is not None
    replays = session.contract.idempotency.mode == "replay"

    def headers(key: str) -> dict[str, str]:
        return {place.name: key}

    key, body = session.fresh_key(), session.marked("idempotency")
    again = "replayed" if replays else "key_used"
    session.submit_order("idempotency:first", body, headers=headers(key))
    session.submit_order("idempotency:again", body, expected=again, headers=headers(key))
    other = session.marked("another")
    expected = "key_mismatch" if replays else "key_used"
    session.submit_expecting_refusal(
        "idempotency:other", expected, session.price_of(other), body=other, headers=headers(key)
    )
    sent, body = headers(session.fresh_key()), session.marked("concurrent")
    work = partial(session.submit_order, "idempotency:concurrent", body, headers=sent)
    session.concurrently([work] * 2)


def _cancel(session: Session) -> None:
    step = session.submit_order("cancel:order", session.marked("cancel"))
    job = step.job_told
    if job is None:
        raise Skipped(f"the order was answered {step.status} without an id")
    session.poll(job, "cancel:order", wait=False)
    session.poll(job, "cancel:first", "cancel", wait=False)
    session.poll(job, "cancel:again", "cancel")
    for _ in range(2):
        session.poll(job, "cancel:after")
    if "result" in session.contract.operations:
        session.poll(job, "cancel:after", "result")


def _callback(session: Session) -> None:
    if session.receiver is None:
        raise Skipped("there is no address that callbacks could come to: --callback-url")
    body = with_callback(session.submit, session.marked("callback"), session.receiver.url)
    if body is MISSING:
        raise Skipped("the body of an order has no place for an address")
    job = session.submit_order("callback:order", body).job_told
    if job is None:
        raise Skipped("the order was not accepted")
    session.follow(job, "callback:order")
    _await_deliveries(session, job)


def _await_deliveries(session: Session, job: str) -> None:
    """Wait for the first message, for the one after it, and for none behind that: as long as rules give them."""
    callbacks, receiver = session.contract.callbacks, session.receiver
    assert callbacks is not None
    assert receiver is not None
    again = ALLOWANCE * (callbacks.retries[0] if callbacks.retries else 0.0) + SLACK + 1.0
    patience = callbacks.deadline + again
    for number in (1, 2):
        ends = session.clock() + patience
        while len(receiver.deliveries) < number:
            if session.clock() > ends:
                session.note("callback:order", f"message {number} did not come within {patience:g} s")
                return
            session.pause(0.1)
        patience = again
    session.pause(CALLBACK_QUIET_SECONDS)
    if any(delivery.job not in (None, job) for delivery in receiver.deliveries):
        session.note("callback:order", "messages came for other jobs, too")
