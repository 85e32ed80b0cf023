"""Rules about job ids: their form, their owners, and the responses to unknown and foreign ones. Knows no server."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from hobbyhorse.conformance.server.expected import (
    body_of,
    conclusive_probes,
    home_of,
    label,
    one_per_kind,
    operation_of,
    refused_as,
    responses_of,
)
from hobbyhorse.conformance.server.rule import Breach, ServerRule
from hobbyhorse.contract.forms.expressions import resolve
from hobbyhorse.contract.reading import message_of, read_items
from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.traces.annotated import AnnotatedTrace, Step, canonical

ID_PATTERNS: Mapping[str, str] = {
    "uuid4": "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "uuid7": "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "ulid": "[0-7][0-9a-hjkmnp-tv-z]{25}",
    "hex16": "[0-9a-f]{16}",
    "hex32": "[0-9a-f]{32}",
}
Found = Iterator[tuple[Hashable, Breach]]

# A shorter prompt may occur in another text by accident.
LEAST_TELLING = 8


def form(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Compare the ids of accepted jobs with the documented form."""
    contract = annotated.contract
    accepted = [(step, job) for step in annotated.submits if step.accepted and (job := step.job_told)]
    found = []
    for step, job in accepted:
        prefix, pattern = contract.job_id_prefix, ID_PATTERNS.get(contract.job_id_form)
        if not job.startswith(prefix):
            message = f"{label(step)}: the job id is {job!r}; documented prefix: {prefix!r}"
            found.append(("prefix", Breach(message, ("lifecycle.json#/job_id/prefix",), job)))
        elif pattern is not None and not re.fullmatch(pattern, job[len(prefix) :], re.IGNORECASE):
            after = f" after {prefix!r}" if prefix else ""
            message = f"{label(step)}: the job id is {job!r}; documented form: {contract.job_id_form}{after}"
            found.append(("form", Breach(message, ("lifecycle.json#/job_id/form",), job)))
    return one_per_kind(found) if accepted else None


