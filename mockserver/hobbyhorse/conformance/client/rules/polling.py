"""Rules about polling: how often to ask for a job, what its answers mean, when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from urllib.parse import parse_qsl, unquote, urljoin

from hobbyhorse.conformance.client.grouping import (
    begun,
    between,
    called_back,
    gave_up,
    known,
    lines,
    rows,
    shown_success,
    two_steps,
    untroubled,
    usable,
)
from hobbyhorse.conformance.client.rule import Rule
from hobbyhorse.contract.reading import message_of, read_answer
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import ENDS, READS, AnnotatedTrace, Step, parts

ALLOWED_CONFIRMATIONS = 1
"""Polls behind the end that are put up with."""
QUIET = 0.05
"""Seconds behind a run's end for what was on its way."""
ENDLESS_POLLING = (1.25, 60.0)
"""The factor of the longest wait, and the seconds more, after which polling is endless."""
JITTER = 0.9
MOST_ENVELOPES = 10
MOST_BAD_BODIES = 30
LINKED = ("status", "result", "cancel")


def stops_at_success(story: AnnotatedTrace) -> list[str] | None:
    """Count the polls behind an answer that shows the success, or that the job has ended one way or another."""
    return _polls_behind(story, success=True)


def stops_at_every_end(story: AnnotatedTrace) -> list[str] | None:
    """Count the polls behind an answer that shows another end: a failure, a cancellation, a success in part."""
    return _polls_behind(story, success=False)


def _polls_behind(story: AnnotatedTrace, success: bool) -> list[str] | None:
    found: list[str] = []
    seen = False
    for line in lines(story, *READS):
        ends = [step for step in line if step.clean and step.terminal]
        if not success and two_steps(story):  # of which the first says that it has ended, and the second how
            ends = [step for step in ends if not _succeeded(story, step)]
        end = ends[0] if ends else None
        if end is None or _succeeded(story, end) is not success:
            continue
        seen = True
        polls = list(_needless(story, end, line))
        if len(polls) > ALLOWED_CONFIRMATIONS:
            told = end.stage or "/".join(sorted(end.reading.stages))
            found.append(
                f"request {end.number} was answered that the job is {told!r}, and {len(polls)} more polls came, "
                f"the last of them is request {polls[-1].number}"
            )
    return found if seen else None


def _succeeded(story: AnnotatedTrace, end: Step) -> bool:
    """Whether an end may be the contract's first stage of success."""
    first = next((stage.name for stage in story.contract.graph if stage.kind == "success"), None)
    return first in end.reading.stages


def _needless(story: AnnotatedTrace, end: Step, line: tuple[Step, ...]) -> Iterator[Step]:
    """Yield the polls behind an end that nothing since the poll before gave a reason for."""
    before = end
    asked = READS if end.role == "result" and end.failure else ("status",)
    for poll in line:
        if poll.role not in asked or poll.number <= end.number or not known(end, poll):
            continue
        since = between(story, before, poll)
        if not any(_unsatisfied(story, step) for step in since) and not called_back(story, before, poll):
            yield poll
        before = poll


def _unsatisfied(story: AnnotatedTrace, step: Step) -> bool:
    """Whether an answer is a reason to read once more although the job has ended."""
    if step.role == "media":
        sent = step.exchange
        told = (sent.answer_header("content-type") or "").partition("/")[0].lower()
        return not (step.ok and sent.move is None and sent.size > 0 and told in ("video", "application", "binary"))
    if step.role not in READS:
        return False
    if not (step.clean and step.terminal):
        return True
    asks = step.role == "result" or not two_steps(story)
    return asks and "success" in step.kinds and not usable(story, step)


def stops_after_the_end(story: AnnotatedTrace) -> list[str] | None:
    """Look for requests behind the moment at which the client had given its answer."""
    outcomes = [run.outcome for run in story.trace.runs]
    last = story.outcome
    if last is None or any(one is not None and one.kind == "unfinished" for one in outcomes):
        return None
    if story.trace.drill == "crowd" and None in outcomes:
        return None
    ended = max(one.ended for one in outcomes if one is not None)
    if story.trace.ended <= ended:
        return None
    late = [s for s in story.after(ended + QUIET, story.steps) if s.role != "cancel" and s.arrived < story.trace.ended]
    if not late:
        return []
    first = late[0]
    return [
        f"the run ended ({last.kind}), and {len(late)} more requests came, the first of them ({first.role}) "
        f"{first.arrived - ended:.2f} s later"
    ]


