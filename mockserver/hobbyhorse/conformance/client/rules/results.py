"""Rules about results: a failure is reported, and a success is one complete, fetched video. Knows no server."""

from __future__ import annotations

from hobbyhorse.conformance.client.grouping import submitted_again
from hobbyhorse.conformance.client.rule import Rule, each_order
from hobbyhorse.contract.forms.expressions import resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import RETYPES, SPOILS
from hobbyhorse.scenarios.registry import names_used_for
from hobbyhorse.traces.annotated import FAILED_OUTCOMES, TRANSIENT, AnnotatedTrace, Step

# Further reads of a success without a video URL: the URL may be a little later than the stage, but not minutes.
MOST_EMPTY_READS = 5
# Further reads of a refused result: a refusal is final, so that more than a repetition or two is a loop.
REFUSED_RESULTS = 2
# Further downloads from a refused link: a few are a retry policy that ignores the status, more are a loop.
REFUSED_LINKS = 5
# Seconds that a download may arrive after its link has expired: it may have been sent in time.
LINK_LATENESS_SECONDS = 5.0
# The share of the longest wait after which a client may have stopped because of its own deadline.
NEARLY = 0.9
GONE_FOR_CLIENTS = frozenset({403, 410})
# 404 and 425 (RFC 8470) may mean that a result is not ready yet.
TOO_EARLY = frozenset({404, 425})
PAGES = frozenset({"text/html", "application/json", "application/xml"})
# The faults after which a file is not the video.
NO_VIDEO = names_used_for(SPOILS)
# The faults after which it is the video, under another media type.
RETYPED = names_used_for(RETYPES)
BYTES = frozenset({"application/octet-stream", "binary/octet-stream"})


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
    """Return the first video URL in a response, in any of the places that the contract knows."""
    operation = trace.contract.operations.get(step.role or "")
    if step.video is not None or operation is None or "video_url" not in operation.bindings or not step.ok:
        return step.video
    values = (resolve(step.value, place.pointer) for place in operation.bindings["video_url"].response)
    return next((value for value in values if isinstance(value, str) and value), None)


def _hurried(trace: AnnotatedTrace) -> bool:
    """Whether the client may have stopped because of its own deadline."""
    return trace.last_wait_began is None or trace.waited >= NEARLY * trace.patience


@each_order
def failure_is_failure(trace: AnnotatedTrace) -> list[str] | None:
    """Compare the outcome with reports that the job ended without a video."""
    outcome = trace.outcome
    if outcome is None or outcome.kind == "unfinished" or _may_have_succeeded(trace):
        return None
    # The outcome is about the last accepted job.
    bought = [step.job_told for step in trace.submits if step.accepted]
    reads = [step for step in trace.reads if step.failure and step.clean and step.done <= outcome.ended]
    reports = [f"request {step.number} had stage {step.stage!r}" for step in reads if bought and step.job == bought[-1]]
    reports += [
        f"a callback reported {', '.join(sorted(kinds))}"
        for delivery, kinds in trace.callbacks
        if bought and delivery.job == bought[-1] and delivery.acknowledged and delivery.sent <= outcome.ended
        if kinds and kinds <= {"failure", "cancelled", "expired"}
    ]
    if not reports:
        return None
    return [f"{reports[0]}, and the client reports success"] if outcome.kind == "success" else []


def _may_have_succeeded(trace: AnnotatedTrace) -> bool:
    sent = [step for step in trace.steps if step.role != "media" and 200 <= step.status < 300]
    shown = any(step.kinds == {"success"} or "video_url" in step.reading.values or trace.lists(step) for step in sent)
    return shown or any("success" in kinds for _, kinds in trace.callbacks)


