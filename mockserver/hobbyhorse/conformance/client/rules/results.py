"""Rules about results: a failure is one, and a success is a video that is fetched, whole, once. Knows no server."""

from __future__ import annotations

from hobbyhorse.conformance.client.grouping import reordered
from hobbyhorse.conformance.client.rule import Rule, each_order
from hobbyhorse.contract.forms.expressions import resolve
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import FAILED_OUTCOMES, TRANSIENT, AnnotatedTrace, Step

MOST_EMPTY_READS = 5
"""How often a success without a video may be read again."""
REFUSED_RESULTS = 2
REFUSED_LINKS = 5
LINK_LATENESS_SECONDS = 5.0
"""Seconds that a download may be on its way to a link that ends."""
NEARLY = 0.9
"""The part of the longest wait after which a client may have stopped for want of time."""
GONE_FOR_CLIENTS = frozenset({403, 410})
TOO_EARLY = frozenset({404, 425})
PAGES = frozenset({"text/html", "application/json", "application/xml"})
NO_VIDEO = frozenset({"truncated", "truncate", "zero_bytes", "html_page", "not_video"})
BYTES = frozenset({"application/octet-stream", "binary/octet-stream"})


def _type(step: Step) -> tuple[str, bool]:
    """Return the media type of an answer, and whether it has parameters."""
    said, _, parameters = (step.exchange.answer_header("content-type") or "").partition(";")
    return said.strip().lower(), bool(parameters.strip())


def _spoilt(step: Step) -> bool:
    """Whether a file was sent, or begun, that is not the video."""
    if step.role != "media" or not 200 <= step.status < 300:
        return False
    no_video = step.exchange.size == 0 or _type(step)[0] in PAGES or step.exchange.move in NO_VIDEO
    return no_video or not step.delivered


def _good(step: Step) -> bool:
    """Whether the video was delivered, or the rest of it."""
    return step.role == "media" and step.ok and not _spoilt(step)


def _address(story: AnnotatedTrace, step: Step) -> str | None:
    """Return the first address of a video in an answer, wherever it may stand."""
    operation = story.contract.operations.get(step.role or "")
    if step.video is not None or operation is None or "video_url" not in operation.bindings or not step.ok:
        return step.video
    told = (resolve(step.value, place.pointer) for place in operation.bindings["video_url"].response)
    return next((value for value in told if isinstance(value, str) and value), None)


def _hurried(story: AnnotatedTrace) -> bool:
    """Whether the client may have stopped for want of time."""
    return story.taken_up is None or story.lasted >= NEARLY * story.patience


@each_order
def failure_is_failure(story: AnnotatedTrace) -> list[str] | None:
    """Hold the outcome against the news that the job ended without a video."""
    outcome = story.outcome
    if outcome is None or outcome.kind == "unfinished" or _may_have_succeeded(story):
        return None
    bought = [step.job_told for step in story.submits if step.accepted]
    reads = [step for step in story.reads if step.failure and step.clean and step.done <= outcome.ended]
    told = [f"request {step.number} said {step.stage!r}" for step in reads if bought and step.job == bought[-1]]
    told += [
        f"a callback said {', '.join(sorted(kinds))}"
        for delivery, kinds in story.told
        if bought and delivery.job == bought[-1] and delivery.acknowledged and delivery.sent <= outcome.ended
        if kinds and kinds <= {"failure", "cancelled", "expired"}
    ]
    if not told:
        return None
    return [f"{told[0]}, and the client reports success"] if outcome.kind == "success" else []


def _may_have_succeeded(story: AnnotatedTrace) -> bool:
    sent = [step for step in story.steps if step.role != "media" and 200 <= step.status < 300]
    shown = any(step.kinds == {"success"} or "video_url" in step.reading.values or story.lists(step) for step in sent)
    return shown or any("success" in kinds for _, kinds in story.told)


@each_order
def success_without_media(story: AnnotatedTrace) -> list[str] | None:
    """Hold what the client did and reports after a success without a video's address."""
    role = "result" if "result" in story.contract.operations else "status"
    bare = [step for step in story.of(role) if step.success and _address(story, step) is None]
    named = any(_address(story, step) is not None for step in story.steps)
    if not bare or named or any("success" in kinds for _, kinds in story.told):
        return None
    found = []
    if len(bare) > 1 + MOST_EMPTY_READS:
        found.append(f"the success without a video was read {len(bare)} times (first by request {bare[0].number})")
    outcome = story.outcome
    if outcome is not None and outcome.kind == "success" and not any(map(_good, story.steps)):
        found.append(f"request {bare[0].number} told of a success without a video, and the client reports success")
    if outcome is not None and outcome.kind in FAILED_OUTCOMES and story.exposed is False and story.knew:
        found.append(f"request {bare[0].number} told of a success without a video, and the job's id is not told")
    return found


