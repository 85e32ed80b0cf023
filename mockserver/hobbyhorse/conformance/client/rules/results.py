"""Rules about results: a failure is reported, and a success is one complete, fetched video. Knows no server."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from hobbyhorse.conformance.client.grouping import endless, submitted_again
from hobbyhorse.conformance.rule import (
    MONEY,
    MUST,
    OBSERVED,
    OUTCOME,
    SHOULD,
    VIDEO,
    WIRE,
    Breach,
    Evidence,
    each_order,
    rule,
)
from hobbyhorse.contract.forms.expressions import resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import RETYPES, SPOILS
from hobbyhorse.scenarios.registry import names_used_for
from hobbyhorse.traces.annotated import FAILED_OUTCOMES, TRANSIENT, AnnotatedTrace, Step
from hobbyhorse.traces.trace import Outcome

# Further reads of a success without a video URL: the URL may appear a little later than the stage, but not minutes.
MOST_EMPTY_READS = 5
# Further reads of a refused result: a refusal is final, so that more than a repetition or two is a loop.
REFUSED_RESULTS = 2
# Further downloads from a refused link: a few are a retry policy that ignores the status, more are a loop.
REFUSED_LINKS = 8
# Seconds that a download may arrive after its link has expired: it may have been sent in time.
LINK_LATENESS_SECONDS = 5.0
# The share of the longest wait after which a client may have stopped because of its own deadline.
NEARLY = 0.9
GONE_FOR_CLIENTS = frozenset({403, 410})
# The status of a file that is not there (RFC 9110, section 15.5.5).
NOT_FOUND = 404
# 404 and 425 (RFC 8470) may mean that a result is not ready yet.
TOO_EARLY = frozenset({404, 425})
PAGES = frozenset({"text/html", "application/json", "application/xml"})
# The faults after which a file is not the video.
NO_VIDEO = names_used_for(SPOILS)
# The faults after which it is the video, under another media type.
RETYPED = names_used_for(RETYPES)
BYTES = frozenset({"application/octet-stream", "binary/octet-stream"})


def _two_steps(contract: Contract) -> bool:
    return "result" in contract.operations


def _type(step: Step) -> tuple[str, bool]:
    """Return the media type of a response, and whether it has parameters."""
    media_type, _, parameters = (step.exchange.answer_header("content-type") or "").partition(";")
    return media_type.strip().lower(), bool(parameters.strip())


def _spoilt(step: Step) -> bool:
    """Whether a response began to send a file that is not the video."""
    if step.role != "media" or not 200 <= step.status < 300:
        return False
    no_video = step.exchange.size == 0 or _type(step)[0] in PAGES or step.exchange.move in NO_VIDEO
    return no_video or not step.delivered


def _good(step: Step) -> bool:
    """Whether the video, or the rest of it, was delivered."""
    return step.role == "media" and step.ok and not _spoilt(step)


def _address(trace: AnnotatedTrace, step: Step) -> str | None:
    """Return the first video URL in a response, at any of the places that the contract lists."""
    operation = trace.contract.operations.get(step.role or "")
    if step.video is not None or operation is None or "video_url" not in operation.bindings or not step.ok:
        return step.video
    values = (resolve(step.value, place.pointer) for place in operation.bindings["video_url"].response)
    return next((value for value in values if isinstance(value, str) and value), None)


def _hurried(trace: AnnotatedTrace) -> bool:
    """Whether the client may have stopped because of its own deadline."""
    return trace.last_wait_began is None or trace.waited >= NEARLY * trace.patience


@rule(
    "RES-01",
    "failure-is-failure",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Never report a job that failed, was cancelled or expired as a success or as an empty video.",
    because="The client's report is all that its caller learns: a finished job was reported as possibly still running "
    "(fal-ai/fal#1143).",
    fix="Raise an error for each terminal stage other than success, before reading the output.",
    example="wait",
)
@each_order
def failure_is_failure(trace: AnnotatedTrace) -> Evidence:
    outcome = trace.outcome
    if outcome is None or outcome.kind == "unfinished" or _may_have_succeeded(trace):
        return
    reports = list(_failure_reports(trace, outcome))
    if reports:
        yield OBSERVED
    if reports and outcome.kind == "success":
        yield Breach(f"{reports[0]}, but the client reports success")


def _failure_reports(trace: AnnotatedTrace, outcome: Outcome) -> Iterator[str]:
    """Yield a description of each report that the job ended without a video: first in responses, then in callbacks."""
    # The outcome is about the last accepted job.
    bought = [step.job_told for step in trace.submits if step.accepted][-1:]
    for step in trace.reads:
        if step.failure and step.clean and step.done <= outcome.ended and step.job in bought:
            yield f"request {step.number} returned stage {step.stage!r}"
    for delivery, kinds in trace.callbacks:
        in_time = delivery.job in bought and delivery.acknowledged and delivery.sent <= outcome.ended
        if in_time and kinds and kinds <= {"failure", "cancelled", "expired"}:
            yield f"a callback reported {', '.join(sorted(kinds))}"


def _may_have_succeeded(trace: AnnotatedTrace) -> bool:
    sent = [step for step in trace.steps if step.role != "media" and 200 <= step.status < 300]
    shown = any(step.kinds == {"success"} or "video_url" in step.reading.values or trace.lists(step) for step in sent)
    return shown or any("success" in kinds for _, kinds in trace.callbacks)


def _bare(trace: AnnotatedTrace) -> list[Step]:
    """Return the responses that reported a success without a video URL, if no response and no callback had a URL."""
    role = "result" if "result" in trace.contract.operations else "status"
    bare = [step for step in trace.of(role) if step.success and _address(trace, step) is None]
    named = any(_address(trace, step) is not None for step in trace.steps)
    # A URL from any response or callback is a video that the client may return.
    return [] if named or any("success" in kinds for _, kinds in trace.callbacks) else bare


@rule(
    "RES-02",
    "success-without-media",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Report a success without a video URL as a failure, with the job's id: not as a success, and not after "
    "unbounded reads in the hope of a URL.",
    because="A safety filter leaves a finished job without a video; clients crashed on an empty list, polled until the "
    "deadline, or charged for it: vercel/ai#18929, lidge-jun/opencodex#582, googleapis/python-genai#1560, "
    "DaWe35/image-router#41, GoogleCloudPlatform/vertex-ai-creative-studio#529, QuantumNous/new-api#6858.",
    fix="If a success has no video URL, read it once or twice more; then raise an error with the job's id.",
    example="collect",
)
@each_order
def success_without_media(trace: AnnotatedTrace) -> Evidence:
    bare = _bare(trace)
    if not bare:
        return
    yield OBSERVED
    first = bare[0].number
    if len(bare) > 1 + MOST_EMPTY_READS and endless(trace):
        yield Breach(f"{_times(bare)}, until the run was cut off")
    outcome = trace.outcome
    if outcome is not None and outcome.kind == "success" and not any(map(_good, trace.steps)):
        yield Breach(f"request {first} returned a success without a video, but the client reports success")
    if outcome is not None and outcome.kind in FAILED_OUTCOMES and trace.exposed is False and trace.knew_job:
        yield Breach(f"request {first} returned a success without a video, but the error does not expose the job id")


def _times(bare: list[Step]) -> str:
    return f"a success without a video was read {len(bare)} times (first by request {bare[0].number})"


@rule(
    "RES-12",
    "few-empty-reads",
    level=SHOULD,
    severity="S3",
    channel=WIRE,
    says="Read a success without a video URL a few more times at most: the URL may appear a little later than the "
    "stage, but not minutes.",
    because="A safety filter leaves a finished job without a video, and its caller waits for the client's deadline: "
    "googleapis/python-genai#1560, DaWe35/image-router#41.",
    fix="Bound the extra reads after a success without a URL by a small number, such as 2, not by the overall "
    "deadline.",
    example="collect",
)
@each_order
def few_empty_reads(trace: AnnotatedTrace) -> Evidence:
    bare = _bare(trace)
    if bare:
        yield OBSERVED
    if len(bare) > 1 + MOST_EMPTY_READS:
        yield Breach(f"{_times(bare)}; allowed: {1 + MOST_EMPTY_READS}")


@rule(
    "RES-03",
    "two-step-result",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    applies=_two_steps,
    says="If the result has a request of its own, a refusal of that request is the job's failure, except for a 404 or "
    "425, which may mean that the result is not ready yet.",
    because="If no status reports the failure of a job, the error appears only in the result, and was lost: "
    "TanStack/ai#396.",
    fix="Treat 404 and 425 of the result request as not ready, and every other refusal as the failure of the job.",
    example="trouble",
)
@each_order
def two_step_result(trace: AnnotatedTrace) -> Evidence:
    ended = next((step for step in trace.polls if step.terminal and step.clean and "success" in step.kinds), None)
    if ended is None:
        return
    results = [step for step in trace.after(ended, trace.of("result")) if step.job in (ended.job, None)]
    yield from _gave_up_too_early(trace, results)
    refused = next((step for step in results if _final(step)), None)
    if refused is None:
        return
    yield OBSERVED
    outcome = trace.outcome
    further = [step for step in results if step.number > refused.number and not step.transient]
    if sum(not step.ok for step in further) > REFUSED_RESULTS:
        refusal = f"the result was refused ({refused.status}, request {refused.number})"
        yield Breach(f"{refusal}, but requested more than {REFUSED_RESULTS} more times")
    # A later success overrules the refusal.
    delivered = any(step.ok for step in results) or any(map(_good, trace.steps)) or _may_have_succeeded(trace)
    if outcome is not None and outcome.kind == "success" and not delivered:
        yield Breach(
            f"the result was refused ({refused.status}, request {refused.number}), but the client reports success"
        )


def _final(step: Step) -> bool:
    return step.delivered and 400 <= step.status < 500 and step.status not in TRANSIENT | {404}


def _gave_up_too_early(trace: AnnotatedTrace, results: list[Step]) -> Evidence:
    """Look for a client that treated the first 404 or 425 of a result as final."""
    early = [step for step in results if step.delivered and step.status in TOO_EARLY]
    if not early:
        return
    yield OBSERVED
    outcome = trace.outcome
    failed = outcome is not None and outcome.kind in FAILED_OUTCOMES
    alone = len(results) == 1 and not trace.after(early[0], trace.reads)
    last = trace.run_of(early[0]) == len(trace.runs) - 1
    if failed and alone and last and not _hurried(trace) and not trace.has_foreign_links:
        yield Breach(
            f"the result was not ready ({early[0].status}, request {early[0].number}), but was not requested again"
        )


@rule(
    "RES-04",
    "fetch-before-expiry",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=WIRE,
    says="Fetch the video before its link expires; do not fetch an expired link.",
    because="A stored link is a video that is gone next week: openslop/openslop#405, banodoco/Dough#2, "
    "UllrAI/HeadShots.fun#2, Comfy-Org/docs#1594.",
    fix="Download the video directly after the success; if the link has expired meanwhile, read the job again for a "
    "new link.",
    example="collect",
)
@each_order
def fetch_before_expiry(trace: AnnotatedTrace) -> Evidence:
    for fetch, until in _expiries(trace):
        if fetch.arrived > until + LINK_LATENESS_SECONDS:
            late = fetch.arrived - until
            yield Breach(f"request {fetch.number} fetches a link that had expired {late:.0f} s earlier")
    outcome = trace.outcome
    if outcome is None or outcome.kind != "success":
        if trace.fetches:
            yield OBSERVED
    elif outcome.by_reference:
        # A client that returns the URL does not download, which is fine if URLs do not expire.
        if trace.contract.retention.result_url is None:
            yield OBSERVED
    elif _given(trace):
        yield OBSERVED
        if not _fetched(trace):
            yield Breach("the client reports success, but has not fetched the video")


def _given(trace: AnnotatedTrace) -> bool:
    """Whether the client may know a video's URL. Without one, nothing can be fetched, and RES-02 judges the success."""
    named = any(_address(trace, step) is not None or trace.lists(step) for step in trace.steps)
    return named or any("success" in kinds for _, kinds in trace.callbacks)


