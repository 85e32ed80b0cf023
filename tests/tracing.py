"""Traces written by hand, with responses in the contract's own bytes; no server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import orjson

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract, Operation, find_situation
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Delivery, Exchange, Outcome, Run, Trace, TracedJob

# 2026-01-01T00:00:00Z
START = 1_767_225_600.0
HOME, MEDIA, FOREIGN, PRIVATE, PORT = (
    "http://127.0.0.1:8000",
    "http://127.0.0.1:8001",
    "http://localhost:8002",
    "http://127.0.0.2:8003",
    "http://127.0.0.1:8004",
)
JSON = (("content-type", "application/json"),)
# An id that fits the schemas of every contract.
JOB = "tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JVY"


class Teller:
    """Writes a trace step by step. A step takes 2 ms; `wait` adds time; `story` returns the annotated trace.

    `teller.submit()` is accepted with the job JOB. Every step takes fields of its exchange to override, such as
    `status=503`, `answer=b""`, `headers`, `answer_headers`, `whole=False`, `answered=None`, `url`, `body`, `move`.
    """

    def __init__(self, contract: Contract, request: Mapping[str, Any] | None = None) -> None:
        self.contract = contract
        self.now = START
        self.base = f"{HOME}/{contract.key}"
        self.request = request
        self.exchanges: list[Exchange] = []
        self.deliveries: list[Delivery] = []
        self.runs: list[Run] = [Run(START, self.base, request)]
        self.jobs: list[TracedJob] = []
        self.drill = "once"
        self.video = f"{MEDIA}/media/{JOB}/video.mp4"

    def wait(self, seconds: float) -> Teller:
        """Advance the clock by some seconds."""
        self.now += seconds
        return self

    def call(self, role: str | None, situation: str | None, job: str | None = JOB, **how: Any) -> Teller:
        """Add a request with the contract's response in a situation, given by its name or by a stage."""
        operation = self.contract.operations.get(role or "")
        values = {"job": job, "video_url": self.video} | self.links(job)
        said: dict[str, Any] = {"method": "GET", "url": f"{HOME}/elsewhere"}
        if operation is not None:
            said |= {"method": operation.method, "url": self.base + self._path(operation, job)}
            found = find_situation(operation, situation) if situation else None
            if found is not None:
                text = found.template.write(lambda name: values.get(name, MISSING))
                said |= {"status": found.status, "answer": text, "answer_headers": JSON, "situation": found.name}
                # A situation with a condition is the response to a request that meets it.
                asked = {place.name: str(value).lower() for place, value in found.when if place.part == "query"}
                said["url"] += f"?{urlencode(asked)}" if asked else ""
        said |= {"headers": (("authorization", "Bearer [key]"),), "job": job, "answered": self.now + 0.001} | how
        said.setdefault("size", len(said.get("answer", b"")))
        self.exchanges.append(Exchange(arrived=self.now, role=role, **said))
        self.now += 0.002
        return self

    def links(self, job: str | None = JOB) -> dict[str, str]:
        """Return the URLs of a job's operations by bound name."""
        linked = {role: one for role, one in self.contract.operations.items() if role in ("status", "result", "cancel")}
        return {f"{role}_url": self.base + self._path(operation, job) for role, operation in linked.items()}

    def _path(self, operation: Operation, job: str | None) -> str:
        path = operation.path
        for binding in operation.bindings.values():
            for place in binding.request:
                if place.part == "path":
                    value = job if binding.name == "job" else self.contract.models[0].id
                    path = path.replace("{" + place.name + "}", str(value))
        return path

    def submit(self, situation: str | None = "accepted", job: str | None = JOB, **how: Any) -> Teller:
        """Add a submission with the run's request as its body, and an idempotency key if the contract has one."""
        key = self.contract.idempotency.key
        headers = [("authorization", "Bearer [key]"), ("content-type", "application/json")]
        if key is not None and "key" not in how:
            headers.append((key.name.lower(), "key-1"))
        elif key is not None and how.get("key"):
            headers.append((key.name.lower(), how["key"]))
        how.pop("key", None)
        said: dict[str, Any] = {"body": orjson.dumps(self.request or {}), "headers": tuple(headers), "made": job} | how
        return self.call("submit", situation, job, **said)

    def status(self, situation: str | None, **how: Any) -> Teller:
        """Add a poll."""
        return self.call("status", situation, **how)

    def result(self, situation: str | None, **how: Any) -> Teller:
        """Add a request for the result."""
        return self.call("result", situation, **how)

    def media(self, status: int = 200, **how: Any) -> Teller:
        """Add a download of the video without credentials."""
        said: dict[str, Any] = {
            "url": self.video,
            "status": status,
            "size": 1000,
            "headers": (),
            "answer_headers": VIDEO,
        }
        return self.call("media", None, **(said | how))

    def nothing(self, role: str, **how: Any) -> Teller:
        """Add a request without a response."""
        return self.call(role, None, **({"status": 0, "whole": False, "answered": None} | how))

    def callback(self, situation: str, status: int | None = 200, job: str = JOB, **how: Any) -> Teller:
        """Add a delivery of a callback with the receiver's response."""
        assert self.contract.callbacks is not None
        found = self.contract.callbacks.situations[situation]
        body = found.template.write({"job": job, "video_url": self.video}.get)
        answered = self.now + 0.001 if status is not None else None
        said = {"body": body, "headers": JSON, "status": status, "answered": answered, "number": 1} | how
        self.deliveries.append(Delivery(self.now, job, **said))
        self.now += 0.002
        return self

    def end(self, kind: str, **how: Any) -> Teller:
        """Set the outcome of the last run."""
        run = self.runs[-1]
        said: dict[str, Any] = {"job": JOB, "id_exposed": True, "told": True} | how
        outcome = Outcome(kind, self.now, **said)
        self.runs[-1] = Run(run.started, run.base, run.request, outcome, run.resumed)
        return self

    def restart(self, base: str | None = None) -> Teller:
        """Add a run that resumes a killed client; `again` adds an independent run."""
        self.runs.append(Run(self.now, base or self.base, self.request, None, resumed=True))
        return self

    def again(self, request: Mapping[str, Any]) -> Teller:
        """Add an independent run with another request."""
        self.request = request
        self.runs.append(Run(self.now, self.base, request))
        return self

    def made(self, kind: str = "success", job: str = JOB, **how: Any) -> Teller:
        """Add a job as the provider knows it."""
        self.jobs.append(TracedJob(job, START, kind, **({"billable": kind == "success"} | how)))
        return self

    def trace(self) -> Trace:
        """Return the trace."""
        return Trace(
            self.contract.key,
            self.base,
            tuple(self.exchanges),
            tuple(self.deliveries),
            tuple(self.runs),
            tuple(self.jobs) or None,
            self.now + 30.0,
            self.contract.models[0].id,
            {"media": MEDIA, "foreign": FOREIGN, "private": PRIVATE, "port": PORT},
            self.drill,
        )

    def story(self) -> AnnotatedTrace:
        """Return the annotated trace."""
        return AnnotatedTrace(self.contract, self.trace())


VIDEO = (("content-type", "video/mp4"),)
