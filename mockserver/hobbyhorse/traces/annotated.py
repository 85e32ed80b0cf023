"""A trace read through its contract: the client's knowledge after each response. Knows no server.

The rules judge a client by the evidence that it had, not by the state of the server. So each response is read three
ways, and the distinction matters in every property of `Step`:

* delivered: the client received it to its last byte. A response that broke off is evidence of nothing.
* clean: delivered, 2xx, and valid against the contract. Only a clean response may be used *against* a client: from a
  distorted one a careful client may conclude several things.
* ending: the client *may* have read the end of the job in it, whole or not. It is used *for* a client: it excuses a
  client that stopped polling.

A rule that accused on the weaker reading, or excused on the stronger one, would accuse careful clients.

A recording may lack a part of an exchange (`Exchange.unrecorded`). Most rules need not know: an *unread* response is
neither clean, nor unusable, nor ambiguous, but may have been an end; and a submission that is not fully recorded
belongs to no order. So a missing part is used against no client.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial, update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

import orjson

from hobbyhorse.contract.forms.expressions import MISSING, Message
from hobbyhorse.contract.reading import Reading, as_json, message_of, read_answer, read_callback
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.exchange import ANSWER, ANSWER_HEADERS, API_KEY, BODY, DURATION, HEADERS
from hobbyhorse.traces.submissions import carried
from hobbyhorse.traces.trace import KEY, NUMBERED_KEY, REDACTED, Delivery, Exchange, Outcome, Run, Trace, shows_key

P = ParamSpec("P")
T = TypeVar("T")

SUBMISSIONS = frozenset({"submit", "run"})
READS = frozenset({"status", "result"})
# The 4xx statuses after which the same request may succeed later. Every 5xx is transient too (`Step.transient`).
TRANSIENT = frozenset({408, 425, 429})
# After these a submission may or may not have made a job. 429 and 503 are absent: they refuse before any work is done.
UNDECIDED = frozenset({408, 500, 502, 504})
# The classes of the stages that a job never leaves.
ENDS = frozenset({"success", "failure", "cancelled", "expired"})
FAILED_OUTCOMES = frozenset({"failed", "error"})
# Outcomes of a client that has no video.
GAVE_UP = FAILED_OUTCOMES | {"timeout"}
# The ports that a URL need not name (RFC 9110, section 4.2).
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# The number of URLs whose parts are remembered, as many as `urlsplit` remembers. Each rule asks for them, and a usual
# trace has fewer; but a URL may be a whole video, as `data:`.
URLS = 128
# The reading of a response that no operation describes.
NOTHING = Reading({}, frozenset(), ())


@dataclass(frozen=True, slots=True)
class Step:
    """An exchange, with the contract's reading of its response.

    `value` is the body as JSON, or MISSING if it is not JSON. `kinds` are the classes of the stages that the response
    may mean. `valid` means that the response matches a situation of the contract, down to the last field.
    """

    number: int
    exchange: Exchange
    value: Any
    reading: Reading
    kinds: frozenset[str]
    valid: bool

    @property
    def role(self) -> str | None:
        """The operation's role, `media`, or None."""
        return self.exchange.role

    @property
    def arrived(self) -> float:
        """When the request arrived."""
        return self.exchange.arrived

    @property
    def done(self) -> float:
        """When the response had been sent; if none was sent, when the request arrived."""
        return self.exchange.arrived if self.exchange.answered is None else self.exchange.answered

    @property
    def status(self) -> int:
        """The response's status; 0 means no response."""
        return self.exchange.status

    @property
    def job(self) -> str | None:
        """The job that the request or its response names."""
        named = self.reading.values.get("job")
        return self.exchange.job or (named if isinstance(named, str) else None)

    @property
    def keys(self) -> tuple[str, ...]:
        """What stands for the keys in the request's URL and headers."""
        texts = (self.exchange.url, *(value for _, value in self.exchange.headers))
        return tuple(word for text in texts for word in NUMBERED_KEY.findall(text))

    @property
    def delivered(self) -> bool:
        """Whether the client received a complete response."""
        return self.exchange.status != 0 and self.exchange.whole and self.exchange.answered is not None

    @property
    def unread(self) -> bool:
        """Whether the client received a response whose body the recording lacks."""
        return self.exchange.status != 0 and not self.exchange.has(ANSWER)

    @property
    def timed(self) -> bool:
        """Whether the recording shows how long the response took."""
        return self.exchange.has(DURATION)

    @property
    def ok(self) -> bool:
        """Whether a 2xx was delivered."""
        return self.delivered and 200 <= self.status < 300

    @property
    def clean(self) -> bool:
        """Whether a 2xx was delivered whose every field is valid against the contract. An empty id names no job."""
        return self.ok and self.valid and self.reading.values.get("job") != ""

    @property
    def stage(self) -> Any:
        """The stage word in the response, or None."""
        return self.reading.values.get("stage") if self.ok else None

    @property
    def terminal(self) -> bool:
        """Whether the response reports that the job has ended."""
        return self.ok and bool(self.kinds) and self.kinds <= ENDS

    @property
    def ending(self) -> bool:
        """Whether a response, complete or not, may be read as the job's end: a stage, an unknown word, a video."""
        if self.role in (None, "media") or not 200 <= self.status < 300:
            return False
        readable = bool(self.kinds & ENDS) or "video_url" in self.reading.values
        return readable or self.unknown_stage or self.unread

    @property
    def under_way(self) -> bool:
        """Whether a clean response reports that the job has not ended."""
        return self.clean and bool(self.kinds) and not self.ending

    @property
    def success(self) -> bool:
        """Whether the response reports success and can mean nothing else."""
        return self.ok and self.kinds == {"success"}

    @property
    def failure(self) -> bool:
        """Whether the response reports that the job has ended without a video."""
        return self.terminal and "success" not in self.kinds

    @property
    def video(self) -> str | None:
        """The URL of the video in the response, or None."""
        found = self.reading.values.get("video_url") if self.ok else None
        return found if isinstance(found, str) and found else None

    @property
    def accepted(self) -> bool:
        """Whether a submission was accepted: its response has the id of a job."""
        return self.role in SUBMISSIONS and self.ok and self.job_told is not None

    @property
    def job_told(self) -> str | None:
        """The id of the job in the response, or None."""
        found = self.reading.values.get("job") if self.ok else None
        return found if isinstance(found, str) and found else None

    @property
    def ambiguous(self) -> bool:
        """Whether the client cannot know if a submission was accepted."""
        if self.role not in SUBMISSIONS or self.accepted:
            return False
        # A 2xx without an id is undecided too, except from `run`, which may return the video itself.
        silent = self.ok and self.role == "submit" and not self.unread
        return not self.delivered or self.status in UNDECIDED or silent

    @property
    def refused(self) -> bool:
        """Whether a submission was certainly not accepted."""
        maybe = self.accepted or self.ambiguous or (self.ok and self.unread)
        return self.role in SUBMISSIONS and not maybe

    @property
    def bad_body(self) -> bool:
        """Whether a 2xx was delivered with an unusable body: not JSON, not an object, or without its stage."""
        legible = self.valid or bool(self.kinds) or self.unknown_stage
        return self.ok and self.role != "media" and not self.unread and not legible

    @property
    def error_inside(self) -> bool:
        """Whether a 2xx was delivered with the members of an error and without a stage."""
        named = self.reading.values if isinstance(self.value, dict) else ()
        return self.bad_body and any(name.startswith("refusal") for name in named)

    @property
    def unknown_stage(self) -> bool:
        """Whether the response has a stage word that the contract does not know."""
        return self.ok and isinstance(self.stage, str) and bool(self.stage) and not self.kinds

    @property
    def transient(self) -> bool:
        """Whether the request failed transiently: no response, 408, 425, 429, 5xx, an unusable body."""
        return not self.delivered or self.status in TRANSIENT or self.status >= 500 or self.bad_body