def unknown_stage_is_bounded(story: AnnotatedTrace) -> list[str] | None:
    """Look what becomes of a client that is told a stage which no document has."""
    unknown = [step for step in story.reads if step.delivered and step.unknown_stage]
    if not unknown:
        return None
    found = []
    since, outcome, last = begun(story), story.outcome, story.reads[-1]
    factor, more = ENDLESS_POLLING
    word = unknown[-1].stage
    if since is not None and last.arrived > since + factor * story.patience + more and _last_run(story, unknown[0]):
        found.append(f"the stage was {word!r}, and request {last.number} polls {last.arrived - since:.0f} s later")
    lost = outcome is not None and outcome.kind in ("failed", "timeout", "error") and outcome.id_exposed is False
    if lost and last is unknown[-1] and len(story.trace.runs) == 1:
        found.append(f"the stage was {word!r}, and the run ended without a word about the job's id")
    return found + _invented(story, f"the stage was {word!r}")


def _last_run(story: AnnotatedTrace, step: Step) -> bool:
    return story.run_of(step) in (None, len(story.trace.runs) - 1)


def _invented(story: AnnotatedTrace, but: str) -> list[str]:
    """Return a sentence where the client reports a success that nobody told it of."""
    if story.outcome is not None and story.outcome.kind == "success" and not shown_success(story):
        return [f"{but}, no answer told of a success, and the client reports one"]
    return []


def under_way_is_not_done(story: AnnotatedTrace) -> list[str] | None:
    """Hold the outcome against answers which say that the job is under way."""
    waiting = [step for step in (*story.submits, *story.reads) if _under_way(step)]
    if not waiting or story.outcome is None:
        return None
    found = _invented(story, f"the job was {waiting[-1].stage or 'under way'!r}")
    last = max((*story.submits, *story.reads), key=lambda step: step.number)
    since = begun(story)
    soon = max(10 * story.contract.polling.typical_interval, 30.0)
    at_once = gave_up(story) and since is not None and story.outcome.ended <= since + soon
    if at_once and _under_way(last) and all(untroubled(story, step) for step in story.steps):
        found.append(
            f"request {last.number} was answered that the job is {last.stage or 'under way'!r}, and the run "
            f"ended at once ({story.outcome.kind})"
        )
    return found


def _under_way(step: Step) -> bool:
    return step.clean and bool(step.kinds) and not step.kinds & ENDS


def last_poll_counts(story: AnnotatedTrace) -> list[str] | None:
    """Look for a client that runs out of patience with the end of the job in its hands."""
    if story.outcome is None or story.trace.drill != "once" or len(story.trace.runs) != 1:
        return None
    end = next((step for step in story.polls if step.clean and step.terminal), None)
    if end is None or sum(step.number < end.number for step in story.polls) < 3:
        return None
    last = story.reads[-1]
    behind = any(step.number > last.number for step in story.steps)
    ended = last.clean and last.terminal and (last.failure or two_steps(story) or usable(story, last))
    prompt = last.done - last.arrived <= 1.0
    sure = story.outcome.told or not last.failure  # of a failure, the words that report it may quote a time-out
    if story.outcome.kind == "timeout" and sure and ended and prompt and not behind:
        told = last.stage or "/".join(sorted(last.reading.stages))
        return [f"request {last.number} was answered that the job is {told!r}, and the client reports a timeout"]
    return []


def keeps_the_interval(story: AnnotatedTrace) -> list[str] | None:
    """Measure the time between polls of a job that is under way."""
    least = story.contract.polling.least_interval
    seen = False
    early = []
    for line in (*lines(story, "status"), *lines(story, "result")):
        for step, again in pairwise(line):
            if not (_under_way(step) and known(step, again)) or called_back(story, step, again):
                continue
            seen = True
            if again.arrived - step.arrived < JITTER * least:
                early.append((step, again))
    if not seen:
        return None
    if len(early) < 2:
        return []
    gap = min(again.arrived - step.arrived for step, again in early)
    return [
        f"{len(early)} polls came sooner than {least:g} s after the one before; request {early[0][1].number} is the "
        f"first, the shortest time is {gap:.3f} s"
    ]


def follows_given_addresses(story: AnnotatedTrace) -> list[str] | None:
    """Compare the addresses that a client asks with those that it was given."""
    found = []
    seen = False
    given = _given(story)
    for step in story.steps:
        number = story.run_of(step)
        if not (step.role in LINKED or step.role is None) or (number is not None and story.trace.runs[number].resumed):
            continue
        meant = _meant(story, given, step)
        told = [one for one, (_, giver) in meant.items() if giver.number < step.number and giver.done <= step.arrived]
        if not told:
            continue
        seen = True
        if _normal(step.exchange.url) not in told:
            address = meant[told[-1]][0]
            found.append(f"request {step.number} asks {step.exchange.url}, but the address given is {address}")
    return found[:3] if seen else None


