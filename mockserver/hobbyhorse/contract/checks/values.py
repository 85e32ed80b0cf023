"""Checks of the names and formats of bound values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hobbyhorse.contract.checks.subject import Problem, Subject, ordering
from hobbyhorse.contract.forms.expressions import Pointer
from hobbyhorse.contract.values import Binding

Formats = tuple[str | None, ...]

PLAIN: Formats = (None,)
MOMENT: Formats = ("unix", "unix_float", "rfc3339")
MONEY: Formats = ("decimal", "number")
LENGTH: Formats = (None, "milliseconds")

VALUE_FORMATS: Mapping[str, Formats] = {
    **dict.fromkeys(("job", "stage", "model", "status_url", "result_url", "cancel_url"), PLAIN),
    **dict.fromkeys(("queue_position", "progress", "video_url", "first_frame_url"), PLAIN),
    **dict.fromkeys(("error_code", "error_message"), PLAIN),
    **dict.fromkeys(("refusal_code", "refusal_message", "refusal_location"), PLAIN),
    "cost": MONEY,
    **dict.fromkeys(("created_at", "started_at", "finished_at", "expires_at"), MOMENT),
    "elapsed": LENGTH,
    **dict.fromkeys(("callback_url", "client_ref", "metadata", "input"), PLAIN),
    **dict.fromkeys(("page", "size", "offset", "total", "cursor", "next_cursor", "previous_cursor"), PLAIN),
    **dict.fromkeys(("search", "task", "kind", "name", "schema", "tasks"), PLAIN),
    "price": MONEY,
    **dict.fromkeys(("event", "outcome"), PLAIN),
}
"""The values that a contract can bind, as listed in contracts/README.md, and the formats that each may have."""


def names(subject: Subject) -> Iterator[Problem]:
    """A bound name is listed in contracts/README.md, or is a submitted value that responses repeat."""
    said = {name for operation in ordering(subject) for name, found in operation.bindings.items() if found.request}
    for at, binding in every_binding(subject):
        if binding.name not in VALUE_FORMATS and binding.name not in said:
            message = f"{binding.name!r} is neither listed in contracts/README.md nor a value of a submission"
            yield subject.problem(message, *at)


def formats(subject: Subject) -> Iterator[Problem]:
    """Timestamps, money and durations have a format of their kind, and no other value has a format."""
    for at, binding in every_binding(subject):
        allowed = VALUE_FORMATS.get(binding.name, PLAIN)
        # Formats are for writing; a value that is only read needs none.
        written = binding.request if at[0] == "callbacks" else binding.response
        if binding.format not in allowed and (written or binding.format is not None):
            got = f"has the format {binding.format!r}" if binding.format else "has no format"
            message = f"{got}; allowed for {binding.name!r}: {' or '.join(name or 'none' for name in allowed)}"
            yield subject.problem(message, *at)


def every_binding(subject: Subject) -> Iterator[tuple[Pointer, Binding]]:
    """Yield every binding of a contract once, with its place."""
    found: dict[Pointer, Binding] = {}
    for role, operation in subject.contract.operations.items():
        for name, binding in operation.bindings.items():
            found[subject.binding_at(role, name)] = binding
        for name, binding in operation.items.bindings.items() if operation.items else ():
            found["operations", role, "items", "bindings", name] = binding
    callbacks = subject.contract.callbacks
    for name, binding in callbacks.bindings.items() if callbacks else ():
        found["callbacks", "bindings", name] = binding
    yield from found.items()
