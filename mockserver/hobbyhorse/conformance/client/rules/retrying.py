"""Rules about retries: which failures pass, when to ask again, when to stop."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from itertools import pairwise

from hobbyhorse.conformance.client.grouping import (
    RequestGroup,
    begun,
    called_back,
    gave_up,
    known,
    lines,
    rows,
    untroubled,
)
from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.contract.reading import as_json, message_of
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import READS, SUBMISSIONS, TRANSIENT, AnnotatedTrace, Step

FATAL = frozenset({400, 401, 403, 410, 422})
FATAL_ORDER = FATAL | {402, 404, 405, 413, 415}
EARLY = 0.05
LEAST_RETRY_GAP = 0.1 - 0.001
"""Seconds before the first repetition of a request that failed: a tenth, as exact as moments are told."""
LONG_ENOUGH = 6
"""Gaps in a row from which their tendency is judged: chance pauses are no tendency."""
MOST_MISSING = 60
SOON = 10.0
"""Seconds behind a submission in which a job may not be found yet."""
ENDLESS_RETRIES = (1.25, 120.0)
"""The factor of the longest wait, and the seconds more, after which retries are endless."""
MANY = 20


@dataclass(frozen=True, slots=True)
class RequestedWait:
    """How long an answer asks to wait, in seconds, and how exact that is."""

    seconds: float
    slack: float


def asked(step: Step) -> RequestedWait | None:
    """Return how long a 429 or a 503 asks to wait, or None."""
    return _named(step) if step.status in (429, 503) else None


def _named(step: Step) -> RequestedWait | None:
    """Return how long an answer asks to wait, or None: of others than 429 and 503 it may be believed or not."""
    text = (step.exchange.answer_header("retry-after") or "").strip()
    if not step.delivered or not text:
        return None
    if text.isascii() and text.isdigit():
        return RequestedWait(float(text), EARLY)
    moment, dated = _moment(text), _moment(step.exchange.answer_header("date") or "")
    if moment is None:
        return None
    since = dated if dated is not None else step.done
    return RequestedWait(max(moment - since, 0.0), 1.0)


def _moment(text: str) -> float | None:
    """Return the moment of a date in a header, or None."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)).timestamp()


def honours_retry_after(story: AnnotatedTrace) -> list[str] | None:
    """Measure the time between an answer that asks to wait and the next request of its kind."""
    found = []
    seen = False
    reads = (*lines(story, "status"), *lines(story, "result"))
    for line in (*_orders(story), *reads, *_parts(lines(story, "media"))):
        for step, again in pairwise(line):
            wait = asked(step)
            if wait is None or not known(step, again) or called_back(story, step, again):
                continue
            seen = True
            gap = again.arrived - step.done
            if gap < wait.seconds - wait.slack:
                found.append(_told(again, gap, wait, "only"))
            elif (
                gap > max(2 * wait.seconds + 60.0, 1.5 * _usual(story, line, step)) and again.number == step.number + 1
            ):
                found += [] if _called_back_at_all(story) else [_told(again, gap, wait, "no sooner than")]
    return found if seen else None