@each_order
def success_without_media(trace: AnnotatedTrace) -> list[str] | None:
    """Check the requests and the outcome after a success without a video URL."""
    role = "result" if "result" in trace.contract.operations else "status"
    bare = [step for step in trace.of(role) if step.success and _address(trace, step) is None]
    named = any(_address(trace, step) is not None for step in trace.steps)
    # A URL from any response or callback is a video that the client may return.
    if not bare or named or any("success" in kinds for _, kinds in trace.callbacks):
        return None
    found = []
    if len(bare) > 1 + MOST_EMPTY_READS:
        found.append(f"the success without a video was read {len(bare)} times (first by request {bare[0].number})")
    outcome = trace.outcome
    if outcome is not None and outcome.kind == "success" and not any(map(_good, trace.steps)):
        found.append(f"request {bare[0].number} returned a success without a video, and the client reports success")
    if outcome is not None and outcome.kind in FAILED_OUTCOMES and trace.exposed is False and trace.knew_job:
        found.append(
            f"request {bare[0].number} returned a success without a video, and the error does not expose the job id"
        )
    return found


@each_order
def two_step_result(trace: AnnotatedTrace) -> list[str] | None:
    """Check the requests and the outcome after the result of an ended job was refused."""
    ended = next((step for step in trace.polls if step.terminal and step.clean and "success" in step.kinds), None)
    if ended is None:
        return None
    results = [step for step in trace.after(ended, trace.of("result")) if step.job in (ended.job, None)]
    refused = next((step for step in results if _final(step)), None)
    early = _gave_up_too_early(trace, results)
    if refused is None:
        return early
    found = early or []
    outcome = trace.outcome
    further = [step for step in results if step.number > refused.number and not step.transient]
    if sum(not step.ok for step in further) > REFUSED_RESULTS:
        found.append(f"the result was refused (request {refused.number}: {refused.status}), and requested again")
    # A later success overrules the refusal.
    delivered = any(step.ok for step in results) or any(map(_good, trace.steps)) or _may_have_succeeded(trace)
    if outcome is not None and outcome.kind == "success" and not delivered:
        found.append(
            f"the result was refused (request {refused.number}: {refused.status}), and the client reports success"
        )
    return found


def _final(step: Step) -> bool:
    return step.delivered and 400 <= step.status < 500 and step.status not in TRANSIENT | {404}


def _gave_up_too_early(trace: AnnotatedTrace, results: list[Step]) -> list[str] | None:
    """Look for a client that treated the first 404 or 425 of a result as final; None if there was none."""
    early = [step for step in results if step.delivered and step.status in TOO_EARLY]
    if not early:
        return None
    outcome = trace.outcome
    alone = len(results) == 1 and not trace.after(early[0], trace.reads)
    last = trace.run_of(early[0]) == len(trace.runs) - 1
    if (
        outcome is None
        or outcome.kind not in FAILED_OUTCOMES
        or not alone
        or not last
        or _hurried(trace)
        or trace.has_foreign_links
    ):
        return []
    return [f"the result was not ready (request {early[0].number}: {early[0].status}), and was not requested again"]


@each_order
def fetch_before_expiry(trace: AnnotatedTrace) -> list[str] | None:
    """Compare the downloads with the expiry of their links, and a success with the absence of downloads."""
    ends = [(fetch, until) for fetch in trace.fetches if (until := _until(trace, fetch)) is not None]
    found = [
        f"request {fetch.number} fetches a link that had expired {fetch.arrived - until:.0f} s earlier"
        for fetch, until in ends
        if fetch.arrived > until + LINK_LATENESS_SECONDS
    ]
    outcome = trace.outcome
    if outcome is None or outcome.kind != "success":
        return found if found or trace.fetches else None
    # A client that returns the URL does not download, which is fine if URLs do not expire.
    if outcome.by_reference:
        return found if found or trace.contract.retention.result_url is None else None
    # A download from the provider's own host may have no role of a file.
    given = {step.video for step in trace.steps if step.video}
    fetched = [step for step in trace.steps if step.role == "media" or step.exchange.url in given]
    if not any(200 <= step.status < 300 for step in fetched):
        found.append("the client reports success, and has not fetched the video")
    return found