@each_order
def two_step_result(story: AnnotatedTrace) -> list[str] | None:
    """Hold what the client did after the result of a job that had ended was refused."""
    ended = next((step for step in story.polls if step.terminal and step.clean and "success" in step.kinds), None)
    if ended is None:
        return None
    asked = [step for step in story.after(ended, story.of("result")) if step.job in (ended.job, None)]
    refused = next((step for step in asked if _final(step)), None)
    early = _gave_up_at_once(story, ended, asked)
    if refused is None:
        return early
    found = early or []
    outcome = story.outcome
    further = [step for step in asked if step.number > refused.number and not step.transient]
    if sum(not step.ok for step in further) > REFUSED_RESULTS:
        found.append(f"the result was refused (request {refused.number}: {refused.status}), and asked for again")
    delivered = any(step.ok for step in asked) or any(map(_good, story.steps)) or _may_have_succeeded(story)
    if outcome is not None and outcome.kind == "success" and not delivered:
        found.append(f"the result was refused (request {refused.number}: {refused.status}): the client reports success")
    return found


def _final(step: Step) -> bool:
    return step.delivered and 400 <= step.status < 500 and step.status not in TRANSIENT | {404}


def _gave_up_at_once(story: AnnotatedTrace, ended: Step, asked: list[Step]) -> list[str] | None:
    """Look for a client that took the first "not yet" of a result as the last word; None where there was none."""
    early = [step for step in asked if step.delivered and step.status in TOO_EARLY]
    if not early:
        return None
    outcome = story.outcome
    alone = len(asked) == 1 and not story.after(early[0], story.reads)
    last = story.run_of(early[0]) == len(story.trace.runs) - 1
    if (
        outcome is None
        or outcome.kind not in FAILED_OUTCOMES
        or not alone
        or not last
        or _hurried(story)
        or story.led_away
    ):
        return []
    return [f"the result was not there yet (request {early[0].number}: {early[0].status}), and was not asked for again"]


@each_order
def fetch_before_expiry(story: AnnotatedTrace) -> list[str] | None:
    """Hold the downloads against the end of their links, and a success against the lack of any."""
    ends = [(fetch, until) for fetch in story.fetches if (until := _until(story, fetch)) is not None]
    found = [
        f"request {fetch.number} fetches a link that had ended {fetch.arrived - until:.0f} s before"
        for fetch, until in ends
        if fetch.arrived > until + LINK_LATENESS_SECONDS
    ]
    outcome = story.outcome
    if outcome is None or outcome.kind != "success":
        return found if found or story.fetches else None
    if outcome.by_reference:
        return found if found or story.contract.retention.result_url is None else None
    told = {step.video for step in story.steps if step.video}
    fetched = [step for step in story.steps if step.role == "media" or step.exchange.url in told]
    if not any(200 <= step.status < 300 for step in fetched):
        found.append("the client reports success, and has not fetched the video")
    return found


def _until(story: AnnotatedTrace, fetch: Step) -> float | None:
    """Return when a download's link ends, by the latest answer that gave it; None: never, or who knows."""
    givers = [step for step in story.steps if step.number < fetch.number and step.video == fetch.exchange.url]
    ends = [_end(story, giver) for giver in givers]
    known = [moment for moment in ends if moment is not None]
    return max(known) if known and len(known) == len(ends) else None


def _end(story: AnnotatedTrace, giver: Step) -> float | None:
    said = giver.reading.values.get("expires_at")
    kept = story.contract.retention.result_url
    if isinstance(said, (int, float)) and not isinstance(said, bool):
        ends = float(said)
    elif kept is not None:
        first = min(step.done for step in story.steps if step.terminal or step.number == giver.number)
        finished = giver.reading.values.get("finished_at")
        ends = max(first, finished if isinstance(finished, float) else first) + kept
    else:
        return None
    return ends if ends > giver.done else None


@each_order
def expired_link_is_asked_anew(story: AnnotatedTrace) -> list[str] | None:
    """Hold what the client did after its link to the video was refused."""
    gone = [step for step in story.fetches if step.delivered and step.status in GONE_FOR_CLIENTS]
    if not gone:
        return None
    refused = gone[0]
    found = [
        f"the link was refused (request {refused.number}: {refused.status}), and request {again.number} orders again"
        for again in reordered(story, refused)
    ]
    outcome = story.outcome
    gave_up = outcome is not None and outcome.kind in FAILED_OUTCOMES and not _hurried(story) and not story.led_away
    if gave_up and story.knew and not story.after(refused, story.reads):
        found.append(f"the link was refused (request {refused.number}: {refused.status}), and no new one was asked for")
    for address in dict.fromkeys(step.exchange.url for step in gone):
        tries = [step for step in gone if step.exchange.url == address]
        if len(tries) > 1 + REFUSED_LINKS:
            found.append(f"a link was refused (request {tries[0].number}), and fetched {len(tries) - 1} more times")
    return found


