"""Rules about polling: how often to poll a job, how to interpret its responses, when to stop. Knows no server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from urllib.parse import parse_qsl, unquote, urljoin

from hobbyhorse.conformance.client.cases import CONCURRENT_KINDS
from hobbyhorse.conformance.client.grouping import (
    STEADY_POLLS,
    RequestGroup,
    allowed_wait,
    between,
    called_back,
    consecutive,
    gave_up,
    had_response,
    has_callback_url,
    has_result_operation,
    request_groups,
    shown_success,
    undisturbed,
    usable,
    wait_began,
)
from hobbyhorse.conformance.client.rules.redirects import location
from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, OUTCOME, SHOULD, VIDEO, WIRE, Breach, Evidence, rule
from hobbyhorse.contract.reading import message_of, read_answer
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import ENDS, READS, URLS, AnnotatedTrace, Step, origin, parts
from hobbyhorse.traces.orders import is_repeated

# Allowed polls after a terminal stage: a client may confirm the stage once.
ALLOWED_CONFIRMATIONS = 1
# Seconds after a run's end in which requests that were already under way may still arrive.
QUIET = 0.05
# Polling is endless after this factor of the longest wait and these seconds more: the same margin as for a deadline.
ENDLESS_POLLING = (1.25, 60.0)
# The share of the minimum interval that must elapse between polls: less than all of it, for jitter and rounding.
JITTER = 0.9
# The share of the minimum interval that is required if no document has it. A client that polls twice as fast as the
# provider's own clients cannot know that this is too fast; one that polls ten times a second is.
ASSUMED_SHARE = 0.5
# Seconds between two polls of a running job: more than any correct client of the tests waits.
LONGEST_INTERVAL = 120.0
# Responses of one kind in a row that make a run that was cut off an endless one: a careful client may have met fewer.
MANY = 20
# Seconds after the last response in which every client has noted it.
LONG_AFTER = 60.0
# The operations whose URLs a response may contain.
LINKED = ("status", "result", "cancel")


def _links(contract: Contract) -> bool:
    bindings = contract.operations["submit"].bindings
    return any(f"{role}_url" in bindings and bindings[f"{role}_url"].response for role in LINKED)


@rule(
    "POL-01",
    "stop-at-terminal",
    level=MUST,
    severity="S2",
    channel=WIRE,
    says="Once a response has reported success, do not poll the status again; one confirming poll is allowed, and so "
    "is another read for a fresh link.",
    because="A loop that does not exit at the job's terminal stage never ends: gitroomhq/postiz-app#1809 waited for "
    "URLs that never arrived.",
    fix="Leave the polling loop at the first response whose stage is a success.",
    example="wait",
)
def stop_at_terminal(trace: AnnotatedTrace) -> Evidence:
    yield from _polls_after_end(trace, success=True)


@rule(
    "POL-03",
    "all-terminals",
    level=MUST,
    severity="S2",
    channel=WIRE,
    says="Every terminal stage ends the polling: failed, cancelled, expired, partially succeeded.",
    because="A forgotten terminal stage is polled until the deadline: `expired` in ArcReel/ArcReel#651 and "
    "vercel/ai#20561, `rejected` in adcontextprotocol/adcp-client#980, all but one in symfony/ai#2082.",
    fix="List every documented terminal stage, including the rare ones, and end the wait at each of them.",
    example="wait",
)
def all_terminals(trace: AnnotatedTrace) -> Evidence:
    yield from _polls_after_end(trace, success=False)


def _polls_after_end(trace: AnnotatedTrace, success: bool) -> Evidence:
    """Count the polls after a success, or after any other end; an end that may be either counts as a success."""
    for group in request_groups(trace, *READS):
        ends = [step for step in group if step.clean and step.terminal]
        if not success and has_result_operation(trace):  # the status reports that the job ended, the result how
            ends = [step for step in ends if not _succeeded(trace, step)]
        end = ends[0] if ends else None
        if end is None or _succeeded(trace, end) is not success:
            continue
        yield OBSERVED
        polls = list(_needless(trace, end, group))
        if len(polls) > ALLOWED_CONFIRMATIONS:
            stage = end.stage or "/".join(sorted(end.reading.stages))
            yield Breach(
                f"request {end.number} returned stage {stage!r}, but {len(polls)} more polls followed (the last: "
                f"request {polls[-1].number}); allowed: {ALLOWED_CONFIRMATIONS}"
            )


def _succeeded(trace: AnnotatedTrace, end: Step) -> bool:
    """Whether an end may be the contract's first success stage."""
    first = next((stage.name for stage in trace.contract.graph if stage.kind == "success"), None)
    return first in end.reading.stages


