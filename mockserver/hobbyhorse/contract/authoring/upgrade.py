"""Rewrite a contract of format 1 in format 2 without changing its meaning.

The rewriter has no list of defaults. It works by trial: it renames an example after its situation, or leaves out a
member of lifecycle.json. Then it builds the contract and each variant from the result, and keeps the step if they equal
the original's. So a default that is added to the format is used here without a code change, and a step that would
change the meaning is never taken. Marks are placed last, because they are relative to the remaining members.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hobbyhorse.contract.authoring.layout import laid_out, write_all
from hobbyhorse.contract.documents.defaults import complete
from hobbyhorse.contract.documents.marks import Mark, mark_for, marked
from hobbyhorse.contract.documents.operations import (
    JSON_BODY,
    LIFECYCLE,
    OPENAPI,
    declared_operations,
    examples_at,
    json_content,
)
from hobbyhorse.contract.folder import FORMAT, ContractError, build_whole, misshapen, read_documents
from hobbyhorse.contract.forms.expressions import (
    MISSING,
    ExpressionError,
    Pointer,
    format_pointer,
    parse,
    parse_pointer,
    replaced,
    resolve,
)
from hobbyhorse.contract.message import Template
from hobbyhorse.contract.references import broken_references
from hobbyhorse.contract.values import Contract, Situation

KEPT = frozenset({"$schema", "format", "assumptions", "variants", "documents", "clients"})
"""Members of lifecycle.json that are never left out."""

# Enough words to distinguish the reasons in the project's contracts, and few enough to remember.
WORDS_IN_A_KEY = 4

SMALL_WORDS = frozenset(
    {
        *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "from", "in", "is", "it", "its", "not", "of"),
        *("on", "or", "that", "the", "this", "to", "what", "which", "with", "how", "who", "whether", "these", "their"),
    }
)
"""Words that carry no meaning in the key of a reason."""

Documents = dict[str, Any]


class UpgradeError(ValueError):
    """A folder cannot be rewritten. The message has the place, the reason and the repair."""


def upgrade_folder(folder: Path) -> bool:
    """Rewrite a folder in the current format; return whether it had an older format. Raises UpgradeError.

    A folder in the current format is not written at all.
    """
    try:
        documents = read_documents(folder)
    except ContractError as error:
        raise UpgradeError(str(error)) from None
    if isinstance(documents[LIFECYCLE], dict) and documents[LIFECYCLE].get("format") == FORMAT:
        return False
    # Unchanged files are not written, so that they keep their modification times and layout.
    changed = upgraded(folder, documents)
    write_all(folder, {file: laid_out(document) for file, document in changed.items() if document != documents[file]})
    return True


def upgraded(folder: Path, documents: Mapping[str, Any]) -> Documents:
    """Return the documents of a format 1 folder in format 2. Raises UpgradeError."""
    lifecycle = documents[LIFECYCLE]
    if not isinstance(lifecycle, dict) or not isinstance(lifecycle.get("assumptions"), list):
        raise UpgradeError(f"{folder / LIFECYCLE} has neither format 1 nor format {FORMAT}")
    try:
        reasons = _reasons(folder, lifecycle)
        plain = _plain(documents, {key: why for key, why, _ in reasons})
        for file, location, reason in (*misshapen(plain), *broken_references(_without(plain, LIFECYCLE))):
            place = format_pointer(tuple(map(str, location)))
            raise UpgradeError(f"{folder / file}#{place}: {reason}; repair this first")
        search = _Search(folder, plain)
        current = search.minimal(search.renamed(search.start()))
        places = {key: [search.moved(at) for at in found] for key, _, found in reasons}
        current, marks = _marks(current, places)
        current = {**current, LIFECYCLE: _in_order(current[LIFECYCLE], plain[LIFECYCLE])}
    except ContractError as error:
        raise UpgradeError(f"{error}; repair this first") from None
    except ExpressionError as error:
        raise UpgradeError(f"{folder / LIFECYCLE}: {error}; repair this first") from None
    return marked(current, marks)


def _in_order(value: Any, original: Any) -> Any:
    """Return a value with its members in the original's order, and new members last."""
    if not isinstance(value, dict) or not isinstance(original, dict):
        return value
    names = [*(name for name in original if name in value), *(name for name in value if name not in original)]
    return {name: _in_order(value[name], original.get(name)) for name in names}


