"""Reads the teams of a shared server, and their control keys, from a JSON file. Knows no server."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hobbyhorse.server.control.access import Team

# The values that a header can carry unchanged: printable ASCII without spaces at the ends.
SENDABLE = re.compile(r"[!-~]+(?: +[!-~]+)*")
FORM = '{KEY: {"name": "team-a", "prefix": "a-"}}'
MEMBERS = {"name", "prefix"}


class TeamsError(ValueError):
    """A file of teams that cannot be used. The message has no key, because messages end up in logs."""


def read_teams(file: Path) -> dict[str, Team]:
    """Return the teams by control key. Raises TeamsError."""
    try:
        pairs = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=lambda pairs: pairs)
    except OSError as error:
        raise TeamsError(f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        # The message of a JSON error has a position, not the text.
        raise TeamsError(f"is not valid JSON: {error}") from None
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs) or not pairs:
        raise TeamsError(f"is not an object with a team for each control key; allowed: {FORM}")
    found: dict[str, Team] = {}
    for number, (key, value) in enumerate(pairs, 1):
        if SENDABLE.fullmatch(key) is None:
            raise TeamsError(f"key {number} cannot be sent in a header; allowed: printable ASCII, not blank")
        if key in found:
            raise TeamsError(f"key {number} stands there twice; allowed: one team for each key")
        found[key] = _team(number, value)
    _check_apart(found)
    return found


def _team(number: int, value: Any) -> Team:
    members = dict(value) if isinstance(value, list) and all(isinstance(one, tuple) for one in value) else {}
    if members.keys() != MEMBERS or not all(isinstance(one, str) and one.strip() for one in members.values()):
        raise TeamsError(f"the team of key {number} does not have a name and a prefix, as text; allowed: {FORM}")
    return Team(members["name"], members["prefix"])


def _check_apart(teams: Mapping[str, Team]) -> None:
    """Check that no API key can belong to two teams. Raises TeamsError."""
    found = list(teams.values())
    for number, one in enumerate(found):
        for other in found[:number]:
            if one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix):
                raise TeamsError(
                    f"the prefixes {other.prefix!r} of {other.name!r} and {one.prefix!r} of {one.name!r} overlap; "
                    "allowed: prefixes of which none begins with another"
                )
            if one.name == other.name:
                raise TeamsError(f"two teams have the name {one.name!r}; allowed: a name for each")