def _needless(trace: AnnotatedTrace, end: Step, group: tuple[Step, ...]) -> Iterator[Step]:
    """Yield the polls after an end for which no event since the previous poll gave a reason."""
    before = end
    # Reading the result after the status is no poll, unless the result itself reported the failure.
    roles = READS if end.role == "result" and end.failure else ("status",)
    for poll in group:
        if poll.role not in roles or poll.number <= end.number or not had_response(end, poll):
            continue
        since = between(trace, before, poll)
        if not any(_unsatisfied(trace, step) for step in since) and not called_back(trace, before, poll):
            yield poll
        before = poll


def _unsatisfied(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a response is a reason to read the job again although it has ended."""
    if step.role == "media":
        sent = step.exchange
        kind = (sent.answer_header("content-type") or "").partition("/")[0].lower()
        return not (step.ok and sent.move is None and sent.size > 0 and kind in ("video", "application", "binary"))
    if step.role not in READS:
        return False
    if not (step.clean and step.terminal):
        return True
    carries_url = step.role == "result" or not has_result_operation(trace)
    return carries_url and "success" in step.kinds and not usable(trace, step)


@rule(
    "POL-02",
    "stop-after-giving-up",
    level=MUST,
    severity="S2",
    harm=MONEY,
    channel=OUTCOME,
    says="Once the client has returned, raised an error or given up, it sends no more requests.",
    because="A loop that outlives its caller polls and spends money unseen: juspay/neurolink#1548 (ghost renders).",
    fix="Poll in the caller's own thread or task, or stop and join the background thread before returning or raising "
    "an error.",
    example="wait",
)
def stop_after_giving_up(trace: AnnotatedTrace) -> Evidence:
    outcomes = [run.outcome for run in trace.runs]
    last = trace.outcome
    if last is None or any(one is not None and one.kind == "unfinished" for one in outcomes):
        return
    # Concurrent runs share one trace: a run without an outcome may have sent the late requests.
    if trace.trace.drill in CONCURRENT_KINDS and None in outcomes:
        return
    ended = max(one.ended for one in outcomes if one is not None)
    # Without observation after the end, silence is not evidence.
    if trace.trace.ended <= ended:
        return
    yield OBSERVED
    # CAN-01 requires a cancellation after giving up.
    late = [s for s in trace.after(ended + QUIET, trace.steps) if s.role != "cancel" and s.arrived < trace.trace.ended]
    if late:
        first = late[0]
        yield Breach(
            f"the run ended ({last.kind}), but {len(late)} more requests followed; the first, request {first.number} "
            f"({first.role}), was sent {first.arrived - ended:.2f} s later"
        )


@rule(
    "POL-04",
    "unknown-status",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="An undocumented stage is neither a success nor a crash: keep polling within the deadline, or fail with a "
    "clear error that contains the job's id.",
    because="Providers add stages: `aborted` was polled forever in replicate/replicate-python#460, `THROTTLED` was "
    "taken for an error in majiayu000/litellm-rs#1251.",
    fix="Treat every stage that is not in the documented terminal ones as under way, and let the overall deadline end "
    "the wait.",
    example="wait",
)
def unknown_status(trace: AnnotatedTrace) -> Evidence:
    unknown = [step for step in trace.reads if step.delivered and step.unknown_stage]
    if not unknown:
        return
    yield OBSERVED
    since, outcome, last = wait_began(trace), trace.outcome, trace.reads[-1]
    longest = allowed_wait(trace, ENDLESS_POLLING)
    word = unknown[-1].stage
    if since is not None and last.arrived > since + longest and _last_run(trace, unknown[0]):
        late = f"request {last.number} still polled {last.arrived - since:.0f} s after the wait began"
        yield Breach(f"the stage was {word!r}, but {late}; allowed: {longest:.0f} s")
    lost = outcome is not None and outcome.kind in ("failed", "timeout", "error") and outcome.id_exposed is False
    if lost and last is unknown[-1] and len(trace.runs) == 1:
        yield Breach(f"the stage was {word!r}, but the error does not expose the job id")
    yield from _invented(trace, f"the stage was {word!r}")


def _last_run(trace: AnnotatedTrace, step: Step) -> bool:
    return trace.run_of(step) in (None, len(trace.runs) - 1)


def _invented(trace: AnnotatedTrace, seen: str) -> Iterator[Breach]:
    """Yield a breach if the client reports a success that no response reported."""
    if trace.outcome is not None and trace.outcome.kind == "success" and not shown_success(trace):
        yield Breach(f"{seen} and no response reported a success, but the client reports one")


@rule(
    "POL-05",
    "nonterminal-is-not-done",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A queued or running job has neither succeeded nor failed, even if the stage is in the response to its "
    "submission, or in a result that is behind the status.",
    because="An output that was still empty was mistaken for the result in replicate/replicate-python#385, and for a "
    "failure in KotlinFoundation/kmp-contest-starter-kit#39.",
    fix="Decide by the stage alone whether a job is done; an empty or early output means nothing.",
    example="wait",
)
def nonterminal_is_not_done(trace: AnnotatedTrace) -> Evidence:
    # A repeated submission gets the first response again, whatever has become of its job.
    submits = [step for step in trace.submits if not is_repeated(trace, step)]
    waiting = [step for step in (*submits, *trace.reads) if _under_way(step)]
    if not waiting or trace.outcome is None:
        return
    yield OBSERVED
    yield from _invented(trace, f"the job was {waiting[-1].stage or 'under way'!r}")
    last = max((*submits, *trace.reads), key=lambda step: step.number)
    since = wait_began(trace)
    # Later, another reason such as the client's own deadline may have ended the run.
    soon = max(10 * trace.contract.polling.typical_interval, 30.0)
    promptly = gave_up(trace) and since is not None and trace.outcome.ended <= since + soon
    # A client that has polled past this stage several times may have ended the run at a short deadline.
    before = sum(step.stage == last.stage for step in trace.reads if step is not last)
    if (
        promptly
        and before < STEADY_POLLS
        and _under_way(last)
        and all(undisturbed(trace, step) for step in trace.steps)
    ):
        yield Breach(
            f"request {last.number} returned stage {last.stage or 'under way'!r}, but the run ended "
            f"immediately ({trace.outcome.kind})"
        )
    elif gave_up(trace) and _is_behind(trace, last) and trace.outcome.ended <= last.done + soon:
        yield Breach(f"the status had succeeded, and its result, request {last.number}, was not asked for once more")


def _is_behind(trace: AnnotatedTrace, last: Step) -> bool:
    """Whether the last read is the only result, and shows a job under way that an earlier status called a success."""
    others = [step for step in trace.steps if step is not last]
    told = any("success" in step.kinds for step in others if step.role == "status")
    first = last.role == "result" and not any(step.role == "result" for step in others)
    return told and first and last.ok and not last.ending and all(undisturbed(trace, step) for step in others)


def _under_way(step: Step) -> bool:
    return step.clean and bool(step.kinds) and not step.kinds & ENDS


@rule(
    "POL-06",
    "last-poll-counts",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A terminal stage counts even in the response to the last poll that the deadline allows.",
    because="A loop that checks its counter before the response reports a finished job as a timeout: "
    "modelcontextprotocol/servers#4811.",
    fix="Evaluate the last response before testing the deadline or the counter of polls.",
    example="wait",
)
def last_poll_counts(trace: AnnotatedTrace) -> Evidence:
    if trace.outcome is None or trace.trace.drill != "once" or len(trace.runs) != 1:
        return
    end = next((step for step in trace.polls if step.clean and step.terminal), None)
    # A client with fewer polls has not shown that it polls until a deadline.
    if end is None or sum(step.number < end.number for step in trace.polls) < 3:
        return
    yield OBSERVED
    last = trace.reads[-1]
    later = any(step.number > last.number for step in trace.steps)
    ended = last.clean and last.terminal and (last.failure or has_result_operation(trace) or usable(trace, last))
    # A slower response may have arrived after the client's deadline.
    prompt = last.done - last.arrived <= 1.0
    # An error that reports a failure may quote a timeout, but does so at once.
    sure = trace.outcome.told or not last.failure or trace.outcome.ended - last.done > LONG_AFTER
    if trace.outcome.kind == "timeout" and sure and ended and prompt and not later:
        stage = last.stage or "/".join(sorted(last.reading.stages))
        after = f"{trace.outcome.ended - last.done:.0f} s later"
        yield Breach(f"request {last.number} returned stage {stage!r}, but the client reports a timeout, {after}")


@rule(
    "POL-07",
    "cadence",
    level=MUST,
    severity="S3",
    channel=WIRE,
    timing=True,
    says="Wait at least the provider's minimum interval between two polls of a job.",
    because="Polling every tenth of a second hits every rate limit: fal-ai/fal#1073, replicate/replicate-python#32.",
    fix="Sleep between two polls for at least the documented minimum interval, also after an error and after a "
    "callback.",
    example="pause",
)
def cadence(trace: AnnotatedTrace) -> Evidence:
    documented = trace.contract.polling_documented
    least = trace.contract.polling.least_interval * (1.0 if documented else ASSUMED_SHARE)
    early = []
    for group in (*request_groups(trace, "status"), *request_groups(trace, "result")):
        for step, again in pairwise(group):
            if not (_under_way(step) and had_response(step, again)) or called_back(trace, step, again):
                continue
            yield OBSERVED
            # From request to request: a slow response is part of the interval.
            if again.arrived - step.arrived < JITTER * least:
                early.append((step, again))
    # One early poll may have another cause; a client with too short an interval has many.
    if len(early) > 1:
        gap = min(again.arrived - step.arrived for step, again in early)
        yield Breach(
            f"{len(early)} polls were sent less than {least:g} s after the previous poll (the first: request "
            f"{early[0][1].number}); shortest interval: {gap:.3f} s"
        )


@rule(
    "POL-11",
    "not-too-rare",
    level=SHOULD,
    severity="S4",
    channel=WIRE,
    timing=True,
    says="A client that waits by polling alone reads a running job every two minutes or more often, unless Retry-After "
    "requests a longer wait.",
    because="An interval that doubles without a bound sees a finished job minutes late, and steps over the client's "
    "own deadline: DataJunction/dj#1857.",
    fix="Let the interval grow up to a bound, such as a quarter of a minute.",
    example="wait",
)
def not_too_rare(trace: AnnotatedTrace) -> Evidence:
    if trace.accepted is None or not trace.runs or has_callback_url(trace, trace.accepted):
        return
    for group in request_groups(trace, "status"):
        for step, again in pairwise(group):
            asked = step.exchange.answer_header("retry-after") is not None
            if asked or not (_under_way(step) and had_response(step, again)):
                continue
            yield OBSERVED
            gap = again.arrived - step.done
            if gap > LONGEST_INTERVAL:
                yield Breach(
                    f"request {again.number} read a running job {gap:.0f} s after request {step.number}; allowed: "
                    f"{LONGEST_INTERVAL:.0f} s"
                )


@rule(
    "POL-08",
    "follow-given-urls",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    applies=_links,
    says="If the provider returns the URLs of a job, request exactly these URLs: host, path and query.",
    because="A URL that is built from the id is wrong for some models (fal-ai/fal-java#8), or belongs to another "
    "provider (BerriAI/litellm#16753).",
    fix="Store the URLs of the response and request exactly these strings; do not build them from the job's id.",
    example="links",
)
def follow_given_urls(trace: AnnotatedTrace) -> Evidence:
    found = []
    given, targets = _given(trace), set[str | None]()
    for step in trace.steps:
        number = trace.run_of(step)
        redirected = step.exchange.url in targets
        targets.add(location(step))
        if not (step.role in LINKED or step.role is None) or (number is not None and trace.runs[number].resumed):
            continue
        # The target of a redirect is given too, in a header.
        if redirected:
            continue
        meant = _meant(trace, given, step)
        known = [one for one, (_, giver) in meant.items() if _had(giver, step)]
        # A link to a foreign origin need not be followed: the documented URL at the provider is right instead.
        foreign = [one for one in known if origin(meant[one][0]) not in trace.homes]
        built = bool(foreign) and step.role in LINKED and trace.origin(step) in trace.homes
        if not known or (built and len(foreign) == len(known)) or trace.unread_before(step):
            continue
        yield OBSERVED
        if not built and not any(_requests(trace, step, meant[one][0]) for one in known):
            address = meant[known[-1]][0]
            found.append(Breach(f"request {step.number} goes to {step.exchange.url}; the provider returned {address}"))
    # A wrong URL builder produces the same finding for every request.
    yield from found[:3]


def _had(giver: Step, step: Step) -> bool:
    """Whether the client of a request had an earlier response; a page that is loaded anew has forgotten it."""
    same_page = giver.exchange.page == step.exchange.page
    return same_page and giver.number < step.number and giver.done <= step.arrived


Address = tuple[object, ...]
Given = dict[Address, tuple[str, Step]]
"""URLs in their normal form, each with its original form and the first response that gave it."""


def _given(trace: AnnotatedTrace) -> dict[tuple[str, str], Given]:
    """Return the URLs in all responses, by job and operation."""
    found: dict[tuple[str, str], Given] = {}
    for step in trace.steps:
        for role in LINKED if step.ok and step.job is not None else ():
            given = step.reading.values.get(f"{role}_url")
            if isinstance(given, str) and given and step.job is not None:
                address = urljoin(step.exchange.url, given) if parts(given) != parts("") else given
                found.setdefault((step.job, role), {}).setdefault(_normal(address), (address, step))
    return found


def _meant(trace: AnnotatedTrace, given: dict[tuple[str, str], Given], step: Step) -> Given:
    """Return the given URLs that a request should have used.

    A request that matches no operation, but goes to the provider with a job's id in its path, could mean any URL of
    that job.
    """
    if step.role is not None:
        return given.get((step.job or "", step.role), {})
    path = unquote(parts(step.exchange.url).path)
    found: Given = {}
    for (job, _), addresses in given.items():
        if job in path and trace.origin(step) == trace.home:
            found |= addresses
    return found


@lru_cache(URLS)
def _normal(url: str) -> Address:
    """Return a normal form in which equivalent URLs are equal."""
    found = parts(url)
    query = tuple(sorted(parse_qsl(found.query, keep_blank_values=True)))
    return found.scheme.lower(), found.netloc.lower(), unquote(found.path), query


def _requests(trace: AnnotatedTrace, step: Step, given: str) -> bool:
    """Whether a request goes to a given URL. It may add query parameters that the operation documents."""
    operation = trace.contract.operations.get(step.role or "")
    own = {one.name for one in operation.parameters if one.part == "query"} if operation is not None else set()
    *there, asked = _normal(step.exchange.url)
    *wanted, query = _normal(given)
    assert isinstance(asked, tuple)
    assert isinstance(query, tuple)
    added = Counter(asked) - Counter(query)
    return there == wanted and not Counter(query) - Counter(asked) and all(name in own for name, _ in added)


@rule(
    "POL-09",
    "200-envelope-error",
    level=MUST,
    severity="S2",
    channel=WIRE,
    says="An error with status 200 is an error: do not treat it as a success, and do not poll past it beyond the "
    "overall deadline.",
    because="An error envelope was taken for a job under way: openclaw/openclaw#69578.",
    fix="Test the code inside the envelope after a 200 as well: without a stage in the response, count it as an "
    "error, and give up after a few.",
    example="trouble",
)
def envelope_is_an_error(trace: AnnotatedTrace) -> Evidence:
    yield from _bounded(trace, lambda step: _envelope(trace, step), "an error with a 2xx status")


def _envelope(trace: AnnotatedTrace, step: Step) -> bool:
    """Whether a 2xx has the body of a documented error, and nothing about a job."""
    operation = trace.contract.operations.get(step.role or "")
    if operation is None or not step.bad_body or not isinstance(step.value, dict):
        return False
    if not all(name.startswith("refusal") for name in step.reading.values):
        return False
    message = message_of(step.exchange.answer_headers, step.value)
    # The envelope's own status is 200, so that the schemas of all refusals are tried.
    for status in {one.status for one in operation.situations.values() if one.status >= 400}:
        for name in read_answer(trace.contract.schemas, operation, status, message).situations:
            if not trace.contract.schemas.violations(operation.situations[name].schema, step.value, most=1):
                return True
    return False


@rule(
    "POL-10",
    "body-robust",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Treat an unusable body (not JSON, an HTML page, empty, no stage) as transient: poll again, but not beyond "
    "the overall deadline.",
    because="One bad response of a proxy lost a paid job in valyuAI/valyu-py#126; a response without a stage was "
    "polled forever in kdr/overcast#93.",
    fix="Catch the errors of parsing and of missing members, count the response as a transient failure, and poll "
    "again until the deadline.",
    example="Answer.text",
)
def body_robust(trace: AnnotatedTrace) -> Evidence:
    bad = [step for step in trace.reads if step.bad_body or _broken_off(step)]
    if not bad:
        return
    yield OBSERVED
    yield from _bounded(trace, lambda step: step.bad_body, "an unusable body")
    last = trace.reads[-1]
    if last is bad[-1] and not last.error_inside and _gave_up_immediately(trace, last):
        yield Breach(
            f"request {last.number} returned an unusable body (status {last.status}), but the client gave up "
            "immediately"
        )


def _broken_off(step: Step) -> bool:
    return 200 <= step.status < 300 and not step.exchange.whole


def _gave_up_immediately(trace: AnnotatedTrace, last: Step) -> bool:
    """Whether a run ended because of its only failed response, with no other possible cause."""
    if not gave_up(trace) or trace.outcome is None or trace.accepted is None or trace.of("media"):
        return False
    others = [step for step in trace.steps if step is not last]
    ended = any(step.failure or (step.success and not has_result_operation(trace)) for step in others)
    troubled = any(step.transient or not step.clean for step in others if step.role in READS)
    # After a minute, or half of the longest wait, a deadline may have ended the run.
    late = trace.outcome.ended - last.arrived > 60.0 or last.arrived - trace.accepted.done > trace.patience / 2
    return not ended and not troubled and not late


def _bounded(trace: AnnotatedTrace, is_meant: Callable[[Step], bool], name: str) -> Evidence:
    """Look for polls past a kind of responses beyond the deadline, and for an invented success after them."""
    seen = False
    for role in sorted(READS):
        for group in request_groups(trace, role):
            for stretch, again in consecutive(group, is_meant):
                seen = True
                yield from _endless(trace, stretch, again, name)
    if seen:
        yield OBSERVED
        yield from _invented(trace, f"{name} was received")


def _endless(trace: AnnotatedTrace, stretch: RequestGroup, again: Step | None, name: str) -> Iterator[Breach]:
    """Yield a breach if polling past responses of a kind has no bound.

    Their number is not judged: a client that polls slowly until its own deadline has a bound.
    """
    chain = stretch if again is None else (*stretch, again)
    since, last, outcome = wait_began(trace), chain[-1], trace.outcome
    # An earlier run was killed, which ended its polls. Recorded traffic does not show when a wait began.
    if since is None or not trace.runs or not _last_run(trace, last) or len(chain) < 2:
        return
    limit = allowed_wait(trace, ENDLESS_POLLING)
    if last.arrived - since > limit:
        yield Breach(
            f"{name} was received, but request {last.number} still polled {last.arrived - since:.0f} s after the wait "
            f"began; allowed: {limit:.0f} s"
        )
    elif outcome is not None and outcome.kind == "unfinished" and len(chain) >= MANY and again is None:
        pause = (last.arrived - chain[0].arrived) / (len(chain) - 1)
        if pause < 0.5 * trace.contract.polling.least_interval or outcome.ended - since > limit:
            yield Breach(f"{name} was received {len(chain)} times in a row, and the client polled until it was cut off")
