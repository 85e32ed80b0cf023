"""A trace read against its contract: what each answer told the client; what every rule asks. Knows no server."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.reading import Reading, as_json, message_of, read_answer, read_callback
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Delivery, Exchange, Outcome, Run, Trace

SUBMISSIONS = frozenset({"submit", "run"})
READS = frozenset({"status", "result"})
TRANSIENT = frozenset({408, 425, 429})
"""Refusals that pass; every 5xx does, too."""
UNDECIDED = frozenset({408, 500, 502, 504})
"""Answers to a submission that do not say whether it was accepted."""
ENDS = frozenset({"success", "failure", "cancelled", "expired"})
"""The classes of the stages that a job does not leave."""
FAILED_OUTCOMES = frozenset({"failed", "error"})
GAVE_UP = FAILED_OUTCOMES | {"timeout"}
"""Outcomes of a client that has no video; what it says of the job then is told by the second, too."""
NOTHING = Reading({}, frozenset(), ())


@dataclass(frozen=True, slots=True)
class Step:
    """An exchange, and what the client could read in its answer.

    `value` is the body as JSON, MISSING where it is none. `kinds` are the classes of the stages that the answer may
    mean. `valid` says that the answer is one that the contract has, to the last field.
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
        """When the request came."""
        return self.exchange.arrived

    @property
    def done(self) -> float:
        """When the answer had been handed over; when the request came, if that never was."""
        return self.exchange.arrived if self.exchange.answered is None else self.exchange.answered

    @property
    def status(self) -> int:
        """The answer's status; 0 is no answer."""
        return self.exchange.status

    @property
    def job(self) -> str | None:
        """The job that the request or its answer names."""
        told = self.reading.values.get("job")
        return self.exchange.job or (told if isinstance(told, str) else None)

    @property
    def delivered(self) -> bool:
        """Whether the client got an answer, to its end."""
        return self.exchange.status != 0 and self.exchange.whole and self.exchange.answered is not None

    @property
    def ok(self) -> bool:
        """Whether a 2xx was delivered."""
        return self.delivered and 200 <= self.status < 300

    @property
    def clean(self) -> bool:
        """Whether a 2xx was delivered that the contract has, to the last field."""
        return self.ok and self.valid

    @property
    def stage(self) -> Any:
        """The stage word in the answer, or None."""
        return self.reading.values.get("stage") if self.ok else None

    @property
    def terminal(self) -> bool:
        """Whether the client was told that the job has ended."""
        return self.ok and bool(self.kinds) and self.kinds <= ENDS

    @property
    def ending(self) -> bool:
        """Whether an answer, whole or not, may be read as the job's end: a stage, an unknown word, a video."""
        if self.role in (None, "media") or not 200 <= self.status < 300:
            return False
        told = bool(self.kinds & ENDS) or "video_url" in self.reading.values
        return told or self.unknown_stage

    @property
    def under_way(self) -> bool:
        """Whether the client was told, in an answer without fault, that the job has not ended."""
        return self.clean and bool(self.kinds) and not self.ending

    @property
    def success(self) -> bool:
        """Whether the client was told that the job has succeeded, and with nothing else that it may mean."""
        return self.ok and self.kinds == {"success"}

    @property
    def failure(self) -> bool:
        """Whether the client was told that the job has ended without a video."""
        return self.terminal and "success" not in self.kinds

    @property
    def video(self) -> str | None:
        """The address of the video in the answer, or None."""
        found = self.reading.values.get("video_url") if self.ok else None
        return found if isinstance(found, str) and found else None

    @property
    def accepted(self) -> bool:
        """Whether a submission was answered with the id of a job."""
        return self.role in SUBMISSIONS and self.ok and self.job_told is not None

    @property
    def job_told(self) -> str | None:
        """The id of the job in the answer."""
        found = self.reading.values.get("job") if self.ok else None
        return found if isinstance(found, str) and found else None

    @property
    def ambiguous(self) -> bool:
        """Whether a submission may have been accepted, for all that the client knows."""
        if self.role not in SUBMISSIONS or self.accepted:
            return False
        return not self.delivered or self.status in UNDECIDED or (self.ok and self.role == "submit")

    @property
    def refused(self) -> bool:
        """Whether it is certain that a submission was not accepted."""
        return self.role in SUBMISSIONS and not self.accepted and not self.ambiguous

    @property
    def bad_body(self) -> bool:
        """Whether a 2xx was delivered that cannot be read: no JSON, no object, no stage where there should be one."""
        return self.ok and self.role != "media" and not self.valid and not self.kinds and not self.unknown_stage

    @property
    def unknown_stage(self) -> bool:
        """Whether the answer has a stage word, a text, that no document has."""
        return self.ok and isinstance(self.stage, str) and bool(self.stage) and not self.kinds

    @property
    def transient(self) -> bool:
        """Whether the request failed in a way that may pass: no answer, 408, 425, 429, 5xx, a body of no use."""
        return not self.delivered or self.status in TRANSIENT or self.status >= 500 or self.bad_body


