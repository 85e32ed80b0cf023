"""Lint: check a folder against every requirement of contracts/README.md, with a table of checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hobbyhorse.contract.checks import callbacks, documents, examples, models, places, situations, stages, terms, values
from hobbyhorse.contract.checks.documents import KEYWORDS
from hobbyhorse.contract.checks.subject import ContractCheck, DocumentCheck, Documents, Problem, Subject
from hobbyhorse.contract.documents.marks import MARK, unmarked
from hobbyhorse.contract.documents.operations import LIFECYCLE, OPENAPI
from hobbyhorse.contract.folder import (
    ContractError,
    build,
    data_directory,
    find_folders,
    load,
    other_format,
    read_documents,
)
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, parse_pointer, resolve
from hobbyhorse.contract.values import Contract, Situation

__all__ = ["CHECKS", "DOCUMENT_CHECKS", "KEYWORDS", "Problem", "lint", "lint_directory", "lint_documents"]

DOCUMENT_CHECKS: tuple[DocumentCheck, ...] = (
    documents.folder_name,
    documents.files,
    documents.repeated_members,
    documents.openapi_version,
    documents.marks,
    documents.shapes,
    documents.reference_targets,
    documents.bodies,
    documents.operation_ids,
    documents.keywords,
    documents.valid_schemas,
    documents.usable_schemas,
    documents.used_models,
)
"""Checks of the files, which must pass before a contract can be built from them."""

CHECKS: tuple[ContractCheck, ...] = (
    examples.servers,
    examples.security,
    examples.schema_examples,
    examples.examples,
    examples.used_examples,
    stages.ways,
    stages.happy_way,
    stages.lengths,
    stages.cancelling,
    situations.needed_situations,
    situations.covered_stages,
    situations.first_stage,
    situations.conditions,
    situations.stage_words,
    situations.common_situations,
    situations.headers,
    values.names,
    values.formats,
    places.routes,
    places.path_parameters,
    places.request_places,
    places.condition_places,
    places.forms,
    places.idempotency,
    places.response_sides,
    places.response_places,
    places.locations,
    places.overlaps,
    places.needed_places,
    places.copies,
    places.links,
    places.lists,
    places.item_places,
    places.paging,
    models.model_names,
    models.model_schemas,
    models.parameter_types,
    models.needed_parameters,
    models.known_parameters,
    models.limits,
    models.prices,
    models.body_examples,
    models.form_targets,
    callbacks.callback_address,
    callbacks.callback_situations,
    callbacks.callback_places,
    callbacks.signature,
    terms.times,
    terms.job_ids,
    terms.key_form,
    terms.assumptions,
    terms.variants,
    terms.clients,
)
"""Checks of a contract and of each of its variants."""


def lint_directory(directory: Path | None = None) -> tuple[list[Path], list[Problem]]:
    """Lint every provider's folder in a directory; return the folders and their problems."""
    directory = directory or data_directory("contracts")
    folders = find_folders(directory)
    if not folders:
        return [], [Problem(directory, "", f"contains no contract; a contract is a folder with a {LIFECYCLE}")]
    problems = [problem for folder in folders for problem in lint(folder)]
    # A folder with other problems may not load, so its hosts cannot be read.
    return folders, problems or list(_shared_hosts(folders))


def _shared_hosts(folders: list[Path]) -> Iterator[Problem]:
    """Yield a problem for every host of several providers: a request to that host would be ambiguous."""
    seen: dict[str, str] = {}
    for folder in folders:
        for host in load(folder).hosts:
            if host in seen:
                message = f"the host {host!r} already belongs to {seen[host]!r}; use a host of this provider only"
                yield Problem(folder / OPENAPI, "/servers", message)
            seen[host] = folder.name


def lint(folder: Path) -> list[Problem]:
    """Lint one folder, including each variant."""
    try:
        return lint_documents(Documents(folder, read_documents(folder)))
    except ContractError as error:
        return [Problem(error.path, error.pointer, error.reason)]


def lint_documents(found: Documents) -> list[Problem]:
    """Lint the documents of one folder. The message of a problem in only one variant names that variant."""
    if older := list(other_format(found.folder, found.files)):
        return [Problem(found.folder / file, format_pointer(tuple(map(str, at))), reason) for file, at, reason in older]
    clean, marks, malformed = unmarked(found.files)
    bare = Documents(found.folder, clean, tuple(marks), tuple(malformed))
    # A contract built from broken files would have many problems that only repeat the first.
    if problems := [problem for check in DOCUMENT_CHECKS for problem in check(bare)]:
        return problems
    try:
        base = build(found.folder, found.files)
    except ContractError as error:
        return [_written(bare, None, Problem(error.path, error.pointer, error.reason))]
    readings = [("", base)]
    for variant in base.variants:
        try:
            readings.append((f"with variant {variant.name}: ", build(found.folder, found.files, [variant.name])))
        except ContractError as error:
            problem = Problem(error.path, error.pointer, f"with variant {variant.name}: {error.reason}")
            problems.append(_written(bare, base, problem))
    if problems:
        return problems
    # Some checks accept a value in any variant, because an example may exist for only one variant.
    family = tuple(contract for _, contract in readings)
    for which, contract in readings:
        for problem in [problem for check in CHECKS for problem in check(Subject(bare, contract, family))]:
            told = _written(bare, contract, problem)
            # A problem of the base contract appears in every variant too; report it once, without a variant's name.
            if told not in problems:
                problems.append(Problem(told.path, told.pointer, which + told.message))
    return problems


def _written(found: Documents, contract: Contract | None, problem: Problem) -> Problem:
    """Return a problem at a place that exists in the folder's files, even if the problem's own place is only implied.

    The place of an implied situation is its example. For any other member, it is the object that leaves the member out.
    """
    file = problem.path.relative_to(found.folder).as_posix() if problem.path != found.folder else ""
    pointer = parse_pointer(problem.pointer)
    document = found.files.get(file, MISSING)
    # Marks are removed from the checked documents, but they exist in the folder's files.
    if document is MISSING or MARK in pointer or resolve(document, pointer) is not MISSING:
        return problem
    if file == LIFECYCLE and contract is not None and (shown := _implied(found, contract, pointer)) is not None:
        place = parse_pointer(shown.example_at.partition("#")[2])[:-1]
        return Problem(found.folder / OPENAPI, format_pointer(place), problem.message)
    there = next(end for end in range(len(pointer), -1, -1) if resolve(document, pointer[:end]) is not MISSING)
    return Problem(problem.path, format_pointer(pointer[:there]), problem.message)


def _implied(found: Documents, contract: Contract, pointer: Pointer) -> Situation | None:
    """Return the situation at a place of the completed lifecycle.json, or None if the file itself names it."""
    named = pointer[: pointer.index("situations") + 2] if "situations" in pointer else ()
    if resolve(found.files[LIFECYCLE], named) is not MISSING:
        return None
    match pointer:
        case ("operations", role, "situations", name, *_) if role in contract.operations:
            return contract.operations[role].situations.get(name)
        case ("situations", name, *_):
            every = [operation.situations for operation in contract.operations.values()]
            return next((situations[name] for situations in every if name in situations), None)
        case ("callbacks", "situations", name, *_) if contract.callbacks is not None:
            return contract.callbacks.situations.get(name)
    return None
