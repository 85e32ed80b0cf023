"""The session that probes share: one endpoint, one model, one budget, the paid job, and the notes on skipped probes."""

from __future__ import annotations

import base64
import dataclasses
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import ip_address
from random import Random
from typing import Any
from urllib.parse import urljoin, urlsplit

import orjson

from hobbyhorse.conformance.server.bodies import FOREIGN, price_of, replace_parameter
from hobbyhorse.conformance.server.budget import NotAffordable, longest
from hobbyhorse.conformance.server.endpoint import ANY, CERTAIN_REFUSALS, SHORTEST_SECRET, Endpoint, OutOfTime
from hobbyhorse.conformance.server.expected import patience
from hobbyhorse.conformance.server.receiver import Receiver
from hobbyhorse.conformance.server.video_check import viewed
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.example_orders import documented_jobs, order_for
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.forms.ids import ID_FORMS
from hobbyhorse.contract.reading import as_json, message_of, read_answer, read_callback
from hobbyhorse.contract.request import ValidRequest
from hobbyhorse.contract.values import Contract, Model, Operation
from hobbyhorse.traces.annotated import SUBMISSIONS, Step
from hobbyhorse.traces.trace import Exchange, Headers, Trace, Video

# One missing response may be an accident. After a second one the operation is not called again, because each costs up
# to 30 s of the suite's time.
MOST_UNANSWERED = 2
# A restart or a rate limit takes a few polls; a job that fails five in a row is given up, to leave time for the rest.
MOST_FAILED_POLLS = 5
# The longest `Retry-After` that is obeyed, in seconds: a longer one would use up the time of the suite.
LONGEST_PAUSE = 60.0
# A video that does not come once may be an accident of the network.
FETCHES = 2
# Object stores redirect once, to a signed URL; a longer chain is a loop.
MOST_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Seconds after which an endpoint on this machine seems to wait for the documented picture.
REPLACED_AFTER = 60.0
# The domain `invalid` never exists (RFC 2606), so no endpoint can have this picture.
NO_PICTURE = "https://hobbyhorse.invalid/no-such-picture.png"
WRONG_KEY = "hobbyhorse-wrong-key"
# A header of more characters may be refused by whatever is in front of the endpoint.
MOST_KEY_CHARACTERS = 1024
# Replaces the second account's key in the trace.
OTHER_KEY = "[other key]"
KEY_REFUSALS = frozenset({"unauthenticated", "key_refused", "forbidden"})


class Skipped(Exception):
    """Raised with the reason when a probe cannot be run."""


class NotEnded(Skipped):
    """A job that can be read has not ended within the wait."""


class EndpointUnreachable(Exception):
    """Raised when no request gets a response."""


# The values that a submission gives its job for its client's own use.
LABELS = ("client_ref", "metadata")
# Statuses of a path or a method that the server does not route.
NO_SUCH_PATH = (404, 405)


@dataclass(frozen=True, slots=True)
class Note:
    """A probe that was skipped or ended early, and the reason."""

    probe: str
    why: str


@dataclass(frozen=True, slots=True)
class BudgetEntry:
    """One line of the ledger: a request that could be billed, at its worst price; `billed` unless it was refused."""

    probe: str
    price: Decimal
    billed: bool
    status: int
    job: str | None


@dataclass(frozen=True, slots=True)
class PaidJob:
    """The one job that every read-only rule shares: its id, and the responses that accepted, ended and delivered it."""

    id: str
    accepted: Step
    end: Step | None = None
    result: Step | None = None

    @property
    def video(self) -> str | None:
        """The video's URL, or None."""
        return next((step.video for step in (self.result, self.end) if step is not None and step.video), None)

    @property
    def failed(self) -> bool:
        """Whether it has ended without a video, as its status or its result says."""
        return any(step is not None and step.failure for step in (self.end, self.result))

    @property
    def expires(self) -> float | None:
        """When the video's URL expires, in seconds since 1970; None if no response says."""
        for step in (self.result, self.end):
            found = step.reading.values.get("expires_at") if step is not None else None
            if isinstance(found, int | float):
                return float(found)
        return None


@dataclass(frozen=True, slots=True)
class _ModelState:
    """The part of a session that belongs to one model: its order, its paid job, and what its probes found out."""

    order: dict[str, Any]
    paid: PaidJob | str | None
    undelivered: str | None
    lenient: bool


