"""Rules about job ids: their format, their owners, their lists, and unknown and foreign ones. Knows no server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hobbyhorse.conformance.rule import MONEY, MUST, OBSERVED, SECURITY, VIDEO, Breach, rule
from hobbyhorse.conformance.server.expected import (
    FEW_INTERNAL_ERRORS,
    INTERNAL,
    KindEvidence,
    binding_places,
    body_of,
    conclusive,
    conclusive_probes,
    home_of,
    label,
    one_per_kind,
    operation_of,
    probes,
    refused_as,
    responses_of,
)
from hobbyhorse.contract.forms.expressions import resolve
from hobbyhorse.contract.reading import message_of, read_items
from hobbyhorse.contract.values import Contract, Operation, find_situation
from hobbyhorse.traces.annotated import AnnotatedTrace, Step, canonical
from hobbyhorse.traces.orders import making

ID_PATTERNS: Mapping[str, str] = {
    "uuid4": "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "uuid7": "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "ulid": "[0-7][0-9a-hjkmnp-tv-z]{25}",
    "hex16": "[0-9a-f]{16}",
    "hex32": "[0-9a-f]{32}",
}


# The stages of a job that exists. A response may also report an unknown job as a failed one.
LIVING = frozenset({"pending", "running", "success"})
# The pages of one job each, and the long ones before and after them.
PAGES, LONG = "identity:pages", "identity:long"
UNKNOWN = ("identity:unknown", "identity:malformed")
# The lists before and after a submission, and those of the state machine.
FRESH, MACHINE = "identity:fresh", "machine"
# The values that request a part of a list, and with it another part than before.
PARTS = ("page", "offset", "cursor")
# The first page, another one, and the first page again.
FEW_REQUESTS = 3
# The pages that are compared with a long one: two steps, from the first page and from another one.
WALKED = 3
# The words of a list's order.
NEWEST_FIRST = re.compile(r"\b(newest|latest|most recent)( \w+)? first\b", re.IGNORECASE)
# Seconds between two submissions after which their order is visible in whole seconds.
APART = 2.0
# Seconds after which a new job is in every list.
SETTLED = 5.0
# A shorter prompt may occur in another text by accident.
LEAST_TELLING = 8


def _lists_jobs(contract: Contract) -> bool:
    listing = contract.operations.get("list")
    return listing is not None and listing.items is not None and "job" in listing.items.bindings


@rule(
    "IDN-01",
    "form",
    level=MUST,
    severity="S3",
    says="A job's id has the documented format.",
    because="Ids are stored in columns of the documented width, and inserted into paths unescaped.",
    fix="Generate ids in the documented format, or document the format that is generated.",
)
@one_per_kind
def form(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the ids of accepted jobs with the documented format."""
    for step in trace.submits:
        job = step.job_told
        if step.accepted and job:
            yield OBSERVED
            yield from _malformed(trace.contract, step, job)


def _malformed(contract: Contract, step: Step, job: str) -> KindEvidence:
    prefix, pattern = contract.job_id_prefix, ID_PATTERNS.get(contract.job_id_form)
    if not job.startswith(prefix):
        message = f"{label(step)}: the job id is {job!r}; documented prefix: {prefix!r}"
        yield "prefix", Breach(message, ("lifecycle.json#/job_id/prefix",), job)
    elif pattern is not None and not re.fullmatch(pattern, job[len(prefix) :], re.IGNORECASE):
        after = f" after {prefix!r}" if prefix else ""
        message = f"{label(step)}: the job id is {job!r}; documented format: {contract.job_id_form}{after}"
        yield "form", Breach(message, ("lifecycle.json#/job_id/form",), job)


@rule(
    "IDN-02",
    "unique",
    level=MUST,
    severity="S1",
    harm=MONEY,
    says="No two submissions get the same id, and each response is about the requested job.",
    because="Two clients with the same id get the same video, and one of them has paid for the other's.",
    fix="Draw ids from a random source with at least 64 bits, under a unique constraint, and look each response up by "
    "the requested id.",
)
@one_per_kind
def unique(trace: AnnotatedTrace) -> KindEvidence:
    """Find ids shared by different submissions, and responses about another job than the requested one."""
    yield from _shared(trace)
    yield from _about_another_job(trace)