def _until(trace: AnnotatedTrace, fetch: Step) -> float | None:
    """Return when a download's link expires, by the latest response that gave it; None if never, or unknown."""
    givers = [step for step in trace.steps if step.number < fetch.number and step.video == fetch.exchange.url]
    ends = [_end(trace, giver) for giver in givers]
    # A giver without an expiry may have given a permanent link.
    known = [moment for moment in ends if moment is not None]
    return max(known) if known and len(known) == len(ends) else None


def _end(trace: AnnotatedTrace, giver: Step) -> float | None:
    documented = giver.reading.values.get("expires_at")
    kept = trace.contract.retention.result_url
    if isinstance(documented, (int, float)) and not isinstance(documented, bool):
        ends = float(documented)
    elif kept is not None:
        first = min(step.done for step in trace.steps if step.terminal or step.number == giver.number)
        finished = giver.reading.values.get("finished_at")
        ends = max(first, finished if isinstance(finished, float) else first) + kept
    else:
        return None
    # A link that was expired when it was given is the provider's fault, not the client's.
    return ends if ends > giver.done else None


@each_order
def expired_link_is_asked_anew(trace: AnnotatedTrace) -> list[str] | None:
    """Check the requests after the link to the video was refused."""
    gone = [step for step in trace.fetches if step.delivered and step.status in GONE_FOR_CLIENTS]
    if not gone:
        return None
    refused = gone[0]
    found = [
        f"the link was refused (request {refused.number}: {refused.status}), and request {again.number} submits again"
        for again in submitted_again(trace, refused)
    ]
    outcome = trace.outcome
    gave_up = (
        outcome is not None and outcome.kind in FAILED_OUTCOMES and not _hurried(trace) and not trace.has_foreign_links
    )
    if gave_up and trace.knew_job and not trace.after(refused, trace.reads):
        found.append(
            f"the link was refused (request {refused.number}: {refused.status}), and no new link was requested"
        )
    for address in dict.fromkeys(step.exchange.url for step in gone):
        tries = [step for step in gone if step.exchange.url == address]
        if len(tries) > 1 + REFUSED_LINKS:
            found.append(f"a link was refused (request {tries[0].number}), and fetched {len(tries) - 1} more times")
    return found


@each_order
def verify_bytes(trace: AnnotatedTrace) -> list[str] | None:
    """Compare the outcome with downloads that are not the video."""
    spoilt = [step for step in trace.fetches if _spoilt(step)]
    outcome = trace.outcome
    if not spoilt or outcome is None or outcome.kind == "unfinished" or outcome.by_reference:
        return None
    # Without a hash, any complete download acquits the client.
    good = any(map(_good, trace.fetches))
    genuine = {job.sha256 for job in trace.trace.jobs or () if job.sha256 is not None}
    last = spoilt[-1]
    if outcome.kind != "success":
        kept = outcome.kept and not good
        return [f"request {last.number} returned no video, and the client left a file behind"] if kept else []
    if outcome.sha256 is not None and genuine:
        wrong = f"request {last.number} returned no video, and the client's file is not the job's video"
        return [] if outcome.sha256 in genuine else [wrong]
    return [] if good else [f"request {last.number} returned no video, and the client reports success"]


@each_order
def tolerate_content_type(trace: AnnotatedTrace) -> list[str] | None:
    """Check how the client handles a video with an unusual media type."""
    odd = [step for step in trace.fetches if _oddly_typed(step)]
    if not odd:
        return None
    found = []
    for step in odd:
        again = [other for other in trace.after(step, trace.fetches) if _repeats(trace, step, other)]
        # One repetition is the subject of RES-08; several show that the type was refused.
        if len(again) > 1:
            found.append(f"request {step.number} returned the video ({_type(step)[0]}), and it was fetched again")
    outcome = trace.outcome
    last = trace.steps[-1]
    refused = outcome is not None and outcome.kind in FAILED_OUTCOMES and last in odd and not _hurried(trace)
    if refused and not any(step.failure for step in trace.steps) and _given_cleanly(trace, last):
        found.append(f"request {last.number} returned the video ({_type(last)[0]}), and the client reports a failure")
    return found[:1]


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


