"""HiAPI's published Python client as a client of the suite, and the bugs that the suite finds in it.

Each finding was read in the client's source. Nothing here is the wrapper's: it does what the README's quick start does,
with the idempotency key that the README recommends.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hiapi import HiAPI

from hobbyhorse.conformance.client.during import POLL, SUBMIT

_ORDERS = itertools.count(1)


def generate(base_url: str, api_key: str, request: Mapping[str, Any]) -> str:
    """Return the URL of the video, as the README's quick start does."""
    client = HiAPI(api_key=api_key, base_url=base_url)
    key = f"order-{next(_ORDERS)}"
    return client.tasks.run(model=request["model"], input=request["input"], idempotency_key=key).output[0].url


@dataclass(frozen=True, slots=True)
class Known:
    """A bug: the rule, what the client was doing, a fault that shows it, its file, line and code, and the reason."""

    rule: str
    during: str
    fault: Mapping[str, Any]
    place: str
    why: str

    @property
    def name(self) -> str:
        """The finding as a baseline names it."""
        return f"{self.rule}/{self.during}"

    @property
    def scenario(self) -> dict[str, Any]:
        """The scenario with the fault."""
        return {"moves": {"submit" if self.during == SUBMIT else "status": [self.fault]}}


_INCOMPLETE = "a body that ends early raises http.client.IncompleteRead, which is not an OSError, so it is not retried"
_CAPPED = "a Retry-After of more than 60 s is cut to 60 s, so every retry comes too early"
_REDIRECTED = "urllib's own redirect handler sends all headers on, also the key to another host or port"
KNOWN = (
    Known("SUB-07", SUBMIT, {"move": "truncate"}, "_transport.py:142: except OSError", _INCOMPLETE),
    Known("POL-10", POLL, {"move": "truncate"}, "_transport.py:142: except OSError", _INCOMPLETE),
    Known(
        "POL-10",
        POLL,
        {"move": "html_page"},
        "_transport.py:229: raise APIError(",
        "one page instead of JSON ends the wait",
    ),
    Known(
        "RTY-01",
        POLL,
        {"move": "rate_limited", "retry_after": 90},
        "_transport.py:42: _MAX_RETRY_AFTER = 60.0",
        _CAPPED,
    ),
    Known(
        "RTY-01",
        SUBMIT,
        {"move": "rate_limited", "retry_after": 90},
        "_transport.py:42: _MAX_RETRY_AFTER = 60.0",
        _CAPPED,
    ),
    Known(
        "RTY-03",
        POLL,
        {"move": "rate_limited", "retry_after": 5, "retry_after_odd": "negative"},
        "_transport.py:176: return max(0.0, ",
        "a negative Retry-After becomes a pause of 0 s instead of the usual backoff",
    ),
    Known("RTY-04", POLL, {"move": "truncate"}, "_transport.py:142: except OSError", _INCOMPLETE),
    Known(
        "RTY-04",
        POLL,
        {"move": "server_error"},
        "_transport.py:30: RETRY_STATUSES = frozenset({429, 503})",
        "500, 502 and 504 are not retried, even for GET",
    ),
    Known(
        "RTY-05",
        POLL,
        {"move": "unknown_job"},
        "resources/tasks.py:106: task = self.retrieve(task_id)",
        "the first 404 of a new job ends the wait",
    ),
    Known(
        "RTY-08",
        POLL,
        {"move": "error_envelope", "situation": "unauthenticated", "times": "always"},
        "_transport.py:30: RETRY_STATUSES = frozenset({429, 503})",
        "the code in the body of a response with status 200 is ignored, and the poll is repeated to the deadline",
    ),
    Known(
        "RTY-10",
        POLL,
        {"move": "rate_limited", "times": 3},
        "_transport.py:123: if status in RETRY_STATUSES and attempt < self.max_retries",
        "after two retries of a poll, the third failure in a row ends the wait",
    ),
    Known(
        "TMO-02",
        POLL,
        {"move": "forbidden"},
        "resources/tasks.py:146: return self.wait(",
        "no error but PollTimeout has the task's id",
    ),
    Known(
        "RES-02",
        POLL,
        {"move": "null_field", "value": "video_url"},
        "resources/tasks.py:111: return task",
        "a success is returned without a look at its output, whose URL may be None",
    ),
    Known(
        "SEC-02",
        POLL,
        {"move": "redirect"},
        "_transport.py:60: self._opener = opener or urllib.request.build_opener()",
        _REDIRECTED,
    ),
    Known(
        "SEC-05",
        POLL,
        {"move": "redirect_port"},
        "_transport.py:60: self._opener = opener or urllib.request.build_opener()",
        _REDIRECTED,
    ),
    Known(
        "SCH-01",
        SUBMIT,
        {"move": "empty_body"},
        "models.py:114: return cls(task_id=d.get(",
        "a response without a task's id counts as a task with an empty id, which is then polled",
    ),
)
