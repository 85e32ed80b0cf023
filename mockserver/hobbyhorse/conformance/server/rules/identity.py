"""Rules about ids: their form, whose they are, and what becomes of those that are nobody's; knows no server."""

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

LEAST_TELLING = 8
"""Characters that a prompt must have to be known again in another text."""


def form(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Hold the ids of accepted jobs against the documented form."""
    contract = annotated.contract
    told = [(step, job) for step in annotated.submits if step.accepted and (job := step.job_told)]
    found = []
    for step, job in told:
        prefix, pattern = contract.job_id_prefix, ID_PATTERNS.get(contract.job_id_form)
        if not job.startswith(prefix):
            message = f"{label(step)}: the job is {job!r}; ids begin with {prefix!r}"
            found.append(("prefix", Breach(message, ("lifecycle.json#/job_id/prefix",), job)))
        elif pattern is not None and not re.fullmatch(pattern, job[len(prefix) :], re.IGNORECASE):
            behind = f" behind {prefix!r}" if prefix else ""
            message = f"{label(step)}: the job is {job!r}; ids are {contract.job_id_form}{behind}"
            found.append(("form", Breach(message, ("lifecycle.json#/job_id/form",), job)))
    return one_per_kind(found) if told else None


def unique(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for orders of their own that were given one id, and for answers about another job than the one asked for."""
    found: list[tuple[Hashable, Breach]] = []
    owners: dict[str, Step] = {}
    accepted = [step for step in annotated.submits if step.accepted]
    for step in accepted:
        first = owners.setdefault(str(step.job_told), step)
        if first is not step and not _repeats(annotated, first, step):
            message = f"{label(step)} is given the job of {label(first)}, {step.job_told!r}"
            places = ("lifecycle.json#/idempotency/mode", responses_of(operation_of(annotated, step)))
            found.append((step.role, Breach(message, places, step.job_told)))
    named = [step for step in annotated.of("status", "result", "cancel") if step.exchange.job and step.job_told]
    for step in named:
        if step.job_told != step.exchange.job:
            message = f"{label(step)} asks for {step.exchange.job!r}; the answer is about {step.job_told!r}"
            bound = (f"lifecycle.json#/operations/{step.role}/bindings/job",)
            found.append((step.role, Breach(message, bound, step.job_told)))
    return one_per_kind(found) if len(accepted) > 1 or named else None


def _repeats(annotated: AnnotatedTrace, first: Step, again: Step) -> bool:
    """Whether a submission may be given the job of another one: it has its key, if not necessarily its body."""
    place, key = annotated.contract.idempotency.key, annotated.key(first)
    if place is None:
        return False
    if place.part != "header":
        return canonical(first.exchange.body) == canonical(again.exchange.body)
    return key is not None and key == annotated.key(again)


def unknown_refused(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for an answer about a job that does not exist, and for one that refuses it otherwise than documented."""
    steps = conclusive_probes(annotated, "identity:unknown", "identity:malformed")
    return one_per_kind(pair for step in steps for pair in _unknown(annotated, step)) if steps else None


def _unknown(annotated: AnnotatedTrace, step: Step) -> Found:
    refusals = refused_as(annotated, step, "unknown_job")
    if refusals and step.ok:
        operation = operation_of(annotated, step)
        meant = find_situation(operation, "unknown_job")
        places = (home_of(annotated.contract, operation, meant.name),) if meant is not None else ()
        message = f"{label(step)}: nobody's job {step.exchange.job!r} is answered with {step.status}"
        yield (step.role, step.exchange.probe, "ok"), Breach(message, places, step.status)
    elif step.exchange.probe == "identity:unknown":
        yield from (((step.role, breach.places), breach) for breach in refusals)


def foreign_refused(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for an answer to a stranger that shows a job, or that says anything of it in refusing."""
    steps = conclusive_probes(annotated, "identity:foreign")
    return one_per_kind(pair for step in steps for pair in _foreign(annotated, step)) if steps else None


def _foreign(annotated: AnnotatedTrace, step: Step) -> Found:
    refusals = refused_as(annotated, step, "foreign_job", ["unknown_job"])
    shown = _shown(annotated, step)
    if refusals and step.ok:
        message = f"{label(step)}: a stranger's key is answered with {step.status} about the job {step.exchange.job!r}"
        yield (step.role, "ok"), Breach(message, (), step.status)
    elif shown:
        message = f"{label(step)}: a stranger is refused, and told the {' and the '.join(shown)} of the job"
        yield (step.role, "leak"), Breach(message, (), list(shown))
    else:
        yield from (((step.role, breach.places), breach) for breach in refusals)


def _shown(annotated: AnnotatedTrace, step: Step) -> list[str]:
    """Return what a refusal says of the job that it refuses to show: its stage, its video, its prompt."""
    job = step.exchange.job
    others = [other for other in annotated.steps if other.job == job and other.exchange.probe != step.exchange.probe]
    stages = {other.stage for other in others if isinstance(other.stage, str)}
    videos = {other.video.partition("?")[0] for other in others if other.video}
    prompts = {text for other in annotated.submits if other.job_told == job for text in _prompts(annotated, other)}
    texts = list(_texts(step.value)) or [step.exchange.answer.decode(errors="replace")]
    told = {
        "stage": step.reading.values.get("stage") in stages,
        "video": any(video in text for video in videos for text in texts),
        "prompt": any(prompt in text for prompt in prompts for text in texts),
    }
    return [name for name, said in told.items() if said]


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _prompts(annotated: AnnotatedTrace, step: Step) -> Iterator[str]:
    """Yield the prompts that a submission may have, long enough to be known again."""
    body = message_of((), body_of(step))
    parameters = operation_of(annotated, step).model_parameters.get(body)
    for model in annotated.contract.models:
        for pointer in model.parameters.get("prompt", ()):
            found = resolve(parameters, pointer)
            if isinstance(found, str) and len(found) >= LEAST_TELLING:
                yield found


def listed(annotated: AnnotatedTrace) -> list[Breach] | None:
    """Look for accepted jobs that a list, shown to its end, does not have."""
    found = []
    seen = False
    for step in conclusive_probes(annotated, "identity:list"):
        jobs = [
            str(one.job_told) for one in annotated.submits if one.accepted and one.done < step.arrived and _ours(one)
        ]
        if not step.ok or not jobs:
            continue
        items = read_items(operation_of(annotated, step), message_of((), step.value))
        missing = [job for job in jobs if job not in {item.get("job") for item in items}]
        whole = _whole(step, len(items))
        seen = seen or whole or not missing
        if missing and whole:
            message = f"{label(step)}: {len(items)} jobs, and {missing[0]!r} is none of them"
            places = ("lifecycle.json#/operations/list/items", "lifecycle.json#/operations/list/situations/listed")
            found.append(("list", Breach(message, places, len(items))))
    return one_per_kind(found) if seen else None


def _ours(step: Step) -> bool:
    return not (step.exchange.probe or "").startswith(("auth:", "identity:"))


def _whole(step: Step, items: int) -> bool:
    """Whether a list says that it is all there is: as many as there are, fewer than fit, or no page beside it."""
    said = step.reading.values
    total, size, page = (_count(said.get(name)) for name in ("total", "size", "page"))
    if total is not None or size is not None:
        return (total is not None and total <= items) or (size is not None and items < size and page in (None, 1))
    return step.valid and not {"next_cursor", "previous_cursor", "offset"} & set(said)


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
        "Ids are kept in columns that are as wide as documented, and stand in paths as they are.",
        form,
    ),
    ServerRule(
        "IDN-02",
        "unique",
        "MUST",
        "S1",
        "No two orders are given one id, and an answer is about the job that was asked for.",
        "Two who are given one id are given one film, and one of them has paid for the other's.",
        unique,
    ),
    ServerRule(
        "IDN-03",
        "unknown-refused",
        "MUST",
        "S2",
        "An id that nobody has is refused, as documented.",
        "A client that resumes a job which is gone polls to its deadline, unless it is told.",
        unknown_refused,
    ),
    ServerRule(
        "IDN-04",
        "foreign-refused",
        "MUST",
        "S1",
        "Another key's job is refused, as documented or as one that nobody has, and nothing of it is told.",
        "Whoever guesses an id, or finds one in a log, sees somebody else's film.",
        foreign_refused,
    ),
    ServerRule(
        "IDN-05",
        "listed",
        "MUST",
        "S2",
        "A list has the jobs that were accepted.",
        "A client that has lost an id looks for its job there before it orders it again.",
        listed,
        _lists_jobs,
    ),
)