def _shared(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the ids of all accepted submissions."""
    owners: dict[str, Step] = {}
    for count, step in enumerate(step for step in trace.submits if step.accepted):
        if count:  # one submission alone has no other to share its id with
            yield OBSERVED
        first = owners.setdefault(str(step.job_told), step)
        if first is not step and not _repeats(trace, first, step):
            message = f"{label(step)} gets job {step.job_told!r}, which {label(first)} already got"
            places = ("lifecycle.json#/idempotency/mode", responses_of(operation_of(trace, step)))
            yield step.role, Breach(message, places, step.job_told)


def _about_another_job(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the job of each response with the job of its request."""
    for step in trace.of("status", "result", "cancel"):
        if not step.exchange.job or not step.job_told:
            continue
        yield OBSERVED
        if step.job_told != step.exchange.job:
            message = f"{label(step)} asks for job {step.exchange.job!r}, but the response is about {step.job_told!r}"
            bound = (f"lifecycle.json#/operations/{step.role}/bindings/job",)
            yield step.role, Breach(message, bound, step.job_told)


def _repeats(trace: AnnotatedTrace, first: Step, again: Step) -> bool:
    """Whether a submission may get another one's job: it has the same key, though not necessarily the same body."""
    place, key = trace.contract.idempotency.key, trace.key(first)
    if place is None:
        return False
    # A key in the body is part of it: equal bodies have the same key.
    if place.part != "header":
        return canonical(first.exchange.body) == canonical(again.exchange.body)
    return key is not None and key == trace.key(again)


@rule(
    "IDN-03",
    "unknown-refused",
    level=MUST,
    severity="S2",
    says="An unknown id is refused, as documented.",
    because="A client that resumes a lost job polls until its deadline, unless it gets a refusal.",
    fix="Respond with the documented refusal if no job has the id, instead of an empty or invented job.",
)
@one_per_kind
def unknown_refused(trace: AnnotatedTrace) -> KindEvidence:
    """Find responses that show a job that does not exist, or refuse it in an undocumented way."""
    for step in conclusive_probes(trace, *UNKNOWN):
        yield OBSERVED
        yield from _unknown(trace, step)
    yield from _internal(trace)


def _internal(trace: AnnotatedTrace) -> KindEvidence:
    """Find ids that get an internal error whenever they are requested."""
    asked: dict[tuple[str | None, str | None], list[Step]] = {}
    for step in probes(trace, *UNKNOWN):
        asked.setdefault((step.role, step.exchange.job), []).append(step)
    for (role, job), steps in asked.items():
        if len(steps) >= FEW_INTERNAL_ERRORS and all(step.status == INTERNAL for step in steps):
            message = f"{label(steps[-1])}: unknown job {job!r} gets {INTERNAL} each time; documented: a refusal"
            yield (role, INTERNAL), Breach(message, (), INTERNAL)


def _unknown(trace: AnnotatedTrace, step: Step) -> KindEvidence:
    refusals = refused_as(trace, step, "unknown_job")
    if refusals and step.ok:
        operation = operation_of(trace, step)
        meant = find_situation(operation, "unknown_job")
        places = (home_of(trace.contract, operation, meant.name),) if meant is not None else ()
        # How an unknown id is refused may be assumed; that it has no running or succeeded job is certain.
        places = () if step.kinds & LIVING else places
        message = f"{label(step)}: unknown job {step.exchange.job!r} gets {step.status}; documented: a refusal"
        yield (step.role, step.exchange.probe, "ok"), Breach(message, places, step.status)
    # A malformed id may be refused in any way (as a bad request, say): only a well-formed one shows the documented one.
    elif step.exchange.probe == "identity:unknown":
        yield from (((step.role, breach.places), breach) for breach in refusals)


@rule(
    "IDN-04",
    "foreign-refused",
    level=MUST,
    severity="S1",
    harm=SECURITY,
    says="A request for another account's job is refused, as documented or like an unknown job, and the refusal "
    "reveals nothing about the job.",
    because="Anyone who guesses an id, or finds one in a log, sees another account's video.",
    fix="Add the account to the condition of each query for a job, and respond to a foreign job exactly as to an "
    "unknown one.",
)
@one_per_kind
def foreign_refused(trace: AnnotatedTrace) -> KindEvidence:
    """Find responses to another account that show a job, or leak parts of it in a refusal."""
    for step in conclusive_probes(trace, "identity:foreign"):
        if step.role == "list":
            yield from _listed_elsewhere(trace, step)
        else:
            yield OBSERVED
            yield from _foreign(trace, step)


def _foreign(trace: AnnotatedTrace, step: Step) -> KindEvidence:
    refusals = refused_as(trace, step, "foreign_job", ["unknown_job"])
    shown = _shown(trace, step)
    if refusals and step.ok:
        got = f"another account's key gets {step.status} for job {step.exchange.job!r}"
        message = f"{label(step)}: {got}; documented: a refusal"
        yield (step.role, "ok"), Breach(message, (), step.status)
    elif shown:
        message = f"{label(step)}: the refusal to another account leaks the job's {' and '.join(shown)}"
        yield (step.role, "leak"), Breach(message, (), list(shown))
    else:
        yield from (((step.role, breach.places), breach) for breach in refusals)


def _listed_elsewhere(trace: AnnotatedTrace, step: Step) -> KindEvidence:
    """Find the suite's own jobs in another account's list."""
    items = read_items(operation_of(trace, step), message_of((), step.value)) if step.ok else []
    seen = {item.get("job") for item in items} & set(_accepted_before(trace, step))
    if step.ok:
        yield OBSERVED
    if seen:
        job = min(map(str, seen))
        yield ("list", "seen"), Breach(f"{label(step)}: another account's list has job {job!r}", (), job)


def _shown(trace: AnnotatedTrace, step: Step) -> list[str]:
    """Return the parts of a job that a refusal leaks: its stage, its video, its prompt."""
    job = step.exchange.job
    others = [other for other in trace.steps if other.job == job and other.exchange.probe != step.exchange.probe]
    stages = {other.stage for other in others if isinstance(other.stage, str)}
    # Without the query: a signed link has another signature each time.
    videos = {other.video.partition("?")[0] for other in others if other.video}
    prompts = {text for other in trace.submits if other.job_told == job for text in _prompts(trace, other)}
    # A refusal that is not JSON, such as an HTML page, can leak as well.
    texts = list(_texts(step.value)) or [step.exchange.answer.decode(errors="replace")]
    leaks = {
        "stage": step.reading.values.get("stage") in stages,
        "video": any(video in text for video in videos for text in texts),
        "prompt": any(prompt in text for prompt in prompts for text in texts),
    }
    return [name for name, leaked in leaks.items() if leaked]


def _texts(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _prompts(trace: AnnotatedTrace, step: Step) -> Iterator[str]:
    """Yield the prompts of a submission that are long enough to be recognised."""
    body = message_of((), body_of(step))
    parameters = operation_of(trace, step).model_parameters.get(body)
    for model in trace.contract.models:
        for pointer in model.parameters.get("prompt", ()):
            found = resolve(parameters, pointer)
            if isinstance(found, str) and len(found) >= LEAST_TELLING:
                yield found


@rule(
    "IDN-05",
    "listed",
    level=MUST,
    severity="S2",
    harm=VIDEO,
    applies=_lists_jobs,
    says="A list contains the accepted jobs, from their acceptance on.",
    because="A client that lost an id looks for its job in the list before it submits again.",
    fix="Write a job and its entry in the list in one transaction, and read the list from the primary store, without a "
    "cache.",
)
@one_per_kind
def listed(trace: AnnotatedTrace) -> KindEvidence:
    """Find accepted jobs that are missing from a complete list, and the newest job on a page that begins with it."""
    for step in conclusive_probes(trace, "identity:list", FRESH, MACHINE):
        jobs = _accepted_before(trace, step)
        if step.role != "list" or not step.ok or not jobs:
            continue
        items = read_items(operation_of(trace, step), message_of((), step.value))
        missing = [job for job in jobs if job not in {item.get("job") for item in items}]
        # On a paged list the job may be on another page.
        whole = _complete_list(step, len(items))
        # A page of one item may show the newer job of another client.
        newest = jobs[-1] in missing and len(items) > 1 and _begins_with_newest(trace, step)
        if whole or newest or not missing:
            yield OBSERVED
        if missing and whole:
            message = f"{label(step)}: a complete list of {len(items)} jobs does not contain job {missing[0]!r}"
            places = ("lifecycle.json#/operations/list/items", "lifecycle.json#/operations/list/situations/listed")
            yield "list", Breach(message, places, len(items))
        elif newest:
            message = f"{label(step)}: the list begins with the newest job, but does not contain job {jobs[-1]!r}"
            yield "newest", Breach(message, _order_places(trace.contract), len(items))


def _begins_with_newest(trace: AnnotatedTrace, listing: Step) -> bool:
    """Whether a list is documented as newest first, and this is the first page of it."""
    named = (requested(operation_of(trace, listing), listing, name) for name in PARTS)
    return bool(_order_places(trace.contract)) and not any(named) and listing.reading.values.get("page") in (None, 1)


def _accepted_before(trace: AnnotatedTrace, listing: Step) -> list[str]:
    """Return the suite's own jobs that were accepted before a list was requested, the oldest first."""
    # A job accepted while the list was made may be missing in it.
    earlier = (step for step in trace.submits if step.accepted and step.done < listing.arrived)
    # A repeated submission gets its job again, which is no newer for that.
    return list(dict.fromkeys(str(step.job_told) for step in earlier if _ours(step)))


def _ours(step: Step) -> bool:
    return not (step.exchange.probe or "").startswith(("auth:", "identity:"))


def _complete_list(step: Step, items: int) -> bool:
    """Whether a list is complete: it has all items, fewer than fit on a page, or no sign of another page."""
    values = step.reading.values
    total, size, page = (_count(values.get(name)) for name in ("total", "size", "page"))
    # A reported count is stronger evidence than missing cursors.
    if total is not None or size is not None:
        return (total is not None and total <= items) or (size is not None and items < size and page in (None, 1))
    return step.valid and not {"next_cursor", "previous_cursor", "offset"} & set(values)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _pages(contract: Contract) -> bool:
    listing = contract.operations.get("list")
    return listing is not None and listing.items is not None and "size" in listing.bindings


@rule(
    "IDN-06",
    "pages",
    level=MUST,
    severity="S2",
    applies=_pages,
    says="A page of a list has at most as many items as requested, and no item of another page; no item is between two "
    "pages; the total counts all pages.",
    because="A client that walks through the pages misses jobs, or never comes to the end.",
    fix="Apply the requested size and offset in the query of the list, under an order that new jobs do not change.",
)
@one_per_kind
def pages(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the suite's own requests for pages with the items in the responses."""
    steps = [step for step in conclusive_probes(trace, PAGES) if step.ok and step.role == "list"]
    for step in steps:
        operation = operation_of(trace, step)
        size, items = requested(operation, step, "size"), jobs_of(operation, step)
        if size is not None and size.isdecimal():
            yield OBSERVED
            if len(items) > int(size):
                message = f"{label(step)}: {len(items)} items; requested: {size}"
                yield "size", Breach(message, binding_places(trace.contract, operation, "size"), len(items))
        total, jobs = _count(step.reading.values.get("total")), set(_accepted_before(trace, step))
        if total is not None and total < len(jobs):
            message = f"{label(step)}: the total is {total}, but {len(jobs)} jobs were accepted before"
            yield "total", Breach(message, binding_places(trace.contract, operation, "total"), total)
    yield from _shared_pages(trace, steps)
    for before, walk, after in _walks(trace):
        yield from _skipped(trace, before, walk, after)


def _shared_pages(trace: AnnotatedTrace, steps: list[Step]) -> KindEvidence:
    """Compare different pages, if the first one is the same before and after."""
    if len(steps) < FEW_REQUESTS:
        return
    first, *others, again = steps
    operation = operation_of(trace, first)
    before = jobs_of(operation, first)
    # Another client of the account may have submitted a job, which moves every item.
    if before != jobs_of(operation, again):
        return
    for other in others:
        yield OBSERVED
        common = set(before) & set(jobs_of(operation, other))
        if common:
            message = f"{label(other)}: another page than {label(first)} has the same job {min(common)!r}"
            places = tuple(at for name in PARTS for at in binding_places(trace.contract, operation, name))
            yield "shared", Breach(message, places, min(common))


def _walks(trace: AnnotatedTrace) -> Iterator[tuple[Step, list[Step], Step]]:
    """Yield the requests for pages, with the request for a long page before and after them."""
    found: list[Step] = []
    for step in probes(trace, LONG, PAGES):
        found.append(step)
        if step.exchange.probe == LONG and len(found) > 1:
            whole = len(found) > FEW_REQUESTS and found[0].exchange.probe == LONG
            if whole and all(conclusive(one) and one.ok for one in found):
                yield found[0], found[1:-1], step
            # A walk that was broken off ends where the next one begins.
            found = [] if whole else [step]


def _skipped(trace: AnnotatedTrace, before: Step, requests: list[Step], after: Step) -> KindEvidence:
    """Find a job on a long page that is on none of the first pages, if the list was the same before and after them."""
    operation, (*walk, again) = operation_of(trace, before), requests
    walked = [job for step in walk for job in jobs_of(operation, step)]
    if not walked or jobs_of(operation, walk[0]) != jobs_of(operation, again):
        return
    # Whatever other clients submit meanwhile may be anywhere.
    known = {*_accepted_before(trace, before), *walked}
    listed, later = ([job for job in jobs_of(operation, one) if job in known] for one in (before, after))
    if listed != later or not set(walked) <= set(listed) or not any(name in operation.bindings for name in PARTS):
        return
    yield OBSERVED
    start = listed.index(walked[0])
    for job, following in pairwise(listed[start : start + WALKED]):
        if following not in walked:
            message = f"{label(after)} lists job {following} after job {job}; no page up to {label(walk[-1])} has it"
            names = (*PARTS, "next_cursor")
            places = tuple(at for name in names for at in binding_places(trace.contract, operation, name))
            yield "skipped", Breach(message, places, walked)
            return


def _newest_first(contract: Contract) -> bool:
    return _lists_jobs(contract) and bool(_order_places(contract))


def _order_places(contract: Contract) -> tuple[str, ...]:
    """Return the texts of the list's operation that document its order."""
    at = responses_of(contract.operations["list"]).removesuffix("responses")
    return tuple(
        f"{at}{word}"
        for word in ("summary", "description")
        if NEWEST_FIRST.search(str(contract.schemas.at(f"{at}{word}")))
    )


@rule(
    "IDN-07",
    "newest-first",
    level=MUST,
    severity="S3",
    applies=_newest_first,
    says="A list that is documented as newest first has a later job before an earlier one.",
    because="A client that lost an id reads the first page alone, and submits again what it does not find there.",
    fix="Sort the list by the time of creation, descending, and by the id among equal times.",
)
@one_per_kind
def newest_first(trace: AnnotatedTrace) -> KindEvidence:
    """Compare the order of the suite's own jobs in each list with the order of their submissions."""
    for step in conclusive_probes(trace, ""):
        if step.role != "list" or not step.ok or _is_elsewhere(step):
            continue
        jobs = [job for job in jobs_of(operation_of(trace, step), step) if making(trace, job) is not None]
        for job, following in pairwise(jobs):
            first, then = making(trace, job), making(trace, following)
            # Jobs of one second may have equal times of creation.
            if first is None or then is None or abs(then.arrived - first.arrived) < APART:
                continue
            yield OBSERVED
            if first.done < then.arrived:
                age = then.arrived - first.arrived
                message = f"{label(step)}: job {following}, submitted {age:.0f} s after job {job}, is listed after it"
                yield "order", Breach(message, _order_places(trace.contract), jobs)
        yield from _newer_elsewhere(trace, step, jobs)


def _newer_elsewhere(trace: AnnotatedTrace, step: Step, jobs: list[str]) -> KindEvidence:
    """Find an own job that is newer than a first page: the page was cut before it was sorted."""
    operation, first = operation_of(trace, step), making(trace, jobs[0]) if jobs else None
    page = [requested(operation, step, name) for name in ("page", "offset", "cursor")]
    if step.exchange.probe != PAGES or first is None or page not in ([None] * 3, ["1", None, None]):
        return
    settled = [one for one in trace.submits if one.accepted and one.done < step.arrived - SETTLED]
    # A repeated submission gets its job again, long after it was made.
    made = [one for one in settled if making(trace, one.job_told) is one]
    newer = [one for one in made if one.job_told not in jobs and one.arrived - first.arrived >= APART]
    if any(one.job_told == jobs[0] for one in settled):
        yield OBSERVED
    if newer:
        message = f"{label(step)}: job {newer[-1].job_told} is newer than {jobs[0]}, but not on the first page"
        yield "page", Breach(message, _order_places(trace.contract), jobs)


def _is_elsewhere(step: Step) -> bool:
    return (step.exchange.probe or "").startswith(("auth:", "identity:foreign"))


def requested(operation: Operation, step: Step, name: str) -> str | None:
    """Return a bound value of the query of a request."""
    query = dict(parse_qsl(urlsplit(step.exchange.url).query))
    binding = operation.bindings.get(name)
    places = binding.request if binding is not None else ()
    return next((query[place.name] for place in places if place.part == "query" and place.name in query), None)


def jobs_of(operation: Operation, step: Step) -> list[str]:
    """Return the ids of the jobs in a list."""
    items = read_items(operation, message_of((), step.value))
    return [str(item["job"]) for item in items if item.get("job")]
