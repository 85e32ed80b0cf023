"""Format 1 rewritten in format 2: the same meaning in fewer words, and a refusal of what cannot be rewritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.contract.authoring.upgrade import UpgradeError, upgrade_folder, upgraded
from hobbyhorse.contract.folder import ContractError, build, load, read_documents
from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer, replaced, resolve
from hobbyhorse.contract.lint import lint
from hobbyhorse.contract.values import Contract
from tests import specimen

OLD = specimen.DIRECTORY / "format-1" / "acme"
L = "lifecycle.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "acme"))


@pytest.fixture(scope="module")
def new() -> dict[str, Any]:
    return upgraded(OLD, read_documents(OLD))


@pytest.fixture(scope="module")
def contract(new: dict[str, Any]) -> Contract:
    return build(OLD, new)


def size(documents: dict[str, Any]) -> int:
    return sum(len(json.dumps(document, separators=(",", ":"))) for document in documents.values())


# ---- the meaning


def situations(documents: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield role, name and facts of every situation that an operation of a format 1 folder names itself."""
    for role, operation in documents[L]["operations"].items():
        for name, facts in operation["situations"].items():
            yield role, name, facts


def examples(value: Any, name: str) -> list[Any]:
    """Return every example of a name in openapi.json."""
    if not isinstance(value, dict):
        return []
    found = [value["examples"][name]["value"]] if name in value.get("examples", {}) else []
    return found + [one for child in value.values() for one in examples(child, name)]


def test_every_situation_has_the_status_stages_headers_and_example_that_it_had(contract: Contract) -> None:
    old = read_documents(OLD)
    for role, name, facts in situations(old):
        found = contract.operations[role].situations[name]
        assert found.status == facts["status"]
        assert found.stages == set(facts.get("stages", ()))
        assert dict(found.headers) == facts.get("headers", {})
        assert {str(place): value for place, value in found.when} == facts.get("when", {})
        assert contract.schemas.at(found.example_at) in examples(old["openapi.json"], facts["example"])
    for name, facts in old[L]["situations"].items():
        having = [one.situations[name] for one in contract.operations.values() if name in one.situations]
        assert {found.status for found in having} == {facts["status"]}


def test_no_operation_has_a_situation_that_it_had_not(contract: Contract) -> None:
    old = read_documents(OLD)
    for role, operation in contract.operations.items():
        known = {name for one, name, _ in situations(old) if one == role} | set(old[L]["situations"])
        assert set(operation.situations) <= known


def test_every_binding_is_where_it_was(contract: Contract) -> None:
    for role, operation in read_documents(OLD)[L]["operations"].items():
        for name, binding in operation.get("bindings", {}).items():
            at, form = (binding["at"], binding["as"]) if isinstance(binding, dict) else (binding, None)
            found = contract.operations[role].bindings[name]
            assert [str(place).lower() for place in (*found.request, *found.response)] == [
                text.lower() for text in ([at] if isinstance(at, str) else at)
            ]
            assert found.format == form


def test_every_assumption_has_its_reason_and_its_places(contract: Contract) -> None:
    old = read_documents(OLD)[L]["assumptions"]
    assert [(one.why, one.variant) for one in contract.assumptions] == [(one["why"], one.get("variant")) for one in old]
    assert [set(one.at) for one in contract.assumptions] == [set(one["at"]) for one in old]


def test_a_variant_reads_as_it_did(new: dict[str, Any]) -> None:
    varied = build(OLD, new, ["failed-in-short"])
    assert varied.operations["status"].situations["failed"].example_at.endswith("/failed_in_short/value")


# ---- the words


def test_what_the_folder_implies_is_left_out(new: dict[str, Any]) -> None:
    lifecycle = new[L]
    assert not {"initial", "unrouted"} & set(lifecycle)
    assert set(lifecycle["operations"]["health"]) == {"operationId"}
    assert set(lifecycle["situations"]) == {"rate_limited"}
    assert "scheme" not in lifecycle["callbacks"]["signature"]
    assert size(new) < 0.9 * size(read_documents(OLD))


def test_the_members_keep_their_order(new: dict[str, Any]) -> None:
    old = list(read_documents(OLD)[L])
    assert list(new[L])[:3] == ["$schema", "format", "name"]
    assert [name for name in new[L] if name in old] == [name for name in old if name in new[L]]


