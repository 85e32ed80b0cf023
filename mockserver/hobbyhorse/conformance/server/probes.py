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
    """Requests that belong together: what they may cost at worst, what they show, and how they are made."""

    name: str
    family: str
    cost: Callable[[Session], Decimal]
    says: str
    run: Callable[[Session], object]


Tell = Callable[[str, str], None]


def run_probes(bench: Session, told: Tell = lambda name, says: None) -> None:
    """Make every probe, as far as money and time go; what is left out is noted, with the reason."""
    left = each_probe(bench)
    for probe in left:
        if probe.cost(bench) > 0 and not bench.judgeable:
            return
        told(probe.name, probe.says)
        try:
            probe.run(bench)
        except Skipped as error:
            bench.note(probe.name, str(error))
        except EndpointUnreachable:
            return
        except OutOfTime:
            for one in (probe, *left):
                bench.note(one.name, "the time of the suite was over")
            return


def probes(bench: Session) -> tuple[Probe, ...]:
    """Return every probe for a contract and a model, in the order in which they are made."""
    return tuple(each_probe(bench))


def each_probe(bench: Session) -> Iterator[Probe]:
    """Yield every probe; what takes long to think of is thought of when its turn comes."""
    yield from _reads(bench.contract)
    yield from _refused(bench)
    yield from _jobs(bench)
    yield from _bounds(bench)


def most(bench: Session) -> Decimal:
    """Return what every probe together may cost at worst."""
    return sum((probe.cost(bench) for probe in probes(bench)), FREE)


def _free(bench: Session) -> Decimal:
    return FREE


def _reads(contract: Contract) -> Iterator[Probe]:
    """Yield the probes that cost nothing."""
    named = [role for role in NEEDS_JOB if role in contract.operations]
    yield Probe("identity:unknown", "identity", _free, f"{_words(named)} of a job that nobody has", _unknown)
    yield Probe("identity:malformed", "identity", _free, f"{_words(named)} of an id of no such form", _malformed)
    for role, operation in contract.operations.items():
        if operation.method == "GET" and role not in (*NEEDS_JOB, "list"):
            yield Probe(f"read:{role}", "shape", _free, f"what {role} answers", partial(_read, role))
    free = [role for role in _guarded(contract) if role not in ("submit", "run")]
    for role in free:
        yield Probe(f"auth:{role}", "authentication", _free, f"{role} with no key, and with a wrong one", _auth(role))


def _refused(bench: Session) -> Iterator[Probe]:
    """Yield the probes that are meant to be refused, and cost something where they are not."""
    contract = bench.contract
    for role in ("submit", "run"):
        if role in _guarded(contract):
            price, says = _price_of_role(role), f"{role} with no key, and with a wrong one"
            yield Probe(f"auth:{role}", "authentication", lambda b, price=price: 2 * price(b), says, _auth(role))  # type: ignore[misc]
    yield Probe("negative:json", "negatives", _worst, "an order that is no JSON", _no_json)
    yield Probe("negative:type", "negatives", _price, "an order as text/plain", _wrong_type)
    yield Probe("negative:model", "negatives", _worst, "an order for a model that is not there", _no_model)
    found = sorted(negatives(contract, bench.model, bench.submit, bench.order), key=lambda body: body.price)
    for body in found:
        yield Probe(body.label, "negatives", _cost(body), f"an order that asks for {body.expected}", _negative(body))


def _jobs(bench: Session) -> Iterator[Probe]:
    """Yield the probes that make jobs, and those that look at what was made."""
    contract = bench.contract
    yield Probe("job", "lifecycle", _price, "one job: ordered, polled to its end", _job)
    yield Probe("job:after", "lifecycle", _free, "the same job, read again after its end", _after)
    yield Probe("job:media", "media", _free, "its video, whole, in ranges and as HEAD", _media)
    yield Probe(
        "retention:before", "retention", _free, "its link and its status while they hold, and after", _retention
    )
    if "list" in contract.operations:
        yield Probe("identity:list", "identity", _free, "the list, which contains it", _list)
    if bench.other_key:
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


def _bounds(bench: Session) -> Iterator[Probe]:
    """Yield the probes at the documented bounds, the cheapest first."""
    found = sorted(bounds(bench.contract, bench.model, bench.submit, bench.order), key=lambda body: body.price)
    for body in found:
        yield Probe(body.label, "negatives", _cost(body), "an order at a documented bound", _bound(body))


