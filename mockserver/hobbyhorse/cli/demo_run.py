"""The documented job of each provider, run through the fake from outside, as a client would."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from hobbyhorse.conformance.contract_client import ContractClient, ContractResponse
from hobbyhorse.contract.values import Contract, Model, Operation
from hobbyhorse.media.mp4 import Facts, Mp4Error, probe

DEMO_POLL_SECONDS = 0.05
MOST_DEMO_SECONDS = 60.0

Report = Callable[[str], None]
Wait = Callable[[float], object]


class DemoError(RuntimeError):
    """The demonstration met something that it did not expect."""


@dataclass(slots=True)
class DemoRun:
    """What one documented job showed: the calls, the words for its stages, the file and what is in it."""

    contract: Contract
    model: Model
    role: str
    calls: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    path: Path | None = None
    facts: Facts | None = None


def run_job(
    contract: Contract,
    operation: Operation,
    model: Model,
    body: Any,
    url: str,
    key: str,
    out: Path,
    report: Report,
    wait: Wait = time.sleep,
) -> DemoRun:
    """Order a job, follow it to its end, and save its video below `out`. Raises DemoError.

    `wait` lets so many seconds pass between two polls: of real time, or of the server's where that is moved.
    """
    run = DemoRun(contract, model, operation.role)
    try:
        with httpx.Client(timeout=MOST_DEMO_SECONDS, trust_env=False) as http:
            client = ContractClient(contract, f"{url}/{contract.key}", key, http)
            ordered = _note(run, client.call(operation.role, path={"model": model.id}, body=body), report)
            video = ordered.reading.values.get("video_url")
            if video is None:
                video = _follow(run, client, ordered, report, wait)
            data = http.get(video)
            if data.status_code != 200:
                raise DemoError(f"GET {video} answers {data.status_code}")
            run.calls.append(f"GET {video.removeprefix(url)} {data.status_code}")
        slug = re.sub(r"[^a-z0-9.]+", "-", f"{contract.key}-{model.id}".lower())
        run.path = out / (f"{slug}.mp4" if operation.role == "submit" else f"{slug}-{operation.role}.mp4")
        run.path.write_bytes(data.content)
        run.facts = probe(run.path)
    except httpx.HTTPError as error:
        raise DemoError(f"{contract.key} did not answer: {str(error) or type(error).__name__}") from error
    except Mp4Error as error:
        raise DemoError(f"{contract.key} served no whole MP4: {error}") from error
    return run


def _follow(run: DemoRun, client: ContractClient, ordered: ContractResponse, report: Report, wait: Wait) -> str:
    """Poll a job until it has ended, fetch its result, and return the address of its video."""
    graph, job = client.contract.graph, ordered.reading.values["job"]
    deadline = time.monotonic() + MOST_DEMO_SECONDS
    while True:
        reply = _note(run, client.call("status", path={"job": job}), report)
        if reply.reading.stages and all(graph[name].terminal for name in reply.reading.stages):
            break
        if time.monotonic() > deadline:
            raise DemoError(
                f"job {job} has not ended after {MOST_DEMO_SECONDS} s; it is {sorted(reply.reading.stages)}"
            )
        wait(DEMO_POLL_SECONDS)
    if "result" in client.contract.operations:
        reply = _note(run, client.call("result", path={"job": job}), report)
    video = reply.reading.values.get("video_url")
    if video is None:
        raise DemoError(f"job {job} ended as {sorted(reply.reading.stages)} with no video")
    return str(video)


def _note(run: DemoRun, reply: ContractResponse, report: Report) -> ContractResponse:
    """Keep a call and the stage word that it showed, each once in a row."""
    if not 200 <= reply.status < 300:
        raise DemoError(f"{reply.method} {reply.url} answers {reply.status}: {reply.content[:300]!r}")
    path = re.sub(r"^https?://[^/]+", "", reply.url)
    call = f"{reply.method} {path} {reply.status}"
    if not run.calls or run.calls[-1] != call:
        run.calls.append(call)
    stage = str(reply.reading.values.get("stage") or "")
    if stage and (not run.stages or run.stages[-1] != stage):
        run.stages.append(stage)
        report(stage)
    return reply