@each_order
def no_double_download(trace: AnnotatedTrace) -> list[str] | None:
    """Look for a download of a video that the same run already has."""
    had = [step for step in trace.fetches if _whole_video(step) and step.exchange.move is None]
    # Recorded traffic does not show where a run ends, and another run may download again.
    if not had or not trace.runs:
        return None
    for step in had:
        again = next((other for other in trace.after(step, trace.fetches) if _repeats(trace, step, other)), None)
        if again is not None:
            return [f"request {again.number} downloads the video that request {step.number} had returned complete"]
    return []


def _two_steps(contract: Contract) -> bool:
    return "result" in contract.operations


RULES = (
    Rule(
        "RES-01",
        "failure-is-failure",
        "MUST",
        "S2",
        "outcome",
        "Never report a job that failed, was cancelled or expired as a success, nor as an empty video.",
        "The client's report is all that its caller learns: a finished job was reported as possibly still running "
        "(fal-ai/fal#1143).",
        failure_is_failure,
    ),
    Rule(
        "RES-02",
        "success-without-media",
        "MUST",
        "S2",
        "outcome",
        "Report a success without a video URL as a failure, with the job's id: not as a success, and not after "
        "unbounded reads in the hope of a URL.",
        "A safety filter leaves a finished job without a video; clients crashed on an empty list, polled until the "
        "deadline, or charged for it: vercel/ai#18929, lidge-jun/opencodex#582, googleapis/python-genai#1560, "
        "DaWe35/image-router#41, GoogleCloudPlatform/vertex-ai-creative-studio#529, QuantumNous/new-api#6858.",
        success_without_media,
    ),
    Rule(
        "RES-03",
        "two-step-result",
        "MUST",
        "S2",
        "outcome",
        "If the result is a request of its own, its refusal is the job's failure, except for a 404 or 425, which may "
        "mean that the result is not ready yet.",
        "If no status reports the failure of a job, the error comes only with the result, and it was lost: "
        "TanStack/ai#396.",
        two_step_result,
        _two_steps,
    ),
    Rule(
        "RES-04",
        "fetch-before-expiry",
        "MUST",
        "S2",
        "wire",
        "Fetch the video before its link expires; do not fetch an expired link.",
        "A stored link is a video that is gone next week: openslop/openslop#405, banodoco/Dough#2, "
        "UllrAI/HeadShots.fun#2, Comfy-Org/docs#1594.",
        fetch_before_expiry,
    ),
    Rule(
        "RES-05",
        "expired-url-refresh",
        "SHOULD",
        "S1",
        "wire",
        "If a link to the video is refused (403, 410), read the job again for a new link; do not submit again, and do "
        "not fetch the same link without a bound.",
        "The video is paid for and exists under another link: ddcat-ai/open-ai-canvas#492, Comfy-Org/docs#1594.",
        expired_link_is_asked_anew,
    ),
    Rule(
        "RES-06",
        "verify-bytes",
        "MUST",
        "S2",
        "outcome",
        "Treat a file that breaks off, is empty, is a page or is not a video as a failure, and leave no file behind.",
        "JSON and HTML were saved as a video and reported as success: openclaw/openclaw#117339.",
        verify_bytes,
    ),
    Rule(
        "RES-07",
        "tolerate-content-type",
        "SHOULD",
        "S2",
        "outcome",
        "Accept a video as application/octet-stream, binary/octet-stream, and video/mp4 with parameters, too.",
        "An exact comparison refused video/mp4 itself, and the paid video was lost: "
        "OpenRouterTeam/python-sdk#175, OpenRouterTeam/python-sdk#363.",
        tolerate_content_type,
    ),
    Rule(
        "RES-08",
        "no-double-download",
        "SHOULD",
        "S4",
        "wire",
        "Download a video once per run; an interrupted download may be resumed with a range request.",
        "A second download gains nothing, costs traffic, and may come too late: a signed link may have one hour left "
        "(Comfy-Org/docs#1594).",
        no_double_download,
    ),
)
