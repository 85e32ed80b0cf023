"""A contract under lint: where a binding or a situation is written, and how a problem is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hobbyhorse.contract.checks.subject import Documents, Problem, Subject, ordering
from hobbyhorse.contract.folder import build
from tests import specimen


@pytest.fixture
def subject() -> Subject:
    documents = specimen.whole(specimen.FOLDER)
    contract = build(specimen.FOLDER, documents)
    return Subject(Documents(specimen.FOLDER, documents), contract, (contract,))


def test_a_problem_is_one_line_with_file_and_place() -> None:
    assert str(Problem(Path("a/b.json"), "/c/0", "is wrong")) == "a/b.json#/c/0: is wrong"
    assert str(Problem(Path("a/b.json"), "", "is wrong")) == "a/b.json: is wrong"


def test_a_problem_has_an_escaped_pointer(subject: Subject) -> None:
    assert subject.problem("x", "paths", "/v1", 0, file="openapi.json").pointer == "/paths/~1v1/0"


def test_a_binding_is_written_with_its_operation_or_with_those_of_all(subject: Subject) -> None:
    assert subject.binding_at("status", "stage") == ("operations", "status", "bindings", "stage")
    assert subject.binding_at("status", "error_code") == ("bindings", "error_code")


def test_a_situation_is_written_with_its_operation_or_with_those_of_all(subject: Subject) -> None:
    assert subject.situation_at("status", "queued") == ("operations", "status", "situations", "queued")
    assert subject.situation_at("status", "unknown_job") == ("situations", "unknown_job")


def test_the_operations_that_order_a_job_are_submit_and_run(subject: Subject) -> None:
    assert [operation.role for operation in ordering(subject)] == ["submit", "run"]