def _fetched(trace: AnnotatedTrace) -> bool:
    """Whether a file was fetched. A download from the provider's own host can have another role than `media`."""
    given = {step.video for step in trace.steps if step.video}
    fetched = [step for step in trace.steps if step.role == "media" or step.exchange.url in given]
    return any(200 <= step.status < 300 for step in fetched)


def _expiries(trace: AnnotatedTrace) -> Iterator[tuple[Step, float]]:
    """Yield each download with the expiry of its link, by the latest response that gave it, if that is known."""
    fetches = {step.number for step in trace.fetches}
    ended = min((step.done for step in trace.steps if step.terminal), default=math.inf)
    # One pass, because a client that floods makes thousands of downloads. None: a giver without an expiry may have
    # given a permanent link.
    given: dict[str, float | None] = {}
    for step in trace.steps:
        until = given.get(step.exchange.url) if step.number in fetches else None
        # An unread response may have given the link anew.
        if until is not None and not trace.unread_before(step):
            yield step, until
        if step.video is not None:
            end, before = _end(trace, step, ended), given.get(step.video, -math.inf)
            given[step.video] = None if end is None or before is None else max(end, before)


def _end(trace: AnnotatedTrace, giver: Step, ended: float) -> float | None:
    """Return when a link expires that a response gave, or None. `ended` is when the client learned of the job's end."""
    documented = giver.reading.values.get("expires_at")
    kept = trace.contract.retention.result_url
    if isinstance(documented, (int, float)) and not isinstance(documented, bool):
        ends = float(documented)
    elif kept is not None:
        first = min(ended, giver.done)
        finished = giver.reading.values.get("finished_at")
        ends = max(first, finished if isinstance(finished, float) else first) + kept
    else:
        return None
    # A link that was expired when it was given is the provider's fault, not the client's.
    return ends if ends > giver.done else None