def test_a_rewritten_folder_passes_lint_and_is_not_rewritten_again(folder: Path) -> None:
    assert upgrade_folder(folder)
    assert lint(folder) == []
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.json")}
    assert not upgrade_folder(folder)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.json")} == before


def test_an_example_that_would_say_too_much_gets_another_name(folder: Path) -> None:
    """In format 1, `forbidden` below a shared response was a situation only of the operation that named it so."""
    documents = read_documents(folder)
    shared = ("components", "responses", "NotFound", "content", "application/json", "examples", "forbidden")
    documents["openapi.json"] = replaced(documents["openapi.json"], shared, {"value": {"message": "No."}})
    situation = ("operations", "status", "situations", "denied")
    documents[L] = replaced(documents[L], situation, {"status": 404, "example": "forbidden"})
    contract = build(folder, upgraded(folder, documents))
    assert "denied" in contract.operations["status"].situations
    for operation in contract.operations.values():
        assert "forbidden" not in operation.situations


# ---- refusals


def test_a_folder_of_format_1_is_not_read_and_the_error_names_the_command(folder: Path) -> None:
    with pytest.raises(ContractError) as raised:
        load(folder)
    command = f"hobbyhorse contracts lint --fix {folder}"
    assert str(raised.value) == (
        f"{folder}/lifecycle.json: has format 1; this version reads format 2: `{command}` rewrites it"
    )
    assert [str(problem) for problem in lint(folder)] == [str(raised.value)]


def put(place: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda lifecycle: dict(replaced(lifecycle, parse_pointer(place), value))


WHY = "It is longer than ten characters."


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("/assumptions", MISSING), "has neither format 1 nor format 2"),
        (put("/assumptions", {}), "has neither format 1 nor format 2"),
        (put("/assumptions/0", 1), "#/assumptions/0 is not an object with `at` and `why`"),
        (put("/assumptions/1/variant", "failed-in-short"), "already belongs to another assumption"),
        (put("/assumptions/1/at/0", f"{L}#/operations/status/situations/failed/example"), "has two reasons"),
        (put("/assumptions/1/at/0", f"{L}#/nothing"), "which does not exist"),
        (put("/assumptions/1/at/0", "other.json#"), "which is not in the folder"),
        (put("/assumptions/1/at/0", f"{L}#/~2"), "repair this first"),
        (put("/polling", MISSING), '"polling" is a required property; repair this first'),
        (put("/operations/health/operationId", "x"), "no operationId 'x'"),
        (put("/operations/health/situations/healthy/example", "x"), "no example 'x'"),
    ],
)
def test_what_cannot_be_rewritten_is_refused_in_one_line_and_left_alone(
    change: Callable[[dict[str, Any]], dict[str, Any]], says: str, folder: Path
) -> None:
    (folder / L).write_text(json.dumps(change(json.loads((folder / L).read_text()))))
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    with pytest.raises(UpgradeError) as raised:
        upgrade_folder(folder)
    assert says in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before


def test_a_folder_that_cannot_be_read_is_refused(folder: Path) -> None:
    (folder / L).write_text("{")
    with pytest.raises(UpgradeError, match=L):
        upgrade_folder(folder)


def test_each_reason_gets_a_key_of_its_own(folder: Path) -> None:
    documents = read_documents(folder)
    more = [{"at": [f"{L}#/{name}"], "why": WHY} for name in ("polling", "retention")]
    documents[L] = {**documents[L], "assumptions": [*documents[L]["assumptions"], *more]}
    keys = list(upgraded(folder, documents)[L]["assumptions"])
    assert keys == [
        "failed-in-short",
        "nothing-about-provider-documented",
        "longer-than-ten-characters",
        "longer-than-ten-characters-2",
    ]
    assert resolve(upgraded(folder, documents)[L], ("polling", "x-assumed")) == "longer-than-ten-characters"


def test_an_assumption_about_a_situation_that_is_left_out_is_marked_above_it(folder: Path) -> None:
    documents = read_documents(folder)
    place = f"{L}#/operations/list/situations/listed/example"
    documents[L] = {**documents[L], "assumptions": [*documents[L]["assumptions"], {"at": [place], "why": WHY}]}
    new = upgraded(folder, documents)
    assert resolve(new[L], ("operations", "list", "situations")) == {
        "x-assumed": {"/listed/example": "longer-than-ten-characters"}
    }
    assert [one.why for one in build(folder, new).assumptions if place in one.at] == [WHY]