def _usual(story: AnnotatedTrace, line: RequestGroup, step: Step) -> float:
    """Return the pause that a client makes elsewhere in a line, and before its first request; 0 where it makes none."""
    ordered = [one.done for one in story.submits if one.accepted and one.done <= line[0].arrived]
    first = [line[0].arrived - ordered[-1]] if ordered and line[0].role == "status" else []
    gaps = [again.arrived - one.done for one, again in pairwise(line) if one is not step and asked(one) is None]
    found = sorted(first + gaps)
    return found[len(found) // 2] if found else 0.0


def _parts(fetches: Iterable[RequestGroup]) -> Iterator[RequestGroup]:
    """Yield the requests for one part of a file each: parts that are fetched side by side do not repeat each other."""
    for line in fetches:
        for part in dict.fromkeys(step.exchange.header("range") for step in line):
            yield tuple(step for step in line if step.exchange.header("range") == part)


def _told(again: Step, gap: float, wait: RequestedWait, how: str) -> str:
    return f"Retry-After asked for {wait.seconds:.0f} s, and request {again.number} came {how} {gap:.2f} s later"


def _orders(story: AnnotatedTrace) -> Iterable[RequestGroup]:
    """Yield the submissions that are tries of one order, where orders can be told apart."""
    if story.trace.drill == "crowd":
        return
    for order in story.orders:
        for run in sorted({story.run_of(step) or 0 for step in order}):
            yield tuple(step for step in order if (story.run_of(step) or 0) == run)


def _called_back_at_all(story: AnnotatedTrace) -> bool:
    """Whether the client asked for callbacks, so that it has no need to hurry."""
    for step in story.submits:
        binding = story.contract.operations[step.role or ""].bindings.get("callback_url")
        message = message_of(step.exchange.headers, as_json(step.exchange.body))
        if binding is not None and any(place.get(message) for place in binding.request):
            return True
    return bool(story.trace.deliveries)


def fatal_is_fatal(story: AnnotatedTrace) -> list[str] | None:
    """Count the refusals that do not pass, and look for another request behind the second.

    An answer that tells of the job in between says that the first one has passed. Of orders, only those of one run
    are known to be repetitions.
    """
    found: list[str] = []
    seen = False
    for order in _orders(story) if story.trace.runs else ():
        bad = [step for step in order if step.delivered and step.status in FATAL_ORDER]
        seen = seen or bool(bad)
        again = next((step for step in order if len(bad) > 1 and step.number > bad[1].number), None)
        if again is not None:
            found.append(
                f"the order was refused ({bad[0].status}, request {bad[0].number}) and sent again more than once "
                f"(request {again.number})"
            )
    for role in sorted(READS):
        for line in lines(story, role):
            refused: list[Step] = []
            for step, again in itertools.zip_longest(line, line[1:]):
                if step.delivered and step.status in FATAL:
                    refused.append(step)
                    seen = True
                elif step.ok and (step.kinds or step.unknown_stage):
                    refused = []
                if len(refused) > 1 and again is not None and not called_back(story, step, again):
                    first = refused[0]
                    found.append(f"request {first.number} was refused ({first.status}) and repeated more than once")
                    break
    return found if seen else None


def backs_off(story: AnnotatedTrace) -> list[str] | None:
    """Measure the pauses between failures of one kind of request, which no Retry-After has named."""
    found = []
    seen = False
    for line in (*lines(story, "status"), *lines(story, "result"), *lines(story, "media")):
        for row, again in rows(line, lambda step: step.transient):
            chain = row if again is None else (*row, again)
            seen = seen or len(chain) > 1
            found += _hasty(story, chain) + _hastening(story, chain)
    return found if seen else None


def _hasty(story: AnnotatedTrace, chain: RequestGroup) -> list[str]:
    """Say how soon the first repetition came; that of an HTTP library after a dead connection is not meant."""
    first = 1 if chain[0].status == 0 and len(chain) > 2 else 0
    if len(chain) < 2 or (chain[0].status == 0 and first == 0):
        return []
    step, again = chain[first], chain[first + 1]
    gap = again.arrived - step.done
    resumes = step.role == "media" and again.exchange.header("range") is not None
    idle = again.number == step.number + 1 and not called_back(story, step, again)
    if _named(step) is None and idle and not resumes and 0 <= gap < LEAST_RETRY_GAP:
        return [f"request {step.number} failed ({_how(step)}), and request {again.number} came {gap:.3f} s later"]
    return []


def _hastening(story: AnnotatedTrace, chain: RequestGroup) -> list[str]:
    """Say that the pauses become shorter, which those between failures of the same kind do not."""
    found = []
    pairs = [(step, again) for step, again in pairwise(chain) if step.delivered and _named(step) is None]
    for status in sorted({step.status for step, _ in pairs}):
        gaps = [again.arrived - step.done for step, again in pairs if step.status == status]
        steady = all(step.status == status for step in chain[:-1])
        if not steady or len(gaps) < LONG_ENOUGH or story.trace.deliveries:
            continue
        half = len(gaps) // 2
        first, last = gaps[:half], gaps[half:]
        if max(last) < min(first) and sum(last) / len(last) < 0.5 * sum(first) / len(first):
            found.append(
                f"from request {chain[0].number} on, {len(gaps)} tries failed ({status}), and the pauses shrank from "
                f"{first[0]:.2f} s to {last[-1]:.2f} s"
            )
    return found


def _how(step: Step) -> str:
    if not step.delivered:
        return "no whole answer"
    return f"a body of no use, {step.status}" if step.status < 400 else str(step.status)


def one_blip_survives(story: AnnotatedTrace) -> list[str] | None:
    """Look what becomes of a job of which one read failed in passing."""
    if story.accepted is None or story.trace.drill != "once" or len(story.trace.runs) != 1:
        return None
    blips = [step for step in story.of(*READS, "media") if _passes(step)]
    if len(blips) != 1 or not all(untroubled(story, step) for step in story.steps if step is not blips[0]):
        return None
    blip, found = blips[0], []
    failed = any(step.failure for step in story.steps)
    again = next((step for step in story.after(blip, story.submits)), None)
    if again is not None and not failed:
        found.append(f"request {blip.number} failed once ({_how(blip)}), and request {again.number} orders again")
    last = story.of(*READS, "media")[-1]
    if last is blip and not failed and gave_up(story) and _promptly(story, blip):
        found.append(f"request {blip.number} failed once ({_how(blip)}), and the client gave the job up")
    return found


def _passes(step: Step) -> bool:
    return not step.delivered or step.status in TRANSIENT or step.status >= 500


def _promptly(story: AnnotatedTrace, blip: Step) -> bool:
    """Whether a run ended soon after a failure, and long before its deadline, which can then not have ended it."""
    assert story.outcome is not None
    assert story.accepted is not None
    wait = asked(blip)
    short = wait is None or wait.seconds <= 60.0
    early = blip.arrived - story.accepted.done <= story.patience / 2
    return short and early and story.outcome.ended - blip.arrived <= 60.0


def missing_has_grace(story: AnnotatedTrace) -> list[str] | None:
    """Look what becomes of a client that is told that its job is not to be found."""
    missing = [step for step in story.polls if _missing(step)]
    if not missing:
        return None
    found = []
    for line in lines(story, "status"):
        for row, again in rows(line, _missing):
            if len(row) - (1 if again is None else 0) > MOST_MISSING:
                found.append(f"the job was not found {len(row)} times in a row, and was asked for again each time")
    last = missing[-1]
    if last is story.reads[-1] and len(missing) == 1 and gave_up(story) and _just_ordered(story, last):
        found.append(
            f"request {last.number}, right behind the submission, did not find the job, and the client gave it up"
        )
    return found


def _missing(step: Step) -> bool:
    return step.delivered and step.status == 404


def _just_ordered(story: AnnotatedTrace, step: Step) -> bool:
    """Whether nothing but the submission came before a read, and not long before."""
    if story.accepted is None or story.outcome is None:
        return False
    others = [other for other in story.steps if other is not step]
    first = all(other.role not in (*READS, "media") for other in others)
    return first and story.outcome.ended <= story.accepted.done + SOON


def retries_are_bounded(story: AnnotatedTrace) -> list[str] | None:
    """Look for retries that go on behind every deadline."""
    found: list[str] = []
    seen = False
    kinds = (tuple(sorted(SUBMISSIONS)), ("status",), ("result",), ("media",))
    for line in itertools.chain.from_iterable(lines(story, *roles) for roles in kinds):
        since = _deadline_from(story, line)
        if story.run_of(line[0]) not in (None, len(story.trace.runs) - 1) or since is None:
            continue
        failing = _failing(line)
        waits = [(step, again) for step, again in pairwise(line) if asked(step) is not None]
        seen = seen or len(failing) >= 3 or bool(waits)
        found += _endless(story, failing, since) + _carried(story, waits, since)
    return found if seen else None


def _failing(line: RequestGroup) -> RequestGroup:
    """Return the failures at the end of a line."""
    good = max((number for number, step in enumerate(line) if not step.transient), default=-1)
    return line[good + 1 :]


def _deadline_from(story: AnnotatedTrace, line: RequestGroup) -> float | None:
    """Return when a client began to wait for what a line asks: a download has its own time."""
    if line[0].role == "media" or line[0].role in SUBMISSIONS:
        return line[0].arrived
    return begun(story)


def _limit(story: AnnotatedTrace, since: float) -> float:
    factor, more = ENDLESS_RETRIES
    return since + factor * story.patience + more


def _endless(story: AnnotatedTrace, failing: RequestGroup, since: float) -> list[str]:
    if len(failing) < 3:
        return []
    first, last = failing[0], failing[-1]
    told = f"{len(failing)} requests ({last.role}) failed in a row"
    if last.arrived > _limit(story, since):
        return [f"{told}, and request {last.number} still came {last.arrived - since:.0f} s after the beginning"]
    if story.outcome is None or story.outcome.kind != "unfinished" or len(failing) < MANY:
        return []
    rapid = (last.arrived - first.arrived) / (len(failing) - 1) < 0.5 * story.contract.polling.least_interval
    if rapid or story.outcome.ended > since + story.patience:
        return [f"{told}, and the client does not end"]
    return []


def _carried(story: AnnotatedTrace, waits: list[tuple[Step, Step]], since: float) -> list[str]:
    """Say that a Retry-After took a client past its deadline."""
    limit = _limit(story, since)
    return [
        f"Retry-After took the client past its deadline: request {again.number} came {again.arrived - since:.0f} s "
        "after the beginning"
        for step, again in waits
        if step.arrived <= limit < again.arrived and not called_back(story, step, again)
    ]


def _may_be_missing(contract: Contract) -> bool:
    return any(situation.status == 404 for situation in contract.operations["status"].situations.values())


RULES = (
    Rule(
        "RTY-01",
        "honour-retry-after",
        "MUST",
        "S3",
        "wire",
        "After a 429 or 503 with Retry-After (seconds or a date, also more than a minute) the next request of its kind "
        "comes no sooner, and not much later.",
        "Who asks sooner is refused again, and keeps the limit shut for others: Azure/azure-sdk-for-go#15905, "
        "tryAGI/AutoSDK#294.",
        honours_retry_after,
        timing=True,
    ),
    Rule(
        "RTY-02",
        "fatal-4xx-fast",
        "MUST",
        "S2",
        "wire",
        "A request that is refused with 400, 401, 403, 410 or 422 is not repeated more than once; nor is an order that "
        "is refused with 402 or 404.",
        "A wrong key was polled for ten minutes in ArcReel/ArcReel#684, a 403 for two in Axiomatic-AI/ax-mcp#113: the "
        "user waits for what is known; ai-ecoverse/slicc#1326.",
        fatal_is_fatal,
    ),
    Rule(
        "RTY-03",
        "backoff",
        "SHOULD",
        "S3",
        "wire",
        "Between a failure and the next try lies at least a tenth of a second, and the pauses do not shrink; what a "
        "Retry-After asks for is no pause of the client.",
        "Retries at once turn an outage into a flood: Azure/azure-sdk-for-go#15905 sets a floor of a second.",
        backs_off,
        timing=True,
    ),
    Rule(
        "RTY-04",
        "one-blip-survives",
        "MUST",
        "S1",
        "outcome",
        "One read or download that fails in passing (no answer, 408, 425, 429, 5xx) does not lose the job, and is no "
        "reason to order again.",
        "The job goes on and is billed: one 502 lost it in valyuAI/valyu-py#126, 429 and 408 were fatal in "
        "shrimbly/node-banana#116.",
        one_blip_survives,
    ),
    Rule(
        "RTY-05",
        "404-grace",
        "MUST",
        "S2",
        "outcome",
        "A job that is not found right behind its submission is looked for again; one that stays away is given up.",
        "The one who answers may not know yet what the one who accepted has promised: ddcat-ai/open-ai-canvas#492 "
        "allows three; ArcReel/ArcReel#684 polled what could not be found.",
        missing_has_grace,
        _may_be_missing,
    ),
    Rule(
        "RTY-06",
        "retry-bounded",
        "MUST",
        "S2",
        "wire",
        "All retries end with the overall deadline; Retry-After does not move it.",
        "Retries that count anew, or waits that the server dictates, keep a caller for ever: "
        "ddcat-ai/open-ai-canvas#492.",
        retries_are_bounded,
    ),
)