@rule(
    "RES-05",
    "expired-url-refresh",
    level=SHOULD,
    severity="S1",
    harm=MONEY,
    channel=WIRE,
    says="If a video link is refused (403, 410), read the job again for a new link; do not submit again, and do not "
    "fetch the same link without a bound.",
    because="The video is paid for and exists under another link: ddcat-ai/open-ai-canvas#492, Comfy-Org/docs#1594.",
    fix="After a 403 or 410 of the download, read the job once more and fetch the new link; then raise an error with "
    "the job's id.",
    example="collect",
)
@each_order
def expired_url_refresh(trace: AnnotatedTrace) -> Evidence:
    gone = [step for step in trace.fetches if step.delivered and step.status in GONE_FOR_CLIENTS]
    if not gone:
        return
    yield OBSERVED
    refused = gone[0]
    link = f"the video link was refused ({refused.status}, request {refused.number})"
    for again in submitted_again(trace, refused):
        yield Breach(f"{link}, but request {again.number} submits again")
    outcome = trace.outcome
    failed = outcome is not None and outcome.kind in FAILED_OUTCOMES
    gave_up = failed and not _hurried(trace) and not trace.has_foreign_links
    if gave_up and trace.knew_job and not trace.after(refused, trace.reads):
        yield Breach(f"{link}, but no new link was requested")
    # A client may fetch a link again that another read has given it again.
    read = [one.number for one in trace.reads]
    blind = [one for before, one in itertools.pairwise(gone) if not any(before.number < n < one.number for n in read)]
    for address in dict.fromkeys(step.exchange.url for step in gone):
        tries = [step for step in (refused, *blind) if step.exchange.url == address]
        if len(tries) > 1 + REFUSED_LINKS:
            refusal = f"a link was refused ({tries[0].status}, request {tries[0].number})"
            yield Breach(f"{refusal}, but fetched {len(tries) - 1} more times; allowed: {REFUSED_LINKS}")


