"""Checks of times, ids, keys, assumptions, variants and clients."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from random import Random

import jsonschema_rs

from hobbyhorse.contract.checks.callbacks import fields
from hobbyhorse.contract.checks.subject import Problem, Subject
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve
from hobbyhorse.contract.forms.ids import ID_FORMS

GIVEN = ("url", "key", "secret")


def times(subject: Subject) -> Iterator[Problem]:
    """The polling intervals do not decrease, and retention is not negative."""
    polling, retention = subject.contract.polling, subject.contract.retention
    if not polling.least_interval <= polling.typical_interval <= polling.longest_wait:
        got = f"{polling.least_interval}, {polling.typical_interval}, {polling.longest_wait}"
        message = f"least_interval, typical_interval and longest_wait are {got}; they must not decrease"
        yield subject.problem(message, "polling")
    for name, life in (("job", retention.job), ("result_url", retention.result_url)):
        if life is not None and life < 0:
            yield subject.problem(f"is {life} seconds; allowed: 0 or more, or null for forever", "retention", name)


def job_ids(subject: Subject) -> Iterator[Problem]:
    """An id in the contract's `job_id` format is valid against every schema of a job's id."""
    contract = subject.contract
    # The fake invents ids; a schema that rejects them would reject every response of the fake.
    job = contract.job_id_prefix + ID_FORMS[contract.job_id_form](Random(0), 0.0)
    for operation in contract.operations.values():
        if (binding := operation.bindings.get("job")) is None:
            continue
        places = [place for place in binding.request if place.part == "path"]
        shown = [(known.schema, job) for known in operation.parameters if known.place in places]
        for situation in operation.situations.values():
            body = example = subject.example(situation)
            for place in binding.response:
                if place.part == "body" and resolve(body, place.pointer) is not MISSING:
                    body = replaced(body, place.pointer, job)
            # An example that is invalid by itself is reported elsewhere.
            if not subject.schemas.violations(situation.schema, example, most=1):
                shown.append((situation.schema, body))
        for address, value in shown:
            for violation in subject.schemas.violations(address, value, most=1):
                message = f"with the id {job!r}, {operation.operation_id} violates {address}: {violation}"
                yield subject.problem(message, "job_id")
                return


def assumptions(subject: Subject) -> Iterator[Problem]:
    """Every mark is on an existing member and has a known reason, and every reason has a mark."""
    reasons = subject.lifecycle["assumptions"]
    base = subject.family[0].schemas  # a variant may remove a marked place
    for mark in subject.documents.marks:
        if mark.reason not in reasons:
            near = difflib.get_close_matches(mark.reason, reasons, 1)
            message = f"no assumption has the key {mark.reason!r}" + (f"; is it {near[0]!r}?" if near else "")
            yield subject.problem(message, *mark.at, file=mark.file)
        if resolve(base.document(mark.file), mark.pointer) is MISSING:
            yield subject.problem("marks a member that does not exist", *mark.at, file=mark.file)
    used = {mark.reason for mark in subject.documents.marks}
    for key in reasons:
        if key not in used:
            yield subject.problem("no member is marked with this key; mark one, or delete it", "assumptions", key)


def variants(subject: Subject) -> Iterator[Problem]:
    """Every variant has the name of the assumption to which it is the alternative."""
    for variant in subject.contract.variants:
        if variant.name not in subject.lifecycle["assumptions"]:
            yield subject.problem("no assumption has the key of this name; add one", "variants", variant.name)


def key_form(subject: Subject) -> Iterator[Problem]:
    """The pattern of an API key is a regular expression in Python and in Rust, and the example matches it."""
    form = subject.contract.key_form
    if form is None:
        return
    try:
        matches = re.fullmatch(form.pattern, form.example)
        jsonschema_rs.Draft202012Validator({"pattern": form.pattern})
    except (re.error, ValueError) as error:
        message = f"{form.pattern!r} is not a regular expression: {str(error).splitlines()[0]}"
        yield subject.problem(message, "key_form", "pattern")
        return
    if matches is None:
        yield subject.problem(f"{form.example!r} does not match {form.pattern!r}", "key_form", "example")


def clients(subject: Subject) -> Iterator[Problem]:
    """A client's texts contain only {url}, {key} and {secret} in braces."""
    for index, client in enumerate(subject.contract.clients):
        texts: list[tuple[Pointer, str]] = [(("environment", name), text) for name, text in client.environment.items()]
        for steps, text in [*texts, (("code",), client.code or "")]:
            for name in fields(text):
                if name not in GIVEN:
                    message = f"{name!r} is not one of {{url}}, {{key}}, {{secret}}; double other braces"
                    yield subject.problem(message, "clients", index, *steps)
