"""A file of teams is read, or refused with a reason that has no key in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hobbyhorse.server.control.access import Team
from hobbyhorse.server.control.teams import TeamsError, read_teams

A, B = {"name": "team-a", "prefix": "a-"}, {"name": "team-b", "prefix": "b-"}


def test_the_teams_are_by_their_keys(tmp_path: Path) -> None:
    file = tmp_path / "teams.json"
    file.write_text(json.dumps({"key-1": A, "key-2": B}), encoding="utf-8-sig")
    assert read_teams(file) == {"key-1": Team("team-a", "a-"), "key-2": Team("team-b", "b-")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("{}", "not an object"),
        ("[]", "not an object"),
        ("[1]", "not an object"),
        ('"x"', "not an object"),
        ('{"secret-1": 5}', "name and a prefix"),
        ('{"secret-1": {"name": "a"}}', "name and a prefix"),
        ('{"secret-1": {"name": "a", "prefix": ""}}', "name and a prefix"),
        ('{"secret-1": {"name": "a", "prefix": "x", "colour": "red"}}', "name and a prefix"),
        (json.dumps({"secret-\u00e9": A}), "printable ASCII"),
        (json.dumps({" secret": A}), "printable ASCII"),
        ('{"secret-1": {"name": "a", "prefix": "a-"}, "secret-1": {"name": "b", "prefix": "b-"}}', "twice"),
        (json.dumps({"secret-1": A, "secret-2": {"name": "c", "prefix": "a-b"}}), "overlap"),
        (json.dumps({"secret-1": {"name": "c", "prefix": "a-b"}, "secret-2": A}), "overlap"),
        (json.dumps({"secret-1": A, "secret-2": {"name": "team-a", "prefix": "b-"}}), "two teams have the name"),
    ],
)
def test_another_file_is_refused_with_a_reason(text: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "teams.json"
    file.write_text(text)
    with pytest.raises(TeamsError, match=reason) as caught:
        read_teams(file)
    assert "secret" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TeamsError, match="No such file"):
        read_teams(tmp_path / "missing.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(TeamsError, match="not valid JSON"):
        read_teams(tmp_path / "binary")
