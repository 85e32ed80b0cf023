"""Lint as a whole: every check and message has a folder that it finds wrong, and no folder makes lint fail."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hobbyhorse.contract.authoring.layout import laid_out
from hobbyhorse.contract.checks.documents import KEYWORDS
from hobbyhorse.contract.checks.situations import NEEDED_SITUATIONS
from hobbyhorse.contract.checks.subject import Documents, Problem
from hobbyhorse.contract.checks.values import VALUE_FORMATS
from hobbyhorse.contract.folder import ContractError, build, data_directory, find_folders, load, read_documents
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve
from hobbyhorse.contract.lint import CHECKS, DOCUMENT_CHECKS, lint, lint_directory, lint_documents
from hobbyhorse.contract.message import CONSTANT
from tests import specimen
from tests.conftest import DIRECTORY, ROOT, many
from tests.contract.broken_folders import BROKEN

README = (ROOT / "contracts" / "README.md").read_text()
FOLDERS = [specimen.FOLDER, *find_folders(DIRECTORY)]

each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


# ---- valid folders


@each_folder
def test_a_folder_that_is_right_has_no_problem(folder: Path) -> None:
    assert lint(folder) == []


def test_a_folder_of_an_older_format_has_one_problem_in_its_own_file() -> None:
    folder = specimen.DIRECTORY / "format-1" / "acme"
    (problem,) = lint(folder)
    assert problem.path == folder / "lifecycle.json"
    assert "has format 1; this version reads format 2" in problem.message


def test_the_specimen_has_everything_that_the_format_has() -> None:
    """What the specimen did not have could not be broken."""
    schema = json.loads((data_directory("contracts") / "lifecycle.schema.json").read_text())
    # These roles have no members of their own; what every operation has is broken in the other roles.
    missing = members_of(schema) - members_in(specimen.whole(specimen.FOLDER)["lifecycle.json"])
    assert missing == {"operator_cancel", "redeliver"}


def members_of(schema: Any) -> set[str]:
    """Return the names of the members that a schema knows."""
    if not isinstance(schema, dict):
        return set().union(*map(members_of, schema)) if isinstance(schema, list) else set()
    found = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return found.union(*map(members_of, schema.values()))


def members_in(value: Any) -> set[str]:
    """Return the names of the members that a value has."""
    if isinstance(value, dict):
        return set(value).union(*map(members_in, value.values()))
    return set().union(*map(members_in, value)) if isinstance(value, list) else set()


# ---- broken folders


def test_every_file_of_broken_folders_belongs_to_a_test() -> None:
    sources = [path.read_text() for path in (ROOT / "tests" / "contract").rglob("test_*.py")]
    tested = {
        name
        for source in sources
        for call in re.findall(r"@broken_in\((.*)\)", source)
        for name in json.loads(f"[{call}]")
    }
    assert tested == {broken.file for broken in BROKEN}


def test_every_broken_folder_has_a_name_of_its_own() -> None:
    names = [broken.name for broken in BROKEN]
    assert len(names) == len(set(names))


@dataclass(frozen=True)
class Told:
    """Who made the problems of all broken folders: the lines of code, and the functions that were at work."""

    lines: set[tuple[str, int]]
    functions: set[CodeType]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Lint every broken folder, and note who makes a Problem or a ContractError."""
    found = Told(set(), set())

    def note(frame: FrameType | None) -> None:
        while frame is not None and frame.f_code.co_name in WRAPPERS:
            frame = frame.f_back
        if frame is not None:
            found.lines.add((frame.f_code.co_filename, frame.f_lineno))
        while frame is not None:
            found.functions.add(frame.f_code)
            frame = frame.f_back

    with pytest.MonkeyPatch.context() as patch:
        for kind in (Problem, ContractError):
            patch.setattr(kind, "__init__", noting(kind.__init__, note))
        directory = tmp_path_factory.mktemp("broken")
        for number, broken in enumerate(BROKEN):
            lint(broken.write(directory / str(number)))
        with pytest.raises(ContractError):
            load(specimen.FOLDER, ["a variant that there is none of"])
    return found


WRAPPERS = {"problem", "fail"}
"""Functions that make a problem on behalf of who calls them."""