@rule(
    "RES-14",
    "late-file",
    level=SHOULD,
    severity="S1",
    harm=VIDEO,
    channel=OUTCOME,
    says="A file that is not found (404) directly after the success may only be late: fetch it again, or read the job "
    "again.",
    because="A network of caches shows a new file seconds to minutes late, and some jobs name it before it is there: "
    "icebear0828/notebooklm-client#11, Vikit-ai/sdk#136.",
    fix="Try a download that is not found a few times more, with growing pauses, before the job is given up.",
    example="fetch",
)
@each_order
def late_file(trace: AnnotatedTrace) -> Evidence:
    missing = [step for step in trace.fetches if step.delivered and step.status == NOT_FOUND]
    others = [step for step in trace.fetches if step not in missing]
    # With another failed download, a client may have used up its tries.
    if len(missing) != 1 or not all(step.ok for step in others) or trace.has_foreign_links:
        return
    yield OBSERVED
    later = trace.after(missing[0], (*trace.reads, *trace.fetches))
    outcome = trace.outcome
    if outcome is not None and outcome.kind in FAILED_OUTCOMES and not later and not _hurried(trace):
        yield Breach(f"request {missing[0].number} did not find the new file, and the client gave up the paid video")


@rule(
    "RES-06",
    "verify-bytes",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Treat a file that is truncated, empty, a web page or not a video as a failure, and leave no file behind.",
    because="JSON and HTML were saved as a video and reported as a success: openclaw/openclaw#117339.",
    fix="Check the length and the boxes of the MP4 before returning it, and write to a temporary file that is renamed "
    "only if the check passes.",
    example="is_mp4",
)
@each_order
def verify_bytes(trace: AnnotatedTrace) -> Evidence:
    spoilt = [step for step in trace.fetches if _spoilt(step)]
    outcome = trace.outcome
    if not spoilt or outcome is None or outcome.kind == "unfinished" or outcome.by_reference:
        return
    yield OBSERVED
    # Without a hash, any complete download acquits the client.
    good = any(map(_good, trace.fetches))
    genuine = {job.sha256 for job in trace.trace.jobs or () if job.sha256 is not None}
    broken = f"request {spoilt[-1].number} did not return a complete video"
    if outcome.kind != "success":
        # A client that was killed during the download could not remove the part.
        own = trace.run_of(spoilt[-1]) == len(trace.runs) - 1
        if outcome.kept and own and not good:
            yield Breach(f"{broken}, but the client left a file behind")
    elif outcome.sha256 is not None and genuine:
        if outcome.sha256 not in genuine:
            yield Breach(f"{broken}, but the client kept a file that is not the job's video")
    elif not good:
        yield Breach(f"{broken}, but the client reports success")