Address = tuple[object, ...]
Given = dict[Address, tuple[str, Step]]
"""Addresses in their normal form, each as it was given, and by which answer first."""


def _given(story: AnnotatedTrace) -> dict[tuple[str, str], Given]:
    """Return the addresses that answers had, by job and operation."""
    found: dict[tuple[str, str], Given] = {}
    for step in story.steps:
        for role in LINKED if step.ok and step.job is not None else ():
            told = step.reading.values.get(f"{role}_url")
            if isinstance(told, str) and told and step.job is not None:
                address = urljoin(step.exchange.url, told) if parts(told) != parts("") else told
                found.setdefault((step.job, role), {}).setdefault(_normal(address), (address, step))
    return found


def _meant(story: AnnotatedTrace, given: dict[tuple[str, str], Given], step: Step) -> Given:
    """Return the addresses for a request.

    What no operation takes, at the provider's own origin and with a job's id in its path, is meant for any of them.
    """
    if step.role is not None:
        return given.get((step.job or "", step.role), {})
    path = unquote(parts(step.exchange.url).path)
    found: Given = {}
    for (job, _), addresses in given.items():
        if job in path and story.origin(step) == story.home:
            found |= addresses
    return found


def _normal(url: str) -> Address:
    """Return what must be equal in two addresses that are the same."""
    found = parts(url)
    query = tuple(parse_qsl(found.query, keep_blank_values=True))
    return found.scheme.lower(), found.netloc.lower(), unquote(found.path), query


def envelope_is_an_error(story: AnnotatedTrace) -> list[str] | None:
    """Look what becomes of a client that is told an error under the status of a success."""
    return _bounded(story, lambda step: _envelope(story, step), MOST_ENVELOPES, "an error told with a 2xx")


def _envelope(story: AnnotatedTrace, step: Step) -> bool:
    """Whether a 2xx has the body of an error of the contract, and nothing about a job."""
    operation = story.contract.operations.get(step.role or "")
    if operation is None or not step.bad_body or not isinstance(step.value, dict):
        return False
    if not all(name.startswith("refusal") for name in step.reading.values):
        return False
    message = message_of(step.exchange.answer_headers, step.value)
    for status in {one.status for one in operation.situations.values() if one.status >= 400}:
        for name in read_answer(story.contract.schemas, operation, status, message).situations:
            if not story.contract.schemas.violations(operation.situations[name].schema, step.value, most=1):
                return True
    return False


def _says_error(step: Step) -> bool:
    """Whether a body may be understood as an error."""
    return (
        step.delivered
        and isinstance(step.value, dict)
        and any(name.startswith("refusal") for name in step.reading.values)
    )


def bad_body_is_transient(story: AnnotatedTrace) -> list[str] | None:
    """Look what becomes of a client that gets a body of no use."""
    bad = [step for step in story.reads if step.bad_body or _broken_off(step)]
    if not bad:
        return None
    found = _bounded(story, lambda step: step.bad_body, MOST_BAD_BODIES, "a body of no use") or []
    last = story.reads[-1]
    if last is bad[-1] and not _says_error(last) and _gave_up_at_once(story, last):
        found.append(
            f"request {last.number} was answered with {last.status} and a body of no use, and the client gave up at "
            "once"
        )
    return found


def _broken_off(step: Step) -> bool:
    return 200 <= step.status < 300 and not step.exchange.whole


def _gave_up_at_once(story: AnnotatedTrace, last: Step) -> bool:
    """Whether a run ended with its only failing answer, and with nothing else that may have ended it."""
    if not gave_up(story) or story.outcome is None or story.accepted is None or story.of("media"):
        return False
    others = [step for step in story.steps if step is not last]
    told = any(step.failure or (step.success and not two_steps(story)) for step in others)
    troubled = any(step.transient or not step.clean for step in others if step.role in READS)
    late = story.outcome.ended - last.arrived > 60.0 or last.arrived - story.accepted.done > story.patience / 2
    return not told and not troubled and not late


