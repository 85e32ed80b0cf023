"""Chooses the observers of a server by its options. Imports OpenTelemetry only for spans."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from hobbyhorse.server.observing.held_loop import HeldLoop
from hobbyhorse.server.observing.log import open_log
from hobbyhorse.server.observing.observed import Observed, Setup
from hobbyhorse.server.observing.request_log import RequestLog

if TYPE_CHECKING:
    from hobbyhorse.server.app import Fake

SPANS_MODULE = "hobbyhorse.server.observing.spans"


def observe(form: str | None, level: str | None, spans: bool) -> Callable[[Fake], Observed]:
    """Return a function that puts observers around a fake, and open the log if it has a form or a level.

    Raises ImportError without the extra `otel`, and ValueError if the environment configures it wrongly.
    """
    setups: list[Setup] = []
    held: Callable[[], HeldLoop] | None = None
    if spans:
        module = import_module(SPANS_MODULE)
        module.check(os.environ)
        setups.append(module.Spans.setup)
    if form is not None or level is not None:
        log = RequestLog(open_log(form or "text", level or "info"))
        setups.append(log.setup)
        held = partial(HeldLoop, log.held)
    return partial(Observed, setups=setups, held=held)
