"""Run a provider's documented job over HTTP, as a client would. Knows no terminal."""

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
from hobbyhorse.media.probe import Facts, Mp4Error, probe

# Shorter than the stages of `--pace fast` (0.1 to 0.3 s), so that every stage is polled.
POLL_SECONDS = 0.05
# A demo takes a few seconds on a busy machine; after a minute, the job is stuck.
MOST_JOB_SECONDS = 60.0
# Enough to see the message of a refusal, but not a whole HTML page.
MOST_ERROR_BYTES = 300

ShowStage = Callable[[str], None]
Wait = Callable[[float], object]


class DemoError(RuntimeError):
    """A response or a video differs from that of the documented job."""


@dataclass(slots=True)
class DemoRun:
    """The observed run of a documented job: its calls and stages, without repetitions, and its video."""

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
    *,
    key: str,
    out: Path,
    show_stage: ShowStage,
    wait: Wait = time.sleep,
) -> DemoRun:
    """Submit a job, poll it until it ends, and save its video in the directory `out`. Raises DemoError.

    `wait` lets N seconds pass between two polls; a server whose clock is moved by hand is given its `advance`.
    """
    run = DemoRun(contract, model, operation.role)
    try:
        # A proxy in the environment cannot reach a server that listens on this machine's loopback address.
        with httpx.Client(timeout=MOST_JOB_SECONDS, trust_env=False) as http:
            client = ContractClient(contract, f"{url}/{contract.key}", key, http)
            submitted = _record(run, client.call(operation.role, path={"model": model.id}, body=body), show_stage)
            # A synchronous operation holds its response until the job has ended: the video is in it.
            video = submitted.reading.values.get("video_url")
            if video is None:
                video = _poll(run, client, submitted, show_stage, wait)
            download = http.get(video)
            if download.status_code != 200:
                raise DemoError(f"GET {video} returned {download.status_code}")
            run.calls.append(f"GET {video.removeprefix(url)} {download.status_code}")
        slug = re.sub(r"[^a-z0-9.]+", "-", f"{contract.key}-{model.id}".lower())
        run.path = out / (f"{slug}.mp4" if operation.role == "submit" else f"{slug}-{operation.role}.mp4")
        run.path.write_bytes(download.content)
        run.facts = probe(run.path)
    except httpx.HTTPError as error:
        raise DemoError(f"{contract.key} did not respond: {str(error) or type(error).__name__}") from error
    except Mp4Error as error:
        raise DemoError(f"{contract.key} served an incomplete MP4: {error}") from error
    return run


def _poll(run: DemoRun, client: ContractClient, submitted: ContractResponse, show_stage: ShowStage, wait: Wait) -> str:
    """Poll a job until it has ended, fetch its result, and return the URL of its video."""
    graph, job = client.contract.graph, submitted.reading.values["job"]
    deadline = time.monotonic() + MOST_JOB_SECONDS
    while True:
        response = _record(run, client.call("status", path={"job": job}), show_stage)
        # A response may fit several stages: the job has certainly ended only if all of them are terminal.
        if response.reading.stages and all(graph[name].terminal for name in response.reading.stages):
            break
        if time.monotonic() > deadline:
            raise DemoError(
                f"job {job} has not ended after {MOST_JOB_SECONDS} s; its stage is {sorted(response.reading.stages)}"
            )
        wait(POLL_SECONDS)
    if "result" in client.contract.operations:
        response = _record(run, client.call("result", path={"job": job}), show_stage)
    video = response.reading.values.get("video_url")
    if video is None:
        raise DemoError(f"job {job} ended as {sorted(response.reading.stages)} without a video")
    return str(video)


def _record(run: DemoRun, response: ContractResponse, show_stage: ShowStage) -> ContractResponse:
    """Record a call and the stage in its response unless they repeat the last ones. Raises DemoError for a refusal."""
    if not 200 <= response.status < 300:
        raise DemoError(
            f"{response.method} {response.url} returned {response.status}: {response.content[:MOST_ERROR_BYTES]!r}"
        )
    path = re.sub(r"^https?://[^/]+", "", response.url)
    call = f"{response.method} {path} {response.status}"
    if not run.calls or run.calls[-1] != call:
        run.calls.append(call)
    stage = str(response.reading.values.get("stage") or "")
    if stage and (not run.stages or run.stages[-1] != stage):
        run.stages.append(stage)
        show_stage(stage)
    return response