def _bounded(story: AnnotatedTrace, is_meant: Callable[[Step], bool], most: int, what: str) -> list[str] | None:
    """Count the neighbours of a kind, and look for an invented success behind them."""
    found: list[str] = []
    seen = False
    for role in sorted(READS):
        for line in lines(story, role):
            for row, again in rows(line, is_meant):
                seen = True
                count = len(row) if again is not None else len(row) - 1
                if count > most:
                    told = f"{what} came {count} times in a row, and the {role} was asked for again each time"
                    found.append(f"{told}: more than {most} do not pass")
    return found + _invented(story, f"{what} came") if seen else None


def _links(contract: Contract) -> bool:
    bindings = contract.operations["submit"].bindings
    return any(f"{role}_url" in bindings and bindings[f"{role}_url"].response for role in LINKED)


RULES = (
    Rule(
        "POL-01",
        "stop-at-terminal",
        "MUST",
        "S2",
        "wire",
        "Once an answer has shown that the job succeeded, do not ask for its status again; one confirmation is put up "
        "with, and so is reading again for a fresh link.",
        "A loop whose only exit is something else than the end goes on for ever: gitroomhq/postiz-app#1809 waited for "
        "addresses that never came.",
        stops_at_success,
    ),
    Rule(
        "POL-02",
        "stop-after-giving-up",
        "MUST",
        "S2",
        "outcome",
        "Once the client has returned, raised or given up, it sends nothing more.",
        "A loop that outlives its caller polls and spends unseen: ghost renders in juspay/neurolink#1548.",
        stops_after_the_end,
    ),
    Rule(
        "POL-03",
        "all-terminals",
        "MUST",
        "S2",
        "wire",
        "Every stage that ends a job ends the polling: failed, cancelled, expired, succeeded in part.",
        "The end that was forgotten is polled until the patience is over: `expired` in ArcReel/ArcReel#651 and "
        "vercel/ai#20561, `rejected` in adcontextprotocol/adcp-client#980, all but one in symfony/ai#2082.",
        stops_at_every_end,
    ),
    Rule(
        "POL-04",
        "unknown-status",
        "MUST",
        "S2",
        "outcome",
        "A stage that no document has is neither a success nor a crash: wait on, within the deadline, or fail in clear "
        "words with the job's id.",
        "Providers add stages: `aborted` was polled for ever in replicate/replicate-python#460, `THROTTLED` was taken "
        "for an error in majiayu000/litellm-rs#1251.",
        unknown_stage_is_bounded,
    ),
    Rule(
        "POL-05",
        "nonterminal-is-not-done",
        "MUST",
        "S2",
        "outcome",
        "A job that is queued or running, also in the answer to its submission, has neither succeeded nor failed.",
        "An output that is still empty was taken for the result in replicate/replicate-python#385, and for a failure "
        "in KotlinFoundation/kmp-contest-starter-kit#39.",
        under_way_is_not_done,
    ),
    Rule(
        "POL-06",
        "last-poll-counts",
        "MUST",
        "S2",
        "outcome",
        "The end of the job counts on the last poll that the deadline allows, too.",
        "A loop that looks at its counter before it looks at the answer reports a finished job as a timeout: "
        "modelcontextprotocol/servers#4811.",
        last_poll_counts,
    ),
    Rule(
        "POL-07",
        "cadence",
        "MUST",
        "S3",
        "wire",
        "Between two polls of a job lies at least the provider's least interval.",
        "A fixed tenth of a second meets every rate limit: fal-ai/fal#1073, replicate/replicate-python#32.",
        keeps_the_interval,
        timing=True,
    ),
    Rule(
        "POL-08",
        "follow-given-urls",
        "MUST",
        "S2",
        "wire",
        "Where the provider gives the addresses of a job, ask exactly those: host, path and query.",
        "An address that is put together from the id is another one for some models: fal-ai/fal-java#8; and another "
        "provider's in BerriAI/litellm#16753.",
        follows_given_addresses,
        _links,
    ),
    Rule(
        "POL-09",
        "200-envelope-error",
        "MUST",
        "S2",
        "wire",
        "An error that is told with status 200 is an error: it is no success, and is not asked for again for ever (ten "
        "in a row are enough).",
        "An envelope with an error in it was polled until the patience was over: openclaw/openclaw#69578.",
        envelope_is_an_error,
    ),
    Rule(
        "POL-10",
        "body-robust",
        "MUST",
        "S2",
        "outcome",
        "A body of no use (no JSON, a page, nothing, no stage) passes: ask again, but not for ever (thirty in a row "
        "are enough).",
        "One bad answer of a proxy lost a paid job in valyuAI/valyu-py#126; an empty stage was polled for ever in "
        "kdr/overcast#93.",
        bad_body_is_transient,
    ),
)
