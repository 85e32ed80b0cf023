"""Rules about a server that is right and different: the client ends as with the usual server. Knows no server.

Each rule has one sentence for one form of variation, and judges the runs whose variations all have that form. The last
rule judges runs with several forms; the search gives it only forms that the client survives alone.

A run is compared with the run of the same case without the variations (`Trace.plain`). Without that, only a case
without faults is judged: its job succeeds, so the client must succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hobbyhorse.conformance.client.cases import ONCE
from hobbyhorse.conformance.client.variations import Varied, has_faults, variations
from hobbyhorse.conformance.rule import MUST, OBSERVED, OUTCOME, SHOULD, VIDEO, Breach, Evidence, rule
from hobbyhorse.scenarios.faults.download import ELSEWHERE, FILE_NAMES, PARTIAL
from hobbyhorse.scenarios.faults.link import ENCODED_BYTES, LINK_BYTES
from hobbyhorse.scenarios.faults.members import (
    ERROR_SHAPE,
    FREEDOM,
    NO_ERROR,
    NO_VALUE,
    OTHER_ERROR_TYPE,
    OUTPUTS,
    UNKNOWN_MEMBERS,
)
from hobbyhorse.scenarios.faults.status import (
    HEAD_REFUSED,
    JSON_TYPES,
    NOT_MODIFIED,
    ORDER_STATUS,
    OTHER_TYPES,
    RANGE_IGNORED,
    STAMPS,
)
from hobbyhorse.scenarios.faults.text import JSON_FORM, SIGNED_BYTES
from hobbyhorse.scenarios.faults.timeline import FILE_BOXES, OPAQUE_IDS
from hobbyhorse.scenarios.faults.wire import BODY_LENGTH, BODY_PARTS, CODED, HEADER_NAMES
from hobbyhorse.scenarios.options import GATEWAY_STATUS, PASSING_STATUS, RETRY_AFTER_FORM, RETRY_AFTER_ODD
from hobbyhorse.traces.annotated import FAILED_OUTCOMES, AnnotatedTrace
from hobbyhorse.traces.trace import Outcome

GENUINE = "genuine"
# Errors of a program that did not expect the response, as opposed to a report about the job.
CRASHES = frozenset(
    {
        "AssertionError",
        "AttributeError",
        "IndexError",
        "JSONDecodeError",
        "KeyError",
        "NameError",
        "RecursionError",
        "TypeError",
        "UnboundLocalError",
        "UnicodeDecodeError",
        "ValidationError",
        "ValueError",
        "ZeroDivisionError",
    }
)
# Of these, the ones with which no client refuses a response on purpose.
ACCIDENTS = CRASHES - {"AssertionError", "JSONDecodeError", "KeyError", "ValidationError", "ValueError"}


@rule(
    "VAR-01",
    "header-names",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Header names are case-insensitive.",
    because="HTTP/2 sends them in lower case, and proxies change them; a client that looks for `Content-Length` then "
    "finds nothing: RFC 9110, section 5.1.",
    fix="Look headers up with the HTTP library's case-insensitive mapping.",
    example="ask",
)
def header_names(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(HEADER_NAMES))


@rule(
    "VAR-02",
    "body-without-length",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A response may have no Content-Length: its body may be chunked, or end with the connection.",
    because="A progress bar needed the length and failed without it: Comfy-Org/comfy-cli#371, Kaggle/kaggle-cli#984; "
    "RFC 9112, sections 6.3 and 9.6.",
    fix="Read the body to its end, and use Content-Length only as a hint for the progress.",
    example="ask",
)
def body_without_length(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(BODY_LENGTH))


@rule(
    "VAR-03",
    "offered-coding",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A client that offers a coding in Accept-Encoding decodes it.",
    because="The header was set and the body was not decoded, which worked until the first compressed response: "
    "RFC 9110, section 12.5.3.",
    fix="Leave Accept-Encoding to the HTTP library, or decode every coding that the header offers.",
    example="ask",
)
def offered_coding(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(CODED))


@rule(
    "VAR-04",
    "unknown-status-code",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="An unknown status is treated as the x00 of its class: 520 to 530 as 500.",
    because="Cloudflare responds 520 to 526, 529 and 530 before the provider; a list of known statuses lost the "
    "job: fazer-ai/agents#360. RFC 9110, section 15.",
    fix="Compare the first digit of the status: every 5xx is transient, known or not.",
    example="trouble",
)
def unknown_status_code(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(GATEWAY_STATUS.form))


@rule(
    "VAR-05",
    "ignored-range",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A server may ignore a Range, and respond 200 with the whole file.",
    because="A resumed download was appended to its first part, although the response was 200: rust- "
    "lang/rustup#4710, huggingface/huggingface_hub#3778. RFC 9110, section 14.2.",
    fix="After a range request, append the body only if the status is 206; on 200, replace the file.",
    example="fetch",
)
def ignored_range(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(RANGE_IGNORED))


@rule(
    "VAR-06",
    "refused-head",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="HEAD may be refused where GET is allowed.",
    because="A client that sends HEAD before the download never gets a file whose link is signed for GET, as "
    "object stores sign links for one method; RFC 9110, section 15.5.6, lets a server refuse a method.",
    fix="Remove the HEAD request, or ignore its failure and send the GET.",
    example="fetch",
)
def refused_head(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(HEAD_REFUSED))


@rule(
    "VAR-07",
    "json-text",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="JSON has free white space, order and escapes, and is UTF-8: read it with a parser.",
    because="A URL was cut out of the text by a pattern, so the escapes of `&` and `/` stayed in it; a response was "
    "decoded as ASCII: RFC 8259, sections 2 to 8.",
    fix="Parse the response with a JSON library; do not search its text.",
    example="Answer.text",
)
def json_text(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(JSON_FORM))


@rule(
    "VAR-08",
    "signed-bytes",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A signature covers the bytes that were sent, not the JSON that a client would write.",
    because="The body was parsed and serialized again before its signature was checked: devswha/patina#701, "
    "stripe/stripe-node#341, octokit/webhooks.js#76.",
    fix="Compute the signature over the received bytes, before anything parses them.",
    example="callbacks.genuine",
)
def signed_bytes(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(SIGNED_BYTES))


@rule(
    "VAR-09",
    "unknown-members",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Unknown members are ignored, also if they contain names and words of known ones.",
    because="A search for the first `status` or `url` in the text finds an older one. Providers may add members "
    "at any time: RFC 8259, section 4, leaves them to the contract.",
    fix="Read members by their full path in the parsed JSON, and ignore members that the client does not know.",
    example="Answer.text",
)
def unknown_members(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(UNKNOWN_MEMBERS))


@rule(
    "VAR-10",
    "documented-freedom",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Optional members may be absent, and null where the contract has null; the video's URL may be at each place "
    "that the contract lists.",
    because="A client that reads an optional member without a test fails when the provider omits it, and one that "
    "looks for the URL at one place loses the video at the other: lidge-jun/opencodex#582. The "
    "contract's schemas list the required members; RFC 8259, section 3, has null as a value.",
    fix="Read optional members with a default, and treat null like an absent member.",
    example="Answer.text",
)
def documented_freedom(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(FREEDOM))


@rule(
    "VAR-11",
    "typed-outputs",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="The outputs have types: the video is the output whose type is video, wherever it stands.",
    because="A client that takes the first output saves a picture as soon as the provider lists one beside the "
    "video. The contracts document the types; RFC 8259, section 5, lets an array have any number of "
    "values.",
    fix="Choose the output by its type instead of its position.",
    example="wait",
)
def typed_outputs(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(OUTPUTS))


@rule(
    "VAR-12",
    "link-bytes",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A link comes back byte for byte, with every escape and delimiter of its query.",
    because="A query that is parsed and written again loses the signature that covers it: RFC 3986, section 2.2, "
    "makes `%2B` and `+` different.",
    fix="Pass the URL to the HTTP library as the text that was received; do not parse and rebuild its query.",
    example="fetch",
)
def link_bytes(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(LINK_BYTES))


@rule(
    "VAR-13",
    "retry-after-date",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Retry-After is a number of seconds or an HTTP-date.",
    because="A date was read with `int` and ended the run: RFC 9110, section 10.2.3.",
    fix="Parse Retry-After as a number, then as an HTTP-date.",
    example="seconds",
)
def retry_after_date(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(RETRY_AFTER_FORM.form))


@rule(
    "VAR-14",
    "json-media-type",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A media type is case-insensitive, and may have parameters.",
    because="A comparison with `application/json` refuses `application/json; charset=utf-8`: RFC 9110, section 8.3.1.",
    fix="Compare the media type in lower case and without its parameters, or do not compare it.",
    example="Answer.text",
)
def json_media_type(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(JSON_TYPES))


@rule(
    "VAR-15",
    "signature-time",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A signature within the documented tolerance is valid, older or newer than the receiver's clock.",
    because="The clocks of two machines differ, and only an older signature was expected. The contract documents "
    "the tolerance; RFC 9110, section 5.6.7, says that clocks are not synchronized.",
    fix="Accept timestamps within the documented tolerance on both sides of the receiver's clock.",
    example="callbacks.genuine",
)
def signature_time(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(STAMPS))


@rule(
    "VAR-16",
    "empty-error",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="An empty error means that there is none: null, an empty text, object or list, 0, or false.",
    because="A job that had succeeded was taken for a failed one, because `error` was present and empty: "
    "sapiom/sapiom-js#771.",
    fix="Decide by the stage whether a job failed, and read the error member only after that.",
    example="wait",
)
def empty_error(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(NO_ERROR))


@rule(
    "VAR-17",
    "empty-values",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A member that has no value yet may be null; progress may go back, and be full before the end.",
    because="Null was read as a number or an object (the same bug with `error`: sapiom/sapiom-js#771), and a full "
    "progress as the end of the job: learningequality/kolibri#614.",
    fix="Test a member for null before converting it, do not require progress to grow, and end with the status alone.",
    example="Answer.text",
)
def empty_values(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(NO_VALUE))


@rule(
    "VAR-18",
    "error-shape",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="An error may be a text, an object or a list, and its code a text or a number: the run ends as failed.",
    because="A method of texts was called on a number, so the run ended with a TypeError in place of the "
    "provider's reason: hellosign/hellosign-python-sdk#84. The same bug with an empty error: sapiom/sapiom-js#771.",
    fix="Test the type of the error before reading into it, and convert its code with str().",
    example="Failed",
)
def error_shape(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(ERROR_SHAPE))
    # A client may refuse a response that contradicts the contract, but not by accident.
    if trace.outcome is not None and (is_accident(trace.outcome) or trace.outcome.kind in FAILED_OUTCOMES):
        for one in _same_end(trace, only(OTHER_ERROR_TYPE)):
            if one is OBSERVED or is_accident(trace.outcome):
                yield one


@rule(
    "VAR-19",
    "odd-retry-after",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A Retry-After that cannot be read is ignored; a fraction is a number.",
    because="`Retry-After: 0.5` ended the run in `int`: NousResearch/hermes-agent#24705.",
    fix="Catch the errors of parsing Retry-After, and use the usual pause instead; parse numbers with float().",
    example="seconds",
)
def odd_retry_after(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(RETRY_AFTER_ODD.form))


@rule(
    "VAR-20",
    "passing-status",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="408 and 425 pass: a client that survives 500 on a read survives them.",
    because="A list of transient statuses had only some of the 5xx: fazer-ai/agents#360. RFC 9110, section 15.5.9.",
    fix="Add 408 and 425 to the statuses after which a read is repeated.",
    example="trouble",
)
def passing_status(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(PASSING_STATUS.form))


@rule(
    "VAR-21",
    "encoded-link-bytes",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A link with `%2F` or `%3A` in its query comes back byte for byte.",
    because="aiohttp decodes them unless the URL is given as `yarl.URL(url, encoded=True)`: RFC 3986, section 2.2.",
    fix="Tell the HTTP library that the URL is already encoded, for example yarl.URL(url, encoded=True).",
    example="fetch",
)
def encoded_link_bytes(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(ENCODED_BYTES))


@rule(
    "VAR-22",
    "other-media-type",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="JSON is read under any media type, or under none.",
    because="aiohttp's `json()` refuses JSON that is not labelled as such: aio-libs/aiohttp#7841.",
    fix="Parse the body as JSON without a check of its media type, for example response.json(content_type=None) of "
    "aiohttp.",
    example="Answer.text",
)
def other_media_type(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(OTHER_TYPES))


@rule(
    "VAR-23",
    "order-status",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="Any status of success accepts the order.",
    because="200, 201 and 202 all have the id of a job, and a test for one of them loses a job that is paid for: "
    "RFC 9110, section 15.3.",
    fix="Accept every 2xx that contains a job's id.",
    example="submit",
)
def order_status(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(ORDER_STATUS))


@rule(
    "VAR-24",
    "variations-together",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A client that survives each form of a response alone survives several of them together.",
    because="One proxy compresses, the next one chunks, and both change the headers: RFC 9110, section 7.7.",
    fix="Look at the named forms one by one: each change of the response must be handled on its own, before the next.",
    example="ask",
)
def variations_together(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, lambda found: len({one.form for one in found}) > 1)


@rule(
    "VAR-25",
    "part-of-a-range",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A response with a part of a file may have less than the requested range: Content-Range says which part it "
    "is.",
    because="A part that started elsewhere was appended to the first part, and a damaged file was kept: "
    "pypa/pip#14131. RFC 9110, section 15.3.7: a client MUST inspect Content-Range.",
    fix="Compare the first byte in Content-Range with the bytes that are there; if it differs, begin anew.",
    example="fetch",
)
def part_of_a_range(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(PARTIAL))


@rule(
    "VAR-26",
    "opaque-id",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A job's id is opaque if its form is not documented: send it as it was returned, encoded for a path.",
    because="A client that accepts or sends only a part of an id polls another URL, and the paid job is lost: RFC "
    "3986, section 2.2; mem0ai/mem0#5893, profullstack/sh1pt#682.",
    fix="Encode the id: urllib.parse.quote(job, safe=''), or encodeURIComponent(job).",
    example="wait",
)
def opaque_id(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(OPAQUE_IDS))


@rule(
    "VAR-27",
    "advisory-file-name",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="The file name in Content-Disposition is advisory, and may be missing, too long, or in any documented form.",
    because="A name that the file system refuses loses a video that was downloaded: RFC 6266, sections 4.1 and 4.3; "
    "httpie/cli#451, C0D3D3V/Moodle-DL#244.",
    fix="Choose the file's name yourself, and ignore the suggested one.",
    example="save",
)
def advisory_file_name(trace: AnnotatedTrace) -> Evidence:
    # A client may refuse a name that leads out of its folder; SEC-06 judges the others.
    if not any(ELSEWHERE in (step.exchange.answer_header("content-disposition") or "") for step in trace.fetches):
        yield from _same_end(trace, only(FILE_NAMES))


@rule(
    "VAR-28",
    "not-modified",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A client that sends If-None-Match gets 304 if nothing has changed: the last response still counts.",
    because="The first poll without news was taken for an error, and the paid job was lost: RFC 9110, section 15.4.5; "
    "growthbook/growthbook-flutter#142, paws-r/paws#462.",
    fix="Keep the last response, and use it again after 304; or send no If-None-Match.",
    example="wait",
)
def not_modified(trace: AnnotatedTrace) -> Evidence:
    if any(step.status == 304 for step in trace.reads):
        yield from _same_end(trace, only(NOT_MODIFIED))


@rule(
    "VAR-29",
    "file-boxes",
    level=SHOULD,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    says="A box of an MP4 may have a size of 64 bits, or no content.",
    because="Encoders that stream do not know the size when they begin, and reserve 64 bits for it, so that a check of "
    "the boxes refused whole videos: beardypig/pymp4#15, videojs/mux.js#410, saecki/mp4ameta#17; ISO/IEC 14496-12, "
    "section 4.2.",
    fix="Read a size of 1 as `the next eight bytes have it`, a size of 0 as `to the end`, and allow boxes of 8 bytes.",
    example="is_mp4",
)
def file_boxes(trace: AnnotatedTrace) -> Evidence:
    if trace.fetches:
        yield from _same_end(trace, only(FILE_BOXES))


@rule(
    "VAR-30",
    "body-in-parts",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    channel=OUTCOME,
    applies=lambda contract: contract.callbacks is not None,
    says="The body of a callback may arrive in parts, cut anywhere: its length says where it ends.",
    because="Each part was decoded by itself, so that a character on the cut became two wrong ones, and the signature "
    "of a genuine callback did not match: inngest/inngest-js#1460, screwdriver-cd/screwdriver#3381.",
    fix="Join the bytes of all parts, check the signature over them, and only then decode them.",
    example="callbacks.listening",
)
def body_in_parts(trace: AnnotatedTrace) -> Evidence:
    yield from _same_end(trace, only(BODY_PARTS))


Judged = Callable[[list[Varied]], bool]


def only(form: str) -> Judged:
    """Return the predicate that a scenario has variations of one form, and no others."""
    return lambda found: {one.form for one in found} == {form}


def _same_end(trace: AnnotatedTrace, judged: Judged) -> Evidence:
    """Compare the end of a run under variations with its plain end."""
    scenario, outcome = trace.trace.scenario, trace.outcome
    found = variations(scenario)
    if not judged(found) or outcome is None or trace.trace.drill != ONCE or len(trace.runs) != 1 or not _met(trace):
        return
    plain = trace.trace.plain
    if plain is None and (has_faults(scenario) or "timeline" in scenario):
        return
    yield OBSERVED
    # Without the wait that it cannot read, a client may give up earlier than at its deadline.
    unread = any(one.form == RETRY_AFTER_ODD.form for one in found)
    if unread and _lost_anyway(outcome, plain):
        return
    right = " and ".join(dict.fromkeys(f"it {one.says} ({one.source})" for one in found))
    for ending in _differences(trace, outcome, plain):
        yield Breach(f"the server was right: {right}. {ending}")


def _met(trace: AnnotatedTrace) -> bool:
    # A variation of the job itself shows in the response with the job's id; its other responses may never be read.
    if "timeline" in trace.trace.scenario and not trace.trace.scenario.get("moves"):
        return any(step.accepted for step in trace.submits)
    return any(step.exchange.move for step in trace.steps) or any(one.note for one in trace.deliveries)


def _differences(trace: AnnotatedTrace, outcome: Outcome, plain: Outcome | None) -> Iterator[str]:
    """Yield in words how a run ended otherwise than without the variations."""
    expected = plain.kind if plain is not None else "success"
    if _better(trace, outcome, expected):
        return
    wanted = "the video" if expected == "success" else f"{expected!r} as without that"
    if outcome.kind != expected or _crashed(outcome, plain):
        # On one line: the message may contain the response.
        message = " ".join(outcome.message.split())[:200] or repr(outcome.kind)
        yield f"The client ended with {message} instead of {wanted}"
    elif outcome.kind == "success" and _other_video(trace, outcome, plain):
        yield "The client ended with other bytes than those of the video"
    for delivery in trace.deliveries:
        if delivery.kind == GENUINE and delivery.note and delivery.status is not None and not delivery.acknowledged:
            yield f"The client refused the genuine callback with {delivery.status}"
    jobs = len(trace.trace.jobs or ())
    if jobs > 1 and not has_faults(trace.trace.scenario):
        yield f"The client submitted {jobs} jobs instead of one"


def _lost_anyway(outcome: Outcome, plain: Outcome | None) -> bool:
    """Whether a run ends without a video, and not by an error in the program, also without the variations."""
    without = plain is not None and "success" not in (outcome.kind, plain.kind)
    return without and not _crashed(outcome, plain)


def _better(trace: AnnotatedTrace, outcome: Outcome, expected: str) -> bool:
    """Whether a run ended better than without the variations, which is no harm."""
    if outcome.kind == "success":
        # A client may submit again after 408, and not after 500.
        return expected != "success"
    # After 408 or 425 a client may know that there is no job, where 500 leaves it unknown.
    if trace.trace.jobs == () and {expected, outcome.kind} == FAILED_OUTCOMES:
        return not _is_crash(outcome)
    # A client may read the failure of its job only in the other form, and wait in vain without it.
    failed = all(job.kind == "failure" for job in trace.trace.jobs or ()) and bool(trace.trace.jobs)
    return failed and expected in ("timeout", "unfinished") and outcome.kind == "failed" and not _is_crash(outcome)


def _crashed(outcome: Outcome, plain: Outcome | None) -> bool:
    """Whether a run that fails in both cases fails only here because of an error in the program."""
    if plain is None or outcome.kind == "success":
        return False
    return _is_crash(outcome) and _error_name(outcome) != _error_name(plain)


def is_accident(outcome: Outcome) -> bool:
    """Whether a run ended with an error of a program that did not expect what happened, and with no other."""
    return outcome.kind != "success" and _error_name(outcome) in ACCIDENTS


def _is_crash(outcome: Outcome) -> bool:
    return _error_name(outcome) in CRASHES


def _error_name(outcome: Outcome) -> str:
    return outcome.message.partition(":")[0].rpartition(".")[2]


def _other_video(trace: AnnotatedTrace, outcome: Outcome, plain: Outcome | None) -> bool:
    """Whether the client has a video that is neither its job's nor the one that it has without the variations."""
    if outcome.sha256 is None or outcome.by_reference:
        return False
    right = {job.sha256 for job in trace.trace.jobs or () if job.sha256 is not None}
    return bool(right) and outcome.sha256 not in right | {plain.sha256 if plain is not None else None}
