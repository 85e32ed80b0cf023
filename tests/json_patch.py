"""A strict reading of JSON Patch (RFC 6902): it refuses an operation whose target does not exist."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any


class Refused(Exception):
    """Raised for an operation that RFC 6902 does not allow on the document."""


def patched(document: Any, operations: Iterable[Mapping[str, Any]]) -> Any:
    """Return the document after `add` and `replace` operations."""
    found = copy.deepcopy(document)
    for operation in operations:
        *way, last = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
        around = found
        for step in way:
            around = around[_index(around, step)]
        if not isinstance(around, dict):
            raise Refused(operation)
        # RFC 6902, 4.3: "The target location MUST exist for the operation to be successful."
        if operation["op"] == "replace" and last not in around:
            raise Refused(operation)
        if operation["op"] not in ("add", "replace"):
            raise Refused(operation)
        around[last] = copy.deepcopy(operation["value"])
    return found


def _index(around: Any, step: str) -> Any:
    """Return the key of an existing member or item: an operation needs every object around its target."""
    if isinstance(around, list) and step.isdigit() and int(step) < len(around):
        return int(step)
    if isinstance(around, dict) and step in around:
        return step
    raise Refused(step)


def after(written: Any, operations: Iterable[Mapping[str, Any]], address: str) -> Any:
    """Return the value at a place such as `lifecycle.json#/polling` after operations, each with its file."""
    file, _, pointer = address.partition("#")
    found = patched(written, [one for one in operations if one["file"] == file])
    for step in pointer.split("/")[1:]:
        found = found[_index(found, step.replace("~1", "/").replace("~0", "~"))]
    return found
