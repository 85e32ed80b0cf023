"""What a client was doing when it broke a rule: a rule may be broken by several parts of a client. Knows no server.

A wrapper downloads files with its own code, and the SDK below it polls with other code. Both may break the same rule,
so a report has a finding for each. The operation of a breach is, in this order:

1. The operation of the first request that the breach's message names: the request that the client mishandled.
2. The first operation that the message mentions: "a callback was ...", "the order was submitted ...".
3. The operation of the last request or callback that a fault of the scenario affected.
4. Polling, if the scenario has a timeline: the client sees a timeline in its polls.
5. The operation of the client's last request.
"""

from __future__ import annotations

import re

from hobbyhorse.conformance.rule import Breach
from hobbyhorse.traces.trace import Trace

SUBMIT, POLL, RESULT, DOWNLOAD, CALLBACK, CANCEL = "submit", "poll", "result", "download", "callback", "cancel"
OPERATIONS = (SUBMIT, POLL, RESULT, DOWNLOAD, CALLBACK, CANCEL)
_NAMES = {
    "submit": SUBMIT,
    "run": SUBMIT,
    "status": POLL,
    "list": POLL,
    "result": RESULT,
    "media": DOWNLOAD,
    "cancel": CANCEL,
}
_REQUEST = re.compile(r"\brequest (\d+)")
# The beginnings of the words with which messages mention an operation.
_MENTIONED = {
    "submi": SUBMIT,
    "poll": POLL,
    "result": RESULT,
    "download": DOWNLOAD,
    "fetch": DOWNLOAD,
    "callback": CALLBACK,
    "cancel": CANCEL,
}
_WORDS = re.compile(rf"\b({'|'.join(_MENTIONED)})", re.IGNORECASE)


def during(breach: Breach, trace: Trace) -> str:
    """Return what the client was doing: one of OPERATIONS."""
    for number in _REQUEST.findall(breach.message):
        at = int(number) - 1
        if 0 <= at < len(trace.exchanges) and trace.exchanges[at].role in _NAMES:
            return _NAMES[trace.exchanges[at].role or ""]
    mentioned = _WORDS.search(breach.message)
    if mentioned is not None:
        return _MENTIONED[mentioned.group(1)]
    return _affected(trace) or _last(trace)


def _affected(trace: Trace) -> str | None:
    """Return the operation that a fault affected last, or None."""
    found = [(one.arrived, _NAMES.get(one.role or "")) for one in trace.exchanges if one.move is not None]
    found += [(one.sent, CALLBACK) for one in trace.deliveries if one.note]
    # Sorted by time only, and stable: two operations at the same time keep their order.
    operations = [operation for _, operation in sorted(found, key=lambda one: one[0]) if operation is not None]
    if operations:
        return operations[-1]
    return POLL if "timeline" in trace.scenario else None


def _last(trace: Trace) -> str:
    operations = [_NAMES[one.role] for one in trace.exchanges if one.role in _NAMES]
    return operations[-1] if operations else SUBMIT
