"""The requests of the server suite, probe by probe: free probes first, then the most severe and the cheapest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

from hobbyhorse.conformance.server.bodies import (
    CHARSET,
    ESCAPED,
    FOREIGN,
    FORM,
    PLAIN,
    SPELLING,
    Body,
    SharedOrder,
    negatives,
    other_forms,
    replace_parameter,
    shared_bounds,
    spelled,
)
from hobbyhorse.conformance.server.budget import worst
from hobbyhorse.conformance.server.endpoint import OutOfTime
from hobbyhorse.conformance.server.ends import PROBE as ENDS
from hobbyhorse.conformance.server.ends import closely, read_to_the_ends
from hobbyhorse.conformance.server.expected import INTERNAL
from hobbyhorse.conformance.server.machine import MOST_JOBS, interleave
from hobbyhorse.conformance.server.pictures.defaults import has_visible_default, order_defaults, orders_of_default
from hobbyhorse.conformance.server.pictures.orders import (
    order_at_limits,
    order_beyond_limits,
    orders_at_limits,
    orders_in_requests,
    replace_documented,
)
from hobbyhorse.conformance.server.pictures.samples import beyond
from hobbyhorse.conformance.server.queries import ask, form_queries, written
from hobbyhorse.conformance.server.rules.authentication import (
    AGAIN,
    NEAR,
    NEAR_KEYS,
    OPERATORS,
    OPERATORS_ONLY,
    OTHER_SCHEME,
    WRONG,
)
from hobbyhorse.conformance.server.rules.catalogue import requests_of
from hobbyhorse.conformance.server.rules.idempotency import IN_FLIGHT_TRIES, REFUSED_KEY
from hobbyhorse.conformance.server.rules.identity import FRESH, LONG, PAGES, SETTLED, WALKED
from hobbyhorse.conformance.server.rules.notifying import (
    ALLOWANCE,
    FEW_DELAYS,
    GROWTH,
    REDELIVER,
    REDELIVERED,
    SLACK,
    longest_first_retry,
    promises_retry,
)
from hobbyhorse.conformance.server.rules.values import FOLLOWED, ROLE_OF_LINK, links_of
from hobbyhorse.conformance.server.session import (
    WRONG_KEY,
    EndpointUnreachable,
    NotEnded,
    PaidJob,
    Session,
    Skipped,
    with_callback,
)
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.forms.expressions import MISSING, resolve
from hobbyhorse.contract.request import ValidRequest
from hobbyhorse.contract.values import Contract, Model, Operation
from hobbyhorse.traces.annotated import READS, Step

FREE = Decimal(0)
# Enough reads to catch two workers with different views, few enough for a provider's rate limit.
OVERLAPPING = 4
# Reads of the first job in a row, and how many times closer they are than a client's.
CLOSE_READS, CLOSER = 12, 5.0
# Ids of no provider's form: a word, a number, and a text longer than any file name.
MALFORMED = ("no-such-form", "0", "x" * 300)
NO_MODEL = "no-such-model"
BROKEN_JSON = b'{"broken": '
# The first bytes, a part after them, and a suffix: the three kinds of range.
RANGES = ("bytes=0-99", "bytes=100-199", "bytes=-100")
# The first callback of each of three jobs is refused: by an error, as a bad request, and by a redirect.
CALLBACK_REFUSALS = (500, 400, 302)
# Where the delays should grow, the first callback of one job is refused so often that three of them can be compared.
REFUSED_AGAIN = FEW_DELAYS
# A job may take longer than the first one, and the probes after it need time as well.
SHARE_OF_RUN = 0.5
# How long to watch for a callback that must not arrive; a longer wait rarely finds one, and delays every run.
CALLBACK_QUIET_SECONDS = 5.0
# A link may work a little beyond its expiry, because two clocks and a cache differ by seconds.
SLACK_SECONDS = 5.0
# Links usually last for hours or days; only an expiry within a minute is worth the suite's time.
NEAR_SECONDS = 60.0
NEEDS_JOB = ("status", "result", "cancel")
BUSY = "cancel:busy"
# Two jobs of one callback URL, which no order has alone. Their callbacks are acknowledged at once.
SHARED, SHARING = "shared", 2


@dataclass(frozen=True, slots=True)
class Probe:
    """A group of requests: its family, its worst price, a summary for the plan, and the function that sends it."""

    name: str
    family: str
    cost: Callable[[Session], Decimal]
    summary: str
    run: Callable[[Session], object]


# Called with a probe's name and summary before the probe runs.
OnProbe = Callable[[str, str], None]


def run_probes(session: Session, on_probe: OnProbe = lambda name, summary: None) -> None:
    """Run every probe that the budget and the time allow; each one left out is noted with the reason."""
    left = each_probe(session)
    for probe in left:
        # The free probes run first: if they show nothing about the endpoint, no money is spent on it.
        if probe.cost(session) > 0 and not session.judgeable:
            return
        on_probe(probe.name, probe.summary)
        try:
            probe.run(session)
        except Skipped as error:
            session.note(probe.name, str(error))
        except EndpointUnreachable:
            return
        except OutOfTime:
            # The generator continues here, so that probes not yet generated are named in the report, too.
            for one in (probe, *left):
                session.note(one.name, "the suite's time limit was reached")
            return


def probes(session: Session) -> tuple[Probe, ...]:
    """Return every probe for a contract and a model, in the order of execution."""
    return tuple(each_probe(session))


def each_probe(session: Session) -> Iterator[Probe]:
    """Yield every probe lazily: the negatives and bounds take seconds to generate."""
    yield from _reads(session.contract)
    # Stage by stage through all models, so that the budget is not spent on further jobs of the first one.
    for stage in (_refused, _first_job, _further_jobs):
        yield from _for_each_model(session, stage)
    yield from _for_each_model(session, _pictures)
    # Before the bounds, whose jobs are then still under way when the last probe looks at them.
    yield from _queries(session.contract)
    yield from _for_each_model(session, _bounds)
    summary = "every other accepted job, read until it ends, and its video if its order was another one"
    yield Probe(ENDS, "lifecycle", _free, summary, read_to_the_ends)
    # Last, because most of the time between the attempts has then passed.
    if session.contract.callbacks is not None and session.contract.callbacks.growing:
        summary = f"the attempts of a callback that is refused {REFUSED_AGAIN} times"
        yield Probe("callback:delays", "callbacks", _free, summary, _delays)


def _for_each_model(session: Session, stage: Callable[[Session], Iterator[Probe]]) -> Iterator[Probe]:
    for model in session.models:
        session.turn_to(model)
        yield from (_for_model(session, model, probe) for probe in stage(session))


def _for_model(session: Session, model: Model, probe: Probe) -> Probe:
    """Return a probe that makes a model the current one before it runs; its name has the model if there are several."""

    def cost(session: Session) -> Decimal:
        session.turn_to(model)
        return probe.cost(session)

    def run(session: Session) -> object:
        session.turn_to(model)
        return probe.run(session)

    name = probe.name if len(session.models) == 1 else f"{probe.name} ({model.id})"
    return replace(probe, name=name, cost=cost, run=run)


def most(session: Session) -> Decimal:
    """Return the highest possible price of all probes together."""
    return sum((probe.cost(session) for probe in probes(session)), FREE)


def _free(session: Session) -> Decimal:
    return FREE


def _reads(contract: Contract) -> Iterator[Probe]:
    """Yield the probes that cost nothing."""
    named = [role for role in NEEDS_JOB if role in contract.operations]
    yield Probe("identity:unknown", "identity", _free, f"{_words(named)} of a job that does not exist", _unknown)
    yield Probe("identity:malformed", "identity", _free, f"{_words(named)} of malformed ids", _malformed)
    for role, operation in contract.operations.items():
        if operation.method == "GET" and role not in (*NEEDS_JOB, "list"):
            yield Probe(f"read:{role}", "shape", _free, f"the response of {role}", partial(_read, role))
    if "models" in contract.operations:
        summary = "the catalogue's pages and filters"
        yield Probe("catalogue:filters", "catalogue", _free, summary, _filters)
    free = [role for role in _needs_key(contract) if role not in ("submit", "run")]
    for role in free:
        yield Probe(f"auth:{role}", "authentication", _free, f"{role} without a key, and with a wrong key", _auth(role))


def _refused(session: Session) -> Iterator[Probe]:
    """Yield the probes that should be refused, and cost something if they are not."""
    contract = session.contract
    for role in ("submit", "run"):
        if role in _needs_key(contract):
            price, summary = _price_of_role(role), f"{role} without a key, and with a wrong key"
            yield Probe(f"auth:{role}", "authentication", lambda b, price=price: 2 * price(b), summary, _auth(role))  # type: ignore[misc]
    # An unreadable body, or one with an unknown model, may be billed at any price.
    yield Probe("negative:json", "negatives", _worst, "a body that is not valid JSON", _no_json)
    yield Probe("negative:type", "negatives", _price, "a submission as text/plain", _wrong_type)
    yield Probe("negative:model", "negatives", _worst, "a submission for a model that does not exist", _no_model)
    found = sorted(negatives(contract, session.model, session.submit, session.order), key=lambda body: body.price)
    for body in found:
        yield Probe(
            body.label, "negatives", _cost(body), f"a submission that should get {body.expected}", _negative(body)
        )


def _first_job(session: Session) -> Iterator[Probe]:
    """Yield the probe that makes one job, and the probes that inspect it."""
    contract = session.contract
    yield Probe("job", "lifecycle", _price, "one job, submitted and polled until it ends", _job)
    yield Probe("job:after", "lifecycle", _free, "the same job, read again after it has ended", _after)
    if any(name in one.bindings for one in contract.operations.values() for name in ROLE_OF_LINK):
        yield Probe("job:links", "shape", _free, "the links to its status and its result", _links)
    yield Probe("job:media", "media", _free, "its video: in full, in ranges, and with HEAD", _media)
    if found := _about_job(contract):
        summary = f"{_words(found)} of the job without a key, and with a wrong key"
        yield Probe("auth:job", "authentication", _free, summary, _auth_job)
    if OPERATORS in contract.operations:
        summary = "cancelling the job as an operator, with an ordinary key"
        yield Probe(OPERATORS_ONLY, "authentication", _free, summary, _as_operator)
    yield Probe(
        "retention:before", "retention", _free, "its link and its status, before and after the link expires", _retention
    )
    if "list" in contract.operations:
        yield Probe("identity:list", "identity", _free, "the list, which should contain the job", _list)
    if session.other_key:
        summary = "the same job, read, cancelled and listed by another account"
        yield Probe("identity:foreign", "identity", _free, summary, _foreign)
    if "cancel" in contract.operations:
        yield Probe("cancel:finished", "cancel", _free, "cancelling the job after it has ended", _cancel_finished)


def _further_jobs(session: Session) -> Iterator[Probe]:
    """Yield the probes that make jobs of their own, and the probes that inspect those jobs."""
    contract = session.contract
    if contract.idempotency.mode != "none" and contract.idempotency.key is not None:
        yield Probe("idempotency", "idempotency", lambda b: 9 * b.price, "one key, several submissions", _idempotency)
    if "cancel" in contract.operations:
        summary = "a job that is cancelled twice, and then read, beside one that is not cancelled"
        yield Probe("cancel:order", "cancel", lambda b: 2 * b.price, summary, _cancel)
        summary = "a job that is cancelled while another one is running"
        yield Probe(BUSY, "cancel", lambda b: 2 * b.price, summary, _cancel_beside_running)
    if contract.callbacks is not None:
        count = len(CALLBACK_REFUSALS)
        summary = f"{count} jobs with a callback URL, whose first callbacks are refused; {SHARING} with one URL"
        yield Probe("callback:order", "callbacks", lambda b: (count + SHARING) * b.price, summary, _callback)
        if REDELIVER in contract.operations:
            yield Probe(REDELIVERED, "callbacks", _free, "an acknowledged callback, requested once more", _redelivered)
    summary = "a submission with a charset, white space and escapes"
    yield Probe("spelling", "negatives", lambda b: 4 * b.price, summary, _spellings)
    if "run" in contract.operations:
        yield Probe("run:order", "lifecycle", _price_of_run, "a job whose submission waits for its end", _run)
    summary = f"up to {MOST_JOBS} jobs, submitted and read in a mixed order"
    yield Probe("machine", "lifecycle", lambda b: MOST_JOBS * b.price, summary, interleave)
    if _replays(contract):
        summary = "the first submission with a key, again, after the end of its job"
        yield Probe("idempotency:late", "idempotency", _price, summary, _repeated_late)
    if "list" in contract.operations and "size" in contract.operations["list"].bindings:
        summary = "the first pages of the list, one job on each, and a long one"
        yield Probe(PAGES, "identity", _free, summary, _pages)
    if {"first_frame", "references"} & set(session.model.parameters):
        summary = "a job with a picture that cannot be had, which should fail with a reason"
        count = 2 if _replays(contract) else 1
        yield Probe("job:failing", "lifecycle", lambda b: count * b.price, summary, _failing)


def _pictures(session: Session) -> Iterator[Probe]:
    """Yield the probes that submit pictures at the documented limits, and beyond them."""
    limits = session.model.images
    if limits is None or not {"first_frame", "references"} & set(session.model.parameters):
        return
    for name, run, count, words in (
        (
            "limits",
            order_at_limits,
            len(orders_at_limits(session.model)) + len(orders_in_requests(session)),
            "in each documented format and at each limit",
        ),
        ("beyond", order_beyond_limits, len(beyond(limits)), "just beyond each limit, which should be refused"),
    ):
        summary = f"up to {count} jobs with pictures {words}"
        yield Probe(f"pictures:{name}", "pictures", lambda b, count=count: count * b.price, summary, run)  # type: ignore[misc]


def _bounds(session: Session) -> Iterator[Probe]:
    """Yield the probes of forms and defaults, then at the documented bounds, the values between the bounds last.

    One job shares as many bounds as it can; the cheapest comes first.
    """
    for body in other_forms(session.contract, session.model, session.submit, session.order):
        summary = f"the first submission in the form {body.label.removeprefix(FORM)!r}"
        yield Probe(body.label, "lifecycle", _cost(body), summary, _in_form(body))
    if has_visible_default(session.model):
        count = sum(body != session.order for body in orders_of_default(session))
        summary = "the first order with a documented default, with another value, and with neither"
        yield Probe("defaults", "media", lambda b: count * b.price, summary, order_defaults)
    for shared in shared_bounds(session.contract, session.model, session.submit, session.order):
        count = len(shared.alone)
        summary = f"a submission at {'a documented bound' if count == 1 else f'{count} documented bounds'}"
        yield Probe(shared.body.label, "negatives", _cost(shared.body), summary, _bound(shared))


def _about_job(contract: Contract) -> list[str]:
    """Return the operations about one job that need a key."""
    return [role for role in NEEDS_JOB if role in _needs_key(contract)]


def _queries(contract: Contract) -> Iterator[Probe]:
    """Yield the probes of queries."""
    for role, operation in contract.operations.items():
        if operation.method == "GET" and any(one.part == "query" for one in operation.parameters):
            summary = f"the queries of {role}, at the documented bounds and beyond"
            yield Probe(f"query:{role}", "queries", _free, summary, partial(_ask, role))


def _ask(role: str, session: Session) -> None:
    ask(session, role)


def _words(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _price(session: Session) -> Decimal:
    return session.price


def _price_of_run(session: Session) -> Decimal:
    try:
        return session.price_of_run(session.longest_run_order())
    except LookupError:
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
        for job in MALFORMED if role in session.contract.operations else ():
            more: dict[str, Any] = {"expected": "unknown_job", "path": {"job": job}}
            step = _call(session, role, "identity:malformed", **more)
            # One internal error may be an accident.
            if step is not None and step.status == INTERNAL:
                _call(session, role, "identity:malformed", **more)


def _read(role: str, session: Session) -> None:
    session.call(role, probe=f"read:{role}")


def _call(session: Session, role: str, probe: str, **more: Any) -> Step | None:
    """Call one of several operations; if it does not respond, the others are still called."""
    try:
        return session.call(role, probe=probe, **more)
    except Skipped as error:
        session.note(f"{probe} ({role})", str(error))
        return None


def _filters(session: Session) -> None:
    for query in requests_of(session.contract.operations["models"], session.model.task):
        session.call("models", probe="catalogue:filters", query=query)


KEYS: Mapping[str, tuple[str | None, str]] = {
    "auth:none": (None, "unauthenticated"),
    WRONG: (WRONG_KEY, "key_refused"),
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
        if role not in ("submit", "run"):
            expected_again = "unknown_job" if role in NEEDS_JOB else None
            session.call(role, probe=AGAIN, expected=expected_again, path={"job": session.unknown_job()})

    return run


def _auth_job(session: Session) -> None:
    """Send every request about the finished job without a key, and with a wrong key; one with keys almost right."""
    job, roles = session.finished().id, _about_job(session.contract)
    for role in roles:
        _send_unauthorized(session, role, job)
    own = session.endpoint.api_key
    for how, near in NEAR_KEYS.items():
        if roles and near(own) not in ("", own, session.other_key):
            session.call(roles[0], probe=f"{NEAR}{how}", expected="key_refused", key=near(own), path={"job": job})
    for part, name, prefix in session.contract.security:
        if part == "header" and prefix and "status" in _about_job(session.contract):
            headers = {name: f"Basic {session.endpoint.api_key}"}
            session.call("status", probe=OTHER_SCHEME, key=None, path={"job": job}, headers=headers)


def _as_operator(session: Session) -> None:
    """Send a request for operators about the finished job, which it cannot change any more."""
    job = session.finished().id
    body = next(iter(session.contract.operations[OPERATORS].body_examples.values()), MISSING)
    session.call(OPERATORS, probe=OPERATORS_ONLY, expected="forbidden", path={"job": job}, body=body)


def _send_unauthorized(session: Session, role: str, job: str) -> None:
    for probe, (key, expected) in KEYS.items():
        session.call(role, probe=probe, expected=expected, key=key, path={"job": job})


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
    """Return an order, and its path parameters, for a model that does not exist."""
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


def _bound(shared: SharedOrder) -> Callable[[Session], None]:
    """Submit an order at several bounds; if it is refused, submit one for each bound until one is refused, too."""

    def run(session: Session) -> None:
        body = shared.body
        step = session.submit_order(body.label, body.value, price=body.price)
        # The cheapest first: once the refused bound is found, the others need not be paid.
        for one in sorted(shared.alone, key=lambda one: one.price) if len(shared.alone) > 1 else ():
            if not 400 <= step.status < 500:
                return
            alone = session.submit_order(one.label, one.value, price=one.price)
            if 400 <= alone.status < 500:
                return

    return run


def _in_form(body: Body) -> Callable[[Session], object]:
    return lambda session: session.submit_order(body.label, body.value, price=body.price)


def _job(session: Session) -> None:
    try:
        _order_first(session)
        made = not session.finished().failed
    except NotEnded:
        if not session.replaceable:
            raise
        made = False
    if not made and session.endpoint.budget.left >= session.price and replace_documented(session):
        _order_first(session)


def _order_first(session: Session) -> None:
    if "list" in session.contract.operations:
        # Whatever keeps the list for a while shows this one again after the submission.
        _call(session, "list", FRESH)
    paid = session.paid()
    if "list" in session.contract.operations:
        _call(session, "list", FRESH)
    if "result" in session.contract.operations:
        session.poll(paid.id, "job", "result")
    _read_closely(session, paid.id)
    # Overlapping reads twice: while the job runs, and after its end, when every response must be final.
    session.concurrently([partial(session.poll, paid.id, "job:concurrent", wait=False)] * OVERLAPPING)
    session.finished()
    session.concurrently([partial(session.poll, paid.id, "job:concurrent", wait=False)] * OVERLAPPING)


def _read_closely(session: Session, job: str) -> None:
    """Read a job more often than a client does: what it shows for a moment only would be missed."""
    for _ in range(CLOSE_READS):
        step = session.poll(job, "job:close", wait=False)
        if step.terminal or not step.ok:
            return
        session.pause(session.contract.polling.least_interval / CLOSER)


def _after(session: Session) -> None:
    job = session.finished().id
    for role in ("status", "result", "status"):
        if role in session.contract.operations:
            session.poll(job, "job:after", role)
    for role in sorted(READS & set(session.contract.operations)):
        for query in form_queries(session.contract.operations[role]):
            session.poll(job, "job:after", role, query=query)


def _links(session: Session) -> None:
    """Follow the links of the job's responses that read it. The key goes to no other host than the endpoint's own."""
    paid = session.finished()
    followed: set[str] = set()
    for step in (paid.accepted, paid.end):
        for name, url in links_of(session.contract, step).items() if step is not None else ():
            role = ROLE_OF_LINK[name]
            if session.contract.operations[role].method != "GET" or url in followed:
                continue
            followed.add(url)
            if session.is_own(url):
                session.poll(paid.id, f"{FOLLOWED}{name}", role, link=url)
            else:
                session.note("job:links", f"{name} is on another host, to which the key is not sent")


def _media(session: Session) -> None:
    paid = session.finished()
    session.fetch_video(paid)
    url = session.link(paid)
    for span in RANGES:
        session.endpoint.fetch(url, probe="job:range", headers={"range": span})
    session.endpoint.fetch(url, probe="job:head", method="HEAD")


def _retention(session: Session) -> None:
    paid = session.finished()
    url = session.link(paid)
    session.poll(paid.id, "retention:before")
    session.endpoint.fetch(url, probe="retention:before", headers={"range": RANGES[0]})
    left = None if paid.expires is None else paid.expires - session.endpoint.now()
    if left is None or left > NEAR_SECONDS:
        session.note("retention:after", f"the link does not expire within {NEAR_SECONDS:g} s")
        return
    session.pause(max(left, 0.0) + SLACK_SECONDS)
    session.endpoint.fetch(url, probe="retention:after", headers={"range": RANGES[0]})
    session.poll(paid.id, "retention:after")


def _list(session: Session) -> None:
    if not session.accepted:
        raise Skipped("no job was created")
    session.call("list", probe="identity:list")


def _pages(session: Session) -> None:
    """Request the first pages, with one job on each, and the first page again; before and after them a long page."""
    if not session.accepted:
        raise Skipped("no job was created")
    session.settle(SETTLED)
    operation = session.contract.operations["list"]
    size, long_page = {_query_name(operation, "size"): "1"}, _long_page(session.contract, operation)
    session.call("list", probe=LONG, query=long_page)
    step = session.call("list", probe=PAGES, query=size)
    for number in range(1, WALKED):
        cursor = step.reading.values.get("next_cursor")
        values = {"page": str(number + 1), "offset": str(number), "cursor": cursor if isinstance(cursor, str) else ""}
        asked = {name: text for name, text in values.items() if name in operation.bindings and text}
        if not asked:
            break
        other = {_query_name(operation, name): text for name, text in asked.items()}
        step = session.call("list", probe=PAGES, query=size | other)
    session.call("list", probe=PAGES, query=size)
    session.call("list", probe=LONG, query=long_page)


def _long_page(contract: Contract, operation: Operation) -> dict[str, str]:
    """Return the query of the longest documented page; empty if no document bounds it."""
    name = _query_name(operation, "size")
    for parameter in operation.parameters:
        if parameter.part == "query" and parameter.name == name:
            schema = contract.schemas.followed(parameter.schema)
            return {name: written(schema["maximum"])} if isinstance(schema, Mapping) and "maximum" in schema else {}
    return {}


def _query_name(operation: Operation, name: str) -> str:
    return next((place.name for place in operation.bindings[name].request if place.part == "query"), name)


def _run(session: Session) -> None:
    """Submit a job and wait for its end in one request, unless the first job took most of the time that is left."""
    took, left = session.paid_seconds, session.endpoint.until - time.monotonic()
    if took is not None and took > left * SHARE_OF_RUN:
        raise Skipped(f"the first job took {took:.0f} s, and only {left:.0f} s are left")
    try:
        # The longest video takes the longest time: a response that comes too early shows there.
        body, cheaper = session.longest_run_order(), session.run_order()
    except LookupError as error:
        raise Skipped(str(error)) from None
    if session.endpoint.budget.left < session.price_of_run(body):
        body = cheaper
    price, seconds = session.price_of_run(body), session.contract.polling.longest_wait
    step = session.call("run", probe="run:order", expected="succeeded", price=price, body=body, seconds=seconds)
    if step.ok and step.video:
        session.fetch_video(PaidJob(step.job_told or "", step, step))


def _spellings(session: Session) -> None:
    """Submit an order that is spelled in several ways, and if it is refused, in each of them alone."""
    order = session.marked("spelling")
    prompt = f"{_prompt(session, order)} {FOREIGN}"
    foreign = replace_parameter(session.submit, session.model, order, "prompt", prompt)
    if isinstance(try_order(session.contract, session.submit, session.model.id, foreign), ValidRequest):
        order = foreign
    price = session.price_of(order)

    def refused(*ways: str) -> bool:
        content, kind = spelled(order, *ways)
        more: dict[str, Any] = {"content": content, "headers": {"content-type": kind}}
        step = session.call("submit", probe=SPELLING + ",".join(ways), expected="accepted", price=price, **more)
        return 400 <= step.status < 500 or step.status == INTERNAL

    if refused(CHARSET, ESCAPED):
        # The first refusal names the reason.
        any(refused(way) for way in (PLAIN, CHARSET, ESCAPED))


def _prompt(session: Session, order: dict[str, Any]) -> str:
    places = session.model.parameters.get("prompt", ())
    found = (resolve(order, (*session.submit.model_parameters.pointer, *place)) for place in places)
    return next((one for one in found if isinstance(one, str)), "")


def _failing(session: Session) -> None:
    """Submit a job that fails, and where keys are replayed, submit it again: a client may have got no response."""
    place, body = session.contract.idempotency.key, session.unobtainable()
    headers = {place.name: session.fresh_key()} if place is not None and _replays(session.contract) else {}
    step = session.submit_order("job:failing", body, headers=headers)
    if step.job_told is None:
        raise Skipped(f"the submission got {step.status} and no job id")
    end = session.follow(step.job_told, "job:failing")
    if "result" in session.contract.operations:
        end = session.poll(step.job_told, "job:failing", "result")
    if headers and end.failure:
        session.submit_order("idempotency:failed", body, expected="replayed", headers=headers)


def _replays(contract: Contract) -> bool:
    return contract.idempotency.mode == "replay" and contract.idempotency.key is not None


def _foreign(session: Session) -> None:
    job = session.finished().id
    _send_foreign(session, job)
    if "list" in session.contract.operations:
        session.call("list", probe="identity:foreign", key=session.other_key)


def _send_foreign(session: Session, job: str, roles: tuple[str, ...] = NEEDS_JOB) -> None:
    for role in roles:
        if role in session.contract.operations:
            session.call(
                role, probe="identity:foreign", expected="foreign_job", key=session.other_key, path={"job": job}
            )


def _cancel_finished(session: Session) -> None:
    job = session.finished().id
    session.poll(job, "cancel:finished", "cancel")
    session.poll(job, "cancel:finished")
    if "result" in session.contract.operations:
        session.poll(job, "cancel:finished", "result")


def _idempotency(session: Session) -> None:
    place = session.contract.idempotency.key
    assert place is not None
    replays = session.contract.idempotency.mode == "replay"

    def headers(key: str) -> dict[str, str]:
        return {place.name: key}

    key, body = session.fresh_key(), session.marked("idempotency")
    again = "replayed" if replays else "key_used"
    job = session.submit_order("idempotency:first", body, headers=headers(key)).job_told
    session.keyed = None if job is None else (job, body, headers(key))
    session.submit_order("idempotency:again", body, expected=again, headers=headers(key))
    other = session.marked("another")
    expected = "key_mismatch" if replays else "key_used"
    session.submit_expecting_refusal(
        "idempotency:other", expected, session.price_of(other), body=other, headers=headers(key)
    )
    beside = _readdressed(session, body)
    if beside is not MISSING:
        price = session.price_of(beside)
        session.submit_expecting_refusal("idempotency:beside", expected, price, body=beside, headers=headers(key))
    if replays:
        _corrected(session)
    sent, body = headers(session.fresh_key()), session.marked("concurrent")
    work = partial(session.submit_order, "idempotency:concurrent", body, headers=sent)
    session.concurrently([work] * 2)


def _corrected(session: Session) -> None:
    """Send an invalid submission with a new key, and then a valid one with it, twice if it is called in flight."""
    place = session.contract.idempotency.key
    assert place is not None
    headers, order = {place.name: session.fresh_key()}, session.marked("corrected")
    wrong, _ = other_model(session.submit, order)
    if wrong == order:
        return
    price = session.price_of(order)
    session.submit_expecting_refusal(REFUSED_KEY, "unknown_model", price, body=wrong, headers=headers)
    for _ in range(IN_FLIGHT_TRIES):
        step = session.submit_order(REFUSED_KEY, order, headers=headers, price=price)
        if "key_in_flight" not in step.reading.situations:
            return
        session.pause(1.0)


def _readdressed(session: Session, body: dict[str, Any]) -> Any:
    """Return a submission with another callback URL, which the endpoint must take; else MISSING."""
    return MISSING if session.receiver is None else with_callback(session.submit, body, session.receiver.url)


def _repeated_late(session: Session) -> None:
    """Repeat a submission after its job has ended: a key that is forgotten within seconds protects no client."""
    if session.keyed is None:
        raise Skipped("no submission with a key was accepted")
    job, body, headers = session.keyed
    session.follow(job, "idempotency:late")
    session.submit_order("idempotency:late", body, expected="replayed", headers=headers)


def _cancel(session: Session) -> None:
    step = session.submit_order("cancel:order", session.marked("cancel"))
    job = step.job_told
    if job is None:
        raise Skipped(f"the submission got {step.status} and no job id")
    # No pause here: a fast job would reach a stage in which it can no longer be cancelled.
    session.poll(job, "cancel:order", wait=False)
    if "cancel" in _needs_key(session.contract):
        _send_unauthorized(session, "cancel", job)
    if session.other_key:
        _send_foreign(session, job, ("cancel",))
    # Whoever is not the owner must have changed nothing.
    session.poll(job, "cancel:order", wait=False)
    beside = _bystander(session)
    session.poll(job, "cancel:first", "cancel", wait=False)
    link = links_of(session.contract, step).get("cancel_url")
    session.poll(job, "cancel:again", "cancel", link=link if link is not None and session.is_own(link) else None)
    if beside is not None:
        session.poll(beside, "cancel:beside")
    for _ in range(2):
        session.poll(job, "cancel:after")
    if "result" in session.contract.operations:
        session.poll(job, "cancel:after", "result")


def _bystander(session: Session) -> str | None:
    """Submit a job that waits beside the one to be cancelled. Returns None if the budget does not allow it."""
    try:
        return session.submit_order("cancel:beside", session.marked("beside")).job_told
    except Skipped as error:
        session.note("cancel:beside", str(error))
        return None


def _cancel_beside_running(session: Session) -> None:
    """Submit a job, and when it runs, cancel another one at once. Raises Skipped."""
    running = session.submit_order(BUSY, session.marked("running")).job_told
    graph, ends = session.contract.graph, session.clock() + (session.paid_seconds or 0.0)
    while running is not None and session.clock() <= ends:
        step = closely(session, running, BUSY)
        if step.reading.stages and not any(graph[name].kind == "pending" for name in step.reading.stages):
            break
    step = session.submit_order(BUSY, session.marked("cancelled"))
    if step.job_told is None:
        raise Skipped(f"the submission got {step.status} and no job id")
    for role in ("status", "cancel", "status"):
        session.poll(step.job_told, BUSY, role, wait=False)


def _callback(session: Session) -> None:
    if session.receiver is None:
        raise Skipped("no callback URL is available; set --callback-url")
    jobs, left_out = list[str](), list[Skipped]()
    for number in range(len(CALLBACK_REFUSALS)):
        try:
            job = _with_callback(session, number)
        except Skipped as error:
            left_out.append(error)
        else:
            jobs += [] if job is None else [job]
    if not jobs:
        # What was not submitted was not refused either.
        raise left_out[0] if left_out else Skipped("the submission was not accepted")
    for reason in left_out:
        session.note("callback:order", str(reason))
    sharing = _with_one_callback(session)
    for job in (*jobs, *sharing):
        session.follow(job, "callback:order")
    _await_deliveries(session, jobs, sharing)


def _with_one_callback(session: Session) -> list[str]:
    """Submit the jobs that share a callback URL. Return their ids."""
    receiver = session.receiver
    # Of a public URL, the first callback in total is refused, whatever job it is about.
    if receiver is None or receiver.is_public:
        return []
    url, found = receiver.url_of(SHARED, 200, 0), []
    for _ in range(SHARING):
        try:
            body = with_callback(session.submit, session.marked("shared"), url)
            found.append(session.submit_order("callback:order", body).job_told)
        except Skipped as error:
            session.note("callback:order", str(error))
    return [job for job in found if job is not None]


def _with_callback(session: Session, number: int) -> str | None:
    """Submit one of the jobs with a callback URL. Return its id, or None without one. Raises Skipped."""
    receiver, name = session.receiver, str(number)
    assert receiver is not None
    callbacks = session.contract.callbacks
    often = number == 0 and callbacks is not None and callbacks.growing
    url = receiver.url_of(name, CALLBACK_REFUSALS[number], REFUSED_AGAIN if often else 1)
    # Without a URL of its own, a job could not be told from the first one if its callbacks had the wrong id.
    if number and url == receiver.url:
        return None
    order = session.marked("callback")
    # The second job fails if the picture cannot be had: its callback is due, too.
    with suppress(Skipped):
        order = session.unobtainable() if number == 1 else order
    body = with_callback(session.submit, order, url)
    if body is MISSING:
        raise Skipped("a submission has no place for a callback URL")
    job = session.submit_order("callback:order", body).job_told
    if job is not None:
        receiver.name(name, job)
        session.refused_again = job if often and url != receiver.url else session.refused_again
    return job


def _await_deliveries(session: Session, jobs: Sequence[str], sharing: Sequence[str]) -> None:
    """Wait for the first callback of each job, for its retry, and then for silence, as long as the rules allow.

    The callbacks of the jobs that share a URL are acknowledged at once.
    """
    callbacks, receiver = session.contract.callbacks, session.receiver
    assert callbacks is not None
    assert receiver is not None
    # A second more than the rules allow, so that a callback exactly at the deadline still counts as in time.
    again = ALLOWANCE * (callbacks.retries[0] if callbacks.retries else 0.0) + SLACK + 1.0
    patience = callbacks.deadline + again
    if promises_retry(session.contract):
        again = longest_first_retry(callbacks) + 1.0
    for number, awaited in ((1, (*jobs, *sharing)), (2, jobs)):
        ends = session.clock() + patience
        while missing := [job for job in awaited if sum(one.job == job for one in receiver.deliveries) < number]:
            if session.clock() > ends:
                session.note(
                    "callback:order", f"callback {number} of job {missing[0]} did not arrive in {patience:g} s"
                )
                return
            session.pause(0.1)
        patience = again
    session.pause(CALLBACK_QUIET_SECONDS)
    if any(delivery.job not in (None, *jobs, *sharing) for delivery in receiver.deliveries):
        session.note("callback:order", "callbacks for other jobs also arrived")


def _redelivered(session: Session) -> None:
    """Request an acknowledged callback once more, and wait for it."""
    receiver, callbacks = session.receiver, session.contract.callbacks
    delivered = [one for one in receiver.deliveries if one.job in session.accepted] if receiver is not None else []
    job = next((one.job for one in delivered if one.acknowledged), None)
    if receiver is None or callbacks is None or job is None:
        raise Skipped("no callback of a job was acknowledged")
    before = sum(one.job == job for one in receiver.deliveries)
    step = session.call(REDELIVER, probe=REDELIVERED, path={"job": job})
    # A second more than the rule allows.
    ends = session.clock() + callbacks.deadline + SLACK + 1.0
    while step.ok and sum(one.job == job for one in receiver.deliveries) == before and session.clock() < ends:
        session.pause(0.1)


def _delays(session: Session) -> None:
    """Wait for each further attempt of the callback that is refused several times, unless it is later than before."""
    receiver, job = session.receiver, session.refused_again
    if receiver is None or job is None:
        raise Skipped("no job has a callback URL of its own, whose callbacks are refused several times")

    def sent() -> list[float]:
        return [one.sent for one in receiver.deliveries if one.job == job]

    while 1 < len(found := sent()) <= REFUSED_AGAIN:
        # An attempt that is not there after the last delay and some more shows that the delay has grown.
        latest = found[-1] + GROWTH * max(later - earlier for earlier, later in pairwise(found)) + 1.0
        while len(sent()) == len(found):
            if session.endpoint.now() > latest:
                return
            session.pause(0.1)
