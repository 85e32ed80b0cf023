"""Complaints need nothing but the records of a world; test_world.py has their wording on both worlds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hobbyhorse.testing.complaints import complaints_about
from hobbyhorse.worlds.mistakes import COMPLAINTS


def exchange(situation: str, **more: Any) -> SimpleNamespace:
    values = {"move": None, "notes": (), "nearest": None, "provider": "p", "method": "GET", "path": "/x"}
    return SimpleNamespace(**{**values, "situation": situation, **more})


def world(*journal: SimpleNamespace) -> Any:
    return SimpleNamespace(journal=journal, jobs=(), unmet=())


def test_a_situation_that_a_fault_has_caused_is_not_complained_about() -> None:
    journal = (exchange("invalid_request", move="invalid_request"), exchange("unknown_path", move="unknown_path"))
    assert list(complaints_about(world(*journal), COMPLAINTS)) == []


def test_a_request_without_a_nearest_operation_is_shown_itself() -> None:
    (found,) = complaints_about(world(exchange("unknown_path"), exchange("accepted")), COMPLAINTS)
    assert found.startswith("GET /x: unknown_path; `hobbyhorse providers p`")


def test_the_notes_explain_an_invalid_request() -> None:
    (found,) = complaints_about(world(exchange("invalid_request", notes=("a", "b"))), ["invalid"])
    assert found == "GET /x: a; b; the request breaks the contract"


def test_the_journal_is_not_read_for_other_complaints() -> None:
    assert list(complaints_about(SimpleNamespace(unmet=(), jobs=()), ["unmet", "uncollected"])) == []