@dataclass(slots=True)
class Session:
    """The shared state of all probes. `sleep` and `clock` are injected, so that tests need no real time.

    `picture` is sent with each submission: its bytes, or its URL.
    """

    endpoint: Endpoint
    model: Model
    other_key: str | None = None
    picture: bytes | str | None = None
    receiver: Receiver | None = None
    callback_secret: str | None = None
    seed: int = 0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    notes: list[Note] = field(default_factory=list)
    ledger: list[BudgetEntry] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)
    # The ids of the accepted jobs.
    accepted: list[str] = field(default_factory=list)
    # Whether the endpoint accepted a request that it should have refused; the paid job's price is then kept in reserve.
    lenient: bool = False
    # Every model to be judged, in order; `model` is the current one.
    models: tuple[Model, ...] = ()
    random: Random = field(init=False)
    order: dict[str, Any] = field(init=False)
    # A submission with a key, to be repeated later: its job, its body and its headers.
    keyed: tuple[str, dict[str, Any], dict[str, str]] | None = None
    # The job whose first callback is refused several times.
    refused_again: str | None = None
    _last: dict[str, float] = field(default_factory=dict)
    # When each job was ordered, and the most seconds that one with a video has taken.
    _ordered: dict[str, float] = field(default_factory=dict)
    _longest: float | None = None
    _unanswered: Counter[str] = field(default_factory=Counter)
    _paid: PaidJob | str | None = None
    _undelivered: str | None = None
    _others: dict[str, _ModelState] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.models = self.models or (self.model,)
        self.order = self._first_order()

    def _first_order(self) -> dict[str, Any]:
        mark = f"{self.random.getrandbits(32):08x}"
        return self._with_picture(order_for(self.contract, self.model, mark=mark))

    @property
    def patience(self) -> float:
        """The seconds after which a job that has not ended hangs."""
        return patience(self.contract, self._longest)

    @property
    def replaceable(self) -> bool:
        """Whether the documented picture can be replaced by one that this machine serves."""
        reachable = self.receiver is not None and not self.receiver.is_public
        return reachable and self.picture is None and self.model.images is not None

    def start_again(self, picture: bytes | str) -> bool:
        """Send a picture with every submission from now on, and forget the paid job.

        Returns whether the model takes the picture.
        """
        self.picture = picture
        self.order = self._first_order()
        if self.picture is not None:
            self._paid = None
        return self.picture is not None

    def turn_to(self, model: Model) -> None:
        """Make another model the current one. Each model has its own order and paid job."""
        if model.id == self.model.id:
            return
        self._others[self.model.id] = _ModelState(self.order, self._paid, self._undelivered, self.lenient)
        self.model = model
        known = self._others.get(model.id)
        if known is None:
            self.order, self._paid, self._undelivered, self.lenient = self._first_order(), None, None, False
        else:
            self.order, self._paid = known.order, known.paid
            self._undelivered, self.lenient = known.undelivered, known.lenient

    @property
    def contract(self) -> Contract:
        """The contract under test."""
        return self.endpoint.contract

    @property
    def submit(self) -> Operation:
        """The operation that submits a job."""
        return self.contract.operations["submit"]

    @property
    def price(self) -> Decimal:
        """The price of one submission, in USD."""
        return self.price_of(self.order)

    def price_of(self, body: Any) -> Decimal:
        """Return the highest possible price of a body, in USD."""
        return price_of(self.contract, self.model, self.submit, self.order, body)

    def price_of_run(self, body: Any) -> Decimal:
        """Return the highest possible price of a body for the operation that submits and waits, in USD."""
        return price_of(self.contract, self.model, self.contract.operations["run"], body, body)

    def marked(self, mark: str) -> dict[str, Any]:
        """Return a submission like the first one, with another prompt, and with values that responses repeat."""
        number = f"{self.random.getrandbits(32):08x}"
        body = self._with_picture(order_for(self.contract, self.model, mark=f"{mark} {number}"))
        named = {
            "client_ref": f"hobbyhorse-{number}",
            "metadata": {"suite": "hobbyhorse", "order": number, "tags": [1], "author": FOREIGN},
        }
        for name, value in named.items():
            binding = self.submit.bindings.get(name)
            place = next((one for one in (binding.request if binding else ()) if one.part == "body"), None)
            longer = body if place is None else replaced(body, place.pointer, value)
            if isinstance(try_order(self.contract, self.submit, self.model.id, longer), ValidRequest):
                body = longer
        return body

    def labelled_like(self, body: dict[str, Any], other: Any) -> dict[str, Any]:
        """Return a submission with the labels of another one: none of them is documented to tell two orders apart."""
        for name in LABELS:
            binding = self.submit.bindings.get(name)
            for place in binding.request if binding else ():
                if place.part == "body" and resolve(other, place.pointer) is not MISSING:
                    body = replaced(body, place.pointer, resolve(other, place.pointer))
        return body

    def unobtainable(self) -> dict[str, Any]:
        """Return a submission with a picture that cannot be had. Raises Skipped if the model takes no picture."""
        body = self.marked("unobtainable")
        for name in ("first_frame", "references"):
            changed = replace_parameter(self.submit, self.model, body, name, NO_PICTURE)
            if changed is not body and isinstance(
                try_order(self.contract, self.submit, self.model.id, changed), ValidRequest
            ):
                return dict(changed)
        raise Skipped("the model takes no picture by its URL")

    def run_body(self) -> Any:
        """Return the documented body of the operation that submits and waits; MISSING if there is none."""
        found = (body for operation, model, body in documented_jobs(self.contract) if operation.role == "run")
        return next(found, MISSING)

    def run_order(self) -> dict[str, Any]:
        """Return an order for the operation that submits and waits, as cheap as the first one. Raises LookupError."""
        operation = self.contract.operations["run"]
        documented = order_for(self.contract, self.model, role="run")
        parameters, at = resolve(self.marked("run"), self.submit.model_parameters.pointer), operation.model_parameters
        body = replaced(documented, at.pointer, parameters) if at.pointer else {**documented, **parameters}
        valid = isinstance(try_order(self.contract, operation, self.model.id, body), ValidRequest)
        return dict(body) if valid else documented

    def longest_run_order(self) -> dict[str, Any]:
        """Return the order of the longest video for the operation that submits and waits. Raises LookupError."""
        operation, order = self.contract.operations["run"], self.run_order()
        seconds = longest(self.contract, self.model)
        longer = replace_parameter(operation, self.model, order, "duration", int(seconds))
        valid = isinstance(try_order(self.contract, operation, self.model.id, longer), ValidRequest)
        return dict(longer) if valid else order

    def unknown_job(self) -> str:
        """Return an id in the documented format that belongs to no job."""
        return self.contract.job_id_prefix + ID_FORMS[self.contract.job_id_form](self.random, time.time())

    def fresh_key(self) -> str:
        """Return an unused idempotency key of the greatest documented length. Keys differ at their ends only."""
        place, key = self.contract.idempotency.key, str(uuid.uuid4())
        for one in self.submit.parameters if place is not None else ():
            schema = self.contract.schemas.at(one.schema)
            if place is not None and one.name.lower() == place.name.lower() and isinstance(schema, Mapping):
                return key.rjust(min(int(schema.get("maxLength", 0)), MOST_KEY_CHARACTERS), "k")
        return key

    def _with_picture(self, order: dict[str, Any]) -> dict[str, Any]:
        if self.picture is None:
            return order
        address = self.picture if isinstance(self.picture, str) else _data_uri(self.picture)
        # A model with a first frame gets the image there; only a model without one gets it as a reference.
        body = replace_parameter(self.submit, self.model, order, "first_frame", address)
        body = replace_parameter(self.submit, self.model, body, "references", address) if body is order else body
        if body is not order and isinstance(try_order(self.contract, self.submit, self.model.id, body), ValidRequest):
            return dict(body)
        self.note("picture", f"{self.model.id} does not accept this image; the documented image is sent instead")
        self.picture = None
        return order

    def note(self, probe: str, why: str) -> None:
        """Record a skipped probe once."""
        note = Note(probe, why)
        if note not in self.notes:
            self.notes.append(note)

    def call(self, role: str, *, probe: str, price: Decimal = Decimal(0), key: str | None = ANY, **more: Any) -> Step:
        """Call an operation and enter its price in the ledger.

        Raises Skipped if the budget does not allow the call or the operation stopped responding. Raises OutOfTime and
        EndpointUnreachable.
        """
        # Each further call would wait for its whole timeout.
        if self._unanswered[role] >= MOST_UNANSWERED:
            raise Skipped(f"{role} does not respond")
        path = {"model": self.model.id} | dict(more.pop("path", None) or {})
        try:
            step = self.endpoint.call(role, probe=probe, price=price, key=key, path=path, **more)
        except NotAffordable as error:
            budget = self.endpoint.budget.limit
            raise Skipped(
                "the request may be billed; set --budget to allow it" if budget is None else str(error)
            ) from None
        self._record(role, step, probe, price)
        return step

    def _record(self, role: str, step: Step, probe: str, price: Decimal) -> None:
        with self._lock:
            self._unanswered[role] = 0 if step.status else self._unanswered[role] + 1
            if price > 0:
                refused = role in SUBMISSIONS and step.status in CERTAIN_REFUSALS
                self.ledger.append(BudgetEntry(probe, price, not refused, step.status, step.job_told))
            if step.accepted and step.job_told is not None:
                self.accepted.append(step.job_told)
                self._ordered[step.job_told] = self.clock()
        exchanges = self.endpoint.exchanges
        if len(exchanges) >= MOST_UNANSWERED and not any(exchange.status for exchange in exchanges):
            raise EndpointUnreachable

    def submit_order(
        self, probe: str, body: Any, *, expected: str = "accepted", price: Decimal | None = None, **more: Any
    ) -> Step:
        """Submit a job, paid at the worst price of its body."""
        paid = self.price_of(body) if price is None else price
        return self.call("submit", probe=probe, expected=expected, price=paid, body=body, **more)

    def submit_expecting_refusal(self, probe: str, expected: str, price: Decimal, **more: Any) -> Step:
        """Send a submission that should be refused. Raises Skipped if it could use up the paid job's price."""
        if self.lenient and self.endpoint.budget.left < price + self.price and self._paid is None:
            raise Skipped(
                "the rest of the budget is reserved for the paid job, because an invalid request was accepted before"
            )
        role = more.pop("role", "submit")
        step = self.call(role, probe=probe, expected=expected, price=price, **more)
        # Anything but a 4xx may have bought a job, a 5xx and a missing response included.
        self.lenient = self.lenient or not 400 <= step.status < 500
        return step

    def poll(self, job: str, probe: str, role: str = "status", *, wait: bool = True, **more: Any) -> Step:
        """Read a job, not sooner after its last read than the contract allows; `wait=False` makes reads overlap."""
        if wait:
            self.pause(self._last.get(job, 0.0) + self.contract.polling.least_interval - self.clock())
        step = self.call(role, probe=probe, path={"job": job}, **more)
        self._last[job] = self.clock()
        return step

    def settle(self, seconds: float) -> None:
        """Wait until the newest job has existed for a time. Raises OutOfTime."""
        self.pause(max(self._ordered.values(), default=0.0) + seconds - self.clock())

    def pause(self, seconds: float) -> None:
        """Wait. Raises OutOfTime if that would exceed the time of the whole suite."""
        # Raise before the wait, not after it: the time left still serves the report.
        left = self.endpoint.until - time.monotonic()
        if seconds > left:
            raise OutOfTime
        if seconds > 0:
            self.sleep(seconds)

    def follow(self, job: str, probe: str) -> Step:
        """Poll a job until it ends. Raises Skipped if it does not reach one."""
        failures, limit = 0, self.patience
        since = self._ordered.setdefault(job, self.clock())
        if self._longest is None and self.replaceable:
            limit = min(limit, REPLACED_AFTER)
        while True:
            step = self.poll(job, probe)
            if step.terminal:
                if step.success:
                    self._longest = max(self._longest or 0.0, self.clock() - since)
                return step
            failures = 0 if step.clean else failures + 1
            if failures >= MOST_FAILED_POLLS:
                raise Skipped(f"the job cannot be polled: the last status was {step.status}")
            # After a poll: the last one comes when the wait is over, as the evidence that the job has not ended.
            if self.clock() - since >= limit:
                raise NotEnded(f"the job did not end within {limit:g} s")
            retry_after = step.exchange.answer_header("retry-after") or ""
            self.pause(min(float(retry_after), LONGEST_PAUSE) if retry_after.isdecimal() and failures else 0.0)

    def paid(self) -> PaidJob:
        """Return the paid job, submitting it on first use. Raises Skipped."""
        # Set the failure reason before the attempt, so that the next probe does not repeat, and pay for, a failed one.
        if self._paid is None:
            self._paid = "the paid job was not accepted"
            step = self.submit_order("job", self.order)
            if step.job_told is None:
                raise Skipped(f"the submission got {step.status} and no job id")
            self._paid = PaidJob(step.job_told, step)
        if isinstance(self._paid, str):
            raise Skipped(self._paid)
        return self._paid

    def finished(self) -> PaidJob:
        """Return the paid job after it has ended. Raises Skipped."""
        paid = self.paid()
        if paid.end is None:
            try:
                end = self.follow(paid.id, "job")
                read = "result" in self.contract.operations
                result = self.poll(paid.id, "job", "result") if read else None
            except Skipped as error:
                self._paid = str(error)
                raise
            self._paid = paid = PaidJob(paid.id, paid.accepted, end, result)
            # Where only the result tells a success from a failure.
            if result is not None and result.success:
                self._longest = max(self._longest or 0.0, self.paid_seconds or 0.0)
        return paid

    @property
    def delivered(self) -> list[str]:
        """The paid jobs of all models that have ended."""
        known = [self._paid, *(one.paid for one in self._others.values())]
        return list(dict.fromkeys(one.id for one in known if isinstance(one, PaidJob) and one.end is not None))

    @property
    def paid_seconds(self) -> float | None:
        """The time from the paid job's submission to the poll that showed its end; None if it has not ended."""
        paid = self._paid
        if not isinstance(paid, PaidJob) or paid.end is None:
            return None
        return paid.end.done - paid.accepted.arrived

    def fetch_video(self, paid: PaidJob, *, shape: float | None = None, start: bytes | None = None) -> bytes:
        """Fetch the paid job's video, twice if necessary, record its properties, and return it. Raises Skipped.

        `shape` is the ratio of the submitted picture, if it is another one than that of the session, and `start` is
        that picture.
        """
        url = self.link(paid)
        for _ in range(FETCHES):
            data, last = self._followed(url)
            # A truncated file would be reported as a broken video.
            if last.status == 200 and last.whole:
                # A video of references begins with none of them, and has its own aspect ratio.
                is_first = "first_frame" in self.model.parameters
                picture = self.picture if isinstance(self.picture, bytes) and is_first and start is None else None
                # The operation that submits and waits may name no job.
                self.videos.append(viewed(paid.id or None, url, data, picture, shape=shape, start=start))
                return data
        # Each further request for the file would wait as long.
        self._undelivered = f"the video's link delivered no complete file in {FETCHES} requests"
        raise Skipped(self._undelivered)

    def _followed(self, url: str) -> tuple[bytes, Exchange]:
        """Fetch a file, following redirects: the request has no key that could go with them."""
        for _ in range(MOST_REDIRECTS):
            data = self.endpoint.fetch(url, probe="job:media")
            last = self.endpoint.exchanges[-1]
            location = last.answer_header("location") if last.status in REDIRECTS else None
            if location is None:
                break
            url = urljoin(url, location)
            if is_internal(url) and not is_internal(self.endpoint.base_url):
                break
        return data, last

    def link(self, paid: PaidJob) -> str:
        """Return the URL of the paid job's video. Raises Skipped if there is none or it must not be fetched."""
        url = paid.video
        if url is None:
            raise Skipped("the paid job has no video")
        if self._undelivered is not None:
            raise Skipped(self._undelivered)
        # A hostile endpoint must not make the suite fetch from the network that it runs in.
        if is_internal(url) and not is_internal(self.endpoint.base_url):
            raise Skipped(f"{url!r} is inside this network and is not fetched")
        return url

    def is_own(self, url: str) -> bool:
        """Whether a URL is on the endpoint's own host, which may receive the key."""
        own, other = urlsplit(self.endpoint.base_url), urlsplit(url)
        return (own.scheme, own.netloc) == (other.scheme, other.netloc)

    def concurrently(self, work: Sequence[Callable[[], object]]) -> None:
        """Run several calls concurrently; once all are done, raise the first error."""
        failed: list[Exception] = []

        def do(one: Callable[[], object]) -> None:
            try:
                one()
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=do, args=(one,), daemon=True) for one in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    @property
    def judgeable(self) -> bool:
        """Whether any response is evidence about the endpoint: complete, JSON, and not only a refusal of the key.

        Responses of operations that need no key count only if no operation that needs one was called.
        """
        if self.has_no_operations:
            return False
        seen = [one for one in self.endpoint.exchanges if not _without_our_key(one)]
        protected = [one for one in seen if self._needs_key(one)]
        return any(is_json_response(one) and not self.key_refused(one) for one in protected or seen)

    @property
    def has_no_operations(self) -> bool:
        """Whether every response is about a path that does not exist, with and without a key."""
        responses = [one for one in self.endpoint.exchanges if one.status]
        if not any(map(_without_our_key, responses)) or any(one.status not in NO_SUCH_PATH for one in responses):
            return False
        # An API that serves jobs to everybody responds so too: before an order, every job is unknown. The order tells
        # which it is, and costs nothing if there is no API.
        may_order = self.endpoint.budget.limit is not None
        is_ordered = any(one.role in SUBMISSIONS for one in responses if not _without_our_key(one))
        return is_ordered or not may_order or not any(map(self._is_of_unknown_job, responses))

    def _is_of_unknown_job(self, exchange: Exchange) -> bool:
        """Whether a response is the documented one about a job that does not exist."""
        operation, body = self.contract.operations.get(exchange.role or ""), as_json(exchange.answer)
        if operation is None or body is MISSING:
            return False
        message = message_of(exchange.answer_headers, body)
        schemas = self.contract.schemas
        if "unknown_job" not in read_answer(schemas, operation, exchange.status, message).situations:
            return False
        return not schemas.violations(operation.situations["unknown_job"].schema, body)

    def _needs_key(self, exchange: Exchange) -> bool:
        operation = self.contract.operations.get(exchange.role or "")
        return operation is not None and operation.authenticated

    def key_refused(self, exchange: Exchange) -> bool:
        """Whether the response to a request with our own key refuses that key."""
        return self._needs_key(exchange) and not _without_our_key(exchange) and exchange.status in self._refusing()

    def _refusing(self) -> frozenset[int]:
        """Return the statuses that refuse a key, without the statuses that also refuse a job or a body."""
        every = [one for operation in self.contract.operations.values() for one in operation.situations.values()]
        refusals = {one.status for one in every if one.name in KEY_REFUSALS} | {401, 403}
        others = {one.status for one in every if one.name in ("unknown_job", "foreign_job", "invalid_request")}
        # Where one status refuses both a key and a job (403, 404), it proves nothing about the key. 401 always does.
        return frozenset(refusals - others | {401})

    def trace(self) -> Trace:
        """Return all exchanges with both keys masked."""
        deliveries = self.receiver.deliveries if self.receiver is not None else ()
        more = {"deliveries": deliveries, "model": self.models[0].id, "secret": self.callback_secret}
        trace = self.endpoint.trace(videos=tuple(self.videos), **more)
        if len(self.other_key or "") < SHORTEST_SECRET:
            return trace
        assert self.other_key is not None
        return dataclasses.replace(
            trace, exchanges=tuple(_without_other_key(one, self.other_key) for one in trace.exchanges)
        )