class AnnotatedTrace:
    """What happened to a client, oldest first."""

    def __init__(self, contract: Contract, trace: Trace, steps: tuple[Step, ...] | None = None) -> None:
        self.contract = contract
        self.trace = trace
        self._told = steps

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The exchanges, read."""
        if self._told is not None:
            return self._told
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
        return Step(number, exchange, value, reading, kinds, valid and value is not MISSING)

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
        """Return those steps that came after another one, or after a moment."""
        if isinstance(step, Step):
            return tuple(other for other in steps if other.number > step.number)
        return tuple(other for other in steps if other.arrived > step)

    @cached_property
    def orders(self) -> tuple[tuple[Step, ...], ...]:
        """The submissions, those together that are meant to make one job.

        Those of one run of the client, and of the runs that resume it, belong together; in recorded traffic, those with
        the same body and address, until the client has been told that their job has succeeded.
        """
        groups: dict[object, list[Step]] = {}
        last: dict[object, list[Step]] = {}
        for step in self.submits:
            run = self.run_of(step)
            if run is None:
                same = (step.exchange.url, canonical(step.exchange.body))
                if same not in last or self._had(last[same], step):
                    last[same] = groups[same, step.number] = []
                last[same].append(step)
            else:
                begun = max(n for n, other in enumerate(self.trace.runs) if not other.resumed and n <= run)
                groups.setdefault(begun, []).append(step)
        return tuple(tuple(group) for group in groups.values())

    def _had(self, order: list[Step], before: Step) -> bool:
        """Whether the client had been told, before a step, that a job of an order has succeeded."""
        jobs = {step.job_told for step in order if step.accepted}
        return any(step.success and step.job in jobs for step in self.steps if step.number < before.number)

    @cached_property
    def jobs(self) -> frozenset[str]:
        """The jobs that the submissions made, whether the client was told so or not."""
        return frozenset(job for step in self.submits for job in (step.job_told, step.exchange.made) if job is not None)

    @cached_property
    def apart(self) -> tuple[AnnotatedTrace, ...]:
        """The story of each order by itself, with its runs; nothing where one cannot be told from the other."""
        groups = self._groups()
        if len(groups) < 2:
            return (self,)
        steps = [{step.number for step in group} for _, group in groups]
        jobs = [{job for step in group for job in (step.job_told, step.exchange.made) if job} for _, group in groups]
        if len(frozenset().union(*jobs)) < sum(map(len, jobs)):
            return ()
        for step in self.steps:
            if step.role in SUBMISSIONS:
                continue
            if step.role == "media" and step.job is None:
                return ()
            for numbers, ids in zip(steps, jobs, strict=True):
                if step.job is None or step.job in ids:
                    numbers.add(step.number)
        return tuple(self._part(*part) for part in zip((runs for runs, _ in groups), steps, jobs, strict=True))

    def _groups(self) -> list[tuple[tuple[Run, ...], tuple[Step, ...]]]:
        """Return the runs and submissions of each order."""
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

    def run_of(self, step: Step) -> int | None:
        """Return the number of the run that a step belongs to, from 0; None where the runs are not known.

        Where runs overlap in time, it is the run whose request the step's body is, or has in it.
        """
        begun = [number for number, run in enumerate(self.trace.runs) if run.started <= step.arrived]
        if len(begun) < 2 or not step.exchange.body:
            return begun[-1] if begun else None
        body = as_json(step.exchange.body)
        same = [number for number in begun if _within(self.trace.runs[number].request, body)]
        return (same or begun)[-1]

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
        """The longest that a client may wait for a job, in seconds."""
        return self.contract.polling.longest_wait

    @cached_property
    def accepted(self) -> Step | None:
        """The first submission that was answered with a job's id."""
        return next((step for step in self.submits if step.accepted), None)

    @property
    def taken_up(self) -> float | None:
        """When the last wait for a job began: with its acceptance, or with the run that takes it up again."""
        accepted = [step.done for step in self.submits if step.accepted]
        return max(accepted[-1], self.run.started if self.run is not None else 0.0) if accepted else None

    @property
    def lasted(self) -> float:
        """Seconds from the beginning of the last wait to the outcome; 0 where there was none of them."""
        if self.outcome is None or self.taken_up is None:
            return 0.0
        return self.outcome.ended - self.taken_up

    @cached_property
    def knew(self) -> bool:
        """Whether the last run knew the job's id: it was told in an answer without fault, or asked for it."""
        last = len(self.trace.runs) - 1
        telling = (s for s in self.steps if (s.accepted and s.clean) or (s.role in (*READS, "cancel") and s.job))
        return any(self.run_of(step) == last for step in telling)

    @cached_property
    def exposed(self) -> bool | None:
        """Whether whoever called the client learned a job's id, any that the client was told; None is unknown."""
        if self.outcome is None or self.outcome.id_exposed is not False:
            return None if self.outcome is None else self.outcome.id_exposed
        told = {job for step in self.submits if (job := step.reading.values.get("job")) and isinstance(job, str)}
        return any(job in self.outcome.message for job in told)

    @cached_property
    def ended(self) -> bool:
        """Whether anything that was sent to the client, whole or not, may be read as a job's end."""
        shown = any(step.ending or self.lists(step) for step in self.steps)
        return shown or any(kinds & ENDS for _, kinds in self.told)

    def lists(self, step: Step) -> bool:
        """Whether a step is a list of jobs, whole or not, that has one of the client's own in it, as far as is kept."""
        if step.role != "list" or not 200 <= step.status < 300:
            return False
        kept, sent = step.exchange.answer, step.exchange.size
        return any(job.encode() in kept for job in self.jobs) or (bool(self.jobs) and sent > len(kept))

    @cached_property
    def led_away(self) -> bool:
        """Whether an answer had an address of an operation that is not the provider's, which nobody need follow."""
        names = [f"{role}_url" for role in self.contract.operations]
        told = (step.reading.values.get(name) for step in self.steps for name in names)
        return any(isinstance(url, str) and origin(url) not in self.homes for url in told)

    def key(self, step: Step) -> str | None:
        """Return the idempotency key of a submission."""
        place = self.contract.idempotency.key
        return step.exchange.header(place.name) if place is not None and place.part == "header" else None

    def same(self, one: Step, other: Step) -> bool:
        """Whether a repeated submission is safe: the contract replays keys, and key and body are the same."""
        if self.contract.idempotency.mode != "replay":
            return False
        key = self.key(one)
        return bool(key) and key == self.key(other) and canonical(one.exchange.body) == canonical(other.exchange.body)

    @cached_property
    def end(self) -> Step | None:
        """The step that first told the client, in an answer without fault, that its job has ended."""
        return next((step for step in self.steps if step.terminal and step.clean), None)

    @cached_property
    def told(self) -> tuple[tuple[Delivery, frozenset[str]], ...]:
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
        """Return scheme, host and port of a request."""
        return origin(step.exchange.url)

    @cached_property
    def home(self) -> str:
        """Scheme, host and port of the provider."""
        return origin(self.trace.base)

    @cached_property
    def homes(self) -> frozenset[str]:
        """Every scheme, host and port that a run was told to be the provider's."""
        return frozenset({self.home, *(origin(run.base) for run in self.trace.runs)})


def origin(url: str) -> str:
    """Return scheme, host and port of an address."""
    found = parts(url)
    return f"{found.scheme}://{found.netloc}".lower()


def parts(url: str) -> SplitResult:
    """Return the parts of an address; of a text that is none, as an answer may have it, nothing but empty ones."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def canonical(body: bytes) -> bytes:
    """Return a body whose equal is the same order: JSON with sorted keys, or the bytes as they are."""
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        return body


def _within(asked: Any, sent: Any) -> bool:
    """Whether what was asked for is in what was sent, which may have more: where the client wants to be told."""
    if isinstance(asked, Mapping):
        return isinstance(sent, Mapping) and all(name in sent and _within(asked[name], sent[name]) for name in asked)
    return bool(asked == sent)
