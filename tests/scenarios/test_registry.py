"""The discovery of faults: each is one record, which nothing else names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hobbyhorse.contract.documents.defaults import REFUSALS
from hobbyhorse.contract.lifecycle import TERMINAL
from hobbyhorse.scenarios import faults
from hobbyhorse.scenarios.fault import (
    CALLBACK,
    EMPTIES,
    ENDS,
    ESTRANGES,
    GRAVE,
    HOLDS,
    LOSES,
    MEDIA,
    OPERATION,
    PASSES,
    REFUSAL,
    STICKS,
    TIMELINE,
    UNSENT,
)
from hobbyhorse.scenarios.reference import ROLES
from hobbyhorse.scenarios.registry import (
    faults_in,
    faults_of,
    name_used_for,
    names_used_for,
    operation_fault,
    refusal_fault,
)
from hobbyhorse.traces.trace import OUTCOMES
from tests.conftest import ROOT
from tests.known_faults import CALLBACK_FAULTS, FAULTS, MEDIA_FAULTS, OPERATION_FAULTS

PACKAGE = ROOT / "mockserver" / "hobbyhorse"
FOLDER = PACKAGE / "scenarios" / "faults"
OTHER_VOCABULARIES = {*ROLES, *REFUSALS, *TERMINAL, *OUTCOMES}
"""The words of other vocabularies: roles, situations, classes of stages, outcomes. A fault may have one as its name."""
ALLOWED = {
    ("cli/provider_tables.py", "unsigned"): "the callbacks of a provider that signs none",
    ("conformance/report.py", "stale"): "an entry of a baseline",
    ("conformance/client/report.py", "stale"): "an entry of a baseline",
    ("conformance/server/report.py", "stale"): "an entry of a baseline",
    ("contract/authoring/skeleton.py", "fail"): "a provider's word for a stage",
    ("contract/request.py", "truncate"): "a contract's treatment of a prompt that is too long",
    ("media/picture.py", "empty"): "a picture that cannot be used",
    ("server/files/image_store.py", "not_found"): "a picture that cannot be used",
}
"""The other uses of a word that is also the name of a fault."""


def test_each_role_has_its_own_faults() -> None:
    assert faults_of(MEDIA) is MEDIA_FAULTS
    assert faults_of(CALLBACK) is CALLBACK_FAULTS
    assert faults_of("submit") is faults_of("anything else") is OPERATION_FAULTS


def test_any_other_name_on_an_operation_is_that_of_a_situation() -> None:
    assert operation_fault("reset_peer") is OPERATION_FAULTS["reset_peer"]
    assert operation_fault("rate_limited") is refusal_fault()


def test_every_fault_is_complete() -> None:
    for fault in FAULTS:
        assert fault.stands
        assert {*fault.stands} <= {OPERATION, MEDIA, CALLBACK, TIMELINE, REFUSAL}
        assert re.fullmatch(r"[a-z][^.!?]*", fault.says), fault.name


def test_faults_are_in_the_order_of_their_ranks() -> None:
    ranks = [fault.rank for fault in FAULTS]
    assert ranks == sorted(ranks)
    assert list(OPERATION_FAULTS)[:3] == ["latency", "timeout", "reset_peer"]


def test_a_use_has_its_faults() -> None:
    assert name_used_for(HOLDS) in names_used_for(GRAVE)
    with pytest.raises(LookupError, match=r"6 faults have the use 'grave' \(empty_body, .*\); it needs exactly one"):
        name_used_for(GRAVE)
    with pytest.raises(LookupError, match="0 faults have the use 'no such use'"):
        name_used_for("no such use")


@pytest.mark.parametrize("use", [PASSES, HOLDS, STICKS, ENDS, UNSENT, ESTRANGES, EMPTIES, LOSES])
def test_a_use_that_suites_depend_on_has_exactly_one_fault(use: str) -> None:
    assert len(names_used_for(use)) == 1


def test_two_faults_of_one_place_and_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("made_up_faults")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    source = (FOLDER / "connection.py").read_text()
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(ValueError, match="two faults of the place 'operation' are named 'latency'; names are unique"):
        faults_in(package)
    for name in ("one", "two"):
        monkeypatch.delitem(sys.modules, f"made_up_faults.{name}")
    (tmp_path / "two.py").unlink()
    assert [fault.name for fault in faults_in(package)][:2] == ["latency", "timeout"]


# ---- nothing else names a fault


def literals(path: Path) -> Iterator[str]:
    """Yield the string literals of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named(path: Path) -> set[str]:
    """Return the names of faults that a file has as string literals, except words of other vocabularies."""
    names = {fault.name for fault in FAULTS} - OTHER_VOCABULARIES
    return names & {*literals(path)}