def _without_our_key(exchange: Exchange) -> bool:
    return exchange.probe is not None and exchange.probe.startswith(("auth:", "identity:foreign"))


def is_json_response(exchange: Exchange) -> bool:
    """Whether a response is complete, is valid JSON, and is not a redirect."""
    if not exchange.status or not exchange.whole or exchange.role == "media" or 300 <= exchange.status < 400:
        return False
    try:
        orjson.loads(exchange.answer)
    except orjson.JSONDecodeError:
        return False
    return True


def is_internal(url: str) -> bool:
    """Whether a URL's host is this machine or a private network, judging by its text alone."""
    host = urlsplit(url).hostname or ""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


def callback_job_reader(contract: Contract) -> Callable[[Headers, bytes], str | None]:
    """Return a function that reads the job id from a callback."""

    def read(headers: Headers, body: bytes) -> str | None:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if contract.callbacks is None:
            return None
        found = read_callback(contract.schemas, contract.callbacks, message_of(headers, value)).values.get("job")
        return found if isinstance(found, str) else None

    return read


def with_callback(operation: Operation, body: Mapping[str, Any], url: str) -> Any:
    """Return a submission with a callback URL; MISSING if its body has no place for one."""
    binding = operation.bindings.get("callback_url")
    place = next((place for place in (binding.request if binding else ()) if place.part == "body"), None)
    return MISSING if place is None else replaced(dict(body), place.pointer, url)


def _data_uri(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "webp" if data[8:12] == b"WEBP" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _without_other_key(exchange: Exchange, key: str) -> Exchange:
    def pairs(found: Headers) -> Headers:
        return tuple((name, value.replace(key, OTHER_KEY)) for name, value in found)

    return dataclasses.replace(
        exchange,
        url=exchange.url.replace(key, OTHER_KEY),
        headers=pairs(exchange.headers),
        answer_headers=pairs(exchange.answer_headers),
        answer=exchange.answer.replace(key.encode(), OTHER_KEY.encode()),
    )
