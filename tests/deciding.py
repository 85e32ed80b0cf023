"""Responses for faults to change, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from hobbyhorse.contract.values import Operation
from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import Decided, DecidedOperation
from hobbyhorse.scenarios.registry import operation_fault
from tests.conftest import CONTRACTS
from tests.known_faults import MEDIA_FAULTS

SUBMIT = CONTRACTS[0].operations["submit"]
REFUSED = Sent(503, ((b"content-type", b"application/json"),), b'{"error": 1}', "overloaded")
NOW = 1_000_000.0
"""The moment on the client's clock."""


def decided(
    body: bytes,
    operation: Operation = SUBMIT,
    *,
    seed: int = 0,
    origins: Mapping[str, str] | None = None,
    earlier: Sent | None = None,
) -> DecidedOperation:
    """Return the response of an operation, 200 with a body."""
    return DecidedOperation(
        sent=Sent(200, ((b"content-type", b"application/json"),), body, "found"),
        random=Random(seed),
        now=NOW,
        name="overloaded",
        operation=operation,
        origins=origins or {},
        target="/a/v1/jobs/x%20y?page=2&q=%C3%A4",
        refuse=lambda situation: REFUSED,
        earlier=lambda: earlier,
    )


def under(name: str, response: DecidedOperation, **options: Any) -> Any:
    """Return the effect of a fault of an operation."""
    fault = operation_fault(name)
    return fault.effect(response, fault.complete(options))


def of_file(name: str, **options: Any) -> Any:
    """Return the effect of a fault of a file."""
    fault = MEDIA_FAULTS[name]
    file = Sent(206, ((b"content-type", b"video/mp4"), (b"etag", b"x")), b"0123456789")
    return fault.effect(Decided(sent=file, random=Random(0), now=NOW), fault.complete(options))