class AnnotatedTrace:
    """A trace, with each exchange read through the contract, oldest first."""

    def __init__(self, contract: Contract, trace: Trace, steps: tuple[Step, ...] | None = None) -> None:
        self.contract = contract
        self.trace = trace
        self.partner: AnnotatedTrace | None = None
        """The trace of the same runs with the other provider, if the client has two."""
        self._known_steps = steps
        self._found: dict[object, Any] = {}
        """What `once` has found."""

    def once(self, name: object, find: Callable[[], T]) -> T:
        """Return what a search finds; search once for each name."""
        if name not in self._found:
            self._found[name] = find()
        found: T = self._found[name]
        return found

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The exchanges, each with its reading."""
        if self._known_steps is not None:
            return self._known_steps
        return tuple(self._step(number, exchange) for number, exchange in enumerate(self.trace.exchanges, 1))

    def _step(self, number: int, exchange: Exchange) -> Step:
        operation = self.contract.operations.get(exchange.role or "")
        value = as_json(exchange.answer)
        if operation is None:
            return Step(number, exchange, value, NOTHING, frozenset(), False)
        message = message_of(exchange.answer_headers, value)
        reading = read_answer(self.contract.schemas, operation, exchange.status, message)
        kinds = frozenset(self.contract.graph[name].kind for name in reading.stages)
        valid = any(
            not self.contract.schemas.violations(operation.situations[name].schema, value, most=1)
            for name in reading.situations
        )
        # A body that is not JSON is not an empty one.
        legible = value is not MISSING or not exchange.answer
        return Step(number, exchange, value, reading, kinds, valid and legible)

    def of(self, *roles: str) -> tuple[Step, ...]:
        """Return the steps of roles."""
        return tuple(step for step in self.steps if step.role in roles)

    @cached_property
    def submits(self) -> tuple[Step, ...]:
        """The submissions."""
        return self.of(*SUBMISSIONS)

    @cached_property
    def reads(self) -> tuple[Step, ...]:
        """The requests for a job's status or result."""
        return self.of(*READS)

    @cached_property
    def polls(self) -> tuple[Step, ...]:
        """The requests for a job's status."""
        return self.of("status")

    @cached_property
    def fetches(self) -> tuple[Step, ...]:
        """The requests for a file (GET)."""
        return tuple(step for step in self.of("media") if step.exchange.method == "GET")

    def after(self, step: Step | float, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Return the steps after a step, or after a time."""
        if isinstance(step, Step):
            return tuple(other for other in steps if other.number > step.number)
        return tuple(other for other in steps if other.arrived > step)

    @cached_property
    def orders(self) -> tuple[tuple[Step, ...], ...]:
        """The submissions, grouped by the job that they are meant to make.

        The submissions of one run, and of the runs that resume it, form one order. If several runs may have sent a
        submission, it forms an order with those that have its key and body. Recorded traffic has no runs: there,
        submissions of one page with the same API key, URL and body form one order, until the client learns that their
        job has succeeded. A submission belongs to no order if the recording lacks one of these facts.
        """
        groups: dict[object, list[Step]] = {}
        last: dict[object, list[Step]] = {}
        for step in self.submits:
            if self.run_of(step) is None:
                same = self.identity(step)
                # After a success, the same body is a new order: the user wants the same video again.
                new = None if same is None else same not in last or self._succeeded(last[same], step)
                if new:
                    last[same] = groups[same, step.number] = []
                if new is not None:
                    last[same].append(step)
            else:
                groups.setdefault(self._order_key(step), []).append(step)
        return tuple(tuple(group) for group in groups.values())

    def _order_key(self, step: Step) -> object:
        """Return a key that the submissions of one order share; each unclear submission has a key of its own."""
        run, key = self.owner_of(step), self.key(step)
        if run is not None:
            begun = [number for number, other in enumerate(self.trace.runs[: run + 1]) if not other.resumed]
            return max(begun, default=0)
        # A repeated key shows that an unclear submission is an attempt. Without one, it may be another run's order.
        return (key, canonical(step.exchange.body)) if key else (None, step.number)

    def identity(self, step: Step) -> object:
        """Return a value that is equal for equal submissions; None if the recording lacks a part of it."""
        # A single submission is an order of its own, whatever it says.
        if len(self.submits) > 1 and not step.exchange.has(BODY, HEADERS, API_KEY):
            return None
        keys = credentials(self.contract, step.exchange)
        # Two keys that were replaced by the same word look equal, but may differ.
        if len(self.submits) > 1 and any(REDACTED in (key or "") for key in keys):
            return None
        return keys, step.exchange.url, canonical(step.exchange.body), step.exchange.page

    def _succeeded(self, order: list[Step], before: Step) -> bool | None:
        """Whether the client knew before a step that a job of an order had succeeded; None if that is unknown."""
        # Only the client's own jobs count: a list may show others.
        jobs = {self._made[step.number] for step in order if step.number in self._made}
        if any(step.number < before.number and step.job in jobs for step in self._successes):
            return True
        earlier = (step for step in self._unread_ends if step.number < before.number)
        unread = any(step in order or step.job in {None, *jobs} for step in earlier)
        # A recording does not show callbacks.
        called_back = self.trace.jobs is None and not self.deliveries and bool(jobs)
        named = called_back and any(step.number in self._with_callbacks for step in order)
        return None if unread or named else False

    @cached_property
    def _made(self) -> Mapping[int, str | None]:
        """The jobs of the accepted submissions, by the number of the submission."""
        return {step.number: step.job_told for step in self.submits if step.accepted}

    @cached_property
    def _successes(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.success)

    @cached_property
    def _unread_ends(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.unread and step.ending)

    @cached_property
    def _with_callbacks(self) -> frozenset[int]:
        return frozenset(step.number for step in self.submits if self.wants_callbacks(step))

    def wants_callbacks(self, step: Step) -> bool:
        """Whether a submission names a URL for callbacks, or may name one."""
        binding = self.contract.operations[step.role or ""].bindings.get("callback_url")
        if binding is None:
            return False
        query = dict(parse_qsl(parts(step.exchange.url).query))
        message = Message({}, query, step.exchange.header, as_json(step.exchange.body))
        named = any(place.get(message) not in (MISSING, None, "") for place in binding.request)
        return named or not step.exchange.has(BODY, HEADERS)

    def unread_before(self, step: Step) -> bool:
        """Whether the recording lacks the body of an earlier response, which may have had any URL in it."""
        return self._first_unread < step.number

    @cached_property
    def _first_unread(self) -> float:
        lacking = (one for one in self.steps if one.status and not one.exchange.has(ANSWER, ANSWER_HEADERS))
        return next((one.number for one in lacking if one.role != "media"), float("inf"))

    @cached_property
    def shows_keys(self) -> bool:
        """Whether the trace would show an API key: browsers leave it out of their recordings."""
        texts = ((one.url, *(value for _, value in one.headers)) for one in self.trace.exchanges)
        return self.trace.jobs is not None or any(map(shows_key, itertools.chain.from_iterable(texts)))

    @cached_property
    def with_other_keys(self) -> tuple[Step, ...]:
        """The steps of a test case that carry a key which the client was given for an earlier case.

        A recording has none: it may show the keys of several accounts.
        """
        if not self.runs or self.trace.jobs is None:
            return ()
        # The keys of the client's providers come first.
        is_pair = self.trace.partner is not None or self.trace.rank == 1
        own = {KEY, "[key-1]", *(("[key-2]",) if is_pair else ())}
        return tuple(step for step in self.steps if set(step.keys) - own)

    @cached_property
    def jobs(self) -> frozenset[str]:
        """The jobs that the submissions made, whether or not their ids reached the client."""
        return frozenset(job for step in self.submits for job in (step.job_told, step.exchange.made) if job is not None)

    @cached_property
    def by_order(self) -> tuple[AnnotatedTrace, ...]:
        """One trace for each order, with its runs; empty if the orders cannot be separated."""
        groups = self._groups()
        if self._has_stray_submissions(len(groups)):
            return ()
        if len(groups) < 2:
            return (self,)
        steps = [{step.number for step in group} for _, group in groups]
        jobs = [{job for step in group for job in (step.job_told, step.exchange.made) if job} for _, group in groups]
        # A job that two orders share (a replayed key) belongs to both, so no step about it can be assigned.
        if len(frozenset().union(*jobs)) < sum(map(len, jobs)):
            return ()
        owners = {job: numbers for numbers, ids in zip(steps, jobs, strict=True) for job in ids}
        for step in self.steps:
            if step.role in SUBMISSIONS:
                continue
            # A file without a job may belong to any order.
            if step.role == "media" and step.job is None:
                return ()
            if step.job is not None:
                owners.get(step.job, set()).add(step.number)
                continue
            # A request without a job concerns every order, unless its time shows its run.
            run = self._run_by_time(step)
            for (runs, _), numbers in zip(groups, steps, strict=True):
                if run is None or run in runs:
                    numbers.add(step.number)
        return tuple(self._part(*part) for part in zip((runs for runs, _ in groups), steps, jobs, strict=True))

    def _has_stray_submissions(self, orders: int) -> bool:
        """Whether it is unknown for any submission to which of the orders it belongs."""
        if self.trace.runs:
            return orders > 1 and any(self.owner_of(step) is None for step in self.submits)
        return sum(map(len, self.orders)) < len(self.submits)

    def _run_by_time(self, step: Step) -> Run | None:
        """Return the run in which a request was sent; None if no run is known, or if runs overlap."""
        number = self.run_of(step)
        ends = [run.outcome.ended if run.outcome is not None else None for run in self.trace.runs]
        later = (run.started for run in self.trace.runs[1:])
        in_sequence = all(end is not None and end < start for end, start in zip(ends, later, strict=False))
        return self.trace.runs[number] if number is not None and in_sequence else None

    def _groups(self) -> list[tuple[tuple[Run, ...], tuple[Step, ...]]]:
        """Return the runs and the submissions of each order."""
        # Recorded traffic has no runs; its orders come from equal bodies.
        if not self.trace.runs:
            return [((), order) for order in self.orders]
        begun = [number for number, run in enumerate(self.trace.runs) if not run.resumed or number == 0]
        ends = [*begun[1:], len(self.trace.runs)]
        places = {step.number: self.run_of(step) for step in self.submits}
        return [
            (self.trace.runs[start:end], tuple(s for s in self.submits if (places[s.number] or 0) in range(start, end)))
            for start, end in zip(begun, ends, strict=True)
        ]

    def _part(self, runs: tuple[Run, ...], numbers: set[int], jobs: set[str]) -> AnnotatedTrace:
        steps = tuple(step for step in self.steps if step.number in numbers)
        trace = dataclasses.replace(
            self.trace,
            exchanges=tuple(step.exchange for step in steps),
            deliveries=tuple(delivery for delivery in self.trace.deliveries if delivery.job in jobs),
            runs=runs,
            jobs=None if self.trace.jobs is None else tuple(job for job in self.trace.jobs if job.id in jobs),
        )
        return AnnotatedTrace(self.contract, trace, steps)

    def is_resumed(self, step: Step, before: float) -> bool:
        """Whether a recorded request follows so long a silence that it is of another run.

        The client was started again, or a user came back. `before` is the moment of the previous request of its kind.
        """
        return not self.trace.runs and step.arrived - before > self.patience / 2

    def run_of(self, step: Step) -> int | None:
        """Return the number of the run that a step belongs to, from 0; None if no run is known.

        If runs overlap in time, a submission belongs to the run whose request it carries.
        """
        # By the number: a step is costly to hash.
        return self.once(("run of", step.number), partial(self._find_run, step))

    def owner_of(self, step: Step) -> int | None:
        """Return the number of the run that certainly sent a submission, from 0; None if that is unclear.

        It is unclear if several runs were active, and the submission carries the request of none of them.
        """
        return self.once(("owner of", step.number), partial(self._find_owner, step))

    def _find_run(self, step: Step) -> int | None:
        begun = self._begun(step)
        owner = self.owner_of(step) if len(begun) > 1 and step.exchange.body else None
        return begun[-1] if begun and owner is None else owner

    def _find_owner(self, step: Step) -> int | None:
        begun = self._begun(step)
        if len(begun) < 2:
            return begun[-1] if begun else None
        # Overlapping runs of one client differ only in their requests.
        requests = [self.trace.runs[number].request for number in begun]
        same = carried(self.contract, step.exchange, self.bases, requests)
        if same:
            return begun[same[-1]]
        outcomes = [(number, self.trace.runs[number].outcome) for number in begun]
        active = [number for number, one in outcomes if one is None or one.ended >= step.arrived]
        if len(active) < 2:
            return (active or begun)[-1]
        # An attempt with a spoilt body may still have the key of its order.
        key = self.key(step)
        attempts = (one for one in self.submits if one.number < step.number and key and self.key(one) == key)
        first = next(attempts, None)
        return self.owner_of(first) if first is not None else None

    def _begun(self, step: Step) -> list[int]:
        return [number for number, run in enumerate(self.trace.runs) if run.started <= step.arrived]

    @cached_property
    def bases(self) -> tuple[str, ...]:
        """The base URLs that requests may have."""
        return (self.trace.base, *(run.base for run in self.trace.runs))

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of the client; empty in recorded traffic."""
        return self.trace.runs

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """The attempts to deliver callbacks."""
        return self.trace.deliveries

    @property
    def run(self) -> Run | None:
        """The last run of the client."""
        return self.trace.runs[-1] if self.trace.runs else None

    @property
    def outcome(self) -> Outcome | None:
        """How the last run ended."""
        return self.run.outcome if self.run is not None else None

    @property
    def patience(self) -> float:
        """The longest time that a client should wait for a job, in seconds.

        It is the provider's longest wait, or the client's own deadline if that is later: a deadline is a bound.
        """
        return max(self.contract.polling.longest_wait, self.trace.patience or 0.0)

    @cached_property
    def accepted(self) -> Step | None:
        """The first submission with a job's id in its response."""
        return next((step for step in self.submits if step.accepted), None)

    @property
    def last_wait_began(self) -> float | None:
        """When the last wait for a job began: when it was accepted, or when the run that resumes it started."""
        # The last accepted submission: a client that submitted again waits for the newer job.
        accepted = [step.done for step in self.submits if step.accepted]
        return max(accepted[-1], self.run.started if self.run is not None else 0.0) if accepted else None

    @property
    def waited(self) -> float:
        """Seconds from the beginning of the last wait to the outcome; 0 if either is missing."""
        if self.outcome is None or self.last_wait_began is None:
            return 0.0
        return self.outcome.ended - self.last_wait_began

    @cached_property
    def knew_job(self) -> bool:
        """Whether the last run knew the job's id: a clean response had it, or a request used it."""
        last = len(self.trace.runs) - 1
        proofs = (s for s in self.steps if (s.accepted and s.clean) or (s.role in (*READS, "cancel") and s.job))
        return any(self.run_of(step) == last for step in proofs)

    @cached_property
    def exposed(self) -> bool | None:
        """Whether the client's caller learned the id of a job that the client knew; None if unknown."""
        if self.outcome is None or self.outcome.id_exposed is not False:
            return None if self.outcome is None else self.outcome.id_exposed
        known = {job for step in self.submits if (job := step.reading.values.get("job")) and isinstance(job, str)}
        return any(job in self.outcome.message for job in known)

    @cached_property
    def ended(self) -> bool:
        """Whether any response or callback, complete or not, may be read as a job's end."""
        shown = any(step.ending or self.lists(step) for step in self.steps)
        return shown or any(kinds & ENDS for _, kinds in self.callbacks)

    def lists(self, step: Step) -> bool:
        """Whether a step is a list of jobs that contains, or may contain, one of the client's own jobs."""
        if step.role != "list" or not 200 <= step.status < 300:
            return False
        # A trace keeps only the beginning of a long body; the client's job may be in the rest.
        kept, sent = step.exchange.answer, step.exchange.size
        return any(job.encode() in kept for job in self.jobs) or (bool(self.jobs) and (sent > len(kept) or step.unread))

    @cached_property
    def has_foreign_links(self) -> bool:
        """Whether a response gave an operation's URL on a foreign origin, which a client may refuse to follow."""
        names = [f"{role}_url" for role in self.contract.operations]
        given = (step.reading.values.get(name) for step in self.steps for name in names)
        return any(isinstance(url, str) and origin(url) not in self.homes for url in given)

    def key(self, step: Step) -> str | None:
        """Return the idempotency key of a submission."""
        place = self.contract.idempotency.key
        return step.exchange.header(place.name) if place is not None and place.part == "header" else None

    def same(self, one: Step, other: Step) -> bool:
        """Whether repeating a submission is safe: the contract replays keys, and key and body are the same."""
        if self.contract.idempotency.mode != "replay":
            return False
        key = self.key(one)
        return bool(key) and key == self.key(other) and canonical(one.exchange.body) == canonical(other.exchange.body)

    @cached_property
    def end(self) -> Step | None:
        """The first step with a clean response that reports the end of the job."""
        return next((step for step in self.steps if step.terminal and step.clean), None)

    @cached_property
    def callbacks(self) -> tuple[tuple[Delivery, frozenset[str]], ...]:
        """The genuine callbacks, each with the classes of the stages that it may mean."""
        callbacks = self.contract.callbacks
        if callbacks is None:
            return ()
        found = []
        for delivery in self.trace.deliveries:
            if delivery.kind == "genuine" and delivery.body:
                message = message_of(delivery.headers, as_json(delivery.body))
                reading = read_callback(self.contract.schemas, callbacks, message)
                found.append((delivery, frozenset(self.contract.graph[name].kind for name in reading.stages)))
        return tuple(found)

    def origin(self, step: Step) -> str:
        """Return the scheme, host and port of a request."""
        return origin(step.exchange.url)

    @cached_property
    def home(self) -> str:
        """The scheme, host and port of the provider."""
        return origin(self.trace.base)

    @cached_property
    def homes(self) -> frozenset[str]:
        """The scheme, host and port of each base URL that a run was given."""
        return frozenset({self.home, *(origin(run.base) for run in self.trace.runs)})


def credentials(contract: Contract, exchange: Exchange) -> tuple[str | None, ...]:
    """Return the keys of a request, one for each of the contract's security schemes."""
    query = dict(parse_qsl(parts(exchange.url).query))
    return tuple(exchange.header(name) if part == "header" else query.get(name) for part, name, _ in contract.security)


def remembered(find: Callable[Concatenate[AnnotatedTrace, P], T]) -> Callable[Concatenate[AnnotatedTrace, P], T]:
    """Let a function of a trace and hashable arguments search once, and remember what it found with the trace."""

    def known(trace: AnnotatedTrace, /, *arguments: P.args, **named: P.kwargs) -> T:
        return trace.once((find, arguments, *named.items()), partial(find, trace, *arguments, **named))

    return update_wrapper(known, find)


@lru_cache(URLS)
def origin(url: str) -> str:
    """Return the scheme, host and port of a URL, without a default port."""
    found = parts(url)
    whole = f"{found.scheme}://{found.netloc}".lower()
    return whole.removesuffix(DEFAULT_PORTS.get(found.scheme, ""))


@lru_cache(URLS)
def parts(url: str) -> SplitResult:
    """Split a URL. A text that is not a URL, as a distorted response may contain, has only empty parts."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def canonical(body: bytes) -> bytes:
    """Return a canonical form in which equal orders are equal bytes: JSON with sorted keys, or the body itself."""
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        return body