def _without(documents: Mapping[str, Any], name: str) -> Documents:
    return {file: document for file, document in documents.items() if file != name}


# ---- the original


def _reasons(folder: Path, lifecycle: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Return key, reason and places of each assumption. The key of a variant's assumption is the variant's name."""
    found: list[tuple[str, str, list[str]]] = []
    taken = set(lifecycle.get("variants", {}))
    for index, item in enumerate(lifecycle["assumptions"]):
        at = f"{folder / LIFECYCLE}#/assumptions/{index}"
        if not isinstance(item, dict) or not isinstance(item.get("why"), str) or not isinstance(item.get("at"), list):
            raise UpgradeError(f"{at} is not an object with `at` and `why`; repair this first")
        variant = item.get("variant")
        if variant is not None and any(key == variant for key, _, _ in found):
            raise UpgradeError(f"{at}/variant: {variant!r} already belongs to another assumption; join the two first")
        key = variant if variant is not None else _new_key(item["why"], taken)
        taken.add(key)
        found.append((key, item["why"], list(map(str, item["at"]))))
    return found


def _new_key(why: str, taken: set[str]) -> str:
    """Return an unused key made from the first significant words of a reason."""
    words = [word for word in re.findall(r"[a-z0-9]+", why.lower()) if word not in SMALL_WORDS]
    stem = "-".join(words[:WORDS_IN_A_KEY]) or "assumed"
    numbered = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 2))
    return next(key for key in numbered if key not in taken)


def _plain(documents: Mapping[str, Any], reasons: Mapping[str, str]) -> Documents:
    """Return the documents with format 2's renamed and dropped members; nothing else is left out yet."""
    given = documents[LIFECYCLE]
    lifecycle = {"$schema": given["$schema"]} if "$schema" in given else {}
    lifecycle |= {"format": FORMAT, **{name: one for name, one in given.items() if name not in lifecycle}}
    lifecycle["assumptions"] = dict(reasons)
    if isinstance(callbacks := given.get("callbacks"), dict) and isinstance(callbacks.get("signature"), dict):
        # Format 1 had only one scheme, so format 2 has no member for it.
        signature = {name: one for name, one in callbacks["signature"].items() if name != "scheme"}
        lifecycle["callbacks"] = {**callbacks, "signature": signature}
    return {**documents, LIFECYCLE: lifecycle}


# ---- the search


class _Search:
    """Searches for shorter documents with the same meaning as the complete ones."""

    def __init__(self, folder: Path, plain: Documents) -> None:
        self.folder = folder
        self.plain = plain
        self.variants = list(plain[LIFECYCLE].get("variants", {}))
        # Built without completion: a default of format 2 must not change the meaning of format 1.
        self.wanted = self._meaning(_filled(plain))
        self.renames: list[tuple[Pointer, str, str]] = []

    def _meaning(self, whole: Documents) -> list[Contract]:
        """Return the contract and its variants, with every example's address replaced by the example."""
        return [
            _by_value(build_whole(self.folder, whole, (), variant))
            for variant in ([], *([one] for one in self.variants))
        ]

    def keeps(self, documents: Documents) -> bool:
        """Whether documents have the meaning of the original."""
        # The builder trusts the shape, so a wrong shape would raise an exception other than ContractError.
        if any(misshapen(documents)):
            return False
        try:
            return self._meaning(complete(documents)) == self.wanted
        except ContractError:
            return False

    def start(self) -> Documents:
        """Return the documents with additions that override the defaults of format 2. Raises UpgradeError."""
        documents = self.plain
        lifecycle = documents[LIFECYCLE]
        whole = complete(documents)[LIFECYCLE]
        accepted = ("operations", "submit", "situations", "accepted")
        if "stages" not in (resolve(lifecycle, accepted) or {}):
            lifecycle = replaced(lifecycle, (*accepted, "stages"), [])
        roles = [("operations", role) for role in lifecycle["operations"]]
        for at in (*roles, ("operations", "list", "items"), ("callbacks",)):
            derived, given = (resolve(one, (*at, "bindings")) for one in (whole, lifecycle))
            if isinstance(resolve(lifecycle, at), dict):
                for name in (name for name in derived or () if name not in (given or ())):
                    lifecycle = replaced(lifecycle, (*at, "bindings", name), None)
        documents = self._unimplied({**documents, LIFECYCLE: lifecycle})
        if not self.keeps(documents):
            problem = "an example or a parameter has a name that has a meaning in format 2"
            raise UpgradeError(f"{self.folder / LIFECYCLE}: {problem}; rename it first")
        return documents

    def _unimplied(self, documents: Documents) -> Documents:
        """Rename each example that format 2 would read as a situation that the operation did not have in format 1."""
        contract = build_whole(self.folder, complete(documents))
        for role, operation in contract.operations.items():
            for name, situation in operation.situations.items():
                content = parse_pointer(situation.example_at.partition("#")[2])[:-3]
                shown = examples_at(documents[OPENAPI], content)
                new = f"{name}_example"
                if name not in self.wanted[0].operations[role].situations and name in shown and new not in shown:
                    documents = _rename_example(documents, [content], name, new)
                    self.renames.append((content, name, new))
        return documents

    def renamed(self, documents: Documents) -> Documents:
        """Rename examples after their situations if the new name lets lifecycle.json leave something out."""
        for location, contents in _situations(documents):
            spec = resolve(documents[LIFECYCLE], location)
            name, old = location[-1], spec["example"]
            # An example that is named after one of its situations keeps that name.
            named = {at[-1] for at, shown in _situations(documents) if set(shown) & set(contents)} & {old}
            if named or any(name in examples_at(documents[OPENAPI], content) for content in contents):
                continue
            # Best is to leave out the situation's entry; a shorter entry is still better than the old name.
            trial = _rename_example(documents, contents, old, name)
            without = {**trial, LIFECYCLE: replaced(trial[LIFECYCLE], location, MISSING)}
            if self.keeps(without) or self.keeps(trial):
                documents = without if self.keeps(without) else trial
                self.renames += [(content, old, name) for content in contents]
        return documents

    def minimal(self, documents: Documents) -> Documents:
        """Leave out every member of lifecycle.json that the rest implies, outer members first.

        In openapi.json, leave out implied examples of a submission and implied items of a list.
        """
        for place, shorter in list(_implied_examples(documents)):
            trial = {**documents, OPENAPI: replaced(documents[OPENAPI], place, shorter)}
            without = replaced(trial[LIFECYCLE], ("operations", "list", "items", "stages"), MISSING)
            for smaller in ({**trial, LIFECYCLE: without} if "list" in without["operations"] else trial, trial):
                if self.keeps(smaller):
                    documents = smaller
                    break
        for pointer in list(_members(documents[LIFECYCLE])):
            if resolve(documents[LIFECYCLE], pointer) is MISSING:
                continue
            for shorter in _shorter(resolve(documents[LIFECYCLE], pointer)):
                trial = {**documents, LIFECYCLE: replaced(documents[LIFECYCLE], pointer, shorter)}
                if self.keeps(trial):
                    documents = trial
                    break
        return documents

    def moved(self, at: str) -> tuple[str, Pointer]:
        """Return the file and pointer of an assumed place, after examples were renamed."""
        file, _, text = at.partition("#")
        pointer = parse_pointer(text)
        for content, old, new in self.renames if file == OPENAPI else ():
            start = (*content, "examples")
            if pointer[: len(start) + 1] == (*start, old):
                pointer = (*start, new, *pointer[len(start) + 1 :])
        return file, pointer


def _filled(plain: Documents) -> Documents:
    """Return documents of format 1 with its few optional members filled in."""
    lifecycle = plain[LIFECYCLE]
    callbacks = lifecycle.get("callbacks")
    if callbacks:
        signature = callbacks.get("signature")
        filled = signature and {"encoding": "hex", "secret": "text", "tolerance": None, **signature}
        lifecycle = {**lifecycle, "callbacks": {"growing": False, **callbacks, "signature": filled}}
    return {**plain, LIFECYCLE: lifecycle}


def _by_value(contract: Contract) -> Contract:
    """Return a contract that compares equal to another with the same examples at other addresses."""

    def shown(situations: Mapping[str, Situation]) -> dict[str, Situation]:
        return {
            name: replace(one, example_at="", template=_ordered(one.template), items=tuple(map(_ordered, one.items)))
            for name, one in situations.items()
        }

    callbacks = contract.callbacks
    return replace(
        contract,
        operations={
            role: replace(
                operation,
                situations=shown(operation.situations),
                body_examples={str(at): one for at, one in enumerate(operation.body_examples.values())},
            )
            for role, operation in contract.operations.items()
        },
        unrouted=shown(contract.unrouted),
        callbacks=callbacks and replace(callbacks, situations=shown(callbacks.situations)),
        assumptions=(),
    )


def _ordered(template: Template) -> Template:
    """Return a template with its places sorted, so that templates that differ only in order compare equal."""
    return replace(template, bound=sorted(template.bound, key=repr))


def _situations(documents: Documents) -> list[tuple[Pointer, list[Pointer]]]:
    """Return the place of every situation of lifecycle.json, with the media type objects that have its example."""
    lifecycle, openapi = documents[LIFECYCLE], documents[OPENAPI]
    known = {found.spec.get("operationId"): found for found in declared_operations(openapi)}
    operations = {role: known[spec["operationId"]] for role, spec in lifecycle["operations"].items()}
    found: list[tuple[Pointer, list[Pointer]]] = []

    def showing(roles: Iterable[str], spec: Mapping[str, Any]) -> list[Pointer]:
        contents = [json_content(openapi, operations[role], spec.get("status", 0)) for role in roles]
        shown = [at for at in contents if at and spec["example"] in examples_at(openapi, at)]
        return list(dict.fromkeys(shown))

    for name, spec in lifecycle.get("situations", {}).items():
        found.append((("situations", name), showing(operations, spec)))
    for role, operation in lifecycle["operations"].items():
        for name, spec in operation.get("situations", {}).items():
            found.append((("operations", role, "situations", name), showing([role], spec)))
    for name, spec in lifecycle.get("unrouted", {}).items():
        found.append((("unrouted", name), [("components", "responses", spec["response"], *JSON_BODY)]))
    if callbacks := lifecycle.get("callbacks"):
        content = (*known[callbacks["operationId"]].pointer, "requestBody", *JSON_BODY)
        found += [(("callbacks", "situations", name), [content]) for name in callbacks["situations"]]
    return found


def _rename_example(documents: Documents, contents: list[Pointer], old: str, new: str) -> Documents:
    """Rename an example in some media type objects, and in the situations of lifecycle.json that name it."""
    lifecycle, openapi = documents[LIFECYCLE], documents[OPENAPI]
    for location, shown in _situations(documents):
        if set(shown) & set(contents) and resolve(lifecycle, (*location, "example")) == old:
            lifecycle = replaced(lifecycle, (*location, "example"), new)
    for content in contents:
        examples = {new if name == old else name: one for name, one in examples_at(openapi, content).items()}
        openapi = replaced(openapi, (*content, "examples"), examples)
    return {**documents, LIFECYCLE: lifecycle, OPENAPI: openapi}


def _implied_examples(documents: Documents) -> Iterator[tuple[Pointer, Any]]:
    """Yield places of openapi.json with a shorter value: no submission examples, or only a list's first item."""
    lifecycle, openapi = documents[LIFECYCLE], documents[OPENAPI]
    known = {found.spec.get("operationId"): found for found in declared_operations(openapi)}
    for role in ("submit", "run"):
        if role in lifecycle["operations"]:
            place = (*known[lifecycle["operations"][role]["operationId"]].pointer, "requestBody", *JSON_BODY)
            yield (*place, "examples"), MISSING
    listing = lifecycle["operations"].get("list")
    if listing and "items" in listing:
        at = parse(listing["items"]["at"]).pointer
        for location, contents in _situations({**documents, LIFECYCLE: complete(documents)[LIFECYCLE]}):
            if location[:2] == ("operations", "list"):
                for content in contents:
                    for name in examples_at(openapi, content):
                        place = (*content, "examples", name, "value", *at)
                        if isinstance(shown := resolve(openapi, place), list) and len(shown) > 1:
                            yield place, shown[:1]


def _shorter(value: Any) -> Iterator[Any]:
    """Yield shorter replacements of a value: MISSING, then a binding without one of its places."""
    # MISSING comes first, because the caller keeps the first replacement with the same meaning.
    yield MISSING
    if isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) for item in value):
        for index in range(len(value)):
            rest = value[:index] + value[index + 1 :]
            yield rest[0] if len(rest) == 1 else rest