@rule(
    "RES-07",
    "tolerate-content-type",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Also accept a video as application/octet-stream, as binary/octet-stream, and as video/mp4 with parameters.",
    because="An exact comparison refused video/mp4 itself, and the paid video was lost: OpenRouterTeam/python-sdk#175, "
    "OpenRouterTeam/python-sdk#363.",
    fix="Judge a file by its first bytes instead of its Content-Type.",
    example="is_mp4",
)
@each_order
def tolerate_content_type(trace: AnnotatedTrace) -> Evidence:
    odd = [step for step in trace.fetches if _oddly_typed(step)]
    if odd:
        yield OBSERVED
        # The second sign of a refused type would only repeat the first.
        yield from itertools.islice(_refused_types(trace, odd), 1)


def _refused_types(trace: AnnotatedTrace, odd: list[Step]) -> Iterator[Breach]:
    """Yield a breach for each sign that the client refused a video because of its media type."""
    for step in odd:
        again = [other for other in trace.after(step, trace.fetches) if _repeats(trace, step, other)]
        # One repetition is the subject of RES-08; several show that the type was refused.
        if len(again) > 1:
            yield Breach(f"request {step.number} returned the video ({_type(step)[0]}), but it was fetched repeatedly")
    outcome = trace.outcome
    last = trace.steps[-1]
    refused = outcome is not None and outcome.kind in FAILED_OUTCOMES and last in odd and not _hurried(trace)
    if refused and not any(step.failure for step in trace.steps) and _given_cleanly(trace, last):
        yield Breach(f"request {last.number} returned the video ({_type(last)[0]}), but the client reports a failure")


def _oddly_typed(step: Step) -> bool:
    kind, parameters = _type(step)
    odd = kind in BYTES or (kind == "video/mp4" and parameters)
    return odd and _whole_video(step) and step.exchange.move in {None, *RETYPED}


def _whole_video(step: Step) -> bool:
    return _good(step) and step.status == 200 and step.exchange.header("range") is None


def _repeats(trace: AnnotatedTrace, step: Step, other: Step) -> bool:
    """Whether a download repeats another download of the same run."""
    same = step.exchange.url == other.exchange.url and trace.run_of(step) == trace.run_of(other)
    return same and _whole_video(other)


def _given_cleanly(trace: AnnotatedTrace, fetch: Step) -> bool:
    givers = [step for step in trace.steps if step.number < fetch.number and step.video == fetch.exchange.url]
    return bool(givers) and givers[-1].clean


@rule(
    "RES-08",
    "no-double-download",
    level=SHOULD,
    severity="S4",
    channel=WIRE,
    says="Download a video once per run; an interrupted download may be resumed with a range request.",
    because="A second download gains nothing, costs traffic, and may be too late: a signed link may have one hour "
    "left (Comfy-Org/docs#1594).",
    fix="Download in one place, and repeat a download only if it failed.",
    example="fetch",
)
@each_order
def no_double_download(trace: AnnotatedTrace) -> Evidence:
    had = [step for step in trace.fetches if _whole_video(step) and step.exchange.move is None]
    # Recorded traffic does not show where a run ends, and another run may download again.
    if not had or not trace.runs:
        return
    yield OBSERVED
    for step in had:
        again = next((other for other in trace.after(step, trace.fetches) if _repeats(trace, step, other)), None)
        if again is not None:
            yield Breach(f"request {again.number} downloads a video that request {step.number} had already returned")
            return