@each_order
def verify_bytes(story: AnnotatedTrace) -> list[str] | None:
    """Hold the outcome against files that are not the video."""
    spoilt = [step for step in story.fetches if _spoilt(step)]
    outcome = story.outcome
    if not spoilt or outcome is None or outcome.kind == "unfinished" or outcome.by_reference:
        return None
    good = any(map(_good, story.fetches))
    true = {job.sha256 for job in story.trace.jobs or () if job.sha256 is not None}
    last = spoilt[-1]
    if outcome.kind != "success":
        kept = outcome.kept and not good
        return [f"request {last.number} brought no video, and the client left something behind"] if kept else []
    if outcome.sha256 is not None and true:
        told = f"request {last.number} brought no video, and what the client hands over is not the job's"
        return [] if outcome.sha256 in true else [told]
    return [] if good else [f"request {last.number} brought no video, and the client reports success"]


@each_order
def tolerate_content_type(story: AnnotatedTrace) -> list[str] | None:
    """Hold what the client did with a video of another media type."""
    odd = [step for step in story.fetches if _oddly_typed(step)]
    if not odd:
        return None
    found = []
    for step in odd:
        again = [other for other in story.after(step, story.fetches) if _repeats(story, step, other)]
        if len(again) > 1:
            found.append(f"request {step.number} brought the video ({_type(step)[0]}), and it was fetched again")
    outcome = story.outcome
    last = story.steps[-1]
    refused = outcome is not None and outcome.kind in FAILED_OUTCOMES and last in odd and not _hurried(story)
    if refused and not any(step.failure for step in story.steps) and _given_cleanly(story, last):
        found.append(f"request {last.number} brought the video ({_type(last)[0]}), and the client reports a failure")
    return found[:1]


def _oddly_typed(step: Step) -> bool:
    kind, parameters = _type(step)
    odd = kind in BYTES or (kind == "video/mp4" and parameters)
    return odd and _whole_video(step) and step.exchange.move in (None, "wrong_type")


def _whole_video(step: Step) -> bool:
    return _good(step) and step.status == 200 and step.exchange.header("range") is None


def _repeats(story: AnnotatedTrace, step: Step, other: Step) -> bool:
    """Whether a download repeats one of the same run."""
    same = step.exchange.url == other.exchange.url and story.run_of(step) == story.run_of(other)
    return same and _whole_video(other)


def _given_cleanly(story: AnnotatedTrace, fetch: Step) -> bool:
    givers = [step for step in story.steps if step.number < fetch.number and step.video == fetch.exchange.url]
    return bool(givers) and givers[-1].clean


@each_order
def no_double_download(story: AnnotatedTrace) -> list[str] | None:
    """Count how often one run downloads a video that it has."""
    had = [step for step in story.fetches if _whole_video(step) and step.exchange.move is None]
    if not had or not story.trace.runs:
        return None
    for step in had:
        again = next((other for other in story.after(step, story.fetches) if _repeats(story, step, other)), None)
        if again is not None:
            return [f"request {again.number} downloads what request {step.number} had brought whole"]
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
        "A job that failed, was cancelled or expired is never reported as success, nor as an empty video.",
        "What the client says of a job's end is all that its caller has: of a finished one it was said that it may be "
        "running still (fal-ai/fal#1143).",
        failure_is_failure,
    ),
    Rule(
        "RES-02",
        "success-without-media",
        "MUST",
        "S2",
        "outcome",
        "A success without a video's address is a failure that is told with the job's id: no success, and no endless "
        "reading in the hope of one.",
        "A safety filter leaves a finished job without a video; clients crashed on the first of none, asked until the "
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
        "Where the result is asked for by itself, its refusal is the job's failure, but for a 404 or 425, which may "
        "only mean that it is not there yet.",
        "Where no status says that a job failed, the error comes with the result alone, and it was lost: "
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
        "The video is fetched, and before its link ends; a link that has ended is not fetched.",
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
        "When a link to the video is refused (403, 410), read the job again for a new one; do not order again, and do "
        "not fetch the same link without end.",
        "The video is paid for and there, under another link: ddcat-ai/open-ai-canvas#492, Comfy-Org/docs#1594.",
        expired_link_is_asked_anew,
    ),
    Rule(
        "RES-06",
        "verify-bytes",
        "MUST",
        "S2",
        "outcome",
        "A file that breaks off, is empty, a page or no video is a failure, of which nothing is left behind.",
        "JSON and HTML were saved as a video and reported as success: openclaw/openclaw#117339.",
        verify_bytes,
    ),
    Rule(
        "RES-07",
        "tolerate-content-type",
        "SHOULD",
        "S2",
        "outcome",
        "A video is one as application/octet-stream, binary/octet-stream and video/mp4 with parameters, too.",
        "A comparison letter for letter refused video/mp4 itself, and the paid video was lost: "
        "OpenRouterTeam/python-sdk#175, OpenRouterTeam/python-sdk#363.",
        tolerate_content_type,
    ),
    Rule(
        "RES-08",
        "no-double-download",
        "SHOULD",
        "S4",
        "wire",
        "One run downloads a video once; what broke off it may take up by a range.",
        "A second download gains nothing, costs traffic, and may come too late: a signed link may have an hour left "
        "(Comfy-Org/docs#1594).",
        no_double_download,
    ),
)