OTHERS = {"load_all", "lint", "lint_directory", "lint_documents", "_shared_hosts", *WRAPPERS}
"""Functions whose problems are about a directory, or repeat the problems of other functions."""


def noting(make: Callable[..., None], note: Callable[[FrameType | None], None]) -> Callable[..., None]:
    def made(self: Any, *values: Any) -> None:
        note(sys._getframe(1))
        make(self, *values)

    return made


def test_every_check_finds_something_in_some_broken_folder(told: Told) -> None:
    """A check that never failed proves nothing."""
    assert [check.__qualname__ for check in (*DOCUMENT_CHECKS, *CHECKS) if check.__code__ not in told.functions] == []


def test_every_message_is_told_of_some_broken_folder(told: Told) -> None:
    """No line that makes a problem is without a folder that brings it about."""
    silent = [
        f"{path.name}:{first}"
        for path in sources()
        for first, last in messages(path)
        if not any(file == str(path) and first <= line <= last for file, line in told.lines)
    ]
    assert silent == []


def sources() -> list[Path]:
    package = Path(sys.modules[build.__module__].__file__ or "").parent
    return [package / "folder.py", package / "lint.py", *sorted((package / "checks").glob("*.py"))]


def messages(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the first and the last line of each expression of a module that makes a problem."""
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef) and function.name not in OTHERS:
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and called(node) in ("problem", "fail", "Problem", "ContractError"):
                    yield node.lineno, node.end_lineno or node.lineno


def called(node: ast.Call) -> str:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return str(name)


def test_there_are_messages_to_be_told() -> None:
    """The way in which messages are found finds them: dozens of them, in every module but those that have none."""
    assert sum(len(list(messages(path))) for path in sources()) > 100


def test_every_check_says_its_rule() -> None:
    for check in (*DOCUMENT_CHECKS, *CHECKS):
        assert (check.__doc__ or "").endswith("."), check.__qualname__


# ---- directories


def test_a_directory_without_a_contract_is_a_problem(tmp_path: Path) -> None:
    message = "contains no contract; a contract is a folder with a lifecycle.json"
    assert lint_directory(tmp_path) == ([], [Problem(tmp_path, "", message)])


def test_a_directorys_problems_are_those_of_its_folders(tmp_path: Path) -> None:
    for name, host in (("one", "one.example"), ("two", "two.example")):
        documents = specimen.edited({"lifecycle.json#/initial": name})
        documents["openapi.json"] = replaced(documents["openapi.json"], ("servers", "0", "url"), f"https://{host}")
        specimen.write(tmp_path / name, documents)
    folders, problems = lint_directory(tmp_path)
    assert folders == [tmp_path / "one", tmp_path / "two"]
    assert [str(problem).partition(";")[0] for problem in problems] == [
        f"{tmp_path}/one/lifecycle.json#/initial: unknown stage 'one'",
        f"{tmp_path}/two/lifecycle.json#/initial: unknown stage 'two'",
    ]


def test_two_providers_with_one_host_are_a_problem(tmp_path: Path) -> None:
    for name in ("one", "two"):
        specimen.write(tmp_path / name, specimen.edited({}))
    assert [str(problem) for problem in lint_directory(tmp_path)[1]] == [
        f"{tmp_path}/two/openapi.json#/servers: the host 'api.acme.example' already belongs to 'one'; "
        "use a host of this provider only"
    ]


# ---- the page on contracts


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert found is not None, f"contracts/README.md has no section {title!r}"
    return found[1]


def test_the_page_lists_the_keywords_that_lint_allows() -> None:
    listed = next(block for block in section("Schemas").split("\n\n") if block.startswith("`"))
    assert set(re.findall(r"`([^`]+)`", listed)) == KEYWORDS


def test_the_page_lists_the_values_that_lint_knows() -> None:
    rows = [row.split("|")[1] for row in section("Values").splitlines() if row.startswith("|")]
    assert set(re.findall(r"`([^`]+)`", "".join(rows))) | CONSTANT == set(VALUE_FORMATS)


def test_the_page_lists_the_roles_and_the_situations_that_lint_demands() -> None:
    rows = [row.split("|")[1] for row in section("Roles").splitlines() if row.startswith("| `")]
    assert set(re.findall(r"`([^`]+)`", "".join(rows))) == set(NEEDED_SITUATIONS)
    situations = set(re.findall(r"`([^`]+)`", section("Situations")))
    assert {name for names in NEEDED_SITUATIONS.values() for name in names} - {"accepted", "unknown_job"} <= situations


def test_the_page_names_every_key_of_lifecycle_json() -> None:
    schema = json.loads((data_directory("contracts") / "lifecycle.schema.json").read_text())
    keys = members_of(schema)
    assert len(keys) > 80
    assert sorted(key for key in keys if f"`{key}`" not in README) == []


def test_the_example_on_the_page_is_a_whole_folder_that_can_be_served(tmp_path: Path) -> None:
    files = dict(
        re.findall(r"^`(\S+\.json)`:\n\n```json\n(.*?)^```", section("A complete example"), re.DOTALL | re.MULTILINE)
    )
    assert list(files) == ["lifecycle.json", "openapi.json", "models/clip.schema.json"]
    folder = specimen.write(tmp_path / "acme", {name: json.loads(text) for name, text in files.items()})
    assert lint(folder) == []
    assert all(laid_out(json.loads(text)) == text for text in files.values())


# ---- arbitrary damage


@cache
def places_of(folder: Path) -> list[tuple[str, Pointer]]:
    """Return every place of a folder's documents."""
    return [(file, pointer) for file, document in read_documents(folder).items() for pointer in inside(document)]


def inside(value: Any, pointer: Pointer = ()) -> Iterator[Pointer]:
    yield pointer
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in pairs:
        yield from inside(child, (*pointer, str(step)))


ODD: list[Any] = [
    *(None, True, 0, -1, 1.5, "", "x", "/", "/0", "~2", "(", "{", "{x}", "\n", "é", "2", [], {}, [1], ["x"], {"a": 1}),
    *("$request.body#/x", "$response.body#", "$response.path.x", {"$ref": "#"}, {"$ref": "#/info/title"}, {"$ref": 1}),
    *({"anyOf": [{"$ref": "#/components/schemas/Job"}]}, {"$ref": "#/components/schemas/Job"}, {"type": "object"}),
]
"""Values that are seldom where they should be."""


@st.composite
def damaged(draw: st.DrawFn, folder: Path) -> dict[str, Any]:
    """Documents of a folder with up to three places removed, replaced, or overwritten by what stands in another."""
    documents = read_documents(folder)
    places = st.sampled_from(places_of(folder))
    for _ in range(draw(st.integers(1, 3))):
        file, pointer = draw(places)
        if resolve(documents[file], pointer) is MISSING:
            continue
        action = draw(st.sampled_from(["remove", "replace", "copy", "add"]))
        value = draw(st.sampled_from(ODD))
        if action == "copy":
            other, source = draw(places)
            found = resolve(documents[other], source)
            value = value if found is MISSING else found
        elif action == "add" and isinstance(resolve(documents[file], pointer), dict):
            pointer = (*pointer, draw(st.sampled_from(["x", "$ref", "type", "status", "stages", "default", "0"])))
        elif action == "remove" and pointer:
            around = resolve(documents[file], pointer[:-1])
            if isinstance(around, list):
                pointer, value = pointer[:-1], [one for at, one in enumerate(around) if str(at) != pointer[-1]]
            else:
                value = MISSING
        documents[file] = replaced(documents[file], pointer, value)
    return documents


@each_folder
@settings(max_examples=many(60, 20))
@given(data=st.data())
def test_no_damage_makes_lint_fail(folder: Path, data: st.DataObject) -> None:
    """Whatever a folder holds, lint says what is wrong in lines; what it lets pass can be read, in every reading."""
    documents = data.draw(damaged(folder))
    problems = lint_documents(Documents(folder, documents))
    for problem in problems:
        assert str(problem).startswith(str(folder))
    if not problems:
        contract = build(folder, documents)
        for variant in contract.variants:
            build(folder, documents, [variant.name])


@each_folder
@settings(max_examples=many(60, 20))
@given(data=st.data())
def test_no_damage_makes_reading_fail_with_anything_but_a_contract_error(folder: Path, data: st.DataObject) -> None:
    documents = data.draw(damaged(folder))
    with contextlib.suppress(ContractError):
        assert build(folder, documents).key == folder.name