def unique(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find ids shared by different submissions, and responses about another job than the requested one."""
    found: list[tuple[Hashable, Breach]] = []
    owners: dict[str, Step] = {}
    accepted = [step for step in annotated.submits if step.accepted]
    for step in accepted:
        first = owners.setdefault(str(step.job_told), step)
        if first is not step and not _repeats(annotated, first, step):
            message = f"{label(step)} gets the job of {label(first)}, {step.job_told!r}"
            places = ("lifecycle.json#/idempotency/mode", responses_of(operation_of(annotated, step)))
            found.append((step.role, Breach(message, places, step.job_told)))
    named = [step for step in annotated.of("status", "result", "cancel") if step.exchange.job and step.job_told]
    for step in named:
        if step.job_told != step.exchange.job:
            message = f"{label(step)} is for the job {step.exchange.job!r}; the response is about {step.job_told!r}"
            bound = (f"lifecycle.json#/operations/{step.role}/bindings/job",)
            found.append((step.role, Breach(message, bound, step.job_told)))
    return one_per_kind(found) if len(accepted) > 1 or named else None


def _repeats(annotated: AnnotatedTrace, first: Step, again: Step) -> bool:
    """Whether a submission may get another one's job: it has the same key, though not necessarily the same body."""
    place, key = annotated.contract.idempotency.key, annotated.key(first)
    if place is None:
        return False
    # A key in the body is part of it: equal bodies have the same key.
    if place.part != "header":
        return canonical(first.exchange.body) == canonical(again.exchange.body)
    return key is not None and key == annotated.key(again)


def unknown_refused(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find responses that show a job that does not exist, or refuse it in an undocumented way."""
    steps = conclusive_probes(annotated, "identity:unknown", "identity:malformed")
    return one_per_kind(pair for step in steps for pair in _unknown(annotated, step)) if steps else None


def _unknown(annotated: AnnotatedTrace, step: Step) -> Found:
    refusals = refused_as(annotated, step, "unknown_job")
    if refusals and step.ok:
        operation = operation_of(annotated, step)
        meant = find_situation(operation, "unknown_job")
        places = (home_of(annotated.contract, operation, meant.name),) if meant is not None else ()
        message = f"{label(step)}: the unknown job {step.exchange.job!r} gets {step.status}; documented: a refusal"
        yield (step.role, step.exchange.probe, "ok"), Breach(message, places, step.status)
    # A malformed id may be refused in any way (as a bad request, say): only a well-formed one shows the documented one.
    elif step.exchange.probe == "identity:unknown":
        yield from (((step.role, breach.places), breach) for breach in refusals)


def foreign_refused(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find responses to another account that show a job, or leak parts of it in a refusal."""
    steps = conclusive_probes(annotated, "identity:foreign")
    return one_per_kind(pair for step in steps for pair in _foreign(annotated, step)) if steps else None


def _foreign(annotated: AnnotatedTrace, step: Step) -> Found:
    refusals = refused_as(annotated, step, "foreign_job", ["unknown_job"])
    shown = _shown(annotated, step)
    if refusals and step.ok:
        message = f"{label(step)}: another account's key gets {step.status} for the job {step.exchange.job!r}"
        yield (step.role, "ok"), Breach(message, (), step.status)
    elif shown:
        message = f"{label(step)}: the refusal to another account leaks the job's {' and '.join(shown)}"
        yield (step.role, "leak"), Breach(message, (), list(shown))
    else:
        yield from (((step.role, breach.places), breach) for breach in refusals)


def _shown(annotated: AnnotatedTrace, step: Step) -> list[str]:
    """Return the parts of a job that a refusal leaks: its stage, its video, its prompt."""
    job = step.exchange.job
    others = [other for other in annotated.steps if other.job == job and other.exchange.probe != step.exchange.probe]
    stages = {other.stage for other in others if isinstance(other.stage, str)}
    # Without the query: a signed link has another signature each time.
    videos = {other.video.partition("?")[0] for other in others if other.video}
    prompts = {text for other in annotated.submits if other.job_told == job for text in _prompts(annotated, other)}
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


def _prompts(annotated: AnnotatedTrace, step: Step) -> Iterator[str]:
    """Yield the prompts of a submission that are long enough to be recognised."""
    body = message_of((), body_of(step))
    parameters = operation_of(annotated, step).model_parameters.get(body)
    for model in annotated.contract.models:
        for pointer in model.parameters.get("prompt", ()):
            found = resolve(parameters, pointer)
            if isinstance(found, str) and len(found) >= LEAST_TELLING:
                yield found


def listed(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Find accepted jobs that are missing from a complete list."""
    found = []
    seen = False
    for step in conclusive_probes(annotated, "identity:list"):
        jobs = [
            # A job accepted while the list was made may be missing in it.
            str(one.job_told)
            for one in annotated.submits
            if one.accepted and one.done < step.arrived and _ours(one)
        ]
        if not step.ok or not jobs:
            continue
        items = read_items(operation_of(annotated, step), message_of((), step.value))
        missing = [job for job in jobs if job not in {item.get("job") for item in items}]
        # On a paged list the job may be on another page.
        whole = _complete_list(step, len(items))
        seen = seen or whole or not missing
        if missing and whole:
            message = f"{label(step)}: a complete list of {len(items)} jobs lacks {missing[0]!r}"
            places = ("lifecycle.json#/operations/list/items", "lifecycle.json#/operations/list/situations/listed")
            found.append(("list", Breach(message, places, len(items))))
    return one_per_kind(found) if seen else None


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


def _lists_jobs(contract: Contract) -> bool:
    listing = contract.operations.get("list")
    return listing is not None and listing.items is not None and "job" in listing.items.bindings


RULES = (
    ServerRule(
        "IDN-01",
        "form",
        "MUST",
        "S3",
        "A job's id has the documented form.",
        "Ids are stored in columns as wide as documented, and put into paths unescaped.",
        form,
    ),
    ServerRule(
        "IDN-02",
        "unique",
        "MUST",
        "S1",
        "No two submissions get the same id, and a response is about the requested job.",
        "Two clients with one id get one video, and one of them paid for the other's.",
        unique,
    ),
    ServerRule(
        "IDN-03",
        "unknown-refused",
        "MUST",
        "S2",
        "An unknown id is refused, as documented.",
        "A client that resumes a lost job polls to its deadline, unless it gets a refusal.",
        unknown_refused,
    ),
    ServerRule(
        "IDN-04",
        "foreign-refused",
        "MUST",
        "S1",
        "Another account's job is refused, as documented or like an unknown one, and nothing of it is revealed.",
        "Anyone who guesses an id, or finds one in a log, sees another account's video.",
        foreign_refused,
    ),
    ServerRule(
        "IDN-05",
        "listed",
        "MUST",
        "S2",
        "A list has the accepted jobs.",
        "A client that lost an id looks for its job in the list before it submits it again.",
        listed,
        _lists_jobs,
    ),
)