def _words(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _price(bench: Session) -> Decimal:
    return bench.price


def _worst(bench: Session) -> Decimal:
    return worst(bench.contract)


def _price_of_role(role: str) -> Callable[[Session], Decimal]:
    return _price if role == "submit" else _worst


def _cost(body: Body) -> Callable[[Session], Decimal]:
    return lambda bench: body.price


def _guarded(contract: Contract) -> list[str]:
    return [role for role, operation in contract.operations.items() if operation.authenticated]


def _unknown(bench: Session) -> None:
    for role in NEEDS_JOB:
        if role in bench.contract.operations:
            _call(bench, role, "identity:unknown", expected="unknown_job", path={"job": bench.unknown_job()})


def _malformed(bench: Session) -> None:
    for role in NEEDS_JOB:
        if role in bench.contract.operations:
            _call(bench, role, "identity:malformed", expected="unknown_job", path={"job": MALFORMED})


def _read(role: str, bench: Session) -> None:
    bench.call(role, probe=f"read:{role}")


def _call(bench: Session, role: str, probe: str, **more: Any) -> None:
    """Call one of several operations; one that does not answer leaves the others as they are."""
    try:
        bench.call(role, probe=probe, **more)
    except Skipped as error:
        bench.note(f"{probe} ({role})", str(error))


KEYS: Mapping[str, tuple[str | None, str]] = {
    "auth:none": (None, "unauthenticated"),
    "auth:wrong": (WRONG_KEY, "key_refused"),
}


def _auth(role: str) -> Callable[[Session], None]:
    def run(bench: Session) -> None:
        for probe, (key, expected) in KEYS.items():
            if role in ("submit", "run"):
                body = bench.order if role == "submit" else bench.run_body()
                if body is not MISSING:
                    price = _price_of_role(role)(bench)
                    bench.ask_in_vain(probe, expected, price, role=role, key=key, body=body)
            else:
                path = {"job": bench.unknown_job()}
                bench.call(role, probe=probe, expected=expected, key=key, path=path)

    return run


def _no_json(bench: Session) -> None:
    headers = {"content-type": "application/json"}
    price = worst(bench.contract)
    bench.ask_in_vain("negative:json", "malformed_body", price, content=BROKEN_JSON, headers=headers)


def _wrong_type(bench: Session) -> None:
    headers = {"content-type": "text/plain"}
    bench.ask_in_vain("negative:type", "unsupported_media_type", bench.price, body=bench.order, headers=headers)


def _no_model(bench: Session) -> None:
    body, path = other_model(bench.submit, bench.order)
    bench.ask_in_vain("negative:model", "unknown_model", worst(bench.contract), body=body, path=path)


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
    return lambda bench: bench.ask_in_vain(body.label, body.expected, body.price, body=body.value)


def _bound(body: Body) -> Callable[[Session], object]:
    return lambda bench: bench.ask(body.label, body.value, price=body.price)


def _job(bench: Session) -> None:
    paid = bench.paid()
    if "result" in bench.contract.operations:
        bench.poll(paid.id, "job", "result")
    bench.together([partial(bench.poll, paid.id, "job:concurrent", wait=False)] * OVERLAPPING)
    bench.finished()
    bench.together([partial(bench.poll, paid.id, "job:concurrent", wait=False)] * OVERLAPPING)


def _after(bench: Session) -> None:
    job = bench.finished().id
    for role in ("status", "result", "status"):
        if role in bench.contract.operations:
            bench.poll(job, "job:after", role)
    for role in sorted(READS & set(bench.contract.operations)):
        for query in _asked_by_query(bench.contract.operations[role]):
            bench.poll(job, "job:after", role, query=query)


def _asked_by_query(operation: Operation) -> list[dict[str, str]]:
    """Return the queries that ask for an answer in another form."""
    found = []
    for situation in operation.situations.values():
        for place, value in situation.when:
            query = {place.name: str(value).lower() if isinstance(value, bool) else str(value)}
            if place.part == "query" and query not in found:
                found.append(query)
    return found


def _media(bench: Session) -> None:
    paid = bench.finished()
    bench.watch(paid)
    url = bench.link(paid)
    for asked in RANGES:
        bench.endpoint.fetch(url, probe="job:range", headers={"range": asked})
    bench.endpoint.fetch(url, probe="job:head", method="HEAD")


def _retention(bench: Session) -> None:
    paid = bench.finished()
    url = bench.link(paid)
    bench.poll(paid.id, "retention:before")
    bench.endpoint.fetch(url, probe="retention:before", headers={"range": RANGES[0]})
    left = None if paid.expires is None else paid.expires - bench.endpoint.now()
    if left is None or left > NEAR_SECONDS:
        bench.note("retention:after", "the link's end is not near enough to be waited for")
        return
    bench.pause(max(left, 0.0) + SLACK_SECONDS)
    bench.endpoint.fetch(url, probe="retention:after", headers={"range": RANGES[0]})
    bench.poll(paid.id, "retention:after")


def _list(bench: Session) -> None:
    if not bench.accepted:
        raise Skipped("no job was made")
    bench.call("list", probe="identity:list")


def _foreign(bench: Session) -> None:
    job = bench.finished().id
    for role in NEEDS_JOB:
        if role in bench.contract.operations:
            bench.call(role, probe="identity:foreign", expected="foreign_job", key=bench.other_key, path={"job": job})


def _cancel_finished(bench: Session) -> None:
    job = bench.finished().id
    bench.poll(job, "cancel:finished", "cancel")
    bench.poll(job, "cancel:finished")


def _idempotency(bench: Session) -> None:
    place = bench.contract.idempotency.key
    assert place is not None
    replays = bench.contract.idempotency.mode == "replay"

    def headers(key: str) -> dict[str, str]:
        return {place.name: key}

    key, body = bench.fresh_key(), bench.marked("idempotency")
    again = "replayed" if replays else "key_used"
    bench.ask("idempotency:first", body, headers=headers(key))
    bench.ask("idempotency:again", body, expected=again, headers=headers(key))
    other = bench.marked("another")
    expected = "key_mismatch" if replays else "key_used"
    bench.ask_in_vain("idempotency:other", expected, bench.price_of(other), body=other, headers=headers(key))
    sent, body = headers(bench.fresh_key()), bench.marked("concurrent")
    work = partial(bench.ask, "idempotency:concurrent", body, headers=sent)
    bench.together([work] * 2)


def _cancel(bench: Session) -> None:
    step = bench.ask("cancel:order", bench.marked("cancel"))
    job = step.job_told
    if job is None:
        raise Skipped(f"the order was answered {step.status} without an id")
    bench.poll(job, "cancel:order", wait=False)
    bench.poll(job, "cancel:first", "cancel", wait=False)
    bench.poll(job, "cancel:again", "cancel")
    for _ in range(2):
        bench.poll(job, "cancel:after")
    if "result" in bench.contract.operations:
        bench.poll(job, "cancel:after", "result")


def _callback(bench: Session) -> None:
    if bench.receiver is None:
        raise Skipped("there is no address that callbacks could come to: --callback-url")
    body = with_callback(bench.submit, bench.marked("callback"), bench.receiver.url)
    if body is MISSING:
        raise Skipped("the body of an order has no place for an address")
    job = bench.ask("callback:order", body).job_told
    if job is None:
        raise Skipped("the order was not accepted")
    bench.follow(job, "callback:order")
    _await_deliveries(bench, job)


def _await_deliveries(bench: Session, job: str) -> None:
    """Wait for the first message, for the one after it, and for none behind that: as long as rules give them."""
    callbacks, receiver = bench.contract.callbacks, bench.receiver
    assert callbacks is not None
    assert receiver is not None
    again = ALLOWANCE * (callbacks.retries[0] if callbacks.retries else 0.0) + SLACK + 1.0
    patience = callbacks.deadline + again
    for number in (1, 2):
        ends = bench.clock() + patience
        while len(receiver.deliveries) < number:
            if bench.clock() > ends:
                bench.note("callback:order", f"message {number} did not come within {patience:g} s")
                return
            bench.pause(0.1)
        patience = again
    bench.pause(CALLBACK_QUIET_SECONDS)
    if any(delivery.job not in (None, job) for delivery in receiver.deliveries):
        bench.note("callback:order", "messages came for other jobs, too")
