"""Writes requests and holds of the event loop to the log."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from hobbyhorse.server.observing.log import one_log
from hobbyhorse.server.observing.observed import ObservedRequest


@dataclass(frozen=True, slots=True)
class RequestLog:
    """Writes one line for each request, at the level debug."""

    logger: logging.Logger

    def setup(self, stack: ExitStack) -> RequestLog:
        """Begin when the server starts."""
        stack.enter_context(one_log())
        stack.callback(self.logger.info, "stopped")
        return self

    def ended(self, request: ObservedRequest) -> None:
        """Write the line of a request."""
        # Asked first: at other levels a request costs this comparison only.
        if self.logger.isEnabledFor(logging.DEBUG):
            fields = {**_fields(request), "status": request.status, "ms": _ms(request.seconds), "error": request.error}
            self.logger.debug("request", extra={"fields": fields})

    def held(self, seconds: float, worked: float, request: ObservedRequest | None) -> None:
        """Write the line of a hold of the event loop."""
        fields: dict[str, Any] = {"held_ms": _ms(seconds), "work_ms": _ms(worked)}
        if request is None:
            fields |= {"operation": "background"}
        else:
            fields |= _fields(request)
        self.logger.warning("slow loop", extra={"fields": fields})


def _fields(request: ObservedRequest) -> dict[str, Any]:
    return {"id": request.id, "method": request.method, "path": request.path, **dict(request.facts())}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