def test_no_other_file_of_the_package_names_a_fault() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        if FOLDER not in path.parents
        for name in named(path)
    }
    assert found == ALLOWED.keys()


def test_a_name_in_another_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('if move.kind == "reset_peer" or role == "cancel": ...\n')
    assert named(path) == {"reset_peer"}


def test_every_fault_stands_in_the_folder_and_nowhere_twice() -> None:
    found = [literal for path in FOLDER.glob("*.py") for literal in literals(path)]
    for fault in (one for one in FAULTS if one.name not in OTHER_VOCABULARIES):
        assert found.count(fault.name) == sum(fault.name == other.name for other in FAULTS), fault.name


# ---- one record is all

RECORD = """
from hobbyhorse.scenarios.effects import Truncate
from hobbyhorse.scenarios.fault import GRAVE, OPERATION, Fault, Option

STUTTER = Fault(
    name="stutter",
    stands=(OPERATION,),
    says="breaks off after some beats",
    effect=lambda decided, options: Truncate(options["beats"] / 10),
    options=(Option("beats", "The number of beats.", {"type": "integer", "maximum": 9}, tried=(3, 4), default=5),),
    rank=15,
    uses=frozenset({GRAVE}),
)
"""
START = """
import runpy, sys
import hobbyhorse.scenarios.faults
hobbyhorse.scenarios.faults.__path__.append(sys.argv[1])
runpy.run_module("tests.scenarios.made_up_fault", run_name="__main__")
"""


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Add a fault to the folder for one process, and return where it appears there and what it does."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "stutter.py").write_text(RECORD)
    command = [sys.executable, "-c", START, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_new_fault_is_in_the_schema_the_page_and_the_list(made_up: dict[str, Any]) -> None:
    assert made_up["schema"] == {"type": "integer", "maximum": 9, "description": "The number of beats."}
    assert made_up["schema file"] is True
    assert made_up["page"] == [
        "| `stutter` | breaks off after some beats | `beats` |",
        "| `beats` | the number of beats | an integer of at most 9 | 5 |",
    ]
    assert made_up["listed"] == ["operation\tstutter\tbeats (5)\tbreaks off after some beats"]


def test_a_new_fault_has_its_options_and_their_bounds(made_up: dict[str, Any]) -> None:
    bounded, unknown, good = made_up["refused"]
    assert "/moves/status/0/beats" in bounded
    assert "'stutter' has no option 'keep'; allowed: beats, times" in unknown
    assert good == ""


def test_a_new_fault_is_searched_as_its_uses_say(made_up: dict[str, Any]) -> None:
    assert {"moves": {"status": [{"move": "stutter"}]}} in made_up["search"]
    # Grave: also after a good response.
    assert any("latency" in case for case in made_up["planned"])
    assert any("always" in case for case in made_up["planned"])


def test_a_new_fault_acts_on_the_wire_and_in_process(made_up: dict[str, Any]) -> None:
    ends, moves = made_up["wire"]
    assert ends == [["eof", 200, True], ["whole", 200, False]]
    assert moves == [None, "stutter", None]
    assert made_up["in process"] == "the body broke off"


def test_the_made_up_fault_is_not_a_real_one() -> None:
    assert "stutter" not in OPERATION_FAULTS
    assert list(map(str, faults.__path__)) == [str(FOLDER)]