def _members(value: Any, pointer: Pointer = ()) -> Iterator[Pointer]:
    """Yield the place of every member of an object, outer members first."""
    if isinstance(value, dict):
        for name, item in value.items():
            if pointer or name not in KEPT:
                yield (*pointer, name)
                yield from _members(item, (*pointer, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _members(item, (*pointer, str(index)))


# ---- the marks


def _marks(documents: Documents, places: Mapping[str, list[tuple[str, Pointer]]]) -> tuple[Documents, list[Mark]]:
    """Return the documents with every object that needs a mark, and the marks of the assumed places."""
    whole = complete(documents)
    homes = {key: [home for at in found for home in _homes(whole, *at)] for key, found in places.items()}
    lifecycle = documents[LIFECYCLE]
    for _, pointer in (at for found in homes.values() for at in found if at[0] == LIFECYCLE):
        # A situation that is left out is marked in the object that would contain it.
        above = pointer[: pointer.index("situations") + 1] if "situations" in pointer[:-1] else ()
        if above and resolve(lifecycle, above) is MISSING:
            lifecycle = replaced(lifecycle, above, {})
    documents = {**documents, LIFECYCLE: lifecycle}
    marks: dict[tuple[str, Pointer], Mark] = {}
    for key, found in homes.items():
        for file, pointer in found:
            if file not in documents:
                raise UpgradeError(
                    f"{LIFECYCLE}: an assumption is about {file!r}, which is not in the folder; repair this first"
                )
            if (file, pointer) in marks:
                both = f"{marks[file, pointer].reason!r} and {key!r}"
                raise UpgradeError(f"{file}#{format_pointer(pointer)} has two reasons, {both}; join them first")
            marks[file, pointer] = mark_for(file, documents[file], pointer, key)
    return documents, list(marks.values())


def _homes(whole: Documents, file: str, pointer: Pointer) -> list[tuple[str, Pointer]]:
    """Return the places in format 2 of a situation that format 1 had in one operation, or in all operations."""
    if file != LIFECYCLE or resolve(whole[LIFECYCLE], pointer) is not MISSING:
        return [(file, pointer)]
    roles = whole[LIFECYCLE]["operations"]
    elsewhere = [pointer[2:]] if pointer[:1] == ("operations",) else [("operations", role, *pointer) for role in roles]
    there = [at for at in elsewhere if resolve(whole[LIFECYCLE], at) is not MISSING]
    if not there:
        raise UpgradeError(
            f"{LIFECYCLE}: an assumption is about #{format_pointer(pointer)}, which does not exist; repair this first"
        )
    return [(file, at) for at in there]
